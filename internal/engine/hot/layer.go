package hot

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"
)

// layer is records in the order of their keys. Its owner finds them by the index of all that memory
// has. The order is a B-tree, which new ones are taken into when somebody asks for it, or many have
// come: most layers are read in order only once, by a checkpoint.
type layer struct {
	len    int   // records that have versions
	slots  int   // and places for such
	bytes  int64 // of what the tree does not have
	sealed bool
	times  times  // only the owner's, but for the copies that snapshots have
	spare  []slot // room for the next ones, the owner's

	mu     sync.RWMutex // guards what follows
	fresh  []*slot      // that are not in order yet
	sorted btree.Map[string, *slot]
}

// maxFresh is how many records one who reads may have to take into the order.
const maxFresh = 1 << 12

// slot is a record, with its versions. As all of a layer go at once, they are allocated some
// together: the collector marks those as one.
type slot struct {
	key    string
	layer  *layer
	newest atomic.Pointer[Version]
}

// slotsAtOnce is how many are.
const slotsAtOnce = 64

// times are the records of a layer that have versions with a time. What is in them does not change.
type times struct {
	first int64 // of all times, also of versions that were replaced
	slots []*slot
}

// note takes in the time of a version, which is the newest of a slot.
func (t *times) note(n *slot, v *Version, at int64) {
	if at == math.MaxInt64 {
		return
	}
	if len(t.slots) == 0 {
		t.first = at
	}
	t.first = min(t.first, at)
	if !v.timed {
		v.timed, t.slots = true, append(t.slots, n)
	}
}

// by returns all of them, if it may be time for one.
func (t *times) by(now int64) []*slot {
	if t.first > now {
		return nil
	}
	return t.slots
}

// last returns the newest version; nil if there is none, or no slot.
func (n *slot) last() *Version {
	if n == nil {
		return nil
	}
	return n.newest.Load()
}

// size returns how many bytes it takes with what the tree does not have. Only the owner calls it.
func (l *layer) size() int64 { return l.bytes + slotBytes*int64(l.slots) }

// at returns the version that a snapshot sees; nil if that is none, or no slot.
func (n *slot) at(seq uint64) Record {
	for v := n.last(); v != nil; v = v.older.Load() {
		if v.seq <= seq {
			return v.of
		}
	}
	return nil
}

// add returns a slot without a version, for a key that has none. Only the owner calls it.
func (l *layer) add(key string) *slot {
	if len(l.spare) == 0 {
		l.spare = make([]slot, slotsAtOnce)
	}
	n := &l.spare[0]
	l.spare = l.spare[1:]
	n.key, n.layer = key, l
	l.slots++
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fresh = append(l.fresh, n); len(l.fresh) >= maxFresh {
		l.sort()
	}
	return n
}

// sort takes what is new into the order, itself in order: those that are neighbours find what they are
// compared with in the processor's cache. It is called with mu held.
func (l *layer) sort() {
	slices.SortFunc(l.fresh, func(a, b *slot) int { return strings.Compare(a.key, b.key) })
	for _, n := range l.fresh {
		l.sorted.Set(n.key, n)
	}
	clear(l.fresh)
	l.fresh = l.fresh[:0]
}

// ordered returns with mu held for reading, and in order what was there when it was called.
func (l *layer) ordered() {
	l.mu.RLock()
	if len(l.fresh) > 0 {
		l.mu.RUnlock()
		l.mu.Lock()
		l.sort()
		l.mu.Unlock()
		l.mu.RLock()
	}
}

// get returns the slot of a key; nil if there is none. Anyone may call it.
func (l *layer) get(key string) *slot {
	l.ordered()
	defer l.mu.RUnlock()
	n, _ := l.sorted.Get(key)
	return n
}

// from appends the slots at a key and beyond it to out, in their order, until that is full.
// Anyone may call it.
func (l *layer) from(key string, out []*slot) []*slot {
	l.ordered()
	defer l.mu.RUnlock()
	l.sorted.Ascend(key, func(_ string, n *slot) bool {
		if len(out) == cap(out) {
			return false
		}
		out = append(out, n)
		return true
	})
	return out
}
