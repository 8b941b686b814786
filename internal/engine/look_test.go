package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// TestALookAtAllCellsTakesSteps has a host that is cut off clear what another has written to
// meanwhile, of which the other's log does not tell any more.
func TestALookAtAllCellsTakesSteps(t *testing.T) {
	const budget, members = 200, 2000
	for clear, left := range map[string]string{
		"clear": "late0 late9 set=added", "drop set": "k late0 late9 set=added",
	} {
		t.Run(clear, func(t *testing.T) {
			s := newScript(t)
			worst := 0
			s.cfg.StepWork, s.cfg.Spent = budget, func(_ string, work, _ int) { worst = max(worst, work) }
			s.hosts(&datadriven.TestData{}, []string{"2"})
			run := s.line
			stable := func() {
				run("stabilize")
				run("run 3s")
			}
			run("link 1 2")
			run("write 1 set k v")
			for i := range members / 100 {
				var names strings.Builder
				for j := range 100 {
					fmt.Fprint(&names, " m", i*100+j)
				}
				run("write 1 add set" + names.String())
			}
			stable()
			run("cut 1 2")
			run("many 2 10 late 3")
			run("write 2 add set added")
			stable()
			run(fmt.Sprint("cut-log 2 ", s.actors[1].e.log.Last-s.actors[1].e.log.First))
			run("write 1 " + clear)
			stable()
			worst = 0
			run("link 1 2")
			stable()
			for _, a := range s.actors {
				v := a.e.View()
				f := Fields(v)
				var found []string
				for key := range f.All() {
					if types := f.Types(key); types.Has(crdt.TypeSet) {
						key += fmt.Sprint("=", strings.Join(membersOf(f, key), ","))
					}
					if key == "k" || key == "late0" || key == "late9" || strings.Contains(key, "=") {
						found = append(found, key)
					}
				}
				if got := strings.Join(found, " "); got != left || f.Err() != nil {
					t.Errorf("host %d has %q, want %q (%v)", a.i, got, left, f.Err())
				}
				v.Close()
			}
			if a, b := s.actors[0].state(), s.actors[1].state(); !strings.Contains(b, strings.Fields(a)[2]) {
				t.Errorf("they differ: %s; %s", a, b)
			}
			if worst > 2*budget {
				t.Errorf("a step did %d units of work, with a budget of %d", worst, budget)
			}
		})
	}
}

// line runs a line of a script.
func (s *script) line(line string) {
	words := strings.Fields(line)
	commands[words[0]](s, words[1:], "")
}

// TestClearsOfLittleShareGroups though the log does not tell what they had not seen: each does not
// cost a record of the log, and a sync.
func TestClearsOfLittleShareGroups(t *testing.T) {
	const sets = 100
	s := newScript(t)
	s.hosts(&datadriven.TestData{}, []string{"2"})
	s.line("link 1 2")
	var members strings.Builder
	for i := range 20 {
		fmt.Fprint(&members, " m", i)
	}
	for i := range sets {
		s.line(fmt.Sprint("write 1 add set", i, members.String()))
	}
	s.line("run 3s")
	s.line("cut 1 2")
	s.line("write 2 add set7 added")
	s.line("run 3s")
	s.line("many 2 10 late 3")
	s.line("run 3s")
	log := &s.actors[1].e.log
	s.line(fmt.Sprint("cut-log 2 ", log.Last-log.First))
	for i := range sets {
		s.line(fmt.Sprint("write 1 drop set", i))
	}
	before := log.Last
	s.line("link 1 2")
	s.line("run 3s")
	v := s.actors[1].e.View()
	defer v.Close()
	if left := membersOf(Fields(v), "set7"); len(left) != 1 {
		t.Errorf("set7 has %q, want what its clear had not seen", left)
	}
	if keys, _ := s.actors[1].e.Counts(); keys != 11 {
		t.Errorf("%d keys are left, want 11", keys)
	}
	if records := log.Last - before; records > 10 {
		t.Errorf("%d clears took %d records of the log, want 10 at most", sets, records)
	}
}

// TestALookAtWhatIsGoneIsBoundedToo: a delta may clear very many keys of which nothing is there.
func TestALookAtWhatIsGoneIsBoundedToo(t *testing.T) {
	r := openOn(t, newDisk(), 1)
	defer r.Close()
	prefixes := make([]dotted.Address, 10_000)
	for i := range prefixes {
		prefixes[i] = dotted.KeyAddress(fmt.Sprint("gone", i))
	}
	g := r.newGroup(testStart)
	defer g.discard()
	began := r.work
	few, err := g.few(prefixes)
	if work := r.work - began; few || err != nil || work > r.cfg.StepWork/lookShare+workMiss {
		t.Errorf("they are few: %v, after %d units of work, with %d for that (%v)", few, work, r.cfg.StepWork/lookShare, err)
	}
}

// TestALogIsNotReadForLongForAClear though it has all that a clear had not seen.
func TestALogIsNotReadForLongForAClear(t *testing.T) {
	const budget, writes, size = 200, 1000, 300
	r := openOn(t, newDisk(), 1)
	r.cfg.StepWork = budget
	pipeline(t, r, writes, func(f crdt.Fields, i int) error {
		return f.String(fmt.Sprint("late", i)).Set(make([]byte, size))
	})
	d := &delta.Delta{Replica: 1 << 41, First: 1, Seen: crdt.VersionVector{},
		Ops: []delta.Op{{Kind: delta.OpClear}}}
	g := r.newGroup(testStart)
	defer g.discard()
	began := r.work
	u, err := g.putUnseen(d, g.cleared(d, 0))
	if work, most := r.work-began, (maxUnseen+1)*budget; err != nil || u.known || work > most {
		t.Errorf("it did %d units of work, want %d at most; it says that it has all: %v (%v)",
			work, most, u.known, err)
	}
}

// TestARebuildLooksAtAllCellsInSteps has a damaged host be filled with cells, and find in its own
// former log a clear that had not seen some of them. Nobody else has that, as its neighbour has no
// room.
func TestARebuildLooksAtAllCellsInSteps(t *testing.T) {
	const budget, keys, late = 200, 2000, 10
	s := newScript(t)
	worst := 0
	s.cfg.StepWork, s.cfg.Spent = budget, func(part string, work, _ int) {
		if part == "upkeep" {
			worst = max(worst, work)
		}
	}
	s.hosts(&datadriven.TestData{}, []string{"2"})
	s.line(fmt.Sprint("many 2 ", keys, " early 3"))
	s.line("run 3s")
	forget := func() {
		log := &s.actors[1].e.log
		s.line(fmt.Sprint("cut-log 2 ", log.Last-log.First))
	}
	forget()
	s.line("link 1 2")
	s.line("run 3s")
	s.line("cut 1 2")
	s.line(fmt.Sprint("many 2 ", late, " late 3"))
	s.line("run 3s")
	forget()
	s.line("write 1 clear") // with which its log begins
	s.line("run 3s")
	s.line("write 1 set a 1")
	s.line("run 3s")
	s.line("checkpoint 1")
	s.line("run 3s")
	s.line("rot 1 cell a")
	s.line("kill 1")
	s.line("start 1")
	s.line("room 2 scarce")
	worst = 0
	s.line("link 1 2")
	s.line("run 30s")
	if a := s.actors[0]; a.e.Refusal() != nil || a.e.keys != late+1 {
		t.Errorf("refuses: %v; it has %d keys, want %d", a.e.Refusal(), a.e.keys, late+1)
	}
	if got := s.actors[1].e.keys; got != keys+late {
		t.Errorf("its neighbour has %d keys, want %d: it has the clear", got, keys+late)
	}
	if worst > 2*budget {
		t.Errorf("a step of a task did %d units of work, with a budget of %d", worst, budget)
	}
	s.line("room 2 roomy")
	s.line("run 3s")
	if a, b := s.actors[0].state(), s.actors[1].state(); s.actors[1].e.keys != late+1 {
		t.Errorf("they differ: %s; %s", a, b)
	}
}

func membersOf(f crdt.Fields, key string) (all []string) {
	for m := range f.Set(key).All() {
		all = append(all, m)
	}
	return all
}
