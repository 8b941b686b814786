package dotted

import (
	"slices"
	"sort"
)

// Ordered tells whether what stands under a container, whose address ends with a type, has an order, and a cell's key in
// it: see Kind.Order.
func (a Address) Ordered() (keyOf func(name string, c Cell) string, ok bool) {
	if a == "" {
		return nil, false
	}
	keyOf = kinds[a[len(a)-1]].Order
	return keyOf, keyOf != nil
}

// OrderedShape reports whether cells of a shape stand in an order: see Address.Shape.
func OrderedShape(shape string) bool { return shape != "" && kinds[shape[len(shape)-1]].Order != nil }

// Standing returns the container in whose order the cell at an address stands, the cell's name there, and how its key in
// that order is found. ok is false if it stands in none.
func (a Address) Standing() (container Address, name string, keyOf func(name string, c Cell) string, ok bool) {
	for rest := a; ; {
		if _, rest, ok = rest.CutName(); !ok || rest == "" {
			return "", "", nil, false
		}
		kind := &kinds[rest[0]]
		rest = rest[1:]
		if kind.Holds == HoldsFields {
			continue
		}
		if kind.Order == nil || kind.Holds != HoldsElements {
			return "", "", nil, false
		}
		name, end, ok := rest.CutName()
		if !ok || end != "" {
			return "", "", nil, false
		}
		return a[:len(a)-len(rest)], name, kind.Order, true
	}
}

// ScanRank is Tx.Rank of whoever keeps no order: it looks at all cells of the container.
func ScanRank(tx Tx, container Address, key string) (before int, err error) {
	keys, err := orderOf(tx, container)
	return sort.SearchStrings(keys, key), err
}

// ScanRanked is Tx.Ranked of whoever keeps no order: it looks at all cells of the container.
func ScanRanked(tx Tx, container Address, from int, back bool, fn func(key string) bool) error {
	keys, err := orderOf(tx, container)
	if err != nil {
		return err
	}
	step := 1
	if back {
		step = -1
	}
	for i := from; i >= 0 && i < len(keys) && fn(keys[i]); i += step {
	}
	return nil
}

// orderOf returns the keys of a container's visible cells, in order.
func orderOf(tx Tx, container Address) (keys []string, err error) {
	keyOf, ok := container.Ordered()
	if !ok {
		return nil, nil
	}
	err = tx.Scan(container, "", func(a Address, c Cell) bool {
		if name, rest, ok := a[len(container):].CutName(); ok && rest == "" && c.Visible() {
			keys = append(keys, keyOf(name, c))
		}
		return true
	})
	slices.Sort(keys)
	return keys, err
}
