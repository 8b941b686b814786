package hot

import (
	"math/bits"
	"sync/atomic"
)

// levels is how many levels a layer has. Of the nodes on one a quarter is on the next: there are
// enough for 4¹² records.
const levels = 12

// layer is a skip list of records (Pugh, 1990), in the order of their keys. The owner inserts, and
// others read meanwhile: a node is complete before the one in front of it leads there, and none is
// ever taken out.
type layer struct {
	head   node
	random uint64
	len    int   // records that have versions
	bytes  int64 // of what the tree does not have
	sealed bool
}

// node is a record, with its versions; none if there is only room for them.
type node struct {
	key    string
	layer  *layer
	newest atomic.Pointer[Version]
	next   atomic.Pointer[node]
	above  []atomic.Pointer[node] // on the levels from 1 on
	of     *kept                  // for which there is room
}

// vacate has what is kept hold the node no more.
func (n *node) vacate() {
	if n.of != nil && n.of.in == n {
		n.of.in = nil
	}
}

// last returns the newest version; nil if there is none, or no node.
func (n *node) last() *Version {
	if n == nil {
		return nil
	}
	return n.newest.Load()
}

func newLayer() *layer {
	return &layer{head: node{above: make([]atomic.Pointer[node], levels-1)}, random: 1}
}

// at returns the version that a snapshot sees; nil if that is none.
func (n *node) at(seq uint64) Record {
	for v := n.newest.Load(); v != nil; v = v.older.Load() {
		if v.seq <= seq {
			return v.of
		}
	}
	return nil
}

func (n *node) after(level int) *atomic.Pointer[node] {
	if level == 0 {
		return &n.next
	}
	return &n.above[level-1]
}

// finger is the last node in front of a key on each level; nil if that is the head.
type finger [levels]*node

// seek returns the first node at a key or beyond it. In before, unless it is nil, it leaves the
// last one in front of that on each level.
func (l *layer) seek(key string, before *finger) *node {
	at := &l.head
	var beyond *node // known to be so, from the level above
	for level := levels - 1; level >= 0; level-- {
		next := at.after(level).Load()
		for next != beyond && next.key < key {
			at, next = next, next.after(level).Load()
		}
		if beyond = next; before != nil {
			before[level] = at
		}
	}
	return beyond
}

// room returns the node of a key, which is inserted without a version if it is not there. The finger
// is where the last one was, and the way from there is short if the keys are close.
func (l *layer) room(key string, from *finger) *node {
	if from[0] == nil || from[0].key >= key {
		*from = finger{}
		for level := range from {
			from[level] = &l.head
		}
	}
	var at *node // of the level above, if the way went on there
	for level := levels - 1; level >= 0; level-- {
		if at == nil || at.key < from[level].key {
			at = from[level]
		}
		next := at.after(level).Load()
		for next != nil && next.key < key {
			at, next = next, next.after(level).Load()
		}
		if at == from[level] {
			at = nil
		} else {
			from[level] = at
		}
	}
	return l.insertBehind(key, from)
}

func (l *layer) get(key string) *node {
	if n := l.seek(key, nil); n != nil && n.key == key {
		return n
	}
	return nil
}

// insert returns the node of a key, which is added without a version if it is not there.
func (l *layer) insert(key string) *node {
	var before finger
	l.seek(key, &before)
	return l.insertBehind(key, &before)
}

// insertBehind does that behind where seek found that it belongs.
func (l *layer) insertBehind(key string, before *finger) *node {
	if next := before[0].next.Load(); next != nil && next.key == key {
		return next
	}
	n := &node{key: key, layer: l}
	n.next.Store(before[0].next.Load())
	if height := l.draw(); height > 0 {
		n.above = make([]atomic.Pointer[node], height)
	}
	for level := range n.above {
		n.above[level].Store(before[level+1].above[level].Load())
	}
	before[0].next.Store(n)
	for level := range n.above {
		before[level+1].above[level].Store(n)
	}
	return n
}

// draw returns on how many levels above the first a node is to be (an xorshift generator's bits, so
// that a replay draws the same).
func (l *layer) draw() int {
	l.random ^= l.random << 13
	l.random ^= l.random >> 7
	l.random ^= l.random << 17
	return min(bits.TrailingZeros64(l.random)/2, levels-1)
}
