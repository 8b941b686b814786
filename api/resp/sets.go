package resp

import (
	"iter"
	"math"
	"slices"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// set returns the set of the key that the first argument names.
func (c *call) set() crdt.Set { return c.tx.Set(c.arg(1)) }

// setError returns errWrongType if that key exists without a set.
func (c *call) setError() error { return setErrorOf(c, c.arg(1)) }

func setErrorOf(c *call, key string) error { return c.typeError(key, crdt.TypeSet) }

func runSAdd(c *call) error {
	if err := c.setError(); err != nil {
		return err
	}
	return c.countEach(2, "members", c.set().Add)
}

func runSRem(c *call) error {
	if err := c.setError(); err != nil {
		return err
	}
	return c.countEach(2, "members", c.set().Remove)
}

// countEach calls fn, which may change what it names, with each argument from the given one on and
// replies how often it returned true.
func (c *call) countEach(first int, of string, fn func(string) (bool, error)) error {
	if err := c.changing(len(c.args)-first, of); err != nil {
		return err
	}
	n := 0
	for i := first; i < len(c.args); i++ {
		counts, err := fn(c.arg(i))
		if err != nil {
			return err
		}
		if counts {
			n++
		}
	}
	c.out.integer(int64(n))
	return nil
}

// Commands that only read look at the key's type last, and only if they have found nothing.

func runSIsMember(c *call) error {
	if c.set().Has(c.arg(2)) {
		c.out.integer(1)
		return nil
	}
	if err := c.setError(); err != nil {
		return err
	}
	c.out.integer(0)
	return nil
}

func runSCard(c *call) error {
	n := c.set().Len()
	if n == 0 {
		if err := c.setError(); err != nil {
			return err
		}
	}
	c.out.integer(int64(n))
	return nil
}

func runSMembers(c *call) error {
	n := c.set().Len()
	if n == 0 {
		if err := c.setError(); err != nil {
			return err
		}
	}
	return c.names(n, c.out.setAt, c.set().All())
}

// names replies with some names: see listing.
func (c *call) names(n int, header func(at, n int), all iter.Seq[string]) error {
	return listing(c, n, header, withoutValues(all), func(name string, _ []byte) { c.out.text(name) })
}

func runSMIsMember(c *call) error {
	if err := c.setError(); err != nil {
		return err
	}
	set := c.set()
	c.out.array(len(c.args) - 2)
	for i := 2; i < len(c.args); i++ {
		c.out.integer(int64(oneIf(set.Has(c.arg(i)))))
	}
	return nil
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

func runSMove(c *call) error {
	from, to, elem := c.tx.Set(c.arg(1)), c.tx.Set(c.arg(2)), c.arg(3)
	if !c.tx.Has(c.arg(1)) {
		c.out.integer(0)
		return nil
	}
	for _, key := range []string{c.arg(1), c.arg(2)} {
		if err := c.typeError(key, crdt.TypeSet); err != nil {
			return err
		}
	}
	if !from.Has(elem) || c.arg(1) == c.arg(2) {
		c.out.integer(int64(oneIf(from.Has(elem))))
		return nil
	}
	if _, err := from.Remove(elem); err != nil {
		return err
	}
	if _, err := to.Add(elem); err != nil {
		return err
	}
	c.out.integer(1)
	return nil
}

// runSRandMember chooses of all members alike.
func runSRandMember(c *call) error {
	if len(c.args) > 3 {
		return errSyntax
	}
	count, _, err := c.randomCount("")
	if err != nil {
		return err
	}
	if err := c.setError(); err != nil {
		return err
	}
	set := c.set()
	n := set.Len()
	if err := drawable(n, count); err != nil {
		return err
	}
	return c.writeRandom(c.drawSome(n, count, set.Has, set.All()), false, nil)
}

// runSPop removes random members, without going through a large set, for which all other writers
// would wait. What was drawn with them is for the next ones.
func runSPop(c *call) error {
	if len(c.args) > 3 {
		return errSyntax
	}
	count := int64(1)
	if len(c.args) == 3 {
		var err error
		if count, err = c.integer(2); err != nil || count < 0 {
			return replyError("ERR value is out of range, must be positive")
		}
	}
	if err := c.setError(); err != nil {
		return err
	}
	set := c.set()
	n := set.Len()
	count = min(count, int64(n))
	if err := c.changing(int(count), "members"); err != nil {
		return err
	}
	switch {
	case len(c.args) == 3:
		c.out.set(int(count))
	case count == 0:
		c.out.null()
	}
	if count == 0 {
		return nil
	}
	some := c.drawAway(set, int(count), n)
	for _, elem := range some {
		if _, err := set.Remove(elem); err != nil {
			return err
		}
		c.out.text(elem)
	}
	return nil
}

// workOfSPop is about how many members SPOP looks at, as what it draws is for many.
func workOfSPop(c *call, _ *command) int64 {
	return int64(min(c.set().Len(), mostPassed)) / leastWindow
}

func runSScan(c *call) error {
	return scanWithin(c, c.setError, func(after string, more bool) iter.Seq2[string, []byte] {
		if more {
			return withoutValues(c.set().AllAfter(after))
		}
		return withoutValues(c.set().All())
	}, func(member string, _ []byte) int {
		c.out.text(member)
		return 1
	})
}

// algebra passes the members of what an operation makes of the sets under some keys, each once.
// Of an intersection it goes through the smallest set.
type algebra func(sets []crdt.Set, yield func(elem string) bool)

func intersection(sets []crdt.Set, yield func(string) bool) {
	smallest := slices.MinFunc(sets, func(a, b crdt.Set) int { return a.Len() - b.Len() })
	all, end := among(sets, smallest.Len())
	defer end()
	for elem := range smallest.All() {
		if !slices.ContainsFunc(all, func(has func(string) bool) bool { return !has(elem) }) && !yield(elem) {
			return
		}
	}
}

func difference(sets []crdt.Set, yield func(string) bool) {
	without(sets[0], present(sets[1:]), yield)
}

// without passes the members of a set that no other one has, and reports whether more are wanted.
func without(s crdt.Set, others []crdt.Set, yield func(string) bool) (more bool) {
	all, end := among(others, s.Len())
	defer end()
	for elem := range s.All() {
		if !slices.ContainsFunc(all, func(has func(string) bool) bool { return has(elem) }) && !yield(elem) {
			return false
		}
	}
	return true
}

const (
	// mergedFrom is of how many elements it is worth to go through two sets at once.
	mergedFrom = 256
	// mergedMost is how many times as large the other set may be: finding an element costs as much
	// as going through some five.
	mergedMost = 4
	// mergedSets is of how many others: each takes some memory meanwhile.
	mergedSets = 4
	// mergedName is how long a member may be, in bytes: longer ones have an order of their own.
	mergedName = 256
)

// among returns for each set a function that reports whether it has an element. They are asked for
// as many elements as count, in their order, each no more than once; then end is to be called.
func among(sets []crdt.Set, count int) (has []func(elem string) bool, end func()) {
	var ends []func()
	for _, s := range sets {
		if count < mergedFrom || s.Len() > mergedMost*count || len(ends) == mergedSets {
			has = append(has, s.Has)
			continue
		}
		next, stop := iter.Pull(s.All())
		at, more := next()
		has = append(has, func(elem string) bool {
			if len(elem) > mergedName {
				return s.Has(elem)
			}
			for more && (at < elem || len(at) > mergedName) {
				at, more = next()
			}
			return more && at == elem
		})
		ends = append(ends, stop)
	}
	return has, func() {
		for _, end := range ends {
			end()
		}
	}
}

// present returns the sets that have a member.
func present(sets []crdt.Set) []crdt.Set {
	return slices.DeleteFunc(slices.Clone(sets), func(s crdt.Set) bool { return s.Len() == 0 })
}

func union(sets []crdt.Set, yield func(string) bool) {
	sets = present(sets)
	for i, s := range sets {
		if !without(s, sets[:i], yield) {
			return
		}
	}
}

// sets returns the sets under the keys that some arguments name.
func (c *call) sets(first, last int) ([]crdt.Set, error) {
	var sets []crdt.Set
	for i := first; i <= last; i++ {
		if err := c.typeError(c.arg(i), crdt.TypeSet); err != nil {
			return nil, err
		}
		sets = append(sets, c.tx.Set(c.arg(i)))
	}
	return sets, nil
}

// combined replies with what an operation makes of the sets.
func combined(of algebra) func(*call) error {
	return func(c *call) error {
		sets, err := c.sets(1, len(c.args)-1)
		if err != nil {
			return err
		}
		return c.names(-1, c.out.setAt, func(yield func(string) bool) { of(sets, yield) })
	}
}

// stored has the first key hold what an operation makes of the sets under the others, whatever it
// held.
func stored(of algebra) func(*call) error {
	return func(c *call) error {
		sets, err := c.sets(2, len(c.args)-1)
		if err != nil {
			return err
		}
		looks, err := c.mayCombine()
		if err != nil {
			return err
		}
		made, err := lookAhead(c, looks, 2, len(c.args), func() (made []string, err error) {
			held := 0
			of(sets, func(elem string) bool {
				made, held = append(made, elem), held+len(elem)
				return len(made) <= embedded.MaxOps && held <= MaxReply
			})
			if held > MaxReply {
				return nil, errMuchHeld
			}
			return made, nil
		})
		if err != nil {
			return err
		}
		if err := c.changing(len(made), "members"); err != nil {
			return err
		}
		if _, err := c.tx.Remove(c.arg(1)); err != nil {
			return err
		}
		set := c.set()
		for _, elem := range made {
			if _, err := set.Add(elem); err != nil {
				return err
			}
		}
		c.out.integer(int64(len(made)))
		return nil
	}
}

func runSInterCard(c *call) error {
	n, err := c.integer(1)
	switch {
	case err != nil || n < 1:
		return replyError("ERR numkeys should be greater than 0")
	case n > int64(len(c.args)-2):
		return replyError("ERR Number of keys can't be greater than number of args")
	}
	limit := int64(math.MaxInt64)
	for i := int(n) + 2; i < len(c.args); i += 2 {
		if !c.is(i, "limit") || i+1 == len(c.args) {
			return errSyntax
		}
		if limit, err = c.integer(i + 1); err != nil || limit < 0 {
			return replyError("ERR LIMIT can't be negative")
		}
		if limit == 0 {
			limit = math.MaxInt64
		}
	}
	sets, err := c.sets(2, int(n)+1)
	if err != nil {
		return err
	}
	count := int64(0)
	intersection(sets, func(string) bool {
		count++
		return count < limit
	})
	c.out.integer(count)
	return nil
}

var setKind = kind{
	typ:   crdt.TypeSet,
	count: func(tx *embedded.Tx, key string) (int, bool) { return tx.Set(key).Len(), true },
	parts: func(tx *embedded.Tx, key string) iter.Seq2[string, []byte] {
		return withoutValues(tx.Set(key).All())
	},
	put: func(tx *embedded.Tx, key, elem string, _ []byte) error {
		_, err := tx.Set(key).Add(elem)
		return err
	},
	encoding: asCells,
	sorted:   true,
}

// withoutValues passes names, each with no value.
func withoutValues[T any](names iter.Seq[T]) iter.Seq2[T, []byte] {
	return func(yield func(T, []byte) bool) {
		for name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}
