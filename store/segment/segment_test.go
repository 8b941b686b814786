package segment

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

var update = flag.Bool("update", false, "write the golden file anew")

func mustOpen(t testing.TB, dir string, opts Options) *Log {
	t.Helper()
	l, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustAppend(t testing.TB, l *Log, records ...string) {
	t.Helper()
	for _, record := range records {
		if _, _, err := l.Append([]byte(record)); err != nil {
			t.Fatal(err)
		}
	}
}

// told returns what a reader is told of the log, a line for each call.
func told(t testing.TB, l store.Log, from store.Position) string {
	t.Helper()
	r, err := l.Read(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out strings.Builder
	for {
		record, err := r.Next()
		var damage *store.Damage
		switch {
		case err == io.EOF:
			return out.String()
		case errors.As(err, &damage):
			fmt.Fprintf(&out, "damage %d-%d %s\n", damage.From, damage.To, damage.Place)
		case err != nil:
			t.Fatal(err)
		default:
			fmt.Fprintf(&out, "%d %s\n", record.Position, record.Data)
		}
	}
}

func expectTold(t *testing.T, l store.Log, from store.Position, want ...string) {
	t.Helper()
	if got := told(t, l, from); got != strings.Join(append(want, ""), "\n") {
		t.Errorf("a reader from %d is told:\n%swant:\n%s", from, got, strings.Join(want, "\n"))
	}
}

// filled returns a directory with records of 4 bytes, three in a segment, all synced: at 0, 20,
// 40 | 60, 80, 100 | and so on.
func filled(t *testing.T, records ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l := mustOpen(t, dir, Options{SegmentSize: 60})
	mustAppend(t, l, records...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func file0(dir string, base int) string {
	return filepath.Join(dir, segment{base: store.Position(base)}.name())
}

const format2 = "format2.log" // of a segment with base 1000

// golden are records with the position up to which the log was synced when they were written.
var golden = []struct {
	synced store.Position
	data   string
}{{1000, "a record"}, {1000, ""}, {1024, strings.Repeat("long ", 20)}, {1040, "the last"}}

func TestTheFormatIsAsItWas(t *testing.T) {
	s := segment{base: 1000, salt: 0x5eed}
	want := s.header()
	sum := checksum{salt: s.salt}
	at := s.base
	for _, r := range golden {
		want = sum.appendRecord(want, at, r.synced, []byte(r.data))
		at = at.After([]byte(r.data))
	}
	path := filepath.Join("testdata", format2)
	if *update {
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("a segment is written as\n%x\nand was\n%x", want, got)
	}

	dir := t.TempDir()
	if err := os.WriteFile(file0(dir, 1000), got, 0o600); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, dir, Options{})
	defer l.Close()
	expectTold(t, l, 1000, "1000 a record", "1024 ", "1040 "+golden[2].data, "1156 the last")
	if l.First() != 1000 || l.Next() != at || l.Torn() != 0 {
		t.Errorf("it reaches from %d to %d, torn %d", l.First(), l.Next(), l.Torn())
	}
}

func TestAnotherFormatIsRefusedUntouched(t *testing.T) {
	dir := filled(t, "one.", "two.", "thre", "four")
	s := segment{base: 0}
	header := s.header()
	order.PutUint32(header[len(magic):], 3)
	order.PutUint32(header[headerSize-4:], crcOf(header[:headerSize-4]))
	if err := os.WriteFile(file0(dir, 0), append(header, "something else"...), 0o600); err != nil {
		t.Fatal(err)
	}
	// What is torn in another file must not be cut off either.
	if err := os.WriteFile(file0(dir, 60), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{})
	if !errors.Is(err, wire.ErrFormat) || !strings.Contains(err.Error(), "format 3") ||
		!strings.Contains(err.Error(), "move") {
		t.Errorf("a log of format 3: %v", err)
	}
	first, _ := os.ReadFile(file0(dir, 0))
	second, _ := os.ReadFile(file0(dir, 60))
	if string(first[headerSize:]) != "something else" || string(second) != "torn" {
		t.Errorf("it was refused and changed: %q, %q", first, second)
	}
}

func crcOf(b []byte) uint32 { return (&checksum{salt: 0}).record(b) }

func TestATornTailIsCutOffAndToldOf(t *testing.T) {
	for _, test := range []struct {
		name string
		tail string
	}{
		{"a half frame", "\x10\x00\x00\x00\x00"},
		{"preallocated space", strings.Repeat("\x00", 100)},
		{"noise", strings.Repeat("noise", 30)},
	} {
		dir := filled(t, "one.", "two.")
		f, err := os.OpenFile(file0(dir, 0), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(test.tail)
		f.Close()
		l := mustOpen(t, dir, Options{})
		if l.Torn() != int64(len(test.tail)) || l.Next() != 40 {
			t.Errorf("%s: %d bytes were torn, and it ends at %d; want %d and 40", test.name, l.Torn(), l.Next(),
				len(test.tail))
		}
		mustAppend(t, l, "thre")
		expectTold(t, l, 0, "0 one.", "20 two.", "40 thre")
		l.Close()
	}
}

// The frame tells up to where the log was synced, and so whether a bad record before a good one was
// ever whole.
func TestRotIsToldFromATear(t *testing.T) {
	for _, test := range []struct {
		name string
		sync bool // behind the record that goes bad
		want []string
	}{
		{"synced", true, []string{"0 one.", "damage 20-40 " + segment{}.name(), "40 thre", "60 four"}},
		{"not synced", false, []string{"0 one."}},
	} {
		dir := t.TempDir()
		l := mustOpen(t, dir, Options{})
		mustAppend(t, l, "one.", "two.")
		if test.sync {
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		mustAppend(t, l, "thre", "four")
		l.Close()
		if err := flip(file0(dir, 0), headerSize+20+3); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, dir, Options{})
		t.Log(test.name)
		expectTold(t, l, 0, test.want...)
		l.Close()
	}
}

func TestWhatTheOwnerKnowsToBeSyncedIsDamagedAndNotTorn(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(dir string) error
		want   []string
		next   store.Position
	}{
		{"rot at the end", func(dir string) error { return flip(file0(dir, 60), headerSize+20+16) },
			[]string{"60 four", "damage 80-100 " + segment{base: 60}.name()}, 100},
		{"a file cut short", func(dir string) error { return os.Truncate(file0(dir, 60), headerSize+30) },
			[]string{"60 four", "damage 80-100 " + segment{base: 60}.name()}, 100},
		{"a header that rotted", func(dir string) error { return flip(file0(dir, 60), 17) },
			[]string{"damage 60-100 " + segment{base: 60}.name()}, 100},
		{"a file that is gone", func(dir string) error { return os.Remove(file0(dir, 60)) },
			[]string{"damage 60-100 " + segment{}.name()}, 100},
		{"a file that is empty", func(dir string) error { return os.Truncate(file0(dir, 60), 0) },
			[]string{"damage 60-100 " + segment{base: 60}.name()}, 100},
		{"all is gone", func(dir string) error {
			return errors.Join(os.Remove(file0(dir, 0)), os.Remove(file0(dir, 60)))
		}, nil, 100},
	} {
		dir := filled(t, "one.", "two.", "thre", "four", "five")
		if err := test.damage(dir); err != nil {
			t.Fatal(err)
		}
		t.Log(test.name)
		want := test.want
		for range 2 {
			l := mustOpen(t, dir, Options{Synced: 100})
			from := max(60, l.First())
			if l.Next() != test.next {
				t.Errorf("it ends at %d, want %d", l.Next(), test.next)
			}
			expectTold(t, l, from, want...)
			next := fmt.Sprint(l.Next(), " more")
			mustAppend(t, l, "more")
			want = append(want[:len(want):len(want)], next)
			expectTold(t, l, from, want...)
			l.Close()
			test.next += 20
		}
	}
}

func TestDamageOfASegmentInTheMiddleStaysThere(t *testing.T) {
	records := []string{"one.", "two.", "thre", "four", "five", "six.", "sevn"}
	for _, test := range []struct {
		name   string
		damage func(dir string) error
		want   string
	}{
		{"a header that rotted", func(dir string) error { return flip(file0(dir, 60), 9) },
			"damage 60-120 " + segment{base: 60}.name()},
		{"a file that is gone", func(dir string) error { return os.Remove(file0(dir, 60)) },
			"damage 60-120 " + segment{}.name()},
		{"another's file", func(dir string) error { return os.Rename(file0(dir, 0), file0(dir, 60)) },
			"damage 60-120 " + segment{base: 60}.name()},
		{"a file that is short", func(dir string) error { return os.Truncate(file0(dir, 60), headerSize) },
			"damage 60-120 " + segment{base: 60}.name()},
		{"zeroes", func(dir string) error {
			return os.WriteFile(file0(dir, 60), make([]byte, headerSize+60), 0o600)
		}, "damage 60-120 " + segment{base: 60}.name()},
	} {
		dir := filled(t, records...)
		if err := test.damage(dir); err != nil {
			t.Fatal(err)
		}
		t.Log(test.name)
		l := mustOpen(t, dir, Options{})
		want := []string{test.want, "120 sevn"}
		if l.First() == 0 {
			want = append([]string{"0 one.", "20 two.", "40 thre"}, want...)
		}
		expectTold(t, l, l.First(), want...)
		l.Close()
	}
}

// A value may hold what looks like a record. When the frame before it rots it must not become one.
func TestAStoredValueDoesNotPoseAsARecord(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	inside := store.Position(frameSize + 4)
	forged := (&checksum{salt: 0}).appendRecord([]byte("true"), inside, inside, []byte("forged"))
	mustAppend(t, l, string(forged), "next")
	l.Close()
	if err := flip(file0(dir, 0), headerSize+1); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, dir, Options{Synced: 1})
	defer l.Close()
	if got := told(t, l, 0); strings.Contains(got, "forged") || !strings.Contains(got, "next") {
		t.Errorf("a reader is told:\n%s", got)
	}
}

// stuck is a file whose syncs wait.
type stuck struct {
	file
	entered, leave chan struct{}
}

func (f *stuck) Sync() error {
	close(f.entered)
	<-f.leave
	return f.file.Sync()
}

// TestWhoMustNotWaitIsToldThatASegmentIsBegun has another begin it, whom the disk keeps.
func TestWhoMustNotWaitIsToldThatASegmentIsBegun(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{SegmentSize: 100})
	f := &stuck{l.last, make(chan struct{}), make(chan struct{})}
	l.last = f
	mustAppend(t, l, strings.Repeat("a", 60))
	var other sync.WaitGroup
	other.Go(func() { mustAppend(t, l, strings.Repeat("b", 60)) })
	<-f.entered
	if _, _, err := l.TryAppend([]byte("c")); !errors.Is(err, store.ErrWouldWait) {
		t.Errorf("while a segment is begun: %v", err)
	}
	close(f.leave)
	other.Wait()
	if _, _, err := l.TryAppend([]byte("c")); err != nil {
		t.Error(err)
	}
	expectTold(t, l, 0, "0 "+strings.Repeat("a", 60), "76 "+strings.Repeat("b", 60), "152 c")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestAppendAndReadAllocateNothing(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	defer l.Close()
	batch := [][]byte{bytes.Repeat([]byte("a"), 64), bytes.Repeat([]byte("b"), 200)}
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := l.Append(batch...); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("an Append makes %v allocations", n)
	}
	r, err := l.Read(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a record read makes %v allocations", n)
	}
}

// FuzzRecords scans bytes as the records of a segment. Whatever they are, the scanner gets to the
// end, without a gap or an overlap, and each record it finds is the only way to write it.
func FuzzRecords(f *testing.F) {
	s := segment{base: 1000, salt: 0x5eed}
	sum := checksum{salt: s.salt}
	f.Fuzz(func(t *testing.T, data []byte) {
		file := bytes.NewReader(append(s.header(), data...))
		end := s.base + store.Position(len(data))
		records := scan(s, file, s.base, end, make([]byte, 64))
		for at := s.base; ; {
			record, synced, err := records.next()
			var damage *store.Damage
			switch {
			case err == io.EOF && at == end:
				return
			case errors.As(err, &damage) && damage.From == at && damage.To > at && damage.To <= end:
				at = damage.To
			case err == nil && record.Position == at && record.Next > at && record.Next <= end:
				again := sum.appendRecord(nil, at, synced, record.Data)
				if !bytes.Equal(again, data[at-s.base:record.Next-s.base]) {
					t.Fatalf("the record at %d would be written as %x", at, again)
				}
				at = record.Next
			default:
				t.Fatalf("at %d of %d: %+v, %v", at, end, record, err)
			}
		}
	})
}

// worn is a directory of which one file cannot be read from an offset on, nor opened if that is
// negative. With no name it cannot be listed.
type worn struct {
	directory
	name string
	from int64
}

var errRead = &os.PathError{Op: "read", Path: "disk", Err: syscall.EIO}

func (d worn) list() ([]string, error) {
	if d.name == "" {
		return nil, errRead
	}
	return d.directory.list()
}

func (d worn) open(name string) (file, error) {
	if name == d.name && d.from < 0 {
		return nil, errRead
	}
	f, err := d.directory.open(name)
	if err == nil && name == d.name {
		f = wornFile{f, d.from}
	}
	return f, err
}

type wornFile struct {
	file
	from int64
}

func (f wornFile) ReadAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) <= f.from {
		return f.file.ReadAt(b, at)
	}
	n, err := f.file.ReadAt(b[:max(0, f.from-at)], at)
	return n, errors.Join(err, errRead)
}

// TestASectorThatCannotBeReadIsNoDamage: it may be read once the disk is well, so nobody goes on behind it.
func TestASectorThatCannotBeReadIsNoDamage(t *testing.T) {
	dir := filled(t, "one.", "two.", "thre", "four", "five", "six.", "sevn")
	l, err := open(worn{disk(dir), segment{base: 60}.name(), headerSize + 30}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := l.Read(40, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 5 {
		if _, err = r.Next(); err != nil {
			break
		}
	}
	if !errors.Is(err, store.ErrUnreadable) || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a reader is told %v", err)
	}
}

// TestALogOnADiskThatFailsIsNotOpenedAndStaysAsItIs, and the error says which way the disk failed.
func TestALogOnADiskThatFailsIsNotOpenedAndStaysAsItIs(t *testing.T) {
	dir := filled(t, "one.", "two.", "thre", "four", "five", "six.", "sevn")
	older, newest := segment{base: 60}.name(), segment{base: 120}.name()
	for what, d := range map[string]directory{
		"the directory": worn{}, "an older file": worn{disk(dir), older, -1}, "its header": worn{disk(dir), older, 0},
		"the newest file": worn{disk(dir), newest, -1}, "its records": worn{disk(dir), newest, headerSize},
	} {
		if _, err := open(d, Options{}); !errors.Is(err, store.ErrUnreadable) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%s cannot be read: %v", what, err)
		}
	}
	broken := &faults{}
	broken.failed.Store(true)
	if _, err := open(faulty{disk(dir), broken}, Options{}); !errors.Is(err, store.ErrFailed) {
		t.Errorf("it cannot be written: %v", err)
	}
	l := mustOpen(t, dir, Options{})
	defer l.Close()
	expectTold(t, l, 0, "0 one.", "20 two.", "40 thre", "60 four", "80 five", "100 six.", "120 sevn")
	l.dir = worn{l.dir, older, -1}
	if _, err := l.Read(60, nil); !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("a reader of a file that cannot be opened is told %v", err)
	}
}
