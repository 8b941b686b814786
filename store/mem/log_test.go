package mem_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
	"github.com/peerd/peerd/store/space"
	"github.com/peerd/peerd/store/storetest"
)

// memory is a medium that keeps the log that was opened last.
type memory struct{ log *mem.Log }

func (m *memory) Open() (store.Log, error) {
	if m.log == nil {
		m.log = mem.NewLog()
	} else {
		m.log = m.log.Clone()
	}
	return m.log, nil
}

func (m *memory) LosePower(l store.Log, keep int64) error {
	m.log = l.(*mem.Log).Crash(keep)
	return nil
}

func (m *memory) Flip(l store.Log, p store.Position, _ int) error {
	if !l.(*mem.Log).Flip(p) {
		return fmt.Errorf("no record at %d", p)
	}
	return nil
}

func (m *memory) SetRoom(l store.Log, bytes int64) { l.(*mem.Log).SetRoom(bytes) }

func (m *memory) Fail(l store.Log) { l.(*mem.Log).Fail() }

func (m *memory) Shared() bool { return false }

func TestTheLogInMemoryKeepsTheContract(t *testing.T) {
	storetest.RunLog(t, func(*testing.T) storetest.LogMedium { return &memory{} })
}

func TestTheLogOfASpaceInMemoryKeepsTheContract(t *testing.T) {
	storetest.RunDividedLog(t, func(*testing.T) storetest.LogMedium { return &memory{} },
		func(whole store.Log) (part, beside store.Log) {
			c := space.NewCommitter(whole)
			return c.Log(1, 0), c.Log(2, 0)
		})
}

// TestWhatWasDroppedTakesNoMemory fills a log, and drops all but the last record: so its array is not grown anew.
func TestWhatWasDroppedTakesNoMemory(t *testing.T) {
	const size, records = 1 << 20, 64
	inUse := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	l, data, before := mem.NewLog(), make([]byte, size), inUse()
	for range records {
		if _, _, err := l.Append(data); err != nil {
			t.Fatal(err)
		}
	}
	last := l.Positions()[records-1]
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := l.DropBefore(last); err != nil {
		t.Fatal(err)
	}
	if held := inUse() - before; held > 4*size {
		t.Errorf("a log with one record of %d bytes holds %d bytes", size, held)
	}
	if l.First() != last {
		t.Errorf("it begins at %d, not at %d", l.First(), last)
	}
}
