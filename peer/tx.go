package peer

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
)

// Tx is a transaction: a consistent view of the peer's data, with its own writes on top. Its
// embedded Fields are the keys, and give typed handles on them: tx.Counter("visits").Add(1). It is
// used by the function that it was passed to, on one goroutine, and not after it returned: once its
// Update or View has returned, it reads nothing, and takes no writes (ErrReadOnly).
//
// Reads return no error. If one fails, because the disk does or what it holds is damaged, what the
// transaction reads from then on is empty and what it writes is refused, and View, Update and their
// like return that error, whatever the function returns: nothing has changed. A function that does
// something else with what it read, such as sending it, asks Err before.
type Tx struct {
	crdt.Fields
	base keyed
	err  error // of listing keys
}

// keyed is a transaction or a view of the core.
type keyed interface {
	dotted.Tx
	Keys(prefix, after string, fn func(key string, s dotted.Summary) bool) error
	KeyCount() (keys, ending int, err error)
	Due(fn func(key string, whole bool) bool) error
	DueCost(most int) (int, error)
	Right() time.Time
	Moment() uint64
	Guarded(g *engine.Guard) bool
	AtHand(key string) bool
}

var (
	_ keyed = (*engine.Tx)(nil)
	_ keyed = (*engine.View)(nil)
)

func newTx(base keyed) *Tx { return new(Tx).bind(base) }

// bind makes tx the transaction or view of the core. Keys that were taken of it before are of that
// one, too.
func (tx *Tx) bind(base keyed) *Tx {
	engine.Bind(&tx.Fields, base)
	tx.base, tx.err = base, nil
	return tx
}

// errOver is what Tx.Err returns once the transaction is over.
var errOver = fmt.Errorf("the function of the transaction has returned: %w", ErrReadOnly)

// over is what a transaction is of once it is over.
var over = sync.OnceValue(func() *engine.View { return nothing().View() })

// end ends the transaction, as users may keep it: it reads nothing any more, and takes no writes.
func (tx *Tx) end() {
	none := over()
	engine.End(&tx.Fields, none, errOver)
	tx.base, tx.err = none, errOver
}

// readBy runs a function that reads a view.
func readBy(v keyed, fn func(*Tx) error) error {
	tx := newTx(v)
	defer tx.end()
	return tx.run(fn)
}

// run runs a transaction's function. A read that failed counts for more than what the function made
// of it.
func (tx *Tx) run(fn func(*Tx) error) error {
	err := fn(tx)
	return cmp.Or(tx.Err(), err)
}

// Err returns why a read of the transaction failed: the first that did, or nil.
func (tx *Tx) Err() error { return cmp.Or(tx.Fields.Err(), tx.err) }

// Now returns the time from which on is said when keys expire: this host's clock, or if that is found
// to be wrong, what most other members' clocks say.
func (tx *Tx) Now() time.Time { return tx.base.Right() }

// Past reports whether what expires at a time has expired here. Where clocks differ, and nobody
// knows which is right, that is so somewhat later than by Now.
func (tx *Tx) Past(at time.Time) bool { return dotted.Milli(at) <= tx.base.Now().UnixMilli() }

// Touched calls fn with the key of each thing that the transaction has done so far, in order and once
// or more often, from the n-th on, and returns how many there are. It tells of nothing in one that
// only reads, nor that everything was deleted.
func (tx *Tx) Touched(from int, fn func(key string)) (end int) {
	if writer, ok := tx.base.(*engine.Tx); ok {
		return writer.Touched(from, fn)
	}
	return 0
}

// Note has watches of this host that were asked for notes tell one in place of the keys that the
// transaction changes: see Watch.WithNotes. It counts for one that writes something; of several the last does.
func (tx *Tx) Note(note any) {
	if writer, ok := tx.base.(*engine.Tx); ok {
		writer.Note(note)
	}
}

// Moment returns a number of this peer that grows with each commit. What the transaction does not
// see is in Changes of a later Moment, or comes after a Reset; those of a Moment that is not later
// tell nothing new, while the peer is open.
func (tx *Tx) Moment() uint64 { return tx.base.Moment() }

// AtHand reports whether all that a key holds is in memory, but for the order of its elements if it has
// one, so that to go through it costs no search on the disk. Of what is little (128 members, fields or
// elements, and 32 KiB, at most) View makes that so with the first call, and for those who ask later, in a
// Read or an Update, if they asked before.
func (tx *Tx) AtHand(key string) bool { return tx.base.AtHand(key) }

// Len returns the number of keys that exist, with those that have expired and are not removed yet:
// see Expired. O(1).
func (tx *Tx) Len() int {
	n, _, err := tx.base.KeyCount()
	tx.err = cmp.Or(tx.err, err)
	return n
}

// Expired returns how many of the keys that Len counts have expired: those of the last seconds,
// before they are removed; and how many have an expiry and have not expired. It takes as long as
// ExpiredCost says.
func (tx *Tx) Expired() (n, expiring int) {
	_, expiring, err := tx.base.KeyCount()
	tx.err = cmp.Or(tx.err, err)
	err = tx.base.Due(func(key string, whole bool) bool {
		s, err := tx.base.Summary(key)
		tx.err = cmp.Or(tx.err, err)
		if s.Exists() && (whole || !tx.Has(key)) {
			n++
			if s.Ends() {
				expiring--
			}
		}
		return err == nil
	})
	tx.err = cmp.Or(tx.err, err)
	return n, expiring
}

// ExpiredCost returns at about how much Expired looks: 0 if nothing can have expired, and some number
// beyond most if it is more. What has expired counts as 64, and each key with an expiry that was
// written lately as one.
func (tx *Tx) ExpiredCost(most int) int {
	cost, err := tx.base.DueCost(most)
	tx.err = cmp.Or(tx.err, err)
	return cost
}

// All passes the keys that exist, in order, each with its types. The loop may write to them. Keys
// of more than 256 bytes sort by their first 128.
func (tx *Tx) All() iter.Seq2[string, crdt.Types] { return tx.Keys("", "") }

// AllAfter passes the keys greater than the given one, which need not exist, as All does.
func (tx *Tx) AllAfter(key string) iter.Seq2[string, crdt.Types] {
	return func(yield func(string, crdt.Types) bool) {
		for k, types := range tx.Keys("", key) {
			if k != key && !yield(k, types) { // as if it is empty
				return
			}
		}
	}
}

// Keys passes the keys that begin with prefix and are greater than after, as All does. An empty
// after bounds nothing: the empty key is passed too.
func (tx *Tx) Keys(prefix, after string) iter.Seq2[string, crdt.Types] {
	return func(yield func(string, crdt.Types) bool) {
		for key, types := range tx.Scan(prefix, after) {
			if types != 0 && !yield(key, types) {
				return
			}
		}
	}
}

// Scan passes keys as Keys does and, with no types, those that have expired and are not removed
// yet: who bounds how much it looks at counts them.
func (tx *Tx) Scan(prefix, after string) iter.Seq2[string, crdt.Types] {
	return func(yield func(string, crdt.Types) bool) {
		if tx.base.Replica() == 0 {
			tx.scan(prefix, after, yield)
			return
		}
		tx.inParts(prefix, after, yield)
	}
}

func (tx *Tx) scan(prefix, after string, fn func(string, crdt.Types) bool) {
	if tx.Err() != nil {
		return
	}
	err := tx.base.Keys(prefix, after, func(key string, s dotted.Summary) bool {
		types := typesOf(s)
		if s.Timed() {
			types = tx.Types(key)
		}
		return fn(key, types) && tx.Err() == nil
	})
	tx.err = cmp.Or(tx.err, err)
}

// Part sizes of a loop over keys in a transaction that writes.
const (
	firstPart = 16
	lastPart  = 256
)

// typesOf returns the types of what is stored under a key.
func typesOf(s dotted.Summary) (types crdt.Types) {
	for t := range s.Types() {
		types = types.With(t)
	}
	return types
}

// inParts reads some keys before the loop's body sees them, as what it writes would be in the way
// of a scan.
func (tx *Tx) inParts(prefix, after string, yield func(string, crdt.Types) bool) {
	type named struct {
		key   string
		types crdt.Types
	}
	for size := firstPart; ; size = min(4*size, lastPart) {
		part := make([]named, 0, size)
		tx.scan(prefix, after, func(key string, types crdt.Types) bool {
			part = append(part, named{key, types})
			return len(part) < size
		})
		for _, n := range part {
			if !yield(n.key, n.types) {
				return
			}
		}
		if len(part) < size {
			return
		}
		after = part[size-1].key
	}
}

// ErrExited is what Submit tells of a transaction whose function ended its goroutine: with
// runtime.Goexit, or with FailNow, Fatal or Skip of a test. Nothing changed.
var ErrExited = engine.ErrExited

// PanicError is what Submit tells of a transaction whose function panicked. Nothing changed.
type PanicError struct {
	Value any    // what it panicked with
	Stack []byte // of its goroutine then
}

// Error returns both.
func (e *PanicError) Error() string {
	return fmt.Sprintf("the transaction's function panicked: %v\n\n%s", e.Value, e.Stack)
}

// errExitedElsewhere ends a peer of which something else did.
var errExitedElsewhere = errors.New("the goroutine of a space was ended: a logger must not do that")

// update is transactions that wait for their turn. They are run in order, in as many groups as they
// fill, and answered when all are committed.
type update struct {
	p      *Peer
	s      *space
	fns    []func(*Tx) error
	one    [1]func(*Tx) error // of an update of one
	errs   []error            // nil if none failed
	state  atomic.Int32
	tx     *Tx         // that all functions are run with
	thrown *PanicError // of the last function that panicked
	exited bool        // a function ended its goroutine

	done   chan struct{}      // of capacity 1: gets one when it is answered, for a caller that waits
	called func(errs []error) // is called then, if there is one
	next   *update            // to be called after it
}

// States of an update. It is begun by who has the turn or canceled by its caller, whoever is first.
const (
	queued int32 = iota
	begun
	canceled
)

func (p *Peer) newUpdate(s *space, fns []func(*Tx) error) *update {
	u, _ := p.updates.Get().(*update)
	if u == nil {
		u = &update{p: p, done: make(chan struct{}, 1)}
	}
	u.s, u.fns = s, fns
	return u
}

// free leaves an update that was answered to later ones, and returns its errors. Nobody else has it
// any more.
func (u *update) free() []error {
	errs := u.errs
	tx := u.tx
	if u.called == nil {
		tx = nil // users keep what they should not
	}
	*u = update{p: u.p, done: u.done, tx: tx}
	u.p.updates.Put(u)
	return errs
}

// tell calls who submitted the update with its errors.
func (u *update) tell() {
	called := u.called
	called(u.free())
}

// Begin implements engine.Update.
func (u *update) Begin() bool {
	return u.state.CompareAndSwap(queued, begun) || u.state.Load() == begun
}

// Len implements engine.Update.
func (u *update) Len() int { return len(u.fns) }

// Run implements engine.Update.
func (u *update) Run(i int, base *engine.Tx) (err error) {
	if err := u.s.refusal(); err != nil {
		return err
	}
	if u.tx == nil {
		u.tx = new(Tx)
	}
	err = u.call(u.fns[i], u.tx.bind(base))
	switch {
	case err != nil || !base.Writes():
		return err
	case u.s.leaving.Load():
		return fmt.Errorf("%w %q: write again in some seconds", ErrLeaving, u.s.name)
	}
	return u.s.list()
}

// readOn runs functions on a view, from one on.
func (u *update) readOn(base keyed, from int) {
	if u.tx == nil {
		u.tx = new(Tx)
	}
	for i := from; i < len(u.fns); i++ {
		u.Ran(i, u.call(u.fns[i], u.tx.bind(base)))
	}
}

// call calls a transaction's function, which may panic or end the goroutine, and ends the transaction.
func (u *update) call(fn func(*Tx) error, tx *Tx) (err error) {
	returned := false
	defer func() {
		tx.end()
		if returned {
			return
		}
		if thrown := recover(); thrown != nil {
			u.thrown = &PanicError{thrown, debug.Stack()}
			err = u.thrown
		} else {
			u.exited = true
		}
	}()
	err = tx.run(fn)
	returned = true
	return err
}

// Ran implements engine.Update.
func (u *update) Ran(i int, err error) {
	u.fail(i, err)
	if err != nil {
		u.s.counters.failed.Add(1)
	} else {
		u.s.counters.transactions.Add(1)
	}
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

// result returns the errors in the caller's goroutine, or ends that as one of the functions did its
// own. Who submitted the update is told that as an error.
func (u *update) result() []error {
	switch {
	case u.called != nil:
	case u.exited:
		runtime.Goexit()
	case u.thrown != nil:
		panic(u.thrown.Value)
	}
	return u.free()
}

// apart runs fn on a goroutine of its own, waits for it, and reports whether it returned: if not,
// something that it called ended the goroutine. A panic ends the process, and nothing goes on
// meanwhile.
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
