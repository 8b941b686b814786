package antientropy

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Shape of the tree, the same in every replica for ever: part of the protocol.
const (
	// Fanout is the number of children of an inner node.
	Fanout = 16
	// Levels is the number of levels below the root, and so the level of the leaves.
	Levels = 4
	// Leaves is the number of leaves: Fanout to the power of Levels.
	Leaves = 1 << (fanoutBits * Levels)
	// Pages is the number of ranges of leaves, all of one size, by which a tree is stored. Stores, and not the
	// protocol, depend on it.
	Pages = 1 << (fanoutBits * topLevels)
	// PageLeaves is the number of leaves of each.
	PageLeaves = Leaves / Pages

	fanoutBits = 4
	topLevels  = 2 // below the root, that are not in pages
	pages      = Pages
	topNodes   = (pages*Fanout - 1) / (Fanout - 1)
)

// LeafOf returns the hash of an address that decides its place in the tree; LeafIndex(LeafOf(a))
// is the leaf. It is a SHA-256 under a fixed key, the domain byte: every replica computes the
// same place, and it says nothing about other hashes of the address. The key is public. A client
// that searches for addresses of one leaf will find them, and make that leaf long to compare; it
// gains nothing else, because leaves of any length are compared in bounded pieces.
func LeafOf(a dotted.Address) uint64 {
	var stack [512]byte
	b := append(append(stack[:0], domainAddress), a...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:8])
}

// LeafIndex returns the leaf, from 0 to Leaves-1, of a hash that LeafOf returned: its top 16
// bits. Cells stored in the order of their hashes are therefore stored leaf by leaf.
func LeafIndex(hash uint64) int { return int(hash >> (64 - fanoutBits*Levels)) }

// Tree holds the fingerprint of every leaf and, in each inner node, the sum of its children.
// Updates are in place and touch five nodes; the size is 1.1 MB at most, however many entries there
// are. The zero Tree is empty and ready. It is not safe for concurrent use.
//
// Below level 2 its nodes lie in pages, one for each node of that level, which clones share until one
// of them changes; and so do the leaves of a page, in groups of one parent.
type Tree struct {
	top   [topNodes]Fingerprint // level after level: the children of node n begin at Fanout*n + 1
	pages [pages]*page          // nil: all its nodes are zero
	owned [pages]bool           // no other tree has this page
}

// page is the children of a node, and their children, the leaves.
type page struct {
	nodes  [Fanout]Fingerprint
	leaves [Fanout]*group // nil: all are zero
	owned  uint16         // groups that no other page has, a bit each
}

// group is the leaves below one node.
type group [Fanout]Fingerprint

// Add puts an entry's fingerprint into a leaf.
func (t *Tree) Add(leaf int, f Fingerprint) {
	i, child := leaf/PageLeaves, leaf/Fanout%Fanout
	p := t.own(i)
	g := p.own(child)
	g[leaf%Fanout] = g[leaf%Fanout].Add(f)
	p.nodes[child] = p.nodes[child].Add(f)
	for n := topNodes - pages + i; ; n = (n - 1) / Fanout {
		t.top[n] = t.top[n].Add(f)
		if n == 0 {
			return
		}
	}
}

// own returns a page that may be changed.
func (t *Tree) own(i int) *page {
	if !t.owned[i] {
		p := new(page)
		if old := t.pages[i]; old != nil {
			p.nodes, p.leaves = old.nodes, old.leaves
		}
		t.pages[i], t.owned[i] = p, true
	}
	return t.pages[i]
}

// own returns a group that may be changed.
func (p *page) own(i int) *group {
	if p.owned&(1<<i) == 0 {
		g := new(group)
		if old := p.leaves[i]; old != nil {
			*g = *old
		}
		p.leaves[i], p.owned = g, p.owned|1<<i
	}
	return p.leaves[i]
}

// Sub takes an entry's fingerprint out of a leaf.
func (t *Tree) Sub(leaf int, f Fingerprint) {
	t.Add(leaf, Fingerprint{}.Sub(f))
}

// Root returns the fingerprint of everything.
func (t *Tree) Root() Fingerprint { return t.top[0] }

// Node returns the index-th node of a level: level 0 is the root, level Levels the leaves. It
// panics for a node that does not exist.
func (t *Tree) Node(level, index int) Fingerprint {
	if index < 0 || index >= nodesAt(level) {
		panic("antientropy: node outside the tree")
	}
	if level <= topLevels {
		return t.top[(nodesAt(level)-1)/(Fanout-1)+index]
	}
	child := index
	if level == Levels {
		child = index / Fanout
	}
	p := t.pages[child/Fanout]
	switch {
	case p == nil:
		return Fingerprint{}
	case level < Levels:
		return p.nodes[child%Fanout]
	case p.leaves[child%Fanout] == nil:
		return Fingerprint{}
	}
	return p.leaves[child%Fanout][index%Fanout]
}

// WritePage writes the leaves of the i-th page, each as WriteFingerprint does.
func (t *Tree) WritePage(w *wire.Writer, i int) {
	for _, g := range orZero(t.pages[i]).leaves {
		if g == nil {
			w.Raw(zeroGroup)
			continue
		}
		for _, f := range g {
			WriteFingerprint(w, f)
		}
	}
}

// zeroGroup is what WritePage writes of leaves that are all zero.
var zeroGroup = wire.Encode(func(w *wire.Writer) {
	for range Fanout {
		WriteFingerprint(w, Fingerprint{})
	}
})

// nodesAt returns the number of nodes of a level, 0 for one that does not exist.
func nodesAt(level int) int {
	if level < 0 || level > Levels {
		return 0
	}
	return 1 << (fanoutBits * level)
}

// leavesBelow returns the leaves [first, end) below a node.
func leavesBelow(level, index int) (first, end int) {
	each := nodesAt(Levels - level)
	return index * each, (index + 1) * each
}

// Clone returns a copy that later updates of t do not change: one memory copy of 7 KB, and later one
// of about 700 bytes for a leaf that changes. It may be read by another goroutine while t changes.
func (t *Tree) Clone() *Tree {
	t.owned = [pages]bool{}
	c := *t
	return &c
}

// Equal reports whether every node is the same.
func (t *Tree) Equal(o *Tree) bool {
	if t.top != o.top {
		return false
	}
	for i := range t.pages {
		if !t.EqualPage(i, o) {
			return false
		}
	}
	return true
}

// EqualPage reports whether the i-th page's leaves are the same. Of a clone that costs nothing where neither was changed.
func (t *Tree) EqualPage(i int, o *Tree) bool {
	p, q := t.pages[i], o.pages[i]
	if p == q {
		return true
	}
	p, q = orZero(p), orZero(q)
	if p.nodes != q.nodes {
		return false
	}
	for j, g := range p.leaves {
		if h := q.leaves[j]; g != h && *orZero(g) != *orZero(h) {
			return false
		}
	}
	return true
}

func orZero[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}
