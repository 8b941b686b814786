package crdt

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// The cell of an element of a sorted set holds the scores that were set, of concurrent ones the
// latest counts, and beside them what each replica has added, in one entry: its share. Shares have
// epochs and baselines as those of counters have (counter.go), but all in the one cell, so a
// baseline says for whose share it is.

// scoreShare is what one replica has added to an element's score. Its owner is the replica of its
// dot.
type scoreShare struct {
	dot    Dot
	epoch  uint64 // counter of the owner's dot that began it; on the wire 0 for this very dot
	cum    dyadic // added since the epoch began
	base   dyadic // the part of cum that removals, seen by the owner, have taken away
	baseAt uint64 // counter of the owner's dot that had added base
	last   float64

	// shown is the sum as the owner computed it, rounding at each addition as anybody does with
	// floating-point numbers. It counts as long as the cell's other entries are those that the
	// owner saw: what mix makes of their dots sums up to saw. So who adds alone reads what Redis
	// would say, to the last digit, and only what meets is summed up anew, exactly.
	shown float64
	saw   uint64
}

// scoreBaseline is left by a removal for each share that it removed: of what the owner added in
// that epoch, it saw so much.
type scoreBaseline struct {
	dot   Dot
	owner ReplicaID
	epoch uint64
	at    uint64 // counter of the dot of the latest share that was seen
	seen  dyadic
}

const (
	scoreShareFields    = 5 + 2*dyadicFields
	scoreBaselineFields = 2 + dyadicFields
	scorePayload        = 1 + 8 + 8 // kind, time, score
)

func setPayload(t dotted.Time, score float64) []byte {
	p := append(make([]byte, 0, scorePayload), byte(kindScore))
	p = binary.BigEndian.AppendUint64(p, uint64(t))
	return binary.BigEndian.AppendUint64(p, math.Float64bits(score))
}

// parseScore reads a score that was set.
func parseScore(e dotted.Entry) (t dotted.Time, score float64, ok bool) {
	if !kindScore.marks(e) || len(e.Payload) < scorePayload {
		return 0, 0, false
	}
	score = math.Float64frombits(binary.BigEndian.Uint64(e.Payload[9:]))
	return dotted.Time(binary.BigEndian.Uint64(e.Payload[1:])), score, !math.IsNaN(score)
}

func (s scoreShare) payload() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Raw([]byte{byte(kindAdded)})
		w.Array(scoreShareFields)
		w.Uint(s.epoch)
		s.cum.write(w)
		s.base.write(w)
		w.Uint(s.baseAt)
		w.Uint(math.Float64bits(s.last))
		w.Uint(math.Float64bits(s.shown))
		w.Uint(s.saw)
	})
}

func parseScoreShare(e dotted.Entry) (s scoreShare, ok bool) {
	err := wire.Decode(e.Payload[1:], func(r *wire.Reader) {
		extra := r.Fields(scoreShareFields)
		s = scoreShare{dot: e.Dot, epoch: r.Uint(), cum: readDyadic(r), base: readDyadic(r), baseAt: r.Uint(),
			last: math.Float64frombits(r.Uint()), shown: math.Float64frombits(r.Uint()), saw: r.Uint()}
		if math.IsNaN(s.shown) {
			r.Fail("a sum that is no number")
		}
		r.Skip(extra)
	})
	if s.epoch == 0 {
		s.epoch = e.Dot.Counter
	}
	return s, err == nil
}

// goesOn reports whether a share has all that an earlier one has.
func (s scoreShare) goesOn(o scoreShare) bool {
	return s.dot.Replica == o.dot.Replica && s.epoch == o.epoch
}

// payload has the owner where Address.BaselineOwner looks for it.
func (b scoreBaseline) payload() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Raw(binary.BigEndian.AppendUint64([]byte{byte(kindTakenAway)}, uint64(b.owner)))
		w.Array(scoreBaselineFields)
		w.Uint(b.epoch)
		w.Uint(b.at)
		b.seen.write(w)
	})
}

func parseScoreBaseline(e dotted.Entry) (b scoreBaseline, ok bool) {
	if len(e.Payload) < 9 {
		return b, false
	}
	b = scoreBaseline{dot: e.Dot, owner: ReplicaID(binary.BigEndian.Uint64(e.Payload[1:]))}
	err := wire.Decode(e.Payload[9:], func(r *wire.Reader) {
		extra := r.Fields(scoreBaselineFields)
		b.epoch, b.at, b.seen = r.Uint(), r.Uint(), readDyadic(r)
		r.Skip(extra)
	})
	return b, err == nil
}

// scores is what stands in the cell of an element. Entries that do not parse count nothing.
type scores struct {
	cell      dotted.Cell
	set       float64 // the latest of those that were set; 0 without any
	shares    []scoreShare
	baselines []scoreBaseline // in the order of compare
	total     uint64          // what mix makes of the dots of all entries, summed up
}

func scoresIn(c dotted.Cell) scores {
	s := scores{cell: c}
	latest := dotted.Time(0)
	for _, e := range c {
		s.total += mix(e.Dot)
		switch {
		case kindAdded.marks(e):
			if share, ok := parseScoreShare(e); ok {
				s.shares = append(s.shares, share)
			}
		case kindTakenAway.marks(e):
			if b, ok := parseScoreBaseline(e); ok {
				s.baselines = append(s.baselines, b)
			}
		default:
			if t, score, ok := parseScore(e); ok && t >= latest {
				latest, s.set = t, score
			}
		}
	}
	slices.SortFunc(s.baselines, scoreBaseline.compare)
	return s
}

// compare orders baselines by owners and epochs, and those of one epoch by how much they saw.
func (b scoreBaseline) compare(o scoreBaseline) int {
	return cmp.Or(cmp.Compare(b.owner, o.owner), cmp.Compare(b.epoch, o.epoch), cmp.Compare(b.at, o.at),
		b.dot.Compare(o.dot))
}

// mix returns what stands for a dot in sums that tell sets of dots apart: after each of its two
// numbers the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
// Generators, OOPSLA 2014).
func mix(d Dot) uint64 {
	n := uint64(d.Replica)
	for _, next := range [...]uint64{d.Counter, 0} {
		n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
		n = (n ^ n>>27) * 0x94d049bb133111eb
		n = (n ^ n>>31) + next
	}
	return n
}

// scoreIn returns an element's score by its cell.
func scoreIn(c dotted.Cell) float64 {
	if len(c) == 1 { // as nearly always
		if _, score, ok := parseScore(c[0]); ok {
			return score
		}
	}
	return scoresIn(c).sum()
}

// sum returns what the score is.
func (s scores) sum() float64 {
	for _, share := range s.shares {
		if share.saw == s.total-mix(share.dot) {
			return share.shown
		}
	}
	return s.exact(s.set, s.added())
}

// added returns the exact sum of what was added: of several shares of one owner and epoch, where
// deltas overtake each other, that of the last, which has what is in the others.
func (s scores) added() (sum dyadic) {
	for i, share := range s.shares {
		if i+1 < len(s.shares) && s.shares[i+1].goesOn(share) {
			continue
		}
		if base, at := s.base(share); at < share.dot.Counter {
			sum = sum.plus(share.cum).minus(base)
		}
	}
	return sum
}

// exact returns the exact sum, rounded once, of a score that was set and what was added.
func (s scores) exact(set float64, added dyadic) float64 {
	if len(s.shares) == 0 || math.IsInf(set, 0) {
		return set
	}
	return dyadicOf(set).plus(added).float()
}

// all passes what the score is with each of those that were set, in the order of their dots.
func (s scores) all(yield func(float64) bool) {
	sum, added, written := s.sum(), s.added(), false
	for _, e := range s.cell {
		_, set, ok := parseScore(e)
		if !ok {
			continue
		}
		written = true
		score := sum
		if set != s.set {
			score = s.exact(set, added)
		}
		if !yield(score) {
			return
		}
	}
	if !written {
		yield(sum)
	}
}

// base returns how much of a share was taken away, by removals that its owner had seen and by
// others, and the counter of the owner's dot that had added as much.
func (s scores) base(share scoreShare) (base dyadic, at uint64) {
	epoch := scoreBaseline{owner: share.dot.Replica, epoch: share.epoch, at: math.MaxUint64}
	behind, _ := slices.BinarySearchFunc(s.baselines, epoch, scoreBaseline.compare)
	if behind > 0 {
		b := s.baselines[behind-1]
		if b.owner == epoch.owner && b.epoch == epoch.epoch && b.at > share.baseAt {
			return b.seen, b.at
		}
	}
	return share.base, share.baseAt
}

// add returns the share with which a replica adds a number so that the sum shown is another, and
// the entries that it replaces: the replica's share so far, and the baselines for it.
func (s scores) add(owner ReplicaID, by, shown float64) (next scoreShare, removes []Dot) {
	for _, share := range s.shares {
		if share.dot.Replica != owner {
			continue
		}
		next.epoch, next.cum = share.epoch, share.cum
		next.base, next.baseAt = s.base(share)
		removes = append(removes, share.dot)
	}
	for _, b := range s.baselines {
		if b.owner == owner {
			removes = append(removes, b.dot)
		}
	}
	next.cum, next.last, next.shown = next.cum.plus(dyadicOf(by)), by, shown
	next.saw = s.total
	for _, d := range removes {
		next.saw -= mix(d)
	}
	return next, removes
}

// carried returns the baselines that must stay after the shares were removed in tx, in the order
// of compare: for each owner one, of its latest epoch; see tally.carried. Those that are in the
// cell already have a dot.
func (s scores) carried(tx dotted.Tx) (stay []scoreBaseline) {
	all := slices.Clone(s.baselines)
	for _, share := range s.shares {
		b := scoreBaseline{owner: share.dot.Replica, epoch: share.epoch, at: share.dot.Counter, seen: share.cum}
		all = append(all, b)
	}
	slices.SortFunc(all, scoreBaseline.compare)
	for i, b := range all {
		if latest := i+1 == len(all) || all[i+1].owner != b.owner; latest && !settled(tx, b.owner) {
			stay = append(stay, b)
		}
	}
	return stay
}

// retire tells what to do with the baselines when tx removes the shares: which to remove, and which
// to put.
func (s scores) retire(tx dotted.Tx) (removes []Dot, puts [][]byte) {
	stay := s.carried(tx)
	for _, b := range stay {
		if b.dot.IsZero() {
			puts = append(puts, b.payload())
		}
	}
	for _, b := range s.baselines {
		if _, stays := slices.BinarySearchFunc(stay, b, scoreBaseline.compare); !stays {
			removes = append(removes, b.dot)
		}
	}
	return removes, puts
}

// spent returns the baselines that nothing needs any more: see tally.spent.
func (s scores) spent(tx dotted.Tx) (dots []Dot) {
	begun := make(map[Dot]bool, len(s.shares)) // epochs of which there are shares
	for _, share := range s.shares {
		begun[Dot{Replica: share.dot.Replica, Counter: share.epoch}] = true
	}
	for _, b := range s.baselines {
		if settled(tx, b.owner) && !begun[Dot{Replica: b.owner, Counter: b.epoch}] {
			dots = append(dots, b.dot)
		}
	}
	return dots
}
