package engine

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/store"
)

// Ready says what an engine's host must do, field by field, in their order. Once Refusing and
// Writes are carried out Advance is called, and then the rest may be done in any order: that of
// the fields is best.
type Ready struct {
	// Refusing says that nothing may be read any more; it is so until a Ready says the opposite,
	// which counts only after Advance.
	Refusing error
	// Waits says that the Beside which was handed out last must have been run before Writes are
	// carried out, and BesideEnded been called.
	Waits bool
	// Writes are carried out in order: see CarryOut. An error is final.
	Writes []Write
	// Answers are updates whose transactions have all run, and are as durable as they get.
	Answers []Update
	// Handled are frames that were taken: the next one of their links may be received.
	Handled []*Frame
	// Frames are to be sent.
	Frames []Outgoing
	// Committed are the deltas that became visible, in the order of applying; the newest is in
	// the log's record LogEnd()-1. NewBases says that bases are among them. They are the host's
	// to keep.
	Committed []*delta.Delta
	NewBases  bool
	// Jumped says that the content is no longer what the deltas so far add up to.
	Jumped bool
	// Sync is to be run by another goroutine; SyncEnded is called if it ended well, and an error
	// is final.
	Sync *Syncing
	// Beside is to be run by another goroutine, with Config.Beside; BesideEnded is called if it
	// ended well, and an error is final. There is none while one is under way.
	Beside *Beside
	// Pulls are repairs that go on: see Pull.
	Pulls []*Pull
	// Verify is to be verified, and closed, by another goroutine; Verified is told the outcome.
	Verify *Pinned
	// Notices are for the host's log.
	Notices []Notice
	// Again says, after Advance, that there is more to do at once: Step is to be called again.
	// Else it is at At, or when something happened, or a second after another engine has written
	// to a log that they share.
	Again bool
	At    time.Time
	// Closed says that the engine has ended, after Stop.
	Closed bool
}

// Outgoing is a frame for a neighbour.
type Outgoing struct {
	To   gossip.NeighbourID
	Data []byte
}

// Notice is something that people should know.
type Notice struct {
	Kind  NoticeKind
	From  gossip.NeighbourID
	Err   error
	Forks []gossip.Fork
}

// NoticeKind tells what happened.
type NoticeKind int

const (
	CannotCollect NoticeKind = iota // what deleted counters left could not be collected; it is tried again
	Mismatch                        // a neighbour has seen the same and holds something else
	Checking                        // so the data here is checked
	Sound                           // it is as it was written
	Checked                         // all of it was read after opening, and is
	CannotCheck                     // that could not be found out; it is tried again
	Damaged                         // it is damaged: it will be discarded and rebuilt
	Discarding                      // it is being discarded
	Discarded                       // it is
	Rebuilt                         // it is
	Helpless                        // no linked neighbour has all but what the log here has: the damage stays
	Incomplete                      // rebuilding takes what no linked neighbour has
	Forked                          // replicas whose deltas are others at some hosts, now and then again
	Repaired                        // from a neighbour
)

// tell adds a notice.
func (e *Engine) tell(n Notice) { e.ready.Notices = append(e.ready.Notices, n) }

// Ready returns what is to be done. It is valid until the next call.
func (e *Engine) Ready() *Ready {
	e.spoilPull()
	rd := &e.handed
	e.handed, e.ready = e.ready, e.handed.emptied()
	rd.Refusing = e.Refusal()
	rd.Waits, rd.Beside = e.handBeside()
	rd.Writes = e.writes
	rd.Again = e.again()
	rd.At = e.at()
	closed := e.ending.closed && !e.Busy() || e.ending.stop && e.stalled()
	rd.Closed = closed && !e.syncing && e.beside == nil
	return rd
}

// again reports whether there is more to do at once.
func (e *Engine) again() bool {
	switch {
	case e.stalled():
		return e.unserved || len(e.arrived) > 0
	case e.beside != nil && (e.Busy() || e.behindHand()):
		return e.unserved // all else waits
	}
	if e.fills() && !e.Busy() && e.behindHand() {
		return e.unserved // a filling that failed is in the way until its pull has ended
	}
	return len(e.updates)+len(e.arrived) > 0 || e.Busy() || e.behindHand() || e.cutting && e.beside == nil || e.unserved ||
		e.maySweep() || e.mayCollect() || e.ending.id || e.ending.stop && !e.ending.closed
}

// emptied returns an empty one with its memory.
func (rd *Ready) emptied() Ready {
	clear(rd.Answers)
	clear(rd.Handled)
	clear(rd.Frames)
	clear(rd.Pulls)
	return Ready{
		Answers: rd.Answers[:0], Handled: rd.Handled[:0], Frames: rd.Frames[:0], Pulls: rd.Pulls[:0],
	}
}

// Advance says that all that was to be written is. It may be that more is to be written then.
func (e *Engine) Advance() {
	e.replica.written()
	e.handed.Again = e.vouch() || e.again()
}

// The replica never writes: what is to be written waits, in order, until its host has done it. So
// the host can do it for many at once, and a test can let it die between any two. What is read
// sees all that was written before, and nothing of what waits: who needs to read what it wrote
// takes another step. The tree alone may have a beginning of what goes beside already; so who
// reads that, and not a view, is a task, or the next part of the checkpoint.

// Write is one thing to do to the disk. One field says what.
type Write struct {
	Record   []byte         // is appended to the log; valid until Advance
	Parts    [][]byte       // so is a large record, in parts
	Batch    *store.Batch   // is applied to the tree, whole or not at all
	SyncLog  bool           // all that was appended is made durable
	SyncTree bool           // all that was applied to the tree is
	Drop     store.Position // what the log has before it is not needed any more

	fill     func(*store.Batch) // makes the batch, which is empty until then and afterwards
	at, next store.Position     // where the record stands, and what follows it
	then     func(w *Write)
}

// Beside is a part of what a checkpoint writes to the tree. Commits do not wait for it: what it
// has is in the log, and in memory until BesideEnded. What else is written to the tree does, so
// that the tree gets everything in order.
type Beside struct {
	writes []Write
	out    bool // the host has it
}

// Writes are what it does; none if it is nil.
func (b *Beside) Writes() []Write {
	if b == nil {
		return nil
	}
	return b.writes
}

// Run does the writes. An error is final. It may be called by any goroutine.
func (b *Beside) Run(tree store.Store) error { return CarryOut(b.writes, tree, nil) }

// setBeside has the writes from the i-th on done beside the engine, if that may be: the tree's
// alone.
func (r *replica) setBeside(i int) {
	some := r.writes[i:]
	if !r.cfg.Beside || len(some) == 0 || slices.ContainsFunc(some, func(w Write) bool { return w.Batch == nil }) {
		return
	}
	r.beside = &Beside{writes: slices.Clone(some)}
	clear(some)
	r.writes = r.writes[:i]
}

// handBeside returns whether what is to be written waits for what is under way, and else what
// goes beside it. What was set beside in the step that writes more to the tree comes before that.
func (r *replica) handBeside() (waits bool, next *Beside) {
	b := r.beside
	inTree := slices.ContainsFunc(r.writes, func(w Write) bool { return w.Batch != nil || w.SyncTree })
	switch {
	case b == nil:
		return false, nil
	case b.out:
		return inTree, nil
	case inTree:
		r.writes, r.beside = append(b.writes, r.writes...), nil
		return false, nil
	}
	b.out = true
	return false, b
}

// BesideEnded says that what was handed out as Ready.Beside is in the tree.
func (e *Engine) BesideEnded() {
	writes := e.beside.writes
	e.beside = nil
	tellWritten(writes)
}

// CarryOut does writes in their order. An error is final: what was written is unknown, and the
// replica must be closed.
func CarryOut(writes []Write, tree store.Store, log store.Log) error {
	for i := range writes {
		if err := writes[i].carryOut(tree, log); err != nil {
			return err
		}
	}
	return nil
}

// AppendAtOnce does the records that writes begin with, as far as the log takes them without
// waiting, and returns the writes that are left: CarryOut does those, before anything else is
// asked of the engine.
func AppendAtOnce(writes []Write, log store.Log) (left []Write, err error) {
	for i := range writes {
		w := &writes[i]
		if w.Record == nil {
			return writes[i:], nil
		}
		w.at, w.next, err = log.TryAppend(w.Record)
		if errors.Is(err, store.ErrWouldWait) {
			return writes[i:], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// RecordCopy returns a copy of the record that is appended; nil if there is none.
func (w *Write) RecordCopy() []byte {
	if w.Record != nil {
		return bytes.Clone(w.Record)
	}
	return slices.Concat(w.Parts...)
}

// recordSize returns how many bytes that has.
func (w *Write) recordSize() (n int) {
	for _, part := range w.Parts {
		n += len(part)
	}
	return n + len(w.Record)
}

func (w *Write) carryOut(tree store.Store, log store.Log) (err error) {
	switch {
	case w.Record != nil:
		w.at, w.next, err = log.Append(w.Record)
	case w.Parts != nil:
		w.at, w.next, err = log.AppendParts(w.Parts...)
	case w.fill != nil:
		w.fill(w.Batch)
		err = tree.Commit(w.Batch, false)
		*w.Batch = store.Batch{}
	case w.Batch != nil:
		err = tree.Commit(w.Batch, false)
	case w.SyncLog:
		err = log.Sync()
	case w.SyncTree:
		err = tree.Sync()
	default:
		err = log.DropBefore(w.Drop)
	}
	return err
}

// Tree is what the replica reads of an ordered store.
type Tree interface {
	// Snapshot returns a view of all that was written.
	Snapshot() store.Snapshot
}

// Log is what it reads of a log: see store.Log.
type Log interface {
	Read(from store.Position, buffer []byte) (store.LogReader, error)
	First() store.Position
	Next() store.Position
	Synced() store.Position
}

// write has something written behind all that waits.
func (r *replica) write(w Write) { r.writes = append(r.writes, w) }

// writeBatch has a batch applied to the tree.
func (r *replica) writeBatch(b *store.Batch, then func(*Write)) { r.write(Write{Batch: b, then: then}) }

// written takes note that all that waited is written.
func (r *replica) written() {
	writes := r.writes
	r.writes = r.spare[:0]
	tellWritten(writes)
	clear(writes)
	r.spare = writes
	if r.unpublished {
		r.publish()
	}
}

func tellWritten(writes []Write) {
	for i := range writes {
		if then := writes[i].then; then != nil {
			then(&writes[i])
		}
	}
}

// A task is what takes several steps, with nothing else that writes between them: each sees what
// those before it wrote. It is a part of one that is called, once a step, until it says that it
// is done.
type task func() (done bool, err error)

// once returns a part that does something and is done.
func once(fn func()) task {
	return func() (done bool, err error) {
		fn()
		return true, nil
	}
}

// begin has parts of a task done, one after the other, behind those that are under way.
func (r *replica) begin(parts ...task) { r.tasks = append(r.tasks, parts...) }

// then has parts done next: before the part that calls it goes on.
func (r *replica) then(parts ...task) {
	if r.inPart {
		r.nested = append(r.nested, parts...)
	} else {
		r.tasks = append(parts, r.tasks...)
	}
}

// Busy reports whether a task is under way.
func (r *replica) Busy() bool { return len(r.tasks) > 0 }

// goOn goes on with the task that is under way.
func (r *replica) goOn() error {
	part := r.tasks[0]
	r.tasks, r.inPart, r.nested = r.tasks[1:], true, nil
	done, err := part()
	r.inPart = false
	if !done {
		r.nested = append(r.nested, part)
	}
	r.tasks = append(r.nested, r.tasks...)
	return err
}
