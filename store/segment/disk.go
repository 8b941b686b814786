package segment

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/peerd/peerd/store"
)

// directory is what the log asks of a file system. Tests have one that loses, fails and fills up.
type directory interface {
	list() (names []string, err error)
	create(name string) (file, error) // or empties it
	open(name string) (file, error)
	remove(name string) error
	sync() error // makes the names durable
}

type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Size() (int64, error)
	Sync() error // makes the contents and the size durable
	Close() error
}

// disk is a directory of the operating system.
type disk string

func (d disk) list() (names []string, err error) {
	entries, err := os.ReadDir(string(d))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, err
}

func (d disk) create(name string) (file, error) {
	return openFile(filepath.Join(string(d), name), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (d disk) open(name string) (file, error) {
	return openFile(filepath.Join(string(d), name), os.O_RDWR)
}

func (d disk) remove(name string) error { return os.Remove(filepath.Join(string(d), name)) }

func (d disk) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type diskFile struct{ *os.File }

func openFile(path string, flags int) (file, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err // and not a diskFile that holds nil
	}
	return diskFile{f}, nil
}

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f diskFile) Sync() error { return datasync(f.File) }

// isFull reports whether an error says that the medium, or the user's part of it, is full.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// hasFailed reports whether an error says that the medium does not do what it was asked for.
func hasFailed(err error) bool { return errors.Is(err, syscall.EIO) }

// unreadable returns an error of reading, which wraps store.ErrUnreadable if the medium has failed.
func unreadable(err error) error {
	if hasFailed(err) {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, err)
	}
	return err
}
