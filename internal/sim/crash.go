package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// ending is how a process is to end when its disk lets it die.
type ending int

const (
	killed ending = iota
	powerless
)

// dies has the process die at one of its next commits, or if there is none soon, anyway.
func (m *machine) dies(how ending) {
	if !m.running {
		return
	}
	m.ending = how
	m.disk.dieIn, m.disk.dieAfter = m.w.rng.IntN(3), m.w.chance(2)
	soon := time.Duration(m.w.rng.IntN(1000)) * time.Millisecond
	if m.w.plan.maxBatch < store.MaxBatchOps { // one step may take many commits
		m.disk.dieIn *= 1 + m.w.rng.IntN(6)
		soon *= 4
	}
	epoch := m.epoch
	m.w.after(soon, func() {
		if m.epoch == epoch && m.running && !m.w.calm {
			m.fails(errDied)
		}
	})
}

// fails ends the process after an error of its store.
func (m *machine) fails(err error) {
	m.say("fails: %v", err)
	for _, h := range m.hosts {
		if h.up() && h.scars().rotten {
			_ = engine.Doubt(h.tree, err) // it may die before it has
		}
	}
	switch {
	case errors.Is(err, errDied):
		if m.ending == powerless {
			m.losePower()
		}
	case errors.Is(err, errFsync):
		if m.w.chance(2) {
			m.losePower() // the kernel dropped the pages that it could not write
		}
	case errors.Is(err, errFull), errors.Is(err, errRead):
	case errors.Is(err, store.ErrCorrupt) && slices.ContainsFunc(m.hosts, func(h *host) bool { return h.scars().rotten }):
	default:
		m.w.fail("%s fails: %v", m.id, err)
	}
	m.stopped(err)
}

// losePower leaves of what was not synced as much as chance leaves.
func (m *machine) losePower() {
	d := m.disk
	keep := 0
	if m.w.chance(2) {
		keep = m.w.rng.IntN(len(d.tail) + 1)
	}
	if keep > 0 && keep < len(d.tail) {
		m.w.totals.Faults[Torn]++
	}
	unsynced := int64(d.log.Next() - d.log.Synced())
	keepLog := int64(0)
	if m.w.chance(2) {
		keepLog = m.w.rng.Int64N(unsynced + 1)
	}
	m.say("loses %d of %d commits of the tree and %d of %d bytes of the log that were not synced",
		len(d.tail)-keep, len(d.tail), unsynced-keepLog, unsynced)
	for _, h := range m.hosts {
		if (keep < len(d.tail) || keepLog < unsynced) && (h.aside != nil || h.scars().rotten) {
			h.excuse(h.promised)
			h.held = h.promised.Clone() // what else there is shows once it is whole
			if h.aside != nil {
				h.aside = h.held
			}
		}
	}
	d.powerFails(keep, keepLog)
}

// stopped is after the end of the process. It is started again after a while.
func (m *machine) stopped(why error) {
	if m.running {
		for _, id := range sortedIDs(m.links) {
			m.links[id].breaks()
		}
	}
	for _, h := range m.hosts {
		h.stopped()
	}
	m.running, m.volume.dead = false, true
	m.epoch++
	full := m.disk.full && errors.Is(why, errFull)
	m.disk.heal()
	m.disk.full = full
	if full {
		m.w.after(time.Duration(m.w.rng.IntN(4000))*time.Millisecond, func() { m.disk.full = false })
	}
	for _, h := range m.hosts {
		h.takeStock()
	}
	down := 3000
	if why == nil {
		down = 300
	}
	m.w.after(time.Duration(50+m.w.rng.IntN(down))*time.Millisecond, m.start)
}

// stopped is after the end of the process, or of its hold of the space.
func (h *host) stopped() {
	if h.engine != nil {
		for _, p := range h.pulls {
			p.end()
		}
		for _, p := range h.serves {
			h.w.after(h.w.delay(), p.failed)
		}
	}
	h.engine, h.writes = nil, 0
}

// takeStock finds out what a host that is down still holds, and notes what nobody holds any more.
func (h *host) takeStock() {
	before := h.held
	_, tree, log := h.disk.clone().part(h.w)
	r, err := engine.Open(tree, log, engine.Config{NewID: func() crdt.ReplicaID { return 1 }}, h.w.rng, h.now())
	switch {
	case err != nil:
		h.w.fail("the store of %s does not open: %v", h.name, err)
	case r.Damaged() != nil && !h.scars().rotten && !h.scars().rotLog:
		h.w.fail("%s is damaged, and nothing damaged it: %v", h.name, r.Damaged())
	case r.Damaged() != nil:
		return // it will show what it holds when it has rebuilt itself
	}
	seen, _ := r.Context()
	h.held = seen
	h.checkPromise()
	h.noteLoss(before)
}

// noteLoss notes the transactions that the host held, and now neither it nor anybody else does.
func (h *host) noteLoss(before crdt.VersionVector) {
	if h.held.Contains(before) || h.w.blind {
		return
	}
	hist := h.w.hist
	was, is, aside := hist.dense(before), hist.dense(h.held), hist.dense(h.aside)
	others := h.others()
	for _, t := range hist.all {
		if has(was, t) && !has(is, t) && !has(aside, t) && !t.lost && !anyHas(others, t) {
			t.lost = true
			h.say("was the last to have transaction %d", t.id)
		}
	}
}

// excuse notes that what only this host had, beside what it promised to keep, may be gone: a
// second fault met a host that was damaged.
func (h *host) excuse(but crdt.VersionVector) {
	hist := h.w.hist
	has1, has2, keeps := hist.dense(h.held), hist.dense(h.aside), hist.dense(but)
	others := h.others()
	for _, t := range hist.all {
		if (has(has1, t) || has(has2, t)) && !has(keeps, t) && !anyHas(others, t) {
			t.lost = true
		}
	}
}

// others returns what other hosts hold that are whole.
func (h *host) others() (held [][]uint64) {
	for _, o := range h.w.members() {
		if o != h && o.aside == nil {
			held = append(held, h.w.hist.dense(o.held))
		}
	}
	return held
}

func anyHas(held [][]uint64, t *transaction) bool {
	for _, seen := range held {
		if has(seen, t) {
			return true
		}
	}
	return false
}

// close ends the process cleanly.
func (m *machine) close() {
	if !m.running {
		return
	}
	m.step(func() error {
		for _, h := range m.hosts {
			if err := h.close(); err != nil {
				return err
			}
		}
		m.stopped(nil)
		return nil
	})
}

// maxClosing is how many steps a space that is to end may take. Most take a few, some a hundred.
const maxClosing = 10_000

// close ends the work of a space.
func (h *host) close() error {
	as := h.engine.ID()
	h.engine.Stop()
	for steps := 0; ; steps++ {
		if steps > maxClosing {
			h.w.fail("%s does not end", h.name)
		}
		rd, err := h.roundAlone()
		if err != nil {
			return err
		}
		if rd.Closed {
			break
		}
		if h.endSync != nil {
			if err := h.endSync(); err != nil {
				return err
			}
		}
	}
	h.promised = h.held
	h.say("closes as %v", as)
	return nil
}

// sync has what was committed made durable, beside the engine.
func (h *host) sync(of engine.Syncing) {
	sync := h.disk.beginSync(of)
	promise := h.held
	h.endSync = func() error {
		h.endSync = nil
		if h.disk.fsyncs {
			return errFsync
		}
		h.disk.endSync(sync)
		h.engine.SyncEnded(sync.of)
		if h.refusing == nil {
			h.promised = promise
		}
		return nil
	}
	h.later(time.Duration(1+h.w.rng.IntN(200))*time.Millisecond, func() error {
		if h.endSync == nil {
			return nil // it was waited for
		}
		return h.endSync()
	})
}

// beside is what is being written beside the engine: for a while it is in the tree and the engine is not told.
type beside struct {
	h       *host
	of      *engine.Beside
	written bool
}

// writeBeside has a part of a checkpoint written, some time later, and the engine told, later again.
func (h *host) writeBeside(of *engine.Beside) {
	b := &beside{h: h, of: of}
	h.beside = b
	delay := func() time.Duration { return time.Duration(h.w.rng.IntN(4000)) * time.Microsecond }
	h.soon(delay(), func() {
		if h.beside != b {
			return // it was waited for, or the process has ended
		}
		if err := b.write(); err != nil {
			h.fails(err)
			return
		}
		h.later(delay(), func() error {
			if h.beside != b {
				return nil
			}
			return b.end()
		})
	})
}

func (b *beside) write() error {
	if b.written {
		return nil
	}
	b.written = true
	return b.of.Run(b.h.tree)
}

func (b *beside) end() error {
	if err := b.write(); err != nil {
		return err
	}
	b.h.beside = nil
	b.h.engine.BesideEnded()
	return nil
}
