package peer

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// within fails the test if fn, run beside it, takes as long as if the peer were dead.
func within(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s has not ended after 20 s", what)
	}
}

// keysOf returns the keys that exist, in order.
func keysOf(t *testing.T, p *Peer) (keys []string) {
	t.Helper()
	err := p.View(t.Context(), func(tx *Tx) error {
		for key := range tx.All() {
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// exits runs fn, which must end its goroutine, on one of its own.
func exits(t *testing.T, what string, fn func()) {
	t.Helper()
	if apart(fn) {
		t.Errorf("%s did not end the caller's goroutine", what)
	}
}

// submit submits functions on a goroutine that they may end, and returns where the answer comes.
func submit(p *Peer, fns []func(*Tx) error) <-chan []error {
	answer := make(chan []error, 1)
	apart(func() { p.Submit(fns, func(errs []error) { answer <- errs }) })
	return answer
}

// enabling returns a function that makes a key and then ends as then does.
func enabling(key string, then func()) func(*Tx) error {
	return func(tx *Tx) error {
		if err := tx.Flag(key).Set(true); err != nil {
			return err
		}
		then()
		return nil
	}
}

// TestAFunctionThatEndsItsGoroutineFailsAlone has it happen at once, between others of its update, in a
// list of keys, again and again, and beside other writers.
func TestAFunctionThatEndsItsGoroutineFailsAlone(t *testing.T) {
	p := alone(t, Config{})
	enable(t, p, "a")
	within(t, "the updates", func() {
		var others sync.WaitGroup
		for i := range 4 {
			updates := func() {
				for range 50 {
					if err := p.Update(t.Context(), enabling(string(rune('w'+i)), func() {})); err != nil {
						t.Errorf("another update: %v", err)
					}
				}
			}
			others.Go(func() {
				if !apart(updates) {
					t.Error("another caller's goroutine was ended")
				}
			})
		}
		for range 50 {
			exits(t, "the update", func() { _ = p.Update(t.Context(), enabling("lost", runtime.Goexit)) })
			fns := []func(*Tx) error{
				enabling("b", func() {}), enabling("lost", runtime.Goexit),
				func(tx *Tx) error {
					for range tx.All() {
						runtime.Goexit()
					}
					return nil
				},
				enabling("c", func() {}),
			}
			exits(t, "the updates", func() { p.UpdateAll(t.Context(), fns) })
			want := []error{nil, ErrExited, ErrExited, nil}
			errs := <-submit(p, fns)
			if !slices.EqualFunc(errs, want, func(err, want error) bool { return errors.Is(err, want) }) {
				t.Errorf("who submits is told %q, want %q", errs, want)
			}
		}
		others.Wait()
	})
	if got, want := keysOf(t, p), []string{"a", "b", "c", "w", "x", "y", "z"}; !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
}

// TestAFunctionMayEndItsGoroutineWhileThePeerCloses has one do so in what the loop does last.
func TestAFunctionMayEndItsGoroutineWhileThePeerCloses(t *testing.T) {
	p, err := Open(t.Context(), Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	begun, closing := make(chan struct{}), make(chan struct{})
	first := make(chan bool, 1)
	go func() {
		first <- apart(func() {
			_ = p.Update(context.Background(), func(*Tx) error {
				close(begun)
				<-closing
				runtime.Goexit()
				return nil
			})
		})
	}()
	<-begun
	second := submit(p, []func(*Tx) error{enabling("k", runtime.Goexit)})
	eventually(t, "the second update waits", func() bool { return len(own(p).updates) == 1 })
	within(t, "closing", func() {
		closed := make(chan error, 1)
		go func() { closed <- p.Close() }()
		<-p.stop
		close(closing)
		if err := errors.Join(<-closed, p.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if <-first {
		t.Error("the first update did not end its caller's goroutine")
	}
	if errs := <-second; len(errs) != 1 || !errors.Is(errs[0], ErrExited) {
		t.Errorf("the second update was answered %q, want %v", errs, ErrExited)
	}
}

// TestAFunctionThatPanicsDoesSoInItsCaller and the others of its update, and the loop, go on.
func TestAFunctionThatPanicsDoesSoInItsCaller(t *testing.T) {
	p := alone(t, Config{})
	within(t, "the updates", func() {
		defer func() {
			if thrown := recover(); thrown != "thrown" {
				t.Errorf("the caller recovers %v", thrown)
			}
		}()
		p.UpdateAll(t.Context(), []func(*Tx) error{
			enabling("a", func() {}), enabling("lost", func() { panic("thrown") }),
			func(tx *Tx) error {
				for range tx.All() {
					panic("thrown")
				}
				return nil
			},
			enabling("b", func() {}),
		})
		t.Error("the caller goes on")
	})
	if got := keysOf(t, p); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("there are %q", got)
	}
}

// TestAPeerOfABubbleLeavesNothingToOthers of the process, of another bubble or of none: what a bubble has made must not
// be waited for outside.
func TestAPeerOfABubbleLeavesNothingToOthers(t *testing.T) {
	queueing := func(t *testing.T) {
		const waiting = 20
		p := alone(t, Config{})
		var running sync.WaitGroup
		defer running.Wait()
		err := p.Update(t.Context(), func(*Tx) error {
			for range waiting {
				running.Go(func() {
					if err := p.Update(t.Context(), setting("k", "v")); err != nil {
						t.Error(err)
					}
				})
			}
			for len(own(p).updates) < waiting {
				runtime.Gosched()
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for range 3 {
		synctest.Test(t, queueing)
		queueing(t)
	}
}

// TestAViewMayEndInAnyWay is followed by a close, which waits for views.
func TestAViewMayEndInAnyWay(t *testing.T) {
	p := alone(t, Config{})
	enable(t, p, "k")
	for _, end := range []func(){runtime.Goexit, func() { panic("thrown") }} {
		read := func(tx *Tx) error {
			for range tx.All() {
				end()
			}
			return nil
		}
		for _, view := range []func(){
			func() { _ = p.View(t.Context(), read) },
			func() { _, _ = p.ViewToken(t.Context(), read) },
		} {
			within(t, "the view", func() {
				defer func() { _ = recover() }()
				view()
			})
		}
	}
	within(t, "closing", func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// exiting is a handler of logs that ends the goroutine of the first message.
type exiting struct {
	slog.Handler
	once *sync.Once
}

func (exiting) Enabled(context.Context, slog.Level) bool { return true }

func (e exiting) Handle(context.Context, slog.Record) error {
	e.once.Do(runtime.Goexit)
	return nil
}

func (e exiting) WithAttrs([]slog.Attr) slog.Handler { return e }

// TestALoggerThatEndsTheLoopsGoroutineEndsThePeer with an error, as nobody knows what it was about to do.
func TestALoggerThatEndsTheLoopsGoroutineEndsThePeer(t *testing.T) {
	p, err := Open(t.Context(), Config{Memory: true, Offline: true,
		Logger: slog.New(exiting{slog.DiscardHandler, &sync.Once{}})})
	if err != nil {
		t.Fatal(err)
	}
	err = own(p).call(func(l *loop) { l.p.log.Error("the first message") })
	if !errors.Is(err, ErrClosed) {
		t.Errorf("the call returned %v, want %v", err, ErrClosed)
	}
	within(t, "the peer", func() { <-p.Done() })
	if err := p.Update(t.Context(), enabling("k", func() {})); !errors.Is(err, ErrClosed) {
		t.Errorf("an update returned %v, want %v", err, ErrClosed)
	}
	if err := p.Close(); !errors.Is(err, errExitedElsewhere) {
		t.Errorf("close: %v, want %v", err, errExitedElsewhere)
	}
}
