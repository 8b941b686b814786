//go:build linux || darwin || freebsd || dragonfly

package badger

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/peerd/peerd/store"
)

// ownLock says that lockDir locks the directory, so that Badger need not.
const ownLock = true

// lockDir takes the lock that Badger would take, on the directory itself, but before anything in
// it is read. Closing the file releases it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, store.ErrLocked
	}
	return nil, os.NewSyscallError("flock", err)
}

// room returns the bytes that an unprivileged process may still write to the file system of dir,
// and its size.
func room(dir string) (free, total uint64, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, 0, os.NewSyscallError("statfs", err)
	}
	block := uint64(stat.Bsize)
	return uint64(max(0, int64(stat.Bavail))) * block, uint64(stat.Blocks) * block, nil
}

// allocated returns the bytes that a file takes on its disk, which for a memtable's log, mapped at
// its largest size, is less than its length.
func allocated(info fs.FileInfo) int64 {
	const block = 512 // The unit of st_blocks, whatever the file system.
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(stat.Blocks) * block
	}
	return info.Size()
}

// GiveBack gives what root has made in a directory to the directory's owner: a service that runs as that owner
// could not open it. It follows no link out of the directory, which another user may put there meanwhile.
func GiveBack(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	stat := func(path string) (*syscall.Stat_t, error) {
		info, err := root.Lstat(path)
		if err != nil {
			return nil, err
		}
		return info.Sys().(*syscall.Stat_t), nil
	}
	owner, err := stat(".")
	if err != nil || owner.Uid == 0 {
		return err
	}
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		var file *syscall.Stat_t
		if err == nil {
			file, err = stat(path)
		}
		if err == nil && file.Uid == 0 && (d.IsDir() || file.Nlink == 1) {
			err = root.Lchown(path, int(owner.Uid), int(owner.Gid))
		}
		if errors.Is(err, fs.ErrNotExist) { // a peer that was started meanwhile removed it
			return nil
		}
		return err
	})
}
