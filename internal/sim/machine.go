package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/space"
)

// linkEvery is how often missing links are looked for.
const linkEvery = time.Second

// machine is a disk, a clock and links, with a peer's process on it, which holds some of the
// world's spaces: of each it has a host. What befalls the machine befalls all of them at once.
type machine struct {
	w      *world
	i      int
	id     gossip.NeighbourID
	disk   *disk
	clock  wallClock
	judged engine.Clock            // what it takes that for
	found  *engine.Found           // what it was found to be
	loose  bool                    // which may hold no more: see checkJudged
	hosts  []*host                 // of the spaces that it is to hold, in the world's order
	knew   map[gossip.SpaceID]bool // spaces that it held once

	// The process.
	running bool
	volume  *volume
	log     *space.Committer
	table   *space.Table   // nil if the world is not divided
	sw      *gossip.Switch // likewise
	epoch   int            // how often it was started
	grew    bool           // the log did, and its engines will be told
	clears  bool           // a step of deleting what dropped spaces left is planned
	paused  time.Duration  // until when it stands still
	slow    bool           // its disk is
	scarce  bool           // and this is room on it
	ending  ending         // of the process, when its disk lets it die
	sources engine.Sources // of all its spaces
	gone    bool           // for good
	absent  bool           // from the network, for a while

	links   map[gossip.NeighbourID]*end
	dialing map[gossip.NeighbourID]bool
}

// newMachine returns a machine that is to hold spaces.
func newMachine(w *world, d *disk, spaces []*realm) *machine {
	i := len(w.machines)
	m := &machine{w: w, i: i, id: gossip.NeighbourID(fmt.Sprintf("h%02d", i)), disk: d,
		knew: map[gossip.SpaceID]bool{}}
	w.machines = append(w.machines, m)
	for _, r := range spaces {
		m.add(r)
	}
	return m
}

// add has the machine hold a space.
func (m *machine) add(r *realm) *host {
	h := newHost(m, r)
	m.hosts = append(m.hosts, h)
	slices.SortFunc(m.hosts, func(a, b *host) int { return a.w.i - b.w.i })
	m.knew[r.id] = true
	return h
}

// hosting returns the machine's host of a space, or nil.
func (m *machine) hosting(id gossip.SpaceID) *host {
	for _, h := range m.hosts {
		if h.w.id == id {
			return h
		}
	}
	return nil
}

func (m *machine) say(format string, args ...any) {
	if m.w.trace != nil {
		m.w.say("%s "+format, append([]any{m.id}, args...)...)
	}
}

// wall returns what the machine's clock shows.
func (m *machine) wall() time.Time {
	t := m.clock.read(m.w.now)
	if t.After(m.disk.highest) {
		m.disk.highest = t
	}
	return t
}

// reading is what the clock shows now.
func (m *machine) reading() engine.Reading { return engine.Reading{Now: m.now(), Wall: m.wall()} }

// now is the time that only goes on.
func (m *machine) now() time.Time { return time.Unix(0, 0).Add(m.w.now) }

// start starts the process. It may fail, and is then tried again later.
func (m *machine) start() {
	if m.running || m.gone {
		return
	}
	m.epoch++
	m.links, m.dialing = map[gossip.NeighbourID]*end{}, map[gossip.NeighbourID]bool{}
	m.sources = engine.Sources{}
	m.doubtClock()
	err := m.open()
	for _, h := range m.hosts {
		if err == nil {
			err = h.open()
		}
	}
	if err != nil {
		m.say("does not open: %v", err)
		m.stopped(err)
		return
	}
	m.running, m.grew = true, false
	for _, h := range m.hosts {
		h.begin()
	}
	m.every(linkEvery, func() error { m.keepLinks(); m.measure(); return nil })
	m.later(0, func() error { m.keepLinks(); return nil })
	if m.w.plan.memory != nil {
		m.every(time.Second, m.shareMemory)
	}
	for _, h := range m.hosts {
		h.wake()
	}
	m.clear()
}

// open gives each space its part of the disk.
//
// Most who hold one space do without a table: to open it syncs the tree, which would hide what
// the engine owes itself.
func (m *machine) open() error {
	m.volume = &volume{d: m.disk}
	m.log = space.NewCommitter(m.volume.journal())
	if !m.w.plan.divided {
		m.hosts[0].parts(1, m.log.Log(1, 0))
		return nil
	}
	m.sw, m.clears = gossip.NewSwitch(), false
	table, err := space.OpenTable(m.volume)
	if err != nil {
		return err
	}
	m.table = table
	for _, h := range m.hosts {
		h.number = 0
	}
	for _, s := range table.Spaces() {
		if h := m.hosting(gossip.SpaceOf(s.Name)); h != nil {
			h.parts(s.Number, m.log.Log(s.Number, s.From))
		} else if _, err := table.Drop(s.Name); err != nil { // an older backup was put back
			return err
		}
	}
	for _, h := range m.hosts {
		if err := m.enter(h); err != nil {
			return err
		}
		m.sw.Hold(h.w.id)
	}
	return nil
}

// enter gives a space its part of the disk, if it has none.
func (m *machine) enter(h *host) error {
	if h.number != 0 {
		return nil
	}
	var n space.Number
	log, err := m.log.Begin(func(from store.Position) (_ space.Number, err error) {
		n, err = m.table.Add(h.w.name, from)
		return n, err
	})
	if err == nil {
		h.parts(n, log)
	}
	return err
}

// part returns what a directory has of a space, for somebody who opens a copy of it.
func (d *disk) part(r *realm) (n space.Number, tree store.Store, log store.Log) {
	v := &volume{d: d}
	n, from := space.Number(1), store.Position(0)
	if r.plan.divided {
		table, err := space.OpenTable(v)
		if err != nil {
			r.fail("the table of a disk does not open: %v", err)
		}
		spaces := table.Spaces()
		i := slices.IndexFunc(spaces, func(s space.Space) bool { return s.Name == r.name })
		if i < 0 {
			from = d.log.Next()
			n, err = table.Add(r.name, from)
		} else {
			n, from = spaces[i].Number, spaces[i].From
		}
		if err != nil {
			r.fail("the table of a disk takes no space: %v", err)
		}
	}
	return n, space.NewTree(v, n), space.NewCommitter(v.journal()).Log(n, from)
}

// later does something in this life of the process, after it is no longer paused, and lets the
// engines act on it.
func (m *machine) later(d time.Duration, fn func() error) {
	m.soon(d, func() { m.step(fn) })
}

// soon does something in this life of the process, after it is no longer paused.
func (m *machine) soon(d time.Duration, fn func()) {
	epoch := m.epoch
	m.w.after(d, func() {
		switch {
		case m.epoch != epoch || !m.running:
		case m.paused > m.w.now:
			m.soon(m.paused-m.w.now, fn)
		default:
			fn()
		}
	})
}

// every does something again and again.
func (m *machine) every(d time.Duration, fn func() error) {
	m.later(m.w.spread(d), func() error {
		var again func() error
		again = func() error {
			m.later(d, again)
			return fn()
		}
		return again()
	})
}

// step does something at the process, which ends it if it fails.
func (m *machine) step(fn func() error) {
	if err := fn(); err != nil {
		m.fails(err)
		return
	}
	for _, h := range m.hosts {
		if h.up() {
			h.stepped()
		}
	}
}

// shareMemory divides its memory among the spaces.
func (m *machine) shareMemory() error {
	for _, h := range m.hosts {
		if h.up() {
			rng := m.w.plan.memory
			h.maxDirty = 1 << (8 + rng.IntN(19))
			h.engine.SetMemory(h.maxDirty, 1<<rng.IntN(26))
		}
	}
	return nil
}

// logGrew tells the engines on the log that it grew, a second later, as Ready.At says.
func (m *machine) logGrew() {
	if m.grew || len(m.hosts) < 2 {
		return
	}
	m.grew = true
	m.later(time.Second, func() error {
		m.grew = false
		for _, h := range m.hosts {
			if h.up() {
				h.engine.LogGrew()
			}
		}
		return nil
	})
}

// clear has what dropped spaces left deleted, bit by bit.
func (m *machine) clear() {
	if m.table == nil || m.clears {
		return
	}
	m.clears = true
	var again func() error
	again = func() error {
		more, err := m.table.Reclaim()
		if m.clears = more; more {
			m.later(time.Duration(m.w.rng.IntN(100))*time.Millisecond, again)
		}
		return err
	}
	m.later(0, again)
}

// appended notes how much the log grew by.
func (m *machine) appended(bytes int64) {
	for _, h := range m.hosts {
		if h.logSlack >= 0 {
			h.logSlack += bytes
		}
	}
}
