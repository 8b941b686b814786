package peer

import (
	"context"
	"sync"
)

// opening is held while a view is opened: by any number at once, and by nobody while a commit runs that
// a view could see a part of. Such a commit may take half a minute, so who waits for its end waits for
// a context as well. Those who do are let in before the next such commit begins.
type opening struct {
	lock sync.RWMutex // taken exclusively by alone only, which one goroutine at a time calls

	mu      sync.Mutex // guards what follows; only held for moments
	turn    chan struct{}
	waiting int // who will hold lock when turn, the end of what runs alone, is closed
}

// enter returns nil when a view may be opened; leave must be called then. It returns ctx's error or
// ErrClosed if one of the others ends before. Unless it has to wait it costs what a lock costs.
func (o *opening) enter(ctx context.Context, closed, stop <-chan struct{}) error {
	if o.lock.TryRLock() {
		return nil
	}
	turn := o.wait()
	if turn == nil {
		return nil
	}
	var err error
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-closed:
		err = ErrClosed
	case <-stop:
		err = ErrClosed
	}
	o.giveUp(turn)
	return err
}

func (o *opening) leave() { o.lock.RUnlock() }

// wait returns what is closed when it is the caller's turn; nil if it is already.
func (o *opening) wait() chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turn == nil { // what ran alone has ended, and nothing waits to
		o.lock.RLock()
		return nil
	}
	o.waiting++
	return o.turn
}

func (o *opening) giveUp(turn chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turn == turn {
		o.waiting--
		return
	}
	o.lock.RUnlock() // the turn has come
}

// alone runs fn while no view is opened. It is called by the commit loop, and when that has ended.
func (o *opening) alone(fn func()) {
	o.begin()
	defer o.end()
	fn()
}

func (o *opening) begin() {
	o.mu.Lock()
	o.turn = make(chan struct{})
	o.mu.Unlock()
	o.lock.Lock()
}

func (o *opening) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lock.Unlock()
	for ; o.waiting > 0; o.waiting-- {
		o.lock.RLock() // for who waits; nobody else takes it exclusively
	}
	close(o.turn)
	o.turn = nil
}
