package sim

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
	"github.com/peerd/peerd/store/space"
)

// planFault has faults happen, once and again.
func (w *world) planFault() {
	w.after(w.spread(w.plan.faultEvery), func() {
		if w.calm {
			return
		}
		w.inject(w.plan.faults[w.rng.IntN(len(w.plan.faults))])
		w.planFault()
	})
}

// inject lets a fault happen.
func (w *world) inject(f Fault) {
	h := w.machines[w.rng.IntN(len(w.machines))]
	if h.gone {
		return
	}
	w.say("fault: %v at %s", f, h.id)
	w.totals.Faults[f]++
	switch f {
	case Reset, Partition, OneWay, Flapping, Alone:
		w.injectNetwork(f, h)
	case Kill:
		h.dies(killed)
	case PowerFailure:
		h.dies(powerless)
	case Restart:
		h.close()
	case Pause:
		h.paused = w.now + time.Duration(w.rng.IntN(5000))*time.Millisecond
	case SlowDisk, FullDisk, ScarceDisk, ReadError, FsyncError, BitFlip:
		w.injectDisk(f, h)
	case Image:
		w.takeImage(h)
	case OldBackup, Copy, DiskLoss:
		w.injectStore(f, h)
	case ClockAhead, ClockBehind, ClockJump, ClockStill:
		w.injectClock(f, h)
	case Join, Leave, ComeBack:
		w.injectMember(f, h)
	case Subscribe:
		w.subscribe(h)
	case Drop:
		w.drop(h)
	}
}

// span draws how long a fault lasts: mostly short, sometimes longer than logs reach.
func (w *world) span() time.Duration {
	return time.Duration(w.rng.IntN(200<<w.rng.IntN(7))) * time.Millisecond
}

func (w *world) injectNetwork(f Fault, h *machine) {
	other := w.machines[w.rng.IntN(len(w.machines))]
	switch f {
	case Reset:
		if ids := sortedIDs(h.links); h.running && len(ids) > 0 {
			h.links[ids[w.rng.IntN(len(ids))]].breaks()
		}
	case Partition:
		side := map[*machine]bool{}
		for _, o := range w.machines {
			side[o] = w.chance(2)
		}
		w.block(w.span(), func(a, b *machine) bool { return side[a] != side[b] })
	case OneWay:
		w.block(w.span(), func(a, b *machine) bool { return a == h && (b == other || other == h) })
	case Flapping:
		for i := range 3 + w.rng.IntN(6) {
			w.after(time.Duration(i)*time.Second, func() {
				w.block(time.Duration(w.rng.IntN(900))*time.Millisecond, func(a, b *machine) bool {
					return a == h || b == h
				})
			})
		}
	case Alone:
		w.block(4*time.Second+w.span(), func(a, b *machine) bool { return a == h || b == h })
	}
}

// block stops messages for a while.
func (w *world) block(d time.Duration, between func(a, b *machine) bool) {
	var pairs [][2]*machine
	for _, a := range w.machines {
		for _, b := range w.machines {
			if a != b && between(a, b) && !w.calm {
				pairs = append(pairs, [2]*machine{a, b})
				w.blocked[[2]*machine{a, b}]++
			}
		}
	}
	w.after(d, func() {
		for _, p := range pairs {
			if w.blocked[p] > 0 {
				w.blocked[p]--
			}
		}
	})
}

func (w *world) injectDisk(f Fault, h *machine) {
	switch f {
	case SlowDisk:
		h.slow = true
		w.after(w.span(), func() { h.slow = false })
	case FullDisk:
		h.disk.full = true
		d := h.disk
		w.after(w.span(), func() { d.full = false })
	case ScarceDisk:
		h.scarcity(true)
		w.after(w.span(), func() { h.scarcity(false) })
	case ReadError:
		h.disk.readsIn = w.rng.IntN(50)
	case FsyncError:
		h.disk.fsyncs = true
	case BitFlip:
		if w.plan.rotAlone {
			w.rotAlone(h)
		} else {
			w.rot(h)
		}
	}
}

// rot changes some records of a host, if it may.
func (w *world) rot(h *machine) {
	if !w.mayRot(h) {
		return
	}
	for range 1 + w.rng.IntN(3) {
		h.flipBit()
	}
}

// rotAlone cuts a host off, has it take writes for a while, and then changes records of it. When it meets
// others again it is damaged, and only its log has those writes, or not even that.
func (w *world) rotAlone(h *machine) {
	const before = 2 * time.Second
	w.block(2*before+w.span(), func(a, b *machine) bool { return a == h || b == h })
	w.after(w.spread(before), func() {
		if h.gone || w.calm {
			return
		}
		w.rot(h)
		if h.running {
			h.later(0, func() error { // a client reads all
				for _, o := range h.hosts {
					o.check()
				}
				return nil
			})
		}
	})
}

// mayRot reports whether a host may lose records without anything being lost for good: others must
// have what it has.
func (w *world) mayRot(m *machine) bool {
	for _, h := range m.hosts {
		others := h.w.members()
		for _, o := range others {
			if o != h && (o.scars().rotten || o.aside != nil) {
				return false
			}
		}
		if h.aside != nil || len(others) < 2 {
			return false
		}
	}
	return true
}

// scarcity tells the process that its disk has little room left, or has room again: as package
// peer does, it refuses writes and takes no deltas meanwhile.
func (m *machine) scarcity(scarce bool) {
	m.scarce = scarce
	for _, h := range m.hosts {
		h.hasRoom()
	}
}

// hasRoom tells the engine what room is on the disk.
func (h *host) hasRoom() {
	if h.up() {
		room := engine.Roomy
		if h.scarce {
			room = engine.Scarce
		}
		h.engine.SetRoom(room, errScarce)
	}
}

// flipBit changes a bit of some stored record: of a cell or what is derived from it, of the log,
// or of what there is one of.
func (m *machine) flipBit() {
	kinds := []string{"cbk", "cbk", "cbk", "", "m"}[m.w.rng.IntN(5)]
	if kinds == "" {
		m.flipLogBit()
		return
	}
	var keys [][]byte
	snap := m.disk.written.Snapshot()
	_ = snap.ScanKeys(nil, nil, func(key []byte) bool {
		if m.owner(key) != nil && strings.IndexByte(kinds, key[2]) >= 0 {
			keys = append(keys, bytes.Clone(key))
		}
		return true
	})
	if len(keys) == 0 {
		snap.Close()
		return
	}
	key := keys[m.w.rng.IntN(len(keys))]
	value, _, err := snap.Get(key)
	snap.Close()
	if err != nil || len(value) == 0 {
		return
	}
	i := m.w.rng.IntN(8 * len(value))
	value[i/8] ^= 1 << (i % 8)
	m.disk.overwrite(key, value)
	h := m.owner(key)
	h.scars().rotten, h.scars().scarred, h.w.rotten = true, true, true
	h.say("a bit of record %q flips", key[:min(len(key), 40)])
}

// owner returns whose record has a key: nil if that of no space.
func (m *machine) owner(key []byte) *host {
	for _, h := range m.hosts {
		if h.number == space.Number(binary.BigEndian.Uint16(key)) {
			return h
		}
	}
	return nil
}

// flipLogBit changes a bit of some record of the log. It may have been of any space.
func (m *machine) flipLogBit() {
	all := m.disk.log.Positions()
	if len(all) == 0 {
		return
	}
	at := all[m.w.rng.IntN(len(all))]
	m.disk.log.Flip(at)
	for _, h := range m.hosts {
		*h.scars() = scars{true, true, true}
	}
	m.w.rotten = true
	m.say("a bit of the log flips at %d", at)
}

// overwrite changes a record on the medium, behind everybody's back.
func (d *disk) overwrite(key, value []byte) {
	b := &store.Batch{}
	b.Set(key, value)
	for _, st := range []*mem.Store{d.written, d.durable} {
		if err := st.Commit(b, false); err != nil {
			panic(err)
		}
	}
}

// injectStore puts another directory in place of a host's own.
func (w *world) injectStore(f Fault, h *machine) {
	switch f {
	case OldBackup:
		backup := h.backUp()
		w.after(w.span(), func() {
			if !h.gone && !w.calm {
				h.replaceDisk(backup, "an old backup")
			}
		})
	case DiskLoss:
		h.replaceDisk(newDisk(), "an empty disk")
	case Copy:
		if len(w.machines) < maxHosts {
			o := w.addMachine(h.disk.clone(), h.spaces())
			o.say("runs on a copy of the directory of %s", h.id)
		}
	}
}

// backUp returns a copy of the directory's files, or what becomes one that "peerd backup" makes of the running peer.
func (m *machine) backUp() *disk {
	backup := m.disk.clone()
	if !m.running || m.w.chance(2) {
		return backup
	}
	d := newDisk()
	d.highest = m.disk.highest
	left := len(m.hosts)
	for _, h := range m.hosts {
		_ = h.engine.Backup(func(moment *engine.Moment) {
			if moment == nil {
				return
			}
			defer moment.Close()
			if h.saveTo(d, moment) {
				left--
			}
			if left == 0 {
				d.persist()
				*backup = *d
			}
		}) // it may be busy
	}
	return backup
}

// saveTo writes what a moment has to a disk.
func (h *host) saveTo(d *disk, moment *engine.Moment) bool {
	records := &store.Batch{}
	err := moment.Scan(func(key, value []byte) bool {
		records.Set(bytes.Clone(key), bytes.Clone(value))
		return true
	})
	if h.tolerates(err) {
		return false
	}
	n, tree, _ := d.part(h.w)
	d.scars[n] = *h.scars()
	return tree.Commit(records, false) == nil
}

// leaves notes that what the host had is no more.
func (h *host) leaves() {
	before := h.held.Clone()
	before.Merge(h.aside) // what it had put aside goes with it
	h.held, h.aside = crdt.VersionVector{}, nil
	h.noteLoss(before)
}

// spaces returns those that the machine is to hold.
func (m *machine) spaces() (out []*realm) {
	for _, h := range m.hosts {
		out = append(out, h.w)
	}
	return out
}

// maxHosts is how many hosts a world may have.
const maxHosts = 16

// replaceDisk stops the process, and has it started on another disk.
func (m *machine) replaceDisk(d *disk, what string) {
	m.say("gets %s", what)
	for _, h := range m.hosts {
		h.excuse(crdt.VersionVector{})
	}
	m.disk = d
	for _, h := range m.hosts {
		h.promised, h.vouched, h.aside = crdt.VersionVector{}, crdt.VersionVector{}, nil
		if m.w.plan.divided {
			h.number, _, _ = d.clone().part(h.w)
		}
	}
	if m.running {
		m.stopped(nil)
		return
	}
	for _, h := range m.hosts {
		h.takeStock()
	}
}

func (w *world) injectClock(f Fault, h *machine) {
	off := time.Duration(w.rng.IntN(100<<w.rng.IntN(20))) * time.Millisecond
	set := func(off time.Duration) {
		h.clock.set(off)
		w.clocksSet = w.now
	}
	switch f {
	case ClockAhead:
		set(off)
	case ClockBehind:
		set(-off)
	case ClockJump:
		if m := w.plan.measured; m != nil && m.IntN(2) == 0 {
			off = -off
		}
		set(off)
		w.after(w.span(), func() { set(0) })
	case ClockStill:
		h.clock.stop(w.now)
		w.after(w.span(), func() { set(0) })
	}
}

func (w *world) injectMember(f Fault, h *machine) {
	switch f {
	case Join:
		if len(w.machines) < maxHosts {
			w.addMachine(newDisk(), w.drawSpaces()).say("joins")
		}
	case Leave:
		if len(w.present()) <= 2 {
			return
		}
		h.gone = true
		if h.running {
			h.stopped(nil)
		}
		for _, o := range h.hosts {
			o.leaves()
		}
	case ComeBack:
		h.absent = true
		w.after(2*w.span(), func() { h.absent = false })
	}
}
