package replica

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/store"
)

// heal runs all links, and does for each host what its shell would, until nothing is left to heal.
func (w *world) heal(t *testing.T) {
	t.Helper()
	for round := range 3000 {
		if round > 20 && w.agreed() && !slices.ContainsFunc(w.hosts, func(h *host) bool { return !h.node.Replica.Whole() }) {
			break
		}
		if round > 400 && !slices.ContainsFunc(w.hosts, func(h *host) bool { return h.node.Rebuilding() }) {
			break // not all are connected
		}
		w.healRound(t)
	}
	for _, h := range w.hosts {
		if h.node.Rebuilding() {
			t.Fatalf("host %d is still rebuilding: %s", h.i, w.describe())
		}
	}
}

func (w *world) healRound(t *testing.T) {
	t.Helper()
	for i, h := range w.hosts {
		if w.cfg.crashes && w.rng.IntN(200) == 0 {
			w.kill(t, h)
		}
		for j := range w.hosts {
			w.pump(t, i, j)
			w.deliver(t, i, j)
		}
		w.stepRepairs(t)
		h.node.Tick(h.node.Repairing())
		if err := w.lookAfter(h); err != nil {
			t.Fatal(err)
		}
	}
}

// lookAfter does what a shell does after each step.
func (w *world) lookAfter(h *host) error {
	if h.node.DiscardDue() {
		if err := h.node.Discard(); err != nil {
			return err
		}
	}
	_, err := h.node.CatchUp(w.now, true)
	return err
}

// kill ends a host's process, and starts it and its links again.
func (w *world) kill(t *testing.T, h *host) {
	var linked []int
	for j := range w.hosts {
		if w.links[[2]int{h.i, j}] != nil {
			linked = append(linked, j)
		}
	}
	w.restart(t, h, "is killed")
	for _, j := range linked {
		w.connect(h.i, j)
	}
}

func counted(n int64) func(f crdt.Fields) error {
	return func(f crdt.Fields) error { _, err := f.Counter("n").Add(n); return err }
}

func added(set, element string) func(f crdt.Fields) error {
	return func(f crdt.Fields) error { _, err := f.Set(set).Add(element); return err }
}

func removed(set, element string) func(f crdt.Fields) error {
	return func(f crdt.Fields) error { _, err := f.Set(set).Remove(element); return err }
}

func put(value string) func(f crdt.Fields) error {
	return func(f crdt.Fields) error { return f.Register("r").Set([]byte(value)) }
}

// values returns what every host says of n, s and r.
func (w *world) values(t *testing.T) (all []string) {
	t.Helper()
	for _, h := range w.hosts {
		v := h.node.View()
		f := crdt.Root(v)
		n, err := f.Counter("n").Value()
		s, err2 := f.Set("s").Elements()
		r, err3 := f.Register("r").Values()
		v.Close()
		if err != nil || err2 != nil || err3 != nil {
			t.Fatal(err, err2, err3)
		}
		slices.SortFunc(r, bytes.Compare)
		all = append(all, fmt.Sprintf("%v %v %s", n, s, r))
	}
	return all
}

// image closes a host's process, and takes an image of its machine, which nothing on the host tells from what it then
// is. putBack puts that in place.
func (w *world) image(t *testing.T, h *host) (putBack func()) {
	t.Helper()
	w.restart(t, h, "closes")
	disk, token := h.disk.Clone(), h.token
	return func() {
		t.Helper()
		for j := range w.hosts {
			w.cut(h.i, j)
		}
		h.disk, h.token, w.forked = disk.Clone(), token, true
		w.open(t, h, true)
	}
}

// cutLog removes the oldest records of a host's log, as their age does.
func (h *host) cutLog(t *testing.T, records int) {
	t.Helper()
	for range records {
		err := h.node.readLog(h.node.log.first, func(rec logged) bool {
			h.node.log.forget(rec)
			h.spoil(t, func(b *store.Batch) { b.Delete(numbered(prefixLog, rec.lsn)) })
			return false
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantEach fails unless every host says want.
func (w *world) wantEach(t *testing.T, want string) {
	t.Helper()
	for i, v := range w.values(t) {
		if v != want {
			t.Errorf("host %d: %s, want %s", i, v, want)
		}
	}
	if t.Failed() {
		t.Log(w.describe())
	}
}

// forkedWorld returns hosts 0, 1 and 2: 0 was closed, wrote one branch to 1, was put back from an image of
// its disk, and wrote another branch to 2, which wrote on top of it.
func forkedWorld(t *testing.T, maxLog int64) *world {
	w := newWorld(t, 5, worldConfig{hosts: 3, maxLog: maxLog})
	a, c := w.hosts[0], w.hosts[2]
	w.write(t, a, counted(1))
	w.write(t, a, added("s", "base"))
	w.write(t, c, counted(2))
	w.settle(t)
	w.cut(0, 2)
	w.cut(1, 2)
	putBack := w.image(t, a)
	w.connect(0, 1)
	w.write(t, a, put("first"))
	w.write(t, a, counted(10))
	w.write(t, a, added("s", "first"))
	w.write(t, a, removed("s", "base"))
	w.settle2(t, 0, 1)
	w.cut(0, 1)

	putBack()
	w.write(t, a, put("second"))
	w.write(t, a, counted(100))
	w.write(t, a, added("s", "second"))
	w.write(t, a, added("s", "gone"))
	w.connect(0, 2)
	w.settle2(t, 0, 2)
	w.write(t, c, removed("s", "gone"))
	w.write(t, c, put("third"))
	w.write(t, c, counted(1000))
	w.write(t, c, added("s", "third"))
	w.settle2(t, 0, 2)
	w.cut(0, 2)
	w.write(t, c, counted(10000))
	w.write(t, c, removed("s", "second"))
	return w
}

func TestAHostThatTookAnAbandonedBranchLeavesItToo(t *testing.T) {
	orders := map[string][][2]int{
		"the forked store meets the other branch first": {{0, 1}, {0, 2}, {1, 2}},
		"the third host meets the other branch first":   {{1, 2}, {0, 1}, {0, 2}},
		"all at once":                           {},
		"the forked store stays with the third": {{0, 2}, {1, 2}, {0, 1}},
	}
	for name, links := range orders {
		t.Run(name, func(t *testing.T) {
			w := forkedWorld(t, 1<<30)
			for _, l := range links {
				w.connect(l[0], l[1])
				w.heal(t)
			}
			for _, l := range [][2]int{{0, 1}, {0, 2}, {1, 2}} {
				w.connect(l[0], l[1])
			}
			w.heal(t)
			w.settle(t)
			want := "11113 [first third] [first third]"
			if got := w.values(t); !slices.Equal(got, []string{want, want, want}) {
				t.Errorf("got %q, want %q thrice", got, want)
			}
			for _, h := range w.hosts {
				w.checkTree(t, h)
				if f := h.node.Forks(); len(f) > 0 {
					t.Errorf("host %d is still alarmed: %v", h.i, f)
				}
			}
		})
	}
}

// TestForksHealWhateverHappens lets stores write under forked ids to random others, which write on top of it, and
// connects them in random order. Each element is added once, so that the set in the end is known.
func TestForksHealWhateverHappens(t *testing.T) {
	for seed := uint64(1); seed <= max(40, *seedsFlag/5); seed++ {
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("replay: go test ./internal/replica -run TestForksHeal -seed %d", seed)
				}
			}()
			newForks(t, seed).run(t)
		})
		if !ok || *seedFlag != 0 {
			break
		}
	}
}

// forks is a world whose stores fork, with what it must come to.
type forks struct {
	*world
	rng   *rand.Rand
	total int64
	added int
	alive map[string]bool
	// back has elements that may come back: added by one follower of a branch, and removed by another. Each
	// issues its own again, and neither knows by which dot the other's goes then.
	back    map[string]bool
	forkers map[int]bool
}

func newForks(t *testing.T, seed uint64) *forks {
	w := newWorld(t, seed, worldConfig{hosts: 3 + int(seed%3), maxLog: 1 << 30})
	w.forked = true
	w.cfg.crashes = seed%2 == 0
	return &forks{world: w, rng: rand.New(rand.NewPCG(seed, 2)), alive: map[string]bool{},
		back: map[string]bool{}, forkers: map[int]bool{}}
}

// remove notes that h removed an element.
func (w *forks) remove(h *host, name string) {
	delete(w.alive, name)
	var by int
	_, _ = fmt.Sscanf(name, "%d by %d", new(int), &by)
	w.back[name] = by != h.i && !w.forkers[by] && !w.forkers[h.i] && len(w.forkers) > 0
}

func (w *forks) run(t *testing.T) {
	for round := range 1 + w.rng.IntN(2) {
		if round > 0 {
			w.meet(t)
		}
		a := w.hosts[w.rng.IntN(len(w.hosts))]
		w.act(t, a, 3)
		w.mingle(t)
		putBack := w.image(t, a)
		w.forkers[a.i] = true
		for range 2 {
			w.act(t, a, 4)
			w.mingle(t)
		}
		// What only the first branch's store has would be lost with its disk.
		w.connect(a.i, (a.i+1)%len(w.hosts))
		w.settlePairs(t)
		for j := range w.hosts {
			w.cut(a.i, j)
		}
		w.now = w.now.Add(time.Second) // else both branches may come to be the same
		putBack()
		for range 3 {
			w.act(t, a, 4)
			w.mingle(t)
		}
	}
	w.meet(t)
	w.settle(t)
	for _, h := range w.hosts {
		v := w.hosts[h.i].node.View()
		n, err := crdt.Root(v).Counter("n").Value()
		s, err2 := crdt.Root(v).Set("s").Elements()
		v.Close()
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if n != w.total {
			t.Errorf("host %d counts %d, want %d", h.i, n, w.total)
		}
		s = slices.DeleteFunc(s, func(name string) bool { return w.back[name] && !w.alive[name] })
		if want := slices.Sorted(maps.Keys(w.alive)); !slices.Equal(s, want) {
			t.Errorf("host %d has %v, want %v", h.i, s, want)
		}
		w.checkTree(t, h)
	}
}

// meet connects all in random order and heals them.
func (w *forks) meet(t *testing.T) {
	for _, i := range w.rng.Perm(len(w.hosts)) {
		for _, j := range w.rng.Perm(len(w.hosts)) {
			w.connect(i, j)
			if w.rng.IntN(3) == 0 {
				w.heal(t)
			}
		}
	}
	w.heal(t)
}

// settlePairs lets those who are linked agree.
func (w *forks) settlePairs(t *testing.T) {
	for range 100 {
		for i := range w.hosts {
			for j := range w.hosts {
				w.pump(t, i, j)
				w.deliver(t, i, j)
			}
			w.hosts[i].node.Tick(false)
		}
		w.stepRepairs(t)
	}
}

// mingle changes who is linked, and lets some others write on top of what they got.
func (w *forks) mingle(t *testing.T) {
	for range 3 {
		i, j := w.rng.IntN(len(w.hosts)), w.rng.IntN(len(w.hosts))
		if w.rng.IntN(3) == 0 {
			w.cut(i, j)
		} else {
			w.connect(i, j)
		}
		if w.rng.IntN(2) == 0 {
			w.settlePairs(t)
		}
		w.act(t, w.hosts[i], 2)
	}
}

// act has a host write something.
func (w *forks) act(t *testing.T, h *host, times int) {
	if h.node.Rebuilding() {
		return
	}
	for range times {
		switch w.rng.IntN(5) {
		case 4:
			if w.rng.IntN(3) > 0 {
				continue
			}
			for _, name := range w.elements(t, h) {
				w.remove(h, name)
			}
			w.write(t, h, func(f crdt.Fields) error { _, err := f.Delete("s"); return err })
		case 0:
			n := int64(1 + w.rng.IntN(100))
			w.write(t, h, counted(n))
			w.total += n
		case 1, 2:
			w.added++
			name := fmt.Sprintf("%d by %d", w.added, h.i)
			w.write(t, h, added("s", name))
			w.alive[name] = true
		case 3:
			if s := w.elements(t, h); len(s) > 0 {
				name := s[w.rng.IntN(len(s))]
				w.write(t, h, removed("s", name))
				w.remove(h, name)
			}
		}
	}
}

func (w *forks) elements(t *testing.T, h *host) []string {
	v := h.node.View()
	defer v.Close()
	s, err := crdt.Root(v).Set("s").Elements()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
