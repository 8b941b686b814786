package theory

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"sort"

	"github.com/peerd/peerd/crdt"
)

// Writers are replicas that write at random moments and tell each other.
type Writers struct {
	Replicas int
	Rate     float64 // writes a second of each
	Delay    float64 // seconds until all others have a write
}

// Concurrent predicts with how many others a write is concurrent, on average: those that the
// others write within the delay before it and after it.
func (w Writers) Concurrent() float64 { return 2 * float64(w.Replicas-1) * w.Rate * w.Delay }

// write is one, with what its replica had seen: itself included.
type write struct {
	dot  crdt.Dot
	at   float64
	seen crdt.VersionVector
}

// before reports whether another write had seen this one. Of vectors with dots that is one
// comparison: whether the other's has this one's dot. See Parker et al. 1983 for vectors.
func (w *write) before(o *write) bool { return o.seen.Has(w.dot) }

// Run has so many writes happen, and counts by their version vectors with how many others one of
// them is concurrent. The first and the last ones are left out: they have others on one side only.
func (w Writers) Run(chance *rand.Rand, writes int) float64 {
	all, now := make([]write, 0, writes), 0.0
	own := make([]crdt.VersionVector, w.Replicas)
	for i := range own {
		own[i] = crdt.VersionVector{}
	}
	arrived := 0
	for len(all) < writes {
		now += chance.ExpFloat64() / (w.Rate * float64(w.Replicas))
		for ; arrived < len(all) && all[arrived].at+w.Delay <= now; arrived++ {
			for _, v := range own {
				v.Merge(all[arrived].seen)
			}
		}
		r := chance.IntN(w.Replicas)
		id := crdt.ReplicaID(r + 1)
		own[r][id]++
		all = append(all, write{crdt.Dot{Replica: id, Counter: own[r][id]}, now, own[r].Clone()})
	}
	count, of := 0, 0
	first := sort.Search(writes, func(i int) bool { return all[i].at > w.Delay })
	for i := first; i < writes && all[i].at < now-w.Delay; i++ {
		of++
		for j := range all {
			if j != i && !all[i].before(&all[j]) && !all[j].before(&all[i]) {
				count++
			}
		}
	}
	return float64(count) / float64(max(1, of))
}

// Watchers are members that tell a random other one each round all they know of who has what: a
// matrix clock (Wuu and Bernstein 1984). A write is stable at a member once it knows that all have it.
type Watchers struct {
	Members int
	Away    int // rounds from the start for which one member hears and says nothing
}

// spread returns the probability that a given member has heard of a rumour after each round.
func (w Watchers) spread() []float64 {
	left := Push{Members: w.Members, Fanout: 1}.Ignorant()
	heard := make([]float64, len(left))
	for t := range left {
		heard[t] = 1 - left[t]/float64(w.Members-1)
	}
	return heard
}

// Everywhere predicts after how many rounds all have a write.
func (w Watchers) Everywhere() float64 {
	rounds := Push{Members: w.Members, Fanout: 1}.Rounds()
	if w.Away > 0 { // it is told last, once somebody draws it
		return max(rounds, float64(w.Away)+math.E/(math.E-1))
	}
	return rounds
}

// Stable predicts after how many rounds its writer knows that. The write goes to each member, and
// from there word of it back; both are epidemics, and the slowest of the sums counts.
func (w Watchers) Stable() (rounds float64) {
	heard := w.spread()
	if w.Away > 0 {
		back := 0.0
		for _, p := range heard {
			back += 1 - p
		}
		return w.Everywhere() + back
	}
	at := func(t int) float64 { return heard[min(t, len(heard)-1)] }
	for t := range 2 * len(heard) {
		within := 0.0 // the probability that a given member's word is back by then
		for there := 1; there <= t; there++ {
			within += (at(there) - at(there-1)) * at(t-there)
		}
		rounds += 1 - math.Exp(-float64(w.Members-1)*(1-within))
	}
	return rounds
}

// Run has one write spread, and returns in which round all have it, and in which its writer, the
// first member, knows that. Of the matrix a write concerns one bit a member.
func (w Watchers) Run(chance *rand.Rand) (everywhere, stable int) {
	knows := make([][]uint64, w.Members) // by member, who is known to have the write
	for i := range knows {
		knows[i] = make([]uint64, (w.Members+63)/64)
	}
	knows[0][0] = 1
	for round := 1; ; round++ {
		before := make([][]uint64, w.Members)
		for i := range knows {
			before[i] = append([]uint64(nil), knows[i]...)
		}
		has := 0
		for from := range knows {
			to, last := other(chance, from, w.Members), w.Members-1
			if round <= w.Away && (from == last || to == last) || before[from][from/64]>>(from%64)&1 == 0 {
				continue
			}
			for i, known := range before[from] {
				knows[to][i] |= known
			}
			knows[to][to/64] |= 1 << (to % 64)
		}
		for i := range knows {
			has += int(knows[i][i/64] >> (i % 64) & 1)
		}
		if everywhere == 0 && has == w.Members {
			everywhere = round
		}
		known := 0
		for _, b := range knows[0] {
			known += bits.OnesCount64(b)
		}
		if known == w.Members {
			return everywhere, round
		}
	}
}
