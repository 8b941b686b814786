package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/peerd/peerd/store"
)

// LogMedium is a place that keeps one log, and what can happen to it there.
type LogMedium interface {
	// Open opens the log that the medium holds, or an empty one.
	Open() (store.Log, error)
	// LosePower ends an open log without Close. Of what it had not synced the medium keeps so many
	// bytes, frames included.
	LosePower(l store.Log, keep int64) error
	// Flip changes a bit in what the medium holds of the record at p of an open log: in byte i of its
	// frame and data.
	Flip(l store.Log, p store.Position, i int) error
	// SetRoom has the medium take so many bytes more from an open log, as if it was full then;
	// a negative number is no bound.
	SetRoom(l store.Log, bytes int64)
	// Fail has every later write and sync of an open log fail.
	Fail(l store.Log)
	// Shared reports whether others append to the log that Open returns, before and behind what the
	// tests append to it, so that its positions are not theirs alone.
	Shared() bool
}

// RunLog tests the contract of store.Log. Each call of medium returns one that is empty; one that
// has segments should make them small, some hundred bytes, so that the tests see many.
func RunLog(t *testing.T, medium func(t *testing.T) LogMedium) {
	tests := []struct {
		name string
		run  func(t *testing.T, m LogMedium)
	}{
		{"what is appended is read back, also when it is opened again", testLogReadBack},
		{"an empty log says so", testLogEmpty},
		{"a record may be of any size within the limits", testLogSizes},
		{"positions lead from one record to the next", testLogPositions},
		{"slices may be reused", testLogReuse},
		{"a record in parts is one", testLogParts},
		{"a reader follows what is appended", testLogFollow},
		{"dropping keeps what is wanted, and can be repeated", testLogDrop},
		{"a reader outlives what it reads", testLogDropUnderReader},
		{"a power failure leaves what was synced and a beginning of the rest", testLogPower},
		{"a flipped bit is told of, and read past", testLogFlip},
		{"a flipped bit in what was never synced is a torn tail", testLogFlipInTail},
		{"a full medium changes nothing", testLogFull},
		{"what is appended without waiting makes nothing durable", testLogTry},
		{"a full medium changes nothing for who does not wait", testLogTryFull},
		{"a failed write is final", testLogFailed},
		{"a failed sync is final", testLogFailedSync},
		{"a failure while space is given back is final", testLogFailedDrop},
		{"a closed log and a closed reader say so", testLogClosed},
		{"appends, syncs, reads and drops may run at once", testLogConcurrency},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, medium(t)) })
	}
	t.Run("it agrees with a list", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) { testLogModel(rt, medium(t)) })
	})
}

// entry is a record as a string, where it stands, and what stands behind it.
type entry struct {
	At, Next store.Position
	Data     string
}

func openLog(t rapid.TB, m LogMedium) store.Log {
	t.Helper()
	l, err := m.Open()
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return l
}

func closeLog(t rapid.TB, l store.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// appendTo appends records, and reads them to learn where they stand.
func appendTo(t rapid.TB, l store.Log, records ...string) (entries []entry) {
	t.Helper()
	var batch [][]byte
	for _, record := range records {
		batch = append(batch, []byte(record))
	}
	before := l.Next()
	first, next, err := l.Append(batch...)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	if first < before || next < first || next > l.Next() {
		t.Fatalf("Append returned %d, %d, in a log that reached to %d, and to %d then", first, next, before,
			l.Next())
	}
	r := reader(t, l, first, 0)
	defer r.Close()
	at := first
	for i, data := range records {
		record, err := r.Next()
		if err != nil || string(record.Data) != data {
			t.Fatalf("record %d of %d bytes is read with %d, or others: %v", i, len(data), len(record.Data), err)
		}
		if record.Position != at || record.Next <= at {
			t.Fatalf("record %d of an Append stands from %d to %d, want %d", i, record.Position, record.Next, at)
		}
		at = record.Next
		entries = append(entries, entry{record.Position, record.Next, data})
	}
	if at != next {
		t.Fatalf("the records of an Append end at %d, and it returned %d", at, next)
	}
	return entries
}

func syncLog(t rapid.TB, l store.Log) {
	t.Helper()
	if err := l.Sync(); err != nil {
		t.Fatalf("Sync: %v", err)
	}
	if l.Synced() != l.Next() {
		t.Fatalf("synced up to %d, and appended up to %d", l.Synced(), l.Next())
	}
}

func reader(t rapid.TB, l store.Log, from store.Position, buffer int) store.LogReader {
	t.Helper()
	r, err := l.Read(from, make([]byte, buffer))
	if err != nil {
		t.Fatalf("Read(%d): %v", from, err)
	}
	return r
}

// drain reads to the end, and returns the records and the damage met.
func drain(t rapid.TB, r store.LogReader) (entries []entry, damage []*store.Damage) {
	t.Helper()
	for {
		record, err := r.Next()
		var d *store.Damage
		switch {
		case err == io.EOF:
			return entries, damage
		case errors.As(err, &d):
			if !errors.Is(err, store.ErrCorrupt) || d.From >= d.To || d.Place == "" {
				t.Fatalf("an odd damage: %v", err)
			}
			damage = append(damage, d)
		case err != nil:
			t.Fatalf("Next: %v", err)
		default:
			entries = append(entries, entry{record.Position, record.Next, string(record.Data)})
		}
	}
}

// expectLog checks that the log holds these records from a position on, and nothing damaged.
func expectLog(t rapid.TB, l store.Log, from store.Position, want []entry) {
	t.Helper()
	r := reader(t, l, from, 0)
	defer r.Close()
	got, damage := drain(t, r)
	if len(damage) > 0 {
		t.Fatalf("damage: %v", damage)
	}
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		t.Fatalf("records from %d on (-want +got):\n%s", from, diff)
	}
}

// numberedRecords are records of growing size, with n of them in all.
func numberedRecords(n int) (records []string) {
	for i := range n {
		records = append(records, fmt.Sprintf("record %d %s", i, filled(byte(i), i)))
	}
	return records
}

func testLogReadBack(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	var want []entry
	for i, record := range numberedRecords(60) {
		if i%3 == 0 {
			want = append(want, appendTo(t, l, record)...)
		} else {
			want = append(want, appendTo(t, l, record, "", "and "+record)...)
		}
	}
	for range 3 {
		expectLog(t, l, 0, want)
		for i, e := range want {
			expectLog(t, l, e.At, want[i:])
		}
		size, next := l.Size(), l.Next()
		if size < int64(next) {
			t.Errorf("%d bytes were appended, and the log has a size of %d", next, size)
		}
		closeLog(t, l)
		l = openLog(t, m)
		if l.Next() != next || l.Synced() != next || l.Size() != size {
			t.Fatalf("opened again it ends at %d, synced up to %d, with %d bytes; want %d and %d", l.Next(),
				l.Synced(), l.Size(), next, size)
		}
		want = append(want, appendTo(t, l, "after opening")...)
	}
	closeLog(t, l)
}

func testLogEmpty(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	if l.First() != 0 || l.Next() != 0 || l.Synced() != 0 {
		t.Errorf("an empty log reaches from %d to %d, synced %d", l.First(), l.Next(), l.Synced())
	}
	if first, next, err := l.Append(); first != 0 && !m.Shared() || next != first || err != nil {
		t.Errorf("appending nothing: %d, %d, %v", first, next, err)
	}
	if err := l.DropBefore(100); err != nil {
		t.Errorf("DropBefore: %v", err)
	}
	syncLog(t, l)
	expectLog(t, l, 0, nil)
	expectLog(t, l, 1000, nil)
	closeLog(t, l)
}

// frameOf returns what a record of the log takes beside its own bytes.
func frameOf(t rapid.TB, l store.Log) int {
	t.Helper()
	e := appendTo(t, l, "")[0]
	return int(e.Next - e.At)
}

func testLogSizes(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	defer closeLog(t, l)
	want := appendTo(t, l, "", string(filled(1, 70<<10)), "small")
	frame := frameOf(t, l)
	limit := store.MaxRecord - (frame - store.RecordFrame)
	beyond := make([]byte, limit+1)
	largest := beyond[:limit]
	largest[0], largest[limit-1] = 1, 2
	full := func(more int) [][]byte {
		left := store.MaxAppend - limit - 3*frame
		return [][]byte{largest, largest[:left+more], nil}
	}
	for _, test := range []struct {
		name  string
		batch [][]byte
	}{
		{"a record that is too large", [][]byte{beyond}},
		{"records that are too large together", full(1)},
	} {
		before := l.Next()
		_, _, err := l.Append(test.batch...)
		expectErr(t, test.name, err, store.ErrBatchTooLarge)
		if l.Next() != before && !m.Shared() {
			t.Fatalf("%s was refused, and the log ends at %d", test.name, l.Next())
		}
	}
	batch := full(0)
	first, next, err := l.Append(batch...)
	if err != nil || next-first != store.MaxAppend {
		t.Fatalf("an Append at the limit reaches from %d to %d: %v", first, next, err)
	}
	r := reader(t, l, first, 1<<20)
	for i, data := range batch {
		record, err := r.Next()
		if err != nil || !bytes.Equal(data, record.Data) {
			t.Fatalf("record %d has %d bytes, and is read with %d, or others: %v", i, len(data),
				len(record.Data), err)
		}
	}
	r.Close()
	expectLog(t, l, next, appendTo(t, l, "another"))
	r = reader(t, l, 0, 0)
	defer r.Close()
	for i, e := range want {
		record, err := r.Next()
		if err != nil || string(record.Data) != e.Data {
			t.Fatalf("record %d has %d bytes, and is read with %d, or others: %v", i, len(e.Data),
				len(record.Data), err)
		}
	}
}

// testLogPositions has one Append begin where the one before ended, if nobody else appends: then
// a position counts the bytes before it.
func testLogPositions(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	frame := store.Position(frameOf(t, l))
	for _, record := range numberedRecords(30) {
		end := l.Next()
		all := appendTo(t, l, record, "", "and "+record)
		for _, e := range all {
			if e.Next-e.At != frame+store.Position(len(e.Data)) {
				t.Fatalf("a record of %d bytes takes %d, and an empty one %d", len(e.Data), e.Next-e.At, frame)
			}
		}
		if last := all[len(all)-1]; !m.Shared() && (all[0].At != end || last.Next != l.Next()) {
			t.Fatalf("the log ends at %d, then %d, and what was appended stands from %d to %d", end, l.Next(),
				all[0].At, last.Next)
		}
		syncLog(t, l)
	}
	closeLog(t, l)
}

func testLogReuse(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	defer closeLog(t, l)
	record := []byte("first")
	batch := [][]byte{record}
	for _, text := range []string{"first", "again", "third"} {
		copy(record, text)
		if _, _, err := l.Append(batch...); err != nil {
			t.Fatal(err)
		}
	}
	clear(record)
	r := reader(t, l, 0, 0)
	defer r.Close()
	got, _ := drain(t, r)
	var texts []string
	for _, e := range got {
		texts = append(texts, e.Data)
	}
	if diff := cmp.Diff([]string{"first", "again", "third"}, texts); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// testLogParts appends a record in parts, between others, on a medium that is full before it has
// the last part.
func testLogParts(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	parts := [][]byte{[]byte("a record"), nil, bytes.Repeat([]byte("in parts"), 100), []byte("!")}
	whole := string(bytes.Join(parts, nil))
	want := appendTo(t, l, "before", "")
	frame := int(want[1].Next - want[1].At)
	for _, room := range []int{0, frame + 20, len(whole)} {
		m.SetRoom(l, int64(room))
		if _, _, err := l.AppendParts(parts...); !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("a record of %d bytes on a medium with %d left: %v", len(whole), room, err)
		}
	}
	m.SetRoom(l, -1)
	first, next, err := l.AppendParts(parts...)
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, entry{first, next, whole})
	if first, next, err = l.AppendParts(); err != nil {
		t.Fatal(err)
	}
	want = append(want, entry{first, next, ""})
	want = append(want, appendTo(t, l, "after")...)
	expectLog(t, l, 0, want)
	large := make([]byte, store.MaxRecord/2+1)
	if _, _, err := l.AppendParts(large, large); !errors.Is(err, store.ErrBatchTooLarge) {
		t.Errorf("a record beyond MaxRecord, in parts: %v, want ErrBatchTooLarge", err)
	}
	closeLog(t, l)
	l = openLog(t, m)
	defer closeLog(t, l)
	expectLog(t, l, 0, want)
}

func testLogFollow(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	defer closeLog(t, l)
	r := reader(t, l, 0, 0)
	defer r.Close()
	for _, record := range numberedRecords(40) {
		want := appendTo(t, l, record, "and "+record)
		got, _ := drain(t, r)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("what a reader saw of an append (-want +got):\n%s", diff)
		}
	}
}

func testLogClosed(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	appendTo(t, l, "a", "b")
	closed := reader(t, l, 0, 0)
	closed.Close()
	closed.Close()
	_, err := closed.Next()
	expectErr(t, "Next of a closed reader", err, store.ErrClosed)
	left := reader(t, l, l.Next(), 0)
	defer left.Close()

	closeLog(t, l)
	closeLog(t, l)
	_, _, err = l.Append([]byte("c"))
	expectErr(t, "Append", err, store.ErrClosed)
	expectErr(t, "Sync", l.Sync(), store.ErrClosed)
	expectErr(t, "DropBefore", l.DropBefore(1), store.ErrClosed)
	_, err = l.Read(0, nil)
	expectErr(t, "Read", err, store.ErrClosed)
	_, err = left.Next()
	expectErr(t, "Next of a reader at the end", err, store.ErrClosed)
}

func testLogDrop(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	var all []entry
	for _, record := range numberedRecords(60) {
		all = append(all, appendTo(t, l, record)...)
	}
	syncLog(t, l)
	before := l.Size()
	for i := 0; i < len(all); i += 7 {
		for range 2 {
			if err := l.DropBefore(all[i].At); err != nil {
				t.Fatalf("DropBefore(%d): %v", all[i].At, err)
			}
		}
		first := l.First()
		if first > all[i].At {
			t.Fatalf("DropBefore(%d) dropped up to %d", all[i].At, first)
		}
		left := slices.IndexFunc(all, func(e entry) bool { return e.At >= first })
		expectLog(t, l, first, all[left:])
		if left > 0 {
			_, err := l.Read(all[left-1].At, nil)
			expectErr(t, "reading what was dropped", err, store.ErrDropped)
		}
		next := l.Next()
		closeLog(t, l)
		l = openLog(t, m)
		if l.First() != first || l.Next() != next {
			t.Fatalf("opened again it has %d to %d, want %d to %d", l.First(), l.Next(), first, next)
		}
	}
	if l.First() == 0 || l.Size() >= before {
		t.Errorf("nothing was dropped: it begins at %d and has %d bytes of %d", l.First(), l.Size(), before)
	}
	if err := l.DropBefore(math.MaxUint64); err != nil {
		t.Fatal(err)
	}
	appendTo(t, l, "goes on")
	closeLog(t, l)
}

// testLogDropUnderReader drops everything under a reader, which has to go on, or to say where it
// ends.
func testLogDropUnderReader(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	defer closeLog(t, l)
	var all []entry
	for _, record := range numberedRecords(60) {
		all = append(all, appendTo(t, l, record)...)
	}
	syncLog(t, l)
	r := reader(t, l, 0, 0)
	defer r.Close()
	for i := range all {
		if i == 1 {
			if err := l.DropBefore(l.Next()); err != nil {
				t.Fatal(err)
			}
		}
		record, err := r.Next()
		if errors.Is(err, store.ErrDropped) && i > 0 && all[i].At < l.First() {
			return
		}
		if err != nil || string(record.Data) != all[i].Data {
			t.Fatalf("record %d: %q, %v", i, record.Data, err)
		}
	}
	t.Error("everything was dropped under a reader, and it still read all of it")
}

func testLogPower(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	all := appendTo(t, l, numberedRecords(3)...)
	for keep := range int64(120) {
		syncLog(t, l)
		lost := appendTo(t, l, "lost", fmt.Sprint("or kept ", keep), string(filled(3, int(keep))))
		synced := l.Synced()
		if err := m.LosePower(l, keep); err != nil {
			t.Fatal(err)
		}
		l = openLog(t, m)
		for _, e := range lost {
			if e.Next <= synced+store.Position(keep) {
				all = append(all, e)
			}
		}
		if end := all[len(all)-1].Next; l.Next() != end && !m.Shared() || l.Synced() != l.Next() {
			t.Fatalf("with %d bytes kept it ends at %d, synced %d, want %d", keep, l.Next(), l.Synced(), end)
		}
		all = append(all, appendTo(t, l, "after")...)
		expectLog(t, l, 0, all)
	}
	closeLog(t, l)
}

// testLogFlip damages each record, in its frame and in its data, and expects to read all others.
func testLogFlip(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	var all []entry
	for _, record := range numberedRecords(60) {
		all = append(all, appendTo(t, l, record)...)
		syncLog(t, l)
	}
	var left []entry
	for i, e := range all {
		if i%3 != 1 {
			left = append(left, e)
			continue
		}
		at := []int{0, 3, 5, 9, 13, store.RecordFrame, store.RecordFrame + 5}[i/3%7]
		if err := m.Flip(l, e.At, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, reopened := range []bool{false, true} {
		if reopened {
			closeLog(t, l)
			l = openLog(t, m)
		}
		r := reader(t, l, 0, 0)
		got, damage := drain(t, r)
		r.Close()
		if diff := cmp.Diff(left, got); diff != "" {
			t.Fatalf("records that are not damaged (-want +got):\n%s", diff)
		}
		for i, e := range all {
			if i%3 != 1 {
				continue
			}
			if d := damage[i/3]; d.From != e.At || d.To != e.Next {
				t.Errorf("damage from %d to %d: %v", e.At, e.Next, d)
			}
		}
	}
	closeLog(t, l)
}

func testLogFlipInTail(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	all := appendTo(t, l, "synced")
	syncLog(t, l)
	all = append(all, appendTo(t, l, "kept")...)
	bad := appendTo(t, l, "damaged", "whole")
	appendTo(t, l, "whole as well")
	if err := m.Flip(l, bad[0].At, store.RecordFrame); err != nil {
		t.Fatal(err)
	}
	if err := m.LosePower(l, math.MaxInt32); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, m)
	expectLog(t, l, 0, all)
	expectLog(t, l, 0, append(all, appendTo(t, l, "instead")...))
	closeLog(t, l)
}

func testLogFull(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	var all []entry
	for i, record := range numberedRecords(100) {
		m.SetRoom(l, int64(i))
		before := l.Next()
		_, _, err := l.Append([]byte(record), []byte("and"), filled(1, 100))
		expectErr(t, "Append to a full medium", err, store.ErrNoSpace)
		if l.Next() != before && !m.Shared() {
			t.Fatalf("a refused Append moved the end from %d to %d", before, l.Next())
		}
		if i%2 == 0 {
			syncLog(t, l)
		}
		m.SetRoom(l, -1)
		all = append(all, appendTo(t, l, record)...)
		if i%10 == 0 {
			closeLog(t, l)
			l = openLog(t, m)
		}
	}
	expectLog(t, l, 0, all)
	closeLog(t, l)
}

func testLogTry(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	want := appendTo(t, l, "")
	frame, tried := want[0].Next-want[0].At, 0
	for _, record := range numberedRecords(60) {
		synced := l.Synced()
		first, next, err := l.TryAppend([]byte(record), []byte("and"))
		if l.Synced() != synced {
			t.Fatalf("TryAppend moved Synced from %d to %d", synced, l.Synced())
		}
		if errors.Is(err, store.ErrWouldWait) {
			want = append(want, appendTo(t, l, record, "and")...)
			continue
		}
		if err != nil {
			t.Fatalf("TryAppend: %v", err)
		}
		tried++
		middle := next - frame - store.Position(len("and"))
		want = append(want, entry{first, middle, record}, entry{middle, next, "and"})
		want = append(want, appendTo(t, l, "")...)
	}
	if tried == 0 {
		t.Error("each TryAppend would have waited")
	}
	closeLog(t, l)
	l = openLog(t, m)
	expectLog(t, l, 0, want)
	closeLog(t, l)
	_, _, err := l.TryAppend([]byte("late"))
	expectErr(t, "TryAppend to a closed log", err, store.ErrClosed)
}

// testLogTryFull has others go on behind what a full medium took in part.
func testLogTryFull(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	var all []entry
	for i := range 60 {
		m.SetRoom(l, int64(i))
		for range 2 {
			_, _, err := l.TryAppend([]byte("refused"), nil, filled(1, 100))
			if !errors.Is(err, store.ErrWouldWait) && !errors.Is(err, store.ErrNoSpace) {
				t.Fatalf("TryAppend to a full medium: %v", err)
			}
		}
		if i%3 == 0 {
			syncLog(t, l)
		}
		m.SetRoom(l, -1)
		if i%2 == 0 {
			all = append(all, appendTo(t, l, "instead")...)
		}
		if i%5 == 0 {
			closeLog(t, l)
			l = openLog(t, m)
		}
		expectLog(t, l, 0, all)
	}
	closeLog(t, l)
}

func testLogFailed(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	all := appendTo(t, l, numberedRecords(5)...)
	syncLog(t, l)
	m.Fail(l)
	for range 2 {
		_, _, err := l.Append([]byte("lost"))
		expectErr(t, "Append", err, store.ErrFailed)
		expectErr(t, "Sync", l.Sync(), store.ErrFailed)
	}
	expectLog(t, l, 0, all)
	closeLog(t, l)
	l = openLog(t, m)
	expectLog(t, l, 0, all)
	closeLog(t, l)
}

func testLogFailedSync(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	appendTo(t, l, "synced")
	syncLog(t, l)
	synced := l.Synced()
	appendTo(t, l, "not")
	m.Fail(l)
	for range 2 {
		expectErr(t, "Sync", l.Sync(), store.ErrFailed)
		if l.Synced() != synced {
			t.Fatalf("a failed sync moved Synced from %d to %d", synced, l.Synced())
		}
		_, _, err := l.Append([]byte("lost"))
		expectErr(t, "Append", err, store.ErrFailed)
	}
	closeLog(t, l)
}

// testLogFailedDrop has the medium fail while space is given back.
func testLogFailedDrop(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	for _, record := range numberedRecords(20) {
		appendTo(t, l, record)
	}
	syncLog(t, l)
	m.Fail(l)
	for range 2 {
		expectErr(t, "DropBefore", l.DropBefore(l.Next()), store.ErrFailed)
		_, _, err := l.Append([]byte("lost"))
		expectErr(t, "Append", err, store.ErrFailed)
		expectErr(t, "Sync", l.Sync(), store.ErrFailed)
	}
	closeLog(t, l)
}

// testLogConcurrency has one writer that numbers its records, and others who sync, drop and read.
func testLogConcurrency(t *testing.T, m LogMedium) {
	l := openLog(t, m)
	const records, keep = 600, 4096
	var writing, others sync.WaitGroup
	done := make(chan struct{})
	again := func(fn func() error) {
		others.Go(func() {
			for {
				if err := fn(); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writing.Go(func() {
		for i := range records {
			if _, _, err := l.Append(fmt.Appendf(nil, "number %06d", i), filled(byte(i), i%50)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	again(l.Sync)
	again(func() error { return l.DropBefore(max(l.Next(), keep) - keep) })
	for range 3 {
		again(func() error { return readNumbers(l) })
	}
	writing.Wait()
	close(done)
	others.Wait()
	if err := readNumbers(l); err != nil {
		t.Error(err)
	}
	closeLog(t, l)
}

// readNumbers reads what there is, and expects each second record to have the next number.
func readNumbers(l store.Log) error {
	r, err := l.Read(l.First(), nil)
	if errors.Is(err, store.ErrDropped) {
		return nil // between the two calls
	}
	if err != nil {
		return err
	}
	defer r.Close()
	last := -1
	for {
		record, err := r.Next()
		if err == io.EOF || errors.Is(err, store.ErrDropped) {
			return nil
		}
		if err != nil {
			return err
		}
		var number int
		if n, _ := fmt.Sscanf(string(record.Data), "number %06d", &number); n == 0 {
			continue
		}
		if last >= 0 && number != last+1 {
			return fmt.Errorf("number %d is followed by %d", last, number)
		}
		last = number
	}
}

// testLogModel does what comes to rapid's mind with a log and with a list of records, which have to
// agree. rapid prints how to replay a failure.
func testLogModel(t *rapid.T, m LogMedium) {
	l := openLog(t, m)
	var all []entry
	check := func(t *rapid.T) {
		first := l.First()
		left := slices.IndexFunc(all, func(e entry) bool { return e.At >= first })
		if left < 0 {
			left = len(all)
		}
		expectLog(t, l, first, slices.Clone(all[left:]))
	}
	reopened := func() {
		l = openLog(t, m)
		if l.Synced() != l.Next() {
			t.Fatalf("after opening, synced is %d and next %d", l.Synced(), l.Next())
		}
	}
	size := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 400))
	t.Repeat(map[string]func(*rapid.T){
		"": check,
		"append": func(t *rapid.T) {
			var batch []string
			for range rapid.IntRange(0, 5).Draw(t, "records") {
				batch = append(batch, string(filled(byte(len(all)), size.Draw(t, "size"))))
			}
			all = append(all, appendTo(t, l, batch...)...)
		},
		"sync": func(t *rapid.T) { syncLog(t, l) },
		"drop": func(t *rapid.T) {
			before := l.First()
			p := store.Position(rapid.Uint64Range(0, uint64(l.Next())).Draw(t, "position"))
			if err := l.DropBefore(p); err != nil {
				t.Fatalf("DropBefore: %v", err)
			}
			if l.First() > max(p, before) {
				t.Fatalf("DropBefore(%d) dropped from %d up to %d", p, before, l.First())
			}
		},
		"fill": func(t *rapid.T) {
			m.SetRoom(l, rapid.Int64Range(0, 300).Draw(t, "room"))
			_, _, err := l.Append(filled(1, 300))
			expectErr(t, "Append", err, store.ErrNoSpace)
			m.SetRoom(l, -1)
		},
		"reopen": func(t *rapid.T) {
			closeLog(t, l)
			reopened()
		},
		"lose power": func(t *rapid.T) {
			keep := rapid.Int64Range(0, 1000).Draw(t, "keep")
			end := l.Synced() + store.Position(keep)
			if err := m.LosePower(l, keep); err != nil {
				t.Fatalf("LosePower: %v", err)
			}
			all = slices.DeleteFunc(all, func(e entry) bool { return e.Next > end })
			reopened()
		},
	})
	closeLog(t, l)
}
