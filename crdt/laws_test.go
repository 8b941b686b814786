package crdt

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
)

// drawn makes rapid choose, so that it can shrink a history.
type drawn struct{ t *rapid.T }

func (d drawn) Intn(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "choice") }

// drawStates draws three states of a history in which deltas come in any order, and its deltas.
func drawStates(t *rapid.T) (states, deltas []*State) {
	h := newHistory(drawn{t}, 3, false)
	for _, kind := range rapid.SampledFrom([][]int{nil, {addsEntry, addsEntry, createsGroup, readsGroup}}).Draw(t, "begin") {
		if err := h.act(0, drawLater(h.choose, kind)); err != nil {
			t.Fatal(err)
		}
	}
	for range rapid.IntRange(0, 25).Draw(t, "steps") {
		if _, err := h.step(drawAnyOrLater); err != nil && !errors.Is(err, ErrNotInteger) {
			t.Fatal(err)
		}
	}
	for _, e := range h.events {
		deltas = append(deltas, e.delta)
	}
	return h.states, deltas
}

// drawAnyOrLater draws what drawAny does, or something of a type that its oracle does not know.
func drawAnyOrLater(choose chooser) action {
	if kind := choose.Intn(24); kind < 16 {
		return drawLater(choose, kind)
	}
	return drawAny(choose)
}

const addsEntry, createsGroup, readsGroup = 3, 9, 12 // kinds that drawLater draws

// drawLater draws an action of a kind, on a key or a field of a map.
func drawLater(choose chooser, kind int) action {
	key, inMap := []string{"k", "k", "k\x00l"}[choose.Intn(3)], choose.Intn(4) == 0
	id := StreamID{uint64(1 + choose.Intn(4)), 0}
	drawn := func(what string, do func(f Fields) error) action {
		return action{trace: fmt.Sprintf("%s %q, in a map: %v", what, key, inMap), do: func(tx dotted.Tx) error {
			f := fieldsOf(tx)
			if inMap {
				f = f.Map("k").Fields
			}
			err := do(f)
			if errors.Is(err, ErrStreamID) || errors.Is(err, ErrNoGroup) {
				return nil
			}
			return err
		}}
	}
	onStream := func(what string, do func(s Stream) error) action {
		return drawn(what, func(f Fields) error { return do(f.Stream(key)) })
	}
	onGroup := func(what string, do func(g Group) error) action {
		return drawn(what, func(f Fields) error { return do(f.Stream(key).Group("g")) })
	}
	consumer := []string{"c", "d"}[choose.Intn(2)]
	switch kind {
	case 0, 1:
		at := epochStart.Add(time.Duration(choose.Intn(8)) * time.Millisecond)
		return drawn("expire", func(f Fields) error { return second(f.Expiry(key).Set(at)) })
	case 2:
		return drawn("persist", func(f Fields) error { return second(f.Expiry(key).Clear()) })
	case addsEntry, 4, 5:
		return onStream("add entry", func(s Stream) error { return s.AddAs(id, "f", "v") })
	case 6:
		return onStream("remove entry", func(s Stream) error { return second(s.Remove(id)) })
	case 7:
		return onStream("remove first entry", func(s Stream) error { return second(s.RemoveFirst(1)) })
	case 8:
		return onStream("set info", func(s Stream) error {
			info := StreamInfo{Last: id, MaxDeleted: id, Added: int64(id.Ms)}
			for e := range s.Range(StreamID{}, MaxStreamID) {
				info.Last = slices.MaxFunc([]StreamID{id, e.ID}, StreamID.Compare)
			}
			return s.SetInfo(info)
		})
	case createsGroup:
		return onGroup("create group", func(g Group) error { return second(g.Create(GroupInfo{})) })
	case 10:
		return onGroup("set group", func(g Group) error { return g.SetID(GroupInfo{Last: id}) })
	case 11:
		return onGroup("remove group", func(g Group) error { return second(g.Remove()) })
	case readsGroup:
		return onGroup("read", func(g Group) error { return second(g.Read(consumer, epochStart, 1, false)) })
	case 13:
		return onGroup("assign", func(g Group) error {
			return g.Assign(consumer, epochStart, []Pending{{ID: id, Delivered: epochStart, Count: 1}})
		})
	case 14:
		return onGroup("remove consumer", func(g Group) error { return second(g.RemoveConsumer(consumer)) })
	}
	return onGroup("acknowledge", func(g Group) error { return second(g.Ack(id)) })
}

func merged(states ...*State) *State {
	out := NewState()
	for _, s := range states {
		out.Merge(s)
	}
	return out
}

func join(a, b *State) *State {
	out := a.Clone()
	out.Merge(b)
	return out
}

// same fails unless a and b are equal and, if whole, have the same bytes.
func same(t *rapid.T, a, b *State) {
	t.Helper()
	if !a.Equal(b) {
		t.Fatalf("differ:\n%s\n%s", describe(a), describe(b))
	}
	if a.delta || b.delta {
		return
	}
	x, _ := a.MarshalBinary()
	y, _ := b.MarshalBinary()
	if !bytes.Equal(x, y) {
		t.Fatalf("equal, but with different bytes:\n%x\n%x", x, y)
	}
}

func TestJoinOfStatesIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := drawStates(t)
		same(t, join(s[0], s[1]), join(s[1], s[0]))
		same(t, join(join(s[0], s[1]), s[2]), join(s[0], join(s[1], s[2])))
		same(t, join(s[0], s[0].Clone()), s[0])
		same(t, join(join(s[0], s[1]), s[1]), join(s[0], s[1]))
	})
}

func TestJoinOfDeltasIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, deltas := drawStates(t)
		if len(deltas) == 0 {
			return
		}
		// Groups of deltas and a whole state, in all mixtures.
		pool := append(slices.Clone(deltas), s[0], join(deltas[0], deltas[len(deltas)-1]))
		a := rapid.SampledFrom(pool).Draw(t, "a")
		b := rapid.SampledFrom(pool).Draw(t, "b")
		c := rapid.SampledFrom(pool).Draw(t, "c")
		same(t, join(a, b), join(b, a))
		same(t, join(join(a, b), c), join(a, join(b, c)))
		same(t, join(a, a.Clone()), a)
	})
}

func TestMergingADeltaEqualsMergingItAsAWholeState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states, deltas := drawStates(t)
		for _, d := range deltas {
			whole := d.Clone()
			whole.becomeWhole()
			for _, s := range states {
				same(t, join(s, d), join(s, whole))
			}
		}
	})
}

func TestDeltasInAnyOrderWithDuplicatesMakeTheSameState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states, deltas := drawStates(t)
		all := merged(states...)
		order := rapid.Permutation(append(slices.Clone(deltas), deltas...)).Draw(t, "order")
		same(t, merged(order...), all)
	})
}

func TestLostDeltasAreMadeUpForByOneWholeMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states, deltas := drawStates(t)
		all := merged(states...)
		late := NewState()
		for _, d := range deltas {
			if rapid.Bool().Draw(t, "arrives") {
				late.Merge(d)
			}
		}
		late.Merge(all)
		same(t, late, all)
	})
}

// TestWhoHasTheContextOfAnotherLacksNothingOfIt, be that a removal, and whatever has overtaken it.
func TestWhoHasTheContextOfAnotherLacksNothingOfIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states, deltas := drawStates(t)
		late := NewState()
		for _, d := range deltas {
			if rapid.Bool().Draw(t, "arrives") {
				late.Merge(d)
			}
		}
		for _, s := range append(states, late) {
			for _, o := range slices.Concat(states, deltas) {
				if s.context.Contains(&o.context) {
					same(t, join(s, o), s)
				}
			}
		}
	})
}

// TestAContextTellsWhetherADeltaIsMissing of those before and behind it, among them a removal.
func TestAContextTellsWhetherADeltaIsMissing(t *testing.T) {
	a := NewState()
	set := func(text string) func(tx dotted.Tx) error {
		return func(tx dotted.Tx) error { return fieldsOf(tx).Register("k").Set([]byte(text)) }
	}
	remove := func(tx dotted.Tx) error { return second(fieldsOf(tx).Remove("k")) }
	var deltas []*State
	for _, do := range []func(tx dotted.Tx) error{set("1"), set("2"), set("3"), remove} {
		deltas = append(deltas, mustUpdate(t, a, 1, do))
	}
	for i, d := range deltas {
		b := merged(slices.Delete(slices.Clone(deltas), i, i+1)...)
		if has, lacks := b.context.Contains(&d.context), !join(b, d).Equal(b); has == lacks {
			t.Errorf("without delta %d: has all of its context: %v, lacks something: %v", i, has, lacks)
		}
	}
}

func TestUpdateIsTheJoinOfItsDelta(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states, _ := drawStates(t)
		s := merged(states...)
		before := s.Clone()
		a := drawAnyOrLater(drawn{t})
		delta, err := s.update(9, epochStart, a.do)
		if err != nil {
			same(t, s, before)
			return
		}
		same(t, join(before, delta), s)
		checkDelta(t, delta)
	})
}

// checkDelta fails unless every live dot of a delta is in its context, once.
func checkDelta(t *rapid.T, delta *State) {
	seen := map[Dot]dotted.Address{}
	delta.cells.Scan(func(a dotted.Address, c dotted.Cell) bool {
		for _, e := range c {
			if other, twice := seen[e.Dot]; twice || !delta.context.Has(e.Dot) {
				t.Fatalf("%v in %q: not in the context, or in %q too", e.Dot, a, other)
			}
			seen[e.Dot] = a
		}
		return true
	})
}

func TestSummaryCountsWhatAScanFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states, deltas := drawStates(t)
		for _, s := range append(states, deltas...) {
			for _, key := range []string{"k", "k\x00l", "none"} {
				var want dotted.Summary
				last := dotted.Address("") // a string's cells are counted once
				counts := map[dotted.Address]dotted.Count{}
				s.scan(dotted.KeyAddress(key), "", func(a dotted.Address, c dotted.Cell) bool {
					at := a
					if counter, owner, ok := a.CutShare(); ok {
						at = counter
						n := counts[at]
						n.Sum = n.Sum.Plus(tallyOf(owner, c).counted())
						if c.Visible() {
							n.Shares++
						}
						counts[at] = n
					}
					if c.Visible() && at != last {
						last = at
						want.Visible.Add(at.Shape(), 1)
					}
					if c.Tallies() {
						want.Tallies++
					}
					return true
				})
				for at, n := range counts {
					if got, _ := s.counted.Get(at); got != n {
						t.Fatalf("%q counts %v, a scan finds %v", at, got, n)
					}
				}
				got := s.summary(key)
				if got.Tallies != want.Tallies || !slices.Equal(got.Visible, want.Visible) {
					t.Fatalf("summary of %q: %v, a scan finds %v", key, got, want)
				}
			}
		}
	})
}

// drawContext draws a context and the set of dots that it must hold.
func drawContext(t *rapid.T) (Context, map[Dot]bool) {
	var c Context
	held := map[Dot]bool{}
	for range rapid.IntRange(0, 30).Draw(t, "dots") {
		d := Dot{
			Replica: ReplicaID(rapid.IntRange(1, 3).Draw(t, "replica")),
			Counter: uint64(rapid.IntRange(1, 12).Draw(t, "counter")),
		}
		c.add(d)
		held[d] = true
	}
	return c, held
}

func checkContext(t *rapid.T, c *Context, held map[Dot]bool) {
	t.Helper()
	for r := ReplicaID(0); r <= 4; r++ {
		for n := uint64(0); n <= 14; n++ {
			if d := (Dot{Replica: r, Counter: n}); c.Has(d) != held[d] {
				t.Fatalf("has %v: %v, want %v", d, c.Has(d), held[d])
			}
		}
	}
	vector := c.Vector()
	for _, d := range c.Exceptions() {
		if d.Counter <= vector[d.Replica]+1 {
			t.Fatalf("exception %v belongs into the vector %v", d, vector)
		}
	}
	for r, n := range vector {
		if n == 0 {
			t.Fatalf("vector has zero for %v", r)
		}
	}
}

func TestContextHoldsExactlyTheDotsAddedAndMerged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, inA := drawContext(t)
		b, inB := drawContext(t)
		c, inC := drawContext(t)
		checkContext(t, &a, inA)
		union := maps.Clone(inA)
		maps.Copy(union, inB)
		ab, ba := a.Clone(), b.Clone()
		ab.Merge(&b)
		ba.Merge(&a)
		checkContext(t, ab, union)
		if !ab.Equal(ba) {
			t.Fatalf("merge is not commutative: %v, %v", ab, ba)
		}
		bc := b.Clone()
		bc.Merge(&c)
		left, right := ab.Clone(), a.Clone()
		left.Merge(&c)
		right.Merge(bc)
		maps.Copy(union, inC)
		checkContext(t, left, union)
		if !left.Equal(right) {
			t.Fatalf("merge is not associative: %v, %v", left, right)
		}
		again := left.Clone()
		again.Merge(left)
		if !again.Equal(left) {
			t.Fatalf("merge is not idempotent: %v, %v", again, left)
		}
	})
}
