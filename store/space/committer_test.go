package space

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
	"github.com/peerd/peerd/store/segment"
)

// slow is a log whose first Append waits until it is let go.
type slow struct {
	store.Log
	mu      sync.Mutex
	appends int
	largest int
	entered chan struct{}
	letGo   chan struct{}
}

func (l *slow) Append(records ...[]byte) (first, next store.Position, err error) {
	l.mu.Lock()
	l.appends++
	l.largest = max(l.largest, len(records))
	one := l.appends == 1
	l.mu.Unlock()
	if one {
		close(l.entered)
		<-l.letGo
	}
	return l.Log.Append(records...)
}

// queued returns how many appends wait.
func (c *Committer) queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// gather has n spaces append at once while the log is busy, and returns their errors.
func gather(t *testing.T, whole *mem.Log, n int, meanwhile func()) (c *Committer, l *slow, errs []error) {
	t.Helper()
	l = &slow{Log: whole, entered: make(chan struct{}), letGo: make(chan struct{})}
	c = NewCommitter(l)
	errs = make([]error, n)
	var all sync.WaitGroup
	all.Go(func() { c.Log(1000, 0).Append([]byte("leads")) })
	<-l.entered
	for i := range n {
		log := c.Log(Number(i), 0)
		all.Go(func() {
			first, next, err := log.Append(fmt.Appendf(nil, "record %d", i), []byte("and"))
			if errs[i] = err; err == nil && next-first != store.Position(2*(store.RecordFrame+2)+len("record 0and")) {
				errs[i] = fmt.Errorf("an Append from %d to %d", first, next)
			}
		})
	}
	for c.queued() < n { // each of them comes to wait
	}
	meanwhile()
	close(l.letGo)
	all.Wait()
	return c, l, errs
}

func TestWhatWaitsIsOneAppend(t *testing.T) {
	c, l, errs := gather(t, mem.NewLog(), 8, func() {})
	if err := errors.Join(errs...); err != nil || l.appends != 2 || l.largest != 16 {
		t.Fatalf("%d appends of at most %d records: %v", l.appends, l.largest, err)
	}
	for i := range 8 {
		log := c.Log(Number(i), 0)
		r, err := log.Read(0, nil)
		if err != nil {
			t.Fatal(err)
		}
		record, err := r.Next()
		if want := fmt.Sprint("record ", i); err != nil || string(record.Data) != want {
			t.Errorf("space %d has %q, %v", i, record.Data, err)
		}
		again, err := log.Read(record.Position, nil)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := again.Next(); err != nil || string(same.Data) != fmt.Sprint("record ", i) {
			t.Errorf("at its position stands %q, %v", same.Data, err)
		}
		r.Next()
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("space %d has another's record: %v", i, err)
		}
	}
}

// TestWhoMustNotWaitIsToldThatOthersAppend and appends once they have.
func TestWhoMustNotWaitIsToldThatOthersAppend(t *testing.T) {
	l := &slow{Log: mem.NewLog(), entered: make(chan struct{}), letGo: make(chan struct{})}
	c := NewCommitter(l)
	log := c.Log(5, 0)
	var other sync.WaitGroup
	other.Go(func() { c.Log(1, 0).Append([]byte("leads")) })
	<-l.entered
	if _, _, err := log.TryAppend([]byte("early")); !errors.Is(err, store.ErrWouldWait) {
		t.Errorf("while another appends: %v", err)
	}
	close(l.letGo)
	other.Wait()
	if _, next, err := log.TryAppend([]byte("afterwards")); err != nil || next != l.Next() {
		t.Errorf("afterwards it ends at %d of %d: %v", next, l.Next(), err)
	}
}

func TestAFullDiskRefusesAllThatWait(t *testing.T) {
	whole := mem.NewLog()
	_, _, errs := gather(t, whole, 4, func() { whole.SetRoom(100) })
	for i, err := range errs {
		if !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("append %d: %v", i, err)
		}
	}
}

func TestWhatIsTooLargeIsRefusedAlone(t *testing.T) {
	c := NewCommitter(mem.NewLog())
	if _, _, err := c.Log(1, 0).Append(make([]byte, MaxRecord+1)); !errors.Is(err, store.ErrBatchTooLarge) {
		t.Errorf("%v", err)
	}
	for _, size := range []store.Position{store.MaxAppend - 1, 1, 1} {
		c.queue = append(c.queue, &request{size: size})
	}
	if c.take(); len(c.taken) != 2 || len(c.queue) != 1 {
		t.Errorf("%d are taken into one Append, and %d wait", len(c.taken), len(c.queue))
	}
}

// TestTheLogIsCutBeforeTheLeast has spaces that say different things, nothing, and are forgotten.
func TestTheLogIsCutBeforeTheLeast(t *testing.T) {
	whole := mem.NewLog()
	c := NewCommitter(whole)
	a, b, silent := c.Log(1, 0), c.Log(2, 0), c.Log(3, 0)
	var at []store.Position
	for range 10 {
		first, _, err := a.Append([]byte("record"))
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, first)
	}
	if err := a.Sync(); err != nil {
		t.Fatal(err)
	}
	expect := func(what string, err error, want store.Position) {
		t.Helper()
		if err != nil || whole.First() != want {
			t.Fatalf("%s: the log begins at %d, want %d (%v)", what, whole.First(), want, err)
		}
	}
	expect("one wants less", a.DropBefore(at[5]), 0)
	expect("another too", b.DropBefore(at[3]), 0)
	expect("the silent one", silent.DropBefore(at[2]), at[2])
	expect("one forgotten", c.Forget(3), at[3])
	expect("what another needs", a.DropBefore(1<<60), at[3])
	put := func(log store.Log) error {
		_, _, err := log.Append([]byte("more"))
		return err
	}
	if err := put(a); err != nil { // power may take it, and its positions have others' records then
		t.Fatal(err)
	}
	end := whole.Next()
	log, err := c.Begin(func(from store.Position) (Number, error) {
		if from != end || whole.Synced() != end {
			t.Errorf("a new space begins at %d, and the log ends at %d and is synced to %d", from, end, whole.Synced())
		}
		err := errors.Join(a.Sync(), a.DropBefore(1<<60), b.DropBefore(1<<60))
		expect("one that begins", err, from)
		return 4, nil
	})
	expect("one that began", errors.Join(err, a.DropBefore(1<<60)), end)
	if log.First() != 0 {
		t.Errorf("a new space has lost what it never had: it begins at %d", log.First())
	}
	if err := errors.Join(put(log), b.DropBefore(1<<60)); err != nil {
		t.Fatal(err)
	}
	theirs := whole.Next()
	err = errors.Join(put(b), a.Sync(), a.DropBefore(1<<60), log.DropBefore(1<<60))
	expect("what came after it was said", err, theirs)
	if log.First() != theirs {
		t.Errorf("what is dropped is not told of: a log begins at %d", log.First())
	}
	if _, _, err := silent.Append(nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a forgotten space appends: %v", err)
	}
}

// long is a log that drops its beginning only, until it is let go.
type long struct {
	store.Log
	letGo chan struct{}
}

func (l *long) DropBefore(p store.Position) error {
	if p > dropStep {
		<-l.letGo
	}
	return l.Log.DropBefore(p)
}

// TestNobodyWaitsUntilALongLogIsDropped which a space kept that is forgotten, or says at last
// that it needs it no more.
func TestNobodyWaitsUntilALongLogIsDropped(t *testing.T) {
	for name, drop := range map[string]func(*Committer, store.Log) error{
		"it is forgotten":    func(c *Committer, _ store.Log) error { return c.Forget(1) },
		"it needs no record": func(c *Committer, log store.Log) error { return log.DropBefore(c.log.Next()) },
	} {
		synctest.Test(t, func(t *testing.T) {
			whole := &long{mem.NewLog(), make(chan struct{})}
			c := NewCommitter(whole)
			a, b := c.Log(1, 0), c.Log(2, 0)
			for range 5 {
				if _, _, err := a.Append(make([]byte, dropStep/2)); err != nil {
					t.Fatal(err)
				}
			}
			end := whole.Next()
			if err := errors.Join(a.Sync(), b.DropBefore(end), drop(c, a), b.DropBefore(end)); err != nil {
				t.Fatal(err)
			}
			if first := whole.First(); first == 0 || first >= end {
				t.Errorf("%s: the log begins at %d of %d", name, first, end)
			}
			if _, _, err := b.Append([]byte("goes on")); err != nil {
				t.Error(err)
			}
			close(whole.letGo)
			if _, err := c.Begin(func(store.Position) (Number, error) { return 3, nil }); err != nil {
				t.Error(err)
			}
			if synctest.Wait(); whole.First() != end {
				t.Errorf("%s: in the end the log begins at %d of %d", name, whole.First(), end)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// wellRead counts the calls of its readers.
type wellRead struct {
	store.Log
	calls int
}

func (l *wellRead) Read(from store.Position, buffer []byte) (store.LogReader, error) {
	r, err := l.Log.Read(from, buffer)
	return countedReader{r, l}, err
}

type countedReader struct {
	store.LogReader
	log *wellRead
}

func (r countedReader) Next() (store.Record, error) {
	r.log.calls++
	return r.LogReader.Next()
}

// TestTheLogIsReadOnceForAllSpaces which have few records in it, and each is told the same from
// wherever it reads.
func TestTheLogIsReadOnceForAllSpaces(t *testing.T) {
	const spaces, records = 50, 1000
	for _, rotten := range []bool{false, true} {
		whole := mem.NewLog()
		log := &wellRead{Log: whole}
		c := NewCommitter(log)
		var at []store.Position
		for i := range records {
			n := Number(1) // which is busy
			if i > 300 && i < 300+2*spaces {
				n = Number(2 + i%spaces/2) // two records each, and the last ones none
			}
			p, _, err := c.Log(n, 0).Append(fmt.Append(nil, i))
			if err != nil {
				t.Fatal(err)
			}
			at = append(at, p)
		}
		if rotten {
			whole.Flip(at[370])
		}
		tell := func(n Number, from store.Position) (told []string) {
			r, err := c.Log(n, 0).Read(from, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for {
				got, err := r.Next()
				if err == io.EOF {
					return told
				}
				told = append(told, fmt.Sprintf("%d-%d %s %v", got.Position, got.Next, got.Data, err))
			}
		}
		want := map[string][]string{}
		for n := range Number(spaces) {
			for _, i := range []int{0, 10, 11, 350, 371, 999} {
				want[fmt.Sprint(n, i)] = tell(n, at[i])
			}
		}
		log.calls = 0
		if err := c.Survey(at[10]); err != nil {
			t.Fatal(err)
		}
		for n := range Number(spaces) {
			for _, i := range []int{10, 11} {
				if n != 1 {
					tell(n, at[i])
				}
			}
		}
		if !rotten && log.calls > 10*records { // once, and what stands between two of a space
			t.Errorf("%d records are read with %d calls by %d spaces", records, log.calls, spaces)
		}
		for n := range Number(spaces) {
			for _, i := range []int{0, 10, 11, 350, 371, 999} {
				if got, want := tell(n, at[i]), want[fmt.Sprint(n, i)]; !slices.Equal(got, want) {
					t.Errorf("space %d from record %d, one rotten: %v, is told\n%v\nwant\n%v", n, i, rotten, got, want)
				}
			}
		}
	}
}

// TestANewSpaceHasNoPartInWhatRottedBefore begins a space behind a record that rotted before it
// was synced.
func TestANewSpaceHasNoPartInWhatRottedBefore(t *testing.T) {
	whole := mem.NewLog()
	c := NewCommitter(whole)
	old := c.Log(1, 0)
	at, _, err := old.Append([]byte("record"))
	if err != nil || !whole.Flip(at) {
		t.Fatal(err)
	}
	log, err := c.Begin(func(store.Position) (Number, error) { return 2, nil })
	if err != nil {
		t.Fatal(err)
	}
	for l, want := range map[store.Log]error{old: store.ErrCorrupt, log: io.EOF} {
		r, err := l.Read(0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); !errors.Is(err, want) {
			t.Errorf("the log reads: %v, want %v", err, want)
		}
		r.Close()
	}
}

// wouldWait is a log that takes nothing at once.
type wouldWait struct{ store.Log }

func (wouldWait) TryAppend(...[]byte) (first, next store.Position, err error) {
	return 0, 0, store.ErrWouldWait
}

// TestNobodyIsRefusedWithWhoMustNotWait has a space append all the time, beside one that must not
// wait.
func TestNobodyIsRefusedWithWhoMustNotWait(t *testing.T) {
	c := NewCommitter(wouldWait{mem.NewLog()})
	hasty, patient := c.Log(1, 0), c.Log(2, 0)
	var over atomic.Bool
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for !over.Load() {
				if _, _, err := hasty.TryAppend([]byte("hasty")); !errors.Is(err, store.ErrWouldWait) {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 20_000 {
		if _, _, err := patient.Append([]byte("patient")); err != nil {
			t.Error(err)
			break
		}
	}
	over.Store(true)
	all.Wait()
}

// BenchmarkAppend has goroutines that each append a record to a space of their own and sync it.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprintf("spaces=%d", n), func(b *testing.B) {
			whole, err := segment.Open(b.TempDir(), segment.Options{})
			if err != nil {
				b.Fatal(err)
			}
			counted := &counting{Log: whole}
			c := NewCommitter(counted)
			defer c.Close()
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for i := range n {
				log, record := c.Log(Number(i), 0), make([]byte, 128)
				all.Go(func() {
					for range (b.N + n - 1) / n {
						if _, _, err := log.Append(record); err != nil || log.Sync() != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(counted.appends)/float64(b.N), "appends/write")
			b.ReportMetric(float64(counted.syncs())/float64(b.N), "fsyncs/write")
		})
	}
}

// counting counts appends, which one at a time makes, and where the log was synced to.
type counting struct {
	store.Log
	appends int
	mu      sync.Mutex
	reached map[store.Position]bool
}

func (l *counting) Append(records ...[]byte) (first, next store.Position, err error) {
	l.appends++
	return l.Log.Append(records...)
}

func (l *counting) Sync() error {
	err := l.Log.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reached == nil {
		l.reached = map[store.Position]bool{}
	}
	l.reached[l.Synced()] = true
	return err
}

// syncs returns how many there were at least: those that reached another place.
func (l *counting) syncs() int { return len(l.reached) }

// TestARecordInPartsWaitsForItsTurn between others that wait, and keeps its space's number.
func TestARecordInPartsWaitsForItsTurn(t *testing.T) {
	var all sync.WaitGroup
	var c *Committer
	parted := func(queued int) {
		all.Go(func() {
			first, next, err := c.Log(7, 0).AppendParts([]byte("in "), []byte("parts"))
			const size = store.RecordFrame + numberSize + len("in parts")
			if err != nil || next-first != store.Position(size) {
				t.Errorf("from %d to %d: %v", first, next, err)
			}
		})
		for c.queued() < queued {
		}
	}
	l := &slow{Log: mem.NewLog(), entered: make(chan struct{}), letGo: make(chan struct{})}
	c = NewCommitter(l)
	all.Go(func() { c.Log(1, 0).Append([]byte("leads")) })
	<-l.entered
	parted(1)
	for i := range 3 {
		all.Go(func() { c.Log(Number(i), 0).Append(fmt.Appendf(nil, "record %d", i)) })
	}
	for c.queued() < 4 {
	}
	parted(5)
	close(l.letGo)
	all.Wait()
	r, err := c.Log(7, 0).Read(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if record, err := r.Next(); err != nil || string(record.Data) != "in parts" {
			t.Errorf("the space has %q, %v", record.Data, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("behind its records: %v", err)
	}
}
