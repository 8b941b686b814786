package engine

import "github.com/peerd/peerd/internal/dotted"

// Count tells what was counted on the string at a.
func (tx *Tx) Count(a dotted.Address) (dotted.Count, error) {
	if none, err := tx.g.noneCounted(a); none || err != nil {
		return dotted.Count{}, tx.failed(err)
	}
	n, err := tx.g.count(a, tx.note)
	if err != nil {
		return dotted.Count{}, tx.fail(err)
	}
	return n.told().Count, nil
}
