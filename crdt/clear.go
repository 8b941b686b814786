package crdt

import (
	"github.com/peerd/peerd/internal/dotted"
)

// fewCells is up to how many cells are removed one by one: an operation for each, whose delta
// names the dots, instead of one clear, whose delta carries the whole context.
const fewCells = 16

type addressed struct {
	at   dotted.Address
	cell dotted.Cell
}

// clear removes everything that readers see at and under n, whatever its types, and reports
// whether there was anything. Writes that it has not seen survive it.
func (n node) clear() (existed bool, err error) {
	visible, known, err := n.summary()
	if err != nil || known && visible == 0 {
		return false, err
	}
	if known && visible > fewCells {
		return true, n.clearAll()
	}
	cells, err := n.visibleCells(fewCells + 1) // a string that was counted on has several
	switch {
	case err != nil || len(cells) == 0:
		return false, err
	case len(cells) > fewCells:
		return true, n.clearAll()
	}
	return true, n.clearEach(cells)
}

// visibleCells returns the first cells at and under n that readers see, at most limit.
func (n node) visibleCells(limit int) ([]addressed, error) {
	var cells []addressed
	err := n.scan("", func(a dotted.Address, c dotted.Cell) bool {
		if c.Visible() {
			cells = append(cells, addressed{a, c})
		}
		return len(cells) < limit
	})
	return cells, err
}

func (n node) clearEach(cells []addressed) error {
	for _, c := range cells {
		n.at = c.at
		if err := n.replace(c.cell, nil); err != nil {
			return err
		}
	}
	return nil
}

// clearAll clears by context. That wipes baselines out as well, so those that must stay are put
// again. Cells are looked at only if the key holds counters: O(1) without any.
func (n node) clearAll() error {
	shares, err := n.allShares()
	if err != nil {
		return err
	}
	if err := n.tx.Clear(n.at); err != nil {
		return err
	}
	for _, c := range shares {
		_, owner, _ := c.at.CutShare()
		b, needed := tallyOf(owner, c.cell).carried(n.tx)
		if !needed {
			continue
		}
		n.at = c.at
		if err := n.put(b.payload(), nil); err != nil {
			return err
		}
	}
	return nil
}

// allShares returns the cells at and under n that hold shares or baselines.
func (n node) allShares() (found []addressed, err error) {
	if n.depth == 0 {
		return n.sharesOfAll()
	}
	s, err := n.tx.Summary(n.key)
	if err != nil || s.Tallies == 0 {
		return nil, err
	}
	err = n.scan("", func(a dotted.Address, c dotted.Cell) bool {
		if _, _, ok := a.CutShare(); ok && c.Tallies() {
			found = append(found, addressed{a, c})
		}
		return true
	})
	return found, err
}

// sharesOfAll returns those of all keys.
func (n node) sharesOfAll() (found []addressed, err error) {
	var keys []string
	if err := n.tx.Tallied(func(key string) bool { keys = append(keys, key); return true }); err != nil {
		return nil, err
	}
	for _, key := range keys {
		more, err := n.named(key).allShares()
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}
