package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
)

// What has expired is few: it is removed within seconds. So it is looked for where it is told of
// times, and whether it is there still is asked of the cells: the counts of keys know nothing of
// time. Nobody looks at anything before the first time of all has passed.

// What looking for it costs, beside one for each cell in memory that tells of a time.
const (
	dueCost   = 64      // of what has expired: the tree is asked whether its key is there
	firstCost = 1 << 12 // of finding the tree's first time, behind those that were removed lately
)

// Due calls fn with the keys of which something has expired that is not removed yet, each once,
// until it returns false. whole tells that the key itself has expired, if it is there; else fields
// of it have.
func (v *View) Due(fn func(key string, whole bool) bool) error {
	return v.due(math.MaxInt).keys(v.Cell, fn)
}

// DueCost returns at about how much Due looks, or some number beyond most: zero if nothing can have
// expired.
func (v *View) DueCost(most int) (int, error) { return v.due(most).price() }

// Due is View.Due, as the transaction sees it.
func (tx *Tx) Due(fn func(key string, whole bool) bool) error {
	return tx.failed(tx.due(math.MaxInt).keys(tx.Cell, fn))
}

// DueCost is View.DueCost, for the transaction's Due.
func (tx *Tx) DueCost(most int) (int, error) {
	cost, err := tx.due(most).price()
	return cost, tx.failed(err)
}

func (v *View) due(most int) *due {
	return &due{view: v, timed: v.timed, now: v.Now().UnixMilli(), clears: v.clears, most: most}
}

func (tx *Tx) due(most int) *due {
	return &due{view: tx.g.view, timed: tx.Timed(), now: tx.Now().UnixMilli(), clears: tx.g.clears,
		most: most, loaded: tx.g.loaded}
}

// due is a search for what has expired.
type due struct {
	view   *View
	timed  bool // there may be some
	now    int64
	clears *clears
	loaded []*cellState            // the group's, which count for more than the view's
	own    map[dotted.Address]bool // of them, those of expiries

	cost, most int // it is given up beyond that
}

// price returns what it costs to go through it all.
func (d *due) price() (int, error) {
	err := d.each(func(dotted.Address) bool {
		d.cost += dueCost
		return d.cost <= d.most
	})
	return d.cost, err
}

// keys calls fn as View.Due does; cell reads one.
func (d *due) keys(cell func(dotted.Address) (dotted.Cell, error),
	fn func(key string, whole bool) bool) error {
	fields, more := map[string]struct{}{}, true // keys of which fields have expired
	err := d.each(func(a dotted.Address) bool {
		if key := a.KeyAddress(); len(key)+1 < len(a) {
			fields[key.Key()] = struct{}{}
		} else {
			more = fn(key.Key(), true)
		}
		return more
	})
	for _, key := range sortedKeys(fields) {
		if err != nil || !more {
			break
		}
		var c dotted.Cell
		if c, err = cell(dotted.KeyAddress(key).Expiry()); err == nil && !d.passed(c) {
			more = fn(key, false)
		}
	}
	return err
}

// passed reports whether a cell says a time that has passed.
func (d *due) passed(c dotted.Cell) bool {
	at, _, ok := c.Expires()
	return ok && at <= d.now
}

// each calls fn with each cell of an expiry whose time has passed, until it returns false.
func (d *due) each(fn func(dotted.Address) bool) error {
	if !d.timed || !d.inGroup(fn) {
		return nil
	}
	d.cost += d.view.shot.Timed(d.now)
	if d.cost > d.most || !d.inMemory(fn) {
		return nil
	}
	return d.inTree(fn)
}

func (d *due) inGroup(fn func(dotted.Address) bool) (more bool) {
	for _, c := range d.loaded {
		if c.gone || !c.address.IsExpiry() {
			continue
		}
		if d.own == nil {
			d.own = map[dotted.Address]bool{}
		}
		d.own[c.address] = true
		if d.passed(c.now) && !fn(c.address) {
			return false
		}
	}
	return true
}

func (d *due) inMemory(fn func(dotted.Address) bool) (more bool) {
	more = true
	d.view.shot.Due(d.now, func(rec hot.Record) bool {
		it := rec.(*item)
		if !d.own[it.address()] && d.passed(d.clears.hide(it.address(), it.cell)) {
			more = fn(it.address())
		}
		return more
	})
	return more
}

// inTree finds what the index says and memory does not know better.
func (d *due) inTree(fn func(dotted.Address) bool) error {
	first, err := d.first()
	if err != nil || first > d.now || d.cost > d.most {
		return err
	}
	var failed error
	err = d.view.shot.Tree().ScanKeys(expiryKey(first), expiryKey(d.now+1), func(key []byte) bool {
		if d.cost++; d.cost > d.most {
			return false
		}
		if len(key) < 9 {
			return true
		}
		cell := append([]byte{prefixCell}, key[9:]...)
		if d.view.item(cell) != nil {
			return true
		}
		a, err := d.view.addressOf(string(cell[1:]))
		if err == nil && a != "" && d.clears.count > 0 {
			var c dotted.Cell
			if c, err = d.view.inTree(cell); !d.passed(d.clears.hide(a, c)) {
				a = ""
			}
		}
		failed = err
		return err == nil && (a == "" || d.own[a] || fn(a))
	})
	return cmp.Or(failed, err)
}

// first returns the first time of the tree's index. It is looked for once for each checkpoint.
func (d *due) first() (at int64, err error) {
	noted := d.view.shot.Noted()
	if after := noted.Load(); after > 0 {
		return after - 1, nil
	}
	if d.cost += firstCost; d.cost > d.most {
		return 0, nil
	}
	at = dotted.Never - 1
	start := []byte{prefixExpiry}
	err = d.view.shot.Tree().ScanKeys(start, []byte{prefixExpiry + 1}, func(key []byte) bool {
		if len(key) < 9 {
			return true
		}
		at = min(at, int64(binary.BigEndian.Uint64(key[1:])))
		return false
	})
	if err == nil {
		noted.Store(at + 1)
	}
	return at, err
}

// addressOf returns the address of the cell at a place; empty if there is none.
func (v *View) addressOf(place string) (a dotted.Address, err error) {
	key := append([]byte{prefixCell}, place...)
	if a = dotted.Address(place); a.CheckCell() == nil {
		return a, nil
	}
	a = ""
	var failed error
	err = v.records(key, append(bytes.Clone(key), 0), func(key []byte, it *item, value []byte) bool {
		if it != nil {
			a = it.address()
		} else {
			a, _, failed = decodeCell(v.shot.Tree(), bytes.Clone(key), bytes.Clone(value))
		}
		return false
	})
	return a, cmp.Or(failed, err)
}
