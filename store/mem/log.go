package mem

import (
	"io"
	"slices"
	"sort"
	"sync"

	"github.com/peerd/peerd/store"
)

// Log is a store.Log in memory. Positions are those that a log on a disk would give. It has no
// segments: DropBefore drops to the record.
//
// What a medium can do to a log is done to this one by calls: Crash forgets, Flip rots, SetRoom
// fills it up, and Fail breaks it; SyncTo syncs a part.
type Log struct {
	mu      sync.Mutex
	records []logged // ascending
	first   store.Position
	next    store.Position
	synced  store.Position
	room    int64 // bytes that Append may still take; negative for no bound
	failed  error
	closed  bool
}

// logged is one record. Its data does not change, so copies of a log share it.
type logged struct {
	at     store.Position
	data   []byte
	rotten bool
}

func (r logged) next() store.Position { return r.at.After(r.data) }

var _ store.Log = (*Log)(nil)

// NewLog returns an empty log.
func NewLog() *Log { return &Log{room: -1} }

// Append implements store.Log.
func (l *Log) Append(records ...[]byte) (first, next store.Position, err error) {
	size, err := store.CheckAppend(records)
	if err != nil {
		return 0, 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return 0, 0, err
	}
	if l.room >= 0 {
		if int64(size) > l.room {
			return 0, 0, store.ErrNoSpace
		}
		l.room -= int64(size)
	}
	first = l.next
	for _, data := range records {
		r := logged{at: l.next, data: append([]byte{}, data...)}
		l.records, l.next = append(l.records, r), r.next()
	}
	return first, l.next, nil
}

// TryAppend implements store.Log: no Append waits.
func (l *Log) TryAppend(records ...[]byte) (first, next store.Position, err error) {
	return l.Append(records...)
}

// AppendParts implements store.Log.
func (l *Log) AppendParts(parts ...[]byte) (first, next store.Position, err error) {
	return l.Append(slices.Concat(parts...))
}

// usable is called with mu held.
func (l *Log) usable() error {
	if l.closed {
		return store.ErrClosed
	}
	return l.failed
}

// Sync implements store.Log.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.usable()
	if err == nil {
		l.synced = l.next
	}
	return err
}

// SyncTo makes durable what stands before a position, as a sync does that began when it was the
// log's end.
func (l *Log) SyncTo(p store.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = max(l.synced, min(p, l.next))
}

// DropBefore implements store.Log.
func (l *Log) DropBefore(p store.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	n := 0
	for ; n < len(l.records) && l.records[n].next() <= min(p, l.synced); n++ {
		l.first = l.records[n].next()
	}
	clear(l.records[:n]) // or the array would hold their data until it is full
	l.records = l.records[n:]
	return nil
}

// First implements store.Log.
func (l *Log) First() store.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Next implements store.Log.
func (l *Log) Next() store.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Synced implements store.Log.
func (l *Log) Synced() store.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.synced
}

// Size implements store.Log: what records and frames would take.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.next - l.first)
}

// Close implements store.Log. What was appended stays for Clone, as it would on a disk.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && l.failed == nil {
		l.synced = l.next
	}
	l.closed = true
	return nil
}

// Crash closes the log as a power failure would, and returns the one that is found after it:
// every synced record, and of what was written since those that lie whole in the first keep
// bytes, up to a rotten one. After Close or with 0 that is what was synced; a large number is the
// end of the process.
func (l *Log) Crash(keep int64) *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	found := l.clone()
	cut := found.find(l.synced)
	found.next = l.synced
	for ; cut < len(found.records); cut++ {
		r := found.records[cut]
		if r.rotten || int64(r.next()-l.synced) > keep {
			break
		}
		found.next = r.next()
	}
	found.records, found.synced = found.records[:cut], found.next
	return found
}

// Clone returns a new log with everything appended so far, all of it synced: the copy of a disk,
// or, after Close, the log opened again. The log itself goes on unchanged.
func (l *Log) Clone() *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clone()
}

// clone is called with mu held.
func (l *Log) clone() *Log {
	return &Log{records: slices.Clone(l.records), first: l.first, next: l.next, synced: l.next, room: -1}
}

// Positions returns where the records stand that are left.
func (l *Log) Positions() (all []store.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		all = append(all, r.at)
	}
	return all
}

// Flip damages the record that stands at a position: readers are given a *store.Damage there. It
// returns false if none stands there.
func (l *Log) Flip(p store.Position) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.find(p)
	if i == len(l.records) || l.records[i].at != p {
		return false
	}
	l.records[i].rotten = true
	return true
}

// find returns the index of the first record at p or behind. It is called with mu held.
func (l *Log) find(p store.Position) int {
	return sort.Search(len(l.records), func(i int) bool { return l.records[i].at >= p })
}

// SetRoom bounds how many bytes, frames included, the log takes from now on; a negative number is
// no bound.
func (l *Log) SetRoom(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room = bytes
}

// Fail has every later Append and Sync return store.ErrFailed, as a disk's failed write would.
func (l *Log) Fail() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = store.ErrFailed
}

// Read implements store.Log. Records are copied into the buffer.
func (l *Log) Read(from store.Position, buffer []byte) (store.LogReader, error) {
	r := &logReader{log: l, at: from, buffer: buffer}
	if _, err := r.next(); err != nil && err != io.EOF {
		return nil, err
	}
	return r, nil
}

// logReader is a store.LogReader.
type logReader struct {
	log    *Log // nil when closed
	at     store.Position
	buffer []byte
}

func (r *logReader) Next() (store.Record, error) {
	found, err := r.next()
	if err != nil {
		return store.Record{}, err
	}
	from, to := r.at, found.next()
	if found.at != from { // it was no record's position
		to = found.at
	}
	r.at = to
	if found.rotten || found.at != from {
		return store.Record{}, &store.Damage{From: from, To: to, Place: "memory"}
	}
	r.buffer = append(r.buffer[:0], found.data...)
	return store.Record{Position: from, Next: to, Data: r.buffer}, nil
}

// next returns the record at the reader's position or behind.
func (r *logReader) next() (logged, error) {
	if r.log == nil {
		return logged{}, store.ErrClosed
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	i := r.log.find(r.at)
	switch {
	case r.log.closed:
		return logged{}, store.ErrClosed
	case r.at < r.log.first:
		return logged{}, store.ErrDropped
	case i == len(r.log.records):
		return logged{}, io.EOF
	}
	return r.log.records[i], nil
}

func (r *logReader) Close() { r.log = nil }
