package sim

import (
	"bytes"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
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

// planLoss notes that messages get lost in this world, at random.
func (w *world) planLoss() {
	if w.plan.lossy > 0 {
		w.say("%.0f of 100 messages are lost", 100*w.plan.lossy)
	}
}

// inject lets a fault happen.
func (w *world) inject(f Fault) {
	h := w.hosts[w.rng.IntN(len(w.hosts))]
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
	}
}

// span draws how long a fault lasts: mostly short, sometimes longer than logs reach.
func (w *world) span() time.Duration {
	return time.Duration(w.rng.IntN(200<<w.rng.IntN(7))) * time.Millisecond
}

func (w *world) injectNetwork(f Fault, h *host) {
	other := w.hosts[w.rng.IntN(len(w.hosts))]
	switch f {
	case Reset:
		if ids := sortedIDs(h.links); h.up() && len(ids) > 0 {
			h.links[ids[w.rng.IntN(len(ids))]].breaks()
		}
	case Partition:
		side := map[*host]bool{}
		for _, o := range w.hosts {
			side[o] = w.chance(2)
		}
		w.block(w.span(), func(a, b *host) bool { return side[a] != side[b] })
	case OneWay:
		w.block(w.span(), func(a, b *host) bool { return a == h && (b == other || other == h) })
	case Flapping:
		for i := range 3 + w.rng.IntN(6) {
			w.after(time.Duration(i)*time.Second, func() {
				w.block(time.Duration(w.rng.IntN(900))*time.Millisecond, func(a, b *host) bool {
					return a == h || b == h
				})
			})
		}
	case Alone:
		w.block(4*time.Second+w.span(), func(a, b *host) bool { return a == h || b == h })
	}
}

// block stops messages for a while.
func (w *world) block(d time.Duration, between func(a, b *host) bool) {
	var pairs [][2]*host
	for _, a := range w.hosts {
		for _, b := range w.hosts {
			if a != b && between(a, b) && !w.calm {
				pairs = append(pairs, [2]*host{a, b})
				w.blocked[[2]*host{a, b}]++
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

func (w *world) injectDisk(f Fault, h *host) {
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
func (w *world) rot(h *host) {
	if !w.mayRot(h) {
		return
	}
	for range 1 + w.rng.IntN(3) {
		h.flipBit()
	}
}

// rotAlone cuts a host off, has it take writes for a while, and then changes records of it. When it meets
// others again it is damaged, and only its log has those writes, or not even that.
func (w *world) rotAlone(h *host) {
	const before = 2 * time.Second
	w.block(2*before+w.span(), func(a, b *host) bool { return a == h || b == h })
	w.after(w.spread(before), func() {
		if h.gone || w.calm {
			return
		}
		w.rot(h)
		if h.up() {
			h.later(0, func() error { h.check(); return nil }) // a client reads all
		}
	})
}

// mayRot reports whether a host may lose records without anything being lost for good: others must
// have what it has.
func (w *world) mayRot(h *host) bool {
	for _, o := range w.members() {
		if o != h && (o.disk.rotten || o.aside != nil) {
			return false
		}
	}
	return h.aside == nil && len(w.members()) > 1
}

// scarcity tells the process that its disk has little room left, or has room again: as package
// peer does, it refuses writes and takes no deltas meanwhile.
func (h *host) scarcity(scarce bool) {
	h.scarce = scarce
	if h.up() {
		room := engine.Roomy
		if scarce {
			room = engine.Scarce
		}
		h.engine.SetRoom(room, errScarce)
	}
}

// flipBit changes a bit of some stored record: of a cell or what is derived from it, of the log,
// or of what there is one of.
func (h *host) flipBit() {
	kinds := []string{"cbk", "cbk", "cbk", "", "m"}[h.w.rng.IntN(5)]
	if kinds == "" {
		h.flipLogBit()
		return
	}
	var keys [][]byte
	snap := h.disk.written.Snapshot()
	_ = snap.ScanKeys(nil, nil, func(key []byte) bool {
		if strings.IndexByte(kinds, key[0]) >= 0 {
			keys = append(keys, append([]byte(nil), key...))
		}
		return true
	})
	if len(keys) == 0 {
		snap.Close()
		return
	}
	key := keys[h.w.rng.IntN(len(keys))]
	value, _, err := snap.Get(key)
	snap.Close()
	if err != nil || len(value) == 0 {
		return
	}
	i := h.w.rng.IntN(8 * len(value))
	value[i/8] ^= 1 << (i % 8)
	h.disk.overwrite(key, value)
	h.disk.rotten, h.disk.scarred, h.w.rotten = true, true, true
	h.say("a bit of record %q flips", key[:min(len(key), 40)])
}

// flipLogBit changes a bit of some record of the log.
func (h *host) flipLogBit() {
	all := h.disk.log.Positions()
	if len(all) == 0 {
		return
	}
	at := all[h.w.rng.IntN(len(all))]
	h.disk.log.Flip(at)
	h.disk.rotten, h.disk.rotLog, h.disk.scarred, h.w.rotten = true, true, true, true
	h.say("a bit of the log flips at %d", at)
}

// overwrite changes a record on the medium, behind everybody's back.
func (d *disk) overwrite(key, value []byte) {
	b := &store.Batch{}
	b.Set(key, value)
	for _, st := range []interface {
		Commit(b *store.Batch, sync bool) error
	}{d.written, d.durable} {
		if err := st.Commit(b, false); err != nil {
			panic(err)
		}
	}
}

// injectStore puts another directory in place of a host's own.
func (w *world) injectStore(f Fault, h *host) {
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
		if len(w.hosts) < maxHosts {
			o := w.addHost(h.disk.clone())
			o.say("runs on a copy of the directory of %s", h.id)
		}
	}
}

// backUp returns a copy of the directory's files, or what becomes one that "peerd backup" makes of the running peer.
func (h *host) backUp() *disk {
	backup := h.disk.clone()
	if !h.up() || h.w.chance(2) {
		return backup
	}
	_ = h.engine.Backup(func(m *engine.Moment) {
		if m == nil {
			return
		}
		defer m.Close()
		records := &store.Batch{}
		err := m.Scan(func(key, value []byte) bool {
			records.Set(bytes.Clone(key), bytes.Clone(value))
			return true
		})
		d := newDisk()
		d.highest, d.rotten, d.rotLog, d.scarred = h.disk.highest, h.disk.rotten, h.disk.rotLog, h.disk.scarred
		if !h.tolerates(err) && d.written.Commit(records, false) == nil {
			d.persist()
			*backup = *d
		}
	}) // it may be busy
	return backup
}

// maxHosts is how many hosts a world may have.
const maxHosts = 16

// replaceDisk stops the process, and has it started on another disk.
func (h *host) replaceDisk(d *disk, what string) {
	h.say("gets %s", what)
	h.excuse(crdt.VersionVector{})
	h.disk = d
	h.promised, h.aside = crdt.VersionVector{}, nil
	if h.up() {
		h.stopped(nil)
	} else {
		h.takeStock()
	}
}

func (w *world) injectClock(f Fault, h *host) {
	off := time.Duration(w.rng.IntN(100<<w.rng.IntN(20))) * time.Millisecond
	switch f {
	case ClockAhead:
		h.clock.set(off)
	case ClockBehind:
		h.clock.set(-off)
	case ClockJump:
		h.clock.set(off)
		w.after(w.span(), func() { h.clock.set(0) })
	case ClockStill:
		h.clock.stop(w.now)
		w.after(w.span(), func() { h.clock.set(0) })
	}
}

func (w *world) injectMember(f Fault, h *host) {
	switch f {
	case Join:
		if len(w.hosts) < maxHosts {
			w.addHost(newDisk()).say("joins")
		}
	case Leave:
		if len(w.members()) <= 2 {
			return
		}
		h.gone = true
		if h.up() {
			h.stopped(nil)
		}
		before := h.held.Clone()
		before.Merge(h.aside) // what it had put aside goes with it
		h.held, h.aside = crdt.VersionVector{}, nil
		h.noteLoss(before)
	case ComeBack:
		h.absent = true
		w.after(2*w.span(), func() { h.absent = false })
	}
}
