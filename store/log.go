package store

import (
	"errors"
	"fmt"
)

// Limits of a log that every implementation accepts. One that puts bytes of its own before each
// record counts them as the record's.
const (
	MaxRecord   = 64 << 20  // bytes of a record
	MaxAppend   = 128 << 20 // bytes that one Append takes in the log, frames included
	RecordFrame = 16        // bytes that a record takes in the log beside its own
)

// ErrWouldWait is returned by a TryAppend that would have to wait. Nothing was appended.
var ErrWouldWait = errors.New("the log cannot take it at once")

// ErrDropped is returned for a position whose record was dropped. Log.First tells what is left.
var ErrDropped = errors.New("the log was dropped there")

// Position is a place in a log: how many bytes were appended before it. Positions only grow. That
// of a record is the same for ever, and none has another record's once that was synced: what a
// power failure took, nobody has been told of.
type Position uint64

// After returns the position of what follows a record that stands at p, in a log that frames its
// records itself. It is for implementations: between two records of an owner others may stand, so
// an owner takes positions from Append, Record.Position and Record.Next alone.
func (p Position) After(record []byte) Position {
	return p + RecordFrame + Position(len(record))
}

// Log is a sequence of records that grows at its end and is dropped from its beginning. What the
// records mean is their owner's affair.
//
// # Durability
//
// A record that Append took survives the end of the process. One before Synced survives a power
// failure as well. After one, the log ends somewhere behind Synced, before the first record of
// which anything is missing: what remains is always a beginning of what was appended. Records of
// one Append are not bound to each other, and the last of them may be missing.
//
// What opening a log found is synced before the log is handed out: Synced is then Next.
//
// # Failures
//
// A log whose medium is full stays whole: the Append had no effect, and may be tried again. Any
// other failed write, and each failed sync, is final: the kernel may have thrown away what it
// could not write, and a second attempt would succeed without it. From then on every Append, Sync
// and DropBefore returns the same error, which wraps ErrFailed; the owner stops as after a crash.
//
// All methods may be called by many goroutines at once. Append does not wait for a Sync under
// way, unless a new segment is begun, which syncs the one before. TryAppend waits neither for the
// medium nor for others.
//
// # Owners
//
// A log may be one owner's part of a log that several share (package store/space). Then others'
// records lie between its own, and First, Next, Synced and Size are those of the whole: Next
// grows while the owner appends nothing.
type Log interface {
	// Append writes the records to the end in one write, one behind the other, and returns the
	// position of the first and that behind the last. The records may be empty and may be reused
	// afterwards. The error is ErrBatchTooLarge beyond a limit, or wraps ErrNoSpace; both say that
	// nothing was appended.
	Append(records ...[]byte) (first, next Position, err error)
	// TryAppend is Append for who must not wait: where Append would wait for another call, or has to
	// make something durable before, it returns ErrWouldWait. It makes nothing durable.
	TryAppend(records ...[]byte) (first, next Position, err error)
	// AppendParts is Append of one record, whose bytes are those of the parts, one behind the other:
	// a large one is not copied to be written.
	AppendParts(parts ...[]byte) (first, next Position, err error)
	// Sync returns when every record that was appended before the call is durable. Those who wait at
	// once share an fsync.
	Sync() error
	// Read returns a reader of the records from a position on: one of a record, First or Next. It
	// reads ahead into the buffer, which is the reader's until Close; with none, or a very small one,
	// it makes its own. The error is ErrDropped before First.
	Read(from Position, buffer []byte) (LogReader, error)
	// DropBefore gives space back: whole segments that end before p or there, the oldest first. The
	// last one stays, and so does every record from p on or that is not synced. It can be repeated,
	// and may be called while others read. After an error some may be gone, always a beginning.
	DropBefore(p Position) error
	// First is the position up to which records were dropped: of the oldest one that is left, or
	// Next if there is none. Before it stands no record of the owner's, but behind it the first may
	// be another's.
	First() Position
	// Next is the position that the next record will have.
	Next() Position
	// Synced is the position up to which every record is durable.
	Synced() Position
	// Size returns how many bytes the log takes on its medium.
	Size() int64
	// Close syncs what was appended and releases everything, unless the log has failed. Later calls
	// return ErrClosed; a second Close does nothing. Readers are closed on their own.
	Close() error
}

// LogReader reads a log forward, while it grows. It is for one goroutine at a time.
type LogReader interface {
	// Next returns the next record. The error is io.EOF at the end of what was appended so far, where
	// a later call may find more; and ErrDropped if the log was dropped faster than it was read.
	//
	// It is a *Damage where the medium holds something else than was appended. The call after it
	// goes on behind the damage. After any other error the next call tries the same again.
	Next() (Record, error)
	// Close releases the reader, and lets the medium have the space of what was dropped meanwhile.
	Close()
}

// Record is one record that was read.
type Record struct {
	Position Position
	Next     Position // of what stands behind it
	Data     []byte   // valid until the reader's next call, and not to be changed
}

// Damage is the error of a reader that met something else than was appended. It wraps ErrCorrupt.
type Damage struct {
	From  Position // of the first record that is damaged, whose beginning is known
	To    Position // where the reader goes on: at a whole record, a damaged one, or the log's end
	Place string   // what the medium calls the place, such as a file
}

// Error implements error.
func (d *Damage) Error() string {
	return fmt.Sprintf("%v: the log's records from position %d to %d, in %s", ErrCorrupt, d.From,
		d.To, d.Place)
}

// Unwrap makes a Damage an ErrCorrupt.
func (d *Damage) Unwrap() error { return ErrCorrupt }

// CheckAppend returns how many bytes the records take in a log, or ErrBatchTooLarge. It is for
// implementations.
func CheckAppend(records [][]byte) (size Position, err error) {
	for _, record := range records {
		size = size.After(record)
		if len(record) > MaxRecord || size > MaxAppend {
			return 0, ErrBatchTooLarge
		}
	}
	return size, nil
}

// CheckParts is CheckAppend of one record, in parts.
func CheckParts(parts [][]byte) (size Position, err error) {
	for _, part := range parts {
		size += Position(len(part))
	}
	if size > MaxRecord {
		return 0, ErrBatchTooLarge
	}
	return RecordFrame + size, nil
}
