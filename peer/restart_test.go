package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// crash ends a peer as kill -9 would: nothing is saved.
func crash(t testing.TB, p *Peer) {
	t.Helper()
	p.close.Do(func() {
		if p.net != nil {
			p.net.close()
		}
		p.ending.Do(func() {}) // the end of one loop is not that of the others
		for _, s := range p.held() {
			if err := s.call(func(l *loop) { l.broken = errCrashed }); err != nil {
				t.Fatal(err)
			}
			<-s.stopped
		}
		close(p.stop)
		<-p.stopped
		p.failed = nil
		for _, s := range p.held() {
			s.background.Wait()
		}
		if err := p.closeStore(); err != nil {
			t.Fatal(err)
		}
	})
}

var errCrashed = fmt.Errorf("crashed by the test")

func count(t *testing.T, p *Peer, n int64) {
	t.Helper()
	mustUpdate(t, p, func(tx *Tx) error { _, err := tx.Counter("n").Add(n); return err })
}

func wantCount(t testing.TB, p *Peer, want int64) {
	t.Helper()
	err := p.View(context.Background(), func(tx *Tx) error {
		if n := tx.Counter("n").Get(); n != want {
			return fmt.Errorf("n is %d, want %d", n, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func replicaOf(t testing.TB, p *Peer) string {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s.Replica
}

func reopen(t *testing.T, dir string) *Peer {
	t.Helper()
	p, err := Open(context.Background(), Config{Dir: dir, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustClose(t testing.TB, p *Peer) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestACrashedPeerKeepsItsWritesAndTakesANewID(t *testing.T) {
	dir := t.TempDir()
	p := reopen(t, dir)
	count(t, p, 1)
	old := replicaOf(t, p)
	crash(t, p)
	p = reopen(t, dir)
	wantCount(t, p, 1)
	count(t, p, 1)
	if now := replicaOf(t, p); now == old {
		t.Error("the replica goes on under the id that it had before the crash")
	}
	wantCount(t, p, 2)
	mustClose(t, p)
}

// readingLog counts the records that are read of it.
type readingLog struct {
	store.Log
	records *atomic.Int64
}

func (l readingLog) Read(from store.Position, buffer []byte) (store.LogReader, error) {
	r, err := l.Log.Read(from, buffer)
	return countingReader{r, l.records}, err
}

type countingReader struct {
	store.LogReader
	records *atomic.Int64
}

func (r countingReader) Next() (store.Record, error) {
	r.records.Add(1)
	return r.LogReader.Next()
}

// TestSpacesThatRestReadNothingOfABusyOne when all are opened after a crash.
func TestSpacesThatRestReadNothingOfABusyOne(t *testing.T) {
	const spaces, writes = 20, 500
	dir := t.TempDir()
	p := reopen(t, dir)
	for i := range spaces {
		setIn(t, p, fmt.Sprint("space", i), "k", "v")
	}
	for range writes {
		count(t, p, 1)
	}
	crash(t, p)
	var records atomic.Int64
	cfg := Config{Dir: dir, Offline: true}
	cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) {
		return st, readingLog{log, &records}
	}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, p)
	if n := records.Load(); n > 4*writes {
		t.Errorf("%d records are read to open %d spaces, one of which has %d", n, spaces, writes)
	}
	wantCount(t, p, writes)
	for i := range spaces {
		if v, err := getIn(p, fmt.Sprint("space", i), "k"); v != "v" {
			t.Errorf("space %d has %q (%v)", i, v, err)
		}
	}
}

// TestAnIDLivesForOneStart closes, copies and restores a directory with the tools that keep
// everything that can be kept.
func TestAnIDLivesForOneStart(t *testing.T) {
	base := t.TempDir()
	dir, backup := filepath.Join(base, "data"), filepath.Join(base, "backup")
	p := reopen(t, dir)
	count(t, p, 1)
	ids := []string{replicaOf(t, p)}
	mustClose(t, p)
	copyAll(t, dir, backup)
	for _, c := range []struct {
		name string
		prep func()
		dir  string
	}{
		{"unchanged", func() {}, dir},
		{"copied", func() {}, backup},
		{"restored in the place of the old directory", func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			copyAll(t, backup, dir)
		}, dir},
	} {
		c.prep()
		p := reopen(t, c.dir)
		if s, err := p.Status(); err != nil || len(s.VersionVector) != len(ids) && c.dir == dir && c.name == "unchanged" {
			t.Errorf("%s: opening alone changed the version vector: %v (%v)", c.name, s.VersionVector, err)
		}
		count(t, p, 1)
		now := replicaOf(t, p)
		if slices.Contains(ids, now) {
			t.Errorf("%s: the replica is %s, as in a start before", c.name, now)
		}
		ids = append(ids, now)
		mustClose(t, p)
	}
}

func copyAll(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Skipf("cp -a: %v: %s", err, out)
	}
}

func TestAWipedPeerFillsUpFromTheOthers(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	dir := t.TempDir()
	b := c.start(c.config(dir))
	count(t, a, 1)
	count(t, b, 2)
	c.converge(a, b)
	mustClose(t, b)
	if err := os.RemoveAll(filepath.Join(dir, "store")); err != nil {
		t.Fatal(err)
	}
	b = c.start(c.config(dir))
	c.converge(a, b)
	wantCount(t, b, 3)
	count(t, b, 4)
	c.converge(a, b)
	wantCount(t, a, 7)
}

// TestAPeerThatWasDamagedWhileClosedRebuildsItself has a record vanish from a closed peer's
// store. Alone it opens, refuses reads and writes once it has read all its cells, and does not
// open again.
func TestAPeerThatWasDamagedWhileClosedRebuildsItself(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	count(t, a, 1)
	mustUpdate(t, b, func(tx *Tx) error { return tx.String("k").Set([]byte("v")) })
	c.converge(a, b)
	dir := b.cfg.Dir
	mustClose(t, b)
	damage(t, dir, DefaultSpace)
	alone, err := Open(context.Background(), Config{Dir: dir, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it found the damage", func() bool { return errors.Is(alone.Ready(), engine.ErrRebuilding) })
	mustClose(t, alone)
	if _, err := Open(context.Background(), Config{Dir: dir, Offline: true}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("opened alone: %v", err)
	}
	b = c.start(c.config(dir))
	wantWhole(c, a, b)
}

// TestAReadThatFindsDamageHasThePeerRebuilt flips a bit under a running peer.
func TestAReadThatFindsDamageHasThePeerRebuilt(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	count(t, a, 1)
	mustUpdate(t, b, func(tx *Tx) error { return tx.String("k").Set([]byte("v")) })
	c.converge(a, b)
	flip(t, b)
	w := b.Watch("")
	defer w.Close()
	told := make(chan Change, 1)
	go func() {
		c, _ := w.Next(context.Background())
		told <- c
	}()
	err := b.View(context.Background(), func(tx *Tx) error { _, _ = tx.String("k").Get(); return nil })
	if !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("the read returned %v", err)
	}
	wantWhole(c, a, b)
	if change := <-told; !change.Reset || len(change.Keys) != 2 || change.Token == "" {
		t.Errorf("a watch was told %+v, want a reset with both keys", change)
	}
}

// TestARepairThatFindsDamageHereHasThePeerRebuilt has the record rotten that a repair must
// compare: each of its attempts would fail at it.
func TestARepairThatFindsDamageHereHasThePeerRebuilt(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.LogBytes = 1000
	a := c.start(cfg)
	b := c.add()
	count(t, a, 1)
	mustUpdate(t, b, func(tx *Tx) error { return tx.String("k").Set([]byte("old")) })
	c.converge(a, b)
	c.split(1)
	flip(t, b)
	for _, v := range append(slices.Repeat([]string{strings.Repeat("x", 1000)}, 30), "v") {
		mustUpdate(t, a, func(tx *Tx) error { return tx.String("k").Set([]byte(v)) })
	}
	eventually(t, "the log is cut", func() bool { s, _ := a.Status(); return s.LogBytes < 10_000 })
	c.heal()
	wantWhole(c, a, b)
	if m, err := b.Metrics(); err != nil || m.Rebuilds != 1 {
		t.Errorf("%d rebuilds (%v), want 1", m.Rebuilds, err)
	}
}

// flip changes a bit of the cell of key "k" in a running peer's store.
func flip(t *testing.T, p *Peer) {
	t.Helper()
	save := func() {
		err := own(p).call(func(l *loop) {
			_ = l.engine.Backup((*engine.Moment).Close) // so that there is something to be saved
			for l.engine.Checkpoint(); l.engine.Busy() && l.broken == nil; {
				_, l.broken = l.stepAlone()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	save()
	defer save() // and read again
	snap := own(p).store.Snapshot()
	record, _, err := snap.Get([]byte("c" + keyOfK))
	snap.Close()
	if err != nil {
		t.Fatal(err)
	}
	record[len(record)/2] ^= 1
	rot := &store.Batch{}
	rot.Set([]byte("c"+keyOfK), record)
	if err := own(p).store.Commit(rot, false); err != nil {
		t.Fatal(err)
	}
}

// wantWhole waits until a damaged peer has everything back.
func wantWhole(c *cluster, a, b *Peer) {
	t := c.t
	t.Helper()
	eventually(t, "the peer rebuilt itself", func() bool {
		return b.View(context.Background(), func(tx *Tx) error {
			if v, ok := tx.String("k").Get(); !ok || string(v) != "v" {
				return fmt.Errorf("k is %q, %v", v, ok)
			}
			return nil
		}) == nil
	})
	c.converge(a, b)
	wantCount(t, b, 1)
	if s, err := b.Status(); err != nil || s.Keys != 2 || !s.Ready {
		t.Errorf("status %+v, error %v", s, err)
	}
}

var keyOfK = string(dotted.KeyAddress("k").Type(crdt.TypeString))

// TestAPipelineBeyondOneGroupIsCommittedInSeveral has writes that together exceed what a store
// takes.
func TestAPipelineBeyondOneGroupIsCommittedInSeveral(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	var fns []func(*Tx) error
	for i := range 10 {
		fns = append(fns, func(tx *Tx) error {
			return tx.String(fmt.Sprint(i)).Set(make([]byte, MaxValue))
		})
	}
	for i, err := range p.UpdateAll(context.Background(), fns) {
		if err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if s, err := p.Status(); err != nil || s.Keys != 10 {
		t.Errorf("%d keys (%v), want 10", s.Keys, err)
	}
}
