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

// reading is what a reader gets of a key: a fact of each cell that is there, by address.
type reading []fact

// fact is what a reader gets at one cell.
type fact struct {
	at     dotted.Address
	texts  []string // of a value, in order; none of other cells
	latest string
	total  int64
}

func (f fact) String() string {
	if len(f.texts) == 0 {
		return "there " + f.latest
	}
	short := make([]string, len(f.texts))
	for i, v := range f.texts {
		short[i] = abbreviate(v)
	}
	return fmt.Sprintf("%s of %q, counted %d", abbreviate(f.latest), short, f.total)
}

func (f fact) equal(o fact) bool {
	return f.latest == o.latest && f.total == o.total && slices.Equal(f.texts, o.texts)
}

func abbreviate(v string) string {
	if len(v) <= 40 {
		return v
	}
	return fmt.Sprintf("%s…%s (%d bytes)", v[:12], v[len(v)-12:], len(v))
}

// expected returns what must be read of a key by a replica that has seen what it has. It is valid until the next call.
func (h *history) expected(key string, seen []uint64) reading {
	live, out := h.live, h.want[:0]
	for _, c := range h.byKey[key] {
		live = live[:0]
		for _, e := range c.effects {
			if has(seen, e.of) && !e.removedBy(seen) {
				live = append(live, e)
			}
		}
		switch {
		case len(live) == 0:
		case c.stream:
			out = append(out, h.readsStreamed(key, c, live, seen))
		default:
			out = append(out, c.reads(live))
		}
	}
	h.live, h.want = live, out
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

// removes reports whether a mutation removes the effect of another one on a cell that it clears: it had seen it.
func (e *effect) removes(o *effect) bool {
	return !(o.count && e.keepsCounts) && !(o.write && e.keepsTexts) && e.sees(o)
}

// reads says how the cell with the given live effects reads.
func (c *cell) reads(live []*effect) fact {
	switch c.typ {
	case crdt.TypeString, crdt.TypeSortedSet, crdt.TypeBitmap, crdt.TypeHyperLogLog, crdt.TypeList:
	default:
		return fact{at: c.at}
	}
	slices.SortFunc(live, func(x, y *effect) int {
		if x.of.time != y.of.time {
			return int(int64(x.of.time) - int64(y.of.time))
		}
		return crdt.Dot{Replica: x.of.first.Replica, Counter: x.of.first.Counter + uint64(x.n)}.Compare(
			crdt.Dot{Replica: y.of.first.Replica, Counter: y.of.first.Counter + uint64(y.n)})
	})
	switch c.typ {
	case crdt.TypeSortedSet:
		return c.score(live)
	case crdt.TypeBitmap, crdt.TypeHyperLogLog:
		return c.readsBits(live)
	case crdt.TypeList:
		return c.readsListed(live)
	}
	f := fact{at: c.at}
	counts := false
	for _, e := range live {
		if e.write {
			f.texts = append(f.texts, e.text)
		}
		f.total += e.adds
		counts = counts || e.count
	}
	for i, text := range f.texts {
		n, err := strconv.ParseInt(text, 10, 64)
		if counts && err == nil && strconv.FormatInt(n, 10) == text {
			f.texts[i] = strconv.FormatInt(n+f.total, 10)
		}
	}
	if len(f.texts) == 0 {
		f.texts = []string{strconv.FormatInt(f.total, 10)}
	}
	f.latest = f.texts[len(f.texts)-1]
	sort.Strings(f.texts)
	return f
}

// read appends what a reader gets of a key, through the types' own methods.
func read(f crdt.Fields, key string, out reading) (reading, error) {
	err := readName(f, key, dotted.KeyAddress(key), f.Types(key), &out)
	if f.Err() != nil {
		err = f.Err() // what was read since is no reading
	}
	slices.SortFunc(out, func(a, b fact) int { return strings.Compare(string(a.at), string(b.at)) })
	return out, err
}

func (r *reading) add(f fact) { *r = append(*r, f) }

// readName reads all types under a name.
func readName(
	f crdt.Fields, name string, at dotted.Address, kinds crdt.Types, out *reading,
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
func readType(f crdt.Fields, name string, at dotted.Address, t crdt.Type, out *reading) error {
	switch t {
	case crdt.TypeSet:
		return readSet(f.Set(name), at, out)
	case crdt.TypeSortedSet:
		return readSortedSet(f.SortedSet(name), at, out)
	case crdt.TypeMap:
		return readMap(f.Map(name), at, out)
	case crdt.TypeBitmap:
		return readBitmap(f.Bitmap(name), at, out)
	case crdt.TypeHyperLogLog:
		return readCounts(f.HyperLogLog(name), at, out)
	case crdt.TypeList:
		return readList(f.List(name), at, out)
	case crdt.TypeStream:
		return readStream(f.Stream(name), at, out)
	case crdt.TypeFlag:
		out.add(fact{at: at})
		if !f.Flag(name).Get() {
			return fmt.Errorf("flag %q is listed and not set", at)
		}
		return nil
	}
	return readValue(f, name, at, out)
}

func readValue(f crdt.Fields, name string, at dotted.Address, out *reading) error {
	latest, ok := f.String(name).Get()
	if !ok {
		return fmt.Errorf("string %q is listed and not there", at)
	}
	var values []string
	for text := range f.String(name).All() {
		values = append(values, string(text))
	}
	sort.Strings(values)
	out.add(fact{at, values, string(latest), f.Counter(name).Get()})
	return nil
}

func readSet(s crdt.Set, at dotted.Address, out *reading) error {
	found := 0
	for e := range s.All() {
		out.add(fact{at: at.Name(e)})
		found++
	}
	if n := s.Len(); n != found {
		return fmt.Errorf("set %q: length %d, %d elements", at, n, found)
	}
	return nil
}

func readMap(m crdt.Map, at dotted.Address, out *reading) error {
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

// difference says where two readings first differ; "" if they do not.
func difference(want, got reading) string {
	for len(want)+len(got) > 0 {
		switch {
		case len(got) == 0 || len(want) > 0 && want[0].at < got[0].at:
			return fmt.Sprintf("%q is gone, want %v", want[0].at, want[0])
		case len(want) == 0 || got[0].at < want[0].at:
			return fmt.Sprintf("%q is there and should not be: %v", got[0].at, got[0])
		case !got[0].equal(want[0]):
			return fmt.Sprintf("%q reads %v, want %v", got[0].at, got[0], want[0])
		}
		want, got = want[1:], got[1:]
	}
	return ""
}
