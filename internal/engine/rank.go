package engine

import "github.com/peerd/peerd/internal/dotted"

// Rank returns how many of a container's cells come before a key in their order.
func (tx *Tx) Rank(container dotted.Address, key string) (int, error) {
	return dotted.ScanRank(tx, container, key)
}

// Ranked calls fn with the keys of a container's cells in their order.
func (tx *Tx) Ranked(container dotted.Address, from int, back bool, fn func(key string) bool) error {
	return dotted.ScanRanked(tx, container, from, back, fn)
}
