package crdt

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
)

// streams is a random history of replicas that add to one stream, read it as a group and merge
// whole states, and what each of them has seen: what was added, and removed, and delivered.
type streams struct {
	*rand.Rand
	states  []*State
	seen    []map[int]streamFate // by replica, of each entry that it has seen
	ids     []StreamID           // of entries, by the number that they hold
	got     map[int]bool         // what anybody was given
	removes bool                 // whether the key is removed now and then, and the group set back
	trace   []string
}

type streamFate struct{ removed, delivered bool }

func newStreams(seed int64) *streams {
	h := &streams{Rand: rand.New(rand.NewSource(seed)), got: map[int]bool{}, removes: seed%3 == 0}
	for range 2 + h.Intn(3) {
		h.states = append(h.states, NewState())
		h.seen = append(h.seen, map[int]streamFate{})
	}
	return h
}

// update runs fn at replica i, with times that clocks disagree on.
func (h *streams) update(i int, fn func(s Stream, now time.Time) error) error {
	now := epochStart.Add(time.Duration(h.Intn(5)) * time.Millisecond)
	_, err := h.states[i].Update(ReplicaID(i+1), now, func(f Fields) error { return fn(f.Stream("s"), now) })
	return err
}

func (h *streams) step() error {
	i := h.Intn(len(h.states))
	switch h.Intn(12) {
	case 0, 1, 2:
		return h.add(i)
	case 3:
		return h.remove(i)
	case 4, 5, 6:
		j := h.Intn(len(h.states))
		h.note("r%d <- r%d", i, j)
		h.states[i].Merge(h.states[j])
		for n, fate := range h.seen[j] {
			mine := h.seen[i][n]
			h.seen[i][n] = streamFate{mine.removed || fate.removed, mine.delivered || fate.delivered}
		}
	case 7, 8:
		return h.read(i, h.Intn(3))
	case 9:
		return h.update(i, func(s Stream, now time.Time) error {
			for p := range s.Group("g").Pending(StreamID{}, MaxStreamID) {
				return second(s.Group("g").Ack(p.ID))
			}
			return nil
		})
	case 10:
		return h.unsettle(i)
	}
	return nil
}

func (h *streams) add(i int) error {
	n := len(h.ids)
	id := StreamID{uint64(1 + h.Intn(4)), uint64(h.Intn(3))}
	made := h.Intn(2) == 0
	err := h.update(i, func(s Stream, now time.Time) (err error) {
		if made {
			id, err = s.Add(now, "n", strconv.Itoa(n))
			return err
		}
		id.Ms += s.Info().Last.Ms
		return s.AddAs(id, "n", strconv.Itoa(n))
	})
	h.note("r%d adds %d as %v", i, n, id)
	h.ids = append(h.ids, id)
	h.seen[i][n] = streamFate{}
	return err
}

func (h *streams) remove(i int) error {
	return h.update(i, func(s Stream, now time.Time) error {
		var gone []StreamID
		if h.Intn(2) == 0 {
			for e := range s.Range(StreamID{}, MaxStreamID) {
				if gone = append(gone, e.ID); h.Intn(2) == 0 {
					break
				}
			}
			gone = slices.Compact(gone)
			n, err := s.RemoveFirst(len(gone))
			if n != len(gone) {
				return fmt.Errorf("%d of the first %d were removed", n, len(gone))
			}
			h.removed(i, gone)
			return err
		}
		for e := range s.Backward(StreamID{}, MaxStreamID) {
			if h.Intn(2) == 0 {
				gone = append(gone, e.ID)
				break
			}
		}
		h.removed(i, gone)
		return second(s.Remove(gone...))
	})
}

func (h *streams) removed(i int, ids []StreamID) {
	h.note("r%d removes %v", i, ids)
	for n := range h.seen[i] {
		if slices.Contains(ids, h.ids[n]) {
			h.seen[i][n] = streamFate{removed: true}
		}
	}
}

// unsettle removes everything, or sets the group back, if the history is one in which that happens.
func (h *streams) unsettle(i int) error {
	if !h.removes || h.Intn(3) > 0 {
		return nil
	}
	if h.Intn(2) == 0 {
		h.note("r%d sets the group back", i)
		return h.update(i, func(s Stream, _ time.Time) error {
			if err := s.Group("g").SetID(GroupInfo{}); !errors.Is(err, ErrNoGroup) {
				return err
			}
			return nil
		})
	}
	h.removed(i, h.ids)
	return h.update(i, func(s Stream, _ time.Time) error { return second(s.Clear()) })
}

// read reads at replica i as a group that begins with everything.
func (h *streams) read(i, most int) error {
	return h.update(i, func(s Stream, now time.Time) error {
		if _, err := s.Group("g").Create(GroupInfo{}); err != nil {
			return err
		}
		entries, err := s.Group("g").Read("c"+strconv.Itoa(i), now, most, false)
		if !slices.IsSortedFunc(entries, func(a, b StreamEntry) int { return a.ID.Compare(b.ID) }) {
			return fmt.Errorf("delivered out of order: %v", entries)
		}
		h.note("r%d is given %v of at most %d", i, entries, most)
		for _, e := range entries {
			n, _ := strconv.Atoi(e.Fields[1])
			fate, known := h.seen[i][n]
			if !known || fate.removed || fate.delivered && !h.removes {
				return fmt.Errorf("r%d is given %d again, or what it has not", i, n)
			}
			if _, pending := s.Group("g").PendingOf(e.ID); !pending {
				return fmt.Errorf("%v was delivered and is not pending", e.ID)
			}
			h.seen[i][n], h.got[n] = streamFate{delivered: true}, true
		}
		if most == 0 {
			return h.lacking(i)
		}
		return err
	})
}

// lacking returns an error if replica i has an entry that nobody was ever given.
func (h *streams) lacking(i int) error {
	for n, fate := range h.seen[i] {
		if !fate.removed && !h.got[n] {
			return fmt.Errorf("r%d passed over %d", i, n)
		}
	}
	return nil
}

// check compares what replica i reads with what it has seen.
func (h *streams) check(i int) error {
	s := h.states[i].View().Stream("s")
	var want []int
	ids := map[StreamID]bool{}
	for n, fate := range h.seen[i] {
		if !fate.removed {
			want, ids[h.ids[n]] = append(want, n), true
		}
	}
	slices.Sort(want)
	var got []int
	forth := slices.Collect(s.Range(StreamID{}, MaxStreamID))
	for _, e := range forth {
		n, _ := strconv.Atoi(e.Fields[1])
		got = append(got, n)
		if h.ids[n] != e.ID {
			return fmt.Errorf("%d has the id %v, not %v", n, e.ID, h.ids[n])
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || s.Len() != len(ids) {
		return fmt.Errorf("r%d has %v, %d ids, want %v, %d", i, got, s.Len(), want, len(ids))
	}
	for e := range s.Range(StreamID{}, MaxStreamID) {
		less := 0
		for id := range ids {
			if id.Compare(e.ID) < 0 {
				less++
			}
		}
		if n := s.Before(e.ID); n != less {
			return fmt.Errorf("r%d has %d ids before %v, want %d", i, n, e.ID, less)
		}
	}
	back := slices.Collect(s.Backward(StreamID{}, MaxStreamID))
	slices.Reverse(back)
	compare := func(a, b StreamEntry) int { return cmp.Or(a.ID.Compare(b.ID), cmp.Compare(a.Fields[1], b.Fields[1])) }
	if !slices.IsSortedFunc(forth, func(a, b StreamEntry) int { return a.ID.Compare(b.ID) }) {
		return fmt.Errorf("out of order: %v", forth)
	}
	slices.SortFunc(forth, compare)
	slices.SortFunc(back, compare)
	if fmt.Sprint(forth) != fmt.Sprint(back) {
		return fmt.Errorf("forth %v, back %v", forth, back)
	}
	return nil
}

func (h *streams) note(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

// settle has everybody know everything.
func (h *streams) settle() {
	all := map[int]streamFate{}
	whole := merged(h.states...)
	for _, seen := range h.seen {
		for n, fate := range seen {
			all[n] = streamFate{all[n].removed || fate.removed, all[n].delivered || fate.delivered}
		}
	}
	for i := range h.states {
		h.states[i].Merge(whole)
		h.seen[i] = maps.Clone(all)
	}
}

func streamTrial(h *streams, steps int) error {
	for range steps {
		if err := h.step(); err != nil {
			return err
		}
		if err := h.check(h.Intn(len(h.states))); err != nil {
			return err
		}
	}
	h.settle()
	for i := range h.states {
		if err := h.check(i); err != nil {
			return err
		}
		if !h.states[i].Equal(h.states[0]) {
			return fmt.Errorf("r%d and r0 differ in the end", i)
		}
	}
	return h.read(h.Intn(len(h.states)), 0)
}

func TestAGroupSkipsNothingAndEveryReplicaReadsTheSame(t *testing.T) {
	runs := int64(1500)
	if testing.Short() || raceEnabled {
		runs /= 10
	}
	for seed := range runs {
		if *replaySeed >= 0 && seed != *replaySeed {
			continue
		}
		h := newStreams(seed)
		if err := streamTrial(h, 8+int(seed%60)); err != nil {
			t.Fatalf("seed %d: %v\n%q", seed, err, h.trace)
		}
	}
}

// inStream changes a stream of a state.
func inStream(t *testing.T, s *State, r ReplicaID, fn func(s Stream) error) *State {
	t.Helper()
	delta, err := s.Update(r, epochStart, func(f Fields) error { return fn(f.Stream("s")) })
	if err != nil {
		t.Fatal(err)
	}
	return delta
}

// twoReaders returns two replicas of a stream with the entries 1-0 to 3-0, of which ann was given
// the first.
func twoReaders(t *testing.T) (a, b *State) {
	a = NewState()
	inStream(t, a, 1, func(s Stream) error {
		for ms := uint64(1); ms <= 3; ms++ {
			if err := s.AddAs(StreamID{ms, 0}, "f", "v"); err != nil {
				return err
			}
		}
		if _, err := s.Group("g").Create(GroupInfo{}); err != nil {
			return err
		}
		return second(s.Group("g").Read("ann", epochStart, 1, false))
	})
	return a, a.Clone()
}

// both merges both, and returns how the stream's group reads then.
func both(t *testing.T, a, b *State) (Group, []Pending) {
	t.Helper()
	a.Merge(b)
	b.Merge(a)
	if !a.Equal(b) {
		t.Fatal("the two differ")
	}
	g := a.View().Stream("s").Group("g")
	return g, slices.Collect(g.Pending(StreamID{}, MaxStreamID))
}

func TestWhatIsClaimedWhileItIsAcknowledgedIsPendingForTheClaimer(t *testing.T) {
	a, b := twoReaders(t)
	inStream(t, a, 1, func(s Stream) error { return second(s.Group("g").Ack(StreamID{1, 0})) })
	inStream(t, b, 2, func(s Stream) error {
		p, _ := s.Group("g").PendingOf(StreamID{1, 0})
		return s.Group("g").Assign("bob", epochStart.Add(time.Second), []Pending{p})
	})
	if _, pending := both(t, a, b); len(pending) != 1 || pending[0].Consumer != "bob" {
		t.Errorf("pending: %v", pending)
	}
}

func TestWhatTwoReplicasDeliverAtOnceIsPendingForTheLater(t *testing.T) {
	a, b := twoReaders(t)
	inStream(t, a, 1, func(s Stream) error {
		return second(s.Group("g").Read("ann", epochStart.Add(time.Second), 2, false))
	})
	inStream(t, b, 2, func(s Stream) error { return second(s.Group("g").Read("bob", epochStart, 1, false)) })
	_, pending := both(t, a, b)
	if len(pending) != 3 || pending[1].Consumer != "ann" || pending[2].Consumer != "ann" {
		t.Errorf("pending: %v", pending)
	}
}

// TestAGroupWithinLimitsReadsAllOrNothing: also where what was delivered stands between what was not.
func TestAGroupWithinLimitsReadsAllOrNothing(t *testing.T) {
	a, b := twoReaders(t)
	for i := range 20 {
		inStream(t, b, 2, func(s Stream) error { return s.AddAs(StreamID{Ms: uint64(10 + i)}, "f", "v") })
	}
	a.Merge(b)
	inStream(t, a, 1, func(s Stream) error { return second(s.Group("g").Read("ann", epochStart, 0, false)) })
	late := NewState()
	inStream(t, late, 3, func(s Stream) error { return s.AddAs(StreamID{Ms: 9}, "f", "late") })
	inStream(t, late, 3, func(s Stream) error { return s.AddAs(StreamID{Ms: 40}, "f", "late") })
	a.Merge(late)
	inStream(t, a, 1, func(s Stream) error {
		g := s.Group("g")
		for _, limits := range [][2]int{{24, 1000}, {100, 8}} {
			entries, err := g.Within(limits[0], limits[1]).Read("ann", epochStart, 0, false)
			if !errors.Is(err, ErrBeyond) || len(entries) > 0 {
				t.Errorf("within %v: %v, %v", limits, entries, err)
			}
		}
		entries, err := g.Within(25, 1000).Read("ann", epochStart, 0, false)
		if len(entries) != 2 {
			t.Errorf("then: %v", entries)
		}
		return err
	})
}

func TestAConsumerOfAGroupWithinLimitsIsRemovedWithAllOrNot(t *testing.T) {
	a, _ := twoReaders(t)
	inStream(t, a, 1, func(s Stream) error {
		g := s.Group("g")
		if _, err := g.Read("bob", epochStart, 0, false); err != nil {
			return err
		}
		for _, name := range []string{"ann", "bob"} { // others' are looked at, too
			if n, err := g.Within(2, 0).RemoveConsumer(name); n != 0 || !errors.Is(err, ErrBeyond) || !g.HasConsumer(name) {
				t.Errorf("%s, within two of three: %d, %v", name, n, err)
			}
		}
		n, err := g.Within(3, 0).RemoveConsumer("bob")
		left := slices.Collect(g.Pending(StreamID{}, MaxStreamID))
		if n != 2 || g.HasConsumer("bob") || len(left) != 1 || left[0].Consumer != "ann" {
			t.Errorf("bob had %d, and left %v", n, left)
		}
		return err
	})
}

// wantDeliveredAgain has a consumer at b be given all while a has set the group's id, and fails if a does not give all again.
func wantDeliveredAgain(t *testing.T, a, b *State) {
	t.Helper()
	inStream(t, b, 2, func(s Stream) error { return second(s.Group("g").Read("bob", epochStart, 0, false)) })
	both(t, a, b)
	inStream(t, a, 1, func(s Stream) error {
		entries, err := s.Group("g").Read("ann", epochStart, 0, false)
		if len(entries) != 3 {
			t.Errorf("delivered again: %v", entries)
		}
		return err
	})
}

func TestSetIDCountsAgainstWhatIsDeliveredAtTheSameTime(t *testing.T) {
	a, b := twoReaders(t)
	inStream(t, a, 1, func(s Stream) error { return s.Group("g").SetID(GroupInfo{}) })
	wantDeliveredAgain(t, a, b)
}

// Also if an earlier one had a clock ahead of this, or the same time.
func TestASecondSetIDCountsAgainstWhatIsDeliveredAtTheSameTime(t *testing.T) {
	a, b := twoReaders(t)
	inStream(t, a, 1, func(s Stream) error { return s.Group("g").SetID(GroupInfo{}) })
	b.Merge(a)
	inStream(t, a, 1, func(s Stream) error { return s.Group("g").SetID(GroupInfo{}) })
	wantDeliveredAgain(t, a, b)
}

// A consumer whose name is refused has nothing, though the transaction goes on.
func TestWhoCannotBeAConsumerIsGivenNothing(t *testing.T) {
	a, _ := twoReaders(t)
	inStream(t, a, 1, func(s Stream) error {
		_, err := s.Group("g").Read(strings.Repeat("x", MaxName+1), epochStart, 0, false)
		if !errors.Is(err, ErrTooLong) {
			t.Errorf("the error is %v", err)
		}
		return nil
	})
	g := a.View().Stream("s").Group("g")
	if pending := slices.Collect(g.Pending(StreamID{}, MaxStreamID)); len(pending) != 1 || pending[0].Consumer != "ann" {
		t.Errorf("pending: %v", pending)
	}
}

func TestAGroupThatDeliversWhileItIsRemovedStaysWithThat(t *testing.T) {
	a, b := twoReaders(t)
	inStream(t, a, 1, func(s Stream) error { return second(s.Group("g").Remove()) })
	inStream(t, b, 2, func(s Stream) error { return second(s.Group("g").Read("bob", epochStart, 1, false)) })
	g, pending := both(t, a, b)
	if !g.Exists() || len(pending) != 1 || pending[0].Consumer != "bob" || g.HasConsumer("ann") {
		t.Errorf("it exists: %v, pending: %v", g.Exists(), pending)
	}
	inStream(t, a, 1, func(s Stream) error {
		entries, err := s.Group("g").Read("bob", epochStart, 0, false)
		if len(entries) != 1 || entries[0].ID != (StreamID{3, 0}) {
			t.Errorf("read then: %v", entries)
		}
		return err
	})
}

func TestACopyOfAStreamHasItsGroupsAndSkipsNothing(t *testing.T) {
	a, b := twoReaders(t)
	inStream(t, b, 2, func(s Stream) error { return s.AddAs(StreamID{4, 0}, "f", "late") })
	inStream(t, a, 1, func(s Stream) error {
		if err := s.AddAs(StreamID{5, 0}, "f", "v"); err != nil {
			return err
		}
		return second(s.Group("g").Read("ann", epochStart, 0, false))
	})
	a.Merge(b)
	if _, err := a.Update(1, epochStart, func(f Fields) error { return second(f.Copy("s", "copy")) }); err != nil {
		t.Fatal(err)
	}
	view := a.View()
	if got, want := view.handle("copy", TypeStream).appendJSON(nil), view.handle("s", TypeStream).appendJSON(nil); string(got) != string(want) {
		t.Errorf("the copy is %s, want %s", got, want)
	}
	from, copied := view.Stream("s"), view.Stream("copy")
	if from.Info() != copied.Info() {
		t.Errorf("the copy says %v, want %v", copied.Info(), from.Info())
	}
	want := slices.Collect(from.Group("g").Pending(StreamID{}, MaxStreamID))
	got := slices.Collect(copied.Group("g").Pending(StreamID{}, MaxStreamID))
	if !slices.Equal(got, want) || len(got) != 4 || !copied.Group("g").HasConsumer("ann") {
		t.Errorf("pending in the copy: %v, want %v", got, want)
	}
	if _, err := a.Update(1, epochStart, func(f Fields) error {
		entries, err := f.Stream("copy").Group("g").Read("bob", epochStart, 0, false)
		if len(entries) != 2 || entries[0].Fields[1] != "late" {
			t.Errorf("read of the copy: %v", entries)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAnEntryWithoutFieldsIsCopied(t *testing.T) {
	a := NewState()
	inStream(t, a, 1, func(s Stream) error { return s.AddAs(StreamID{4, 0}) })
	if _, err := a.Update(1, epochStart, func(f Fields) error { return second(f.Copy("s", "copy")) }); err != nil {
		t.Fatal(err)
	}
	if copied := a.View().Stream("copy"); copied.Len() != 1 || !copied.Has(StreamID{4, 0}) {
		t.Errorf("the copy has %d entries", copied.Len())
	}
}

// endedTx is a transaction that sees that a replica has ended.
type endedTx struct {
	dotted.Tx
	ended ReplicaID
}

func (e endedTx) Ended(id ReplicaID) bool { return id == e.ended }

func TestWhatIsKnownOfAReplicaThatEndedGoesWithItsLastEntry(t *testing.T) {
	a, _ := twoReaders(t)
	inStream(t, a, 2, func(s Stream) error { return s.AddAs(StreamID{9, 0}, "f", "v") })
	ids := []StreamID{{1, 0}, {2, 0}, {3, 0}}
	for n, tails := range map[int]int{2: 2, 3: 1} {
		first, byID := a.View().Stream("s").Info(), a.View().Stream("s").Info()
		byID.MaxDeleted = ids[n-1]
		for _, test := range []struct {
			remove func(Stream) (int, error)
			want   StreamInfo
		}{
			{func(s Stream) (int, error) { return s.RemoveFirst(n) }, first},
			{func(s Stream) (int, error) { return s.Remove(ids[:n]...) }, byID},
		} {
			s := a.Clone()
			mustUpdate(t, s, 2, func(tx dotted.Tx) error {
				return second(test.remove(fieldsOf(endedTx{tx, 1}).Stream("s")))
			})
			in, _ := s.View().Stream("s").inside()
			if len(in.tails) != tails || in.info() != test.want {
				t.Errorf("after %d entries were removed: %d tails, %v; want %d, %v", n, len(in.tails), in.info(), tails,
					test.want)
			}
		}
	}
}

// TestGroupsThatTwoReplicasCreateAtOncePassOverWhatBothDo has each of two create a group behind
// what it has.
func TestGroupsThatTwoReplicasCreateAtOncePassOverWhatBothDo(t *testing.T) {
	type ids = []uint64
	at1, at2, at3, at9 := StreamID{Ms: 1}, StreamID{Ms: 2}, StreamID{Ms: 3}, StreamID{Ms: 9}
	for name, test := range map[string]struct {
		before        int // entries that both have
		more          int // entries that b adds
		first, second StreamID
		read          int // entries that b reads of its group
		want          ids
	}{
		"b's entries are not passed over":        {more: 2, second: at2, want: ids{1, 2}},
		"nor what only b has":                    {before: 2, more: 1, first: at2, second: at3, want: ids{3}},
		"what one wants all have":                {before: 2, first: StreamID{}, second: at2, want: ids{1, 2}},
		"what both pass over is":                 {before: 3, first: at2, second: at2, want: ids{3}},
		"nor what comes before an id of one":     {before: 1, more: 1, second: at9, want: ids{1, 2}},
		"what was delivered is not given again":  {before: 2, more: 2, second: at3, read: 1, want: ids{1, 2, 3}},
		"what one delivered behind a hole stays": {before: 4, second: at1, read: 2, want: ids{1, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			add := func(s Stream, from, to int) error {
				for ms := from + 1; ms <= to; ms++ {
					if err := s.AddAs(StreamID{uint64(ms), 0}, "f", "v"); err != nil {
						return err
					}
				}
				return nil
			}
			a := NewState()
			inStream(t, a, 1, func(s Stream) error { return add(s, 0, test.before) })
			b := a.Clone()
			inStream(t, a, 1, func(s Stream) error {
				return second(s.Group("g").Create(GroupInfo{Last: test.first}))
			})
			inStream(t, b, 2, func(s Stream) error {
				if err := add(s, test.before, test.before+test.more); err != nil {
					return err
				}
				return second(s.Group("g").Create(GroupInfo{Last: test.second}))
			})
			if test.read > 0 {
				inStream(t, b, 2, func(s Stream) error {
					return second(s.Group("g").Read("bob", epochStart, test.read, false))
				})
			}
			both(t, a, b)
			var got []uint64
			for range 2 { // the second time it is given nothing
				inStream(t, a, 1, func(s Stream) error {
					entries, err := s.Group("g").Read("ann", epochStart, 0, false)
					for _, e := range entries {
						got = append(got, e.ID.Ms)
					}
					return err
				})
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("it delivers %v, want %v", got, test.want)
			}
		})
	}
}

// TestAGroupThatLacksEntriesDoesNotSayThatItHasRead all of them.
func TestAGroupThatLacksEntriesDoesNotSayThatItHasRead(t *testing.T) {
	at := func(ms uint64) func(Stream) error {
		return func(s Stream) error { return s.AddAs(StreamID{ms, 0}, "f", "v") }
	}
	create := func(last uint64) func(Stream) error {
		return func(s Stream) error { return second(s.Group("g").Create(GroupInfo{StreamID{last, 0}, -1})) }
	}
	for name, test := range map[string]struct{ a, b []func(Stream) error }{
		"created twice at once": {[]func(Stream) error{create(0)}, []func(Stream) error{at(1), at(2), create(2)}},
		"one comes late":        {[]func(Stream) error{at(1)}, []func(Stream) error{at(2), create(2)}},
	} {
		a, b := NewState(), NewState()
		for _, fn := range test.a {
			inStream(t, a, 1, fn)
		}
		for _, fn := range test.b {
			inStream(t, b, 2, fn)
		}
		if lag, ok := b.View().Stream("s").Group("g").Lag(); lag != 0 || !ok {
			t.Errorf("%s: before that %d entries are to be read, %v", name, lag, ok)
		}
		g, _ := both(t, a, b)
		lag, ok := g.Lag()
		inStream(t, a, 1, func(s Stream) error {
			entries, err := s.Group("g").Read("c", epochStart, 0, false)
			if ok && lag != int64(len(entries)) {
				t.Errorf("%s: %d entries are read, and there were said to be %d", name, len(entries), lag)
			}
			return err
		})
		if lag, ok := a.View().Stream("s").Group("g").Lag(); lag != 0 || !ok {
			t.Errorf("%s: when all is read %d are, %v", name, lag, ok)
		}
	}
}

// TestWhatMarksSayJoins: in any order, in any parts, once or twice.
func TestWhatMarksSayJoins(t *testing.T) {
	draw := func(t *rapid.T) (m mark) {
		at := func(ms int) StreamID { return StreamID{uint64(ms), 0} }
		m.epoch = uint64(rapid.IntRange(1, 2).Draw(t, "epoch"))
		for range rapid.IntRange(0, 3).Draw(t, "spans") {
			after := rapid.IntRange(0, 9).Draw(t, "after")
			m = m.joined(mark{m.epoch, []span{{at(after), at(after + rapid.IntRange(0, 3).Draw(t, "ids"))}}})
		}
		return m
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw(t), draw(t), draw(t)
		same := func(x, y mark) {
			t.Helper()
			if x.epoch != y.epoch || !slices.Equal(x.spans, y.spans) {
				t.Fatalf("%v is not %v", x, y)
			}
		}
		same(a.join(b), b.join(a))
		same(a.join(b).join(c), a.join(b.join(c)))
		same(a.join(b).join(b), a.join(b))
		for ms := range uint64(14) {
			id, of := StreamID{ms, 0}, a.join(b)
			x, y := a.in(of.epoch), b.in(of.epoch)
			passed := func(m mark) bool { return id.Compare(m.spans[0].after) <= 0 }
			delivered := x.has(id) && !passed(x) || y.has(id) && !passed(y)
			if want := delivered || passed(x) && passed(y); of.has(id) != want {
				t.Fatalf("%v and %v have %v: %v, want %v", a, b, id, !want, want)
			}
		}
	})
}

// joined is join, but that no mark at all says nothing.
func (m mark) joined(o mark) mark {
	if len(m.spans) == 0 {
		return o
	}
	return m.join(o)
}

// TestAGroupSkipsNothingOfDeltasThatComeInTheOrderOfEachReplica, in whatever order among replicas.
func TestAGroupSkipsNothingOfDeltasThatComeInTheOrderOfEachReplica(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const origins, each = 3, 4
		var deltas [origins][]*State
		for i := range deltas {
			s := NewState()
			for n := range each {
				id := StreamID{uint64(1 + n*origins + rapid.IntRange(0, 2).Draw(t, "id")), uint64(i)}
				delta, err := s.Update(ReplicaID(i+1), epochStart, func(f Fields) error {
					return f.Stream("s").AddAs(id, "f", "v")
				})
				if err != nil {
					t.Fatal(err)
				}
				deltas[i] = append(deltas[i], delta)
			}
		}
		reader, got := NewState(), 0
		update := func(fn func(g Group) error) {
			if _, err := reader.Update(9, epochStart, func(f Fields) error {
				return fn(f.Stream("s").Group("g"))
			}); err != nil {
				t.Fatal(err)
			}
		}
		update(func(g Group) error { return second(g.Create(GroupInfo{})) })
		for left := origins * each; left > 0; left-- {
			i := rapid.IntRange(0, origins-1).Draw(t, "origin")
			for len(deltas[i]) == 0 {
				i = (i + 1) % origins
			}
			reader.Merge(deltas[i][0])
			if deltas[i] = deltas[i][1:]; left == 1 || rapid.Bool().Draw(t, "reads") {
				update(func(g Group) error {
					entries, err := g.Read("c", epochStart, 0, true)
					got += len(entries)
					return err
				})
			}
		}
		if got != origins*each {
			t.Fatalf("%d of %d entries are delivered", got, origins*each)
		}
	})
}

func TestAnEntryOfAFarAwayTimeHasItsID(t *testing.T) {
	mustUpdate(t, NewState(), 1, func(tx dotted.Tx) error {
		id, err := fieldsOf(tx).Stream("s").Add(time.Unix(math.MaxInt64, 0), "f", "v")
		if id.Ms != dotted.Never-1 {
			t.Errorf("it is %v", id)
		}
		return err
	})
}
