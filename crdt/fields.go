package crdt

import "strings"

// Fields is a set of names, each of which may hold a value of every type: the keys of a database,
// or the fields of a map. Its methods return handles, which cost nothing and read or write only
// when asked to. A handle of a name or path beyond the limits returns ErrTooLong from everything
// it does.
//
// A name exists while something visible is stored under it. What two replicas store under one name
// with two types at the same time stays, both of it.
type Fields struct {
	node
}

// Root returns the keys.
func Root(tx Tx) Fields { return Fields{node{tx: tx}} }

// Register returns the register under name. It shares its cell with the counter and string of that
// name.
func (f Fields) Register(name string) Register { return Register{f.named(name).typed(TypeValue)} }

// Counter returns the counter under name. It shares its cell with the register and string of that
// name.
func (f Fields) Counter(name string) Counter { return Counter{f.named(name).typed(TypeValue)} }

// String returns the string under name.
func (f Fields) String(name string) String { return String{f.named(name).typed(TypeValue)} }

// Flag returns the flag under name.
func (f Fields) Flag(name string) Flag { return Flag{f.named(name).typed(TypeFlag)} }

// Set returns the set under name.
func (f Fields) Set(name string) Set { return Set{f.named(name).typed(TypeSet)} }

// Map returns the map under name.
func (f Fields) Map(name string) Map { return Map{Fields{f.named(name).typed(TypeMap)}} }

// Exists reports whether anything is stored under name. O(1) for a key; for a field O(log cells).
func (f Fields) Exists(name string) (bool, error) { return f.named(name).exists() }

// Types returns the types of what is stored under name: none, one, or several if replicas
// disagreed. They come in the order of types below. Cost as Exists.
func (f Fields) Types(name string) ([]Type, error) {
	held := make([]Type, 0, len(types))
	for _, t := range types {
		ok, err := f.named(name).typed(t).exists()
		if err != nil {
			return nil, err
		}
		if ok {
			held = append(held, t)
		}
	}
	return held, nil
}

// types is the order in which several types under one name are listed: what holds the most comes
// first. A front-end that can show only one shows the first.
var types = [...]Type{TypeMap, TypeSet, TypeValue, TypeFlag}

// Delete removes everything under name, whatever its types, and reports whether there was
// anything. Concurrent writes survive it. One small operation, and no scan for a key of many cells
// without counters.
func (f Fields) Delete(name string) (existed bool, err error) { return f.named(name).clear() }

// Clear removes all names, and reports whether there were any: the fields of a map, or everything there is.
// Concurrent writes survive it. One small operation, and no scan of what holds no counters; each counter
// that another replica has counted on costs one more, so that very many are too large for one transaction.
func (f Fields) Clear() (existed bool, err error) { return f.clear() }

// Range calls fn for each name in order, once for each type under it, until fn returns false. fn
// must not write. O(names · log cells): the cells inside a container are skipped. The order is that
// of bytes; for names of more than 256 it may, after the first 128, be another one of Tx.Scan's own.
func (f Fields) Range(fn func(name string, t Type) bool) error { return f.walk("", fn) }

// RangeAfter is Range from the first name greater than after: how a scan goes on in another
// transaction.
func (f Fields) RangeAfter(after string, fn func(name string, t Type) bool) error {
	if err := checkName(after, f.depth+1); err != nil {
		return err
	}
	return f.walk(f.at.Name(after).Type(lastType), fn)
}

// walk calls fn for each name and type that has a visible cell after the given address.
func (f Fields) walk(after Address, fn func(name string, t Type) bool) error {
	var group Address // the name and type that fn was called for last
	var passed int    // cells of the group since then
	for again := true; again; {
		again = false
		err := f.scan(after, func(a Address, c Cell) bool {
			if group != "" && strings.HasPrefix(string(a), string(group)) {
				passed++
				again = passed == walkSteps
				return !again
			}
			name, rest, ok := a[len(f.at):].CutName()
			if !ok || rest == "" || !c.Visible() {
				return true
			}
			group, passed = a[:len(a)-len(rest)+1], 0
			return fn(name, Type(rest[0]))
		})
		if err != nil {
			return err
		}
		after = group.end()
	}
	return nil
}

// walkSteps is how many cells of one container a walk passes before it seeks beyond them: a seek
// costs as much as a few dozen steps.
const walkSteps = 32

// lastType sorts after every type: with it ends an address beyond all that is under a name.
const lastType Type = 0xff

// end returns, for an address that ends with a container's type, one beyond all that begin with it:
// the same name with the next type. No cell may have it, so n and t are never types.
func (a Address) end() Address {
	last := len(a) - 1
	if last < 0 || Type(a[last]) == lastType {
		return a
	}
	return a[:last].Type(Type(a[last]) + 1)
}

// Map is a map from names to values of any type, nested to any depth within MaxDepth. Its fields
// have no cell of their own: a field is there as long as something under it is. So an update
// inside a field wins over a concurrent removal of the field, or of the whole map.
type Map struct {
	Fields
}

// Len returns the number of names. O(1) for a key whose fields are all strings, else as Range.
func (m Map) Len() (int, error) {
	if n, ok, err := m.flatLen(); ok || err != nil {
		return n, err
	}
	n, last := 0, ""
	err := m.Range(func(name string, _ Type) bool {
		if n == 0 || name != last {
			n, last = n+1, name
		}
		return true
	})
	return n, err
}

// flatLen returns the number of fields if each of them is known to have exactly one cell.
func (m Map) flatLen() (n int, ok bool, err error) {
	if m.err != nil || m.depth != 1 {
		return 0, false, m.err
	}
	s, err := m.tx.Summary(m.key)
	if err != nil {
		return 0, false, err
	}
	const flat = string(TypeMap) + string(TypeValue)
	n = s.Visible[flat]
	return n, s.Count(TypeMap) == n, nil
}
