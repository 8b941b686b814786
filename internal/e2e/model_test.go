package e2e

import (
	"maps"
	"slices"
	"strconv"
	"testing"
)

// view is what one side of the network must read: of each key, for each of its cells, the writes
// that are to be seen there. Two sides that cannot reach each other are two views; merged tells
// what they show when they have met.
type view map[string]map[place][]*write

// place is a cell of a key: the string itself, a field of the hash, or an element of the set.
type place struct {
	kind kind
	name string
}

type kind byte

const (
	aString kind = iota
	aField
	anElement
)

// write is something that a client did. An increment stands beside the texts of its cell: all that
// are to be seen count.
type write struct {
	number    int // of all writes of the test, in the order of time
	text      string
	increment int64
	counts    bool // it is an increment
	ended     bool // a side that saw it has replaced or removed it
}

// history numbers the writes of all sides. Their order means something only where the test makes
// sides write after each other.
type history struct{ writes int }

// apply does to the view what an acknowledged command did to the side that it was sent to.
func (h *history) apply(v view, cmd command) {
	key := cmd[1]
	switch cmd[0] {
	case "SET":
		v.end(key, func(place) bool { return true })
		v.add(key, place{aString, ""}, h.write(cmd[2]))
	case "INCR":
		v.add(key, place{aString, ""}, h.increment("1"))
	case "INCRBY":
		v.add(key, place{aString, ""}, h.increment(cmd[2]))
	case "DEL":
		for _, key := range cmd[1:] {
			v.end(key, func(place) bool { return true })
		}
	case "SADD":
		for _, elem := range cmd[2:] {
			v.replace(key, place{anElement, elem}, h.write(""))
		}
	case "SREM":
		for _, elem := range cmd[2:] {
			v.replace(key, place{anElement, elem}, nil)
		}
	case "HSET":
		for i := 2; i < len(cmd); i += 2 {
			v.replace(key, place{aField, cmd[i]}, h.write(cmd[i+1]))
		}
	case "HDEL":
		for _, field := range cmd[2:] {
			v.replace(key, place{aField, field}, nil)
		}
	case "HINCRBY":
		v.add(key, place{aField, cmd[2]}, h.increment(cmd[3]))
	default:
		panic("the model does not know " + cmd[0])
	}
}

func (h *history) write(text string) *write {
	h.writes++
	return &write{number: h.writes, text: text}
}

func (h *history) increment(by string) *write {
	w := h.write("")
	w.counts = true
	w.increment, _ = strconv.ParseInt(by, 10, 64)
	return w
}

func (v view) add(key string, p place, w *write) {
	if v[key] == nil {
		v[key] = map[place][]*write{}
	}
	v[key][p] = append(v[key][p], w)
}

// end ends all writes that the view sees in those cells of a key for which which holds.
func (v view) end(key string, which func(place) bool) {
	for p, seen := range v[key] {
		if !which(p) {
			continue
		}
		for _, w := range seen {
			w.ended = true
		}
		delete(v[key], p)
	}
}

// replace ends what the view sees in a cell, and adds w unless it is nil.
func (v view) replace(key string, p place, w *write) {
	v.end(key, func(q place) bool { return p == q })
	if w != nil {
		v.add(key, p, w)
	}
}

// split returns a second view that sees the same.
func (v view) split() view {
	other := view{}
	for key, cells := range v {
		other[key] = map[place][]*write{}
		for p, seen := range cells {
			other[key][p] = slices.Clone(seen)
		}
	}
	return other
}

// merged returns what v and other see when they have met: the writes of both, but for those that
// either of them has ended. Neither may be used any more.
func (v view) merged(other view) view {
	out, taken := view{}, map[*write]bool{}
	for _, side := range []view{v, other} {
		for key, cells := range side {
			for p, seen := range cells {
				for _, w := range seen {
					if !w.ended && !taken[w] {
						taken[w] = true
						out.add(key, p, w)
					}
				}
			}
		}
	}
	return out
}

// contents is what a client reads of a key. One that two sides gave different types at once has
// both.
type contents struct {
	Text string // of a string; empty if it has none
	Hash map[string]string
	Set  map[string]bool
}

// reads returns what clients read of all keys that exist.
func (v view) reads() map[string]contents {
	all := map[string]contents{}
	for key, cells := range v {
		c := contents{Hash: map[string]string{}, Set: map[string]bool{}}
		for p, seen := range cells {
			if len(seen) == 0 {
				continue
			}
			switch p.kind {
			case aString:
				c.Text = shown(seen)
			case aField:
				c.Hash[p.name] = shown(seen)
			case anElement:
				c.Set[p.name] = true
			}
		}
		if c.Text != "" || len(c.Hash) > 0 || len(c.Set) > 0 {
			all[key] = c
		}
	}
	return all
}

// shown is the latest text, plus all increments.
func shown(seen []*write) string {
	text, latest, sum, counts := "", 0, int64(0), false
	for _, w := range seen {
		switch {
		case w.counts:
			sum += w.increment
			counts = true
		case w.number > latest:
			text, latest = w.text, w.number
		}
	}
	if !counts {
		return text
	}
	start, _ := strconv.ParseInt(text, 10, 64) // no text counts as zero
	return strconv.FormatInt(start+sum, 10)
}

func TestTheModelFollowsWhatEachSideHadSeen(t *testing.T) {
	var h history
	one := view{}
	do := func(v view, cmds ...command) {
		for _, cmd := range cmds {
			h.apply(v, cmd)
		}
	}
	do(one, command{"HSET", "h", "a", "old", "b", "old"}, command{"SADD", "s", "x", "y"},
		command{"INCRBY", "n", "5"}, command{"SET", "t", "old"})
	two := one.split()
	do(one, command{"DEL", "h"}, command{"SREM", "s", "x", "y"}, command{"SET", "n", "100"},
		command{"SET", "t", "first"}, command{"SET", "both", "text"})
	do(two, command{"HSET", "h", "b", "new"}, command{"SADD", "s", "x"}, command{"INCR", "n"},
		command{"SET", "t", "second"}, command{"SADD", "both", "element"})
	got := one.merged(two).reads()
	for key, want := range map[string]contents{
		"h":    {Hash: map[string]string{"b": "new"}},
		"s":    {Set: map[string]bool{"x": true}},
		"n":    {Text: "101"},
		"t":    {Text: "second"},
		"both": {Text: "text", Set: map[string]bool{"element": true}},
	} {
		c := got[key]
		if c.Text != want.Text || !maps.Equal(c.Hash, want.Hash) || !maps.Equal(c.Set, want.Set) {
			t.Errorf("%s reads %v, want %v", key, c, want)
		}
	}
	if len(got) != 5 {
		t.Errorf("%d keys exist, want 5", len(got))
	}
}
