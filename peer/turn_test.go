package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/peerd/peerd/store"
)

// setting returns a function that sets a string.
func setting(key, value string) func(*Tx) error {
	return func(tx *Tx) error { return tx.String(key).Set([]byte(value)) }
}

// unstarted is a peer without goroutines of its own, until the test ends.
func unstarted(t *testing.T, d Durability) *Peer {
	t.Helper()
	p, err := open(t.Context(), Config{Memory: true, Offline: true, Durability: d})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.start()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestACallerThatFindsTheTurnFreeNeedsNobodyElse has a peer do without the loop's goroutine.
func TestACallerThatFindsTheTurnFreeNeedsNobodyElse(t *testing.T) {
	p := unstarted(t, Interval)
	within(t, "the updates", func() {
		if err := p.Update(t.Context(), setting("k", "v")); err != nil {
			t.Error(err)
		}
	})
	told := 0
	fails := func(*Tx) error { return errCrashed }
	p.Submit([]func(*Tx) error{setting("k", "w"), fails}, func(errs []error) {
		told++
		if len(errs) != 2 || errs[0] != nil || errs[1] != errCrashed {
			t.Errorf("told %v", errs)
		}
	})
	read := ""
	get := func(tx *Tx) error {
		v, _ := tx.String("k").Get()
		read = string(v)
		return nil
	}
	p.Submit([]func(*Tx) error{get}, func([]error) { told++ })
	if told != 2 || read != "w" {
		t.Errorf("told %d times before Submit returned, and %q was read", told, read)
	}
}

// TestTheLoopIsWokenForWhatCallersLeave at once: by who queued something while nobody looked, by who
// had the turn meanwhile, and by who left writes that take long.
func TestTheLoopIsWokenForWhatCallersLeave(t *testing.T) {
	set := []func(*Tx) error{setting("k", "v")}
	for _, test := range []struct {
		name       string
		durability Durability
		leave      func(p *Peer, l *loop, submit func())
	}{
		{"the turn was taken", Interval, func(p *Peer, l *loop, submit func()) {
			l.turn.Lock()
			submit()
			l.leave(false)
		}},
		{"another is before it", Interval, func(p *Peer, l *loop, submit func()) {
			l.engine.Submit(p.newUpdate(own(p), set))
			submit()
		}},
		{"an fsync", Always, func(_ *Peer, _ *loop, submit func()) { submit() }},
		{"an end", Interval, func(p *Peer, _ *loop, _ func()) {
			submit(p, []func(*Tx) error{enabling("k", runtime.Goexit)})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := unstarted(t, test.durability)
			l, told := own(p).loop, false
			test.leave(p, l, func() { p.Submit(set, func([]error) { told = true }) })
			if told || len(l.wake) == 0 {
				t.Errorf("answered: %v; the loop was woken: %v", told, len(l.wake) > 0)
			}
		})
	}
}

// idleLog is a log that is not synced, while it is idle, when that is asked for: as by a goroutine beside the turn.
type idleLog struct {
	store.Log
	idle atomic.Bool
}

func (l *idleLog) Sync() error {
	if l.idle.Load() {
		return nil
	}
	return l.Log.Sync()
}

// TestACallersTurnSyncsNothing also where the log begins a new segment.
func TestACallersTurnSyncsNothing(t *testing.T) {
	var disk *idleLog
	cfg := Config{Dir: t.TempDir(), Offline: true}
	cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) {
		disk = &idleLog{Log: log}
		return st, disk
	}
	p, err := open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	disk.idle.Store(true)
	log, value := own(p).journal, make([]byte, 1<<20)
	told := make(chan []error, 1)
	synced, answers := log.Synced(), 0
	for range 2 * logSegment / len(value) {
		p.Submit([]func(*Tx) error{func(tx *Tx) error { return tx.String("k").Set(value) }},
			func(errs []error) { told <- errs })
		if log.Synced() != synced {
			t.Fatalf("after %d writes a caller has synced the log", answers)
		}
		if len(told) == 0 {
			break
		}
		<-told
		answers++
	}
	if answers == 0 || len(own(p).loop.wake) == 0 {
		t.Errorf("%d writes were answered, and the loop was woken: %v", answers, len(own(p).loop.wake) > 0)
	}
	disk.idle.Store(false)
	p.start()
	within(t, "the answer", func() {
		if errs := <-told; errs != nil {
			t.Error(errs)
		}
	})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestACallersTurnDoesNotWaitForTheDirectory to list a space, as before its first write since the peer was opened.
func TestACallersTurnDoesNotWaitForTheDirectory(t *testing.T) {
	p := alone(t, Config{})
	orders := mustSpace(t, p, "orders")
	if err := orders.Update(t.Context(), setting("k", "v")); err != nil {
		t.Fatal(err)
	}
	p.space("orders").listed.Store(false)
	directory := p.space(directorySpace).loop
	directory.turn.Lock()
	told := make(chan []error, 1)
	within(t, "submitting", func() {
		orders.Submit([]func(*Tx) error{setting("k", "w")}, func(errs []error) { told <- errs })
	})
	directory.leave(false)
	within(t, "the answer", func() {
		if errs := <-told; errs != nil {
			t.Error(errs)
		}
	})
	waitIn(t, p, "orders", "k", "w")
}

// waitingLog takes nothing at once.
type waitingLog struct{ store.Log }

func (l waitingLog) TryAppend(...[]byte) (first, next store.Position, err error) {
	return 0, 0, store.ErrWouldWait
}

// TestWhatTheLogDoesNotTakeAtOnceIsWrittenOnce by the loop.
func TestWhatTheLogDoesNotTakeAtOnceIsWrittenOnce(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Offline: true}
	cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) { return st, waitingLog{log} }
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	const writes = 50
	for range writes {
		count(t, p, 1)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	wantAcknowledged(t, cfg, writes)
}

// TestWhoWaitsForTheTurnSharesAGroup and Submit does not wait.
func TestWhoWaitsForTheTurnSharesAGroup(t *testing.T) {
	const writers = 20
	p := alone(t, Config{})
	enable(t, p, "before")
	l, commits := own(p).loop, &own(p).counters.commits
	l.turn.Lock()
	before := commits.Load()
	var all sync.WaitGroup
	var told atomic.Int32
	for i := range writers {
		all.Go(func() {
			if err := p.Update(t.Context(), setting(fmt.Sprint("k", i), "v")); err != nil {
				t.Error(err)
			}
		})
		all.Add(1)
		p.Submit([]func(*Tx) error{setting(fmt.Sprint("s", i), "v")}, func(errs []error) {
			told.Add(1)
			if errs != nil {
				t.Error(errs)
			}
			all.Done()
		})
	}
	eventually(t, "all wait", func() bool { return len(own(p).updates) == 2*writers })
	if told.Load() > 0 {
		t.Error("somebody was answered while the turn was taken")
	}
	l.leave(false)
	within(t, "the writers", all.Wait)
	if n := commits.Load() - before; n != 1 || told.Load() != writers {
		t.Errorf("%d groups, %d answers", n, told.Load())
	}
}

// TestManyWhoWriteShareGroupsThoughTheTurnIsFree whenever one of them runs: there are more of them
// than processors. Who writes alone needs nobody else then.
func TestManyWhoWriteShareGroupsThoughTheTurnIsFree(t *testing.T) {
	const writers, each = 32, 200
	p := alone(t, Config{Durability: None})
	enable(t, p, "before")
	l, commits := own(p).loop, &own(p).counters.commits
	write := func(i int) {
		if err := p.Update(t.Context(), setting(fmt.Sprint("k", i), "v")); err != nil {
			t.Error(err)
		}
	}
	before := commits.Load()
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for i := range each {
				write(i)
			}
		})
	}
	within(t, "the writers", all.Wait)
	if n := commits.Load() - before; n > writers*each/2 {
		t.Errorf("%d groups for %d updates of %d writers", n, writers*each, writers)
	}
	queued := 0
	for i := range each {
		if write(i); l.crowd.is.Load() {
			queued++
		}
	}
	if queued > each/crowdEvery+1 {
		t.Errorf("of %d updates of one writer %d queue, or the next ones", each, queued)
	}
}

// TestASubmitWaitsNotEvenForRoomInTheQueue and is answered once.
func TestASubmitWaitsNotEvenForRoomInTheQueue(t *testing.T) {
	p := alone(t, Config{})
	l := own(p).loop
	l.turn.Lock()
	told := make([]atomic.Int32, MaxQueue+50)
	var all sync.WaitGroup
	all.Add(len(told))
	within(t, "submitting", func() {
		for i := range told {
			p.Submit([]func(*Tx) error{setting("k", "v")}, func([]error) { told[i].Add(1); all.Done() })
		}
	})
	l.leave(false)
	within(t, "the answers", all.Wait)
	for i := range told {
		if n := told[i].Load(); n != 1 {
			t.Errorf("Submit %d was answered %d times", i, n)
		}
	}
}

// TestASubmittedFunctionMayEndInAnyWay and the others of its batch, and of others, take effect.
func TestASubmittedFunctionMayEndInAnyWay(t *testing.T) {
	p := alone(t, Config{})
	fns := []func(*Tx) error{
		enabling("a", func() {}), enabling("lost", func() { panic("thrown") }),
		enabling("lost", runtime.Goexit), enabling("b", func() {}),
	}
	for range 2 { // by this goroutine, and by the loop's
		within(t, "the answer", func() {
			errs := <-submit(p, fns)
			var panicked *PanicError
			if len(errs) != 4 || errs[0] != nil || errs[3] != nil || !errors.Is(errs[2], ErrExited) ||
				!errors.As(errs[1], &panicked) {
				t.Fatalf("told %q", errs)
			}
			if panicked.Value != "thrown" || !strings.Contains(string(panicked.Stack), "turn_test.go") {
				t.Errorf("told %q", errs)
			}
		})
		own(p).loop.turn.Lock()
		answer := submit(p, []func(*Tx) error{enabling("c", func() {})})
		own(p).loop.leave(false)
		if errs := <-answer; errs != nil {
			t.Error(errs)
		}
	}
	if got, want := keysOf(t, p), []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
}

// TestASubmitIsAnsweredWhateverTheSpace has one that nobody wrote to, one that nobody may, and a
// peer that is closed.
func TestASubmitIsAnsweredWhateverTheSpace(t *testing.T) {
	p := alone(t, Config{})
	of := func(space string, fns ...func(*Tx) error) []error {
		s := mustSpace(t, p, space)
		answer := make(chan []error, 2)
		s.Submit(fns, func(errs []error) { answer <- errs })
		return <-answer
	}
	within(t, "the answers", func() {
		if errs := of("orders", func(tx *Tx) error { tx.String("k").Get(); return nil }); errs != nil {
			t.Error(errs)
		}
		if got := namesOfSpaces(p); slices.Contains(got, "orders") {
			t.Error("a read has made a space")
		}
		throw := func(*Tx) error { panic("thrown") }
		errs := of("orders", throw, enabling("k", runtime.Goexit), setting("k", "v"))
		var panicked *PanicError
		if len(errs) != 3 || !errors.As(errs[0], &panicked) || !errors.Is(errs[1], ErrExited) ||
			errs[2] != nil {
			t.Errorf("told %q", errs)
		}
		waitIn(t, p, "orders", "k", "v")
		errs = of(directorySpace, setting("k", "v"))
		if len(errs) != 1 || !errors.Is(errs[0], ErrReadOnly) {
			t.Errorf("a write to the directory is told %q", errs)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"orders", "others"} {
			answer := make(chan []error, 2)
			(&Space{p, name}).Submit([]func(*Tx) error{setting("k", "v")},
				func(errs []error) { answer <- errs })
			if errs := <-answer; len(errs) != 1 || !errors.Is(errs[0], ErrClosed) {
				t.Errorf("a write to %s once the peer is closed is told %q", name, errs)
			}
		}
	})
}

// counting is a store and its log, which count what is asked of them.
type counting struct {
	store.Store
	store.Log
	reads, writes atomic.Int64
}

func (c *counting) in(st store.Store, log store.Log) (store.Store, store.Log) {
	c.Store, c.Log = st, log
	return countingStore{st, c}, countingLog{log, c}
}

type countingStore struct {
	store.Store
	c *counting
}

func (s countingStore) Commit(b *store.Batch, sync bool) error {
	s.c.writes.Add(1)
	return s.Store.Commit(b, sync)
}

func (s countingStore) Sync() error {
	s.c.writes.Add(1)
	return s.Store.Sync()
}

func (s countingStore) Snapshot() store.Snapshot {
	return countingSnapshot{s.Store.Snapshot(), s.c}
}

type countingSnapshot struct {
	store.Snapshot
	c *counting
}

func (s countingSnapshot) Get(key []byte) ([]byte, bool, error) {
	s.c.reads.Add(1)
	return s.Snapshot.Get(key)
}

func (s countingSnapshot) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	s.c.reads.Add(1)
	return s.Snapshot.Scan(start, end, fn)
}

type countingLog struct {
	store.Log
	c *counting
}

func (l countingLog) Append(records ...[]byte) (first, next store.Position, err error) {
	l.c.writes.Add(1)
	return l.Log.Append(records...)
}

func (l countingLog) TryAppend(records ...[]byte) (first, next store.Position, err error) {
	l.c.writes.Add(1)
	return l.Log.TryAppend(records...)
}

func (l countingLog) Sync() error {
	l.c.writes.Add(1)
	return l.Log.Sync()
}

// TestTransactionsThatReadWriteNothing with any durability, and read nothing from the disk if
// memory has it.
func TestTransactionsThatReadWriteNothing(t *testing.T) {
	for _, d := range []Durability{Always, Interval, None} {
		t.Run(string(d), func(t *testing.T) {
			c := &counting{}
			p, err := open(t.Context(), Config{Dir: t.TempDir(), Offline: true, Durability: d, faulty: c.in})
			if err != nil {
				t.Fatal(err)
			}
			keys := make([]func(*Tx) error, 16)
			read := 0
			for i := range keys {
				keys[i] = func(tx *Tx) error {
					if v, _ := tx.String(fmt.Sprint("k", i)).Get(); string(v) == "v" {
						read++
					}
					return nil
				}
			}
			stop := running(p)
			for i := range keys {
				mustUpdate(t, p, setting(fmt.Sprint("k", i), "v"))
			}
			mustUpdate(t, p, func(*Tx) error { return nil })
			stop()
			own(p).background.Wait()
			reads, writes := c.reads.Load(), c.writes.Load()
			told := false
			p.Submit(keys, func(errs []error) { told = errs == nil })
			if !told || read != len(keys) {
				t.Errorf("answered before Submit returned: %v; %d of %d were read", told, read, len(keys))
			}
			if errs := p.Read(keys); errs != nil || read != 2*len(keys) {
				t.Errorf("%d of %d were read: %v", read-len(keys), len(keys), errs)
			}
			if r, w := c.reads.Load()-reads, c.writes.Load()-writes; r != 0 || w != 0 {
				t.Errorf("reading what was just written took %d reads of the store and %d writes", r, w)
			}
			p.Read([]func(*Tx) error{func(tx *Tx) error { tx.String("absent").Get(); return nil }})
			if c.reads.Load() == reads || writes == 0 {
				t.Error("reads and writes of the store are not counted")
			}
			p.start()
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// running has a peer's loop go round until the function that it returns is called.
func running(p *Peer) (stop func()) {
	l, end, ended := own(p).loop, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for !isClosed(end) {
			l.haveTurn(nil)
			runtime.Gosched()
		}
	}()
	return func() { close(end); <-ended }
}

// TestCallersThatStepAllTheTimeHoldUpNothing has them do so at a peer with a neighbour that waits,
// and close it meanwhile.
func TestCallersThatStepAllTheTimeHoldUpNothing(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	eventually(t, "the two are linked", func() bool { return links(a) == 1 })
	var all sync.WaitGroup
	for i := range 8 {
		fns := make([]func(*Tx) error, 20)
		for j := range fns {
			fns[j] = setting(fmt.Sprint("k", i, " ", j), "v")
		}
		all.Go(func() {
			for {
				if err := a.Update(context.Background(), fns[0]); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
		all.Go(func() {
			told := make(chan []error, 1)
			for {
				a.Submit(fns, func(errs []error) { told <- errs })
				if errs := <-told; errs != nil {
					if !errors.Is(errs[0], ErrClosed) {
						t.Error(errs)
					}
					return
				}
			}
		})
	}
	syncs := func() uint64 { return own(a).counters.syncTimes.Counts().Total }
	before := syncs()
	within(t, "what does not wait for clients", func() {
		for range 20 {
			if err := own(a).call(func(*loop) {}); err != nil {
				t.Error(err)
			}
			token, err := a.ViewToken(t.Context(), func(*Tx) error { return nil })
			if err == nil {
				err = b.Wait(t.Context(), token)
			}
			if err != nil {
				t.Error(err)
			}
		}
		eventually(t, "fsyncs go on", func() bool { return syncs() > before+1 })
	})
	within(t, "closing", func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
}

// brokenLog is a log that takes nothing more, once it is broken.
type brokenLog struct {
	store.Log
	broken atomic.Bool
	tries  atomic.Int32 // since
	panics bool
}

func (l *brokenLog) Append(records ...[]byte) (first, next store.Position, err error) {
	if err := l.fault(); err != nil {
		return 0, 0, err
	}
	return l.Log.Append(records...)
}

func (l *brokenLog) TryAppend(records ...[]byte) (first, next store.Position, err error) {
	if err := l.fault(); err != nil {
		return 0, 0, err
	}
	return l.Log.TryAppend(records...)
}

func (l *brokenLog) fault() error {
	if !l.broken.Load() {
		return nil
	}
	l.tries.Add(1)
	if l.panics {
		panic("the log is beside itself")
	}
	return errDisk
}

// withBrokenLog opens a peer over a log that can be broken.
func withBrokenLog(t *testing.T, panics bool) (*Peer, *brokenLog, Config) {
	disk := &brokenLog{panics: panics}
	cfg := Config{Dir: t.TempDir(), Offline: true}
	cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) {
		disk.Log = log
		return st, disk
	}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p, disk, cfg
}

// TestAStoreThatFailsUnderACallersStepEndsThePeer as one that fails under the loop's.
func TestAStoreThatFailsUnderACallersStepEndsThePeer(t *testing.T) {
	p, disk, cfg := withBrokenLog(t, false)
	count(t, p, 1)
	disk.broken.Store(true)
	within(t, "the peer's end", func() {
		add := func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err }
		errs := <-submit(p, []func(*Tx) error{add})
		if len(errs) != 1 || !errors.Is(errs[0], ErrClosed) || !errors.Is(errs[0], store.ErrFailed) {
			t.Errorf("a write is told %q", errs)
		}
		<-p.Done()
		if err := p.View(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
			t.Errorf("a read returned %v", err)
		}
		if err := p.Update(t.Context(), setting("k", "v")); !errors.Is(err, ErrClosed) {
			t.Errorf("a write returned %v", err)
		}
		if err := p.Close(); !errors.Is(err, store.ErrFailed) {
			t.Errorf("Close returned %v", err)
		}
	})
	if n := disk.tries.Load(); n != 1 {
		t.Errorf("%d writes were tried on a broken disk", n)
	}
	wantAcknowledged(t, cfg, 1)
}

// TestAPanicBelowACallersStepEndsTheProcess also if the caller recovers from panics, as servers'
// goroutines do.
func TestAPanicBelowACallersStepEndsTheProcess(t *testing.T) {
	const child = "PEERD_TEST_PANIC"
	if os.Getenv(child) != "" {
		p, disk, _ := withBrokenLog(t, true)
		count(t, p, 1)
		disk.broken.Store(true)
		func() {
			defer func() { _ = recover() }()
			_ = p.Update(context.Background(), setting("k", "v"))
		}()
		fmt.Println("it goes on")
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.CombinedOutput()
	if text := string(out); err == nil || strings.Contains(text, "it goes on") ||
		!strings.Contains(text, "the log is beside itself") || !strings.Contains(text, "brokenLog") {
		t.Errorf("the process ended with %v and said:\n%s", err, out)
	}
}

// TestATransactionOfABatchAllocatesLittle holds what a command that a front-end submits allocates,
// of a key that memory has, in peer and below: per transaction, in batches of 16.
func TestATransactionOfABatchAllocatesLittle(t *testing.T) {
	p := alone(t, Config{})
	for _, test := range []struct {
		name string
		most float64
		fn   func(tx *Tx, key string) error
	}{
		{"get", 3, func(tx *Tx, key string) error { _, _ = tx.String(key).Get(); return nil }},
		{"set", 14, func(tx *Tx, key string) error { return tx.String(key).Set(value[:]) }},
		{"incr", 30, func(tx *Tx, key string) error { _, err := tx.String("n" + key).Add(1); return err }},
	} {
		fns, next := batchOf(16, test.fn)
		done := make(chan []error, 1)
		told := func(errs []error) { done <- errs }
		batch := func() {
			next()
			p.Submit(fns, told)
			for _, err := range <-done {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		for range hotKeys {
			batch()
		}
		n := testing.AllocsPerRun(1000, batch) / float64(len(fns))
		t.Logf("%s: %.1f allocations", test.name, n)
		if n > test.most {
			t.Errorf("%s: %.1f allocations, want at most %v", test.name, n, test.most)
		}
	}
}
