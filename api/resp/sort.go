package resp

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	embedded "github.com/peerd/peerd/peer"
)

// sorting is what a SORT asks for.
type sorting struct {
	descending, alpha bool
	store             *string  // the key of the list to be made
	by                string   // a pattern of keys
	unsorted          bool     // that has no place for the element
	get               []string // patterns
	start, count      int64
}

// sorted is an element, with what it is sorted by.
type sortedElement struct {
	elem   string
	weight float64
	text   []byte
	has    bool // there is a text
}

func runSort(c *call) error {
	s, err := c.sorting(c.command.name == "sort")
	if err != nil {
		return err
	}
	many := 0 // others wait
	if s.store != nil {
		many = countParts(c.tx, c.arg(1), embedded.MaxOps)
	}
	elems, err := lookAhead(c, many, 1, 2, func() ([]sortedElement, error) { return c.sortable(s) })
	if err != nil {
		return err
	}
	if !s.unsorted {
		if err := c.weigh(s, elems); err != nil {
			return err
		}
		slices.SortFunc(elems, func(a, b sortedElement) int {
			if order := s.compare(a, b); s.descending {
				return -order
			} else {
				return order
			}
		})
	}
	elems = s.limit(elems)
	if s.store != nil {
		return c.storeSorted(s, elems)
	}
	c.out.array(len(elems) * max(1, len(s.get)))
	at := len(c.out.buf)
	for _, e := range elems {
		if len(s.get) == 0 {
			c.out.text(e.elem)
		}
		for _, pattern := range s.get {
			if value, ok := c.lookUpBy(pattern, e.elem); ok {
				c.out.bulk(value)
			} else {
				c.out.null()
			}
			if len(c.out.buf)-at > MaxReply {
				return errReplyTooLarge
			}
		}
		if len(c.out.buf)-at > MaxReply {
			return errReplyTooLarge
		}
	}
	return nil
}

// storeSorted makes a list of what SORT found, whatever its key held.
func (c *call) storeSorted(s sorting, elems []sortedElement) error {
	if err := c.changing(len(elems)*max(1, len(s.get)), "elements"); err != nil {
		return err
	}
	var values [][]byte
	held := 0
	for _, e := range elems {
		if len(s.get) == 0 {
			values = append(values, []byte(e.elem))
		}
		for _, pattern := range s.get {
			value, _ := c.lookUpBy(pattern, e.elem)
			if held += len(value); held > MaxReply {
				return errMuchHeld
			}
			values = append(values, value)
		}
	}
	if _, err := c.tx.Remove(*s.store); err != nil {
		return err
	}
	if err := c.tx.List(*s.store).Insert(0, values...); err != nil {
		return err
	}
	c.out.integer(int64(len(values)))
	return nil
}

// isStoring reports whether the arguments of SORT say STORE: of one that does not, no key is
// written.
func isStoring(args [][]byte) bool {
	return slices.ContainsFunc(args[2:], func(arg []byte) bool { return bytes.EqualFold(arg, []byte("store")) })
}

// sortedInto returns the key that SORT stores to.
func sortedInto(args [][]byte) (keys [][]byte) {
	c := call{args: args}
	for i := 2; i < len(args)-1; i++ {
		switch {
		case c.is(i, "limit"):
			i += 2
		case c.is(i, "get"), c.is(i, "by"):
			i++
		case c.is(i, "store"):
			i++
			keys = args[i : i+1]
		}
	}
	return keys
}

// sorting reads the arguments, of which STORE is one if it may store.
func (c *call) sorting(stores bool) (s sorting, err error) {
	s.count = -1
	for i := 2; i < len(c.args); i++ {
		left := len(c.args) - i - 1
		switch {
		case c.is(i, "asc"):
			s.descending = false
		case c.is(i, "desc"):
			s.descending = true
		case c.is(i, "alpha"):
			s.alpha = true
		case c.is(i, "limit") && left >= 2:
			if s.start, err = c.integer(i + 1); err != nil {
				return s, err
			}
			if s.count, err = c.integer(i + 2); err != nil {
				return s, err
			}
			i += 2
		case c.is(i, "store") && left >= 1 && stores:
			i++
			to := c.arg(i)
			s.store = &to
		case c.is(i, "by") && left >= 1:
			i++
			s.by = c.arg(i)
			s.unsorted = s.unsorted || !strings.Contains(s.by, "*")
		case c.is(i, "get") && left >= 1:
			i++
			s.get = append(s.get, c.arg(i))
		default:
			return s, errSyntax
		}
	}
	return s, nil
}

// workOfSort is that of SORT, which looks for a key of each BY and GET for an element.
func workOfSort(c *call, cmd *command) int64 {
	s, err := c.sorting(cmd.name == "sort")
	if err != nil {
		return 0 // which the command refuses
	}
	n := int64(countParts(c.tx, c.arg(1), c.mostWork()))
	found := n - min(max(s.start, 0), n)
	if s.count >= 0 {
		found = min(found, s.count)
	}
	work := n
	if s.by != "" && !s.unsorted {
		work += n
	}
	for _, pattern := range s.get {
		if pattern != "#" {
			work += found
		}
	}
	return work
}

// sortable returns the elements of the key, in the order of their names, or in their own.
func (c *call) sortable(s sorting) (elems []sortedElement, err error) {
	key := c.arg(1)
	types := c.tx.Types(key)
	for t := range types.All() {
		k := kindOf(t)
		if k == nil || !k.sorted {
			continue
		}
		n, _ := k.count(c.tx, key)
		if err := sortableCount(n, c.command.access); err != nil {
			return nil, err
		}
		elems = make([]sortedElement, 0, n)
		held := 0
		for name, value := range k.parts(c.tx, key) {
			if k.sortedValues {
				name = string(value)
			}
			if held += len(name); held > MaxReply {
				return nil, errMuchHeld
			}
			elems = append(elems, sortedElement{elem: name})
		}
		ordered := k.ordered || s.store != nil || c.inScript // Redis sorts others for these alone
		if s.unsorted && s.descending && ordered {
			slices.Reverse(elems)
		}
		return elems, nil
	}
	if types != 0 {
		return nil, errWrongType
	}
	return nil, nil
}

// sortableCount returns the error for more elements than SORT sorts. While it stores them, others
// wait.
func sortableCount(n int, access access) error {
	switch {
	case n > MaxSort:
		return replyError(fmt.Sprintf("ERR %d elements exceed the limit of %d (MaxSort)", n, MaxSort))
	case n > embedded.MaxOps && access == accessWrite:
		return replyError(fmt.Sprintf("ERR %d elements exceed the limit of %d with STORE (MaxOps)", n, embedded.MaxOps))
	}
	return nil
}

// weigh finds what each element is sorted by.
func (c *call) weigh(s sorting, elems []sortedElement) error {
	held := 0
	for i := range elems {
		e := &elems[i]
		e.text, e.has = []byte(e.elem), true
		if s.by != "" {
			e.text, e.has = c.lookUpBy(s.by, e.elem)
		}
		if held += len(e.text); held > MaxReply {
			return errMuchHeld
		}
		switch {
		case s.alpha:
			continue
		case e.has:
			weight, ok := parseDouble(e.text)
			if !ok {
				return replyError("ERR One or more scores can't be converted into double")
			}
			e.weight = weight
		}
		e.text = nil
	}
	return nil
}

// compare orders elements: by their weights, or texts, of which none is less than any; then by
// their own bytes.
func (s sorting) compare(a, b sortedElement) int {
	if !s.alpha {
		return cmp.Or(cmp.Compare(a.weight, b.weight), strings.Compare(a.elem, b.elem))
	}
	return cmp.Or(cmp.Compare(oneIf(a.has), oneIf(b.has)), bytes.Compare(a.text, b.text), strings.Compare(a.elem, b.elem))
}

func (s sorting) limit(elems []sortedElement) []sortedElement {
	n := int64(len(elems))
	start := min(max(s.start, 0), n)
	if s.count < 0 {
		return elems[start:]
	}
	return elems[start : start+min(s.count, n-start)]
}

// lookUpBy returns what a pattern of BY or GET means for an element: with it in place of the first
// star, the string of a key, or behind "->" that of a field; or by "#" the element itself.
func (c *call) lookUpBy(pattern, elem string) (value []byte, ok bool) {
	if pattern == "#" {
		return []byte(elem), true
	}
	front, back, ok := strings.Cut(pattern, "*")
	if !ok {
		return nil, false
	}
	name, field, inHash := strings.Cut(back, "->")
	if !inHash || field == "" {
		value, ok, _ = c.getString(front + elem + back)
		return value, ok
	}
	return c.tx.Map(front + elem + name).String(field).Get()
}

// parseDouble reads a number as C's strtod does, nothing being 0.
func parseDouble(text []byte) (float64, bool) {
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	if len(text) == 0 {
		return 0, true
	}
	text = bytes.TrimLeft(text, " \t\n\v\f\r")
	f, err := parseFloat(text)
	if err != nil {
		return 0, false
	}
	n, _ := f.Float64()
	return n, f.IsInf() || !math.IsInf(n, 0) && (n != 0 || f.Sign() == 0)
}
