package peer

import (
	"slices"
	"sync"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// feed is what the loop tells those who wait for changes: watches, and who waits for a
// token. It costs the loop a few assignments for each commit group, however many wait and however
// slow they are.
type feed struct {
	mu     sync.Mutex
	at     moment
	recent []record // the newest ones, without a gap, while there are watches
	bytes  int      // of their deltas
	bases  *delta.Bases
	open   int  // watches
	bell   bell // rings at each change
	wanted map[crdt.ReplicaID][]wanted
}

// bell wakes those who wait for the next of something. The zero bell has not rung.
type bell struct {
	mu   sync.Mutex
	next chan struct{} // nil if nobody waits
}

// wait returns a channel that is closed when the bell rings next.
func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// moment is one in the history of the store's content.
type moment struct {
	// epoch is raised whenever the content changes by other than the log's deltas: by a repair. Moments
	// of different epochs have no history between them.
	epoch uint64
	next  uint64     // number of the log record that will be written next
	turns uint64     // see engine.View.Turns
	seen  delta.Seen // the context
}

// momentID is what tells moments of one space apart.
type momentID struct{ epoch, next uint64 }

// record is a record of the log: what one commit group applied.
type record struct {
	number uint64
	deltas []*delta.Delta
}

// maxFeedBytes is how many bytes of deltas are kept in memory for watches. They are those of the
// log's own newest records. A watch that is further behind reads the log on the disk.
const maxFeedBytes = 4 << 20

// maxFeedRecords is how many records a watch takes at once.
const maxFeedRecords = 64

// wanted is somebody who waits for a dot.
type wanted struct {
	counter uint64
	here    chan struct{}
}

// committed tells of one more record of the log, and by which bases vectors leave ids out from now on; nil if there are
// no new ones.
func (f *feed) committed(number uint64, deltas []*delta.Delta, bases *delta.Bases) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range deltas {
		f.at.seen.Raise(d.Replica, d.Last())
		f.serve(d.Replica)
	}
	if bases != nil {
		f.bases = bases
		f.at.seen = bases.Read(bases.Shorten(f.at.seen.Vector()))
	}
	if number != f.at.next {
		f.at.epoch++
		f.forget()
	}
	f.at.next = number + 1
	if f.open > 0 {
		f.keep(record{number, deltas})
	}
	f.bell.ring()
}

// jump tells that the content has changed by other than the log's deltas. seen is the context's short form.
func (f *feed) jump(seen crdt.VersionVector, bases *delta.Bases, next, turns uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bases = bases
	f.at = moment{epoch: f.at.epoch + 1, next: next, turns: turns, seen: bases.Read(seen.Clone())}
	f.forget()
	for id := range f.wanted {
		f.serve(id)
	}
	f.bell.ring()
}

func (f *feed) keep(r record) {
	f.recent = append(f.recent, r)
	f.bytes += r.size()
	drop := 0
	for f.bytes > maxFeedBytes && drop < len(f.recent)-1 {
		f.bytes -= f.recent[drop].size()
		drop++
	}
	clear(f.recent[:drop])
	f.recent = f.recent[drop:]
}

func (f *feed) forget() { f.recent, f.bytes = nil, 0 }

func (r record) size() (bytes int) {
	for _, d := range r.deltas {
		bytes += len(d.Encode())
	}
	return bytes
}

// reread returns a context with what more it leaves out by the bases that are here now.
func (f *feed) reread(seen delta.Seen) delta.Seen {
	f.mu.Lock()
	bases := f.bases
	f.mu.Unlock()
	return bases.Read(bases.Shorten(seen.Vector()))
}

// now returns the present moment. The caller owns it.
func (f *feed) now() moment {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.at
	at.seen = f.at.seen.Clone()
	return at
}

// place returns that of the present moment.
func (f *feed) momentID() momentID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return momentID{f.at.epoch, f.at.next}
}

// enter begins a watch, exit ends it.
func (f *feed) enter() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
}

func (f *feed) exit() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open--; f.open == 0 {
		f.forget()
	}
}

// after returns the records from number on that are in memory. If there is none, ended says that
// number is the log's end, and wake will be closed when there is more; else the log on the disk has
// them. same is false if the epoch is over.
func (f *feed) after(epoch, number uint64) (recs []record, ended, same bool, wake <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case epoch != f.at.epoch:
		return nil, false, false, nil
	case number >= f.at.next:
		return nil, true, true, f.bell.wait()
	case len(f.recent) == 0 || number < f.recent[0].number:
		return nil, false, true, nil
	}
	recs = f.recent[number-f.recent[0].number:]
	return slices.Clone(recs[:min(len(recs), maxFeedRecords)]), false, true, nil
}

// want returns a channel that is closed when the dot is here; nil if it is.
func (f *feed) want(d crdt.Dot) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at.seen.Has(d) {
		return nil
	}
	if f.wanted == nil {
		f.wanted = map[crdt.ReplicaID][]wanted{}
	}
	here := make(chan struct{})
	f.wanted[d.Replica] = append(f.wanted[d.Replica], wanted{d.Counter, here})
	return here
}

// serve answers those who wait for a replica's dots that are here now.
func (f *feed) serve(id crdt.ReplicaID) {
	waiting := f.wanted[id]
	if len(waiting) == 0 {
		return
	}
	rest := waiting[:0]
	for _, w := range waiting {
		if w.counter <= f.at.seen.Count(id) {
			close(w.here)
		} else {
			rest = append(rest, w)
		}
	}
	clear(waiting[len(rest):])
	f.set(id, rest)
}

func (f *feed) set(id crdt.ReplicaID, rest []wanted) {
	if len(rest) == 0 {
		delete(f.wanted, id)
		return
	}
	f.wanted[id] = rest
}

// drop takes back a want.
func (f *feed) drop(d crdt.Dot, here chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rest []wanted
	for _, w := range f.wanted[d.Replica] {
		if w.here != here {
			rest = append(rest, w)
		}
	}
	f.set(d.Replica, rest)
}

// newBases returns the bases if deltas that were just committed said some; else nil.
func (l *loop) newBases(said bool) *delta.Bases {
	if !said {
		return nil
	}
	return l.engine.Bases()
}
