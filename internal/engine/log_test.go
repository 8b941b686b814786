package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/store"
)

// checkLogSize has a host do what its commits make due, and checks that the log keeps to its bound,
// and counts what the disk has.
func (w *world) checkLogSize(t *testing.T, h *host) {
	t.Helper()
	for w.round(t, h) {
	}
	counts, bound := h.engine.LogBytes(), h.engine.LogBound()
	if counts > bound {
		t.Fatalf("the log has %d bytes, bound %d", counts, bound)
	}
	if has := h.logged(); has != counts {
		t.Fatalf("the log counts %d bytes, the disk has %d", counts, has)
	}
}

// logged returns how many bytes the log takes on the disk.
func (h *host) logged() int64 { return h.disk.log.Size() }

// maintain has a host do all that there is to be done: sweeps, checkpoints and cuts of the log.
func (w *world) maintain(t *testing.T, h *host) {
	t.Helper()
	for w.now = w.now.Add(tickEvery); w.round(t, h) || h.engine.Clears() > 0; {
		w.now = w.now.Add(tickEvery)
	}
}

func TestTheLogKeepsToItsBoundHoweverFastCommitsFollow(t *testing.T) {
	for _, limit := range []int64{1, 10_000, 1 << 20} {
		w := newWorld(t, 1, worldConfig{hosts: 1, maxLog: limit})
		h := w.hosts[0]
		large := make([]byte, 100_000)
		for i := range 4000 {
			value := large[:100]
			if i > 3000 && i%10 == 0 {
				value = large // many small records must go for one that is large
			}
			w.write(t, h, func(f crdt.Fields) error { return f.String(fmt.Sprint(i % 50)).Set(value) })
			if i%100 == 0 || i > 3900 {
				w.checkLogSize(t, h)
			}
			if i == 2000 {
				w.open(t, h)
				w.maintain(t, h)
			}
		}
	}
}

// TestTheCheckpointOfALongLogFitsIntoTheTree fills an index as far as the log may be long.
func TestTheCheckpointOfALongLogFitsIntoTheTree(t *testing.T) {
	const limit = 64 << 30
	r := &replica{cfg: Config{MaxLogBytes: limit}}
	log := newLog(0, 0)
	for n := uint64(1); log.Bytes(log.Next) < limit; n++ {
		log.Append(n, time.UnixMilli(1e12))
		log.Locate(n, time.UnixMilli(1e12), log.Next, log.Next+markBytes, r.markEvery())
	}
	c := &checkpoint{reach: reach{log.Last, log.Next}, log: log.Index}
	if size := len(c.encode(r.writeOwn)); size > store.MaxValue/2 { // the context and the runs need room too
		t.Errorf("it has %d bytes, of %d that a value may have", size, store.MaxValue)
	}
}

// TestARunSpansLittleOfASharedLog, also where others' records stand between a space's own, which are small.
func TestARunSpansLittleOfASharedLog(t *testing.T) {
	log, at := newLog(0, 0), map[uint64]store.Position{}
	for n := uint64(1); n <= 1000; n++ {
		at[n] = log.Next + 100_000
		log.append(logged{lsn: n, bytes: 100, deltas: []*delta.Delta{{Replica: 1, First: n, Ops: make([]delta.Op, 1)}}})
		log.Locate(n, time.UnixMilli(1e12), at[n], at[n]+100, markBytes)
	}
	for n := uint64(1); n <= 1000; n++ {
		first, found := log.Find(1, n)
		if span := at[n] - at[first]; !found || span > maxRunBytes+100_000 {
			t.Fatalf("the run of dot %d begins with record %d: it spans %d bytes", n, first, span)
		}
	}
}

func TestALowerLimitAndAgeAreReachedStepByStep(t *testing.T) {
	w := newWorld(t, 2, worldConfig{hosts: 1})
	h := w.hosts[0]
	h.engine.cfg.StepWork = 100 // so that it takes many
	fill := func() {
		for i := range 500 {
			w.write(t, h, func(f crdt.Fields) error { return f.String(fmt.Sprint(i % 50)).Set([]byte("x")) })
		}
	}
	fill()
	w.now = w.now.Add(8 * 24 * time.Hour)
	w.maintain(t, h)
	if n := h.engine.log.Last + 1 - h.engine.log.First; n != 0 {
		t.Errorf("%d old records are left", n)
	}
	w.checkLogSize(t, h)
	fill()
	h.engine.SetLimits(0, 1000, 0)
	w.maintain(t, h)
	w.checkLogSize(t, h)
}

// wornLog is a log of which the disk gives back no record before a position.
type wornLog struct {
	Log
	from store.Position
}

func (l wornLog) Read(from store.Position, buffer []byte) (store.LogReader, error) {
	if from < l.from {
		return wornReader{}, nil
	}
	return l.Log.Read(from, buffer)
}

type wornReader struct{}

func (wornReader) Next() (store.Record, error) { return store.Record{}, store.ErrUnreadable }
func (wornReader) Close()                      {}

// TestALogThatCannotBeReadIsPromisedToNobody, and ends nothing: who needs it is repaired.
func TestALogThatCannotBeReadIsPromisedToNobody(t *testing.T) {
	w := newWorld(t, 3, worldConfig{hosts: 1, maxLog: 100_000})
	h := w.hosts[0]
	for range 80 {
		w.write(t, h, func(f crdt.Fields) error { return f.String("k").Set(make([]byte, 900)) })
	}
	must(t, h.engine.Save(w.now))
	w.open(t, h)
	h.engine.logs = wornLog{h.engine.logs, h.engine.logs.Next()}
	err := h.engine.readLog(1, func(logged) bool { return true })
	if _, covered := h.engine.log.Start(h.engine.seen, nil); covered || err != nil {
		t.Fatalf("what cannot be read is still promised (%v)", err)
	}
}

func TestTheLogServesAgainAfterARottenRecord(t *testing.T) {
	w := newWorld(t, 3, worldConfig{hosts: 1, maxLog: 100_000})
	h := w.hosts[0]
	write := func() {
		w.write(t, h, func(f crdt.Fields) error { return f.String("k").Set(make([]byte, 900)) })
	}
	for range 80 {
		write()
	}
	if err := h.engine.Save(w.now); err != nil {
		t.Fatal(err)
	}
	h.spoilLog(t, 70)
	w.open(t, h)
	if _, covered := h.engine.log.Start(h.engine.seen, nil); !covered {
		t.Fatal("nothing is known of the damage yet")
	}
	err := h.engine.readLog(1, func(logged) bool { return true })
	if _, covered := h.engine.log.Start(h.engine.seen, nil); covered || err != nil {
		t.Fatalf("what is rotten is still promised (%v)", err)
	}
	w.maintain(t, h)
	if n := h.logged(); n > 15_000 || n != h.engine.LogBytes() {
		t.Errorf("%d bytes are left of 10 records, counted as %d", n, h.engine.LogBytes())
	}
	for range 200 {
		write()
		w.checkLogSize(t, h)
	}
	seen, _ := h.engine.Context()
	theirs := seen.Clone()
	theirs[h.engine.ID()] -= 50
	lsn, covered := h.engine.LogStart(theirs)
	if !covered {
		t.Fatal("the log does not serve what was written after the damage")
	}
	n := 0
	_, covered, err = h.engine.LogRead(lsn, 1000, func(*delta.Delta) bool { n++; return true })
	if n < 50 || !covered || err != nil {
		t.Errorf("%d deltas were read, covered: %v, %v", n, covered, err)
	}
}

// TestWhatIsReadOfTheLogIsWork reads what opening carried out again, and what was written since,
// from memory.
func TestWhatIsReadOfTheLogIsWork(t *testing.T) {
	const writes = 20
	w := newWorld(t, 1, worldConfig{hosts: 1, maxLog: 1 << 30})
	h := w.hosts[0]
	for i := range 2 * writes {
		if i == writes {
			w.open(t, h)
		}
		w.write(t, h, counted(1))
	}
	began := h.engine.work
	_, _, err := h.engine.LogRead(1, 2*writes, func(*delta.Delta) bool { return true })
	if work := h.engine.work - began; err != nil || work < 2*writes*workRecord {
		t.Errorf("%d records are %d units of work, want %d of each (%v)",
			2*writes, work, workRecord, err)
	}
}
