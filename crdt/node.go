package crdt

import (
	"fmt"
	"slices"

	"github.com/peerd/peerd/internal/dotted"
)

// node is a place in the tree of addresses within a transaction: what every handle is made of. A
// node beyond the limits carries its error, which every write returns; nothing is there to be read.
type node struct {
	tx    *session
	at    dotted.Address
	key   string // the first name of at
	depth int    // names in at
	typ   Type   // the type that at ends with; zero if it ends with a name
	err   error
}

// named returns the node of a name under n.
func (n node) named(name string) node {
	if n.err != nil {
		return n
	}
	if n.err = checkName(name, n.depth+1); n.err != nil {
		return n
	}
	if n.depth == 0 {
		n.key = name
	}
	n.at, n.typ = n.at.Name(name), 0
	n.depth++
	if size := len(n.at) + 1 + dotted.ShareBytes; size > MaxAddress {
		n.err = fmt.Errorf("%w: an address of %d bytes (limit %d)", ErrTooLong, size, MaxAddress)
	}
	return n
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

// typed returns the node of what is stored with type t under the name that n ends with.
func (n node) typed(t Type) node {
	n.at, n.typ = n.at.Type(t), t
	return n
}

func (n node) cell() (dotted.Cell, error) {
	if n.err != nil {
		return nil, n.err
	}
	return n.tx.Cell(n.at)
}

// count returns what was counted on the string at n.
func (n node) count() (dotted.Count, error) {
	if n.err != nil {
		return dotted.Count{}, n.err
	}
	return n.tx.Count(n.at)
}

func (n node) scan(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	if n.err != nil {
		return n.err
	}
	return n.tx.Scan(n.at, after, fn)
}

// summary counts the visible cells at and under n and returns true, if that needs no scan.
func (n node) summary() (visible int, ok bool, err error) {
	if n.err != nil || n.depth != 1 {
		return 0, false, n.err
	}
	s, err := n.tx.Summary(n.key)
	if err != nil {
		return 0, false, err
	}
	if n.typ != 0 {
		return s.Count(n.typ), true, nil
	}
	for _, count := range s.Visible {
		visible += count
	}
	return visible, true, nil
}

// exists reports whether any cell at or under n is visible. O(log cells) but for the hidden cells
// that stand before the first visible one.
func (n node) exists() (bool, error) {
	if visible, ok, err := n.summary(); ok || err != nil {
		return visible > 0, err
	}
	found := false
	err := n.scan("", func(_ dotted.Address, c dotted.Cell) bool {
		found = c.Visible()
		return !found
	})
	return found, err
}

// put adds an entry to the cell at n in place of the given ones.
func (n node) put(payload []byte, removes []Dot) error {
	if n.err != nil {
		return n.err
	}
	slices.SortFunc(removes, Dot.Compare)
	_, err := n.tx.Put(n.at, payload, removes)
	return err
}

// remove removes the given entries from the cell at n.
func (n node) remove(dots []Dot) error {
	if n.err != nil || len(dots) == 0 {
		return n.err
	}
	slices.SortFunc(dots, Dot.Compare)
	return n.tx.Remove(n.at, dots)
}

// replace removes everything that readers see in the cell c at n and puts payload in its place, or
// nothing if it is nil. Of a counter's share it leaves the baseline that is needed.
func (n node) replace(c dotted.Cell, payload []byte) error {
	removes := dotsOf(c, func(e dotted.Entry) bool { return !e.Has(dotted.PayloadHidden) })
	if _, owner, ok := n.at.CutShare(); ok {
		superseded, baseline := tallyOf(owner, c).retire(n.tx)
		removes, payload = append(removes, superseded...), baseline
	}
	if payload == nil {
		return n.remove(removes)
	}
	return n.put(payload, removes)
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
	kindBaseline kind = dotted.PayloadHidden | dotted.PayloadTally | 0x05 // a counter's: see baseline
)

// marks reports whether an entry is of the kind.
func (k kind) marks(e dotted.Entry) bool { return len(e.Payload) > 0 && kind(e.Payload[0]) == k }
