package e2e

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	damages = 100 // in one measure of faults
	// victims are how many peers are damaged at the same time, each in rounds of its own.
	victims = 2
	// healthy peers keep what the victims lose.
	healthy = 2
	// smallPause after each batch of a writer keeps the store small.
	smallPause = 20 * time.Millisecond
	// damageReach is how much of a file may be damaged, in bytes from its start: all that the victims'
	// files hold. Badger makes them much longer.
	damageReach = 4 << 20
)

// TestADamagedPeerHealsOrSaysWhatToDo flips bits in the files of a stopped peer, overwrites them or cuts
// them short, one file in each round, and starts the peer again among healthy ones. Either it ends with
// one line that says what to do, which is then done, or it starts. In the end it holds what the
// others do, nobody holds anything else than was written, and nobody has shown anything else.
func TestADamagedPeerHealsOrSaysWhatToDo(t *testing.T) {
	y := newInfirmary(t)
	rounds := injected(damages)
	t.Run("victims", func(t *testing.T) {
		for i, v := range y.victims {
			t.Run(v.name, func(t *testing.T) {
				t.Parallel()
				v.use(t)
				for round := i; round < rounds; round += victims {
					v.round(round)
				}
				v.kill()
			})
		}
	})
	for _, p := range y.peers {
		p.stop()
		for _, trace := range []string{"panic:", "fatal error:"} {
			if strings.Contains(p.logged(), trace) {
				t.Errorf("%s crashed", p.name)
			}
		}
	}
	outcomes := map[string]int{}
	for _, v := range y.victims {
		for outcome, n := range v.outcomes {
			outcomes[outcome] += n
		}
	}
	t.Logf("injected: %d damaged files: %v", rounds, outcomes)
}

// infirmary is a cluster of healthy peers and victims.
type infirmary struct {
	ws      *writers // what all hold
	peers   []*daemon
	victims []*victim
}

// victim is a peer that is damaged again and again, always from one of a few good states.
type victim struct {
	*daemon
	in       *infirmary
	rng      *rand.Rand
	good     []string // directories: after a clean end, after a kill
	own      *writer  // writes whenever it is well
	outcomes map[string]int

	damaged string // the file, in this round
	since   int    // where its log begins in this life
}

// use has the victim report to a test of its own.
func (v *victim) use(t *testing.T) { v.t = t }

func newInfirmary(t *testing.T) *infirmary {
	n := openLoopback(t, healthy+victims)
	rng, seed := randomFaults(t)
	program := binary(t)
	y := &infirmary{}
	var all []*daemon
	for i := range healthy + victims {
		name := fmt.Sprintf("healthy-%d", i)
		if i >= healthy {
			name = fmt.Sprintf("victim-%d", i-healthy)
		}
		var args []string
		if i > 0 {
			args = []string{"--join", n.addresses(0).gossip}
		}
		d := newDaemon(t, n, i, program, name, args...)
		if i > 0 {
			copyFile(t, filepath.Join(all[0].dir, "cluster.key"), filepath.Join(d.dir, "cluster.key"))
		}
		d.start()
		all = append(all, d)
	}
	y.peers = all[:healthy]
	y.ws = newWriters(seed, all...).slowly(smallPause)
	for _, d := range all[healthy:] {
		y.victims = append(y.victims, &victim{
			daemon: d, in: y, rng: rand.New(rand.NewPCG(rng.Uint64(), 0)), outcomes: map[string]int{},
			own: newWriter(d, d.name+"-own", rng.Uint64()),
		})
	}
	y.prepare(t, all)
	return y
}

// prepare fills the cluster and keeps two good states of each victim: one that it left in order, with
// its data in the tree's tables, and a newer one that it was killed in, with the rest in the log alone, behind
// a checkpoint of which some is in the log of a memtable.
func (y *infirmary) prepare(t *testing.T, all []*daemon) {
	t.Helper()
	for state, end := range []func(*daemon){(*daemon).stop, (*daemon).kill} {
		for _, v := range y.victims {
			if state > 0 {
				v.start()
			}
		}
		y.ws.start()
		for _, d := range all {
			awaitWrites(t, y.ws.of(d), 100)
		}
		y.ws.pause()
		eventually(t, "all agree", func() error { return disagreement(all) })
		y.ws.check(t, all...)
		for _, v := range y.victims {
			end(v.daemon)
			good := filepath.Join(t.TempDir(), "good")
			copyTree(t, v.dir, good)
			v.good = append(v.good, good)
		}
	}
}

// copyTree copies a directory with all that belongs to its files, their holes included.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v %s", from, err, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o700)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// round damages the victim once and sees it well again.
func (v *victim) round(number int) {
	v.t.Helper()
	v.kill()
	state := v.rng.IntN(len(v.good))
	if err := os.RemoveAll(v.dir); err != nil {
		v.t.Fatal(err)
	}
	copyTree(v.t, v.good[state], v.dir)
	what := v.damage() + [...]string{", after a clean end", ", after a kill"}[state]
	v.t.Logf("round %d: %s", number, what)
	began, outcome := time.Now(), "healed"
	v.since = len(v.logged())
	v.launch()
	if why := v.heals(); why != "" {
		v.kill()
		outcome = v.follow(why, v.good[state])
		v.since = len(v.logged())
		v.launch()
		if why := v.heals(); why != "" {
			v.t.Errorf("after that was done (%s), it says %s", outcome, why)
		}
	}
	v.outcomes[outcome]++
	if v.t.Failed() {
		v.t.FailNow()
	}
	v.t.Logf("round %d: %s in %v", number, outcome, time.Since(began).Round(time.Millisecond))
}

// damage damages one file and says how.
func (v *victim) damage() string {
	name := v.anyFile()
	v.damaged = name
	path := filepath.Join(v.dir, name)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, damageReach))
	if err != nil {
		v.t.Fatal(err)
	}
	length := len(strings.TrimRight(string(data), "\x00"))
	at := v.rng.IntN(max(length, 1))
	switch dice := v.rng.IntN(10); {
	case dice < 5:
		bit := v.rng.IntN(8)
		_, err = f.WriteAt([]byte{data[at] ^ 1<<bit}, int64(at))
		what := fmt.Sprintf("bit %d of byte %d of %s flipped", bit, at, name)
		return mustDamage(v.t, what, err)
	case dice < 7:
		junk := make([]byte, 1+v.rng.IntN(64))
		for i := range junk {
			junk[i] = byte(v.rng.Uint32())
		}
		_, err = f.WriteAt(junk, int64(at))
		return mustDamage(v.t, fmt.Sprintf("%d bytes at %d of %s overwritten", len(junk), at, name), err)
	case dice < 9:
		return mustDamage(v.t, fmt.Sprintf("%s cut to %d bytes of %d", name, at, length), f.Truncate(int64(at)))
	default:
		return mustDamage(v.t, name+" emptied", f.Truncate(0))
	}
}

func mustDamage(t *testing.T, what string, err error) string {
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return what
}

// anyFile draws a file of the victim's that is not empty: kinds that hold data more often than others.
func (v *victim) anyFile() string {
	weights := map[string]int{".log": 4, ".sst": 4, ".mem": 4, "MANIFEST": 2}
	var drawn []string
	err := filepath.WalkDir(v.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		name, err := filepath.Rel(v.dir, path)
		for range max(1, weights[filepath.Ext(name)], weights[filepath.Base(name)]) {
			drawn = append(drawn, name)
		}
		return err
	})
	if err != nil {
		v.t.Fatal(err)
	}
	slices.Sort(drawn)
	return drawn[v.rng.IntN(len(drawn))]
}

// heals waits until the victim agrees with the healthy peers, and then compares all that they hold with
// what was written. Until then it may show less, and nothing else. If it ends instead, or refuses to take
// part, heals returns what it says.
func (v *victim) heals() (why string) {
	v.t.Helper()
	peers := append([]*daemon{v.daemon}, v.in.peers...)
	wrote := false
	v.eventually("heals", func() (err error) {
		if why = v.refusal(); why != "" {
			return nil
		}
		if err := v.genuine(); err != nil {
			return err
		}
		if !wrote {
			if err := v.write(); err != nil {
				return err
			}
			wrote = true
		}
		return disagreement(peers)
	})
	if why != "" {
		return why
	}
	for _, p := range peers {
		c, err := p.connect()
		if err != nil {
			v.t.Fatal(err)
		}
		defer c.close()
		for _, w := range append([]*writer{v.own}, v.in.ws.all...) {
			s, err := w.read(c)
			if err != nil {
				v.t.Fatalf("read from %s: %v", p.name, err)
			}
			w.compare(v.t, p, s)
			if w == v.own {
				w.settle(s)
			}
		}
	}
	return ""
}

// refusal returns why the victim does not take part, or nothing.
func (v *victim) refusal() string {
	since := v.logged()[v.since:]
	if ended, _ := v.ended(); ended {
		if strings.Contains(since, "panic:") || strings.Contains(since, "fatal error:") {
			v.t.Fatalf("it crashed:\n%s", since)
		}
		return v.lastLine()
	}
	// A key of which a bit was flipped may still be a key. Others' keys are damaged at the same time.
	if v.damaged == "cluster.key" && strings.Contains(since, otherKey) {
		return otherKey
	}
	return ""
}

// genuine fails the test if the victim shows anything that nobody wrote.
func (v *victim) genuine() error {
	c, err := v.connect()
	if err != nil {
		return err
	}
	defer c.close()
	for _, w := range v.in.ws.all {
		s, err := w.read(c)
		if err != nil {
			return err
		}
		w.compareTried(v.t, v.daemon, s)
	}
	return nil
}

// write writes a little to the victim: what means the same whatever it has seen so far.
func (v *victim) write() error {
	c, err := v.connect()
	if err != nil {
		return err
	}
	defer c.close()
	return v.own.send(c, []act{v.own.addElement(0), v.own.increment()})
}

// otherKey is what both sides say of a host whose key of the cluster is another, and what is to be done.
const otherKey = "has another cluster key: give both the same cluster key file"

// remedies are what peerd tells people to do, and how that is done.
var remedies = []struct {
	advice string
	do     func(dir, good string) error
}{
	{`move the directory "store" away`, func(dir, _ string) error {
		return os.Rename(filepath.Join(dir, "store"), filepath.Join(dir, "store.damaged"))
	}},
	{"copy the file from another host", copyClusterKey},
	{otherKey, copyClusterKey},
	{"put back a copy of the file, or remove it", func(dir, _ string) error {
		return os.Remove(filepath.Join(dir, "host.key"))
	}},
}

func copyClusterKey(dir, good string) error {
	key, err := os.ReadFile(filepath.Join(good, "cluster.key"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cluster.key"), key, 0o600)
}

// follow does what the victim says is to be done, and returns that.
func (v *victim) follow(why, good string) string {
	v.t.Helper()
	for _, r := range remedies {
		if !strings.Contains(why, r.advice) {
			continue
		}
		if err := r.do(v.dir, good); err != nil {
			v.t.Fatal(err)
		}
		return r.advice
	}
	v.t.Fatalf("it does not say what to do: %s", why)
	return ""
}
