package logindex

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// record is one of a log in plain form.
type record struct {
	dots     []crdt.Dot
	at, next store.Position
	time     time.Time
}

// plain is an index without cleverness, and the one that is tested.
type plain struct {
	*Index
	records []record // from number 1 on
	seen    crdt.VersionVector
	end     store.Position // others' records may stand before it
}

const every = 64 // bytes between two marks

func draw(rng *rand.Rand) *plain {
	x := After(0, 0)
	p := &plain{Index: &x, seen: crdt.VersionVector{}}
	for range 20 + rng.IntN(60) {
		p.add(rng)
	}
	return p
}

// add adds a record of some deltas; before it, now and then, a repair left a hole and others wrote
// to the log.
func (p *plain) add(rng *rand.Rand) {
	now := time.UnixMilli(int64(1e12 + 1000*len(p.records)))
	if rng.IntN(6) == 0 {
		p.seen[crdt.ReplicaID(1+rng.IntN(3))] += uint64(1 + rng.IntN(3))
	}
	if rng.IntN(4) == 0 {
		p.end += store.Position(rng.IntN(200))
	}
	rec := record{at: p.end, next: p.end + store.Position(10+rng.IntN(40)), time: now}
	p.end = rec.next
	number := uint64(len(p.records) + 1)
	p.Append(number, now)
	for range 1 + rng.IntN(3) {
		id, n := crdt.ReplicaID(1+rng.IntN(3)), uint64(1+rng.IntN(4))
		p.Cover(id, p.seen[id]+1, p.seen[id]+n)
		for range n {
			p.seen[id]++
			rec.dots = append(rec.dots, crdt.Dot{Replica: id, Counter: p.seen[id]})
		}
	}
	p.Locate(number, now, rec.at, rec.next, every)
	p.records = append(p.records, rec)
}

// start finds the first record with a dot that theirs lacks, and whether all such dots are there.
func (p *plain) start(theirs crdt.VersionVector) (first uint64, covered bool) {
	missing := 0
	for id, n := range p.seen {
		missing += max(0, int(n)-int(theirs[id]))
	}
	for i := int(p.First) - 1; i < len(p.records); i++ {
		for _, d := range p.records[i].dots {
			if d.Counter <= theirs[d.Replica] {
				continue
			}
			if missing--; first == 0 {
				first = uint64(i + 1)
			}
		}
	}
	return first, missing == 0
}

// TestWhatPeersLackIsFoundOrKnownNotToBeThere compares the index with a look at each record, as the
// log grows and is cut.
func TestWhatPeersLackIsFoundOrKnownNotToBeThere(t *testing.T) {
	served, refused := 0, 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := draw(rng)
		for range 20 {
			switch rng.IntN(4) {
			case 0:
				p.DropBefore(p.First + uint64(rng.IntN(6)))
			case 1:
				p.add(rng)
			}
			theirs := crdt.VersionVector{}
			for id, n := range p.seen {
				theirs[id] = n - min(n, uint64(rng.IntN(12)))
			}
			want, covered := p.start(theirs)
			got, ok := p.Start(p.seen, theirs)
			if ok && !covered {
				t.Fatalf("seed %d: it claims all that %v lack of %v, in the records from %d", seed, theirs, p.seen, p.First)
			}
			if !ok {
				refused++ // a run that the log's beginning cut goes as a whole
				continue
			}
			if served++; want > 0 && (got > want || got < p.First) {
				t.Fatalf("seed %d: it serves %v from record %d, and the first that is missing is in %d", seed, theirs, got, want)
			}
		}
	}
	if served < 1000 || refused < 1000 {
		t.Errorf("%d served, %d refused", served, refused)
	}
}

// TestARecordIsReadFromAMarkBeforeIt and not far before.
func TestARecordIsReadFromAMarkBeforeIt(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		p := draw(rng)
		p.DropBefore(uint64(rng.IntN(len(p.records))))
		extent := p.Extent()
		p.add(rng) // a moment does not change
		p.DropBefore(p.First + 5)
		for i, rec := range p.records {
			number := uint64(i + 1)
			at, served := extent.From(number)
			if want := number >= extent.first && number <= extent.Last; served != want {
				t.Fatalf("seed %d: record %d is served: %v", seed, number, served)
			}
			if served && (at > rec.at || rec.at-at >= every) {
				t.Fatalf("seed %d: record %d at %d is read from %d", seed, number, rec.at, at)
			}
		}
	}
}

// TestACutKeepsTheBoundAndWhatIsNeeded cuts by size and by age, and never what a checkpoint needs.
func TestACutKeepsTheBoundAndWhatIsNeeded(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p := draw(rng)
		first, last := p.First, p.Last
		keep := uint64(1 + rng.IntN(int(last)+1))
		limit, oldest := int64(rng.IntN(2000)), time.UnixMilli(int64(1e12+rng.IntN(40_000)))
		p.DropBefore(p.Due(keep, p.end, limit, oldest))
		if p.First > keep {
			t.Fatalf("seed %d: cut up to %d, and %d is needed", seed, p.First, keep)
		}
		size := p.Bytes(p.end)
		stays := p.records[min(int(p.First), len(p.records))-1]
		fits := size <= limit+every+200 && !stays.time.Before(oldest.Add(-10*time.Second))
		if !fits && p.First < min(keep, last) && size > p.Least(p.end) && keep-p.First > 10 {
			t.Fatalf("seed %d: %d bytes are left of at most %d, the oldest of %v, cut from %d to %d of %d, %d is needed",
				seed, size, limit, stays.time, first, p.First, last, keep)
		}
	}
}

// TestItsOwnRecordsAreCountedWithoutOthers from the first mark on, also once the log was cut.
func TestItsOwnRecordsAreCountedWithoutOthers(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 7))
		p := draw(rng)
		for range 5 {
			p.DropBefore(p.First + uint64(rng.IntN(12)))
			p.add(rng)
			first, _, _ := p.Oldest()
			want := int64(0)
			for _, rec := range p.records {
				if rec.at >= first {
					want += int64(rec.next - rec.at)
				}
			}
			if got := p.Own(); got != want {
				t.Fatalf("seed %d: %d bytes of its own from %d on, want %d", seed, got, first, want)
			}
		}
	}
}

// TestTooManyRunsAreCut has each record leave a hole before it.
func TestTooManyRunsAreCut(t *testing.T) {
	x := After(0, 0)
	for i := range uint64(MaxRuns + 5000) {
		x.Append(i+1, time.UnixMilli(1e12))
		x.Cover(1, 2*i+1, 2*i+1)
		x.Locate(i+1, time.UnixMilli(1e12), store.Position(i), store.Position(i+1), every)
	}
	if !x.Large(x.Next, 1<<40) {
		t.Fatal("it is not large")
	}
	for x.Large(x.Next, 1<<40) { // a cut takes a part: another one follows soon
		before := x.First
		if x.DropBefore(x.Due(x.Last+1, x.Next, 1<<40, time.Time{})); x.First == before {
			t.Fatal("nothing is cut")
		}
	}
	if x.First < 5000 || x.First > 10_000 {
		t.Errorf("it begins at record %d", x.First)
	}
}

// TestAnIndexIsReadAsItWasWritten compares a copy that was written and read.
func TestAnIndexIsReadAsItWasWritten(t *testing.T) {
	for seed := range uint64(50) {
		p := draw(rand.New(rand.NewPCG(seed, 4)))
		body := wire.Encode(p.Write)
		var got Index
		if err := wire.Decode(body, func(r *wire.Reader) { got = Read(r, len(body), p.Last, p.Next) }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !reflect.DeepEqual(got, *p.Index) {
			t.Fatalf("seed %d: read\n%+v\nwritten\n%+v", seed, got, *p.Index)
		}
	}
}

// TestALogThatBeginsLaterServesNothingBefore tells the index where the log begins.
func TestALogThatBeginsLaterServesNothingBefore(t *testing.T) {
	p := draw(rand.New(rand.NewPCG(1, 5)))
	half := p.records[len(p.records)/2]
	p.Begin(half.at)
	if p.First < uint64(len(p.records)/2) || p.First > uint64(len(p.records)/2+8) {
		t.Errorf("of %d records it begins at %d", len(p.records), p.First)
	}
	if p.Begin(p.end); p.First != p.Last+1 || p.Bytes(p.end) != 0 {
		t.Errorf("behind its end: %d of %d, %d bytes", p.First, p.Last, p.Bytes(p.end))
	}
	if _, found := p.Find(1, 1); found {
		t.Error("a dot is found in it")
	}
}
