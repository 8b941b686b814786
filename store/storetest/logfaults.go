package storetest

import (
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

// testLogDropUnderReader drops everything under a reader, which has to go on, or to say where it ends.
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
