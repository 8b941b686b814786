package antientropy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// replica is a model of a replica: it puts, removes and joins whole states, each by the book.
type replica struct {
	id      crdt.ReplicaID
	context crdt.VersionVector
	heads   delta.Heads
	cells   map[dotted.Address]dotted.Cell
	tree    *Tree
}

func newReplica(id crdt.ReplicaID) *replica {
	return &replica{
		id:      id,
		context: crdt.VersionVector{},
		heads:   delta.Heads{},
		cells:   map[dotted.Address]dotted.Cell{},
		tree:    new(Tree),
	}
}

// issue returns the next dot. Heads are made up, but the same wherever the dot is known.
func (r *replica) issue() crdt.Dot {
	d := crdt.Dot{Replica: r.id, Counter: r.context[r.id] + 1}
	r.context[r.id] = d.Counter
	r.heads[r.id] = delta.Hash(d.Counter * 1_000_003)
	return d
}

// put writes an entry that replaces what the replica sees.
func (r *replica) put(a dotted.Address, payload []byte) {
	r.set(a, dotted.Cell{{Dot: r.issue(), Payload: payload}})
}

// add writes an entry beside what the replica sees, as a counter's share.
func (r *replica) add(a dotted.Address, payload []byte) {
	r.set(a, r.cells[a].With(dotted.Entry{Dot: r.issue(), Payload: payload}))
}

// remove empties a cell.
func (r *replica) remove(a dotted.Address) {
	r.issue()
	r.set(a, nil)
}

// set replaces a cell and keeps the tree.
func (r *replica) set(a dotted.Address, cell dotted.Cell) {
	leaf := LeafIndex(LeafOf(a))
	for _, e := range r.cells[a] {
		r.tree.Sub(leaf, Of(a, e))
	}
	for _, e := range cell {
		r.tree.Add(leaf, Of(a, e))
	}
	r.cells[a] = cell
	if len(cell) == 0 {
		delete(r.cells, a)
	}
}

// join merges the whole state of o: what a repair must come to.
func (r *replica) join(o *replica) {
	for a := range o.cells {
		if _, ok := r.cells[a]; !ok {
			r.set(a, dotted.Join(nil, r.context, o.cells[a], o.context))
		}
	}
	for _, a := range slices.Collect(maps.Keys(r.cells)) {
		r.set(a, dotted.Join(r.cells[a], r.context, o.cells[a], o.context))
	}
	r.adopt(o.context, o.heads)
}

func (r *replica) adopt(v crdt.VersionVector, heads delta.Heads) {
	for id, n := range v {
		if n > r.context[id] {
			r.context[id], r.heads[id] = n, heads[id]
		}
	}
}

func (r *replica) clone() *replica {
	return &replica{
		id:      r.id,
		context: r.context.Clone(),
		heads:   maps.Clone(r.heads),
		cells:   maps.Clone(r.cells),
		tree:    r.tree.Clone(),
	}
}

// state is what two converged replicas have in common, for comparing.
type state struct {
	Context crdt.VersionVector
	Heads   delta.Heads
	Cells   map[dotted.Address]dotted.Cell
	Root    Fingerprint
}

func (r *replica) state() state { return state{r.context, r.heads, r.cells, r.tree.Root()} }

// moment is a Snapshot of a replica.
type moment struct {
	*replica
	bases     *delta.Bases
	addresses []dotted.Address
	leaves    map[int][]dotted.Address
}

func (r *replica) pin() *moment {
	m := &moment{replica: r.clone(), bases: &delta.Bases{}, leaves: map[int][]dotted.Address{}}
	m.addresses = slices.SortedFunc(maps.Keys(m.cells), dotted.ComparePlaces)
	for _, a := range m.addresses {
		leaf := LeafIndex(LeafOf(a))
		m.leaves[leaf] = append(m.leaves[leaf], a)
	}
	return m
}

func (m *moment) Count() int { return len(m.cells) }

func (m *moment) Context() (crdt.VersionVector, delta.Heads) { return m.context, m.heads }

func (m *moment) Vector() crdt.VersionVector { return m.context }

func (m *moment) Bases() *delta.Bases { return m.bases }

func (m *moment) Node(level, index int) Fingerprint { return m.tree.Node(level, index) }

func (m *moment) Cell(a dotted.Address) (dotted.Cell, error) { return m.cells[a], nil }

func (m *moment) Cells(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return m.visit(m.addresses, after, fn)
}

func (m *moment) Leaf(leaf int, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return m.visit(m.leaves[leaf], after, fn)
}

func (m *moment) visit(
	sorted []dotted.Address, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool,
) error {
	i, found := slices.BinarySearchFunc(sorted, after, dotted.ComparePlaces)
	if found {
		i++
	}
	for _, a := range sorted[i:] {
		if !fn(a, m.cells[a]) {
			break
		}
	}
	return nil
}

// stage is a Staging in memory that refuses to be given anything twice.
type stage struct {
	Added   map[dotted.Address]dotted.Cell
	Removed map[dotted.Address][]crdt.Dot
}

func newStage() *stage {
	return &stage{map[dotted.Address]dotted.Cell{}, map[dotted.Address][]crdt.Dot{}}
}

func (s *stage) Add(a dotted.Address, entries []dotted.Entry) error {
	for _, e := range entries {
		if s.Added[a].Has(e.Dot) {
			return fmt.Errorf("%v at %q was added twice", e.Dot, a)
		}
		s.Added[a] = s.Added[a].With(e)
	}
	return nil
}

func (s *stage) Remove(a dotted.Address, dots []crdt.Dot) error {
	for _, d := range dots {
		if slices.Contains(s.Removed[a], d) {
			return fmt.Errorf("%v at %q was removed twice", d, a)
		}
		s.Removed[a] = append(s.Removed[a], d)
	}
	return nil
}

// flip applies what was staged, and the pinned context with it.
func (s *stage) flip(r *replica, result Result) {
	for a, dots := range s.Removed {
		r.set(a, r.cells[a].Without(dots))
	}
	for a, entries := range s.Added {
		cell := r.cells[a]
		for _, e := range entries {
			cell = cell.With(e)
		}
		r.set(a, cell)
	}
	r.adopt(result.Context, result.Heads)
}

// crowded are addresses that meet in few leaves, some of them neighbours: the tree would spread a
// handful of ordinary ones so thinly that no leaf held two. Half of them are so long that the
// order of their places is not that of the addresses.
var crowded = sync.OnceValue(func() []dotted.Address {
	const each = 5
	found := map[int]int{0: 0, 1: 0, 17: 0, 4096: 0, 40_000: 0}
	var all []dotted.Address
	for i := 0; len(all) < each*len(found); i++ {
		name := fmt.Sprint("key", i)
		if i%2 == 1 {
			name = strings.Repeat("long", 80) + name
		}
		a := dotted.KeyAddress(name).Type(crdt.TypeString)
		leaf := LeafIndex(LeafOf(a))
		if n, ok := found[leaf]; ok && n < each {
			found[leaf]++
			all = append(all, a)
		}
	}
	return all
})
