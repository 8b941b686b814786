package peer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// waiters returns how many wait to open a view.
func (o *opening) waiters() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting
}

func TestNoViewIsOpenedBesideACommitThatRunsAlone(t *testing.T) {
	var o opening
	var inside, entered, gaveUp atomic.Int64
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithCancel(context.Background())
				if n%2 == 0 {
					go cancel() // about when its turn comes
				}
				switch err := o.enter(ctx, nil, nil); {
				case err == nil:
					inside.Add(1)
					entered.Add(1)
					inside.Add(-1)
					o.leave()
				case errors.Is(err, context.Canceled):
					gaveUp.Add(1)
				default:
					t.Error(err)
				}
				cancel()
			}
		})
	}
	for n := 0; n < 1000 || entered.Load() == 0 || gaveUp.Load() == 0; n++ {
		o.alone(func() {
			if n := inside.Load(); n != 0 {
				t.Errorf("%d views are being opened", n)
			}
		})
	}
	close(stop)
	readers.Wait()
	o.alone(func() {}) // which would wait for ever for one who did not leave
	if o.waiting != 0 {
		t.Errorf("%d wait, and nobody does", o.waiting)
	}
}

func TestWhoWaitsToOpenAViewIsLetInBeforeTheNextCommitThatRunsAlone(t *testing.T) {
	for range 100 {
		var o opening
		var entered atomic.Bool
		var reader sync.WaitGroup
		o.alone(func() {
			reader.Go(func() {
				if err := o.enter(t.Context(), nil, nil); err != nil {
					t.Error(err)
				}
				entered.Store(true)
				o.leave()
			})
			eventually(t, "it waits", func() bool { return o.waiters() == 1 })
		})
		o.alone(func() {
			if !entered.Load() {
				t.Error("the next one runs, and who waited has not entered")
			}
		})
		reader.Wait()
	}
}
