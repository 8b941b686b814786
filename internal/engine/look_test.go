package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/peerd/peerd/crdt"
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
			run := func(line string) {
				words := strings.Fields(line)
				commands[words[0]](s, words[1:], "")
			}
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

func membersOf(f crdt.Fields, key string) (all []string) {
	for m := range f.Set(key).All() {
		all = append(all, m)
	}
	return all
}
