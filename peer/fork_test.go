package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

// sleep stops a peer as its machine is suspended: it goes on with wake, under the id that it had in memory.
func (c *cluster) sleep(p *Peer) (id crdt.ReplicaID, dir string) {
	id, err := crdt.ParseReplicaID(replicaOf(c.t, p))
	if err != nil {
		c.t.Fatal(err)
	}
	crash(c.t, p)
	return id, p.cfg.Dir
}

func (c *cluster) wake(dir string, id crdt.ReplicaID) *Peer {
	cfg := c.config(dir)
	cfg.memory = id
	return c.start(cfg)
}

// imageOf returns a copy of a directory, on another host.
func (c *cluster) imageOf(dir string) string {
	c.t.Helper()
	image := filepath.Join(c.t.TempDir(), "image")
	copyAll(c.t, dir, image)
	if err := os.Remove(filepath.Join(image, hostKeyFile)); err != nil {
		c.t.Fatal(err)
	}
	return image
}

func add(t *testing.T, p *Peer, element string) {
	t.Helper()
	mustUpdate(t, p, func(tx *Tx) error { _, err := tx.Set("s").Add(element); return err })
}

func TestAnEmptyPeerIsReadyOnlyWithWhatTheOthersHave(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	count(t, a, 7)
	cfg := c.config(t.TempDir())
	cfg.ReadyWait = time.Hour
	b := c.start(cfg)
	eventually(t, "the new peer is ready", func() bool { return b.Ready() == nil })
	wantCount(t, b, 7)
}

func TestAnEmptyPeerWhoseJoinsAreUnreachableIsReady(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.Join = []string{"127.0.0.1:1"}
	p := c.start(cfg)
	eventually(t, "the lone peer is ready", func() bool { return p.Ready() == nil })
	cfg = c.config(t.TempDir())
	cfg.Join = nil
	if err := c.start(cfg).Ready(); err != nil {
		t.Errorf("a peer that was told of nobody is not ready at once: %v", err)
	}
}

// TestAForkIsNamedAndQuarantinedUntilOneSideIsEnded starts an image of a running machine beside it.
func TestAForkIsNamedAndQuarantinedUntilOneSideIsEnded(t *testing.T) {
	c := newCluster(t)
	a := c.start(c.config(t.TempDir()))
	var log memory
	cfg := c.config(t.TempDir())
	cfg.Logger = log.logger()
	b := c.start(cfg)
	count(t, a, 1)
	c.converge(a, b)
	id, original := c.sleep(a)
	image := c.imageOf(original)

	a = c.wake(original, id)
	count(t, a, 10)
	c.converge(a, b)
	twin := c.wake(image, id)
	count(t, twin, 100)
	add(t, twin, "of the twin")
	wantFork := func(p *Peer, there ...*Peer) {
		var ids []string
		for _, o := range there {
			ids = append(ids, o.net.id.String())
		}
		slices.Sort(ids)
		eventually(t, "the fork is named", func() bool {
			s, err := p.Status()
			return err == nil && len(s.Forks) == 1 && s.Forks[0].Replica == id.String() && s.Forks[0].Common == 1 &&
				slices.Equal(s.Forks[0].There, ids)
		})
	}
	wantFork(a, twin)
	wantFork(b, twin)
	wantFork(twin, a, b)
	wantProblem(t, twin, "forked")
	eventually(t, "the fork is in the log", func() bool {
		return log.says("writes of a replica exist in two versions") && log.says("replica="+id.String())
	})
	if m, err := twin.Metrics(); err != nil || len(m.Forks) != 1 || m.Mismatches > 0 {
		t.Errorf("metrics say %v, %d mismatches (%v)", m.Forks, m.Mismatches, err)
	}
	count(t, b, 1000)
	count(t, twin, 10_000)
	c.converge(a, b)
	wantCount(t, a, 1011)
	wantCount(t, twin, 10_101)
	if err := b.Ready(); err != nil {
		t.Errorf("a host that names a fork is not ready: %v", err)
	}

	mustClose(t, twin)
	wantSalvaged(t, image, `n add 100`, `s insert`, `n add 10000`)
	if err := os.RemoveAll(filepath.Join(image, storeDir)); err != nil {
		t.Fatal(err)
	}
	twin = c.start(c.config(image))
	c.converge(a, b, twin)
	wantCount(t, twin, 1011)
	for _, p := range []*Peer{a, b, twin} {
		eventually(t, "the alarm ends", func() bool { s, err := p.Status(); return err == nil && len(s.Forks) == 0 })
	}
}

// TestAForkEndsWithTheRemovalOfTheOtherSide also where that does not come back: without it the
// alarm went on until a restart.
func TestAForkEndsWithTheRemovalOfTheOtherSide(t *testing.T) {
	c := newCluster(t)
	a := c.start(c.config(t.TempDir()))
	b := c.start(c.config(t.TempDir()))
	count(t, a, 1)
	c.converge(a, b)
	id, original := c.sleep(a)
	image := c.imageOf(original)
	a = c.wake(original, id)
	count(t, a, 10)
	c.converge(a, b)
	twin := c.wake(image, id)
	count(t, twin, 100)
	forks := func(p *Peer) int {
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		return len(s.Forks)
	}
	eventually(t, "the fork is named", func() bool { return forks(a) == 1 && forks(b) == 1 })
	mustClose(t, twin)
	if _, err := b.RemoveMember(t.Context(), twin.net.id.String()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the alarm ends", func() bool { return forks(a) == 0 && forks(b) == 0 })
	mustClose(t, b)
	b = c.start(b.cfg) // which greets a, and so tells it what it has
	count(t, b, 1000)
	c.converge(a, b)
	mustClose(t, a)
	wantSalvaged(t, a.cfg.Dir)
}

func wantSalvaged(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	err := Salvage(dir, "", func(w Salvaged) error {
		line, err := json.Marshal(w)
		if !bytes.Contains(line, []byte(`"replica":"`)) || !bytes.Contains(line, []byte(`"time":"`)) {
			t.Errorf("a line without a name or time: %s", line)
		}
		what := string(w.Key) + " " + w.Operation
		if w.Amount != 0 {
			what += fmt.Sprint(" ", w.Amount)
		}
		got = append(got, what)
		return err
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("salvaged %q (%v), want %q", got, err, want)
	}
}

// TestWhatIsSalvagedSaysAllThatIsToBeEntered has a peer that nobody heard of write what is more than a value or a count.
func TestWhatIsSalvagedSaysAllThatIsToBeEntered(t *testing.T) {
	dir := t.TempDir()
	p, err := Open(t.Context(), Config{Dir: dir, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Update(t.Context(), func(tx *Tx) error {
		var counted crdt.Registers
		for i := range 20 {
			counted[i] = 1
		}
		_, set := tx.SortedSet("z").Set("a", 1.5)
		_, added := tx.SortedSet("z").Add("a", 2.25)
		entered := tx.Stream("x").AddAs(crdt.StreamID{Ms: 7, Seq: 1}, "field", "value")
		_, bit := tx.Bitmap("b").SetBit(8*crdt.ChunkSize+1, true)
		_, merged := tx.HyperLogLog("h").Merge(&counted)
		return errors.Join(set, added, entered, bit, merged)
	})
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, p)
	var got []string
	err = Salvage(dir, "", func(w Salvaged) error {
		line := fmt.Sprintf("%s %q %s", w.Key, w.Path[0].Name, w.Operation)
		if w.Value != nil {
			line += " " + string(*w.Value)
		}
		for _, field := range w.Fields {
			line += " " + string(field)
		}
		got = append(got, line)
		return nil
	})
	want := []string{
		`z "a" set 1.5`, `z "a" add 2.25`, `x "7-1" insert field value`, `x "" unknown`, `b "1024" set @`, `h "\x00" unknown`,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("salvaged %q (%v), want %q", got, err, want)
	}
}
