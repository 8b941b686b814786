package crdt

// Reissue issues the mutations of deltas again under new dots, after a fork: two stores went on from one
// past and gave the same dots to different things, and one of them must give its own new ones. Deltas that
// may have seen those are issued again too. One is used for all deltas of its branches, in their order.
//
// What is issued again means what it meant: a write replaces what it had seen, a removal removes what it
// had seen, an increment counts on top of what the other branch counted.
type Reissue struct {
	// Common has, for each replica with a branch that is abandoned, its last dot before that.
	Common VersionVector

	now map[Dot]Dot // what the branch's dots became
	was map[Dot]Dot // and the other way round
}

// Op issues one operation of a branch again; was is its dot there. For an OpClear it only returns what
// must be removed, cell by cell, which may be more than fits into one transaction: pass it to Op in
// turn. seen is what the clear saw, in the branch's dots.
func (r *Reissue) Op(tx Tx, op Op, was Dot, seen DotSet) (clears []Op, err error) {
	if op.Kind == OpClear {
		return r.seen(tx, op.Address, seen)
	}
	c, err := tx.Cell(op.Address)
	if err != nil {
		return nil, err
	}
	removes := r.live(c, op.Removes)
	if op.Kind == OpRemove {
		return nil, tx.Remove(op.Address, removes)
	}
	if _, done := r.now[was]; done {
		return nil, nil
	}
	payload := op.Payload
	if e := (Entry{Dot: was, Payload: payload}); e.is(kindShare) {
		s, ok := parseShare(e)
		if !ok {
			return nil, nil // it counted nothing
		}
		var next share
		next, removes = talliesOf(c).add(tx.Replica(), s.last)
		payload = next.payload()
	}
	d, err := tx.Put(op.Address, payload, removes)
	if err == nil {
		r.Move(was, d)
	}
	return nil, err
}

// Move notes what a dot of the branch became. Op does so by itself; a caller who goes on with what it did
// before a restart does it for what Moved returned then. A write is issued again only once.
func (r *Reissue) Move(was, now Dot) {
	if r.now == nil {
		r.now, r.was = map[Dot]Dot{}, map[Dot]Dot{}
	}
	r.now[was], r.was[now] = now, was
}

// Moved returns what a dot of the branch became, and whether it was issued again.
func (r *Reissue) Moved(was Dot) (now Dot, ok bool) {
	now, ok = r.now[was]
	return now, ok
}

// Moves calls fn with every dot that was issued again, in no order.
func (r *Reissue) Moves(fn func(was, now Dot)) {
	for was, now := range r.now {
		fn(was, now)
	}
}

// seen returns the entries under prefix that a clear of the branch saw.
func (r *Reissue) seen(tx Tx, prefix Address, seen DotSet) (ops []Op, err error) {
	err = tx.Scan(prefix, "", func(a Address, c Cell) bool {
		var dots []Dot
		for _, e := range c {
			was, ours := r.was[e.Dot]
			if ours && seen.Has(was) || !ours && !r.forked(e.Dot) && seen.Has(e.Dot) {
				dots = append(dots, e.Dot)
			}
		}
		if len(dots) > 0 {
			ops = append(ops, Op{Kind: OpRemove, Address: a, Removes: dots})
		}
		return true
	})
	return ops, err
}

// forked reports whether d stands for something else in the branches than where they are abandoned.
func (r *Reissue) forked(d Dot) bool {
	common, abandoned := r.Common[d.Replica]
	return abandoned && d.Counter > common
}

// live returns the dots that are in the cell, as they are called now.
func (r *Reissue) live(c Cell, dots []Dot) []Dot {
	var out []Dot
	for _, d := range dots {
		now, ours := r.now[d]
		switch {
		case ours && c.Has(now):
			out = append(out, now)
		case !r.forked(d) && c.Has(d):
			out = append(out, d)
		}
	}
	return out
}
