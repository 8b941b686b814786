package engine

import (
	"bytes"
	"cmp"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// keyCounts is what a key adds to the counts of all keys.
type keyCounts struct {
	exists  bool
	tallies int
}

// addToKey adds to one of the sums over a key. See add for note.
func (g *Group) addToKey(x addition, note func(undo)) error {
	s, err := g.summary(x.over.Key())
	if err != nil {
		return err
	}
	if note != nil {
		less := addition{x.over, x.sum, count(-int(x.by.Lo))}
		note(undo{sum: s, less: &less, dirty: s.dirty})
	}
	g.tallied = g.tallied || x.sum.kind == sumTallies
	s.add(x)
	return nil
}

// add adds to one of the sums.
func (s *summaryState) add(x addition) {
	s.dirty = true
	by := int(x.by.Lo) // it is small
	if x.sum.kind == sumTallies {
		s.now.Tallies += by
		return
	}
	if s.now.Visible == nil {
		s.now.Visible = map[string]int{}
	}
	if s.now.Visible[x.sum.shape] += by; s.now.Visible[x.sum.shape] == 0 {
		delete(s.now.Visible, x.sum.shape)
	}
}

// emptied reports whether the group clears everything.
func (g *Group) emptied() bool { return g.clears.era != g.r.clears.era }

// counts returns the number of keys that exist, and of all their tallies. O(keys written by the group).
func (g *Group) counts() (keys, tallies int) {
	if !g.emptied() {
		keys, tallies = g.r.keys, g.r.tallies
	}
	for _, s := range g.sums {
		keys += gain(s.before.exists, s.now.Exists())
		tallies += s.now.Tallies - s.before.tallies
	}
	return keys, tallies
}

// tallying calls fn with each key that has tallies.
func (g *Group) tallying(fn func(key string) bool) error {
	if _, tallies := g.counts(); tallies == 0 {
		return nil
	}
	more := true
	for _, name := range sortedKeys(g.sums) {
		if more && g.sums[name].now.Tallies > 0 {
			more = fn(name)
		}
	}
	if !more || g.emptied() {
		return nil
	}
	return g.view.Tallied(func(key string) bool { return g.sums[key] != nil || fn(key) })
}

// countState is the sums over a string that the group has looked at. Those of a string that was not counted on have no
// record.
type countState struct {
	at      dotted.Address // the string's
	now     dotted.Count
	dirty   bool
	written bool // not in the record: the string's own cell says it
	looked  bool // whether that was looked at
}

func (n *countState) key() []byte { return place(prefixCount, n.at) }

func (n *countState) exists() bool { return n.written || n.now.Shares > 0 }

// add adds to one of the sums.
func (n *countState) add(x addition) {
	switch x.sum.kind {
	case sumWritten:
		n.written = x.by.Hi >= 0
	case sumShares:
		n.now.Shares, n.dirty = n.now.Shares+int(x.by.Lo), true
	case sumCounted:
		n.now.Sum, n.dirty = n.now.Sum.Plus(x.by), true
	}
}

func (n *countState) copy() *countState {
	c := *n
	return &c
}

// noneCounted reports whether nothing was ever counted on anything that is there, without a look.
func (g *Group) noneCounted() bool { return g.r.tallies == 0 && !g.tallied }

// count returns the group's state of the sums over a string. See add for note.
func (g *Group) count(a dotted.Address, note func(undo)) (*countState, error) {
	g.r.spend(workCell)
	if n, known := g.counted.Get(a); known {
		return n, nil
	}
	now, cached := g.r.cache.count(a)
	if g.emptied() {
		now, cached = dotted.Count{}, true // those in the store are of an earlier era
	}
	if !cached {
		g.r.spend(workMiss)
		var err error
		if now, err = g.view.Count(a); err != nil {
			return nil, err
		}
	}
	return g.keepCount(&countState{at: a, now: now}, note), nil
}

// keepCount takes sums over a string that the group did not know into it.
func (g *Group) keepCount(n *countState, note func(undo)) *countState {
	if g.counted.Set(n.at, n); note != nil {
		note(undo{uncount: n.at})
	}
	return n
}

// present returns the state of a string, before an addition that may change whether it exists.
func (g *Group) present(x addition, note func(undo)) (*countState, error) {
	n, err := g.count(x.over, note)
	if err != nil || n.looked {
		return n, err
	}
	written := x.by.Hi < 0
	if x.sum.kind != sumWritten {
		known := g.cells[x.over] != nil
		c, err := g.load(x.over)
		if err != nil {
			return nil, err
		}
		if written = c.now.Visible(); !known && note != nil {
			note(undo{read: x.over})
		}
	}
	if note != nil {
		note(undo{count: n, counted: n.copy()})
	}
	n.written, n.looked = written, true
	return n, nil
}

// addToString adds to one of the sums over a string. See add for note.
func (g *Group) addToString(x addition, note func(undo)) error {
	n, err := g.count(x.over, note)
	if err != nil {
		return err
	}
	if note != nil {
		note(undo{count: n, counted: n.copy()})
	}
	n.add(x)
	return nil
}

// forgetCounts makes it that nothing was written to, nor counted on, any string under prefix, of those that the group
// has.
func (g *Group) forgetCounts(prefix dotted.Address, note func(undo)) {
	g.counted.Ascend(prefix, func(a dotted.Address, n *countState) bool {
		if !hasPrefix(a, prefix) {
			return false
		}
		if note != nil {
			note(undo{count: n, counted: n.copy()})
		}
		n.now, n.written, n.looked, n.dirty = dotted.Count{}, false, true, true
		return true
	})
}

// readCounts takes all strings under prefix that were counted on into the group.
func (g *Group) readCounts(prefix dotted.Address, note func(undo)) error {
	return g.view.counts(prefix, func(a dotted.Address, _ dotted.Count) bool {
		g.r.spend(workCell)
		if _, known := g.counted.Get(a); !known {
			g.keepCount(&countState{at: a}, note)
		}
		return true
	})
}

// encode returns the record of what was counted on a string; nil if that is nothing.
func (n *countState) encode(era uint64) []byte {
	if n.now == (dotted.Count{}) {
		return nil
	}
	key := n.key()
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(5)
		if isShortened(key, n.at) {
			w.String(string(n.at))
		} else {
			w.Bytes(nil)
		}
		w.Uint(uint64(n.now.Shares))
		w.Int(n.now.Sum.Hi)
		w.Uint(n.now.Sum.Lo)
		w.Uint(era)
	}))
}

func decodeCount(key, record []byte) (a dotted.Address, n dotted.Count, era uint64, err error) {
	a = dotted.Address(key[1:])
	err = decodeRecord(key, record, func(r *wire.Reader) {
		extra := r.Fields(5)
		if at := r.String(crdt.MaxAddress); at != "" {
			a = dotted.Address(at)
		}
		n.Shares = int(r.Uint())
		n.Sum = dotted.Int128{Hi: r.Int(), Lo: r.Uint()}
		era = r.Uint()
		r.Skip(extra)
	})
	return a, n, era, err
}

// eraOf returns when sums were written, of keys or of strings.
func eraOf(key, record []byte) (era uint64, err error) {
	if key[0] == prefixCount {
		_, _, era, err = decodeCount(key, record)
	} else {
		_, _, era, err = decodeSummary(key, record)
	}
	return era, err
}

// Count tells what was counted on the string at a. O(log strings).
func (v *View) Count(a dotted.Address) (dotted.Count, error) {
	key := place(prefixCount, a)
	record, ok, err := v.record(key)
	if err != nil || !ok {
		return dotted.Count{}, err
	}
	_, n, era, err := decodeCount(key, record)
	if era < v.clears.era {
		n = dotted.Count{}
	}
	return n, err
}

// counts calls fn with what was counted on each string under prefix that was counted on in this era.
func (v *View) counts(prefix dotted.Address, fn func(dotted.Address, dotted.Count) bool) error {
	var failed error
	start := place(prefixCount, prefix)
	err := v.records(start, after(start), func(key []byte, _ *item, record []byte) bool {
		a, n, era, err := decodeCount(bytes.Clone(key), record)
		if failed = err; err != nil {
			return false
		}
		return era < v.clears.era || !hasPrefix(a, prefix) || fn(a, n)
	})
	return cmp.Or(failed, err)
}
