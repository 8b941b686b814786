package engine

import (
	"bytes"
	"cmp"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
)

// What has expired is few: it is removed within seconds. So it is looked for where it is told of
// times, and whether it is there still is asked of the cells: the counts of keys know nothing of time.

// Due calls fn with the keys of which something may have expired that is not removed yet, the key
// itself or a field, each once. It looks at what the index has up to now, and at all that memory has.
func (v *View) Due(fn func(key string) bool) error {
	if !v.timed {
		return nil
	}
	due, err := v.due()
	due.each(fn)
	return err
}

// Due is View.Due, as the transaction sees it.
func (tx *Tx) Due(fn func(key string) bool) error {
	if !tx.Timed() {
		return nil
	}
	v := *tx.g.view
	v.wall, v.clock = tx.g.now, tx.g.r.expiring.clock
	due, err := v.due()
	for _, c := range tx.g.loaded {
		due.look(c.address, c.now)
	}
	due.each(fn)
	return tx.failed(err)
}

// dueKeys are keys of which something may have expired.
type dueKeys struct {
	now  int64
	keys map[string]struct{}
}

// look takes the key of a cell, if that says a time that has passed.
func (d *dueKeys) look(a dotted.Address, c dotted.Cell) {
	if !a.IsExpiry() {
		return
	}
	if at, _, ok := c.Expires(); ok && at <= d.now {
		d.keys[a.Key()] = struct{}{}
	}
}

func (d *dueKeys) each(fn func(key string) bool) {
	for _, key := range sortedKeys(d.keys) {
		if !fn(key) {
			return
		}
	}
}

func (v *View) due() (*dueKeys, error) {
	due := &dueKeys{v.Now().UnixMilli(), map[string]struct{}{}}
	v.shot.All(string(prefixCell), string(prefixCell+1), func(rec hot.Record) {
		it := rec.(*item)
		due.look(it.address, it.cell)
	})
	var places []string
	end := expiryKey(due.now + 1)
	err := v.shot.Tree().ScanKeys([]byte{prefixExpiry}, end, func(key []byte) bool {
		if len(key) >= 9 {
			places = append(places, string(key[9:]))
		}
		return true
	})
	for _, place := range places {
		a, failed := v.addressOf(place)
		if failed == nil && a != "" {
			due.keys[a.Key()] = struct{}{}
		}
		err = cmp.Or(err, failed)
	}
	return due, err
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
			a = it.address
		} else {
			a, _, failed = decodeCell(v.shot.Tree(), bytes.Clone(key), bytes.Clone(value))
		}
		return false
	})
	return a, cmp.Or(failed, err)
}
