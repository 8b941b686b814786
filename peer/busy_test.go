package peer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestABusyPeerSaysSoInsteadOfNothing(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	begun, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	go own(p).call(func(*loop) { close(begun); <-end }) // as while a large repair is taken over
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
	unblock := sync.OnceFunc(func() { close(free) })
	t.Cleanup(unblock)
	go own(p).call(func(*loop) { close(begun); <-free })
	<-begun

	ctx, cancel := context.WithCancel(t.Context())
	ended, closed := watch(), watch()
	answers := make(chan error, 2)
	go func() { _, err := ended.Next(ctx); answers <- err }()
	go func() { _, err := closed.Next(t.Context()); answers <- err }()
	eventually(t, "both wait for the loop", func() bool { return len(own(p).jobs) >= 2 }) // and what shares memory
	cancel()
	expectError(t, answers, context.Canceled)
	closed.Close()
	expectError(t, answers, ErrClosed)
	unblock()
	if c := next(t, ended); !slices.Equal(c.Keys, []string{"after"}) {
		t.Errorf("the next Next tells %+v", c)
	}
}

// expectError waits for a call that should not wait for the loop, and checks how it ended.
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
