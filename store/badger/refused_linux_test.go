package badger_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
)

// TestAStoreOfWhichAFileIsAnotherUsersIsNotDamaged: who is told so gives it up. Root becomes
// another user for it.
func TestAStoreOfWhichAFileIsAnotherUsersIsNotDamaged(t *testing.T) {
	for _, ext := range []string{".vlog", ".mem", ".sst", "MANIFEST", "KEYREGISTRY", "DISCARD"} {
		dir := intactStore(t)
		if ext == ".mem" { // as a kill leaves it
			if err := os.WriteFile(filepath.Join(dir, "00009.mem"), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		theirs := filesLike(t, dir, ext)
		for _, path := range theirs {
			if err := os.Chmod(path, 0o444); err != nil {
				t.Fatal(err)
			}
		}
		if len(theirs) == 0 {
			t.Fatalf("there is no %s in %s", ext, dir)
		}
		err := openAsNobody(t, dir)
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), ext) {
			t.Errorf("%s: %v", ext, err)
		}
	}
}

// TestAStoreOnAReadOnlyDiskIsNotDamaged, as one is that the system has mounted so after an error of
// it.
func TestAStoreOnAReadOnlyDiskIsNotDamaged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	disk := t.TempDir()
	if err := syscall.Mount("none", disk, "tmpfs", 0, "size=256m"); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, 0) })
	dir := filepath.Join(disk, "store")
	if err := os.CopyFS(dir, os.DirFS(intactStore(t))); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s, err := badger.Open(dir, badger.Options{})
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, syscall.EROFS) || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("it was opened with %v", err)
	}
}

// filesLike returns the files of a store with a name or extension.
func filesLike(t *testing.T, dir, ext string) (paths []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == ext || filepath.Ext(e.Name()) == ext {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

// openAsNobody opens a store, and closes it, as a user without rights.
func openAsNobody(t *testing.T, dir string) error {
	t.Helper()
	const nobody = 65534
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chown(dir, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.Chown(filepath.Join(dir, e.Name()), nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Seteuid(nobody); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Seteuid(0) }()
	}
	s, err := badger.Open(dir, badger.Options{})
	if err != nil {
		return err
	}
	return s.Close()
}
