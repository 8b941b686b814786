package peer

import (
	"path/filepath"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
)

// damage takes the cell of key "k" out of a closed peer's store.
func damage(t *testing.T, dir string) {
	t.Helper()
	st, err := badger.Open(filepath.Join(dir, "store"), badger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &store.Batch{}
	b.Delete([]byte("c" + keyOfK))
	if err := st.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
