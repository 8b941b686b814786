package peer

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/store"
)

// Limits of one Change.
const (
	// MaxChangeKeys is how many keys a Change names before the rest is left to the next one. The keys
	// of one transaction stay together, so there may be some thousands more.
	MaxChangeKeys = 1024
	// maxChangeBytes is the same in bytes of keys.
	maxChangeBytes = 256 << 10
	// maxChangeRecords is how many log records are read from the disk before a watch looks whether it
	// was closed.
	maxChangeRecords = 4096
	// watchPause is how long a watch that was woken leaves the next change to come together with
	// others. The first change after a silence is told at once.
	watchPause = 5 * time.Millisecond
)

// Change is what happened since the last one.
type Change struct {
	// Keys were written or deleted, or may have been: in order, each once. A View then tells what they
	// hold. All keys of a transaction are in one Change.
	Keys []string
	// Reset says that what changed is not known: a repair took place, or the log of changes has been
	// cut where the watch stood. Keys of this Change and of those that follow up to the next one with
	// a Token are then all keys that exist; a key under the prefix that is not among them exists no
	// more.
	Reset bool
	// Notes are those of transactions that left one, and Expired keys, in order: see Watch.WithNotes.
	Notes []any
	// Emptied says that all keys were removed at once, before what else is told: a watch with notes tells that, others are
	// told a Reset.
	Emptied bool
	// Moment is that of the last commit of which something is told: see Tx.Moment, EachCommit. It says nothing beside a Reset.
	Moment uint64
	// Token names the moment after the change: WatchSince goes on from there, at any peer. It is empty
	// while the keys after a Reset are not complete, and where ErrTooManyReplicas stands against it.
	Token Token
}

// Expired is a note of keys that were removed because they had expired.
type Expired []string

// Watch tells which keys change, by local transactions and by what arrives from other peers. It is
// a place in the log of what was applied, and reads on from there when it is asked: so it holds
// nothing for its reader, and never slows writers, however slow it is. A reader that falls behind
// gets what it missed from the log, each changed key once for many changes; one that falls further
// behind than the log reaches (Config.LogBytes, LogAge) gets a Reset. Next and All are for one
// goroutine.
type Watch struct {
	of     *Space
	s      *space // nil until it is there
	prefix string
	wanted func(key string) bool // nil: all
	notes  bool                  // see WithNotes
	single bool                  // see EachCommit
	closed chan struct{}
	once   sync.Once
	mu     sync.Mutex // guards s against Close

	told      delta.Seen // what is in it was told, or is not to be
	epoch     uint64
	next      uint64             // the log record to read
	placed    bool               // epoch and next are known
	listing   bool               // after a Reset, until all keys were told
	restarted bool               // the Reset was told
	after     string             // the last key listed
	since     crdt.VersionVector // what was told before the Reset, in its short form
	asked     time.Time          // when it was first looked where the watch begins

	woken time.Time // when it was woken last
}

// Close ends the watch, and a Next that waits. A second Close does nothing.
func (w *Watch) Close() {
	w.once.Do(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		close(w.closed)
		if w.s != nil {
			w.s.feed.exit()
		}
	})
}

// Only has the watch tell only of keys for which wanted holds when it comes to them. It is called before Next is, and by
// the goroutine of Next from then on.
func (w *Watch) Only(wanted func(key string) bool) { w.wanted = wanted }

// tells reports whether the watch is to tell of a key.
func (w *Watch) tells(key string) bool {
	return strings.HasPrefix(key, w.prefix) && (w.wanted == nil || w.wanted(key))
}

// WithNotes has the watch tell the notes of transactions in place of their keys, see Tx.Note, and Expired in place of keys
// that had: of what it reads soon after it was written, and not from the log. It is called before Next is.
func (w *Watch) WithNotes() { w.notes = true }

// EachCommit has no Change tell of more than one commit, so that its Moment is that of all its keys. It is called before
// Next is.
func (w *Watch) EachCommit() { w.single = true }

// join has the watch follow a space that is there.
func (w *Watch) join(s *space) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if isClosed(w.closed) {
		return errWatchClosed
	}
	s.feed.enter()
	w.s = s
	return nil
}

// find waits until the space is there.
func (w *Watch) find(ctx context.Context) error {
	s, err := w.of.await(ctx, w.closed)
	if err != nil {
		return err
	}
	return w.join(s)
}

// Token names the moment up to which all changes were told. Beside the tokens of Changes it also moves
// when keys change that are not watched: who wants to go on from here after a long silence keeps
// this one. Until the keys after a Reset are complete it is the one before the Reset.
func (w *Watch) Token() (Token, error) {
	if w.listing {
		return newToken(w.of.id(), w.since)
	}
	return newToken(w.of.id(), w.told.Vector())
}

// All returns the changes one after the other, until the loop ends, ctx ends, or the watch or the
// peer is closed: the last pair has the error, ctx's or ErrClosed. The watch stays open.
func (w *Watch) All(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for {
			c, err := w.Next(ctx)
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// Next waits for a change. It returns ctx's error, or ErrClosed after Close of the watch or the
// peer.
func (w *Watch) Next(ctx context.Context) (Change, error) {
	if w.s == nil {
		if err := w.find(ctx); err != nil {
			return Change{}, err
		}
	}
	for {
		if err := w.ended(ctx); err != nil {
			return Change{}, err
		}
		c, wake, err := w.step(ctx)
		if c != nil || err != nil {
			return w.give(c, err)
		}
		if wake == nil {
			continue
		}
		wait(ctx, w, wake)
		if pause := watchPause - time.Since(w.woken); pause > 0 {
			timer := time.NewTimer(pause)
			wait(ctx, w, timer.C)
			timer.Stop()
		}
		w.woken = time.Now()
	}
}

// wait returns when the channel does, or when the watch is to end.
func wait[T any](ctx context.Context, w *Watch, on <-chan T) {
	select {
	case <-on:
	case <-ctx.Done():
	case <-w.closed:
	case <-w.s.stopped:
	}
}

var errWatchClosed = worded{"the watch is closed", ErrClosed}

func (w *Watch) ended(ctx context.Context) error {
	select {
	case <-w.closed:
		return errWatchClosed
	case <-w.s.stopped:
		return w.s.gone()
	default:
		return ctx.Err()
	}
}

// give completes a change.
func (w *Watch) give(c *Change, err error) (Change, error) {
	if err != nil {
		return Change{}, err
	}
	slices.Sort(c.Keys)
	c.Keys = slices.Compact(c.Keys)
	if !w.listing {
		c.Token, _ = w.Token() // empty if it cannot be made
	}
	return *c, nil
}

// step reads on. It returns a change; or nothing, and a channel to wait for, or to go on at once.
func (w *Watch) step(ctx context.Context) (*Change, <-chan struct{}, error) {
	if !w.placed && !w.listing {
		if err := w.findStart(ctx); err != nil || !w.placed {
			return nil, nil, err
		}
	}
	if w.listing {
		return w.list(ctx)
	}
	recs, ended, same, wake := w.s.feed.after(w.epoch, w.next)
	switch {
	case !same:
		w.restart()
		return nil, nil, nil
	case ended:
		return nil, wake, nil
	}
	var c Change
	size := 0
	for _, r := range recs {
		if !w.take(r.number, r.deltas, &c, &size) {
			break
		}
	}
	if len(recs) == 0 {
		w.readLog(ctx, &c, &size)
	}
	if c.told() == 0 {
		return nil, nil, nil
	}
	return &c, nil, nil
}

// told counts what a change tells.
func (c *Change) told() (n int) {
	if c.Emptied {
		n = 1
	}
	return n + len(c.Keys) + len(c.Notes)
}

// findStart looks up where in the log the watch begins. If the watch is to end before the loop has
// had time for that, the error is Next's, and the next one looks again. So does the next step if that cannot be told yet.
func (w *Watch) findStart(ctx context.Context) error {
	var next, epoch uint64
	var told delta.Seen
	covered, unsure, looked := false, false, make(chan struct{})
	wake := w.s.feed.bell.wait()
	look := func(l *loop) {
		next, covered, unsure = l.beginAfter(w.told.Vector())
		told = l.engine.Bases().Read(w.told.Vector())
		epoch = l.s.feed.now().epoch
		close(looked)
	}
	select {
	case w.s.jobs <- look:
		wait(ctx, w, looked)
	case <-ctx.Done():
	case <-w.closed:
	case <-w.s.stopped:
	}
	if err := w.ended(ctx); err != nil {
		return err
	}
	if unsure && w.unsure(ctx, wake) {
		return nil
	}
	w.told = told
	if w.next, w.epoch, w.placed = next, epoch, true; !covered {
		w.restart()
	}
	return nil
}

// unsureFor is how long a watch waits for what its token names and is not here yet, if that may tell what else it names.
const unsureFor = 5 * time.Second

// unsure waits for the next change, and reports whether it is to be looked again then where the watch begins.
func (w *Watch) unsure(ctx context.Context, wake <-chan struct{}) bool {
	if w.asked.IsZero() {
		w.asked = time.Now()
	}
	left := unsureFor - time.Since(w.asked)
	if left <= 0 {
		return false
	}
	limit, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	wait(limit, w, wake)
	return true
}

// beginAfter returns where in the log what comes after a short form begins, and whether the log reaches there. unsure says
// that the vector lists what is not here, and may leave out by bases that are not here more than can be told.
func (l *loop) beginAfter(v crdt.VersionVector) (next uint64, covered, unsure bool) {
	full, _ := l.engine.Expand(v, nil, nil)
	next, covered = l.engine.LogStart(full)
	if !l.engine.Lacks(v) {
		return next, covered, false
	}
	seen, _ := l.engine.Context()
	for id := range seen {
		unsure = unsure || full[id] == 0
	}
	return next, covered, unsure
}

// restart makes the next change a Reset.
func (w *Watch) restart() {
	w.listing, w.restarted, w.after, w.since = true, false, "", w.told.Vector().Clone()
}

// readLog reads records from the log on the disk. If they are not there any more, the watch starts
// again. If it is to end before they can be read, it stays where it is.
func (w *Watch) readLog(ctx context.Context, c *Change, size *int) {
	v, _, err := w.s.view(nil)
	if err != nil {
		if w.ended(ctx) == nil {
			w.restart() // which waits until there is something to read
		}
		return
	}
	defer v.Close()
	n := 0
	err = v.Log(w.next, func(number uint64, deltas []*delta.Delta) bool {
		n++
		return w.take(number, deltas, c, size) && n < maxChangeRecords
	})
	if n == 0 || err != nil && c.told() == 0 {
		w.restart()
	}
}

// take adds what a record changed to the change. It returns false if the change is full; the rest
// of the record is then taken next.
func (w *Watch) take(number uint64, deltas []*delta.Delta, c *Change, size *int) bool {
	for _, d := range deltas {
		if d.Last() <= w.told.Count(d.Replica) {
			continue
		}
		if c.told() >= MaxChangeKeys || *size >= maxChangeBytes {
			return false
		}
		if clearsEverything(d) { // which names no keys
			if c.told() > 0 {
				return false
			}
			if !w.notes {
				w.restart()
				return false
			}
			c.Emptied = true
		}
		if w.notes {
			w.note(d, c)
		}
		if !w.notes || d.Note == nil {
			w.addKeys(d, c, size)
		}
		c.Moment = number
		w.told.Raise(d.Replica, d.Last())
		if len(d.Tables()) > 0 {
			w.told = w.s.feed.reread(w.told)
		}
	}
	w.next = number + 1
	return !w.single || c.told() == 0
}

// note adds what stands beside a delta.
func (w *Watch) note(d *delta.Delta, c *Change) {
	var gone Expired
	for _, key := range d.Expired {
		if w.tells(key) {
			gone = append(gone, key)
		}
	}
	if len(gone) > 0 {
		c.Notes = append(c.Notes, gone)
	}
	if d.Note != nil {
		c.Notes = append(c.Notes, d.Note)
	}
}

// addKeys adds the keys that a delta changes.
func (w *Watch) addKeys(d *delta.Delta, c *Change, size *int) {
	last := ""
	for i := range d.Ops {
		o := &d.Ops[i]
		key := o.Address.Key()
		if i > 0 && key == last || o.Kind == delta.OpEnd || o.Kind == delta.OpBase || o.Address == "" {
			continue
		}
		if w.notes && o.Kind != delta.OpPut && slices.Contains(d.Expired, key) {
			continue // unless something is put there as well
		}
		last = key
		if w.tells(key) {
			c.Keys = append(c.Keys, strings.Clone(key)) // not the memory of its whole delta
			*size += len(key)
		}
	}
}

func clearsEverything(d *delta.Delta) bool {
	return slices.ContainsFunc(d.Ops, func(o delta.Op) bool { return o.Kind == delta.OpClear && o.Address == "" })
}

// list tells some of the keys that exist. The first of them are of the moment from which the watch
// goes on: what becomes of the others before they are told is a change after that.
func (w *Watch) list(ctx context.Context) (*Change, <-chan struct{}, error) {
	wake := w.s.feed.bell.wait()
	v, at, err := w.view()
	switch {
	case errors.Is(err, ErrRebuilding) || errors.Is(err, store.ErrCorrupt):
		return nil, wake, nil
	case err != nil:
		return nil, nil, err
	}
	defer v.Close()
	c, tx := &Change{Reset: !w.restarted}, newTx(v)
	looked, size, last, more := 0, 0, "", false
	for key, types := range tx.Scan(w.prefix, w.after) {
		if more = looked >= MaxChangeKeys || size >= maxChangeBytes; more {
			break
		}
		if last = key; key != "" { // after which none could go on
			looked++
		}
		if size += len(key); types != 0 && w.tells(key) {
			c.Keys = append(c.Keys, key)
		}
	}
	if err := tx.Err(); err != nil {
		w.s.suspectRead(err)
		return nil, nil, err
	}
	if !w.restarted {
		w.told, w.epoch, w.next, w.placed = at.seen, at.epoch, at.next, true
	}
	w.restarted, w.listing = true, more
	if w.after = last; more && c.told() == 0 && !c.Reset {
		return nil, nil, nil
	}
	return c, nil, nil
}

// view opens a view; the first one of a listing with its moment.
func (w *Watch) view() (*view, moment, error) {
	if w.restarted {
		return w.s.view(nil)
	}
	return w.s.viewMoment()
}
