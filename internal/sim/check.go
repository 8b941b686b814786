package sim

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// checkPromise holds a host that was opened against what it promised before.
func (h *host) checkPromise() {
	if h.aside != nil {
		return // it is rebuilding itself
	}
	if !h.held.Contains(h.promised) {
		h.w.fail("%s had promised %v and has %v after a restart", h.name, h.promised, h.held)
	}
	if !h.held.Contains(h.vouched) {
		h.w.fail("%s had told others that it holds %v and has %v after a restart", h.name, h.vouched, h.held)
	}
}

// checkOpened checks a process that has just started.
func (h *host) checkOpened() {
	if why := h.engine.Damaged(); why != nil {
		if !h.scars().rotten && !h.scars().rotLog {
			h.w.fail("%s is damaged, and nothing damaged it: %v", h.name, why)
		}
		return
	}
	if why := h.engine.Recounted(); why != nil && !h.scars().scarred {
		h.w.fail("%s read all its cells when it was opened, and nothing damaged it: %v", h.name, why)
	}
	before := h.held
	seen, _ := h.engine.Context()
	h.checkOurs(seen)
	h.held = seen.Clone()
	h.checkPromise()
	h.noteLoss(before)
	if h.aside != nil && !h.engine.Rebuilding() {
		h.noteRebuilt()
	}
	h.check()
}

// noteContext notes that the context grew.
func (h *host) noteContext() {
	seen, _ := h.engine.Context()
	if !seen.Contains(h.held) {
		h.w.fail("%s had %v and has %v", h.name, h.held, seen)
	}
	h.checkOurs(seen)
	h.held = seen.Clone()
	if h.w.chance(8) {
		h.w.contexts[h.w.rng.IntN(len(h.w.contexts))] = h.held
	}
}

// noteRebuilt checks that a rebuild lost nothing that only this host had.
func (h *host) noteRebuilt() {
	seen, _ := h.engine.Context()
	h.held, h.promised = seen.Clone(), seen.Clone()
	if h.w.blind {
		h.aside = nil
		return
	}
	hist := h.w.hist
	was, is := hist.dense(h.aside), hist.dense(h.held)
	others := h.others()
	for _, t := range hist.all {
		if !has(was, t) || has(is, t) || t.lost || anyHas(others, t) {
			continue
		}
		if !h.scars().rotLog {
			h.w.fail("the rebuild of %s lost transaction %d", h.name, t.id)
		}
		t.lost = true
	}
	h.aside, h.scars().rotLog = nil, false
}

// checkTime checks that no clock but the host's own moved its timestamps far ahead.
func (h *host) checkTime(t *transaction) {
	if limit := h.disk.highest.Add(engine.MaxSkew + time.Millisecond); t.time.Wall().After(limit) {
		h.w.fail("%s writes at %v, and its clock never showed more than %v", h.name, t.time,
			h.disk.highest.UTC())
	}
}

// checkKey has a client read what it has just written.
func (h *host) checkKey(m mutation) {
	if h.w.blind {
		return
	}
	at := m.cell
	if at == "" {
		at = m.clears
	}
	v := h.engine.View()
	defer v.Close()
	seen, _ := h.engine.Context()
	h.compare(v, at.Key(), h.w.hist.dense(seen))
}

// check compares all that can be read at a host with the oracle, and the fingerprints kept in
// place with those of what the disk holds. Now and then it leaves a view open, to be read again
// later.
func (h *host) check() {
	if h.refusing != nil || h.engine.Damaged() != nil || h.engine.Rebuilding() || h.engine.Busy() {
		return
	}
	seen, _ := h.engine.Context()
	dense := h.w.hist.dense(seen)
	if n := h.engine.Waiting(); n > gossip.MaxWaiting {
		h.w.fail("%s keeps %d deltas that wait for others", h.name, n)
	}
	if h.w.blind {
		h.checkRoot() // what a dot stands for is no longer one thing
		return
	}
	h.checkVectors()
	if err := h.w.hist.causal(dense); err != nil {
		h.w.fail("%s: %v", h.name, err)
	}
	v := h.engine.View()
	h.checkView(v, dense)
	h.checkHidden(dense)
	h.checkRoot()
	h.checkLog()
	if !h.w.chance(4) || h.w.calm {
		v.Close()
		return
	}
	d := h.disk
	h.w.after(time.Duration(h.w.rng.IntN(1000))*time.Millisecond, func() {
		if h.disk == d { // it may have rotted before it was replaced
			h.checkView(v, dense)
		}
		v.Close()
	})
}

// checkLogSize checks that the log keeps to its bound after each step, but for what that appended, and counts right.
func (h *host) checkLogSize() {
	if h.engine.Damaged() != nil {
		return
	}
	counts := h.engine.LogBytes()
	if bound := h.engine.LogBound(); counts <= bound {
		h.logWas, h.logSlack = counts, 0
	} else if bound = max(bound, h.logWas); h.logSlack >= 0 && counts > bound+h.logSlack {
		h.w.fail("%s has a log of %d bytes, bound %d, of which %d are new", h.name, counts, bound, h.logSlack)
	}
	if !h.w.plan.checkAll {
		return
	}
	if has := h.disk.log.Size(); !h.w.several() && counts != has && !h.engine.Rebuilding() && !h.scars().scarred {
		h.w.fail("%s counts %d bytes of log, its disk has %d", h.name, counts, has)
	}
}

// checkUnwritten checks that what waits for a checkpoint did not grow in a step that began with too much of it.
func (h *host) checkUnwritten(before int64) {
	limit := h.maxDirty
	if now := h.engine.Unwritten(); limit > 0 && before > limit && now > before {
		h.w.fail("%s had %d bytes that wait for a checkpoint, bound %d, and now has %d", h.name, before, limit, now)
	}
}

// checkOver checks that nothing is committed while the log is beyond its bound. Once it may be: what is durable
// by then can be cut, and is with the next step.
func (h *host) checkOver(over bool, rd *engine.Ready) {
	switch {
	case !over, h.w.several(), h.engine.LogBytes() <= h.engine.LogBound():
		h.overs = 0
	case len(rd.Committed) > 0 && h.engine.Damaged() == nil:
		h.overs++
	}
	if h.overs > 1 {
		h.w.fail("%s commits with a log of %d bytes, bound %d", h.name, h.engine.LogBytes(), h.engine.LogBound())
	}
}

// checkUnseen checks that nobody sees what a Ready commits before it is written: a crash may take it. Of each delta the
// cell is read that it puts an entry into last. The first one's key is compared as a whole if it only removes, and else
// now and then, for what is computed from cells.
func (h *host) checkUnseen(rd *engine.Ready) {
	rests := h.disk.readsIn < 0 && !h.volume.dead && !h.scars().scarred && !h.w.blind
	if len(rd.Committed) == 0 || !rests || h.refusing != nil || rd.Refusing != nil || h.engine.Pulling() || rd.Jumped {
		return
	}
	h.commits++
	v := h.engine.View()
	defer v.Close()
	for i, d := range rd.Committed {
		put := len(d.Ops) - 1
		for put >= 0 && d.Ops[put].Kind != delta.OpPut {
			put--
		}
		if put >= 0 {
			c, err := v.Cell(d.Ops[put].Address)
			if !h.tolerates(err) && c.Has(d.Dot(put)) {
				h.w.fail("%s shows what it commits before that is written: %v", h.name, d.Dot(put))
			}
		}
		if i == 0 && d.Ops[0].Address != "" && (put < 0 || h.commits%comparedCommits == 0) {
			h.compare(v, d.Ops[0].Address.Key(), h.w.hist.dense(h.held))
		}
	}
}

// comparedCommits is how many of a host's commits there are to one of which a whole key is compared before it is written.
const comparedCommits = 8

// checkView compares what a view shows with the oracle.
func (h *host) checkView(v *engine.View, seen []uint64) {
	if h.w.blind {
		return
	}
	exist := 0
	for _, key := range h.w.hist.keys {
		if h.compare(v, key, seen) > 0 {
			exist++
		}
	}
	listed := 0
	err := v.Keys("", "", func(string, dotted.Summary) bool { listed++; return true })
	if h.tolerates(err) {
		return
	}
	if n, _, _ := v.KeyCount(); listed != exist || n != exist {
		h.w.fail("%s lists %d keys and counts %d, want %d", h.name, listed, n, exist)
	}
}

// compare reads a key in a view and returns how many cells it has.
func (h *host) compare(v *engine.View, key string, seen []uint64) int {
	return h.compareBut(v, key, seen, nil)
}

// compareBut is compare where something is not to be seen.
func (h *host) compareBut(v *engine.View, key string, seen []uint64, hidden func(dotted.Address) bool) int {
	h.w.totals.Reads++
	hist := h.w.hist
	want := hist.expected(key, seen)
	if hidden != nil {
		want = slices.DeleteFunc(want, func(f fact) bool { return hidden(f.at) })
	}
	got, err := read(engine.Fields(v), key, hist.got[:0])
	hist.got = got
	if h.tolerates(err) {
		return len(want)
	}
	if d := difference(want, got); d != "" {
		h.w.fail("%s reads key %q: %s", h.name, key, d)
	}
	h.checkOrder(v, key)
	return len(want)
}

// tolerates reports whether a read failed as it may, on this disk.
func (h *host) tolerates(err error) bool {
	if err == nil {
		return false
	}
	if h.scars().scarred && errors.Is(err, store.ErrCorrupt) {
		if h.up() {
			h.engine.Suspect(err)
			h.wake()
		}
		return true
	}
	if errors.Is(err, errRead) || errors.Is(err, errDied) {
		return true
	}
	h.w.fail("%s cannot read: %v", h.name, err)
	return true
}

// lacking is somebody with a context that a host once had, who reads a log.
type lacking struct {
	from   uint64 // the first record that it must read
	theirs crdt.VersionVector
	got    crdt.VersionVector
	ended  bool // it gets no further
	failed bool // for what its disk may not read
}

// checkLog checks that what the log says that it covers, for somebody with a context that a host once had, it has. All
// of them go through it together.
func (h *host) checkLog() {
	var all []lacking
	for _, theirs := range h.w.contexts {
		if from, covered := h.engine.LogStart(theirs); covered && theirs != nil {
			all = append(all, lacking{from: from, theirs: theirs, got: theirs.Clone()})
		}
	}
	slices.SortStableFunc(all, func(a, b lacking) int { return cmp.Compare(a.from, b.from) })
	for i, l := range all {
		end := uint64(math.MaxUint64)
		if i+1 < len(all) {
			end = all[i+1].from
		}
		h.readLog(l.from, end, all[:i+1])
	}
	seen, _ := h.engine.Context()
	for _, l := range all {
		if !l.failed && !l.got.Contains(seen) {
			h.w.fail("%s says that its log covers what follows %v, and has only %v", h.name, l.theirs, l.got)
		}
	}
}

// readLog has those who have come so far read the records from one to before another.
func (h *host) readLog(at, end uint64, readers []lacking) {
	for at < end {
		next, there, err := h.engine.LogRead(at, int(min(64, end-at)), func(d *delta.Delta) bool {
			for _, l := range readers {
				if !l.ended && d.First <= l.got[d.Replica]+1 {
					l.got.Raise(d.Replica, d.Last())
				}
			}
			return true
		})
		failed := h.tolerates(err) || !there && h.scars().scarred
		if failed || next <= at {
			for i := range readers {
				l := &readers[i]
				l.failed = l.failed || failed && !l.ended
				l.ended = true
			}
			return
		}
		at = next
	}
}

// checkVectors checks what the host takes vectors for: its own for its context, and others' for no more than they have,
// nor for something that it has if that is not so.
func (h *host) checkVectors() {
	seen, heads := h.engine.Context()
	full, _ := h.engine.Expand(h.engine.Vector(), heads, nil)
	if !full.Equal(seen) {
		h.w.fail("%s has %v, and its vector %v stands for %v", h.name, seen, h.engine.Vector(), full)
	}
	for _, o := range h.w.members() {
		if !o.up() || o.refusing != nil || o.engine.Damaged() != nil {
			continue
		}
		theirs, _ := o.engine.Context()
		if full, _ := h.engine.Expand(o.engine.Vector(), nil, nil); !theirs.Contains(full) {
			h.w.fail("%s takes the vector of %s for %v, which has %v", h.name, o.id, full, theirs)
		}
		if !h.engine.Lacks(o.engine.Vector()) && !seen.Contains(theirs) {
			h.w.fail("%s has all that the vector of %s lists, and not all of %v: %v", h.name, o.id, theirs, seen)
		}
	}
}

// checkRoot compares the root kept in place with that of the cells that are there.
func (h *host) checkRoot() {
	if h.scars().rotten {
		return
	}
	var sum antientropy.Fingerprint
	cells := 0
	v := h.engine.View()
	defer v.Close()
	err := v.ScanStored(func(a dotted.Address, c dotted.Cell) bool {
		for _, e := range c {
			sum = sum.Add(antientropy.Of(a, e))
		}
		cells++
		return true
	})
	if h.tolerates(err) {
		return
	}
	_, root, _ := h.engine.Digest()
	if _, n := h.engine.Counts(); sum != root || n != cells {
		h.w.fail("%s keeps root %v of %d cells, there are %v of %d", h.name, root, n, sum, cells)
	}
}
