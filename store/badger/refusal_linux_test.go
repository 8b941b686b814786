package badger_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
)

// What the system refuses says nothing of the store: it opens again once that is mended.

func mount(t *testing.T, source, dir, kind string, flags uintptr, data string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	if err := syscall.Mount(source, dir, kind, flags, data); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// expectRefused returns the error with which a store is not opened.
func expectRefused(t *testing.T, dir string, want error) error {
	t.Helper()
	s, err := badger.Open(dir, badger.Options{})
	if err == nil {
		s.Close()
	}
	if err == nil || errors.Is(err, store.ErrCorrupt) || want != nil && !errors.Is(err, want) {
		t.Errorf("opened with %v, want %v", err, want)
	}
	return err
}

func TestAReadOnlyFileSystemIsNoDamage(t *testing.T) {
	dir := intactStore(t)
	mount(t, dir, dir, "", syscall.MS_BIND, "")
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_ = expectRefused(t, dir, syscall.EROFS)
}

func TestADiskThatTakesNoFileIsFullAndNotDamaged(t *testing.T) {
	dir := t.TempDir()
	const inodes = 20
	mount(t, "tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,nr_inodes=%d", 512<<20, inodes))
	there := filepath.Join(dir, "store")
	if err := os.CopyFS(there, os.DirFS(intactStore(t))); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i < inodes; i++ {
		err = os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filled up to %v", err)
	}
	_ = expectRefused(t, there, store.ErrNoSpace)
}

// TestAFileThatAnotherUserOwnsIsNoDamage has one after the other be root's, as a restore leaves
// them, and be named.
func TestAFileThatAnotherUserOwnsIsNoDamage(t *testing.T) {
	dir := intactStore(t)
	if err := os.WriteFile(filepath.Join(dir, "00009.mem"), nil, 0o600); err != nil { // as a kill leaves it
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	allow := func(path string, mode os.FileMode) {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	as := func(user int) {
		if err := syscall.Setfsuid(user); err != nil {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread() // which has a user of its own
	defer runtime.UnlockOSThread()
	defer as(os.Geteuid())
	allow(filepath.Dir(dir), 0o755)
	for _, entry := range entries {
		allow(filepath.Join(dir, entry.Name()), 0o666)
	}
	allow(dir, 0o555)
	as(65534)
	_ = expectRefused(t, dir, nil)
	as(os.Geteuid())
	allow(dir, 0o777)
	for _, entry := range entries {
		allow(filepath.Join(dir, entry.Name()), 0o444)
		as(65534)
		if err := expectRefused(t, dir, fs.ErrPermission); err != nil && !strings.Contains(err.Error(), entry.Name()) {
			t.Errorf("of %s it says %v", entry.Name(), err)
		}
		as(os.Geteuid())
		allow(filepath.Join(dir, entry.Name()), 0o666)
	}
}

func TestTooManyOpenFilesAreNoDamage(t *testing.T) {
	dir := intactStore(t)
	for files, opened := 8, false; !opened; files++ {
		child := exec.Command("sh", "-c", fmt.Sprintf("ulimit -n %d && exec %q", files, os.Args[0]))
		child.Env = append(os.Environ(), childDir+"="+dir)
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		said, _ := bufio.NewReader(out).ReadString('\n')
		_, err = strconv.Atoi(strings.TrimSpace(said))
		if opened = err == nil; strings.Contains(said, store.ErrCorrupt.Error()) {
			t.Errorf("with %d files: %s", files, said)
		}
		_ = child.Process.Kill()
		_ = child.Wait()
	}
}
