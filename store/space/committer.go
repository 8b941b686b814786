package space

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/peerd/peerd/store"
)

const (
	// MaxRecord is how large a record of a space may be, in bytes: the number takes the rest.
	MaxRecord = store.MaxRecord - numberSize
	// RecordFrame is what a log adds to one, in bytes, like store.RecordFrame.
	RecordFrame = store.RecordFrame + numberSize
	// keptBuffer is how much memory an Append may leave to the next one, in bytes.
	keptBuffer = 1 << 20
	// keptRequests is how many waiting appends leave their memory to later ones.
	keptRequests = 16
	// dropStep is how much of the log is dropped at once, in bytes: about one file. Begin waits
	// for that.
	dropStep = 16 << 20
)

// Committer is what spaces append to one log through. Who comes while nobody appends leads: it
// appends what it brought, and what others queued meanwhile is the next one's. So under load each
// write has the records of all who waited, and alone nobody waits for anybody. A TryAppend leads
// or does nothing.
//
// A failed write fails for everybody whose records were in it, also when the medium has no room; a
// record that is too large only for who brought it. Position order is the order of the calls.
type Committer struct {
	log store.Log

	dropping sync.Mutex     // held during a step of that; taken before mu
	drops    sync.WaitGroup // of who drops

	mu      sync.Mutex // guards what follows
	drop    bool       // somebody drops what no space needs, until nothing of that is left
	dropErr error      // why nothing more is dropped
	seen    survey
	claims  map[Number]*claim
	begun   []*claim // of spaces whose number is not known yet
	queue   []*request
	leading bool
	free    []*request

	batch [][]byte   // of who leads
	taken []*request // likewise
}

// claim says what of the log is one space's.
type claim struct {
	number Number
	from   store.Position // none of its records stands before
	needs  store.Position // it wants nothing before
	ended  atomic.Bool    // the space was forgotten
}

// request is an Append that waits.
type request struct {
	records     [][]byte // with their numbers; of a record in parts these, behind its number
	buffer      []byte   // where they are, but for parts
	parted      bool     // there is one, in parts
	size        store.Position
	first, next store.Position
	err         error
	leads       bool
	wake        chan struct{} // gets one when it was done, or has to lead
}

// NewCommitter returns a committer over a log, which is its own from now on.
func NewCommitter(log store.Log) *Committer {
	return &Committer{log: log, claims: map[Number]*claim{}}
}

// Log returns the log of a space whose records all stand at a position or behind: that which Begin
// noted. Until the space says otherwise by DropBefore, all of it is kept.
func (c *Committer) Log(n Number, from store.Position) store.Log {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.register(n, from)
}

// register is called with mu held.
func (c *Committer) register(n Number, from store.Position) store.Log {
	own := c.claims[n]
	if own == nil {
		from = min(from, c.log.Next()) // if the log was lost, it begins anew
		own = &claim{number: n, from: from, needs: from}
		c.claims[n] = own
	}
	return &spaceLog{c: c, claim: own}
}

// survey says where the records of spaces stand in a part of the log, in which nothing is damaged.
type survey struct {
	from, to store.Position
	spans    map[Number]span
}

// span has the positions of a space's first record and of its last.
type span struct{ first, last store.Position }

// Survey reads the log from a record on, up to its end or to what is damaged: where a space has
// no records none of its readers looks for them again. So to open many spaces the log is read
// once, and not once for each.
func (c *Committer) Survey(from store.Position) error {
	from = max(from, c.log.First())
	r, err := c.log.Read(from, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	seen := survey{from: from, to: from, spans: map[Number]span{}}
	for {
		record, err := r.Next()
		n, ok := numberOf(record.Data)
		if err != nil || !ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.seen = seen; errors.Is(err, io.EOF) || errors.Is(err, store.ErrCorrupt) {
				err = nil
			}
			return err
		}
		own, has := seen.spans[n]
		if own.last = record.Position; !has {
			own.first = record.Position
		}
		seen.spans[n], seen.to = own, record.Next
	}
}

// begin returns where a space's reader begins that is to read from a position on, and behind
// which record it goes on where.
func (c *Committer) begin(n Number, from store.Position) (at, last, to store.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from < c.seen.from || from >= c.seen.to {
		return from, 0, 0
	}
	own, has := c.seen.spans[n]
	if !has || from > own.last {
		return c.seen.to, 0, 0
	}
	return max(from, own.first), own.last, c.seen.to
}

// Begin makes the log of a new space. fn notes durably the position that it is called with, and
// returns the space's number: see Table.Add. Until it returns nothing behind the position is
// dropped. The log is synced before, and the position is where it was synced to: so nothing that
// had rotted by then may have been the space's.
func (c *Committer) Begin(fn func(from store.Position) (Number, error)) (store.Log, error) {
	if err := c.log.Sync(); err != nil {
		return nil, err
	}
	held := c.hold()
	n, err := fn(held.from)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = slices.DeleteFunc(c.begun, func(other *claim) bool { return other == held })
	if err != nil {
		return nil, err
	}
	return c.register(n, held.from), nil
}

// hold keeps the log from where it is durable: what a power failure takes may have other positions
// afterwards.
func (c *Committer) hold() *claim {
	c.dropping.Lock()
	defer c.dropping.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	from := c.log.Synced()
	held := &claim{from: from, needs: from}
	c.begun = append(c.begun, held)
	return held
}

// Kept returns how many bytes of the log are there because a space needs them, or what stands
// behind them.
func (c *Committer) Kept(n Number) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.claims[n]
	if own == nil {
		return 0
	}
	return int64(c.log.Next() - max(own.needs, c.log.First()))
}

// Forget ends a space's claim: its log is closed, and what no other space needs is dropped. The
// others do not say again what they need while they rest.
func (c *Committer) Forget(n Number) error {
	c.mu.Lock()
	if own := c.claims[n]; own != nil {
		own.ended.Store(true)
		delete(c.claims, n)
	}
	c.mu.Unlock()
	return c.dropUnneeded()
}

// Close closes the log below. What is left to be dropped stays.
func (c *Committer) Close() error {
	c.mu.Lock()
	c.dropErr = cmp.Or(c.dropErr, store.ErrClosed)
	c.mu.Unlock()
	c.drops.Wait()
	return c.log.Close()
}

// append is Append of a space's log, or TryAppend if it may not wait.
func (c *Committer) append(own *claim, records [][]byte, mayWait bool) (first, next store.Position, err error) {
	c.mu.Lock()
	q := c.request()
	c.mu.Unlock()
	defer c.release(q)
	if err := q.fill(own.number, records); err != nil {
		return 0, 0, err
	}
	return c.enter(own, q, mayWait)
}

// appendParts is AppendParts of a space's log.
func (c *Committer) appendParts(own *claim, parts [][]byte) (first, next store.Position,
	err error) {
	c.mu.Lock()
	q := c.request()
	c.mu.Unlock()
	defer c.release(q)
	q.buffer, q.parted = own.number.append(q.buffer), true
	q.records = append(append(q.records, q.buffer), parts...)
	if q.size, err = store.CheckParts(q.records); err != nil {
		return 0, 0, err
	}
	return c.enter(own, q, true)
}

// enter has a request carried out.
func (c *Committer) enter(own *claim, q *request, mayWait bool) (first, next store.Position,
	err error) {
	c.mu.Lock()
	if own.ended.Load() {
		c.mu.Unlock()
		return 0, 0, store.ErrClosed
	}
	if c.leading && !mayWait {
		c.mu.Unlock()
		return 0, 0, store.ErrWouldWait
	}
	c.queue = append(c.queue, q)
	q.leads, c.leading = !c.leading, true
	leads := q.leads
	c.mu.Unlock()
	if !leads {
		<-q.wake
	}
	if q.leads {
		c.lead(mayWait)
	}
	return q.first, q.next, q.err
}

// request returns one that is empty. It is called with mu held.
func (c *Committer) request() *request {
	if n := len(c.free); n > 0 {
		q := c.free[n-1]
		c.free = c.free[:n-1]
		return q
	}
	return &request{wake: make(chan struct{}, 1)}
}

func (c *Committer) release(q *request) {
	clear(q.records)
	q.records, q.buffer, q.size = q.records[:0], q.buffer[:0], 0
	q.first, q.next, q.err, q.leads, q.parted = 0, 0, nil, false, false
	c.mu.Lock()
	defer c.mu.Unlock()
	if cap(q.buffer) <= keptBuffer && len(c.free) < keptRequests {
		c.free = append(c.free, q)
	}
}

// fill copies records, each behind the space's number.
func (q *request) fill(n Number, records [][]byte) error {
	bytes := 0
	for _, record := range records {
		bytes += numberSize + len(record)
		q.size += numberSize
		q.size = q.size.After(record)
		if len(record) > MaxRecord || q.size > store.MaxAppend {
			return store.ErrBatchTooLarge
		}
	}
	buffer := slices.Grow(q.buffer[:0], bytes)
	for _, record := range records {
		from := len(buffer)
		buffer = append(n.append(buffer), record...)
		q.records = append(q.records, buffer[from:len(buffer):len(buffer)])
	}
	q.buffer = buffer
	return nil
}

// lead appends what is queued, as much as one Append takes, and has the next in the queue lead.
// Who must not wait appends its own alone: nobody else's records are refused with them.
func (c *Committer) lead(mayWait bool) {
	c.mu.Lock()
	if mayWait {
		c.take()
	} else {
		c.taken = append(c.taken, c.queue[0])
		c.queue = slices.Delete(c.queue, 0, 1)
	}
	c.mu.Unlock()
	for _, q := range c.taken {
		c.batch = append(c.batch, q.records...)
	}
	under := c.log.Append
	if c.taken[0].parted {
		under = c.log.AppendParts
	} else if !mayWait {
		under = c.log.TryAppend
	}
	at, _, err := under(c.batch...)
	for i, q := range c.taken {
		if q.err = err; err == nil {
			q.first = at
			at += q.size
			q.next = at
		}
		if i > 0 { // the first one leads
			q.wake <- struct{}{}
		}
	}
	clear(c.batch)
	clear(c.taken)
	c.batch, c.taken = c.batch[:0], c.taken[:0]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leading = len(c.queue) > 0; c.leading {
		c.queue[0].leads = true
		c.queue[0].wake <- struct{}{}
	}
}

// take moves the beginning of the queue to taken; one in parts goes alone. It is called with mu
// held.
func (c *Committer) take() {
	size := store.Position(0)
	for _, q := range c.queue {
		first := len(c.taken) == 0
		if size += q.size; size > store.MaxAppend || q.parted && !first {
			break
		}
		if c.taken = append(c.taken, q); q.parted {
			break
		}
	}
	c.queue = slices.Delete(c.queue, 0, len(c.taken))
}

// dropBefore notes what a space does not need, and drops what no space does.
func (c *Committer) dropBefore(own *claim, p store.Position) error {
	c.mu.Lock()
	if own.ended.Load() {
		c.mu.Unlock()
		return store.ErrClosed
	}
	own.needs = min(p, c.log.Next()) // what comes is needed
	c.mu.Unlock()
	return c.dropUnneeded()
}

// dropUnneeded drops what no space needs: a step at once, and the rest beside, as a space's
// commits wait for its DropBefore. If somebody drops already it does that as well. An error of
// the rest is the next call's.
func (c *Committer) dropUnneeded() error {
	c.mu.Lock()
	if c.drop || c.dropErr != nil {
		defer c.mu.Unlock()
		return c.dropErr
	}
	c.drop = true
	c.drops.Add(1)
	c.mu.Unlock()
	at, more, err := c.dropFrom(c.log.First())
	if more {
		go func() {
			for more {
				at, more, _ = c.dropFrom(at)
			}
		}()
	}
	return err
}

// dropFrom drops a step of what no space needs, and returns up to where. If no more is to be
// dropped, whoever comes next begins again.
func (c *Committer) dropFrom(at store.Position) (to store.Position, more bool, err error) {
	c.dropping.Lock()
	defer c.dropping.Unlock()
	c.mu.Lock()
	to = min(at+dropStep, c.unneeded())
	c.mu.Unlock()
	err = c.log.DropBefore(to)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropErr = cmp.Or(c.dropErr, err)
	if more = c.dropErr == nil && to < c.unneeded(); !more {
		c.drop = false
		c.drops.Done()
	}
	return to, more, err
}

// unneeded returns up to where no space needs the log. It is called with mu held.
func (c *Committer) unneeded() store.Position {
	least := c.log.Next()
	for _, other := range c.claims {
		least = min(least, other.needs)
	}
	for _, other := range c.begun {
		least = min(least, other.needs)
	}
	return least
}

// numberOf returns whose a record is.
func numberOf(record []byte) (n Number, ok bool) {
	if len(record) < numberSize {
		return 0, false
	}
	return Number(binary.BigEndian.Uint16(record)), true
}

// failedOrClosed reports whether a log takes nothing any more.
func failedOrClosed(log store.Log) bool {
	_, _, err := log.Append()
	return errors.Is(err, store.ErrFailed) || errors.Is(err, store.ErrClosed)
}

// spaceLog is the log of one space.
type spaceLog struct {
	c      *Committer
	claim  *claim
	closed atomic.Bool
}

var _ store.Log = (*spaceLog)(nil)

func (l *spaceLog) ended() bool { return l.closed.Load() || l.claim.ended.Load() }

// Append implements store.Log. It copies the records.
func (l *spaceLog) Append(records ...[]byte) (first, next store.Position, err error) {
	if l.ended() {
		return 0, 0, store.ErrClosed
	}
	return l.c.append(l.claim, records, true)
}

// TryAppend implements store.Log. It does not wait for another space's Append either.
func (l *spaceLog) TryAppend(records ...[]byte) (first, next store.Position, err error) {
	if l.ended() {
		return 0, 0, store.ErrClosed
	}
	return l.c.append(l.claim, records, false)
}

// AppendParts implements store.Log.
func (l *spaceLog) AppendParts(parts ...[]byte) (first, next store.Position, err error) {
	if l.ended() {
		return 0, 0, store.ErrClosed
	}
	return l.c.appendParts(l.claim, parts)
}

// Sync implements store.Log. It syncs for all spaces.
func (l *spaceLog) Sync() error {
	if l.ended() {
		return store.ErrClosed
	}
	return l.c.log.Sync()
}

// Read implements store.Log. The reader reads the records of other spaces too, and passes over
// them.
func (l *spaceLog) Read(from store.Position, buffer []byte) (store.LogReader, error) {
	if l.ended() {
		return nil, store.ErrClosed
	}
	if from < l.First() {
		return nil, store.ErrDropped
	}
	at, last, to := l.c.begin(l.claim.number, max(from, l.claim.from))
	under, err := l.c.log.Read(at, buffer)
	if err != nil {
		return nil, err
	}
	return &reader{l, under, buffer, last, to}, nil
}

// DropBefore implements store.Log: what other spaces need stays.
func (l *spaceLog) DropBefore(p store.Position) error {
	if l.ended() {
		return store.ErrClosed
	}
	return l.c.dropBefore(l.claim, p)
}

// First implements store.Log. It is 0 as long as nothing of the space was dropped.
func (l *spaceLog) First() store.Position {
	if first := l.c.log.First(); first > l.claim.from {
		return first
	}
	return 0
}

func (l *spaceLog) Next() store.Position { return l.c.log.Next() }

func (l *spaceLog) Synced() store.Position { return l.c.log.Synced() }

// Size implements store.Log: that of the whole log.
func (l *spaceLog) Size() int64 { return l.c.log.Size() }

// Close implements store.Log. It syncs, and leaves the log below open: see Committer.Close. What
// the space needs is kept, for when it is opened again.
func (l *spaceLog) Close() error {
	if l.closed.Swap(true) || failedOrClosed(l.c.log) {
		return nil
	}
	return l.c.log.Sync()
}

// reader reads the records of one space.
type reader struct {
	log    *spaceLog
	under  store.LogReader
	buffer []byte
	last   store.Position // behind which the space has no record before to
	to     store.Position
}

// Next implements store.LogReader. What is damaged may have been the space's.
func (r *reader) Next() (store.Record, error) {
	for !r.log.ended() {
		record, err := r.under.Next()
		if err != nil {
			return record, err
		}
		n, ok := numberOf(record.Data)
		if !ok {
			return store.Record{}, &store.Damage{From: record.Position, To: record.Next,
				Place: "a record without the number of a space"}
		}
		if n == r.log.claim.number {
			record.Data = record.Data[numberSize:]
			return record, nil
		}
		if record.Position > r.last && record.Next < r.to {
			under, err := r.log.c.log.Read(r.to, r.buffer)
			if err != nil {
				return store.Record{}, err
			}
			r.under.Close()
			r.under = under
		}
	}
	return store.Record{}, store.ErrClosed
}

func (r *reader) Close() { r.under.Close() }
