package gossip

import (
	"cmp"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/wire"
)

// Branch is deltas of one replica that were abandoned: the store that issued them had dots stand for two
// things, and issued what these did again under another id. A host whose own deltas of that replica are
// these must leave them too.
type Branch struct {
	Replica crdt.ReplicaID
	Common  uint64      // the last dot that stands for one thing only
	Links   []ChainLink // the abandoned deltas, the newest MaxChain of them in order
	// Healed is what a context contains that has all of the branch under its new names. It is empty
	// while the store that abandons the branch is at it.
	Healed crdt.VersionVector
	Moves  []Move // what the dots became, in order, at most MaxChain
	// Tries is how often it was healed before: again, if what it became was lost.
	Tries uint64
}

// maxBranches bounds the branches of one message.
const maxBranches = 1024

// Size is at most how many bytes the branch takes in a message.
func (b *Branch) Size() int { return 64 + 18*len(b.Links) + 18*len(b.Healed) + 36*len(b.Moves) }

// MaxMoved bounds the dots that the moves of one branch name.
const MaxMoved = 1 << 20

// Move says that the N dots of a branch from Was on became those from Now on.
type Move struct {
	Was, N uint64
	Now    crdt.Dot
}

// Has reports whether one of the branch's deltas ends at a counter with this hash.
func (b *Branch) Has(id crdt.ReplicaID, last uint64, hash crdt.Hash) bool {
	if id != b.Replica || last <= b.Common {
		return false
	}
	i, found := slices.BinarySearchFunc(b.Links, last, func(l ChainLink, last uint64) int {
		return cmp.Compare(l.Last, last)
	})
	return found && b.Links[i].Hash == hash
}

// Forgot reports whether the branch is so long that its delta that ends at a counter is not remembered.
func (b *Branch) Forgot(last uint64) bool {
	return len(b.Links) == MaxChain && b.Common < last && last < b.Links[0].Last
}

// Last returns the newest of the branch's dots.
func (b *Branch) Last() uint64 {
	if len(b.Links) == 0 {
		return b.Common
	}
	return b.Links[len(b.Links)-1].Last
}

// BranchName tells a branch from others that began at the same dot, as those of one image restored twice.
type BranchName struct {
	Replica crdt.ReplicaID
	Common  uint64
	Head    ChainLink // its newest delta
}

// Name returns the branch's name.
func (b *Branch) Name() BranchName {
	n := BranchName{Replica: b.Replica, Common: b.Common}
	if len(b.Links) > 0 {
		n.Head = b.Links[len(b.Links)-1]
	}
	return n
}

// WriteBranch writes b.
func WriteBranch(w *wire.Writer, b Branch) {
	w.Array(6)
	w.Uint(uint64(b.Replica))
	w.Uint(b.Common)
	writeLinks(w, b.Links)
	crdt.WriteVector(w, b.Healed)
	w.Array(4 * len(b.Moves))
	for _, m := range b.Moves {
		w.Uint(m.Was)
		w.Uint(m.N)
		w.Uint(uint64(m.Now.Replica))
		w.Uint(m.Now.Counter)
	}
	w.Uint(b.Tries)
}

// ReadBranch reads what WriteBranch wrote.
func ReadBranch(r *wire.Reader) (b Branch) {
	fields := r.Array(64)
	if fields < 5 {
		r.Fail("%d fields of a branch, want 5", fields)
	}
	b.Replica, b.Common = crdt.ReplicaID(r.Uint()), r.Uint()
	b.Links = readLinks(r)
	b.Healed = crdt.ReadVector(r)
	n := r.Array(4*MaxChain) / 4
	var moved uint64
	for i := 0; i < n && r.Err() == nil; i++ {
		m := Move{Was: r.Uint(), N: r.Uint()}
		if m.N > MaxMoved-moved {
			r.Fail("a branch that names too many dots")
			break
		}
		moved += m.N
		m.Now = crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()}
		b.Moves = append(b.Moves, m)
	}
	if fields > 5 {
		b.Tries = r.Uint()
	}
	last := b.Common
	for _, l := range b.Links {
		if l.Last <= last {
			r.Fail("a branch out of order")
			break
		}
		last = l.Last
	}
	return b
}

func writeLinks(w *wire.Writer, links []ChainLink) {
	w.Array(2 * len(links))
	for _, l := range links {
		w.Uint(l.Last)
		w.Uint(uint64(l.Hash))
	}
}

func readLinks(r *wire.Reader) (links []ChainLink) {
	n := r.Array(2*MaxChain) / 2
	for i := 0; i < n && r.Err() == nil; i++ {
		links = append(links, ChainLink{r.Uint(), crdt.Hash(r.Uint())})
	}
	return links
}

// nextBranches returns abandoned branches that the neighbour was not told of.
func (m *Mesh) nextBranches(n *neighbour) []byte {
	var news []Branch
	size := 0
	for _, b := range m.core.Branches() {
		name := b.Name()
		if len(b.Healed) == 0 || n.branches[name] > b.Tries {
			continue
		}
		if size += b.Size(); size > MaxFrame && len(news) > 0 {
			break
		}
		n.branches[name] = b.Tries + 1
		news = append(news, b)
	}
	if news == nil {
		return nil
	}
	return encodeAbandoned(news)
}

// An abandoned message tells of branches that the sender knows to be abandoned and healed. Those of one
// healing go together, unless they do not fit.
func encodeAbandoned(all []Branch) []byte {
	return frame(kindAbandoned, func(w *wire.Writer) {
		w.Array(1)
		w.Array(len(all))
		for _, b := range all {
			WriteBranch(w, b)
		}
	})
}

func decodeAbandoned(body []byte) (all []Branch, err error) {
	err = decode(body, 1, func(r *wire.Reader) {
		n := r.Array(maxBranches)
		for i := 0; i < n && r.Err() == nil; i++ {
			all = append(all, ReadBranch(r))
		}
	})
	return all, err
}
