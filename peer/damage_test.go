package peer

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	spacestore "github.com/peerd/peerd/store/space"
)

// damage takes the cell of key "k" of a space out of a closed peer's store.
func damage(t *testing.T, dir, space string) {
	t.Helper()
	st, err := badger.Open(filepath.Join(dir, "store"), badger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := spacestore.OpenTable(st)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range table.Spaces() {
		b := &store.Batch{}
		b.Delete([]byte("c" + keyOfK))
		if s.Name != space {
			continue
		}
		if err := spacestore.NewTree(st, s.Number).Commit(b, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestADamagedSpaceThatHoldsTheLogIsNamed has nobody who could help, until an operator gives the space up.
func TestADamagedSpaceThatHoldsTheLogIsNamed(t *testing.T) {
	c := newCluster(t)
	b := c.add()
	setIn(t, b, "orders", "k", "v")
	dir := b.cfg.Dir
	mustClose(t, b)
	damage(t, dir, "orders")
	log := &memory{}
	cfg := c.config(dir)
	cfg.LogBytes, cfg.Logger = 10_000, log.logger()
	b = c.start(cfg)
	for range 60 {
		setIn(t, b, DefaultSpace, "k", strings.Repeat("x", 1000))
	}
	eventually(t, "the space is named", func() bool {
		return log.says("space=orders") && log.says("the log that all spaces share cannot be cut") &&
			log.says("peerd space drop orders --force")
	})
	wantProblem(t, b, "damaged")
	held := func() map[string]bool {
		out := map[string]bool{}
		status, err := b.Status()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range status.Spaces {
			out[s.Space] = s.HeldLogBytes > 40_000
		}
		return out
	}
	if got := held(); !got["orders"] || got[DefaultSpace] {
		t.Errorf("these spaces are said to hold the log: %v", got)
	}
	if err := b.DropSpace(t.Context(), "orders", true); err != nil {
		t.Fatal(err)
	}
	if got := held(); got["orders"] {
		t.Error("it is said to hold the log after it was given up")
	}
}
