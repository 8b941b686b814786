package peer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/replica"
)

func TestABusyPeerSaysSoInsteadOfNothing(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	begun, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	go p.call(func(*loop) { close(begun); <-end }) // as while a large repair is taken over
	<-begun
	began := time.Now()
	answers := make(chan error, 3)
	go func() { answers <- p.Ready() }()
	go func() { _, err := p.Status(); answers <- err }()
	go func() { _, err := p.Metrics(); answers <- err }()
	for range cap(answers) {
		select {
		case err := <-answers:
			if !errors.Is(err, errBusy) {
				t.Errorf("answered %v, want %v", err, errBusy)
			}
		case <-time.After(2 * busyAfter):
			t.Fatalf("no answer for %v", time.Since(began))
		}
	}
}

func TestAWatchOfABusyPeerEndsWithItsContextOrWhenItIsClosed(t *testing.T) {
	p := alone(t, Config{})
	token := enable(t, p, "before")
	enable(t, p, "after")
	watch := func() *Watch {
		w, err := p.WatchSince("", token)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		return w
	}
	begun, free := make(chan struct{}), make(chan struct{})
	go p.call(func(*loop) { close(begun); <-free })
	<-begun

	ctx, cancel := context.WithCancel(t.Context())
	ended, closed := watch(), watch()
	answers := make(chan error, 2)
	go func() { _, err := ended.Next(ctx); answers <- err }()
	go func() { _, err := closed.Next(t.Context()); answers <- err }()
	eventually(t, "both wait for the loop", func() bool { return len(p.jobs) == 2 })
	cancel()
	expectError(t, answers, context.Canceled)
	closed.Close()
	expectError(t, answers, ErrClosed)
	close(free)
	if c := next(t, ended); !slices.Equal(c.Keys, []string{"after"}) {
		t.Errorf("the next Next tells %+v", c)
	}
}

// expectError waits for a call that should not wait for the commit loop, and checks how it ended.
func expectError(t *testing.T, answers <-chan error, want error) {
	t.Helper()
	select {
	case err := <-answers:
		if !errors.Is(err, want) {
			t.Errorf("returned %v, want %v", err, want)
		}
	case <-time.After(2 * busyAfter):
		t.Errorf("nothing has returned, want %v", want)
	}
}

// takeOver has the commit loop keep views from being opened, as while a large repair is taken over,
// until end is called.
func takeOver(p *Peer) (end func()) {
	begun, over := make(chan struct{}), make(chan struct{})
	go p.call(func(*loop) {
		_ = p.exclusively(func() (replica.Published, error) {
			close(begun)
			<-over
			return *p.published.Load(), nil
		})
	})
	<-begun
	return sync.OnceFunc(func() { close(over) })
}

func TestReadersDoNotWaitForARepairToBeTakenOverWhenTheirContextHasEnded(t *testing.T) {
	p := alone(t, Config{})
	enable(t, p, "key")
	listing, reading, closed := p.Watch(""), since(t, p, "", ""), p.Watch("")
	defer listing.Close()
	listing.restart()
	closed.restart()
	if err := reading.place(t.Context()); err != nil { // in the log on the disk
		t.Fatal(err)
	}
	end := takeOver(p)
	defer end()

	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan error, 4)
	nothing := func(*Tx) error { return errors.New("a view was opened") }
	go func() { answers <- p.View(ctx, nothing) }()
	go func() { _, err := p.ViewToken(ctx, nothing); answers <- err }()
	go func() { _, err := listing.Next(ctx); answers <- err }()
	go func() { _, err := reading.Next(ctx); answers <- err }()
	eventually(t, "all wait", func() bool { return p.opening.waiters() == cap(answers) })
	cancel()
	for range cap(answers) {
		expectError(t, answers, context.Canceled)
	}
	go func() { _, err := closed.Next(t.Context()); answers <- err }()
	eventually(t, "it waits", func() bool { return p.opening.waiters() == 1 })
	closed.Close()
	expectError(t, answers, ErrClosed)

	end()
	if c := next(t, listing); !c.Reset || !slices.Equal(c.Keys, []string{"key"}) {
		t.Errorf("the watch that was to be reset tells %+v", c)
	}
	if c := next(t, reading); c.Reset || !slices.Equal(c.Keys, []string{"key"}) {
		t.Errorf("the watch that read the log tells %+v", c)
	}
}

func TestReadersDoNotWaitForARepairToBeTakenOverWhenThePeerIsClosed(t *testing.T) {
	p := alone(t, Config{})
	listing := p.Watch("")
	defer listing.Close()
	listing.restart()
	end := takeOver(p)
	defer end()
	answers := make(chan error, 2)
	go func() { answers <- p.View(t.Context(), func(*Tx) error { return nil }) }()
	go func() { _, err := listing.Next(t.Context()); answers <- err }()
	eventually(t, "both wait", func() bool { return p.opening.waiters() == cap(answers) })
	go p.Close() // which itself waits for the loop
	for range cap(answers) {
		expectError(t, answers, ErrClosed)
	}
}
