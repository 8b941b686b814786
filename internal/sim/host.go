package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/replica"
	"github.com/peerd/peerd/store"
)

// Intervals and limits of the shell around the core, as in package peer.
const (
	tickEvery   = 100 * time.Millisecond
	digestEvery = time.Second
	syncEvery   = time.Second
	linkEvery   = time.Second
	maxClears   = 64
	maxSources  = 2
)

// host is a machine with a peer's process on it: what package peer does with goroutines, streams
// and Badger around the core, a host does with events.
type host struct {
	w     *world
	i     int
	id    gossip.NeighbourID
	disk  *disk
	clock wallClock

	// The process.
	node   *replica.Node // nil while it is down
	volume *volume
	epoch  int // how often it was started
	inbox  []job
	due    bool           // an event to work is planned
	paused time.Duration  // until when it stands still
	slow   bool           // its disk is
	scarce bool           // and this is room on it
	ending ending         // of the process, when its disk lets it die
	gone   bool           // for good
	memory crdt.ReplicaID // the id in the image of memory that it was started from; zero without one
	writes crdt.ReplicaID // the id as which this process writes; zero if it has drawn none
	absent bool           // from the network, for a while

	links   map[gossip.NeighbourID]*end
	dialing map[gossip.NeighbourID]bool

	refusing  error // why nothing may be read or written now
	repairing bool
	sources   int
	serves    []*pull // that have this host as their source
	dirty     bool
	syncing   bool
	// maintained says that the log keeps to its bound from now on.
	maintained bool

	// What the checks know of it.
	promised crdt.VersionVector // what it must hold after a crash
	held     crdt.VersionVector // what it held last
	aside    crdt.VersionVector // what it held before it discarded its cells
	checked  string             // the state that was checked last, where each is
}

// job is one thing for the host's commit loop to do: one field is set.
type job struct {
	update []mutation
	frame  []byte
	begun  bool // a part of the frame was received
	from   *end // of the frame
}

func newHost(w *world, i int, d *disk) *host {
	h := &host{w: w, i: i, id: gossip.NeighbourID(fmt.Sprintf("h%02d", i)), disk: d}
	h.promised, h.held = crdt.VersionVector{}, crdt.VersionVector{}
	return h
}

func (h *host) say(format string, args ...any) {
	if h.w.trace != nil {
		h.w.say("%s "+format, append([]any{h.id}, args...)...)
	}
}

// wall returns what the host's clock shows.
func (h *host) wall() time.Time {
	t := h.clock.read(h.w.now)
	if t.After(h.disk.highest) {
		h.disk.highest = t
	}
	return t
}

// up reports whether the process runs.
func (h *host) up() bool { return h.node != nil }

// start starts the process. It may fail, and is then tried again later.
func (h *host) start() {
	if h.up() || h.gone {
		return
	}
	h.epoch++
	h.volume = &volume{d: h.disk}
	r, err := replica.Open(h.volume, h.volume.journal(), replica.Config{
		NewID:       h.drawID,
		MaxLogBytes: h.w.plan.maxLog, MaxLogAge: h.w.plan.maxLogAge, MaxBatch: h.w.plan.maxBatch,
		MaxDirty: h.w.plan.maxDirty,
		StepWork: h.w.plan.stepWork, MaxListed: h.w.plan.maxListed, IdleTicks: h.w.plan.idleTicks,
	})
	if err != nil {
		h.say("does not open: %v", err)
		h.stopped(err)
		return
	}
	h.node = replica.NewNode(r)
	h.inbox, h.due = nil, false
	h.links, h.dialing = map[gossip.NeighbourID]*end{}, map[gossip.NeighbourID]bool{}
	h.refusing, h.repairing, h.maintained = nil, false, false
	h.sources, h.serves, h.dirty, h.syncing = 0, nil, false, false
	seen, _ := h.node.Context()
	if why := r.Damaged(); why != nil || r.Rebuilding() {
		h.refusing = errRebuilding
	}
	h.say("starts as %v with %v, damage: %v", r.ID(), seen, r.Damaged())
	h.node.Pause(h.scarce)
	h.checkOpened()
	h.every(tickEvery, func() error {
		h.node.Tick(h.repairing || h.node.Repairing() || h.node.Damaged() != nil || h.scarce)
		return h.maintain()
	})
	h.every(digestEvery, func() error { h.node.SendDigest(h.w.rng); return nil })
	h.every(syncEvery, func() error { h.sync(); return nil })
	h.every(linkEvery, func() error { h.keepLinks(); return nil })
	h.later(0, func() error { h.keepLinks(); return nil })
}

// maintain does a step of what the log needs, and plans the next one if there is more.
func (h *host) maintain() error {
	h.node.BeginStep()
	more, err := h.node.Maintain(h.wall())
	h.checkStep("cutting the log")
	switch {
	case err != nil:
	case more:
		h.later(0, h.maintain)
	default:
		h.maintained = true
		h.checkLogSize()
	}
	return err
}

// checkStep checks that a step of the commit loop ended when its budget was spent.
func (h *host) checkStep(what string) {
	if done, largest, budget := h.node.StepWork(); done > budget+largest {
		h.w.fail("%s did %d units of work in one step of %s (limit %d, and %d for the largest transaction)",
			h.id, done, what, budget, largest)
	}
}

var errRebuilding = errors.New("rebuilding")

// later does something in this life of the process, after it is no longer paused. What follows
// from any step of the commit loop follows from it.
func (h *host) later(d time.Duration, fn func() error) {
	epoch := h.epoch
	h.w.after(d, func() {
		switch {
		case h.epoch != epoch || !h.up():
		case h.paused > h.w.now:
			h.later(h.paused-h.w.now, fn)
		default:
			h.step(fn)
		}
	})
}

// every does something again and again.
func (h *host) every(d time.Duration, fn func() error) {
	h.later(h.w.spread(d), func() error {
		var again func() error
		again = func() error {
			h.later(d, again)
			return fn()
		}
		return again()
	})
}

// step does something on the commit loop and what follows from it.
func (h *host) step(fn func() error) {
	err := fn()
	if err == nil && h.up() {
		err = h.after()
	}
	if err != nil {
		h.fails(err)
		return
	}
	if h.w.plan.checkAll && h.up() {
		if state := h.state(); state != h.checked {
			h.checked = state
			h.check()
		}
	}
}

// state names the context, the cells and the log.
func (h *host) state() string {
	context, root, _ := h.node.Digest()
	return fmt.Sprint(context, root, h.node.LogEnd())
}

// put gives the commit loop a job.
func (h *host) put(j job) {
	h.inbox = append(h.inbox, j)
	h.wake()
}

// wake has the commit loop look at what waits. While its disk is slow, that takes longer.
func (h *host) wake() {
	if h.due {
		return
	}
	h.due = true
	delay := time.Duration(h.w.rng.IntN(3000)) * time.Microsecond
	if h.slow {
		delay += time.Duration(h.w.rng.IntN(800)) * time.Millisecond
	}
	h.later(delay, func() error {
		h.due = false
		return h.work()
	})
}

// ask asks the host for a transaction, if it is there to be asked.
func (h *host) ask(muts []mutation) {
	if h.up() && len(h.inbox) < 64 {
		h.put(job{update: muts})
	}
}

// work does what waits as one commit group, until the step is spent: the rest waits for the next one.
func (h *host) work() error {
	var asked []*transaction
	var handled []*end
	h.node.BeginStep()
	g := h.node.Begin(h.wall())
	if err := h.collect(g); err != nil {
		g.Discard()
		return err
	}
	for len(h.inbox) > 0 && !h.node.Spent() && !g.Full() {
		j := h.inbox[0]
		if j.frame != nil {
			h.inbox[0].begun = true
			if err := h.receive(g, j); err != nil {
				return err
			}
			if h.holds(j) {
				break
			}
			handled = append(handled, j.from)
		}
		h.inbox = h.inbox[1:]
		if j.update != nil {
			t, err := h.transact(g, j.update)
			if err != nil {
				return err
			}
			if t != nil {
				asked = append(asked, t)
			}
		}
	}
	if err := h.commit(g, asked); err != nil {
		return err
	}
	for _, from := range handled {
		from.handled()
	}
	if len(h.inbox) > 0 {
		h.wake()
	}
	return nil
}

// holds reports whether a frame was received in part: the group is full.
func (h *host) holds(j job) bool {
	id := j.from.peer.host.id
	return h.links[id] == j.from && h.node.Unfinished(id)
}

// transact runs a client's transaction in a group.
func (h *host) transact(g *replica.Group, muts []mutation) (*transaction, error) {
	if h.refusing != nil || h.scarce {
		return nil, nil
	}
	t := &transaction{host: h}
	if h.w.plan.forks {
		muts = append(muts, h.w.mark(t)...)
	}
	giveUp := !h.w.calm && h.w.chance(12)
	err := g.Update(func(tx *replica.Tx) error {
		seen, _ := h.node.Context()
		t.saw = h.w.hist.dense(seen)
		t.first = crdt.Dot{Replica: tx.Replica(), Counter: seen[tx.Replica()] + 1}
		t.time = tx.Time()
		for _, m := range muts {
			err := m.do(replica.Fields(tx))
			if errors.Is(err, crdt.ErrNotInteger) || errors.Is(err, crdt.ErrOverflow) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", m.what, err)
			}
			t.muts = append(t.muts, m)
		}
		if giveUp {
			return errGaveUp
		}
		return nil
	})
	switch {
	case errors.Is(err, errGaveUp), errors.Is(err, delta.ErrTooLarge):
		return nil, nil
	case errors.Is(err, store.ErrCorrupt) && h.disk.rotten:
		h.verify(replica.ProofEvery)
		return nil, nil
	case errors.Is(err, errRead):
		return nil, nil // the client is told
	case err != nil:
		return nil, err
	}
	seen, _ := h.node.Context()
	if t.last = seen[t.first.Replica]; t.last < t.first.Counter {
		return nil, nil // nothing was there to be changed
	}
	h.checkTime(t)
	t.disk = h.disk
	h.w.hist.add(t)
	if h.w.trace != nil {
		for _, m := range t.muts {
			h.say("transaction %d %v: %s", t.id, t.first, m.what)
		}
	}
	return t, nil
}

// receive takes a neighbour's frame into a group.
func (h *host) receive(g *replica.Group, j job) error {
	if h.links[j.from.peer.host.id] != j.from {
		return nil // the link was replaced
	}
	var err error
	apart, before := h.node.Quarantined(j.from.peer.host.id), h.state()
	if id := j.from.peer.host.id; j.begun {
		err = h.node.Resume(g, id)
	} else {
		err = h.node.Receive(g, id, j.frame)
	}
	if apart && h.state() != before {
		h.w.fail("%s took something from %s, which is in quarantine", h.id, j.from.peer.host.id)
	}
	if errors.Is(err, gossip.ErrFrame) && h.w.plan.unordered {
		j.from.breaks()
		return nil
	}
	if errors.Is(err, gossip.ErrFrame) {
		h.w.fail("%s got a bad frame from %s: %v", h.id, j.from.peer.host.id, err)
	}
	return err
}

// commit commits a group and acknowledges what was asked for.
func (h *host) commit(g *replica.Group, asked []*transaction) error {
	h.checkStep("jobs")
	done, err := g.Commit(h.w.plan.durability == always)
	if err != nil {
		return err
	}
	if len(done.Deltas) == 0 {
		return nil
	}
	h.dirty = true
	h.checkLogSize()
	for _, d := range done.Deltas {
		if h.w.hist.committed(d) {
			h.w.noteFork(h, d.Dot(0))
		}
		h.noteBases(d)
	}
	h.say("commits %d deltas", len(done.Deltas))
	h.noteContext()
	if h.w.plan.durability == always {
		h.promised = h.held
	}
	for _, t := range asked {
		t.acked = true
		h.w.totals.Operations++
	}
	if len(asked) > 0 {
		h.checkKey(asked[0].muts[0])
	}
	if h.w.chance(h.w.plan.checkEvery) {
		h.check()
	}
	return nil
}

// after does what follows from a step.
func (h *host) after() error {
	for h.node.Clears() > 0 && !h.rests() {
		h.node.BeginStep()
		if _, err := h.node.Sweep(); err != nil {
			return err
		}
		h.checkStep("the sweep")
		if h.node.Clears() <= maxClears {
			break
		}
	}
	if h.node.Clears() > 0 || h.mayCollect() {
		h.wake()
	}
	for _, e := range h.node.Events() {
		switch e.Kind {
		case gossip.Behind:
			h.startRepair(e.From)
		case gossip.Damaged:
			h.suspectDamage(e.From)
		case gossip.Forked:
			if err := h.noticeFork(e.From); err != nil {
				return err
			}
		}
	}
	if err := h.lookAfterItself(); err != nil {
		return err
	}
	return h.serve()
}

// rests draws whether the next sweep is put off, in a world where that happens.
func (h *host) rests() bool {
	return h.w.plan.restful && !h.node.Sweeping() && h.node.Clears() <= maxClears && !h.w.chance(4)
}

// serve fills the links that have room, until the step is spent.
func (h *host) serve() error {
	h.node.BeginStep()
	defer h.checkStep("serving links")
	for _, id := range sortedIDs(h.links) {
		for e := h.links[id]; e.hasRoom(); {
			if h.node.Spent() {
				h.wake()
				return nil
			}
			data, err := h.node.Next(id)
			if err != nil {
				return err
			}
			if data != nil {
				if h.node.Quarantined(id) && !inQuarantine[data[0]] {
					h.w.fail("%s sends a frame of kind %d to %s, which is in quarantine", h.id, data[0], id)
				}
				e.send(data)
			} else if !h.node.Seeking(id) {
				break
			}
		}
	}
	return nil
}
