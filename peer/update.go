package peer

import (
	"errors"
	"sync/atomic"
)

// ErrExited is returned for a transaction whose function ended its goroutine: with runtime.Goexit, or with
// FailNow, Fatal or Skip of a test. Nothing changed.
var ErrExited = errors.New("the transaction's function ended its goroutine, which is not its own " +
	"(runtime.Goexit, or FailNow in a test): it took no effect")

// errExitedElsewhere ends a peer of which something else did.
var errExitedElsewhere = errors.New("the goroutine of the commit loop was ended: a logger must not do that")

// update is transactions that wait for the commit loop, which runs them in order, in as many groups as they fill. It is
// answered when all are committed.
type update struct {
	fns    []func(*Tx) error
	next   int     // the first that has not run
	errs   []error // nil if none failed
	state  atomic.Int32
	thrown any // what a function panicked with
	done   chan struct{}
}

// States of an update. It is begun by the loop or canceled by its caller, whoever is first.
const (
	queued int32 = iota
	begun
	canceled
)

func newUpdate(fns []func(*Tx) error) *update {
	return &update{fns: fns, done: make(chan struct{})}
}

// begin reports whether the update is to be run. Once it is, it does not change.
func (u *update) begin() bool {
	return u.state.CompareAndSwap(queued, begun) || u.state.Load() == begun
}

// cancel reports whether the update will not be run.
func (u *update) cancel() bool { return u.state.CompareAndSwap(queued, canceled) }

// fail sets the error of the i-th function.
func (u *update) fail(i int, err error) {
	if err == nil {
		return
	}
	if u.errs == nil {
		u.errs = make([]error, len(u.fns))
	}
	u.errs[i] = err
}

// failAll sets an error for all functions that have none.
func (u *update) failAll(err error) {
	for i := range u.fns {
		if u.errs == nil || u.errs[i] == nil {
			u.fail(i, err)
		}
	}
}

// result returns the errors in the caller's goroutine, or panics there as one of the functions did.
func (u *update) result() []error {
	if u.thrown != nil {
		panic(u.thrown)
	}
	return u.errs
}

// apart runs fn on a goroutine of its own, waits for it, and reports whether it returned: if not, something
// that it called ended the goroutine. A panic ends the process, and nothing goes on meanwhile.
func apart(fn func()) (returned bool) {
	ended := make(chan struct{})
	go func() {
		defer func() {
			if broken := recover(); broken != nil {
				panic(broken)
			}
			close(ended)
		}()
		fn()
		returned = true
	}()
	<-ended
	return returned
}
