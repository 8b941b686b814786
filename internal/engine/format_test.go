package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// TestARecordOfAnotherFormatIsRefusedAndNotTakenForDamage puts a single record of each kind into a store that is
// empty else, with a body that this version cannot read.
func TestARecordOfAnotherFormatIsRefusedAndNotTakenForDamage(t *testing.T) {
	keys := [][]byte{keyCheckpoint, keyRebuild}
	for _, kind := range []byte{prefixCell, prefixPart, prefixSummary, prefixBlob, prefixStage,
		prefixClear, prefixSeen, prefixBase} {
		keys = append(keys, numbered(kind, 1))
	}
	for _, key := range keys {
		for version, why := range map[byte]string{
			formatVersion - 1: "from before peerd 0.1.0, and this program reads format 2: start with an empty directory",
			formatVersion + 1: "this program reads format 2: use the newer peerd that wrote it",
		} {
			st := newDisk()
			write(t, st, key, wire.Seal(version, key, []byte{0x90}))
			refusesToOpen(t, fmt.Sprintf("record %q of format %d", key, version), st, why)
		}
	}
}

// TestAStoreOfAnotherFormatIsLeftAsItIs opens what a crash left at each record of a replica's life, with the numbers
// of another format.
func TestAStoreOfAnotherFormatIsLeftAsItIs(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	w.write(t, h, func(f crdt.Fields) error { return f.Register("large").Set(make([]byte, 2*maxInline)) })
	w.write(t, h, counted(1))
	for name, mark := range map[string]func(){
		"whole":     func() { must(t, h.engine.Save(w.now)) },
		"logged":    func() {},
		"discarded": func() { must(t, h.engine.Discard()) },
	} {
		mark()
		st := newDisk()
		for _, rec := range recordsOf(t, h.disk) {
			value := rec[1]
			if rec[0][0] != prefixLeaf {
				body, err := unseal(rec[0], value)
				must(t, err)
				value = wire.Seal(formatVersion-1, rec[0], body)
			}
			write(t, st, rec[0], value)
		}
		if _, ok, _ := st.Snapshot().Get(keyCheckpoint); !ok {
			for record := range rawRecords(t, h.disk.log) {
				record[0] = formatVersion - 1
				_, _, err := st.log.Append(record)
				must(t, err)
			}
		}
		refusesToOpen(t, name, st, "start with an empty directory")
	}
}

// TestARottenFirstRecordIsDamage and not another format, whatever its first byte says.
func TestARottenFirstRecordIsDamage(t *testing.T) {
	st := newDisk()
	rotten := wire.Seal(formatVersion, keyCheckpoint, []byte{0x90})
	rotten[0] = formatVersion - 1
	write(t, st, keyCheckpoint, rotten)
	r, err := openAt(st, Config{NewID: func() crdt.ReplicaID { return 1 }})
	if err != nil || !errors.Is(r.Damaged(), store.ErrCorrupt) {
		t.Errorf("opened with %v", err)
	}
}

func refusesToOpen(t *testing.T, what string, st *disk, why string) {
	t.Helper()
	before := recordsOf(t, st)
	_, err := openAt(st, Config{NewID: func() crdt.ReplicaID { return 1 }})
	if !errors.Is(err, wire.ErrFormat) || errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: opened with %v, want %q", what, err, why)
	}
	same := func(a, b [2][]byte) bool { return bytes.Equal(a[0], b[0]) && bytes.Equal(a[1], b[1]) }
	if !slices.EqualFunc(before, recordsOf(t, st), same) {
		t.Errorf("%s: the store has changed", what)
	}
}

// rawRecords passes copies of the records of a log.
func rawRecords(t *testing.T, log store.Log) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		r, err := log.Read(log.First(), nil)
		must(t, err)
		defer r.Close()
		for {
			rec, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			must(t, err)
			if !yield(bytes.Clone(rec.Data)) {
				return
			}
		}
	}
}

// recordsOf returns all keys and values of a store.
func recordsOf(t *testing.T, st store.Store) (all [][2][]byte) {
	t.Helper()
	snap := st.Snapshot()
	defer snap.Close()
	must(t, snap.Scan(nil, nil, func(key, value []byte) bool {
		all = append(all, [2][]byte{bytes.Clone(key), bytes.Clone(value)})
		return true
	}))
	return all
}

func write(t *testing.T, st store.Store, key, value []byte) {
	t.Helper()
	b := &store.Batch{}
	b.Set(key, value)
	must(t, st.Commit(b, true))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
