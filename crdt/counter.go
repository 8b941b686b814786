package crdt

import (
	"errors"
	"math"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// ErrOverflow is returned for an increment that would take the value beyond 64 bits. Nothing
// changed.
var ErrOverflow = errors.New("increment would overflow 64 bits")

// Counter is a sum to which replicas add. Each has a cell, its share, so a counter's size depends
// on how many replicas have counted and not on how often, and what it costs to read or to add to on
// neither. Clear takes away exactly the increments that it has seen; the package's doc tells how
// (Counters).
type Counter struct {
	ref
}

// Counter returns the counter under name. It is what was added to the string of that name.
func (f Fields) Counter(name string) Counter { return Counter{f.named(name, TypeString)} }

// Get returns the sum; beyond 64 bits, where concurrent increments can take it, the nearest bound.
// O(log cells).
func (c Counter) Get() int64 {
	counted, _ := c.count()
	return counted.Value()
}

// Add adds n, which may be negative or zero, and returns the new value. It returns ErrOverflow if
// n takes the value as seen here out of 64 bits. O(log cells).
func (c Counter) Add(n int64) (int64, error) {
	counted, err := c.count()
	if err != nil {
		return 0, err
	}
	return c.add(counted, 0, n)
}

// Clear removes the increments that it sees, and reports whether there were any. Concurrent ones
// survive it. O(replicas that have counted).
func (c Counter) Clear() (existed bool, err error) { return c.uncount() }

// add adds n more to this replica's share in the string at n, whose text begins at start.
func (n ref) add(counted dotted.Count, start, by int64) (int64, error) {
	sum := counted.Sum.Plus(dotted.Int128Of(start)).Plus(dotted.Int128Of(by))
	value, exact := sum.Int64()
	if !exact && (by > 0 && value == math.MaxInt64 || by < 0 && value == math.MinInt64) {
		return 0, ErrOverflow
	}
	owner := n.tx.Replica()
	n.at = n.at.Share(owner)
	c, err := n.cell()
	if err != nil {
		return 0, err
	}
	var room [1]share
	share, removes := tallyIn(room[:0], owner, c).add(by)
	return value, n.put(share.payload(), removes)
}

// uncount removes what was counted on the string at n, and leaves the baselines that are needed.
func (n ref) uncount() (existed bool, err error) {
	counted, err := n.count()
	if err != nil || counted.Shares == 0 {
		return false, err
	}
	n.at = n.at.Shares()
	return n.clearFew(min(counted.Shares, fewCells+1))
}

// amounts is what was added and what was subtracted. Both only grow, so that the maximum of two
// amounts of one epoch is the later of them, and stay below 2¹²⁶, which nobody reaches in steps
// of 64 bits.
type amounts struct {
	pos, neg dotted.Int128
}

func (a amounts) plus(n int64) amounts {
	if n >= 0 {
		a.pos = a.pos.Plus(dotted.Int128Of(n))
	} else {
		a.neg = a.neg.Minus(dotted.Int128Of(n))
	}
	return a
}

// sub returns what a has more than b of each.
func (a amounts) sub(b amounts) amounts {
	a = a.max(b)
	return amounts{a.pos.Minus(b.pos), a.neg.Minus(b.neg)}
}

func (a amounts) max(b amounts) amounts {
	if a.pos.Minus(b.pos).Hi < 0 {
		a.pos = b.pos
	}
	if a.neg.Minus(b.neg).Hi < 0 {
		a.neg = b.neg
	}
	return a
}

// net returns what was added less what was subtracted.
func (a amounts) net() dotted.Int128 { return a.pos.Minus(a.neg) }

// share is what one replica has counted, all its increments in one entry, in a cell of its own.
// Its owner is the replica of its dot, which alone replaces it.
type share struct {
	dot   Dot
	epoch uint64  // counter of the owner's dot that began it; on the wire 0 for this very dot
	cum   amounts // counted since the epoch began
	base  amounts // the part of cum that resets, seen by the owner, have taken away
	last  int64   // what this very entry added: so that a person can do it again: see Describe
}

// baseline is left by a reset for each share that it removed, in the same cell: of what the owner
// counted in that epoch, the reset saw so much. An increment that the owner made meanwhile
// carries it too, as its share is cumulative, and the baseline takes it away again.
type baseline struct {
	dot   Dot
	epoch uint64
	seen  amounts
}

func (s share) payload() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Raw([]byte{byte(kindShare)})
		w.Array(shareFields)
		w.Uint(s.epoch)
		s.cum.write(w)
		s.base.write(w)
		w.Int(s.last)
	})
}

func (b baseline) payload() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Raw([]byte{byte(kindBaseline)})
		w.Array(baselineFields)
		w.Uint(b.epoch)
		b.seen.write(w)
	})
}

const (
	amountsFields  = 4
	shareFields    = 2 + 2*amountsFields
	baselineFields = 1 + amountsFields
)

func (a amounts) write(w *wire.Writer) {
	for _, n := range [...]dotted.Int128{a.pos, a.neg} {
		w.Uint(uint64(n.Hi))
		w.Uint(n.Lo)
	}
}

func readAmounts(r *wire.Reader) (a amounts) {
	for _, n := range [...]*dotted.Int128{&a.pos, &a.neg} {
		n.Hi, n.Lo = int64(r.Uint()), r.Uint()
		if n.Hi < 0 || n.Hi >= 1<<62 {
			r.Fail("an amount beyond 126 bits")
		}
	}
	return a
}

func parseShare(e dotted.Entry) (s share, ok bool) {
	err := wire.Decode(e.Payload[1:], func(r *wire.Reader) {
		extra := r.Fields(shareFields)
		s = share{e.Dot, r.Uint(), readAmounts(r), readAmounts(r), r.Int()}
		r.Skip(extra)
	})
	if s.epoch == 0 {
		s.epoch = e.Dot.Counter
	}
	return s, err == nil
}

func parseBaseline(e dotted.Entry) (b baseline, ok bool) {
	err := wire.Decode(e.Payload[1:], func(r *wire.Reader) {
		extra := r.Fields(baselineFields)
		b = baseline{e.Dot, r.Uint(), readAmounts(r)}
		r.Skip(extra)
	})
	return b, err == nil
}

// tally is what stands in the cell of an owner's share: the share, unless it was removed, and
// baselines for it, in the order of their dots. Entries that do not parse count nothing; what
// they show is removed as everything else.
type tally struct {
	owner     ReplicaID
	shares    []share // one, if nobody lies and no delta has overtaken another
	baselines []baseline
}

func tallyOf(owner ReplicaID, c dotted.Cell) tally { return tallyIn(nil, owner, c) }

// tallyIn is tallyOf with memory for the shares.
func tallyIn(room []share, owner ReplicaID, c dotted.Cell) tally {
	t := tally{owner: owner, shares: room}
	for _, e := range c {
		switch {
		case kindShare.marks(e) && e.Dot.Replica == owner:
			if s, ok := parseShare(e); ok {
				t.shares = append(t.shares, s)
			}
		case kindBaseline.marks(e):
			if b, ok := parseBaseline(e); ok {
				t.baselines = append(t.baselines, b)
			}
		}
	}
	return t
}

// countedIn returns what the cell of a replica's share amounts to.
func countedIn(owner ReplicaID, c dotted.Cell) dotted.Int128 {
	if len(c) == 1 && kindShare.marks(c[0]) && c[0].Dot.Replica == owner { // as nearly always
		if s, ok := parseShare(c[0]); ok {
			return s.cum.sub(s.base).net()
		}
		return dotted.Int128{}
	}
	return tallyOf(owner, c).counted()
}

// counted returns what the share amounts to: of several of one epoch the last, which has what is
// in the others.
func (t tally) counted() (sum dotted.Int128) {
	taken := t.taken()
	for i, s := range t.shares {
		if i+1 == len(t.shares) || t.shares[i+1].epoch != s.epoch {
			sum = sum.Plus(s.cum.sub(s.base.max(taken[s.epoch])).net())
		}
	}
	return sum
}

// taken returns how much of each epoch was taken away by resets that the owner had not seen.
func (t tally) taken() map[uint64]amounts {
	if len(t.baselines) == 0 {
		return nil
	}
	taken := map[uint64]amounts{}
	for _, b := range t.baselines {
		taken[b.epoch] = taken[b.epoch].max(b.seen)
	}
	return taken
}

// add returns the share with which the owner adds n, and the entries that it replaces: the owner's
// share so far and the baselines for it, which the new share takes in. Without a share an epoch
// begins, and baselines of earlier ones have nothing left to take away.
func (t tally) add(n int64) (next share, removes []Dot) {
	taken := t.taken()
	for _, s := range t.shares {
		next = share{epoch: s.epoch, cum: s.cum, base: s.base.max(taken[s.epoch])}
		removes = append(removes, s.dot)
	}
	next.cum, next.last = next.cum.plus(n), n
	for _, b := range t.baselines {
		removes = append(removes, b.dot)
	}
	return next, removes
}

// carried returns the baseline that must stand after the share was removed in tx, of the owner's
// latest epoch, and whether one must. If the owner issues tx it begins a new epoch and needs
// none. Nor is one needed if it has ended: all that it counted is in the context. Nor for an
// earlier epoch: it began the later one because its share was gone.
func (t tally) carried(tx dotted.Tx) (b baseline, needed bool) {
	if settled(tx, t.owner) {
		return b, false
	}
	for _, s := range t.shares {
		b = b.merge(baseline{epoch: s.epoch, seen: s.cum})
	}
	for _, o := range t.baselines {
		b = b.merge(o)
	}
	return b, len(t.shares)+len(t.baselines) > 0
}

// merge returns the later of two baselines, and of one epoch the greater.
func (b baseline) merge(o baseline) baseline {
	switch {
	case o.epoch > b.epoch:
		return o
	case o.epoch == b.epoch:
		b.seen = b.seen.max(o.seen)
	}
	return b
}

// settled reports whether tx sees every share that a replica has ever put: it is that replica's
// own, or sees its end.
func settled(tx dotted.Tx, owner ReplicaID) bool { return owner == tx.Replica() || tx.Ended(owner) }

// spent returns the baselines that nothing needs any more: of their epochs no share is here, and
// none can come, as their owner is settled. One whose owner crashed stays for ever: a share of it
// may be on its way.
func (t tally) spent(tx dotted.Tx) (dots []Dot) {
	if !settled(tx, t.owner) {
		return nil
	}
	begun := make(map[uint64]bool, len(t.shares)) // epochs of which there are shares
	for _, s := range t.shares {
		begun[s.epoch] = true
	}
	for _, b := range t.baselines {
		if !begun[b.epoch] {
			dots = append(dots, b.dot)
		}
	}
	return dots
}

// maxCollected is how many baselines of a cell one operation removes.
const maxCollected = 1024

// collect removes baselines that nothing needs any more from the cell of a share, or of an
// element with a score. more says that it did not remove all of them.
func collect(tx dotted.Tx, a dotted.Address) (more bool, err error) {
	c, err := tx.Cell(a)
	if err != nil {
		return false, err
	}
	var dots []Dot
	if _, owner, ok := a.CutShare(); ok {
		dots = tallyOf(owner, c).spent(tx)
	} else {
		dots = scoresIn(c).spent(tx)
	}
	if more = len(dots) > maxCollected; more {
		dots = dots[:maxCollected]
	}
	return more, tx.Remove(a, dots)
}

// retire tells what to do with the baselines when tx removes the share: which to remove, and what
// to put so that the one of carried is there, once.
func (t tally) retire(tx dotted.Tx) (removes []Dot, puts [][]byte) {
	b, needed := t.carried(tx)
	for _, o := range t.baselines {
		if needed && o.epoch == b.epoch && o.seen == b.seen {
			needed = false // it is there already
		} else {
			removes = append(removes, o.dot)
		}
	}
	if needed {
		puts = append(puts, b.payload())
	}
	return removes, puts
}
