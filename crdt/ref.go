package crdt

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/peerd/peerd/internal/dotted"
)

// Limits of names, in bytes. What is beyond them is refused with ErrTooLong.
const (
	MaxName    = dotted.MaxName    // a key, a field, an element of a set: 64 KiB
	MaxAddress = dotted.MaxAddress // all names on the way to a value, escaped: 256 KiB, with room for a share
	MaxDepth   = dotted.MaxDepth   // how many names that may be: 32
)

// ErrTooLong is returned for a key, a field or an element of a set beyond MaxName, for a path
// beyond MaxDepth or MaxAddress, and for a value or an element of a list beyond MaxValue.
var ErrTooLong = dotted.ErrTooLong

// ErrReadOnly is returned by the writing methods of a transaction that only reads.
var ErrReadOnly = dotted.ErrReadOnly

// session is a transaction as handles use it: after a read that failed it does nothing more. So the
// reading methods of handles need no errors, and nothing is written that was decided on half of
// what is there.
type session struct {
	dotted.Tx
	err    error
	timed  [maxTimed]timed // the key, and the field, whose expiry was looked at last
	fields timedFields

	replacing int                     // how deep the name is whose value is being replaced: see replaces
	lost      map[dotted.Address]bool // names whose expiries went with all else, and prefixes of such: see lose
}

// ref is an address within a transaction: what every handle is made of. A
// ref beyond the limits carries its error, which every write returns; nothing is there to be read.
type ref struct {
	tx    *session
	at    dotted.Address
	key   string // the first name of at
	depth int    // names in at
	typ   Type   // the type that at ends with; zero if it ends with a name
	err   error
}

// named returns the ref of a name under n; with a type that of what is stored with it there.
func (n ref) named(name string, stored ...Type) ref {
	if n.err != nil {
		return n
	}
	if n.err = checkName(name, n.depth+1); n.err != nil {
		return n
	}
	first := n.depth == 0
	n.at, n.typ = n.at.Name(name, stored...), 0
	if first {
		n.key = keyOf(n.at, name)
	}
	n.depth++
	if len(stored) > 0 {
		n.typ = stored[0]
	}
	if size := len(n.at) - len(stored) + 1 + dotted.ShareBytes; size > MaxAddress {
		n.err = fmt.Errorf("%w: an address of %d bytes (limit %d)", ErrTooLong, size, MaxAddress)
	}
	return n
}

// keyOf returns the key of an address as a part of it, if it stands there as it is: nothing keeps what
// the caller has it in, which may be the caller's own memory then.
func keyOf(at dotted.Address, key string) string {
	if there := string(at[:len(key)]); there == key {
		return there
	}
	return strings.Clone(key)
}

func checkName(name string, depth int) error {
	switch {
	case len(name) > MaxName:
		return fmt.Errorf("%w: a name of %d bytes (limit %d)", ErrTooLong, len(name), MaxName)
	case depth > MaxDepth:
		return fmt.Errorf("%w: a path of %d names (limit %d)", ErrTooLong, depth, MaxDepth)
	}
	return nil
}

// typed returns the ref of what is stored with type t under the name that n ends with.
func (n ref) typed(t Type) ref {
	n.at, n.typ = n.at.Type(t), t
	return n
}

// broken returns why nothing is read or written at n.
func (n ref) broken() error {
	switch {
	case n.err != nil:
		return n.err
	case n.tx == nil: // of the zero Fields
		return ErrReadOnly
	}
	return n.tx.err
}

// read asks the transaction for something, unless n is broken, or what it is in has expired.
func read[T any](n ref, ask func() (T, error)) (value T, err error) {
	if err = n.broken(); err != nil || n.expired() || n.tx.err != nil {
		return value, n.broken()
	}
	if value, err = ask(); n.tx.err == nil { // which may have asked itself
		n.tx.err = err
	}
	return value, n.tx.err
}

func (n ref) cell() (dotted.Cell, error) {
	return read(n, func() (dotted.Cell, error) { return n.tx.Cell(n.at) })
}

// count returns what was counted on the string at n.
func (n ref) count() (dotted.Count, error) {
	return read(n, func() (dotted.Count, error) { return n.tx.Count(n.at) })
}

// summary returns that of the key that n is in.
func (n ref) summary() (dotted.Summary, error) {
	return read(n, func() (dotted.Summary, error) { return n.tx.Summary(n.key) })
}

func (n ref) scan(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	if err := n.broken(); err != nil || n.expired() || n.tx.err != nil {
		return n.broken()
	}
	return n.scanSome(n.unexpired(), after, fn)
}

// scanAll is scan with what has expired. What n is in has not.
func (n ref) scanAll(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return n.scanSome(func(dotted.Address) bool { return true }, after, fn)
}

// scanSome calls fn for the cells at or under n that pass, after the given address.
func (n ref) scanSome(
	pass func(dotted.Address) bool, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool,
) error {
	err := n.tx.Scan(n.at, after, func(a dotted.Address, c dotted.Cell) bool {
		return (!pass(a) || fn(a, c)) && n.tx.err == nil // a read in fn may have failed
	})
	if n.tx.err == nil {
		n.tx.err = err
	}
	return n.tx.err
}

// Part sizes of loops in transactions that write.
const (
	firstPart = 16
	lastPart  = 256
)

// inParts passes what walk does from an address on. If the transaction writes, parts of it are read
// before the loop's body sees them, as what the body writes would be in the way of a scan.
func inParts[T any](n ref, after dotted.Address, walk func(after dotted.Address, fn func(T) bool),
	beyond func(T) dotted.Address) iter.Seq[T] {
	return func(yield func(T) bool) {
		if n.broken() == nil && n.tx.Replica() == 0 {
			walk(after, yield)
			return
		}
		from := after
		for size := firstPart; ; size = min(4*size, lastPart) {
			part := make([]T, 0, size)
			walk(from, func(x T) bool {
				part = append(part, x)
				return len(part) < size
			})
			for _, x := range part {
				if !yield(x) {
					return
				}
			}
			if len(part) < size {
				return
			}
			from = beyond(part[size-1])
		}
	}
}

// visible counts the visible cells at and under n and returns true, if that needs no scan.
func (n ref) visible() (cells int, ok bool, err error) {
	if n.depth != 1 || n.fieldsHide() {
		return 0, false, n.broken()
	}
	s, err := n.summary()
	switch {
	case err != nil:
		return 0, false, err
	case n.typ != 0:
		return s.Count(n.typ), true, nil
	}
	return s.Cells(), true, nil
}

// exists reports whether any cell at or under n is visible. O(log cells) but for the hidden cells
// that stand before the first visible one.
func (n ref) exists() (bool, error) {
	if cells, ok, err := n.visible(); ok || err != nil {
		return cells > 0, err
	}
	found, err := n.visibleCells(1)
	return len(found) > 0, err
}

// put adds an entry to the cell at n in place of the given ones.
func (n ref) put(payload []byte, removes []Dot) error {
	if err := n.broken(); err != nil {
		return err
	}
	hidden := payload[0]&dotted.PayloadHidden != 0
	if !hidden {
		if err := n.renew(); err != nil {
			return err
		}
	}
	slices.SortFunc(removes, Dot.Compare)
	_, err := n.tx.Put(n.at, payload, removes)
	if hidden && err == nil {
		err = n.emptied()
	}
	return err
}

// begin adds an entry that readers see to the cell at n, which nobody has written yet: see
// dotted.Tx.
func (n ref) begin(payload []byte) error {
	err := n.broken()
	if err == nil {
		err = n.renew()
	}
	if err == nil {
		_, err = n.tx.Begin(n.at, payload)
	}
	return err
}

// remove removes the given entries from the cell at n.
func (n ref) remove(dots []Dot) error {
	if err := n.broken(); err != nil || len(dots) == 0 {
		return err
	}
	slices.SortFunc(dots, Dot.Compare)
	if err := n.tx.Remove(n.at, dots); err != nil {
		return err
	}
	return n.emptied()
}

// replace removes everything that readers see in the cell c at n and puts payload in its place, or
// nothing if it is nil. Of shares it leaves the baselines that are needed.
func (n ref) replace(c dotted.Cell, payload []byte) error {
	removes := dotsOf(c, func(e dotted.Entry) bool { return !e.Has(dotted.PayloadHidden) })
	var puts [][]byte
	if payload != nil {
		puts = append(puts, payload) // before others, or its key had nothing for a moment
	}
	if c.Tallies() {
		superseded, baselines := retire(n.tx, n.at, c)
		removes, puts = append(removes, superseded...), append(puts, baselines...)
	}
	if len(puts) == 0 {
		return n.remove(removes)
	}
	for _, payload := range puts {
		if err := n.put(payload, removes); err != nil {
			return err
		}
		removes = nil
	}
	return nil
}

// retire tells what to do with the baselines in the cell at an address when tx removes what
// readers see of it: which to remove, and which to put.
func retire(tx dotted.Tx, a dotted.Address, c dotted.Cell) (removes []Dot, puts [][]byte) {
	if _, owner, ok := a.CutShare(); ok {
		return tallyOf(owner, c).retire(tx)
	}
	return scoresIn(c).retire(tx)
}

// dotsOf returns the dots of the entries for which keep holds.
func dotsOf(c dotted.Cell, keep func(dotted.Entry) bool) []Dot {
	var dots []Dot
	for _, e := range c {
		if keep(e) {
			dots = append(dots, e.Dot)
		}
	}
	return dots
}

// kind is the first byte of a payload.
type kind byte

const (
	kindWrite    kind = 0x01                                              // a register's: time, value
	kindMember   kind = 0x02                                              // an element of a set
	kindEnabled  kind = 0x03                                              // a flag's
	kindShare    kind = dotted.PayloadTally | 0x04                        // a counter's: see share
	kindChunk    kind = 0x10                                              // a bitmap's: see chunk
	kindRegs     kind = 0x11                                              // a HyperLogLog's: see registers
	kindBaseline kind = dotted.PayloadHidden | dotted.PayloadTally | 0x05 // a counter's: see baseline

	kindScore     kind = 0x11                                              // of an element of a sorted set: time, score
	kindAdded     kind = dotted.PayloadTally | 0x12                        // to a score: see scoreShare
	kindTakenAway kind = dotted.PayloadHidden | dotted.PayloadTally | 0x13 // from a score: see scoreBaseline
)

// marks reports whether an entry is of the kind.
func (k kind) marks(e dotted.Entry) bool { return len(e.Payload) > 0 && kind(e.Payload[0]) == k }

// fewCells is up to how many cells are removed one by one: an operation for each, whose delta
// names the dots, instead of one clear, whose delta carries the whole context.
const fewCells = 16

type addressed struct {
	at   dotted.Address
	cell dotted.Cell
}

// clear removes everything that readers see at and under n, whatever its types, and reports
// whether there was anything. Writes that it has not seen survive it.
func (n ref) clear() (existed bool, err error) {
	visible, known, err := n.visible()
	switch {
	case err != nil || known && visible == 0:
		return false, err
	case n.depth == 0 && n.tx.Timed() || n.depth == 1 && !known: // what has expired goes as well
		some, err := n.visibleCells(1)
		if err == nil {
			err = n.clearAll()
		}
		return len(some) > 0, err
	case known && (visible > fewCells || n.tx.Cleared(n.at)): // else each would be looked for among many that are hidden
		return true, n.clearAll()
	}
	return n.clearFew(fewCells + 1) // a string that was counted on has several
}

// clearFew clears the cells at and under n one by one, if fewer than limit are visible, else all
// at once.
func (n ref) clearFew(limit int) (existed bool, err error) {
	cells, err := n.visibleCells(limit)
	switch {
	case err != nil || len(cells) == 0:
		return false, err
	case len(cells) > fewCells:
		return true, n.clearAll()
	}
	for _, c := range cells {
		n.at = c.at
		if err := n.replace(c.cell, nil); err != nil {
			return true, err
		}
	}
	return true, nil
}

// visibleCells returns the first cells at and under n that readers see, at most limit.
func (n ref) visibleCells(limit int) ([]addressed, error) {
	var cells []addressed
	err := n.scan("", func(a dotted.Address, c dotted.Cell) bool {
		if c.Visible() && !a.IsExpiry() {
			cells = append(cells, addressed{a, c})
		}
		return len(cells) < limit
	})
	return cells, err
}

// clearAll clears by context. That wipes baselines out as well, so those that must stay are put
// again. Cells are looked at only if the key holds counters: O(1) without any.
func (n ref) clearAll() error {
	kept, err := n.allBaselines()
	if err != nil {
		return err
	}
	if n.tx.Timed() {
		n.loseAll()
	}
	if err := n.tx.Clear(n.at); err != nil {
		return err
	}
	n.tx.forgetTimes() // they may be gone
	for _, b := range kept {
		n.at = b.at
		if err := n.put(b.payload, nil); err != nil {
			return err
		}
	}
	return n.emptied()
}

// kept is a baseline that must stay.
type kept struct {
	at      dotted.Address
	payload []byte
}

// allBaselines returns those that must stay of the cells at and under n, if all else is removed.
func (n ref) allBaselines() (found []kept, err error) {
	if n.depth == 0 {
		return n.baselinesOfAll()
	}
	if err := n.broken(); err != nil {
		return nil, err
	}
	var s dotted.Summary
	if s, n.tx.err = n.tx.Summary(n.key); n.tx.err != nil || s.Tallies == 0 {
		return nil, n.tx.err
	}
	// Also those of what has expired, which readers do not see.
	n.tx.err = n.tx.Scan(n.at, "", func(a dotted.Address, c dotted.Cell) bool {
		if !c.Tallies() {
			return true
		}
		for _, payload := range carried(n.tx, a, c) {
			found = append(found, kept{a, payload})
		}
		return true
	})
	return found, n.tx.err
}

// carried returns the baselines that must stand in the cell at an address after tx removed all
// that is in it.
func carried(tx dotted.Tx, a dotted.Address, c dotted.Cell) (puts [][]byte) {
	if _, owner, ok := a.CutShare(); ok {
		if b, needed := tallyOf(owner, c).carried(tx); needed {
			puts = append(puts, b.payload())
		}
		return puts
	}
	for _, b := range scoresIn(c).carried(tx) {
		puts = append(puts, b.payload())
	}
	return puts
}

// baselinesOfAll returns those of all keys.
func (n ref) baselinesOfAll() (found []kept, err error) {
	var keys []string
	if err := n.tx.Tallied(func(key string) bool { keys = append(keys, key); return true }); err != nil {
		return nil, err
	}
	for _, key := range keys {
		more, err := n.named(key).allBaselines()
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}
