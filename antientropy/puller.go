package antientropy

import (
	"errors"
	"fmt"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

var (
	// ErrBadSource is wrapped when a response does not answer its request, or contradicts an
	// earlier one: try another source.
	ErrBadSource = errors.New("bad repair source")
	// ErrDiverged is wrapped when both sides have seen the same dots and hold different things:
	// one is damaged, or a replica issued a dot twice. Another source may help, merging would
	// not.
	ErrDiverged = errors.New("same context, different contents")
	// ErrPinMoved is wrapped when a resumed session finds the source at another moment: start
	// again.
	ErrPinMoved = errors.New("the source's pinned moment has changed")
)

// Result is what a session did. It is final when the session is done; before, the counts are
// progress.
type Result struct {
	Context crdt.VersionVector // pinned at the source, to be joined into the local one at the flip
	Heads   delta.Heads        // of the pinned context
	Root    Fingerprint        // of the pinned tree
	Added   int                // entries staged to be added
	Removed int                // entries staged to be removed
	Cells   int                // cells and parts of cells received
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
	pinned bool               // result holds the source's moment
	seen   crdt.VersionVector // what both contexts hold
	lacks  crdt.VersionVector // the first dots of the source's that this one has not

	// Bootstrap.
	loading bool
	loaded  Fingerprint // sum of what was staged

	// Descent.
	level  int        // of nodes
	nodes  []openNode // differ, to be opened, ascending
	below  []openNode // found to differ at the next level, ascending
	leaves []int      // differ, to be compared, ascending

	after Cursor // the last entry received, in all cells or in the first of leaves
}

// openNode is a node that differs, with the source's fingerprint of it.
type openNode struct {
	index  int
	theirs Fingerprint
}

// NewPuller returns a session that compares local with a source and stages the differences.
func NewPuller(local Snapshot, stage Staging) *Puller {
	return &Puller{local: local, stage: stage}
}

// Start returns the first request.
func (p *Puller) Start() Request { return p.Resume() }

// Resume returns the request with which to go on over a new stream, after one broke before the
// response to the last request arrived. The source, which may be another one, must then answer
// from a pin with the same context and root, else the session ends with ErrPinMoved.
func (p *Puller) Resume() Request {
	p.asked = Request{Kind: KindPin}
	if p.pinned {
		p.asked.Want = ContextDigest(p.result.Context, p.result.Heads)
	}
	return p.asked
}

// Result returns what was done so far.
func (p *Puller) Result() Result { return p.result }

// Handle takes the response to the last request and returns the next one, or done. Then
// everything is staged. Errors are ErrBadSource, ErrDiverged, ErrPinMoved, and those of the
// snapshot and stage.
//
// One call reads at most the local cells of MaxLeaves leaves, or those of one subtree that the
// source has nothing in, and stages at most what the response holds and what these cells held.
func (p *Puller) Handle(resp Response) (next Request, done bool, err error) {
	if p.err == nil {
		p.err = p.take(resp)
	}
	if p.err != nil {
		return Request{}, false, p.err
	}
	p.asked, done = p.next()
	return p.asked, done, nil
}

func (p *Puller) take(resp Response) error {
	switch {
	case resp.Kind != p.asked.Kind:
		return bad("kind %#x in response to kind %#x", byte(resp.Kind), byte(p.asked.Kind))
	case resp.Kind == KindPin && p.pinned:
		return p.repin(resp)
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

// next derives the next request from what is left to do. Asked twice, it returns the same.
func (p *Puller) next() (q Request, done bool) {
	switch {
	case p.loading:
		return Request{Kind: KindScan, After: p.after}, false
	case len(p.nodes) > 0:
		q = Request{Kind: KindNodes, Level: p.level}
		for _, n := range p.nodes[:min(len(p.nodes), MaxNodes)] {
			q.Nodes = append(q.Nodes, n.index)
		}
		return q, false
	case len(p.leaves) > 0:
		leaves := p.leaves[:min(len(p.leaves), MaxLeaves)]
		return Request{Kind: KindLeaves, Leaves: leaves, After: p.after, Lacks: p.lacks}, false
	}
	return Request{}, true
}

// pin takes the source's moment and decides what is to do.
func (p *Puller) pin(resp Response) error {
	mine, heads := p.local.Context()
	p.result.Context, p.result.Heads, p.result.Root = resp.Context, resp.Heads, resp.Root
	p.pinned = true
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
	case mine.Contains(resp.Context):
		return nil // the source has nothing that we have not seen
	case len(mine) == 0:
		p.loading = true
		return nil
	}
	p.level = -1
	if err := p.classify(0, 0, resp.Root); err != nil {
		return err
	}
	p.descend()
	return nil
}

func (p *Puller) repin(resp Response) error {
	was := p.result
	same := was.Context.Equal(resp.Context) && was.Root == resp.Root &&
		ContextDigest(was.Context, was.Heads) == ContextDigest(resp.Context, resp.Heads)
	if !same {
		return ErrPinMoved
	}
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
	case p.loaded != p.result.Root:
		return bad("cells that sum to %v under a root of %v", p.loaded, p.result.Root)
	}
	return nil
}

// open takes the children of the nodes asked for.
func (p *Puller) open(resp Response) error {
	n := len(p.asked.Nodes)
	if len(resp.Children) != n*Fanout {
		return bad("%d children of %d nodes", len(resp.Children), n)
	}
	for i, node := range p.nodes[:n] {
		children := resp.Children[i*Fanout:][:Fanout]
		var sum Fingerprint
		for _, f := range children {
			sum = sum.Add(f)
		}
		if sum != node.theirs {
			return bad("node %d of level %d is not the sum of its children", node.index, p.level)
		}
		for j, f := range children {
			if err := p.classify(p.level+1, node.index*Fanout+j, f); err != nil {
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

// classify decides what is to do about one node, given the source's fingerprint of it.
func (p *Puller) classify(level, index int, theirs Fingerprint) error {
	mine := p.local.Node(level, index)
	switch {
	case mine == theirs:
	case theirs.IsZero():
		first, end := leavesBelow(level, index)
		for leaf := first; leaf < end; leaf++ {
			if err := p.compareLeaf(section{leaf: leaf}); err != nil {
				return err
			}
		}
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

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrBadSource}, args...)...)
}
