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
)

// linkEvery is how often missing links are looked for.
const linkEvery = time.Second

// Limits that are lower than those of real hosts, so that worlds come to them.
const (
	maxClears  = 64
	maxSources = 2  // repairs that a host serves at once
	maxAsked   = 64 // transactions that wait
)

// host is a machine with a peer's process on it: it carries out what the engine wants done, as package peer does with
// goroutines, streams and Badger, with events.
type host struct {
	w     *world
	i     int
	id    gossip.NeighbourID
	disk  *disk
	clock wallClock

	// The process.
	engine *engine.Engine // nil while it is down
	volume *volume
	epoch  int            // how often it was started
	asked  int            // transactions that wait
	due    bool           // an event to work is planned
	alarm  time.Duration  // when the engine is to be looked at next, which is planned; zero if that is not
	paused time.Duration  // until when it stands still
	slow   bool           // its disk is
	scarce bool           // and this is room on it
	ending ending         // of the process, when its disk lets it die
	gone   bool           // for good
	memory crdt.ReplicaID // the id in the image of memory that it was started from; zero without one
	writes crdt.ReplicaID // the id as which this process writes; zero if it has drawn none
	absent bool           // from the network, for a while
	broken error          // why it stops

	links   map[gossip.NeighbourID]*end
	dialing map[gossip.NeighbourID]bool
	frames  map[*engine.Frame]*end // that the engine has, and their links

	refusing error // why nothing may be read or written now
	pulls    map[*engine.Pull]*pull
	sources  int
	serves   []*pull      // that have this host as their source
	endSync  func() error // of a sync under way

	// What the checks know of it.
	promised crdt.VersionVector // what it must hold after a crash
	held     crdt.VersionVector // what it held last
	aside    crdt.VersionVector // what it held before it discarded its cells
	checked  string             // the state that was checked last, where each is
	logWas   int64              // how large the log was when it kept to its bound last
	logSlack int64              // bytes appended since the log kept to its bound; negative before it did
}

func newHost(w *world, i int, d *disk) *host {
	h := &host{w: w, i: i, id: gossip.NeighbourID(fmt.Sprintf("h%02d", i)), disk: d}
	h.promised, h.held = crdt.VersionVector{}, crdt.VersionVector{}
	return h
}

func (h *host) say(format string, args ...any) {
	if h.w.trace != nil {
		h.w.say("%s "+format, append([]any{h.id}, args...)...)
	}
}

// wall returns what the host's clock shows.
func (h *host) wall() time.Time {
	t := h.clock.read(h.w.now)
	if t.After(h.disk.highest) {
		h.disk.highest = t
	}
	return t
}

// now is the time that only goes on.
func (h *host) now() time.Time { return time.Unix(0, 0).Add(h.w.now) }

// up reports whether the process runs.
func (h *host) up() bool { return h.engine != nil }

// start starts the process. It may fail, and is then tried again later.
func (h *host) start() {
	if h.up() || h.gone {
		return
	}
	h.epoch++
	h.volume = &volume{d: h.disk}
	p := &h.w.plan
	r, err := engine.Open(h.volume, h.volume.journal(), engine.Config{
		NewID:       h.drawID,
		MaxLogBytes: p.maxLog, MaxLogAge: p.maxLogAge, MaxBatch: p.maxBatch, MaxDirty: p.maxDirty,
		StepWork: p.stepWork, MaxListed: p.maxListed, IdleTicks: p.idleTicks, MaxClears: maxClears,
		Sync: p.durability == always, SyncEverySecond: p.durability == everySecond,
		Spent: h.checkStep,
	})
	if err != nil {
		h.say("does not open: %v", err)
		h.stopped(err)
		return
	}
	h.engine = engine.NewEngine(r, h.w.rng, h.now())
	h.due, h.alarm, h.asked, h.broken, h.endSync = false, 0, 0, nil, nil
	h.links, h.dialing = map[gossip.NeighbourID]*end{}, map[gossip.NeighbourID]bool{}
	h.frames, h.pulls = map[*engine.Frame]*end{}, map[*engine.Pull]*pull{}
	h.sources, h.serves, h.logSlack = 0, nil, -1
	h.refusing = h.engine.Refusal()
	seen, _ := h.engine.Context()
	h.say("starts as %v with %v, damage: %v", r.ID(), seen, r.Damaged())
	h.scarcity(h.scarce)
	h.checkOpened()
	h.every(linkEvery, func() error { h.keepLinks(); return nil })
	h.later(0, func() error { h.keepLinks(); return nil })
	h.wake()
}

// checkStep checks that a part of a step ended when its budget was spent.
func (h *host) checkStep(part string, work, limit int) {
	if work > limit {
		h.w.fail("%s did %d units of work in one step of %s (limit %d)", h.id, work, part, limit)
	}
}

// later does something in this life of the process, after it is no longer paused, and lets the engine act on it.
func (h *host) later(d time.Duration, fn func() error) {
	epoch := h.epoch
	h.w.after(d, func() {
		switch {
		case h.epoch != epoch || !h.up():
		case h.paused > h.w.now:
			h.later(h.paused-h.w.now, fn)
		default:
			h.step(fn)
		}
	})
}

// every does something again and again.
func (h *host) every(d time.Duration, fn func() error) {
	h.later(h.w.spread(d), func() error {
		var again func() error
		again = func() error {
			h.later(d, again)
			return fn()
		}
		return again()
	})
}

// step does something at the process, which ends it if it fails.
func (h *host) step(fn func() error) {
	if err := fn(); err != nil {
		h.fails(err)
		return
	}
	if !h.up() {
		return
	}
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
	waited := h.engine.Unwritten()
	err := h.engine.Step(h.now(), h.wall())
	if err = cmp.Or(err, h.broken); err != nil {
		return nil, err
	}
	h.checkUnwritten(waited)
	if len(apart) > 0 && h.state() != before && !slices.ContainsFunc(apart, h.mayTake) {
		h.w.fail("%s took something from %v, in quarantine", h.id, apart)
	}
	rd := h.engine.Ready()
	if rd.Refusing != nil {
		h.refusing = rd.Refusing
	}
	for _, n := range rd.Notices {
		if n.Kind == engine.Discarding {
			h.noteDiscard()
		}
	}
	h.checkUnseen(rd)
	if err := engine.CarryOut(rd.Writes, h.volume, h.volume.journal()); err != nil {
		return nil, err
	}
	h.noteWritten(rd.Writes)
	h.engine.Advance()
	h.refusing = rd.Refusing
	return rd, h.act(rd)
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
			h.w.fail("%s sends a frame of kind %d to %s, which is in quarantine", h.id, f.Data[0], f.To)
		}
		h.links[f.To].send(f.Data)
	}
	if rd.Sync != nil {
		h.sync(*rd.Sync)
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
	case from == nil || *from.broken:
	case errors.Is(f.Err, gossip.ErrFrame) && h.w.plan.unordered:
		from.breaks()
	case errors.Is(f.Err, gossip.ErrFrame):
		h.w.fail("%s got a bad frame from %s: %v", h.id, f.From, f.Err)
	}
	if from != nil {
		from.handled()
	}
}

// noteWritten counts what the log grew by.
func (h *host) noteWritten(writes []engine.Write) {
	for _, w := range writes {
		if h.logSlack >= 0 && w.Record != nil {
			h.logSlack += int64(len(w.Record)) + store.RecordFrame
		}
	}
}

// noteCommitted takes note of deltas that became visible.
func (h *host) noteCommitted(deltas []*delta.Delta) error {
	if len(deltas) == 0 {
		return nil
	}
	for _, d := range deltas {
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
