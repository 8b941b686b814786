//go:build linux || darwin || freebsd || dragonfly

package badger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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

// GiveBack gives what is in a directory to the directory's owner, if root has made any of it: a
// service that runs as that owner could not open it.
func GiveBack(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var owner unix.Stat_t
	if err := unix.Stat(dir, &owner); err != nil {
		return os.NewSyscallError("stat", err)
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var stat unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &stat)
		}
		if err == nil && (stat.Uid != owner.Uid || stat.Gid != owner.Gid) {
			err = os.Lchown(path, int(owner.Uid), int(owner.Gid))
		}
		return err
	})
}
