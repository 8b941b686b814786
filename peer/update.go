package peer

import (
	"errors"
	"sync/atomic"

	"github.com/peerd/peerd/internal/engine"
)

// ErrExited is returned for a transaction whose function ended its goroutine: with runtime.Goexit, or with
// FailNow, Fatal or Skip of a test. Nothing changed.
var ErrExited = engine.ErrExited

// errExitedElsewhere ends a peer of which something else did.
var errExitedElsewhere = errors.New("the goroutine of the commit loop was ended: a logger must not do that")

// update is transactions that wait for the commit loop, which runs them in order, in as many groups as they fill. It is
// answered when all are committed.
type update struct {
	s      *space
	fns    []func(*Tx) error
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

func newUpdate(s *space, fns []func(*Tx) error) *update {
	return &update{s: s, fns: fns, done: make(chan struct{})}
}

// Begin implements engine.Update.
func (u *update) Begin() bool {
	return u.state.CompareAndSwap(queued, begun) || u.state.Load() == begun
}

// Len implements engine.Update.
func (u *update) Len() int { return len(u.fns) }

// errPanic ends a transaction whose function panicked.
var errPanic = errors.New("the transaction's function panicked")

// Run implements engine.Update.
func (u *update) Run(i int, tx *engine.Tx) (err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			u.thrown, err = thrown, errPanic
		}
	}()
	if err := u.s.refusal(); err != nil {
		return err
	}
	return newTx(tx).run(u.fns[i])
}

// Ran implements engine.Update.
func (u *update) Ran(i int, err error) {
	u.fail(i, err)
	u.s.counters.transacted(err)
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
