// Package segment keeps a log on disk, in files of which only the last one is written.
//
// # Idea
//
// A position counts the bytes of all records ever appended. A segment is a file that is named by
// the position of its first record, so the names alone say which file holds what, and dropping a
// beginning of the log is removing files. Before each record stands a frame: length, checksums
// that cover the position as well, and up to where the log was synced when the record was
// written. Package store has the contract, docs/storage.md the bytes.
//
// # What a crash leaves, and what rot does
//
// A segment is begun only when the one before is synced, so what a power failure tears lies in
// the last. The kernel writes pages in any order: behind a hole may stand whole records. They are
// no sign of rot, and go with the rest: the log ends where the first bad record begins. But a
// whole record that was written when the log was synced up to S proves that all before S was once
// on the disk. What is bad there has rotted since. So has what is bad in a segment that is not
// the last, and what is bad or missing before Options.Synced, where only the owner can know.
//
// Open cuts off what was torn, and Torn says how much. It leaves what rotted as it is: a reader
// gets a
// *store.Damage with position and file, and then what stands behind it. If the frame is whole, the
// damage is one record. Else the next whole record is looked for, byte by byte (BenchmarkSearch),
// to the end of the segment. Chance matches need two checksums, and the salt of the segment, which
// nobody outside knows, keeps a stored value from posing as records.
//
// Open writes again what it found and no record proves synced, and syncs that: a process that saw
// a sync fail may have ended, and left pages that the kernel calls clean and the disk has not
// got.
//
// # What stands behind the end
//
// Where syncs come often, zeros are written ahead, some 256 KiB at a time. What is written in their
// place changes neither the length of the file nor where it stands on the disk, so a sync of it is
// one of the data alone, and none of the file system's journal (decision 73). No record is a run of
// zeros: a reader takes them for torn, and Open cuts them off. So does Close, and who begins the
// next segment: there they would be damage.
//
// # Locks
//
// dropping, appending, syncing and mu are taken in this order, each by who changes what it guards.
// mu is held for moments; appending during a write; syncing during an fsync, of which the kernel
// reports a failure only once, so that no two may run at a time.
//
// # Caveats
//
// Nothing locks the directory: whoever opens the log holds a lock on something above it.
//
// Rot in the newest records, with none behind them, looks torn, unless Options.Synced says better.
// A bit that flips in a segment's header costs the whole segment, as its salt is there.
//
// After a full disk refused an Append, the log truncates and syncs the file before it goes on:
// what was written of the refused records must not come back. A TryAppend leaves that to the next
// Append, or to Close.
//
// The conformance suite in store/storetest, a disk that loses power, fills up and fails, flipped
// bits, the golden file and the benchmarks are in this directory.
package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/peerd/peerd/store"
)

const (
	// defaultSize is the size at which a segment is full, in bytes.
	defaultSize = 64 << 20
	// maxSize bounds Options.SegmentSize, in bytes: a frame has 32 bits for distances in a segment.
	maxSize = 1 << 30
	// keptBuffer is how large a buffer an Append may leave to the next, in bytes.
	keptBuffer = 4 << 20
	// reserveShare of a segment is how many zeros are written ahead, and oftenShare of these what
	// is synced at once at most, where that is done: where more is, each sync costs little beside
	// what it writes.
	reserveShare = 64
	oftenShare   = 16
	maxReserve   = 256 << 10
)

// zeros are what is written ahead.
var zeros [maxReserve]byte

// Options are the choices of whoever opens a log. The zero value is a good one.
type Options struct {
	// SegmentSize is the size of the records in a file, in bytes; the default is 64 MiB, at most 1
	// GiB. What one Append writes stays together, so a large one makes a larger file. Space is given
	// back by whole files, and each costs three fsyncs when it is begun: of the one before, of its
	// header and of the directory.
	SegmentSize int
	// Synced is a position up to which the owner knows the log to have been synced, say by a
	// checkpoint. What is bad or missing before it is damage. A log that was lost goes on from there.
	Synced store.Position
}

// Log is a store.Log in a directory.
type Log struct {
	dir     directory
	size    store.Position // of a segment
	reserve store.Position // how many zeros are written ahead
	torn    int64

	dropping  sync.Mutex
	appending sync.Mutex
	sum       checksum // of the last segment; guarded by appending
	buffer    []byte   // guarded by appending
	spoiled   bool     // behind the end is what a full disk took of a write; guarded by appending
	syncing   sync.Mutex

	mu       sync.Mutex // guards what follows
	segments []segment  // by base, at least one
	last     file       // of the last segment; changed by who holds appending and syncing as well
	next     store.Position
	synced   store.Position
	reserved store.Position // up to where the file reaches, if that is beyond next; changed with appending held
	often    bool           // little is synced at once
	failed   error          // why the log takes nothing more
	closed   bool
}

var _ store.Log = (*Log)(nil)

// Torn returns how many bytes Open cut off behind the last whole record: writes that a crash
// interrupted, of which none was synced, and what was written ahead.
func (l *Log) Torn() int64 { return l.torn }

// Append implements store.Log. It copies the records into a buffer and writes that.
func (l *Log) Append(records ...[]byte) (first, next store.Position, err error) {
	l.appending.Lock()
	defer l.appending.Unlock()
	return l.append(records, true)
}

// TryAppend implements store.Log.
func (l *Log) TryAppend(records ...[]byte) (first, next store.Position, err error) {
	if !l.appending.TryLock() {
		return 0, 0, store.ErrWouldWait
	}
	defer l.appending.Unlock()
	return l.append(records, false)
}

// append is called with appending held. It waits for the disk only if it may.
func (l *Log) append(records [][]byte, mayWait bool) (first, next store.Position, err error) {
	size, err := store.CheckAppend(records)
	if err != nil {
		return 0, 0, err
	}
	s, err := l.place(size, mayWait)
	if err != nil {
		return 0, 0, err
	}
	first, buffer := l.encode(records, int(size))
	if _, err := l.last.WriteAt(buffer, s.offset(first)); err != nil {
		return 0, 0, l.undo(err, mayWait)
	}
	l.writeAhead(s, first+size)
	return first, first + size, l.publish(first + size)
}

// writeAhead writes zeros behind what was written last, if that has reached the end of the file.
// Who has no room for them goes without. It is called with appending held.
func (l *Log) writeAhead(s segment, end store.Position) {
	l.mu.Lock()
	n := min(l.reserve, s.base+l.size-min(end, s.base+l.size))
	wanted := l.often && end > l.reserved
	l.mu.Unlock()
	if !wanted || n == 0 {
		return
	}
	written, _ := l.last.WriteAt(zeros[:n], s.offset(end)) // an error comes again with what is written next, or synced
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved = end + store.Position(written)
}

// trim cuts off what was written ahead, and reports whether there was any. It is called with
// appending held.
func (l *Log) trim() (cut bool, err error) {
	l.mu.Lock()
	used := headerSize + int64(l.next-l.segments[len(l.segments)-1].base)
	cut = l.reserved > l.next
	l.reserved = 0
	l.mu.Unlock()
	if cut {
		err = l.last.Truncate(used)
	}
	return cut, err
}

// AppendParts implements store.Log. It writes each part as it is.
func (l *Log) AppendParts(parts ...[]byte) (first, next store.Position, err error) {
	l.appending.Lock()
	defer l.appending.Unlock()
	size, err := store.CheckParts(parts)
	if err != nil {
		return 0, 0, err
	}
	s, err := l.place(size, true)
	if err != nil {
		return 0, 0, err
	}
	first, synced := l.end()
	l.buffer = l.sum.appendFrame(l.buffer[:0], first, synced, int(size)-frameSize, l.sum.parts(parts))
	at := s.offset(first)
	for part, i := l.buffer, 0; ; i++ {
		if _, err := l.last.WriteAt(part, at); err != nil {
			return 0, 0, l.undo(err, true)
		}
		if i == len(parts) {
			return first, first + size, l.publish(first + size)
		}
		at += int64(len(part))
		part = parts[i]
	}
}

// place returns the segment that takes so many bytes next: another one, if the last is full.
func (l *Log) place(size store.Position, mayWait bool) (segment, error) {
	s, used, err := l.tail()
	full := used > 0 && used+size > l.size && size > 0
	if err == nil && (full || l.spoiled) && !mayWait {
		err = store.ErrWouldWait
	}
	if err == nil {
		err = l.clean()
	}
	if err == nil && full {
		s, err = l.roll()
	}
	return s, err
}

// tail returns the last segment and how much of it is used, or why nothing can be appended.
func (l *Log) tail() (s segment, used store.Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s = l.segments[len(l.segments)-1]
	return s, l.next - s.base, l.usable()
}

// usable is called with mu held.
func (l *Log) usable() error {
	if l.closed {
		return store.ErrClosed
	}
	return l.failed
}

// encode puts frames and records into a buffer that the next Append uses again, unless it is large.
func (l *Log) encode(records [][]byte, size int) (first store.Position, buffer []byte) {
	first, synced := l.end()
	buffer = slices.Grow(l.buffer[:0], size)
	for at, i := first, 0; i < len(records); i++ {
		buffer = l.sum.appendRecord(buffer, at, synced, records[i])
		at = at.After(records[i])
	}
	if l.buffer = nil; cap(buffer) <= keptBuffer {
		l.buffer = buffer
	}
	return first, buffer
}

// end returns where the log ends, and up to where it is synced.
func (l *Log) end() (next, synced store.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next, l.synced
}

func (l *Log) publish(next store.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err // a Sync failed meanwhile
	}
	l.next = next
	return nil
}

// undo removes what a failed write left, at once if it may wait. If the disk is full and the
// removal durable, the log goes on as it was.
func (l *Log) undo(cause error, mayWait bool) error {
	if !isFull(cause) {
		return l.fail(cause)
	}
	if l.spoiled = true; !mayWait {
		return store.ErrWouldWait
	}
	if err := l.clean(); err != nil {
		return err
	}
	return fmt.Errorf("append to the log: %w: %w", store.ErrNoSpace, cause)
}

// clean removes what stands behind the end. It is called with appending held.
func (l *Log) clean() error {
	if !l.spoiled {
		return nil
	}
	_, used, err := l.tail()
	if err != nil {
		return err
	}
	if err := l.last.Truncate(headerSize + int64(used)); err != nil {
		return l.fail(err)
	}
	l.mu.Lock()
	l.reserved = 0
	l.mu.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.spoiled = false
	return l.flush()
}

// roll syncs the last segment and begins another.
func (l *Log) roll() (segment, error) {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	cut, err := l.trim()
	if err != nil {
		return segment{}, l.fail(err)
	}
	sync := l.sync
	if cut { // also if no record is to be synced
		sync = l.flush
	}
	if err := sync(); err != nil {
		return segment{}, err
	}
	s, f, err := begin(l.dir, l.Next())
	if err != nil {
		return s, l.abandon(err, s)
	}
	l.last.Close() // it is synced
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segments, l.last, l.sum.salt = append(l.segments, s), f, s.salt
	return s, nil
}

// begin makes a segment, empty and durable.
func begin(dir directory, base store.Position) (segment, file, error) {
	s := segment{base: base, salt: rand.Uint32()}
	f, err := dir.create(s.name())
	if err != nil {
		return s, nil, err
	}
	if _, err = f.WriteAt(s.header(), 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = dir.sync()
	}
	if err != nil {
		f.Close() // its error would only distract from the first
		return s, nil, err
	}
	return s, f, nil
}

// abandon removes a segment that could not be made whole, since one of its name would cut off what
// is appended to the one before.
func (l *Log) abandon(cause error, s segment) error {
	if !isFull(cause) {
		return l.fail(cause)
	}
	l.dir.remove(s.name()) // if it is there, and whether it is gone the listing tells
	names, err := l.dir.list()
	if slices.Contains(names, s.name()) {
		err = fmt.Errorf("%s cannot be removed", s.name())
	}
	if err = errors.Join(err, l.dir.sync()); err != nil {
		return l.fail(errors.Join(cause, err))
	}
	return fmt.Errorf("begin a segment of the log: %w: %w", store.ErrNoSpace, cause)
}

// fail makes the log refuse everything further.
func (l *Log) fail(cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("%w: the log takes nothing more and must be closed: %w", store.ErrFailed,
			cause)
	}
	return l.failed
}

// Sync implements store.Log.
func (l *Log) Sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	return l.sync()
}

// sync is called with syncing held.
func (l *Log) sync() error {
	l.mu.Lock()
	err, done := l.usable(), l.synced == l.next
	l.mu.Unlock()
	if err != nil || done {
		return err
	}
	return l.flush()
}

// flush is sync, whether there is a record to sync or not.
func (l *Log) flush() error {
	l.mu.Lock()
	last, reached, err := l.last, l.next, l.usable()
	l.mu.Unlock()
	if err != nil {
		return err // a second fsync would succeed, and prove nothing
	}
	if err := last.Sync(); err != nil {
		return l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.often = reached-l.synced <= l.reserve/oftenShare
	l.synced = reached
	return nil
}

// DropBefore implements store.Log. It syncs the directory behind each file, since a newer one
// that is gone while an older one came back would look like damage.
func (l *Log) DropBefore(p store.Position) error {
	l.dropping.Lock()
	defer l.dropping.Unlock()
	for {
		s, ok, err := l.droppable(p)
		if !ok || err != nil {
			return err
		}
		if err := errors.Join(l.dir.remove(s.name()), l.dir.sync()); err != nil {
			return l.fail(fmt.Errorf("drop %s: %w", s.name(), err))
		}
		l.mu.Lock()
		l.segments = l.segments[1:]
		l.mu.Unlock()
	}
}

// droppable returns the oldest segment, if it ends at p or before.
func (l *Log) droppable(p store.Position) (s segment, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) == 1 || l.segments[1].base > p {
		return s, false, l.usable()
	}
	return l.segments[0], true, l.usable()
}

// First implements store.Log.
func (l *Log) First() store.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[0].base
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

// Size implements store.Log: the lengths of the files.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(max(l.next, l.reserved)-l.segments[0].base) + int64(len(l.segments)*headerSize)
}

// Close implements store.Log. After a failure it syncs nothing: whoever was told of it knows that
// what was written last is uncertain.
func (l *Log) Close() error {
	l.dropping.Lock()
	defer l.dropping.Unlock()
	l.appending.Lock()
	defer l.appending.Unlock()
	err := l.clean()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	closed, failed := l.closed, l.failed != nil
	l.mu.Unlock()
	if closed {
		return nil
	}
	if err == nil && !failed {
		_, err = l.trim() // if that is not durable, Open does it
	}
	if err == nil && !failed {
		err = l.sync()
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return errors.Join(err, l.last.Close())
}
