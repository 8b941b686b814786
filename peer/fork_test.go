package peer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// imageOf returns a function that puts a closed peer's directory back to what it is now, as an image of the
// whole disk would: nothing on the host tells the difference.
func imageOf(t *testing.T, dir string) (restore func()) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(dir, "store"))); err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(filepath.Join(dir, markFile))
	if err != nil {
		t.Fatal(err)
	}
	_, token, _ := strings.Cut(string(mark), "state ")
	return func() {
		if err := os.RemoveAll(filepath.Join(dir, "store")); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(dir, "store"), os.DirFS(copied)); err != nil {
			t.Fatal(err)
		}
		if err := (&cleanMark{dir: dir}).write(strings.TrimSpace(token)); err != nil {
			t.Fatal(err)
		}
	}
}

func add(t *testing.T, p *Peer, element string) {
	t.Helper()
	mustUpdate(t, p, func(tx *Tx) error { _, err := tx.Set("s").Add(element); return err })
}

func wantElements(t *testing.T, p *Peer, want string) {
	t.Helper()
	err := p.View(context.Background(), func(tx *Tx) error {
		s, err := tx.Set("s").Elements()
		if got := strings.Join(s, " "); got != want {
			t.Errorf("the set has %q, want %q", got, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestAForkHealsOnEveryHost puts a host back from an image after it wrote on. One peer has what it wrote first,
// another what it writes then, and writes on top of that.
func TestAForkHealsOnEveryHost(t *testing.T) {
	c := newCluster(t)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	a, b, third := c.start(c.config(dirs[0])), c.start(c.config(dirs[1])), c.start(c.config(dirs[2]))
	count(t, a, 1)
	c.converge(a, b, third)
	mustClose(t, third)
	mustClose(t, a)
	restore := imageOf(t, dirs[0])

	a = c.start(c.config(dirs[0]))
	count(t, a, 10)
	add(t, a, "first")
	c.converge(a, b)
	mustClose(t, a)
	mustClose(t, b)

	restore()
	a, third = c.start(c.config(dirs[0])), c.start(c.config(dirs[2]))
	count(t, a, 100)
	add(t, a, "second")
	c.converge(a, third)
	count(t, third, 1000)
	add(t, third, "third")
	c.converge(a, third)

	b = c.start(c.config(dirs[1]))
	count(t, b, 10000)
	all := []*Peer{a, b, third}
	eventually(t, "all agree on everything", func() bool {
		for _, p := range all {
			var n int64
			err := p.View(context.Background(), func(tx *Tx) (err error) {
				n, err = tx.Counter("n").Value()
				return err
			})
			if err != nil || n != 11111 {
				return false
			}
		}
		return true
	})
	c.converge(all...)
	for _, p := range all {
		wantCount(t, p, 11111)
		wantElements(t, p, "first second third")
		if s, err := p.Status(); err != nil || len(s.Forks) > 0 {
			t.Errorf("%s is still alarmed: %v (%v)", s.Name, s.Forks, err)
		}
	}
}

func TestAnEmptyPeerIsReadyOnlyWithWhatTheOthersHave(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	count(t, a, 7)
	b := c.add()
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
