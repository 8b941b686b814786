package antientropy

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

var (
	// ErrBadSource is wrapped when a response does not answer its request, or contradicts an
	// earlier one: try another source.
	ErrBadSource = errors.New("bad repair source")
	// ErrDiverged is wrapped when both sides have seen the same dots and hold different things:
	// one is damaged, or a replica issued a dot twice. Another source may help, merging would
	// not.
	ErrDiverged = errors.New("same context, different contents")
)

// Result is what a session did. It is final when the session is done; before, the counts are
// progress.
type Result struct {
	Context crdt.VersionVector // pinned at the source, to be joined into the local one at the flip
	Heads   delta.Heads        // of the pinned context
	Root    Fingerprint        // of the pinned tree
	Added   int                // entries staged to be added
	Removed int                // entries staged to be removed
	Cells   int                // received
	All     int                // cells of the source if all of them are sent, as it says; else 0
	Bytes   int64              // of addresses and payloads received
}

// Puller is the pulling side of a session, and lives for one. An error ends it, whereupon the
// stage must be thrown away; every later call returns the same error. It is used by one
// goroutine.
type Puller struct {
	local Snapshot
	stage Staging

	err    error
	asked  Request // awaits its response
	result Result
	seen   crdt.VersionVector // what both contexts hold
	lacks  crdt.VersionVector // the first dots of the source's that this one has not

	// Bootstrap.
	loading bool
	loaded  Fingerprint              // sum of what was staged
	came    func() (Snapshot, error) // see Continue
	mends   bool                     // what is here is of no context: it is to be what the source has

	// Descent.
	salt   salt
	level  int        // of nodes
	nodes  []openNode // differ, to be opened, ascending
	below  []openNode // found to differ at the next level, ascending
	leaves []int      // differ, to be compared, ascending
	gone   [][2]int   // leaves [first, end) of which the source has nothing
	own    []own      // what is here of those that were asked for
	listed int        // how many cells a request names at most

	after Cursor // the last entry received, in all cells or in the first of leaves
}

// openNode is a node that differs, with the source's short fingerprint of it.
type openNode struct {
	index  int
	theirs uint64
}

// own is what the puller has of a leaf: the first cells behind a cursor, and that of the cursor,
// without payloads.
type own struct {
	cells []Part
	all   bool // there are no more
}

// NewPuller returns a session that compares local with a source and stages the differences. What
// it handles first is the response with the source's moment.
func NewPuller(local Snapshot, stage Staging) *Puller {
	return &Puller{local: local, stage: stage, asked: Request{Kind: KindPin}, listed: MaxListed}
}

// Continue has the bootstrap of an empty replica go on behind the last cell that other sources
// brought, of other moments. Once the rest is staged came returns all that is here, which is
// compared with the source like any other replica's cells: what differs is staged, so that in the
// end the source's moment is here and nothing else.
func (p *Puller) Continue(last dotted.Address, came func() (Snapshot, error)) {
	p.after = Cursor{last, crdt.Dot{Replica: math.MaxUint64, Counter: math.MaxUint64}}
	p.came = came
}

// Result returns what was done so far.
func (p *Puller) Result() Result { return p.result }

// Handle takes the response to the last request and returns the next one, or done. Then
// everything is staged. Errors are ErrBadSource, ErrDiverged, and those of the
// snapshot and stage.
//
// One call reads at most the local cells of MaxLeaves leaves up to MaxListed of them and one leaf
// more, and stages at most what the response holds and what these cells held. So the source does
// not wait for long. The last one, for which it need not be there any more, also reads those that
// it has nothing of, however many there are.
func (p *Puller) Handle(resp Response) (next Request, done bool, err error) {
	if p.err == nil {
		p.err = p.take(resp)
	}
	if p.err != nil {
		return Request{}, false, p.err
	}
	p.asked, done, p.err = p.next()
	return p.asked, done, p.err
}

// Ahead returns the request that follows a response in a bootstrap, which Handle returns too
// unless it fails, so that it can be sent before what came is staged. ok is false if only Handle
// knows.
func Ahead(resp Response) (next Request, ok bool) {
	n := len(resp.Parts)
	if resp.Kind != KindScan || !resp.More || n == 0 || len(resp.Parts[n-1].Entries) == 0 {
		return Request{}, false
	}
	return Request{Kind: KindScan, After: last(resp.Parts)}, true
}

func (p *Puller) take(resp Response) error {
	switch {
	case resp.Kind != p.asked.Kind:
		return bad("kind %#x in response to kind %#x", byte(resp.Kind), byte(p.asked.Kind))
	case resp.Kind == KindPin:
		return p.pin(resp)
	case resp.Kind == KindScan:
		return p.load(resp)
	case resp.Kind == KindNodes:
		return p.open(resp)
	case resp.Kind == KindLeaves:
		return p.compare(resp)
	}
	return bad("nothing was asked")
}

// next derives the next request from what is left to do.
func (p *Puller) next() (q Request, done bool, err error) {
	switch {
	case p.loading:
		return Request{Kind: KindScan, After: p.after}, false, nil
	case len(p.nodes) > 0:
		q = Request{Kind: KindNodes, Level: p.level}
		for _, n := range p.nodes[:min(len(p.nodes), MaxNodes)] {
			q.Nodes = append(q.Nodes, n.index)
		}
		return q, false, nil
	case len(p.leaves) > 0:
		q, err = p.askLeaves()
		return q, false, err
	}
	err = p.removeGone()
	return Request{}, err == nil, err
}

// removeGone compares what the source has nothing of.
func (p *Puller) removeGone() error {
	for _, span := range p.gone {
		for leaf := span[0]; leaf < span[1]; leaf++ {
			if err := p.compareLeaf(section{leaf: leaf}); err != nil {
				return err
			}
		}
	}
	p.gone = nil
	return nil
}

// askLeaves asks for as many leaves as what is here of them fits into a request, and for one at
// least.
func (p *Puller) askLeaves() (q Request, err error) {
	q = Request{Kind: KindLeaves, After: p.after, Lacks: p.lacks}
	p.own = p.own[:0]
	after, room := p.after.Address, p.listed
	for i, leaf := range p.leaves[:min(len(p.leaves), MaxLeaves)] {
		mine, shorts := own{all: true}, []uint64{}
		err = fromCell(p.local, leaf, after, func(a dotted.Address, cell dotted.Cell) bool {
			if mine.all = len(shorts) < room; mine.all {
				shorts = append(shorts, p.salt.short(ofCell(a, cell)))
				mine.cells = append(mine.cells, Part{a, withoutPayloads(cell)})
			}
			return mine.all
		})
		if err != nil || !mine.all && i > 0 {
			break
		}
		q.Leaves, q.Have, p.own = append(q.Leaves, leaf), append(q.Have, shorts), append(p.own, mine)
		after, room = "", room-len(shorts)
	}
	return q, err
}

func withoutPayloads(cell dotted.Cell) dotted.Cell {
	dots := make(dotted.Cell, len(cell))
	for i, e := range cell {
		dots[i].Dot = e.Dot
	}
	return dots
}

// pin takes the source's moment and decides what is to do.
func (p *Puller) pin(resp Response) error {
	mine, heads := p.local.Context()
	p.result.Context, p.result.Heads, p.result.Root = resp.Context, resp.Heads, resp.Root
	p.seen, p.lacks = crdt.VersionVector{}, crdt.VersionVector{}
	for r, n := range resp.Context {
		if mine[r] == n && heads[r] != resp.Heads[r] {
			return fmt.Errorf("%w: two histories of replica %v end at %d", ErrDiverged, r, n)
		}
		p.seen.Raise(r, min(n, mine[r]))
		if n > mine[r] {
			p.lacks[r] = mine[r] + 1
		}
	}
	switch {
	case mine.Equal(resp.Context) && p.local.Node(0, 0) != resp.Root:
		return fmt.Errorf("%w: roots %v and %v", ErrDiverged, p.local.Node(0, 0), resp.Root)
	case len(mine) == 0 && (len(resp.Context) > 0 || p.came != nil):
		p.loading, p.result.All = true, resp.Cells
		return nil
	case mine.Contains(resp.Context):
		return nil // the source has nothing that we have not seen
	}
	return p.begin()
}

// begin begins the descent.
func (p *Puller) begin() error {
	p.level, p.salt = -1, saltOf(p.result.Root)
	if err := p.classify(0, 0, p.salt.short(p.result.Root)); err != nil {
		return err
	}
	p.descend()
	return nil
}

// load stages a piece of a bootstrap.
func (p *Puller) load(resp Response) error {
	if err := p.stageParts(resp.Parts, p.after); err != nil {
		return err
	}
	for _, part := range resp.Parts {
		for _, e := range part.Entries {
			p.loaded = p.loaded.Add(Of(part.Address, e))
		}
	}
	p.loading = resp.More
	switch {
	case resp.More && len(resp.Parts) == 0:
		return bad("an empty piece, and more to come")
	case resp.More:
		p.after = last(resp.Parts)
	case p.came != nil:
		return p.mend()
	case p.loaded != p.result.Root:
		return bad("cells that sum to %v under a root of %v", p.loaded, p.result.Root)
	}
	return nil
}

// mend begins the comparison of what several sources brought.
func (p *Puller) mend() (err error) {
	p.after, p.mends = Cursor{}, true
	if p.local, err = p.came(); err != nil {
		return err
	}
	return p.begin()
}

// open takes the children of the nodes asked for.
func (p *Puller) open(resp Response) error {
	n := len(p.asked.Nodes)
	if len(resp.Children) != n*Fanout {
		return bad("%d children of %d nodes", len(resp.Children), n)
	}
	for i, node := range p.nodes[:n] {
		children := resp.Children[i*Fanout:][:Fanout]
		var sum uint64
		for _, short := range children {
			sum += short
		}
		if node.theirs-sum+Fanout > 2*Fanout { // see short
			return bad("node %d of level %d is not the sum of its children", node.index, p.level)
		}
		for j, short := range children {
			if err := p.classify(p.level+1, node.index*Fanout+j, short); err != nil {
				return err
			}
		}
	}
	p.nodes = p.nodes[n:]
	if len(p.nodes) == 0 {
		p.descend()
	}
	return nil
}

// classify decides what is to do about one node, given the source's short fingerprint of it.
func (p *Puller) classify(level, index int, theirs uint64) error {
	mine := p.salt.short(p.local.Node(level, index))
	switch {
	case mine == theirs:
	case theirs == 0:
		first, end := leavesBelow(level, index)
		p.gone = append(p.gone, [2]int{first, end})
	case level == Levels:
		p.leaves = append(p.leaves, index)
	default:
		p.below = append(p.below, openNode{index, theirs})
	}
	return nil
}

// descend goes on to the next level; when it has no nodes, only leaves are left.
func (p *Puller) descend() {
	p.level++
	p.nodes, p.below = p.below, nil
}

// section is what a response says about one leaf: the cells behind after that it has and that are
// not here, and which of those here it has not; if the response ended in this leaf, up to the
// last part.
type section struct {
	leaf    int
	after   Cursor
	own     own
	lacking []int // of own.cells
	parts   []Part
	open    bool // the response ended here
}

// compare takes what differs in the leaves asked for, as far as it came.
func (p *Puller) compare(resp Response) error {
	if resp.More && len(resp.Parts) == 0 {
		return bad("an empty piece, and more to come")
	}
	parts, after := resp.Parts, p.after
	p.after = Cursor{}
	if len(resp.Lacking) > len(p.asked.Leaves) {
		return bad("%d leaves, %d were asked for", len(resp.Lacking), len(p.asked.Leaves))
	}
	for i := range p.asked.Leaves {
		s := section{leaf: p.leaves[0], after: after, own: p.own[i]}
		if i >= len(resp.Lacking) || !ascending(resp.Lacking[i], len(s.own.cells)) && len(resp.Lacking[i]) > 0 {
			return bad("no word, or a wrong one, of what leaf %d lacks", s.leaf)
		}
		s.lacking = resp.Lacking[i]
		s.parts, parts = cutLeaf(parts, s.leaf)
		s.open = resp.More && len(parts) == 0
		if err := p.compareLeaf(s); err != nil {
			return err
		}
		if s.open {
			p.after = last(s.parts)
			return nil
		}
		p.leaves = p.leaves[1:]
		after = Cursor{}
	}
	if len(parts) > 0 {
		return bad("%q is in none of the leaves asked for, or out of order", parts[0].Address)
	}
	return nil
}

// cutLeaf splits parts behind the ones that begin them and are in the leaf.
func cutLeaf(parts []Part, leaf int) (in, rest []Part) {
	n := 0
	for n < len(parts) && LeafIndex(LeafOf(parts[n].Address)) == leaf {
		n++
	}
	return parts[:n], parts[n:]
}

// compareLeaf stages the differences of one section.
func (p *Puller) compareLeaf(s section) error {
	if err := p.stageParts(s.parts, s.after); err != nil {
		return err
	}
	if p.local.Node(Levels, s.leaf).IsZero() {
		return nil
	}
	theirs := s.parts
	var failed error
	compareCell := func(a dotted.Address, mine dotted.Cell) bool {
		for len(theirs) > 0 && dotted.ComparePlaces(theirs[0].Address, a) < 0 {
			theirs = theirs[1:]
		}
		var listed dotted.Cell
		if len(theirs) > 0 && theirs[0].Address == a {
			listed = theirs[0].Entries
		}
		if s.open && len(theirs) == 0 {
			return false // the response did not come this far
		}
		if s.open && len(theirs) == 1 && len(listed) > 0 {
			mine = upTo(mine, listed[len(listed)-1].Dot)
		}
		failed = p.stageRemovals(a, mine, listed)
		return failed == nil
	}
	err := p.ours(s, compareCell)
	return cmp.Or(failed, err)
}

// ours calls fn with the cells here that the source has not, or not so, until fn returns false.
func (p *Puller) ours(s section, fn func(dotted.Address, dotted.Cell) bool) error {
	for _, i := range s.lacking {
		c := s.own.cells[i]
		if c.Address == s.after.Address {
			c.Entries = behind(c.Entries, s.after.Dot)
		}
		if len(c.Entries) > 0 && !fn(c.Address, c.Entries) {
			return nil
		}
	}
	switch n := len(s.own.cells); {
	case s.own.all:
		return nil
	case n > 0:
		return p.local.Leaf(s.leaf, s.own.cells[n-1].Address, fn)
	}
	return walk(p.local, scanLeaf(p.local, s.leaf), s.after, fn)
}

// stageRemovals stages the removal of local entries that the source has seen and does not list;
// if they are of no context, of those that it does not list.
func (p *Puller) stageRemovals(a dotted.Address, mine, listed dotted.Cell) error {
	var gone []crdt.Dot
	for _, e := range mine {
		if (p.mends || p.result.Context.Has(e.Dot)) && !listed.Has(e.Dot) {
			gone = append(gone, e.Dot)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	p.result.Removed += len(gone)
	return p.stage.Remove(a, gone)
}

// stageParts stages what is new to us in parts, after it has checked that they are in order, and
// behind a cursor.
func (p *Puller) stageParts(parts []Part, after Cursor) error {
	for i, part := range parts {
		var floor crdt.Dot
		switch {
		case len(part.Entries) == 0:
			return bad("no entries at %q", part.Address)
		case i == 0 && part.Address == after.Address:
			floor = after.Dot // the rest of a cell
		case dotted.ComparePlaces(part.Address, after.Address) <= 0:
			return bad("%q is out of order", part.Address)
		}
		if err := p.stagePart(part, floor); err != nil {
			return err
		}
		after.Address = part.Address
	}
	return nil
}

// stagePart stages the entries that are new to us, after it has checked that all are in order,
// beyond the dot floor and in the pinned context, and that those with a payload are the new ones.
func (p *Puller) stagePart(part Part, floor crdt.Dot) error {
	var fresh []dotted.Entry
	first := floor == (crdt.Dot{})
	for _, e := range part.Entries {
		switch seen := p.seen.Has(e.Dot); {
		case e.Dot.Compare(floor) <= 0:
			return bad("%v at %q is out of order", e.Dot, part.Address)
		case !p.result.Context.Has(e.Dot):
			return bad("%v at %q is not in the pinned context", e.Dot, part.Address)
		case seen != (len(e.Payload) == 0):
			return bad("%v at %q: seen %v, payload of %d bytes",
				e.Dot, part.Address, seen, len(e.Payload))
		case !seen:
			fresh = append(fresh, e)
		}
		floor = e.Dot
		p.result.Bytes += int64(len(e.Payload))
	}
	p.result.Bytes += int64(len(part.Address))
	if first {
		p.result.Cells++
	}
	if len(fresh) == 0 {
		return nil
	}
	p.result.Added += len(fresh)
	return p.stage.Add(part.Address, fresh)
}

// last returns the position of the last entry of parts, which are not empty.
func last(parts []Part) Cursor {
	part := parts[len(parts)-1]
	return Cursor{part.Address, part.Entries[len(part.Entries)-1].Dot}
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrBadSource}, args...)...)
}

// Gathering gets what must be at the puller before it can read the source's context: the bases
// that this has, and the puller lacks. Then it asks for the context. The zero value is not valid:
// see Gather.
type Gathering struct {
	held   crdt.VersionVector
	tables []delta.Table
	bases  int // in them
	asked  Kind
}

// maxGathered bounds the bases that a source sends: an id has several if it went on after one, or
// if several replicas said one at once.
const maxGathered = 16 * delta.MaxReplicas

// Gather begins one. held is the puller's context in its short form.
func Gather(held crdt.VersionVector) *Gathering { return &Gathering{held: held.Clone()} }

// Held returns the puller's context for which it was begun. Once that has lost any of it, what
// was gathered is not enough.
func (g *Gathering) Held() crdt.VersionVector { return g.held }

// Start returns the first request.
func (g *Gathering) Start() Request { return g.ask() }

func (g *Gathering) ask() Request {
	g.asked = KindBases
	return Request{Kind: KindBases, Held: g.held, Skip: len(g.tables)}
}

// Handle takes a response, and returns the next request; done is true if the response was the one
// with the context. The error wraps ErrBadSource.
func (g *Gathering) Handle(resp Response) (next Request, done bool, err error) {
	switch {
	case resp.Kind != g.asked:
		return Request{}, false, bad("kind %#x in response to kind %#x", byte(resp.Kind), byte(g.asked))
	case resp.Kind == KindPin:
		return Request{}, true, nil
	}
	g.tables = append(g.tables, resp.Tables...)
	for _, t := range resp.Tables {
		g.bases += len(t.Bases)
	}
	switch {
	case g.bases > maxGathered:
		return Request{}, false, bad("more than %d bases", maxGathered)
	case resp.More && len(resp.Tables) == 0:
		return Request{}, false, bad("an empty piece of bases, and more to come")
	case resp.More:
		return g.ask(), false, nil
	}
	g.asked = KindPin
	return Request{Kind: KindPin}, false, nil
}

// Tables returns the bases that came, in the source's order.
func (g *Gathering) Tables() []delta.Table { return g.tables }
