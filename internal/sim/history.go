package sim

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// mutation is one thing that a transaction does, and what it is meant to do: not in terms of dots
// and cells' entries, but of what it writes and what it removes of what it had seen.
type mutation struct {
	what string // for the trace
	do   func(f crdt.Fields) error

	cell  dotted.Address // where it writes; "" for nowhere
	text  string         // what it writes
	adds  int64          // what it adds
	write bool           // whether it writes text
	count bool           // whether it counts adds

	place *place // where it inserts, of an element of a list

	entry, tail int      // the id of an entry that it adds to a stream, or has added
	grouped     *grouped // what it does to a group of a stream

	clears      dotted.Address // the prefix of cells of which it removes what it had seen
	all         bool           // it clears everything
	timed       bool           // and some of that may expire
	keepsCounts bool           // but not increments
	keepsTexts  bool           // but not texts

	expire func(f crdt.Fields, at time.Time) error // instead of do: says that the key expires
	after  time.Duration                           // so much later
	until  int64                                   // which is then, in milliseconds since 1970; also of a write
	whole  bool                                    // it replaces all that its key holds
	purges bool                                    // it removes what has expired
}

// transaction is one that a client asked for and a replica accepted.
type transaction struct {
	id     int
	host   *host
	muts   []mutation
	time   dotted.Time
	now    int64                   // the time by which keys had expired for it
	ended  map[dotted.Address]bool // names that it removed with a time that had not come: see end
	first  crdt.Dot                // its delta's dots are first to last
	last   uint64
	owner  int      // index of first.Replica
	saw    []uint64 // what its replica had seen, by replica index
	acked  bool
	disk   *disk  // of the host, then
	lost   bool   // nobody is left who had it, and nobody promised that it would last
	marker string // which it leaves in a world of forks
}

// history is every transaction of a world, and what each of them had seen. It knows of a delta
// only its dots: they name the transaction in a replica's context.
type history struct {
	all      []*transaction
	replicas map[crdt.ReplicaID]int    // index by id
	hashes   map[crdt.Dot]delta.Hash   // of deltas, by their first dots
	before   map[delta.Hash]delta.Hash // of deltas, the hash of the replica's delta before it
	byKey    map[string][]*cell
	keys     []string                     // of byKey, in the order of first use
	said     map[dotted.Address][]*effect // by key or field: those that say when it expires
	fields   map[string][]dotted.Address  // by key: its fields of which that was said
	lists    map[string]*listed           // by key

	live      []*effect // memory of readings
	want, got reading   // likewise
}

// cell is what was written to one address. Those of a key are in the order of their addresses.
type cell struct {
	at      dotted.Address
	typ     crdt.Type // the last in its address
	stream  bool      // it is in a stream
	effects []*effect
}

// effect is one mutation of a transaction.
type effect struct {
	*mutation
	of *transaction
	n  int // its place in the transaction

	united []string // what a run of registers has counted then: see gather

	progress *progress // what it says of a group
	pending  crdt.Pending
	amount   int // of concurrent ones the greatest counts

	removers []*transaction // that remove what it wrote: none that had seen another of them remove it
}

func newHistory() *history {
	return &history{
		replicas: map[crdt.ReplicaID]int{},
		hashes:   map[crdt.Dot]delta.Hash{},
		before:   map[delta.Hash]delta.Hash{},
		byKey:    map[string][]*cell{},
		said:     map[dotted.Address][]*effect{},
		fields:   map[string][]dotted.Address{},
		lists:    map[string]*listed{},
	}
}

// index returns the index of a replica id.
func (h *history) index(id crdt.ReplicaID) int {
	i, ok := h.replicas[id]
	if !ok {
		i = len(h.replicas)
		h.replicas[id] = i
	}
	return i
}

// dense returns a context by replica index.
func (h *history) dense(v crdt.VersionVector) []uint64 {
	out := make([]uint64, len(h.replicas), len(h.replicas)+1)
	for id, n := range v {
		i, ok := h.replicas[id]
		if ok {
			out[i] = n
		}
	}
	return out
}

// has reports whether a dense context holds a transaction.
func has(seen []uint64, t *transaction) bool {
	return t.owner < len(seen) && seen[t.owner] >= t.last
}

// sees reports whether an effect had seen another one.
func (e *effect) sees(o *effect) bool {
	if e.of == o.of {
		return o.n < e.n
	}
	return has(e.of.saw, o.of)
}

// add notes a transaction that a replica accepted.
func (h *history) add(t *transaction) {
	t.id = len(h.all)
	t.owner = h.index(t.first.Replica)
	h.all = append(h.all, t)
	for i := range t.muts {
		e := &effect{mutation: &t.muts[i], of: t, n: i}
		if e.all {
			if e.timed {
				t.end("")
			}
			for _, key := range h.keys {
				e.remove(h.byKey[key])
				h.unsay(dotted.KeyAddress(key), t)
				for _, field := range h.fields[key] {
					h.unsay(field, t)
				}
			}
			continue
		}
		key := cmp.Or(e.cell, e.clears).Key() // both are of one
		cells, known := h.byKey[key]
		if !known {
			h.keys = append(h.keys, key)
		}
		h.byKey[key] = h.effect(e, key, cells)
		if e.place != nil {
			h.inserted(key, e)
		}
	}
}

// remove notes what an effect removes of a key's.
func (e *effect) remove(cells []*cell) {
	for i := find(cells, e.clears); i < len(cells) && strings.HasPrefix(string(cells[i].at), string(e.clears)); i++ {
		for _, o := range cells[i].effects {
			if e.removes(o) && !o.removedBy(e.of.saw) { // else whoever has seen this has seen that
				o.removers = append(o.removers, e.of)
			}
		}
	}
}

// put adds an effect to those on its cell, if it has one.
func (e *effect) put(cells []*cell) []*cell {
	if e.cell == "" {
		return cells
	}
	i := find(cells, e.cell)
	if i == len(cells) || cells[i].at != e.cell {
		shape := e.cell.Shape()
		cells = slices.Insert(cells, i, &cell{at: e.cell, typ: last(e.cell), stream: crdt.Type(shape[0]) == crdt.TypeStream})
	}
	cells[i].effects = append(cells[i].effects, e)
	return cells
}

// find returns the index of the first cell at an address or behind.
func find(cells []*cell, at dotted.Address) int {
	return sort.Search(len(cells), func(i int) bool { return cells[i].at >= at })
}

// committed notes a delta that some replica committed. It reports whether its dots were given to
// another one before.
func (h *history) committed(d *delta.Delta) (again bool) {
	first := d.Dot(0)
	old, known := h.hashes[first]
	h.hashes[first], h.before[d.Hash()] = d.Hash(), d.Prev
	return known && old != d.Hash()
}

// causal returns an error if a context holds a transaction and not all that this had seen.
func (h *history) causal(seen []uint64) error {
	for _, t := range h.all {
		if !has(seen, t) {
			if t.owner < len(seen) && seen[t.owner] >= t.first.Counter {
				return fmt.Errorf("the context holds half of transaction %d", t.id)
			}
			continue
		}
		for i, n := range t.saw {
			if n > 0 && (i >= len(seen) || seen[i] < n) {
				return fmt.Errorf("the context holds transaction %d and not all that it had seen", t.id)
			}
		}
	}
	return nil
}
