package antientropy

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// section is what a response says about one leaf: all of its entries behind after, or if the
// response ended in this leaf, all up to the last one listed.
type section struct {
	leaf  int
	after Cursor
	parts []Part
	open  bool // the response ended here
}

// compare takes the entries of the leaves asked for, as far as they came.
func (p *Puller) compare(resp Response) error {
	if resp.More && len(resp.Parts) == 0 {
		return bad("an empty piece, and more to come")
	}
	parts, after := resp.Parts, p.after
	p.after = Cursor{}
	for range p.asked.Leaves {
		s := section{leaf: p.leaves[0], after: after}
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
	if err := walk(p.local, scanLeaf(p.local, s.leaf), s.after, compareCell); err != nil {
		return err
	}
	return failed
}

// upTo returns the entries whose dots are not beyond d.
func upTo(c dotted.Cell, d crdt.Dot) dotted.Cell {
	i, found := c.Find(d)
	if found {
		i++
	}
	return c[:i]
}

// stageRemovals stages the removal of local entries that the source has seen and does not list.
func (p *Puller) stageRemovals(a dotted.Address, mine, listed dotted.Cell) error {
	var gone []crdt.Dot
	for _, e := range mine {
		if p.result.Context.Has(e.Dot) && !listed.Has(e.Dot) {
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
	p.result.Cells++
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
