package engine

import (
	"sort"
	"strings"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/tidwall/btree"
)

// under calls fn with the group's cells under prefix, in the order of their keys, until fn
// returns false.
func (g *group) under(prefix dotted.Address, fn func(*cellState) bool) { g.behind(prefix, "", fn) }

// behind is under of those with keys beyond one.
func (g *group) behind(prefix dotted.Address, last string, fn func(*cellState) bool) {
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
	g.order.Ascend(max(start, last), func(key string, c *cellState) bool {
		g.walked++
		return strings.HasPrefix(key, start) && (key == last || !hasPrefix(c.address, prefix) || fn(c))
	})
}

// ownCells goes through the cells that a group has under a prefix when a scan begins. It reads
// them in parts, as most scans end soon. Between two parts the group may take in further cells:
// they are none of them.
type ownCells struct {
	g      *group
	prefix dotted.Address
	last   string // beyond which the next part begins
	loaded int    // how many cells the group had looked at
	part   []*cellState
	at     int  // in part
	ended  bool // part is the last
}

// Part sizes: the first, and the largest.
const (
	firstOwn = 8
	lastOwn  = 256
)

// next returns the first of those that are left; nil if there is none. at counts it as passed.
func (o *ownCells) next() *cellState {
	if o.at == len(o.part) && !o.ended {
		o.read()
	}
	if o.at == len(o.part) {
		return nil
	}
	return o.part[o.at]
}

// read reads the next part.
func (o *ownCells) read() {
	size := min(max(4*len(o.part), firstOwn), lastOwn)
	o.part, o.at = o.part[:0], 0
	o.g.behind(o.prefix, o.last, func(c *cellState) bool {
		if c.nth < o.loaded {
			o.part = append(o.part, c)
		}
		return len(o.part) < size
	})
	if o.ended = len(o.part) < size; !o.ended {
		o.last = o.part[size-1].key
	}
}

// scan merges the store's cells with the group's own.
func (g *group) scan(prefix, beyond dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	own := ownCells{g: g, prefix: prefix, last: string(place(prefixCell, beyond)), loaded: len(g.loaded)}
	stopped := false
	emit := func(a dotted.Address, c dotted.Cell) bool {
		g.r.spend(workCell + workOf(payloadOf(c)))
		if len(c) > 0 && !fn(a, c) {
			stopped = true
		}
		return !stopped
	}
	err := g.scanStored(prefix, beyond, func(a dotted.Address, stored dotted.Cell) bool {
		c := own.next()
		if c == nil {
			return emit(a, g.clears.hide(a, stored))
		}
		key := place(prefixCell, a)
		for ; c != nil && c.key < string(key); c = own.next() {
			if own.at++; !emit(c.address, c.now) {
				return false
			}
		}
		if c != nil && c.key == string(key) {
			own.at++
			return emit(c.address, c.now)
		}
		return emit(a, g.clears.hide(a, stored))
	})
	for err == nil && !stopped {
		c := own.next()
		if c == nil {
			break
		}
		own.at++
		emit(c.address, c.now)
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
