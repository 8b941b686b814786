package segment

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/space"
	"github.com/peerd/peerd/store/storetest"
)

// testSize is small, so that a test sees many segments.
const testSize = 256

// faults are what can go wrong with a directory from outside.
type faults struct {
	full   atomic.Bool
	room   atomic.Int64 // bytes that files take until they are full
	failed atomic.Bool
}

var errDisk = &os.PathError{Op: "write", Path: "disk", Err: syscall.EIO}

func (f *faults) write(n int) (allowed int, err error) {
	switch {
	case f.failed.Load():
		return n / 2, errDisk
	case f.full.Load() && f.room.Add(int64(-n)) < 0:
		return max(0, n+int(f.room.Load())), syscall.ENOSPC
	}
	return n, nil
}

func (f *faults) sync() error {
	if f.failed.Load() {
		return errDisk
	}
	return nil
}

// faulty is a directory with faults.
type faulty struct {
	directory
	*faults
}

func (d faulty) create(name string) (file, error) {
	f, err := d.directory.create(name)
	return faultyFile{f, d.faults}, err
}

func (d faulty) open(name string) (file, error) {
	f, err := d.directory.open(name)
	return faultyFile{f, d.faults}, err
}

// sync does not trouble the disk: nobody here pulls its plug.
func (d faulty) sync() error { return d.faults.sync() }

type faultyFile struct {
	file
	faults *faults
}

// WriteAt writes a part of what it cannot write whole, as a disk does.
func (f faultyFile) WriteAt(b []byte, at int64) (int, error) {
	allowed, err := f.faults.write(len(b))
	n, failed := f.file.WriteAt(b[:allowed], at)
	return n, errors.Join(err, failed)
}

func (f faultyFile) Sync() error { return f.faults.sync() }

// onDisk is a directory of the operating system as a storetest.LogMedium.
type onDisk struct{ dir string }

func (m onDisk) Open() (store.Log, error) {
	l, err := open(faulty{disk(m.dir), &faults{}}, Options{SegmentSize: testSize})
	if err != nil {
		return nil, err
	}
	l.reserve = 4 * testSize
	return l, nil
}

// LosePower cuts off what a power failure would. power_test.go has holes and lost names as well.
func (m onDisk) LosePower(log store.Log, keep int64) error {
	l := log.(*Log)
	l.last.Close() // without a sync
	s := l.segments[len(l.segments)-1]
	path := filepath.Join(m.dir, s.name())
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, min(info.Size(), s.offset(l.synced)+keep))
}

func (m onDisk) Flip(log store.Log, p store.Position, i int) error {
	s, _, err := log.(*Log).find(p)
	if err != nil {
		return err
	}
	return flip(filepath.Join(m.dir, s.name()), s.offset(p)+int64(i))
}

func flip(path string, at int64) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[at] ^= 0x10
	return os.WriteFile(path, b, 0o600)
}

func (m onDisk) SetRoom(l store.Log, bytes int64) {
	f := l.(*Log).dir.(faulty).faults
	f.room.Store(bytes)
	f.full.Store(bytes >= 0)
}

func (m onDisk) Fail(l store.Log) { l.(*Log).dir.(faulty).faults.failed.Store(true) }

func (m onDisk) Shared() bool { return false }

func TestTheLogOnDiskKeepsTheContract(t *testing.T) {
	storetest.RunLog(t, func(t *testing.T) storetest.LogMedium { return onDisk{t.TempDir()} })
}

func TestTheLogOfASpaceOnDiskKeepsTheContract(t *testing.T) {
	storetest.RunDividedLog(t, func(t *testing.T) storetest.LogMedium { return onDisk{t.TempDir()} },
		func(whole store.Log) (part, beside store.Log) {
			c := space.NewCommitter(whole)
			return c.Log(1, 0), c.Log(2, 0)
		})
}
