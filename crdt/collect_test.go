package crdt

import (
	"fmt"
	"slices"
	"testing"

	"github.com/peerd/peerd/internal/dotted"
)

// starts are histories in which hosts begin anew: under ids of their own, after they have said that
// the one before has ended, or after a crash, with what their disks hold then.
type starts struct {
	*history
	end  map[ReplicaID]int // the event by which an id ended
	next ReplicaID
	disk []*State
	kept []eventSet // what the disks have seen
	mild func(dotted.Tx) dotted.Tx

	counted
}

// counted is what hosts count on: how they do, what each must read, and how to remove it.
type counted struct {
	draw  func(choose chooser) action
	check func(h *history, i int) string
	reset action
}

var onCounter = counted{drawCount, (*history).checkCount,
	resetting("reset", func(tx dotted.Tx) error { return second(fieldsOf(tx).Counter("hits").Clear()) })}

func newStarts(h *history, on counted) *starts {
	s := &starts{history: h, end: map[ReplicaID]int{}, disk: make([]*State, len(h.states)),
		kept: slices.Clone(h.seen), mild: h.wrap, counted: on}
	for i := range h.states {
		s.next++
		h.ids = append(h.ids, s.next)
		s.disk[i] = h.states[i].Clone()
	}
	return s
}

// endsSeen is a transaction that sees which replicas have ended.
type endsSeen struct {
	dotted.Tx
	starts *starts
	at     int
}

func (e endsSeen) Ended(id ReplicaID) bool {
	event, ended := e.starts.end[id]
	return ended && e.starts.seen[e.at].has(event)
}

// actAt is act for a transaction that sees which replicas have ended.
func (s *starts) actAt(i int, a action) error {
	s.wrap = func(tx dotted.Tx) dotted.Tx {
		tx = endsSeen{tx, s, i}
		if s.mild != nil {
			tx = s.mild(tx)
		}
		return tx
	}
	return s.act(i, a)
}

// restart has host i go on under another id.
func (s *starts) restart(i int, clean bool) error {
	id := s.ids[i]
	if clean {
		if err := s.actAt(i, action{trace: "ends", do: func(dotted.Tx) error { return nil }}); err != nil {
			return err
		}
		if len(s.events) < maxEvents {
			s.end[id] = len(s.events) - 1
		}
		s.sync(i)
	} else {
		s.note("r%d crashes", i)
		s.states[i], s.seen[i] = s.disk[i].Clone(), s.kept[i]
	}
	s.next++
	s.ids[i] = s.next
	return nil
}

func (s *starts) sync(i int) { s.disk[i], s.kept[i] = s.states[i].Clone(), s.seen[i] }

func (s *starts) step() (touched int, err error) {
	i := s.choose.Intn(len(s.states))
	switch q := s.choose.Intn(24); {
	case q < 10:
		return i, s.actAt(i, s.draw(s.choose))
	case q < 15:
		s.mergeWhole(i, s.choose.Intn(len(s.states)))
	case q < 19:
		s.deliver(i)
	case q < 20:
		s.sync(i)
	case q < 21:
		return i, s.restart(i, s.choose.Intn(3) > 0)
	default:
		return i, s.collect(i)
	}
	return i, nil
}

func (s *starts) collect(i int) error {
	return s.actAt(i, action{trace: "collects", do: func(tx dotted.Tx) error {
		var cells []dotted.Address
		err := tx.Scan("", "", func(a dotted.Address, _ dotted.Cell) bool {
			cells = append(cells, a)
			return true
		})
		for _, a := range cells {
			if err == nil {
				_, err = collect(tx, a)
			}
		}
		return err
	}})
}

func (on counted) startsTrial(h *history, steps int) string {
	s := newStarts(h, on)
	for range steps {
		i, err := s.step()
		if err != nil {
			return err.Error()
		}
		if why := s.check(s.history, i); why != "" {
			return why
		}
	}
	s.syncAll()
	if len(s.events)+2*len(s.states)+1 > maxEvents {
		return ""
	}
	return s.checkEmptied()
}

// checkEmptied has one replica remove what was counted, and all collect. What is left is of ids that have
// crashed.
func (s *starts) checkEmptied() string {
	err := s.actAt(0, s.reset)
	for i := range s.states {
		s.mergeWhole(i, 0)
		if err == nil {
			err = s.collect(i)
		}
	}
	if err != nil {
		return err.Error()
	}
	s.syncAll()
	for i, state := range s.states {
		if why := s.check(s.history, i); why != "" {
			return "after the last sync " + why
		}
		why := ""
		state.scan("", "", func(a dotted.Address, c dotted.Cell) bool {
			for _, e := range c {
				owner, ok := a.BaselineOwner(e)
				if _, ended := s.end[owner]; !ok || ended || slices.Contains(s.ids, owner) {
					why = fmt.Sprintf("r%d has a baseline for %v after the reset", i, owner)
				}
			}
			return true
		})
		if why != "" {
			return why
		}
	}
	return ""
}

func TestCollectingBaselinesLeavesCountsAsTheyAre(t *testing.T) {
	runHistories(t, 5_000, onCounter.startsTrial, true)
}

// hasty is a transaction to which ids seem to have ended that have not.
type hasty struct {
	dotted.Tx
	ended func(id ReplicaID) bool
}

func (h hasty) Ended(id ReplicaID) bool { return h.ended(id) }

// Whoever collects more breaks counts.
func TestCounterBreaksIfBaselinesAreCollectedEarly(t *testing.T) {
	for _, variant := range []struct {
		name  string
		ended func(s *starts, id ReplicaID) bool
		least int // failures in 2,000 histories
	}{
		{"of every id", func(*starts, ReplicaID) bool { return true }, 100},
		{"of every id that is no host's any more",
			func(s *starts, id ReplicaID) bool { return !slices.Contains(s.ids, id) }, 5},
		{"of ids whose end somebody else has seen",
			func(s *starts, id ReplicaID) bool { _, ended := s.end[id]; return ended }, 5},
	} {
		failed, shortest := countFailures(2_000, func(h *history, steps int) string {
			s := newStarts(h, onCounter)
			for range steps {
				s.mild = func(tx dotted.Tx) dotted.Tx {
					return hasty{tx, func(id ReplicaID) bool { return variant.ended(s, id) }}
				}
				at, err := s.step()
				if err != nil {
					return err.Error()
				}
				if why := s.check(s.history, at); why != "" {
					return why
				}
			}
			return ""
		}, true, nil)
		t.Logf("%s: %d of 2000 broke, as this one:\n%s", variant.name, failed, shortest.report)
		if failed < variant.least && *replaySeed < 0 {
			t.Errorf("%s: only %d of 2000 broke: does the oracle look?", variant.name, failed)
		}
	}
}
