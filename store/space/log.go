package space

import (
	"sync/atomic"

	"github.com/peerd/peerd/store"
)

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
	return l.c.append(l.claim, records)
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
	under, err := l.c.log.Read(max(from, l.claim.from), buffer)
	if err != nil {
		return nil, err
	}
	return &reader{l, under}, nil
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

// Next implements store.Log.
func (l *spaceLog) Next() store.Position { return l.c.log.Next() }

// Synced implements store.Log.
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
	log   *spaceLog
	under store.LogReader
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
	}
	return store.Record{}, store.ErrClosed
}

// Close implements store.LogReader.
func (r *reader) Close() { r.under.Close() }
