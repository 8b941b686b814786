package sim

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/space"
)

// Limits that are lower than those of real hosts, so that worlds come to them.
const (
	maxClears = 64
	maxAsked  = 64 // transactions that wait
)

// host is what a machine has of one space: it carries out what the engine wants done, as package peer does with
// goroutines, streams and Badger, with events.
type host struct {
	*machine
	w      *realm
	name   string       // for people
	number space.Number // of the space on the disk
	tree   store.Store
	log    store.Log

	// The process.
	engine  *engine.Engine // nil while it is down
	asked   int            // transactions that wait
	due     bool           // an event to work is planned
	alarm   time.Duration  // when the engine is looked at next, which is planned; zero if that is not
	memory  crdt.ReplicaID // the id in the image that it was started from; zero without one
	writes  crdt.ReplicaID // the id as which this process writes; zero if it has drawn none
	broken  error          // why it stops
	leaving bool           // the space is to be given up: it takes no more writes
	forced  bool           // it was, whatever others have

	frames map[*engine.Frame]*lane // that the engine has, and where they came from

	refusing error // why nothing may be read or written now
	pulls    map[*engine.Pull]*pull
	serves   []*pull      // that have this host as their source
	endSync  func() error // of a sync under way
	beside   *beside      // what is being written beside the engine; nil if nothing is

	// What the checks know of it.
	promised crdt.VersionVector // what it must hold after a crash
	vouched  crdt.VersionVector // likewise, since it said so to others
	held     crdt.VersionVector // what it held last
	aside    crdt.VersionVector // what it held before it discarded its cells
	checked  string             // the state that was checked last, where each is
	logWas   int64              // how large the log was when it kept to its bound last
	overs    int                // steps with commits since then that began with one beyond it
	maxDirty int64              // bytes that may wait for a checkpoint; 0 is the core's own bound
	commits  int                // Readys that committed something
	logSlack int64              // bytes appended since the log kept to its bound; negative before it did
}

func newHost(m *machine, r *realm) *host {
	h := &host{machine: m, w: r, name: string(m.id)}
	if r.several() {
		h.name += "/" + r.name
	}
	h.promised, h.vouched, h.held = crdt.VersionVector{}, crdt.VersionVector{}, crdt.VersionVector{}
	return h
}

func (h *host) say(format string, args ...any) {
	if h.w.trace != nil {
		h.w.say("%s "+format, append([]any{h.name}, args...)...)
	}
}

// up reports whether the process runs, and has the space open.
func (h *host) up() bool { return h.engine != nil }

// scars are the changes to what the disk has of the space.
func (h *host) scars() *scars { return &h.disk.scars[h.number] }

// parts hands the host its part of the disk.
func (h *host) parts(n space.Number, log store.Log) {
	h.number, h.tree, h.log = n, space.NewTree(h.volume, n), log
}

// open opens the space.
func (h *host) open() error {
	p := &h.w.plan
	e, err := engine.Open(h.tree, h.log, engine.Config{
		NewID:       h.drawID,
		MaxLogBytes: p.maxLog, MaxLogAge: p.maxLogAge, MaxBatch: p.maxBatch, MaxDirty: p.maxDirty,
		StepWork: p.stepWork, MaxListed: p.maxListed, IdleTicks: p.idleTicks, MaxClears: maxClears,
		Sync: p.durability == always, SyncEverySecond: p.durability == everySecond, Beside: true,
		Spent: h.checkStep, Expired: h.expired,
	}, h.w.rng, h.now())
	if err != nil {
		return err
	}
	h.engine = e
	e.SetClock(h.judged)
	h.due, h.alarm, h.asked, h.broken, h.endSync, h.beside = false, 0, 0, nil, nil, nil
	h.leaving, h.forced, h.maxDirty = false, false, p.maxDirty
	h.frames, h.pulls = map[*engine.Frame]*lane{}, map[*engine.Pull]*pull{}
	h.serves, h.logSlack, h.overs = nil, -1, 0
	h.refusing = h.engine.Refusal()
	return nil
}

// begin begins the work of a space that was opened.
func (h *host) begin() {
	seen, _ := h.engine.Context()
	h.say("starts as %v with %v, damage: %v", h.engine.ID(), seen, h.engine.Damaged())
	h.hasRoom()
	h.checkOpened()
}

// checkStep checks that a part of a step ended when its budget was spent.
func (h *host) checkStep(part string, work, limit int) {
	if work > limit {
		h.w.fail("%s did %d units of work in one step of %s (limit %d)", h.id, work, part, limit)
	}
}

// checkWrites checks that a step has no more records written to the tree than its work allows, whatever is repaired,
// removed or rebuilt: one for each unit, and an item of a checkpoint with all that belongs to it.
func (h *host) checkWrites(rd *engine.Ready) {
	records, limit := 0, cmp.Or(h.w.plan.stepWork, engine.StepWork)+16
	for _, w := range slices.Concat(rd.Writes, rd.Beside.Writes()) {
		if w.Batch != nil {
			records += w.Batch.Len()
		}
	}
	if records > limit {
		h.w.fail("%s had %d records written in one step (limit %d)", h.id, records, limit)
	}
}

// later does something in this life of the process, after it is no longer paused, and lets the engine act on it.
func (h *host) later(d time.Duration, fn func() error) {
	h.soon(d, func() {
		if h.up() {
			h.step(fn)
		}
	})
}

// step does something at the space, which ends the process if it fails.
func (h *host) step(fn func() error) {
	if err := fn(); err != nil {
		h.fails(err)
	} else if h.up() {
		h.stepped()
	}
}

// stepped is after something was done at the space.
func (h *host) stepped() {
	h.wake()
	if h.w.plan.checkAll {
		if state := h.state(); state != h.checked {
			h.checked = state
			h.check()
		}
	}
}

// state names the context, the cells and the log.
func (h *host) state() string {
	context, root, _ := h.engine.Digest()
	return fmt.Sprint(context, root, h.engine.LogEnd())
}

// wake has the engine take a step soon. While its disk is slow, that takes longer.
func (h *host) wake() {
	if h.due {
		return
	}
	h.due = true
	delay := time.Duration(h.w.rng.IntN(3000)) * time.Microsecond
	if h.slow {
		delay += time.Duration(h.w.rng.IntN(800)) * time.Millisecond
	}
	epoch := h.epoch
	h.w.after(delay, func() { h.runs(epoch) })
}

// runs has the engine take a step, unless the process has ended or stands still.
func (h *host) runs(epoch int) {
	switch {
	case h.epoch != epoch || !h.up():
		return
	case h.paused > h.w.now:
		h.w.after(h.paused-h.w.now, func() { h.runs(epoch) })
		return
	}
	h.due = false
	rd, err := h.round()
	switch {
	case err != nil:
		h.fails(err)
	case !h.up():
	case rd.Again:
		h.wake()
	default:
		h.wakeAt(rd.At)
	}
}

// wakeAt has the engine take a step at a time.
func (h *host) wakeAt(t time.Time) {
	at := t.Sub(time.Unix(0, 0))
	if h.alarm > h.w.now && h.alarm <= at {
		return
	}
	h.alarm = at
	epoch := h.epoch
	h.w.at(at, func() {
		if h.epoch == epoch && h.up() && h.alarm == at {
			h.alarm = 0
			h.wake()
		}
	})
}

// round has the engine take a step, and does what it wants done.
func (h *host) round() (*engine.Ready, error) {
	apart, before := h.onlyApart(), ""
	if len(apart) > 0 {
		before = h.state()
	}
	waited, over := h.engine.Unwritten(), h.engine.LogBytes() > h.engine.LogBound()
	h.look()
	err := h.engine.Step(h.now(), h.wall())
	if err = cmp.Or(err, h.broken); err != nil {
		return nil, err
	}
	h.checkUnwritten(waited)
	rd := h.engine.Ready()
	others := func(d *delta.Delta) bool { return d.Replica != h.writes } // what it writes itself a tick may have made due
	if len(apart) > 0 && h.state() != before && !slices.ContainsFunc(apart, h.mayTake) &&
		(len(rd.Committed) == 0 || slices.ContainsFunc(rd.Committed, others)) {
		h.w.fail("%s took something from %v, in quarantine", h.name, apart)
	}
	if rd.Refusing != nil {
		h.refusing = rd.Refusing
	}
	for _, n := range rd.Notices {
		if n.Kind == engine.Discarding {
			h.noteDiscard()
		}
	}
	h.checkUnseen(rd)
	h.checkOver(over, rd)
	h.checkWrites(rd)
	if rd.Waits {
		if err := h.beside.end(); err != nil {
			return nil, err
		}
	}
	if err := engine.CarryOut(rd.Writes, h.tree, h.log); err != nil {
		return nil, err
	}
	h.noteWritten(rd.Writes)
	h.engine.Advance()
	h.refusing = rd.Refusing
	return rd, h.act(rd)
}

// roundAlone is round once nothing is written beside the engine.
func (h *host) roundAlone() (*engine.Ready, error) {
	if h.beside != nil {
		if err := h.beside.end(); err != nil {
			return nil, err
		}
	}
	return h.round()
}

// act does what a Ready wants done once its writes are.
func (h *host) act(rd *engine.Ready) error {
	h.noteNews(rd)
	if err := h.noteCommitted(rd.Committed); err != nil {
		return err
	}
	for _, u := range rd.Answers {
		u.(*update).answer()
	}
	for _, f := range rd.Handled {
		h.handled(f)
	}
	for _, f := range rd.Frames {
		if h.engine.Quarantined(f.To) && !inQuarantine[f.Data[0]] {
			h.w.fail("%s sends a frame of kind %d to %s, which is in quarantine", h.name, f.Data[0], f.To)
		}
		h.links[f.To].send(h.w.id, f.Data)
	}
	if rd.Sync != nil {
		h.sync(*rd.Sync)
	}
	if rd.Beside != nil {
		h.writeBeside(rd.Beside)
	}
	for _, p := range rd.Pulls {
		h.goOn(p)
	}
	if rd.Verify != nil {
		h.verify(rd.Verify)
	}
	h.checkLogSize()
	if len(rd.Committed) > 0 && h.w.chance(h.w.plan.checkEvery) {
		h.check()
	}
	return h.broken
}

// onlyApart returns from whom that came which waits here, if all of them are in quarantine: it must change nothing.
func (h *host) onlyApart() (from []gossip.NeighbourID) {
	if h.asked > 0 || h.engine.Busy() || h.engine.Collects() || h.engine.Clears() > 0 || !h.engine.HasLeft() {
		return nil // it may change by itself
	}
	for f := range h.frames {
		if h.mayTake(f.From) {
			return nil
		}
		from = append(from, f.From)
	}
	return from
}

// mayTake reports whether a neighbour is not in quarantine.
func (h *host) mayTake(from gossip.NeighbourID) bool { return !h.engine.Quarantined(from) }

// handled takes a frame back that the engine is done with.
func (h *host) handled(f *engine.Frame) {
	from := h.frames[f]
	delete(h.frames, f)
	switch {
	case from == nil || *from.end.broken:
	case errors.Is(f.Err, gossip.ErrFrame) && h.w.plan.unordered:
		from.end.breaks()
	case errors.Is(f.Err, gossip.ErrFrame):
		h.w.fail("%s got a bad frame from %s: %v", h.name, f.From, f.Err)
	}
	if from != nil {
		from.noteSecured()
		from.handled()
	}
}

// noteWritten counts what the log grew by.
func (h *host) noteWritten(writes []engine.Write) {
	for _, w := range writes {
		if w.Record != nil {
			h.machine.logGrew()
			h.appended(int64(len(w.Record)) + space.RecordFrame)
		}
	}
}

// noteCommitted takes note of deltas that became visible.
func (h *host) noteCommitted(deltas []*delta.Delta) error {
	if len(deltas) == 0 {
		return nil
	}
	for _, d := range deltas {
		if !h.w.ids[d.Replica] {
			h.w.fail("%s takes a delta of %v, who writes to another space", h.name, d.Replica)
		}
		if h.w.hist.committed(d) {
			h.w.noteFork(h, d.Dot(0))
		}
		if d.Ops[len(d.Ops)-1].Kind == delta.OpEnd {
			h.w.ended[d.Replica] = d.Last()
		}
		h.noteBases(d)
	}
	h.say("commits %d deltas", len(deltas))
	h.noteContext()
	if h.w.plan.durability == always {
		h.promised = h.held
	}
	return nil
}

// noteBases counts what the host itself says of bases.
func (h *host) noteBases(d *delta.Delta) {
	if d.Replica != h.writes {
		return
	}
	for _, t := range d.Tables() {
		h.w.totals.Bases += len(t.Bases)
		h.say("says bases %v: %v", t.Dot, t.Bases)
	}
}
