package engine

import (
	"sort"
	"strings"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/tidwall/btree"
)

// under calls fn with the group's cells under prefix, in the order of their keys, until fn returns false.
func (g *group) under(prefix dotted.Address, fn func(*cellState) bool) {
	if len(g.cells) == 0 {
		return
	}
	if g.order == nil {
		g.order = &btree.Map[string, *cellState]{}
		for _, c := range g.cells {
			g.order.Set(c.key, c)
		}
	}
	start := string(place(prefixCell, prefix))
	g.order.Ascend(start, func(key string, c *cellState) bool {
		return strings.HasPrefix(key, start) && (!hasPrefix(c.address, prefix) || fn(c))
	})
}

// scan merges the store's cells with the group's own.
func (g *group) scan(prefix, beyond dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	var own []*cellState
	from := place(prefixCell, beyond)
	g.under(prefix, func(c *cellState) bool {
		if beyond == "" || c.key > string(from) {
			own = append(own, c)
		}
		return true
	})
	stopped := false
	g.r.spend(workOf(len(g.cells)))
	emit := func(a dotted.Address, c dotted.Cell) bool {
		g.r.spend(workCell + workOf(payloadOf(c)))
		if len(c) > 0 && !fn(a, c) {
			stopped = true
		}
		return !stopped
	}
	err := g.scanStored(prefix, beyond, func(a dotted.Address, stored dotted.Cell) bool {
		if len(own) == 0 {
			return emit(a, g.clears.hide(a, stored))
		}
		key := place(prefixCell, a)
		for len(own) > 0 && own[0].key < string(key) {
			if !emit(own[0].address, own[0].now) {
				return false
			}
			own = own[1:]
		}
		if len(own) > 0 && own[0].key == string(key) {
			c := own[0]
			own = own[1:]
			return emit(c.address, c.now)
		}
		return emit(a, g.clears.hide(a, stored))
	})
	for _, c := range own {
		if err != nil || stopped || !emit(c.address, c.now) {
			break
		}
	}
	return err
}

// scanStored is that of the group's view.
func (g *group) scanStored(prefix, beyond dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	switch l := g.r.table.lists.over(prefix); {
	case l != nil:
		l.scan(prefix, beyond, fn)
		return nil
	case prefix != "" && g.bare(prefix):
		return nil
	}
	return g.view.scanStored(prefix, beyond, fn)
}

// keys merges the store's keys with the group's own. Both are in the order of places: that of names
// differs from it where they are longer than a place keeps.
func (g *group) keys(prefix, beyond string, fn func(string, dotted.Summary) bool) error {
	var own []*summaryState
	from := place(prefixSummary, dotted.KeyAddress(beyond))
	for name, s := range g.sums {
		if s.before.keys == 0 && s.now.Exists() && strings.HasPrefix(name, prefix) &&
			(beyond == "" || s.at() > string(from)) {
			own = append(own, s)
		}
	}
	sort.Slice(own, func(i, j int) bool { return own[i].at() < own[j].at() })
	stopped := false
	emit := func(name string, s dotted.Summary) bool {
		g.r.spend(workCell)
		if s.Exists() && !fn(name, s) { // what fn itself wrote may have removed one
			stopped = true
		}
		return !stopped
	}
	stored := func(at []byte, name string, s dotted.Summary) bool {
		for len(own) > 0 && own[0].at() < string(at) {
			if !emit(own[0].name, own[0].now) {
				return false
			}
			own = own[1:]
		}
		if mine, ok := g.sums[name]; ok {
			s = mine.now
		}
		return emit(name, s)
	}
	var err error
	if !g.emptied() {
		err = g.view.keysStored(prefix, beyond, stored)
	}
	for _, s := range own {
		if err != nil || stopped || !emit(s.name, s.now) {
			break
		}
	}
	return err
}
