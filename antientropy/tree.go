package antientropy

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/peerd/peerd/crdt"
)

// Shape of the tree, the same in every replica for ever: part of the protocol.
const (
	// Fanout is the number of children of an inner node.
	Fanout = 16
	// Levels is the number of levels below the root, and so the level of the leaves.
	Levels = 4
	// Leaves is the number of leaves: Fanout to the power of Levels.
	Leaves = 1 << (fanoutBits * Levels)

	fanoutBits = 4
	treeNodes  = (Leaves*Fanout - 1) / (Fanout - 1)
	firstLeaf  = treeNodes - Leaves
)

// LeafOf returns the hash of an address that decides its place in the tree; LeafIndex(LeafOf(a))
// is the leaf. It is a SHA-256 under a fixed key, the domain byte: every replica computes the
// same place, and it says nothing about other hashes of the address. The key is public. A client
// that searches for addresses of one leaf will find them, and make that leaf long to compare; it
// gains nothing else, because leaves of any length are compared in bounded pieces.
func LeafOf(a crdt.Address) uint64 {
	var stack [512]byte
	b := append(append(stack[:0], domainAddress), a...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:8])
}

// LeafIndex returns the leaf, from 0 to Leaves-1, of a hash that LeafOf returned: its top 16
// bits. Cells stored in the order of their hashes are therefore stored leaf by leaf.
func LeafIndex(hash uint64) int { return int(hash >> (64 - fanoutBits*Levels)) }

// Tree holds the fingerprint of every leaf and, in each inner node, the sum of its children.
// Updates are in place and touch five nodes; the size is 1.1 MB, however many entries there are.
// The zero Tree is empty and ready. It is not safe for concurrent use; a Clone is independent.
type Tree struct {
	nodes [treeNodes]Fingerprint // level after level: the children of node n begin at Fanout*n + 1
}

// Add puts an entry's fingerprint into a leaf.
func (t *Tree) Add(leaf int, f Fingerprint) {
	for n := firstLeaf + leaf; ; n = (n - 1) / Fanout {
		t.nodes[n] = t.nodes[n].Add(f)
		if n == 0 {
			return
		}
	}
}

// Sub takes an entry's fingerprint out of a leaf.
func (t *Tree) Sub(leaf int, f Fingerprint) {
	t.Add(leaf, Fingerprint{}.Sub(f))
}

// Root returns the fingerprint of everything.
func (t *Tree) Root() Fingerprint { return t.nodes[0] }

// Node returns the index-th node of a level: level 0 is the root, level Levels the leaves. It
// panics for a node that does not exist.
func (t *Tree) Node(level, index int) Fingerprint {
	if index < 0 || index >= nodesAt(level) {
		panic("antientropy: node outside the tree")
	}
	return t.nodes[(nodesAt(level)-1)/(Fanout-1)+index]
}

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

// Clone returns a copy that later updates of t do not change: one memory copy of 1.1 MB.
func (t *Tree) Clone() *Tree {
	c := *t
	return &c
}

// Equal reports whether every node is the same.
func (t *Tree) Equal(o *Tree) bool { return t.nodes == o.nodes }
