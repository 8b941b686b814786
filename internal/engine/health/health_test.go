package health

import (
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

type vector = crdt.VersionVector

// neighbour is what one is like.
type neighbour struct {
	silent, partial, apart bool
	has                    vector
}

// around is a replica's neighbours, itself, and of what its log has no deltas.
type around struct {
	of   map[gossip.NeighbourID]neighbour
	ids  []gossip.NeighbourID
	seen vector
	lost vector
}

func among(seen vector, all ...neighbour) *around {
	a := &around{of: map[gossip.NeighbourID]neighbour{}, seen: seen, lost: vector{}}
	for i, n := range all {
		id := gossip.NeighbourID(rune('a' + i))
		a.of[id], a.ids = n, append(a.ids, id)
	}
	return a
}

func (a *around) Neighbours() []gossip.NeighbourID { return a.ids }
func (a *around) Known(id gossip.NeighbourID) (vector, bool) {
	return a.of[id].has, !a.of[id].silent
}

func (a *around) Said(id gossip.NeighbourID) vector {
	if a.of[id].silent {
		return nil
	}
	return a.of[id].has
}
func (a *around) Whole(id gossip.NeighbourID) bool       { return !a.of[id].partial && !a.of[id].silent }
func (a *around) Quarantined(id gossip.NeighbourID) bool { return a.of[id].apart }
func (a *around) Lacks(v vector) bool                    { return !a.seen.Contains(v) }
func (a *around) Covers(v vector) bool                   { return v.Contains(a.lost) }

var start = time.UnixMilli(1e12)

func begun() (h Health) {
	h.Begin(true, start)
	return h
}

// TestADamagedReplicaIsDiscardedOnlyIfNothingIsLost asks for each kind of neighbour.
func TestADamagedReplicaIsDiscardedOnlyIfNothingIsLost(t *testing.T) {
	seen := vector{1: 5, 2: 3}
	all := neighbour{has: vector{1: 5, 2: 3}}
	for name, c := range map[string]struct {
		of    neighbour
		lost  vector
		sound bool
		may   bool
	}{
		"who has all of it":                      {of: all, may: true},
		"to one that is sound":                   {of: all, sound: true},
		"who has less, and the log has the rest": {of: neighbour{has: vector{1: 4}}, may: true},
		"who has less, and the log has not":      {of: neighbour{has: vector{1: 4}}, lost: vector{2: 3}},
		"who has nothing":                        {of: neighbour{}},
		"who said nothing":                       {of: neighbour{has: all.has, silent: true}},
		"who is not whole":                       {of: neighbour{has: all.has, partial: true}},
		"who is in quarantine":                   {of: neighbour{has: all.has, apart: true}},
	} {
		a := among(seen, c.of)
		a.lost = c.lost
		if _, _, may := MayDiscard(State{Damaged: !c.sound, Seen: seen}, a); may != c.may {
			t.Errorf("%s: %v, want %v", name, may, c.may)
		}
	}
	if _, _, may := MayDiscard(State{Damaged: true, Seen: vector{}}, among(vector{}, neighbour{})); !may {
		t.Error("who holds nothing gives nothing up")
	}
}

// TestARebuildEndsWhenAllHasCome goes from the discarding to the end.
func TestARebuildEndsWhenAllHasCome(t *testing.T) {
	h := begun()
	full := vector{1: 5, 2: 3}
	a := among(full, neighbour{has: vector{1: 5}}, neighbour{has: full})
	a.lost = vector{2: 3}
	h.Discard(State{Now: start, Damaged: true, Seen: full}, a)
	if h.CaughtUp || h.From != "b" || !h.Must.Equal(full) {
		t.Fatalf("caught up: %v, it relies on %q for %v", h.CaughtUp, h.From, h.Must)
	}
	s := State{Now: start, Rebuilding: true, Seen: vector{1: 5}}
	a.seen = s.Seen
	if h.Filled(s, a, true) || h.CaughtUp {
		t.Error("it ends while a neighbour has more")
	}
	s.Seen = full
	if a.seen = full; h.Filled(s, a, false) || !h.CaughtUp {
		t.Errorf("caught up: %v, or it ends where it may not", h.CaughtUp)
	}
	if !h.Filled(s, a, true) {
		t.Error("it does not end")
	}
	if h.Filled(s, a, true) || !h.Waits(s) {
		t.Error("it is tried again though nothing came")
	}
	s.Seen = vector{1: 6, 2: 3}
	if a.seen = s.Seen; !h.Filled(s, a, true) {
		t.Error("it is not tried again when more has come")
	}
	if h.End(); h.Waits(s) || len(h.Must) > 0 {
		t.Errorf("after its end it needs %v", h.Must)
	}
}

// TestARebuildDoesNotWaitForWhatWasLost has the neighbour on which it relied come back with less,
// and stay away.
func TestARebuildDoesNotWaitForWhatWasLost(t *testing.T) {
	for _, away := range []bool{false, true} {
		h := begun()
		full, less := vector{1: 5}, vector{1: 4}
		h.Discard(State{Damaged: true, Seen: full}, among(full, neighbour{has: full}))
		ends := h.Filled(State{Rebuilding: true, Seen: less}, among(less, neighbour{has: less, silent: away}, neighbour{has: less}), true)
		if ends == away {
			t.Errorf("away: %v, it ends: %v", away, ends)
		}
	}
}

// TestChecksAreNotMadeTooOften nor two at once, nor of a replica that is filled.
func TestChecksAreNotMadeTooOften(t *testing.T) {
	h, s := begun(), State{Now: start}
	if !h.BeginCheck(s, time.Minute) || h.BeginCheck(s, time.Minute) {
		t.Error("not the first, or a second beside it")
	}
	h.EndCheck(s, true)
	if s.Now = start.Add(time.Second); h.BeginCheck(s, time.Minute) || !h.BeginCheck(s, time.Second) {
		t.Error("it is made too soon, or not when it is due")
	}
	h.EndCheck(s, false)
	if s.Now = start.Add(2 * time.Second); !h.BeginCheck(s, 2*time.Second) {
		t.Error("one that found nothing out counts")
	}
	h.EndCheck(s, true)
	s.Now, s.Rebuilding = start.Add(time.Hour), true
	if h.BeginCheck(s, time.Minute) {
		t.Error("what is being filled is checked")
	}
}

// TestNobodyCanHelpIsSaidNowAndThen and not at once.
func TestNobodyCanHelpIsSaidNowAndThen(t *testing.T) {
	h, said := begun(), 0
	for i := range 180 {
		s := State{Now: start.Add(time.Duration(i) * time.Second), Damaged: i >= 30}
		if h.Helpless(s, i != 31) {
			said++
		}
		if i < 36 && said > 0 {
			t.Fatalf("it is said after %d s", i)
		}
	}
	if said != 3 {
		t.Errorf("it is said %d times in 150 s", said)
	}
}
