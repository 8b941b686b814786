package sim

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// The oracle says what a reader must get, as a plain function of the history and of which
// transactions the reader's replica has: an effect on a cell is live until one that had seen it
// removed it. It knows nothing of dots in cells, contexts in clears, shares or baselines.
// (Burckhardt, Gotsman, Yang, Zawirski: Replicated Data Types: Specification, Verification,
// Optimality, 2014.)

// reading is what a reader gets at one cell, in words that can be compared.
type reading map[string]string

// expected returns what must be read of a key by a replica that has seen what it has.
func (h *history) expected(key string, seen []uint64) reading {
	cells := map[dotted.Address][]*effect{}
	for _, e := range h.byKey[key] {
		if e.cell != "" && has(seen, e.of) && !e.removedBy(seen) {
			cells[e.cell] = append(cells[e.cell], e)
		}
	}
	out := make(reading, len(cells))
	for a, live := range cells {
		out[string(a)] = describe(a, live)
	}
	return out
}

// removedBy reports whether somebody who has seen this much has seen the effect removed.
func (e *effect) removedBy(seen []uint64) bool {
	for _, x := range e.removers {
		if has(seen, x) {
			return true
		}
	}
	return false
}

// removes reports whether a mutation removes another one's effect: it had seen it.
func (e *effect) removes(o *effect) bool {
	return (e.all || e.clears != "") && o.cell != "" && !(o.count && e.keepsCounts) && !(o.write && e.keepsTexts) &&
		e.sees(o) && strings.HasPrefix(o.at, e.span)
}

// describe says how a cell with the given live effects reads.
func describe(a dotted.Address, live []*effect) string {
	shape := a.Shape()
	if shape[len(shape)-1] != byte(crdt.TypeValue) {
		return "there"
	}
	slices.SortFunc(live, func(x, y *effect) int {
		if x.of.time != y.of.time {
			return int(int64(x.of.time) - int64(y.of.time))
		}
		return crdt.Dot{Replica: x.of.first.Replica, Counter: x.of.first.Counter + uint64(x.n)}.Compare(
			crdt.Dot{Replica: y.of.first.Replica, Counter: y.of.first.Counter + uint64(y.n)})
	})
	var texts []string
	var total int64
	counts := false
	for _, e := range live {
		if e.write {
			texts = append(texts, e.text)
		}
		total += e.adds
		counts = counts || e.count
	}
	return sayValue(texts, total, counts)
}

// sayValue says how a value cell reads: texts, the latest last, and the sum of the increments.
func sayValue(texts []string, total int64, counts bool) string {
	values := slices.Clone(texts)
	for i, text := range texts {
		n, err := strconv.ParseInt(text, 10, 64)
		if counts && err == nil && strconv.FormatInt(n, 10) == text {
			values[i] = strconv.FormatInt(n+total, 10)
		}
	}
	if len(values) == 0 {
		values = []string{strconv.FormatInt(total, 10)}
	}
	return say(values[len(values)-1], values, total)
}

// say renders a value cell. Long texts are told by their length and ends.
func say(latest string, values []string, total int64) string {
	short := make([]string, len(values))
	for i, v := range values {
		short[i] = abbreviate(v)
	}
	sort.Strings(short)
	return fmt.Sprintf("%s of %q, counted %d", abbreviate(latest), short, total)
}

func abbreviate(v string) string {
	if len(v) <= 40 {
		return v
	}
	return fmt.Sprintf("%s…%s (%d bytes)", v[:12], v[len(v)-12:], len(v))
}

// read returns what a reader gets of a key, through the types' own methods.
func read(f crdt.Fields, key string) (reading, error) {
	out := reading{}
	err := readName(f, key, dotted.KeyAddress(key), f.Types(key), out)
	if f.Err() != nil {
		return nil, f.Err() // what was read since is no reading
	}
	return out, err
}

// readName reads all types under a name.
func readName(
	f crdt.Fields, name string, at dotted.Address, kinds crdt.Types, out reading,
) error {
	if exists := f.Has(name); exists != (kinds != 0) {
		return fmt.Errorf("name %q: exists %v, types %v", name, exists, kinds)
	}
	for t := range kinds.All() {
		if err := readType(f, name, at.Type(t), t, out); err != nil {
			return err
		}
	}
	return nil
}

// readType reads one type under a name.
func readType(f crdt.Fields, name string, at dotted.Address, t crdt.Type, out reading) error {
	switch t {
	case crdt.TypeSet:
		return readSet(f.Set(name), at, out)
	case crdt.TypeMap:
		return readMap(f.Map(name), at, out)
	case crdt.TypeFlag:
		out[string(at)] = "there"
		if !f.Flag(name).Get() {
			return fmt.Errorf("flag %q is listed and not set", at)
		}
		return nil
	}
	return readValue(f, name, at, out)
}

func readValue(f crdt.Fields, name string, at dotted.Address, out reading) error {
	latest, ok := f.String(name).Get()
	if !ok {
		return fmt.Errorf("string %q is listed and not there", at)
	}
	var values []string
	for text := range f.String(name).All() {
		values = append(values, string(text))
	}
	out[string(at)] = say(string(latest), values, f.Counter(name).Get())
	return nil
}

func readSet(s crdt.Set, at dotted.Address, out reading) error {
	found := 0
	for e := range s.All() {
		out[string(at.Name(e))] = "there"
		found++
	}
	if n := s.Len(); n != found {
		return fmt.Errorf("set %q: length %d, %d elements", at, n, found)
	}
	return nil
}

func readMap(m crdt.Map, at dotted.Address, out reading) error {
	names := 0
	for name, kinds := range m.All() {
		if err := readName(m.Fields, name, at.Name(name), kinds, out); err != nil {
			return err
		}
		names++
	}
	if n := m.Len(); n != names {
		return fmt.Errorf("map %q: length %d, %d names", at, n, names)
	}
	return nil
}

// difference says where two readings differ; "" if they do not.
func difference(want, got reading) string {
	var names []string
	for a := range want {
		names = append(names, a)
	}
	for a := range got {
		if _, both := want[a]; !both {
			names = append(names, a)
		}
	}
	sort.Strings(names)
	for _, a := range names {
		w, wanted := want[a]
		g, there := got[a]
		switch {
		case wanted && !there:
			return fmt.Sprintf("%q is gone, want %s", a, w)
		case !wanted && there:
			return fmt.Sprintf("%q is there and should not be: %s", a, g)
		case w != g:
			return fmt.Sprintf("%q reads %s, want %s", a, g, w)
		}
	}
	return ""
}
