package peer

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/peerd/peerd/store"
)

// keepingLog is a log whose syncs wait, once they are to.
type keepingLog struct {
	store.Log
	*keeper
}

// keeper has the syncs of all spaces wait, while it keeps them.
type keeper struct {
	keeps   atomic.Bool
	entered chan struct{} // has room for one
	leave   chan struct{} // closed when all go on
}

func (l keepingLog) Sync() error {
	if l.keeps.Load() {
		select {
		case l.entered <- struct{}{}:
		default: // another space's is there already
		}
		<-l.leave
	}
	return l.Log.Sync()
}

// reading returns a function that reads a string.
func reading(key string, into *string) func(*Tx) error {
	return func(tx *Tx) error {
		v, _ := tx.String(key).Get()
		*into = string(v)
		return nil
	}
}

// TestAReadWaitsForNoWriter and shows nothing that is not durable yet, with durability always.
func TestAReadWaitsForNoWriter(t *testing.T) {
	disk := &keeper{entered: make(chan struct{}, 1), leave: make(chan struct{})}
	cfg := Config{Dir: t.TempDir(), Offline: true, Durability: Always}
	cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) {
		return st, keepingLog{log, disk}
	}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, p, setting("k", "old"))
	disk.keeps.Store(true)
	var writing sync.WaitGroup
	writing.Go(func() { mustUpdate(t, p, setting("k", "new")) })
	<-disk.entered
	var first, second string
	within(t, "the read", func() {
		if errs := p.Read([]func(*Tx) error{reading("k", &first), reading("k", &second)}); errs != nil {
			t.Error(errs)
		}
	})
	if first != "old" || second != "old" {
		t.Errorf("while the write is not durable %q and %q are read", first, second)
	}
	disk.keeps.Store(false)
	close(disk.leave)
	writing.Wait()
	if p.Read([]func(*Tx) error{reading("k", &first)}); first != "new" {
		t.Errorf("after the answer %q is read", first)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestAReadWritesNothingWhoeverHasTheTurn and one that fails in any way leaves the others as they are.
func TestAReadWritesNothingWhoeverHasTheTurn(t *testing.T) {
	p := alone(t, Config{})
	mustUpdate(t, p, setting("k", "v"))
	commits := own(p).counters.commits.Load()
	for _, free := range []bool{true, false} {
		if !free {
			own(p).loop.turn.Lock()
		}
		var read string
		errs := p.Read([]func(*Tx) error{
			setting("k", "w"), func(*Tx) error { panic("thrown") }, func(*Tx) error { return errCrashed },
			reading("k", &read),
		})
		var panicked *PanicError
		if len(errs) != 4 || !errors.Is(errs[0], ErrReadOnly) || !errors.As(errs[1], &panicked) ||
			errs[2] != errCrashed || errs[3] != nil || read != "v" {
			t.Errorf("the turn is free: %v; %q was read, told %q", free, read, errs)
		}
		apart(func() { p.Read([]func(*Tx) error{func(*Tx) error { runtime.Goexit(); return nil }}) })
		if !free {
			own(p).loop.leave(false)
		}
	}
	if n := own(p).counters.commits.Load(); n != commits {
		t.Errorf("%d commits", n-commits)
	}
	mustUpdate(t, p, setting("l", "v"))
	if got := keysOf(t, p); !slices.Equal(got, []string{"k", "l"}) {
		t.Errorf("there are %q", got)
	}
}

// TestAReadIsAnsweredWhateverTheSpace as a view is.
func TestAReadIsAnsweredWhateverTheSpace(t *testing.T) {
	p := alone(t, Config{})
	var read string
	get := []func(*Tx) error{reading("k", &read)}
	orders := mustSpace(t, p, "orders")
	if errs := orders.Read(get); errs != nil || p.space("orders") != nil {
		t.Errorf("a space that nobody has written to: %q", errs)
	}
	setIn(t, p, "orders", "k", "v")
	if errs := orders.Read(get); errs != nil || read != "v" {
		t.Errorf("%q was read: %q", read, errs)
	}
	if err := p.DropSpace(t.Context(), "orders", true); err != nil {
		t.Fatal(err)
	}
	if errs := orders.Read(get); len(errs) != 1 || !errors.Is(errs[0], ErrNotHeld) {
		t.Errorf("a space that was dropped: %q", errs)
	}
	own(p).refuse(ErrRebuilding)
	if errs := p.Read(get); len(errs) != 1 || !errors.Is(errs[0], ErrRebuilding) {
		t.Errorf("while reads are refused: %q", errs)
	}
	own(p).refuse(nil)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if errs := p.Read(get); len(errs) != 1 || !errors.Is(errs[0], ErrClosed) {
		t.Errorf("a peer that is closed: %q", errs)
	}
}
