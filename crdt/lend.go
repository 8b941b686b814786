package crdt

import "github.com/peerd/peerd/internal/dotted"

// What the database has of this package beyond its exported names: see dotted.Lent.
func init() {
	dotted.Lent.Bind = func(fields any, tx dotted.Tx) { fields.(*Fields).bind(tx) }
	dotted.Lent.End = func(fields any, tx dotted.Tx, why error) {
		s := fields.(*Fields).tx
		s.Tx, s.err = tx, why
	}
	dotted.Lent.Collect = collect
	dotted.Lent.Expire = expire
	dotted.Lent.Counted = countedIn
	dotted.Lent.Effect = func(a dotted.Address, payload []byte) dotted.Effect {
		return effectOf(a, dotted.Entry{Payload: payload})
	}
}

// effectOf says what an entry did that was put into a cell.
func effectOf(a dotted.Address, e dotted.Entry) (did dotted.Effect) {
	s, counts := share{}, false
	if kindShare.marks(e) {
		s, counts = parseShare(e)
	}
	added, adds := scoreShare{}, false
	if kindAdded.marks(e) {
		added, adds = parseScoreShare(e)
	}
	_, score, scores := parseScore(e)
	scores = scores && inSortedSet(a) // a HyperLogLog's kind has the same number
	part, isChunk := parseChunk(e)
	at, _, isExpiry := dotted.Cell{e}.Expires()
	switch {
	case isWrite(e):
		did.Operation = "set"
		_, did.Value = splitWrite(e)
	case counts:
		did.Operation, did.Amount = "add", s.last
		did.Total, _ = s.cum.sub(s.base).net().Int64()
	case kindMember.marks(e):
		did.Operation = "insert"
	case kindEntry.marks(e):
		did.Operation, did.Fields = "insert", fieldsIn(e)
	case isChunk:
		did.Operation, did.Value = "set", make([]byte, part.size)
		part.fill(did.Value, 0)
	case kindEnabled.marks(e):
		did.Operation = "enable"
	case scores:
		did.Operation, did.Value = "set", appendScore(nil, score)
	case adds:
		did.Operation, did.Value = "add", appendScore(nil, added.last)
	case kindBaseline.marks(e), kindTakenAway.marks(e):
		did.Operation = "reset"
	case isExpiry:
		did.Operation, did.Amount = "expire", at
	default:
		did.Operation = "unknown"
	}
	return did
}
