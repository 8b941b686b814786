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
	return n.told(), nil
}

// Rank returns how many of a container's cells come before a key in their order.
func (tx *Tx) Rank(container dotted.Address, key string) (int, error) {
	return dotted.ScanRank(tx, container, key)
}

// Ranked calls fn with the keys of a container's cells in their order.
func (tx *Tx) Ranked(container dotted.Address, from int, back bool, fn func(key string) bool) error {
	return dotted.ScanRanked(tx, container, from, back, fn)
}
