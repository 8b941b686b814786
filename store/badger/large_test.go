package badger

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	dgraph "github.com/dgraph-io/badger/v4"

	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// keysIn counts Badger's keys under a prefix.
func keysIn(t *testing.T, s *Store, in prefix) int {
	t.Helper()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	c := newCursor(txn, in, nil, nil)
	defer c.close()
	for n := 0; ; n++ {
		if _, ok, err := c.next(); err != nil || !ok {
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
}

func expectParts(t *testing.T, s *Store, when string, owners, parts int) {
	t.Helper()
	if o, p := keysIn(t, s, prefixOwner), keysIn(t, s, prefixPart); o != owners || p != parts {
		t.Errorf("%s: %d owners and %d parts, want %d and %d", when, o, p, owners, parts)
	}
	if len(s.large.byKey) != owners {
		t.Errorf("%s: %d large values known, want %d", when, len(s.large.byKey), owners)
	}
}

func TestPartsOfAReplacedValueAreRemoved(t *testing.T) {
	s := openTemp(t)
	three := bytes.Repeat([]byte("x"), 2*partSize+1)
	set(t, s, "a", three)
	set(t, s, "b", three)
	expectParts(t, s, "two values", 2, 6)
	set(t, s, "a", three[:partSize+1])
	expectParts(t, s, "one replaced by a shorter one", 2, 5)
	set(t, s, "a", three[:partSize])
	expectParts(t, s, "and by one of a single piece", 1, 3)
	var b store.Batch
	b.Delete([]byte("b"))
	b.Set([]byte("c"), three)
	b.Set([]byte("c"), three)
	b.Delete([]byte("c"))
	if err := s.Commit(&b, false); err != nil {
		t.Fatal(err)
	}
	expectParts(t, s, "all deleted, some in the batch that wrote them", 0, 0)
}

func TestManyReplacedValuesAreRemovedOverSeveralCommits(t *testing.T) {
	s := openTemp(t)
	const values = 3 * sweepAtOnce
	var b store.Batch
	for i := range values {
		set(t, s, string(rune('a'+i)), make([]byte, partSize+1))
		b.Delete([]byte{byte('a' + i)})
	}
	if err := s.Commit(&b, false); err != nil {
		t.Fatal(err)
	}
	if left := keysIn(t, s, prefixOwner); left != values-sweepAtOnce {
		t.Errorf("%d owners after the delete, want %d", left, values-sweepAtOnce)
	}
	set(t, s, "other", nil)
	set(t, s, "other", nil)
	expectParts(t, s, "two commits later", 0, 0)
}

// TestPartsThatACrashLeftAreRemoved replaces a value behind the back of the store, which is what a
// crash between a commit and its sweep leaves.
func TestPartsThatACrashLeftAreRemoved(t *testing.T) {
	s := openTemp(t)
	set(t, s, "gone", make([]byte, 4*partSize))
	set(t, s, "kept", make([]byte, 3*partSize))
	err := s.db.Update(func(txn *dgraph.Txn) error {
		return txn.Set(prefixData.key([]byte("gone")), []byte("small"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	set(t, s, "other", nil)
	expectParts(t, s, "after the next commit", 1, 3)
}

// TestPartsWhoseBatchNeverCameAreRemoved lays parts, which is what a crash before the batch leaves.
func TestPartsWhoseBatchNeverCameAreRemoved(t *testing.T) {
	s := openTemp(t)
	set(t, s, "kept", make([]byte, 3*partSize))
	var b store.Batch
	b.Set([]byte("kept"), make([]byte, (partsAtOnce+2)*partSize))
	if _, err := s.large.lay(&b, s.writeParts); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	set(t, s, "other", nil)
	expectParts(t, s, "after the next commit", 1, 3)
	view := s.Snapshot()
	defer view.Close()
	if value, _, err := view.Get([]byte("kept")); err != nil || len(value) != 3*partSize {
		t.Errorf("%d bytes are left of %d: %v", len(value), 3*partSize, err)
	}
}

func TestAMissingPartIsDamage(t *testing.T) {
	s := openTemp(t)
	set(t, s, "a", make([]byte, 4*partSize))
	l := s.large.byKey["a"]
	err := s.db.Update(func(txn *dgraph.Txn) error { return txn.Delete(l.partKey(2)) })
	if err != nil {
		t.Fatal(err)
	}
	view := s.Snapshot()
	defer view.Close()
	if _, _, err := view.Get([]byte("a")); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Get: %v, want %v", err, store.ErrCorrupt)
	}
	err = view.Scan(nil, nil, func(_, _ []byte) bool {
		t.Error("a damaged value is shown")
		return true
	})
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Scan: %v, want %v", err, store.ErrCorrupt)
	}
}

// TestTheBatchWithTheMostOverheadCommits has as many writes as may be, and as many values in parts
// as there is room for, under the longest keys.
func TestTheBatchWithTheMostOverheadCommits(t *testing.T) {
	s := openTemp(t)
	var b store.Batch
	const large = store.MaxBatchLarge / (partSize + 1)
	const rest = (store.MaxBatchBytes - large*store.MaxKey) / (store.MaxBatchOps - large)
	for i := range large {
		b.Set(append(make([]byte, store.MaxKey-1), byte(i)), make([]byte, partSize+1))
	}
	for b.Len() < store.MaxBatchOps {
		key := []byte{byte(b.Len() >> 16), byte(b.Len() >> 8), byte(b.Len())}
		b.Set(key, make([]byte, rest-len(key)))
	}
	if err := s.Commit(&b, false); err != nil {
		t.Errorf("%d writes, %d bytes: %v", b.Len(), b.Bytes(), err)
	}
}

func TestALargeValueOfAnotherFormatIsNoDamage(t *testing.T) {
	for _, version := range []byte{recordVersion - 1, recordVersion + 1} {
		_, _, err := unseal([]byte("key"), wire.Seal(version, []byte("key"), []byte{0x90}))
		if !errors.Is(err, wire.ErrFormat) || errors.Is(err, store.ErrCorrupt) {
			t.Errorf("format %d: %v", version, err)
		}
	}
}

func TestTheRecordOfALargeValueIsPinned(t *testing.T) {
	l := large{id: 300, parts: 7}
	got := fmt.Sprintf("%x", l.seal([]byte("key"), []byte("owner")))
	if want := "0293cd012c07c4056f776e6572d4baeab3"; got != want {
		t.Errorf("the record is %s, stored ones are %s", got, want)
	}
	if got, want := fmt.Sprintf("%x", l.partKey(1)), "70000000000000012c00000001"; got != want {
		t.Errorf("the key of a part is %s, stored ones are %s", got, want)
	}
	if got, want := fmt.Sprintf("%x", l.ownerKey()), "6f000000000000012c"; got != want {
		t.Errorf("the key of an owner is %s, stored ones are %s", got, want)
	}
}

func FuzzRecordsOfLargeValues(f *testing.F) {
	key := []byte("key")
	f.Add(large{id: 300, parts: 7}.seal(key, []byte("owner")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		// Sealed again, for hardly any input gets past the checksum.
		for _, record := range [][]byte{body, wire.Seal(recordVersion, key, body)} {
			l, owner, err := unseal(key, record)
			if err == nil && (l.parts < 1 || l.parts > maxParts || len(owner) > store.MaxKey) {
				t.Errorf("%d parts of %d bytes of a key", l.parts, len(owner))
			}
		}
	})
}
