package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// mix is what a world's clients do: each world draws its own, so that some hammer one key with
// clears and others build nested maps.
type mix struct {
	keys     []string
	hot      int // percent of mutations that go to the first key
	elements int // different elements of a set
	weights  [kindsOfMutation]int
	huge     bool // values of up to a megabyte
	empties  int  // one transaction in so many clears everything; zero: none does

	scored *rand.Rand // which draws what is done to sorted sets; nil if there are none
	longer int        // how many bytes the names in those have more

	timed  *rand.Rand // which decides when keys expire; nil if they do not
	fields bool       // and fields of their maps

	bits    *rand.Rand // which decides about bitmaps and HyperLogLogs; nil if there are none
	counted int        // registers
	streams *rand.Rand // which decides what is done to streams; nil if there are none
	entries int        // the greatest id of an entry that was drawn
	added   []int      // the ids that were drawn

	lists    *rand.Rand // which decides what is done to lists; nil if there are none
	inserted int        // texts that were drawn for them
}

// Kinds of mutation.
const (
	setString = iota
	addCounter
	setRegister
	setLarge
	toggleFlag
	addElement
	addMany
	removeElement
	setField
	countField
	nestSet
	deleteField
	clearMap
	clearSet
	clearRegister
	resetCounter
	deleteString
	deleteKey
	kindsOfMutation
)

func drawMix(rng *rand.Rand) mix {
	m := mix{hot: rng.IntN(80), elements: 2 + rng.IntN(40), huge: rng.IntN(60) == 0}
	for i := range 1 + rng.IntN(8) {
		m.keys = append(m.keys, string(rune('a'+i)))
	}
	if rng.IntN(8) == 0 {
		m.keys = append(m.keys, strings.Repeat("long", 100), strings.Repeat("long", 100)+"er")
	}
	if rng.IntN(8) == 0 {
		m.keys = append(m.keys, "with\x00nul", "")
	}
	for i := range m.weights {
		m.weights[i] = rng.IntN(10)
		if rng.IntN(3) == 0 {
			m.weights[i] = 0
		}
	}
	m.weights[setString]++
	m.weights[setLarge] = min(m.weights[setLarge], 1)
	m.weights[addMany] = min(m.weights[addMany], 4)
	return m
}

// draw returns a random mutation.
func (m *mix) draw(rng *rand.Rand) mutation {
	key := m.keys[rng.IntN(len(m.keys))]
	if rng.IntN(100) < m.hot {
		key = m.keys[0]
	}
	total := 0
	for _, n := range m.weights {
		total += n
	}
	pick, kind := rng.IntN(total), 0
	for pick >= m.weights[kind] {
		pick -= m.weights[kind]
		kind++
	}
	if kind < deleteField && kind >= setField {
		return m.drawNested(rng, kind, key)
	}
	if kind >= deleteField {
		return m.drawRemoval(rng, kind, key)
	}
	return m.drawWrite(rng, kind, key)
}

func (m *mix) element(rng *rand.Rand) string { return strconv.Itoa(rng.IntN(m.elements)) }

// drawWrite returns a write of a top-level value, or a small removal.
func (m *mix) drawWrite(rng *rand.Rand, kind int, key string) mutation {
	at := dotted.KeyAddress(key)
	value := at.Type(crdt.TypeString)
	switch kind {
	case setString, setRegister, setLarge:
		text := m.text(rng, kind == setLarge)
		mut := mutation{what: fmt.Sprintf("set %q %d bytes", key, len(text)), cell: value, text: text,
			write: true, clears: value, whole: true}
		if mut.keepsCounts = kind == setRegister; mut.keepsCounts {
			mut.do = func(f crdt.Fields) error { return f.Register(key).Set([]byte(text)) }
		} else {
			mut.do = func(f crdt.Fields) error { return f.String(key).Set([]byte(text)) }
		}
		return mut
	case addCounter:
		n := int64(rng.IntN(9) - 3)
		return mutation{what: fmt.Sprintf("add %q %d", key, n), cell: value, adds: n, count: true,
			do: func(f crdt.Fields) error { return second(f.Counter(key).Add(n)) }}
	case toggleFlag:
		flag := at.Type(crdt.TypeFlag)
		if rng.IntN(2) == 0 {
			return mutation{what: fmt.Sprintf("disable %q", key), clears: flag,
				do: func(f crdt.Fields) error { return f.Flag(key).Set(false) }}
		}
		return mutation{what: fmt.Sprintf("enable %q", key), cell: flag, write: true, clears: flag,
			do: func(f crdt.Fields) error { return f.Flag(key).Set(true) }}
	}
	elem := m.element(rng)
	if kind == removeElement {
		return mutation{what: fmt.Sprintf("remove %q %q", key, elem),
			clears: at.Type(crdt.TypeSet).Name(elem),
			do:     func(f crdt.Fields) error { return second(f.Set(key).Remove(elem)) }}
	}
	return addTo(key, elem)
}

func addTo(key, elem string) mutation {
	cell := dotted.KeyAddress(key).Type(crdt.TypeSet).Name(elem)
	return mutation{what: fmt.Sprintf("add %q %q", key, elem), cell: cell, write: true, clears: cell,
		do: func(f crdt.Fields) error { return second(f.Set(key).Add(elem)) }}
}

// text returns a value to write, now and then a number that increments count on top of.
func (m *mix) text(rng *rand.Rand, large bool) string {
	if !large {
		return []string{"7", "-12", "007", "soup", ""}[rng.IntN(5)]
	}
	size := 200 << rng.IntN(8)
	if m.huge && rng.IntN(8) == 0 {
		size = 2<<20 - rng.IntN(2) // beyond a frame, and beyond a record
	}
	return strings.Repeat(string(rune('A'+rng.IntN(26))), size) + strconv.Itoa(rng.IntN(1000))
}

// drawNested returns a write inside a map.
func (m *mix) drawNested(rng *rand.Rand, kind int, key string) mutation {
	field := m.element(rng)
	at := dotted.KeyAddress(key).Type(crdt.TypeMap)
	in := func(f crdt.Fields) crdt.Fields { return f.Map(key).Fields }
	for range rng.IntN(3) {
		outer, at2 := in, at.Name("in").Type(crdt.TypeMap)
		in, at = func(f crdt.Fields) crdt.Fields { return outer(f).Map("in").Fields }, at2
	}
	value := at.Name(field).Type(crdt.TypeString)
	switch kind {
	case setField:
		text := m.text(rng, false)
		return mutation{what: fmt.Sprintf("set %q", value), cell: value, text: text, write: true,
			clears: value, whole: value.Names(2).Type(crdt.TypeString) == value,
			do: func(f crdt.Fields) error { return in(f).String(field).Set([]byte(text)) }}
	case countField:
		return mutation{what: fmt.Sprintf("add %q 1", value), cell: value, adds: 1, count: true,
			do: func(f crdt.Fields) error { return second(in(f).Counter(field).Add(1)) }}
	}
	cell := at.Name("set").Type(crdt.TypeSet).Name(field)
	return mutation{what: fmt.Sprintf("add %q", cell), cell: cell, write: true, clears: cell,
		do: func(f crdt.Fields) error { return second(in(f).Set("set").Add(field)) }}
}

// drawRemoval returns a removal of something as a whole.
func (m *mix) drawRemoval(rng *rand.Rand, kind int, key string) mutation {
	at := dotted.KeyAddress(key)
	value := at.Type(crdt.TypeString)
	remove := func(what string, at dotted.Address, do func(f crdt.Fields) error) mutation {
		return mutation{what: fmt.Sprintf("%s %q", what, at), clears: at, do: do}
	}
	switch kind {
	case deleteField:
		name := []string{m.element(rng), "in", "set"}[rng.IntN(3)]
		return remove("delete", at.Type(crdt.TypeMap).Name(name), func(f crdt.Fields) error {
			return second(f.Map(key).Remove(name))
		})
	case clearMap:
		return remove("clear map", at.Type(crdt.TypeMap), func(f crdt.Fields) error {
			return second(f.Map(key).Clear())
		})
	case clearSet:
		return remove("clear set", at.Type(crdt.TypeSet), func(f crdt.Fields) error {
			return second(f.Set(key).Clear())
		})
	case clearRegister:
		mut := remove("clear register", value, func(f crdt.Fields) error {
			return second(f.Register(key).Clear())
		})
		mut.keepsCounts = true
		return mut
	case resetCounter:
		mut := remove("reset counter", value, func(f crdt.Fields) error {
			return second(f.Counter(key).Clear())
		})
		mut.keepsTexts = true
		return mut
	case deleteString:
		return remove("delete string", value, func(f crdt.Fields) error {
			return second(f.String(key).Clear())
		})
	}
	return remove("delete", at, func(f crdt.Fields) error { return second(f.Remove(key)) })
}

func second[T any](_ T, err error) error { return err }

// errGaveUp is what a transaction returns that wants nothing of it to stay.
var errGaveUp = errors.New("the transaction gives up")

// drawTransaction returns what a client asks for.
func (m *mix) drawTransaction(rng *rand.Rand) []mutation {
	var muts []mutation
	if m.empties > 0 && rng.IntN(m.empties) == 0 {
		muts = append(muts, mutation{what: "clear everything", all: true,
			do: func(f crdt.Fields) error { return second(f.Clear()) }})
	}
	for range 1 + rng.IntN(3) {
		mut := m.draw(rng)
		muts = append(muts, mut)
		if m.weights[addMany] > 0 && rng.IntN(25-5*m.weights[addMany]) == 0 {
			key := m.keys[rng.IntN(len(m.keys))]
			first := rng.IntN(100)
			for i := range 17 + rng.IntN(20) {
				muts = append(muts, addTo(key, "many "+strconv.Itoa(first+i)))
			}
		}
	}
	if m.scored != nil && m.scored.IntN(2) == 0 {
		muts = slices.Insert(muts, m.scored.IntN(len(muts)+1), m.drawScore())
	}
	if m.bits != nil && m.bits.IntN(2) == 0 {
		muts = slices.Insert(muts, m.bits.IntN(len(muts)+1), m.drawBits())
	}
	if m.streams != nil && m.streams.IntN(2) == 0 {
		muts = append(muts, m.drawStreamed()...)
	}
	if m.lists != nil && m.lists.IntN(2) == 0 {
		muts = append(muts, m.drawListed()...)
	}
	if m.timed != nil && (m.timed.IntN(3) == 0) != m.fields {
		muts = slices.Insert(muts, m.timed.IntN(len(muts)+1), m.drawExpiry())
	}
	return muts
}
