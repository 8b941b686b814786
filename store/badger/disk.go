package badger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/peerd/peerd/store"
)

// Disk is how much room there is for a store, in bytes.
type Disk struct {
	Free  uint64 // left on its file system for it
	Total uint64 // of its file system
	// Working is what the store may take for a while on its own account, beyond what it is given to
	// commit: to write out full memtables, and to merge tables, which are removed only afterwards.
	// With less than that left a full disk can kill the process, since Badger maps its files.
	Working uint64
}

// Disk returns how much room there is. It costs a call of the system, and a look at the levels.
func (s *Store) Disk() (disk Disk, err error) {
	if !s.gate.enter() {
		return disk, store.ErrClosed
	}
	defer s.gate.leave()
	disk.Free, disk.Total, err = room(s.dir)
	disk.Working = s.working()
	return disk, err
}

// Free returns how many bytes the file system of the store has left for it. It costs a call of the
// system.
func (s *Store) Free() (bytes uint64, err error) {
	bytes, _, err = room(s.dir)
	return bytes, err
}

// memTables is how many of them may be written out at once: the active one, and one that waits.
const memTablesAtOnce = 2

// overlap is how many tables a merge of one table into the next level reads, at most, for levels
// that are kept in Badger's proportion of 1 to 10.
const overlap = 12

func (s *Store) working() uint64 {
	need := int64(memTablesAtOnce * memTableSize)
	levels := s.db.Levels()
	merge := int64(0)
	for _, level := range levels[1:] {
		merge = max(merge, overlap*level.TargetFileSize)
	}
	// The first level is merged as a whole into the base level, as soon as it has so many tables.
	if levels[0].NumTables+memTablesAtOnce >= s.db.Opts().NumLevelZeroTables {
		for _, level := range levels[1:] {
			if level.IsBaseLevel {
				merge = max(merge, levels[0].Size+level.Size)
			}
		}
	}
	return uint64(need + merge)
}

// checkAccess returns an error if the system does not let this process read and change the files of
// the store in dir: where Badger cannot, it may end the process.
func checkAccess(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, entry.Name()), os.O_RDWR, 0)
		switch {
		case err == nil:
			f.Close() // it was only opened
		case isRefusal(err):
			return err
		}
	}
	return nil
}

// openingRoom is what opening takes beside the tables of old memtables, in bytes.
const openingRoom = 16 << 20

// checkRoom returns an error that wraps store.ErrNoSpace unless there is room to open the store in
// dir: the logs of its memtables become tables.
func checkRoom(dir string) error {
	free, _, err := room(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	need := uint64(openingRoom)
	logs, err := filesOf(dir, ".mem")
	if err != nil {
		return err
	}
	for _, log := range logs {
		if info, err := log.Info(); err == nil {
			need += uint64(allocated(info))
		}
	}
	if free < need {
		return fmt.Errorf("%w: %d MiB are free and %d MiB needed to open", store.ErrNoSpace,
			free>>20, need>>20)
	}
	return nil
}
