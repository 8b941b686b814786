package replica

import (
	"errors"
	"fmt"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/store"
)

// blind is a store whose log cannot be read.
type blind struct{ store.Store }

func (b blind) Snapshot() store.Snapshot { return blindSnapshot{b.Store.Snapshot()} }

type blindSnapshot struct{ store.Snapshot }

func (s blindSnapshot) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	if start[0] == prefixLog {
		return errors.New("input/output error")
	}
	return s.Snapshot.Scan(start, end, fn)
}

func TestFiguresAreToldWhenTheOldestLogRecordCannotBeRead(t *testing.T) {
	w := newWorld(t, 9, worldConfig{hosts: 1})
	a := w.hosts[0]
	const records = 3
	for i := range records {
		w.write(t, a, func(f crdt.Fields) error { return f.String(fmt.Sprint(i)).Set([]byte("x")) })
	}
	if err := a.node.Save(w.now); err != nil {
		t.Fatal(err)
	}
	w.open(t, a) // without records in memory
	a.node.st = blind{a.disk}
	if f := a.node.Figures(); f.LogRecords != records || !f.OldestLogged.IsZero() {
		t.Errorf("after an error of the disk: %+v, want %d records and no time", f, records)
	}
	a.node.st = a.disk
	a.spoil(t, func(rot *store.Batch) { rot.Set(numbered(prefixLog, 1), []byte("rot")) })
	if f := a.node.Figures(); f.LogRecords != records-1 || !f.OldestLogged.IsZero() {
		t.Errorf("with a rotten record: %+v, want %d records and no time", f, records-1)
	}
	if f := a.node.Figures(); f.LogRecords != records-1 || f.OldestLogged.IsZero() {
		t.Errorf("after that: %+v, want %d records and a time", f, records-1)
	}
}
