package peer

import (
	"path/filepath"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	spacestore "github.com/peerd/peerd/store/space"
)

// damage takes the cell of key "k" out of a closed peer's store.
func damage(t *testing.T, dir string) {
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
		if s.Name != DefaultSpace {
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
