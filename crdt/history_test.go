package crdt

import (
	"flag"
	"fmt"
	"math/bits"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// This file is a random history of replicas that write, merge whole states and exchange deltas,
// and the oracle that says what each must read: not from dots and contexts, but from which action
// had been seen by which. An action's effect on a cell is live until one that had seen it removed
// it.

var replaySeed = flag.Int64("seed", -1, "run only this seed of the tests that draw histories")

// chooser draws from [0, n): a *rand.Rand, or rapid.
type chooser interface{ Intn(n int) int }

// action is one transaction and what it is meant to do.
type action struct {
	trace string
	do    func(tx dotted.Tx) error

	cell  dotted.Address // the cell that it affects; "" for none
	text  string         // what it writes there
	adds  int64          // what it adds there
	write bool           // whether it writes text
	count bool           // whether it counts adds

	clears      dotted.Address // the prefix of cells of which it removes what it sees
	keepsShares bool           // but not increments
	keepsTexts  bool           // but not texts
}

type eventSet uint64

func (s eventSet) has(i int) bool { return s&(1<<i) != 0 }

// event is an action that happened.
type event struct {
	action
	replica int
	time    dotted.Time
	dot     Dot
	saw     eventSet // the events in the state that it acted on
	delta   *State
}

// history is a run. In a causal one deltas are delivered after everything that they saw, as a
// database does; else in any order and with losses, until syncAll.
type history struct {
	choose chooser
	causal bool
	states []*State
	ids    []ReplicaID // that they write under; nil: 1, 2 and so on
	seen   []eventSet
	events []event
	trace  []string
	wrap   func(dotted.Tx) dotted.Tx // to break something on purpose
}

func newHistory(choose chooser, replicas int, causal bool) *history {
	h := &history{choose: choose, causal: causal, seen: make([]eventSet, replicas)}
	for range replicas {
		h.states = append(h.states, NewState())
	}
	return h
}

const maxEvents = 63 // of one history, as an eventSet holds them

// epochStart is the wall clock of the tests.
var epochStart = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// act runs an action at replica i, at a time that may be before those of what it saw.
func (h *history) act(i int, a action) error {
	if len(h.events) == maxEvents {
		return nil
	}
	id := ReplicaID(i + 1)
	if h.ids != nil {
		id = h.ids[i]
	}
	now := epochStart.Add(time.Duration(h.choose.Intn(4)) * time.Millisecond)
	before := h.states[i].Context()
	delta, err := h.states[i].update(id, now, func(tx dotted.Tx) error {
		if h.wrap != nil {
			tx = h.wrap(tx)
		}
		return a.do(tx)
	})
	if err != nil {
		return fmt.Errorf("r%d %s: %w", i, a.trace, err)
	}
	first := Dot{Replica: id, Counter: before.next(id)}
	h.note("r%d %s at %d ms", i, a.trace, now.Sub(epochStart).Milliseconds())
	e := event{a, i, dotted.TimeAt(now), first, h.sawOf(i), delta}
	h.seen[i] |= 1 << len(h.events)
	h.events = append(h.events, e)
	return nil
}

// sawOf returns what an action at replica i sees. Who sees a share sees all increments in it,
// those too whose own deltas were lost.
func (h *history) sawOf(i int) eventSet {
	saw := h.seen[i]
	if h.causal {
		return saw
	}
	for n, e := range h.events {
		if !e.count || !saw.has(n) {
			continue
		}
		for m, earlier := range h.events[:n] {
			if earlier.count && earlier.replica == e.replica && earlier.cell == e.cell {
				saw |= 1 << m
			}
		}
	}
	return saw
}

// mergeWhole merges the state of j into that of i.
func (h *history) mergeWhole(i, j int) {
	if i == j {
		return
	}
	h.note("r%d <- r%d", i, j)
	h.states[i].Merge(h.states[j])
	h.seen[i] |= h.seen[j]
}

// deliver merges the delta of some event into i, if it is its turn.
func (h *history) deliver(i int) {
	if len(h.events) == 0 {
		return
	}
	n := h.choose.Intn(len(h.events))
	if h.causal && h.events[n].saw&^h.seen[i] != 0 {
		return
	}
	h.note("r%d <- delta of %d", i, n)
	h.states[i].Merge(h.events[n].delta)
	h.seen[i] |= 1 << n
}

// deliverTwo merges two deltas into one, and that into i.
func (h *history) deliverTwo(i int) {
	if len(h.events) == 0 {
		return
	}
	n, m := h.choose.Intn(len(h.events)), h.choose.Intn(len(h.events))
	both := eventSet(1<<n | 1<<m)
	if h.causal && (h.events[n].saw|h.events[m].saw)&^(h.seen[i]|both) != 0 {
		return
	}
	h.note("r%d <- deltas of %d and %d as one", i, n, m)
	group := h.events[n].delta.Clone()
	group.Merge(h.events[m].delta)
	h.states[i].Merge(group)
	h.seen[i] |= both
}

// step lets one random thing happen; draw makes the action for a replica.
func (h *history) step(draw func(choose chooser) action) (touched int, err error) {
	i := h.choose.Intn(len(h.states))
	switch q := h.choose.Intn(12); {
	case q < 5:
		return i, h.act(i, draw(h.choose))
	case q < 7:
		h.mergeWhole(i, h.choose.Intn(len(h.states)))
	case q < 8:
		h.deliverTwo(i)
	default:
		h.deliver(i)
	}
	return i, nil
}

// syncAll merges everything everywhere.
func (h *history) syncAll() {
	for range 2 {
		for i := range h.states {
			h.mergeWhole(0, i)
			h.mergeWhole(i, 0)
		}
	}
}

func (h *history) note(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

// live returns the events seen by replica i whose effect on their cell is not removed.
func (h *history) live(i int) []event {
	var live []event
	for n, e := range h.events {
		if h.seen[i].has(n) && e.cell != "" && !h.removed(i, n) {
			live = append(live, e)
		}
	}
	return live
}

func (h *history) removed(i, n int) bool {
	e := &h.events[n]
	for seen := uint64(h.seen[i]); seen != 0; seen &= seen - 1 {
		x := &h.events[bits.TrailingZeros64(seen)]
		switch {
		case x.clears == "" || !x.saw.has(n):
		case e.count && x.keepsShares, e.write && x.keepsTexts:
		case strings.HasPrefix(string(e.cell), string(x.clears)):
			return true
		}
	}
	return false
}

// reading is what the oracle says of a cell.
type reading struct {
	Texts  []string // of concurrent writes, latest last
	Total  int64    // of increments
	Counts bool     // whether there are any
}

// readings returns what replica i must read, by cell.
func (h *history) readings(i int) map[dotted.Address]reading {
	live := h.live(i)
	slices.SortFunc(live, func(a, b event) int {
		if a.time != b.time {
			return int(a.time.Wall().Sub(b.time.Wall()))
		}
		return a.dot.Compare(b.dot)
	})
	out := map[dotted.Address]reading{}
	for _, e := range live {
		r := out[e.cell]
		if e.write {
			r.Texts = append(r.Texts, e.text)
		}
		r.Total += e.adds
		r.Counts = r.Counts || e.count
		out[e.cell] = r
	}
	return out
}

// runHistories runs trial with many seeds and reports the shortest trace among the first failures.
// trial returns what went wrong, or "".
func runHistories(t *testing.T, runs int, trial func(h *history, steps int) string, causal bool) {
	t.Helper()
	if testing.Short() || raceEnabled {
		runs /= 10
	}
	failed, worst := countFailures(runs, trial, causal, nil)
	if failed > 0 {
		t.Fatalf("%d of %d histories failed; the shortest:\n%s\n"+
			"replay: go test ./crdt -run '^%s$' -seed %d",
			failed, runs, worst.report, t.Name(), worst.seed)
	}
}

type failure struct {
	seed   int64
	length int
	report string
}

func countFailures(
	runs int, trial func(h *history, steps int) string, causal bool, wrap func(dotted.Tx) dotted.Tx,
) (failed int, shortest failure) {
	for seed := int64(0); seed < int64(runs); seed++ {
		if *replaySeed >= 0 && seed != *replaySeed {
			continue
		}
		h := newHistory(rand.New(rand.NewSource(seed)), 3+int(seed%2), causal)
		h.wrap = wrap
		why := trial(h, 8+int(seed%52))
		if why == "" {
			continue
		}
		failed++
		if shortest.report == "" || len(h.trace) < shortest.length {
			report := fmt.Sprintf("  %s\n=> %s", strings.Join(h.trace, "\n  "), why)
			shortest = failure{seed, len(h.trace), report}
		}
	}
	return failed, shortest
}
