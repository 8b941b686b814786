package engine

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"math"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// Readers see nothing of a key that has expired. Removing it is an ordinary transaction. The replica that said
// when it expires, or wrote to it last, does that at once; others only if that replica does not: later, and each at
// another time for each key, so that one of them will have done it for all.
//
// An index says which expiries there are, in the order of their times. It is of what the tree has; those that were said
// since are noted apart, until a checkpoint has written them. An entry may say what is no more: the cell decides.

// How long others wait, behind the time at which a key expired.
const (
	othersAfter  = 5 * time.Second  // at least
	othersSpread = 10 * time.Second // and at most so much more, by replica and key
	othersIdle   = 20 * time.Second // and so much more where nothing was written: a replica that only reads had better not

	// OthersWait is how long they wait at most.
	OthersWait = othersAfter + othersSpread + othersIdle
)

// maxWaiting bounds the keys that have expired and are others' to remove. More are left in the index until some are gone.
const maxWaiting = 1 << 16

// expireAtOnce is how many keys one transaction removes, and againAfter when one that it could not remove is tried again.
const (
	expireAtOnce = 256
	againAfter   = time.Minute
)

// expiries finds which cells' indexed names expire when.
var expiries = cellIndex{
	kind: prefixExpiry, name: "index of expiries",
	keys: func(a dotted.Address, c dotted.Cell, fn func(key []byte)) {
		if len(c) > 0 && a.IsExpiry() {
			fn(append(expiryKey(indexed(c)), a.Place()...))
		}
	},
	same: expireAlike,
}

func expireAlike(before, after dotted.Cell) bool {
	return len(before) > 0 == (len(after) > 0) && indexed(before) == indexed(after)
}

// indexed returns when the cell of an expiry is looked at: one that only a newer version can read, never.
func indexed(c dotted.Cell) int64 {
	if at, _, ok := c.Expires(); ok {
		return at
	}
	return dotted.Never
}

// expiryKey returns where the index has what expires at a time, in milliseconds since 1970.
func expiryKey(at int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixExpiry}, uint64(max(at, 0)))
}

// expiring is what a replica knows of keys that expire.
type expiring struct {
	timed bool // a key may have an expiry

	// Those that were said since the last checkpoint began, and those since the one before, which it is writing.
	young, old expiryHeap
	from       []byte // where the tree's index is read on
	next       int64  // when it has something more; zero if that is not known
	waiting    expiryHeap
	latest     int64 // the time by which any were looked at last
	due        bool

	shown dotted.Shown

	alone bool  // the last transaction failed: the next is of one key
	began int64 // when it first looked for some
	clock Clock
}

// expiry is when to look at the expiry of a key.
type expiry struct {
	at    int64
	place string // of the cell that says it
}

// expiryHeap is a heap, the first to be looked at on top.
type expiryHeap []expiry

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h expiryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *expiryHeap) Push(x any)        { *h = append(*h, x.(expiry)) }
func (h *expiryHeap) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = expiry{}
	*h = (*h)[:len(*h)-1]
	return last
}

// first returns when the first is to be looked at.
func (h expiryHeap) first() int64 {
	if len(h) == 0 {
		return math.MaxInt64
	}
	return h[0].at
}

// noteExpiry notes what the cell of an expiry says.
func (g *group) noteExpiry(c *cellState) {
	g.r.expiring.timed = true
	at, _, says := c.now.Expires()
	was, _, said := c.stored.Expires()
	hidden := len(g.clears.hide(c.address, c.stored)) < len(c.stored) // so what was noted may have been looked at in vain
	passed := was <= g.r.expiring.latest                              // and so it is left to others for a while, or removed
	if says && at != dotted.Never && (hidden || !said || was > at || passed) {
		g.r.soon(at, c.key[1:])
	} // else what was noted for the time before finds it
}

// soon notes when to look at the cell at a place.
func (r *replica) soon(at int64, place string) { heap.Push(&r.expiring.young, expiry{at, place}) }

// loadExpiries looks whether the tree has any.
func (r *replica) loadExpiries() error {
	tree := r.st.Snapshot()
	defer tree.Close()
	return tree.ScanKeys([]byte{prefixExpiry}, []byte{prefixExpiry + 1}, func([]byte) bool {
		r.expiring.timed = true
		return false
	})
}

// expiriesSealed notes that a checkpoint writes those that were said so far.
func (r *replica) expiriesSealed() {
	x := &r.expiring
	if len(x.old) == 0 {
		x.old, x.young = x.young, nil
		return
	}
	x.old, x.young = append(x.old, x.young...), nil // the one before was given up
	heap.Init(&x.old)
}

// expiriesWritten notes that it has written them.
func (r *replica) expiriesWritten() {
	x := &r.expiring
	if first := x.old.first(); x.from != nil && bytes.Compare(expiryKey(first), x.from) < 0 {
		x.from = expiryKey(first)
	}
	x.old, x.next = nil, 0
}

// countDownExpiries lets the time pass until something expires.
func (r *replica) countDownExpiries(now time.Time) {
	x := &r.expiring
	at := now.Add(x.clock.judges()).UnixMilli()
	if x.began == 0 {
		x.began = at
	}
	if at < max(x.began, x.latest)-othersAfter.Milliseconds() { // what is less puts nothing off by more than that
		x.setBack(at)
	}
	x.due = r.expiresBy(now)
}

// setBack notes that the clock was set back to a time, or is taken for slower than it was: all for
// which others are waited for is looked at anew, as that was put off by what the clock showed
// before.
func (x *expiring) setBack(to int64) {
	x.began, x.latest = min(x.began, to), to
	for i := range x.waiting {
		x.waiting[i].at = to
	}
}

// expiresBy reports whether something is known that is to be looked at by then.
func (r *replica) expiresBy(now time.Time) bool { return r.expiring.timed && r.expiresIn(now) <= 0 }

// expiresIn returns after how much time something is to be looked at; an hour at most.
func (r *replica) expiresIn(now time.Time) time.Duration {
	x := &r.expiring
	first := min(x.young.first(), x.old.first(), x.waiting.first(), max(x.next, 1))
	now = now.Add(x.clock.judges())
	return time.UnixMilli(min(first, now.UnixMilli()+time.Hour.Milliseconds())).Sub(now)
}

// recorded reports whether any key has a record of sums: one that is an expiry alone has, and counts for none.
func (r *replica) recorded() bool { return r.totals.recorded() || r.expiring.timed }

// dueName is a key, or a field of one, that has expired.
type dueName struct {
	expiry
	name dotted.Address
	some bool // there is one
}

// expireSome removes keys that have expired in one transaction, as far as a share of the step allows. Those for which there
// was no room are due still; one that cannot be removed is tried again later, alone, so that it stands in nobody's way.
func (r *replica) expireSome(g *group) error {
	x, began := &r.expiring, r.work
	all, err := r.expired(g, began)
	left := all
	if err == nil && len(all) > 0 {
		last := r.seen[r.id]
		err = g.update(func(tx *Tx) error {
			for len(left) > 0 && tx.cost < groupCost/2 && len(tx.delta.Ops) < delta.MaxOps/2 &&
				(len(left) == len(all) || !r.collected(began)) {
				if err := dotted.Lent.Expire(tx, left[0].name); err != nil {
					return err
				}
				left = left[1:]
			}
			return nil
		})
		if err == nil && r.cfg.Expired != nil {
			r.cfg.Expired(namesOf(all[:len(all)-len(left)]), crdt.Dot{Replica: r.id, Counter: last + 1}, r.seen[r.id])
		}
	}
	x.due = x.due || len(left) > 0
	if x.alone = err != nil; x.alone {
		x.due, left = false, all
	}
	for _, d := range left {
		if x.alone && len(all) == 1 {
			d.at = g.now.Add(x.clock.judges() + againAfter).UnixMilli()
		}
		heap.Push(&x.waiting, d.expiry)
	}
	return err
}

// namesOf returns the names of what has expired.
func namesOf(all []dueName) (names []dotted.Address) {
	for _, d := range all {
		names = append(names, d.name)
	}
	return names
}

// expired returns keys that have expired and are this replica's to remove; after an error too.
func (r *replica) expired(g *group, began int) (keys []dueName, err error) {
	x, most := &r.expiring, expireAtOnce
	if x.alone {
		most = 1
	}
	now := g.now.Add(x.clock.judges()).UnixMilli()
	x.latest = max(x.latest, now)
	for len(keys) < most && !r.collected(began) {
		next, ok, err := r.nextExpired(g, now)
		if err != nil || !ok {
			x.due = x.due && ok
			return keys, err
		}
		r.look()
		due, err := r.judge(g, next, now)
		if due.some || err != nil {
			due.expiry = next
			keys = append(keys, due)
		}
		if err != nil {
			return keys, err
		}
	}
	return keys, nil
}

// judge returns the key whose cell is to be looked at, if the replica is to remove it now.
func (r *replica) judge(g *group, next expiry, now int64) (due dueName, err error) {
	a, err := g.view.addressOf(next.place)
	if err != nil || a == "" {
		return due, err
	}
	c, err := g.load(a)
	if err != nil {
		return due, err
	}
	at, by, ok := c.now.Expires()
	switch {
	case !ok || at == dotted.Never:
	case at > now: // it was said anew
		r.soon(at, next.place)
	default:
		turn := r.turnOf(at, by, a)
		if turn <= now {
			due.name, due.some = a[:len(a)-1], true
		} else {
			heap.Push(&r.expiring.waiting, expiry{turn, next.place})
		}
	}
	return due, nil
}

// turnOf returns when the replica is to remove a key that expired at a time which another one, or itself, said. It leaves
// it to others for a while, after it was opened as well: its clock may be wrong, which shows when it meets them.
func (r *replica) turnOf(at int64, by crdt.ReplicaID, a dotted.Address) int64 {
	x := &r.expiring
	if by == r.id && r.id != 0 || r.cfg.Alone {
		return at
	}
	order := (antientropy.LeafOf(a) ^ uint64(r.ID())) * 0x9e3779b97f4a7c15 >> 32
	after := othersAfter + time.Duration(order%uint64(othersSpread/time.Millisecond))*time.Millisecond
	if r.id == 0 {
		after += othersIdle
	}
	return max(at, x.began) + after.Milliseconds()
}

// nextExpired returns the next cell whose time has come.
func (r *replica) nextExpired(g *group, now int64) (next expiry, ok bool, err error) {
	x := &r.expiring
	for _, h := range []*expiryHeap{&x.waiting, &x.young, &x.old} {
		if h.first() <= now && (h == &x.waiting || len(x.waiting) < maxWaiting) {
			return heap.Pop(h).(expiry), true, nil
		}
	}
	if x.next > now || len(x.waiting) >= maxWaiting {
		return next, false, nil
	}
	if x.from == nil {
		x.from = []byte{prefixExpiry}
	}
	x.next = math.MaxInt64
	err = g.view.shot.Tree().ScanKeys(x.from, []byte{prefixExpiry + 1}, func(key []byte) bool {
		if len(key) < 9 {
			return true
		}
		if x.next = int64(binary.BigEndian.Uint64(key[1:])); x.next <= now {
			next, ok = expiry{x.next, string(key[9:])}, true
			x.from = append(append(x.from[:0], key...), 0)
		}
		return false
	})
	return next, ok, err
}

// Now returns the time by which keys have expired.
func (tx *Tx) Now() time.Time { return tx.g.now.Add(tx.g.r.expiring.clock.judges()) }

// Right returns what the time is, as far as that is known.
func (tx *Tx) Right() time.Time { return tx.g.now.Add(tx.g.r.expiring.clock.Ahead) }

// Timed reports whether any key may have an expiry.
func (tx *Tx) Timed() bool { return tx.g.timed || tx.g.r.expiring.timed }

// Shown returns what all transactions remember of fields that readers saw.
func (tx *Tx) Shown() *dotted.Shown { return &tx.g.r.expiring.shown }

// Shown returns nil: a view only reads.
func (v *View) Shown() *dotted.Shown { return nil }

// At has what has expired by a time hidden, which a clock shows. It returns the view.
func (v *View) At(wall time.Time, c Clock) *View {
	v.wall, v.clock = wall, c
	return v
}

// Now returns the time by which keys have expired.
func (v *View) Now() time.Time { return v.wall.Add(v.clock.judges()) }

// Right returns what the time is, as far as that is known.
func (v *View) Right() time.Time { return v.wall.Add(v.clock.Ahead) }

// Cleared implements dotted.Tx. Nobody removes anything in a view.
func (v *View) Cleared(dotted.Address) bool { return false }

// Timed reports whether any key may have an expiry.
func (v *View) Timed() bool { return v.timed }
