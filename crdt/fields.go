package crdt

import (
	"iter"
	"strings"

	"github.com/peerd/peerd/internal/dotted"
)

// Fields is a set of names, each of which may hold a value of every type: the keys of a State or a
// database, or the fields of a map. Its methods return handles, which cost nothing and read or
// write only when asked to.
//
// Reads return no error: see Err. Writes return one if they are refused, and then have changed
// nothing, so that the transaction may go on: ErrTooLong, ErrOverflow, ErrNotInteger,
// ErrNotANumber, ErrStreamID, ErrStreamFull, ErrNoGroup, ErrBeyond, ErrReadOnly. (A database's
// ErrTooLarge says that the whole transaction is beyond its limits, and will not be committed.)
// Under a name or path beyond the limits nothing is found, and every write returns ErrTooLong.
//
// The body of a loop over All and its like may write to what it goes through. What it removes is
// not passed any more, or was read ahead and is; with what it adds it is the same.
//
// A name exists while something visible is stored under it. What two replicas store under one name
// with two types at the same time stays, both of it.
type Fields struct {
	ref
}

// fieldsOf returns the keys of a transaction.
func fieldsOf(tx dotted.Tx) (f Fields) {
	f.bind(tx)
	return f
}

// bind makes f the keys of a transaction, in the memory of the one before, if there was one.
func (f *Fields) bind(tx dotted.Tx) {
	s := f.tx
	if s == nil {
		s = new(session)
	}
	*s = session{Tx: tx}
	f.ref = ref{tx: s}
}

// Has reports whether anything is stored under name. O(1) for a key; for a field O(log cells).
func (f Fields) Has(name string) bool {
	ok, _ := f.named(name).exists()
	return ok
}

// Types returns the types of what is stored under name: none, one, or several if replicas
// disagreed. Cost as Has.
func (f Fields) Types(name string) (held Types) {
	if f.depth == 0 && f.err == nil && len(name) <= MaxName {
		key := ref{tx: f.tx, key: name, depth: 1} // its address is not asked for, unless keys expire
		if f.broken() == nil && f.tx.Timed() {
			key = f.named(name)
		}
		s, _ := key.summary()
		for t := range s.Types() {
			held = held.With(t)
		}
		if key.at != "" {
			held = key.withoutHidden(held)
		}
		return held
	}
	n := f.named(name)
	for _, t := range types {
		if ok, _ := n.typed(t.Type).exists(); ok {
			held = held.With(t.Type)
		}
	}
	return held
}

// Len returns the number of names. O(1) for a key that is a map of strings alone, else as All. (The
// number of keys of a database is O(1) too: peer.Tx.Len.)
func (f Fields) Len() int {
	if n, ok := f.flatLen(); ok {
		return n
	}
	n := 0
	f.names("", func(name) bool { n++; return true })
	return n
}

// All passes the names in order, each with the types under it.
// O(names · log cells): the cells inside a container are skipped. The order is that of bytes; for
// names of more than 256 it may, after the first 128, be another one of the database's own.
func (f Fields) All() iter.Seq2[string, Types] { return f.all("") }

// AllAfter passes the names greater than the given one, which need not be there, as All does.
func (f Fields) AllAfter(name string) iter.Seq2[string, Types] { return f.all(f.beyond(name)) }

// Scan passes the names greater than after, or all if that is empty, as All does and, with no
// types, those that have expired and are not removed yet: who bounds how much it looks at counts
// them. Behind the empty name AllAfter goes on.
func (f Fields) Scan(after string) iter.Seq2[string, Types] {
	if after == "" {
		return f.passed("", f.withExpired)
	}
	return f.passed(f.beyond(after), f.withExpired)
}

func (f Fields) all(after dotted.Address) iter.Seq2[string, Types] {
	return f.passed(after, f.names)
}

func (f Fields) passed(
	after dotted.Address, names func(after dotted.Address, fn func(name) bool),
) iter.Seq2[string, Types] {
	parts := inParts(f.ref, after, names, func(n name) dotted.Address { return f.beyond(n.name) })
	return func(yield func(string, Types) bool) {
		for n := range parts {
			if !yield(n.name, n.types) {
				return
			}
		}
	}
}

// name is a name with the types under it.
type name struct {
	name  string
	types Types
}

// beyond returns an address after all that is under a name.
func (f Fields) beyond(name string) dotted.Address { return f.at.Name(name).Type(lastType) }

// names calls fn for each name that has a visible cell after the given address.
func (f Fields) names(after dotted.Address, fn func(name) bool) {
	f.gather(f.scan, after, fn)
}

// withExpired is names that also calls fn, with no types, for those that have expired.
func (f Fields) withExpired(after dotted.Address, fn func(name) bool) {
	if f.broken() != nil || f.expired() {
		return
	}
	f.gather(f.scanAll, after, func(n name) bool {
		if named := f.named(n.name); named.expired() {
			n.types = 0
		} else if f.depth == 0 {
			n.types = named.withoutHidden(n.types)
		}
		return fn(n)
	})
}

// scanner is ref.scan, or scanAll.
type scanner func(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error

// gather is names of the cells of a scan.
func (f Fields) gather(scan scanner, after dotted.Address, fn func(name) bool) {
	var last name
	again := true
	err := f.walkOver(scan, after, func(called string, t Type, _ addressed) bool {
		if last.types != 0 && last.name != called {
			if again = fn(last); !again {
				return false
			}
			last.types = 0
		}
		last = name{called, last.types.With(t)}
		return true
	})
	if last.types != 0 && again && err == nil {
		fn(last)
	}
}

// Remove removes everything under name, whatever its types, and reports whether there was
// anything. Concurrent writes survive it. One small operation, and no scan for a key of many cells
// without counters.
func (f Fields) Remove(name string) (existed bool, err error) { return f.named(name).clear() }

// Clear removes all names, and reports whether there were any: the fields of a map, or everything
// there is. Concurrent writes survive it. One small operation, and no scan of what holds no
// counters; each counter that another replica has counted on costs one more, so that very many are
// too large for one transaction.
func (f Fields) Clear() (existed bool, err error) { return f.clear() }

// Err returns why a read of the transaction failed: the first that did. What was read since is
// empty. A database then ends the transaction with that error, whatever else happens, so that only
// a loop or a decision that must not go on needs to ask. A State's reads never fail.
func (f Fields) Err() error {
	if f.tx == nil {
		return nil
	}
	return f.tx.err
}

// walk calls fn for each name and type that has a visible cell after the given address, with the
// first such cell.
func (f Fields) walk(after dotted.Address, fn func(name string, t Type, first addressed) bool) error {
	return f.walkOver(f.scan, after, fn)
}

// walkOver is walk of the cells of a scan.
func (f Fields) walkOver(
	scan scanner, after dotted.Address, fn func(name string, t Type, first addressed) bool,
) error {
	var group dotted.Address // the name and type that fn was called for last
	var passed int           // cells of the group since then
	for again := true; again; {
		again = false
		err := scan(after, func(a dotted.Address, c dotted.Cell) bool {
			if group != "" && strings.HasPrefix(string(a), string(group)) {
				passed++
				again = passed == walkSteps
				return !again
			}
			name, rest, ok := a[len(f.at):].CutName()
			if !ok || rest == "" || !c.Visible() || a.IsExpiry() {
				return true
			}
			group, passed = a[:len(a)-len(rest)+1], 0
			return fn(name, Type(rest[0]), addressed{a, c})
		})
		if err != nil {
			return err
		}
		after = endOf(group)
	}
	return nil
}

// walkSteps is how many cells of one container a walk passes before it seeks beyond them: a seek
// costs as much as a few dozen steps.
const walkSteps = 32

// lastType sorts after every type: with it ends an address beyond all that is under a name.
const lastType Type = 0xff

// endOf returns, for an address that ends with a container's type, one beyond all that begin with
// it: the same name with the next type. No cell may have it, so n and t are never types.
func endOf(a dotted.Address) dotted.Address {
	last := len(a) - 1
	if last < 0 || Type(a[last]) == lastType {
		return a
	}
	return a[:last].Type(Type(a[last]) + 1)
}
