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

// free returns the bytes that an unprivileged process may still write to the file system of dir.
func free(dir string) (uint64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return uint64(max(0, int64(stat.Bavail))) * uint64(stat.Bsize), nil
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
