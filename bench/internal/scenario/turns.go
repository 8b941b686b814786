package scenario

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	core "github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store/mem"
)

// copies are two of peerd's engines in memory, whose frames cross all at once, as over a network of
// which only the delay is left.
type copies struct {
	all [2]*corehost
	now time.Time
}

type corehost struct {
	engine *core.Engine
	tree   *mem.Store
	log    *mem.Log
	sent   [][]byte // frames that are under way to the other one
}

// corename is how a copy is known to the other.
func corename(i int) gossip.NeighbourID { return gossip.NeighbourID(fmt.Sprint(i)) }

func openCopies() (*copies, error) {
	c := &copies{now: time.UnixMilli(1e12)}
	chance, id := rand.New(rand.NewPCG(1, 1)), crdt.ReplicaID(0)
	for i := range c.all {
		h := &corehost{tree: mem.New(), log: mem.NewLog()}
		cfg := core.Config{NewID: func() crdt.ReplicaID { id++; return id }}
		var err error
		if h.engine, err = core.Open(h.tree, h.log, cfg, chance, c.now); err != nil {
			return nil, err
		}
		c.all[i] = h
	}
	return c, nil
}

// settle has both do what there is to do without hearing from each other.
func (c *copies) settle() error {
	for _, h := range c.all {
		for again := true; again; {
			if err := h.engine.Step(c.now, c.now); err != nil {
				return err
			}
			rd := h.engine.Ready()
			if err := errors.Join(rd.Refusing, core.CarryOut(rd.Writes, h.tree, h.log)); err != nil {
				return err
			}
			h.engine.Advance()
			for _, f := range rd.Frames {
				h.sent = append(h.sent, f.Data)
			}
			if rd.Sync != nil {
				if err := rd.Sync.Run(h.tree, h.log); err != nil {
					return err
				}
				h.engine.SyncEnded(*rd.Sync)
			}
			if rd.Verify != nil {
				rd.Verify.Close()
			}
			if len(rd.Pulls) > 0 {
				return errors.New("the log does not reach back")
			}
			again = rd.Again || rd.Sync != nil
		}
	}
	return nil
}

// cross delivers what is under way, and reports whether there was anything.
func (c *copies) cross() (crossed bool) {
	sent := [2][][]byte{c.all[0].sent, c.all[1].sent}
	for from, frames := range sent {
		c.all[from].sent = nil
		for _, data := range frames {
			c.all[1-from].engine.Receive(&core.Frame{From: corename(from), Data: data})
			crossed = true
		}
		c.all[from].engine.Takes(corename(1-from), unbounded)
	}
	return crossed
}

// unbounded is more frames than there are.
const unbounded = 1 << 30

// equal reports whether both hold the same.
func (c *copies) equal() bool {
	a, settledA := c.all[0].engine.State()
	b, settledB := c.all[1].engine.State()
	return settledA && settledB && a == b
}

// meet connects them, and returns how often frames crossed until they were equal.
func (c *copies) meet() (crossings int, err error) {
	for i := range c.all {
		c.all[i].engine.Connect(corename(1-i), unbounded)
	}
	for range 10_000 {
		if err := c.settle(); err != nil {
			return 0, err
		}
		if c.equal() {
			return crossings, nil
		}
		if c.cross() {
			crossings++
		} else {
			c.now = c.now.Add(10 * time.Millisecond) // they wait for their clocks alone
		}
	}
	return 0, errors.New("the copies do not become equal")
}

func (c *copies) part() {
	for i := range c.all {
		c.all[i].engine.Disconnect(corename(1 - i))
		c.all[i].sent = nil
	}
}

// writes is transactions that set a field each.
type writes struct {
	from, n int
	failed  error
}

func (w *writes) Begin() bool { return true }
func (w *writes) Len() int    { return w.n }

func (w *writes) Run(i int, tx *core.Tx) error {
	return core.Fields(tx).String(keyOf(w.from + i)).Set([]byte(noise()))
}

func (w *writes) Ran(_ int, err error) { w.failed = errors.Join(w.failed, err) }

// write has the first one write.
func (c *copies) write(from, n int) error {
	w := &writes{from: from, n: n}
	c.all[0].engine.Submit(w)
	return errors.Join(c.settle(), w.failed)
}

// ownTrips returns how many round trips it takes a copy that was away for so many writes to have
// them, once there is a connection.
func ownTrips(n int) (int, error) {
	c, err := openCopies()
	if err != nil {
		return 0, err
	}
	if err := c.write(0, 1000); err != nil {
		return 0, err
	}
	if _, err := c.meet(); err != nil {
		return 0, err
	}
	c.part()
	if err := c.write(1000, n); err != nil {
		return 0, err
	}
	crossings, err := c.meet()
	return (crossings + 1) / 2, err
}
