package peer

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWhatRootSalvagesCanBeOpenedByItsOwnerAfterwards, as by the user of a service.
func TestWhatRootSalvagesCanBeOpenedByItsOwnerAfterwards(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	dir := t.TempDir()
	p, err := Open(t.Context(), Config{Dir: dir, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	count(t, p, 1)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	const owner = 65534
	each := func(do func(path string) error) {
		t.Helper()
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return do(path)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	each(func(path string) error { return os.Lchown(path, owner, owner) })
	found := 0
	if err := Salvage(dir, "", func(Salvaged) error { found++; return nil }); err != nil || found == 0 {
		t.Fatalf("%d writes, %v", found, err)
	}
	each(func(path string) error {
		info, err := os.Lstat(path)
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != owner {
			t.Errorf("%s is root's", path)
		}
		return err
	})
}
