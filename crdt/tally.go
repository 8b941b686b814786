package crdt

import (
	"math"
	"math/bits"
	"slices"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// uint128 is an amount that grows by 64-bit steps and never overflows: it would take 2⁶⁴ of the
// largest. Arithmetic saturates all the same, as amounts are read from peers.
type uint128 struct {
	hi, lo uint64
}

func (a uint128) less(b uint128) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (a uint128) max(b uint128) uint128 {
	if a.less(b) {
		return b
	}
	return a
}

func (a uint128) add(b uint128) uint128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, carry := bits.Add64(a.hi, b.hi, carry)
	if carry != 0 {
		return uint128{math.MaxUint64, math.MaxUint64}
	}
	return uint128{hi, lo}
}

// sub returns a − b, or zero if b is greater.
func (a uint128) sub(b uint128) uint128 {
	if a.less(b) {
		return uint128{}
	}
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return uint128{hi, lo}
}

// amounts is what was added and what was subtracted. Both only grow, so that the maximum of two
// amounts of one epoch is the later of them.
type amounts struct {
	pos, neg uint128
}

func (a amounts) plus(n int64) amounts {
	if n >= 0 {
		a.pos = a.pos.add(uint128{lo: uint64(n)})
	} else {
		a.neg = a.neg.add(uint128{lo: -uint64(n)})
	}
	return a
}

func (a amounts) add(b amounts) amounts { return amounts{a.pos.add(b.pos), a.neg.add(b.neg)} }
func (a amounts) sub(b amounts) amounts { return amounts{a.pos.sub(b.pos), a.neg.sub(b.neg)} }
func (a amounts) max(b amounts) amounts { return amounts{a.pos.max(b.pos), a.neg.max(b.neg)} }

// value returns what was added less what was subtracted, and false if that was beyond 64 bits and
// the bound is returned instead.
func (a amounts) value() (n int64, exact bool) {
	const minMagnitude = 1 << 63
	if a.pos.less(a.neg) {
		if d := a.neg.sub(a.pos); d.hi == 0 && d.lo <= minMagnitude {
			return -int64(d.lo), true
		}
		return math.MinInt64, false
	}
	if d := a.pos.sub(a.neg); d.hi == 0 && d.lo < minMagnitude {
		return int64(d.lo), true
	}
	return math.MaxInt64, false
}

// share is what one replica has counted, all its increments in one entry. Its owner is the replica
// of its dot, which alone replaces it.
type share struct {
	dot   Dot
	epoch uint64  // counter of the owner's dot that began it; on the wire 0 for this very dot
	cum   amounts // counted since the epoch began
	base  amounts // the part of cum that resets, seen by the owner, have taken away
	last  int64   // what this very entry added: so that a person can do it again: see Describe
}

// baseline is left by a reset for each share that it removed: of what the owner counted in that
// epoch, the reset saw so much. An increment that the owner made meanwhile carries it too, as its
// share is cumulative, and the baseline takes it away again.
type baseline struct {
	dot   Dot
	owner ReplicaID
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
		w.Uint(uint64(b.owner))
		w.Uint(b.epoch)
		b.seen.write(w)
	})
}

const (
	amountsFields  = 4
	shareFields    = 2 + 2*amountsFields
	baselineFields = 2 + amountsFields
)

func (a amounts) write(w *wire.Writer) {
	for _, u := range [...]uint64{a.pos.hi, a.pos.lo, a.neg.hi, a.neg.lo} {
		w.Uint(u)
	}
}

func readAmounts(r *wire.Reader) amounts {
	return amounts{uint128{r.Uint(), r.Uint()}, uint128{r.Uint(), r.Uint()}}
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
		b = baseline{e.Dot, ReplicaID(r.Uint()), r.Uint(), readAmounts(r)}
		r.Skip(extra)
	})
	return b, err == nil
}

// tallies is the counter in a cell: shares and baselines in the order of their dots. Entries that
// do not parse count nothing; what they show is removed as everything else.
type tallies struct {
	shares    []share
	baselines []baseline
}

func talliesOf(c dotted.Cell) tallies {
	var t tallies
	for _, e := range c {
		switch {
		case kindShare.marks(e):
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

// total returns what the shares amount to.
func (t tallies) total() amounts {
	var sum amounts
	for _, s := range t.shares {
		sum = sum.add(s.cum.sub(t.base(s)))
	}
	return sum
}

// base returns how much of a share was taken away by resets: those its owner had seen, and others.
func (t tallies) base(s share) amounts {
	base := s.base
	for _, b := range t.baselines {
		if b.owner == s.dot.Replica && b.epoch == s.epoch {
			base = base.max(b.seen)
		}
	}
	return base
}

// add returns the share with which owner adds n, and the entries that it replaces: the owner's
// share so far and the baselines for it, which the new share takes in. Without a share an epoch
// begins, and baselines of earlier ones have nothing left to take away.
func (t tallies) add(owner ReplicaID, n int64) (next share, removes []Dot) {
	for _, s := range t.shares {
		if s.dot.Replica == owner {
			next = share{epoch: s.epoch, cum: s.cum, base: t.base(s)}
			removes = []Dot{s.dot}
		}
	}
	next.cum, next.last = next.cum.plus(n), n
	for _, b := range t.baselines {
		if b.owner == owner {
			removes = append(removes, b.dot)
		}
	}
	return next, removes
}

// carried returns what must stand after all shares were removed in tx: a baseline for each other
// replica, in the order of their ids, of its latest epoch. The issuer of tx needs none: it begins a
// new epoch. Nor does one that has ended: all that it counted is in the context. Nor does an earlier
// epoch: its owner began the later one because its share was gone.
func (t tallies) carried(tx dotted.Tx) []baseline {
	var out []baseline
	merge := func(b baseline) {
		i, found := slices.BinarySearchFunc(out, b.owner, func(b baseline, owner ReplicaID) int {
			return Dot{Replica: b.owner}.Compare(Dot{Replica: owner})
		})
		switch {
		case settled(tx, b.owner):
		case !found:
			out = slices.Insert(out, i, b)
		case b.epoch > out[i].epoch:
			out[i] = b
		case b.epoch == out[i].epoch:
			out[i].seen = out[i].seen.max(b.seen)
		}
	}
	for _, s := range t.shares {
		merge(baseline{owner: s.dot.Replica, epoch: s.epoch, seen: s.cum})
	}
	for _, b := range t.baselines {
		merge(b)
	}
	return out
}

// settled reports whether tx sees every share that a replica has ever put: it is that replica's own,
// or sees its end.
func settled(tx dotted.Tx, owner ReplicaID) bool { return owner == tx.Replica() || tx.Ended(owner) }

// spent returns the baselines that nothing needs any more: of their epochs no share is here, and
// none can come, as their owner is settled. One whose owner crashed stays for ever: a share of it may
// be on its way.
func (t tallies) spent(tx dotted.Tx) (dots []Dot) {
	for _, b := range t.baselines {
		alive := slices.ContainsFunc(t.shares, func(s share) bool {
			return s.dot.Replica == b.owner && s.epoch == b.epoch
		})
		if !alive && settled(tx, b.owner) {
			dots = append(dots, b.dot)
		}
	}
	return dots
}

// maxCollected is how many baselines of a cell one operation removes.
const maxCollected = 1024

// collect removes baselines that nothing needs any more from a cell. more says that it did not remove
// all of them.
func collect(tx dotted.Tx, a dotted.Address) (more bool, err error) {
	c, err := tx.Cell(a)
	if err != nil {
		return false, err
	}
	dots := talliesOf(c).spent(tx)
	if more = len(dots) > maxCollected; more {
		dots = dots[:maxCollected]
	}
	return more, tx.Remove(a, dots)
}

// baselineOwner returns whose share the payload of an entry is a baseline for; zero if it is none.
func baselineOwner(payload []byte) ReplicaID {
	e := dotted.Entry{Payload: payload}
	if !kindBaseline.marks(e) {
		return 0
	}
	b, _ := parseBaseline(e)
	return b.owner
}

// retire tells what to do with the baselines when tx removes all shares: which to remove and which
// to put, so that those of carried are there, each once.
func (t tallies) retire(tx dotted.Tx) (removes []Dot, puts []baseline) {
	puts = t.carried(tx)
	for _, b := range t.baselines {
		i := slices.IndexFunc(puts, func(p baseline) bool {
			return p.owner == b.owner && p.epoch == b.epoch && p.seen == b.seen
		})
		if i >= 0 {
			puts = slices.Delete(puts, i, i+1) // it is there already
		} else {
			removes = append(removes, b.dot)
		}
	}
	return removes, puts
}
