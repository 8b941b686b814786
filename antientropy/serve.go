package antientropy

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

var (
	// ErrBadRequest is wrapped when a request makes no sense: the puller is broken.
	ErrBadRequest = errors.New("bad repair request")
	// ErrDamaged is wrapped when a leaf's cells are not what its fingerprint says: the source
	// must check itself, and serve nobody meanwhile.
	ErrDamaged = errors.New("cells and fingerprints disagree")
	// ErrTooManyReplicas is wrapped when a context does not fit into a message.
	ErrTooManyReplicas = errors.New("too many replicas for a message")
)

// Serve answers a request from a pinned snapshot. All requests of a session must be served from
// the same one. It keeps nothing between calls; the response may share memory with the snapshot's
// cells. Besides the sentinels above, errors are the snapshot's own.
//
// Its cost is what it sends, and for KindLeaves also a hash of each entry of the leaves that it
// begins.
func Serve(src Snapshot, q Request) (Response, error) {
	return ServeIn(0, src, q)
}

// ServeIn is Serve with responses that end elsewhere, in bytes: tests have many with few cells. 0 is where Serve's do.
func ServeIn(size int, src Snapshot, q Request) (Response, error) {
	if err := q.check(); err != nil {
		return Response{}, err
	}
	size = cmp.Or(size, chunkSize)
	switch q.Kind {
	case KindPin:
		return servePin(src)
	case KindBases:
		return serveBases(src, q, size), nil
	case KindNodes:
		return serveNodes(src, q), nil
	case KindScan:
		c := chunk{left: size}
		err := walk(src, src.Cells, q.After, c.add)
		return c.response(q.Kind), err
	default:
		return serveLeaves(src, q, size)
	}
}

func servePin(src Snapshot) (Response, error) {
	context := src.Vector()
	_, heads := src.Context()
	if len(context) > maxContext {
		return Response{}, fmt.Errorf("%w: %d (limit %d)",
			ErrTooManyReplicas, len(context), maxContext)
	}
	return Response{Kind: KindPin, Context: context, Heads: heads, Root: src.Node(0, 0), Cells: src.Count()}, nil
}

// serveBases returns the tables that are not in the puller's context, as far as the source can tell.
func serveBases(src Snapshot, q Request, size int) Response {
	held, _ := src.Bases().Expand(q.Held, nil)
	p, skip := Response{Kind: KindBases}, q.Skip
	for _, t := range src.Bases().Tables() {
		switch bytes := partOverhead + 27*(len(t.Bases)+1); {
		case held.Has(t.Dot):
		case skip > 0:
			skip--
		case bytes > size && len(p.Tables) > 0:
			p.More = true
			return p
		default:
			p.Tables = append(p.Tables, t)
			size -= bytes
		}
	}
	return p
}

func serveNodes(src Snapshot, q Request) Response {
	salt := saltOf(src.Node(0, 0))
	children := make([]uint64, 0, Fanout*len(q.Nodes))
	for _, n := range q.Nodes {
		for i := range Fanout {
			children = append(children, salt.short(src.Node(q.Level+1, n*Fanout+i)))
		}
	}
	return Response{Kind: KindNodes, Children: children}
}

func serveLeaves(src Snapshot, q Request, size int) (Response, error) {
	c := chunk{left: size, sees: true, lacks: q.Lacks}
	after := q.After
	var all [][]int
	for i, leaf := range q.Leaves {
		lacking, err := c.addLeaf(src, leaf, after, q.Have[i])
		if err != nil {
			return Response{}, err
		}
		all = append(all, lacking)
		if c.more {
			break
		}
		after = Cursor{}
	}
	p := c.response(KindLeaves)
	p.Lacking = all
	return p, nil
}

// check validates what a puller sent.
func (q *Request) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrBadRequest}, args...)...)
	}
	switch q.Kind {
	case KindPin, KindScan, KindBases:
		return nil
	case KindNodes:
		if q.Level < 0 || q.Level >= Levels {
			return bad("level %d", q.Level)
		}
		if !ascending(q.Nodes, nodesAt(q.Level)) || len(q.Nodes) > MaxNodes {
			return bad("%d nodes of level %d", len(q.Nodes), q.Level)
		}
		return nil
	case KindLeaves:
		if !ascending(q.Leaves, Leaves) || len(q.Leaves) > MaxLeaves {
			return bad("%d leaves", len(q.Leaves))
		}
		if len(q.Have) != len(q.Leaves) {
			return bad("what the puller has of %d of %d leaves", len(q.Have), len(q.Leaves))
		}
		if a := q.After.Address; q.After != (Cursor{}) && LeafIndex(LeafOf(a)) != q.Leaves[0] {
			return bad("a cursor outside the first leaf")
		}
		return nil
	}
	return bad("kind %#x", byte(q.Kind))
}

// ascending reports whether indexes are in [0, end), in order, without repetition, and at least
// one.
func ascending(indexes []int, end int) bool {
	last := -1
	for _, i := range indexes {
		if i <= last || i >= end {
			return false
		}
		last = i
	}
	return last >= 0
}

// chunk collects the parts of one response.
type chunk struct {
	left  int                // bytes until it is full
	sees  bool               // payloads are wanted only of dots that it lacks
	lacks crdt.VersionVector // the first of them of each replica
	parts []Part
	more  bool // something did not fit
}

func (c *chunk) response(k Kind) Response {
	return Response{Kind: k, Parts: c.parts, More: c.more}
}

// add takes as many entries as fit, at least one into an empty chunk, and reports whether there
// is room.
func (c *chunk) add(a dotted.Address, cell dotted.Cell) bool {
	for i, e := range cell {
		if c.more {
			break
		}
		if first := c.lacks[e.Dot.Replica]; c.sees && (first == 0 || e.Dot.Counter < first) {
			e.Payload = nil
		}
		size := entryOverhead + len(e.Payload)
		if i == 0 {
			size += partOverhead + len(a)
		}
		if size > c.left && len(c.parts) > 0 {
			c.more = true
			break
		}
		c.left -= size
		if i == 0 {
			c.parts = append(c.parts, Part{Address: a, Entries: make(dotted.Cell, 0, len(cell))})
		}
		part := &c.parts[len(c.parts)-1]
		part.Entries = append(part.Entries, e)
	}
	return !c.more
}

// addLeaf adds the cells of a leaf, from a cursor on, that are not among those that the puller has, and returns which of
// these are not in the leaf, as far as it was read. A leaf that is begun is read to its end, also when the chunk is full, to
// compare the sum of what the disk holds with the fingerprint in memory.
func (c *chunk) addLeaf(src Snapshot, leaf int, after Cursor, have []uint64) (lacking []int, err error) {
	salt := saltOf(src.Node(0, 0))
	found := make(map[uint64]bool, len(have))
	for _, h := range have {
		found[h] = false
	}
	var sum Fingerprint
	add := func(a dotted.Address, cell dotted.Cell) bool {
		f := ofCell(a, cell)
		sum = sum.Add(f)
		if _, has := found[salt.short(f)]; has {
			found[salt.short(f)] = true
			return true
		}
		if a == after.Address {
			cell = behind(cell, after.Dot)
		}
		return c.add(a, cell) || after == (Cursor{})
	}
	if err := fromCell(src, leaf, after.Address, add); err != nil {
		return nil, err
	}
	if after == (Cursor{}) && sum != src.Node(Levels, leaf) {
		return nil, fmt.Errorf("leaf %d: %w", leaf, ErrDamaged)
	}
	for i, h := range have {
		if !found[h] {
			lacking = append(lacking, i)
		}
	}
	return lacking, nil
}

// ofCell returns the fingerprint of a cell.
func ofCell(a dotted.Address, cell dotted.Cell) (sum Fingerprint) {
	for _, e := range cell {
		sum = sum.Add(Of(a, e))
	}
	return sum
}
