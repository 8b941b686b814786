// Package order keeps keys in their order, so that how many come before one, and which stands at a
// position, is found without a look at the others.
//
// # Idea
//
// A Tree is a B-tree whose inner nodes say how many keys are below each of their kids. It lives in
// an ordered store beside other records: a node is a record that is read when it is needed, and one
// that changes is owned by the Tree, in memory, until its user has written what Changed passes. The
// nodes that Read returns are never changed: others may read them.
//
// Nodes are full by the bytes that they take (maxBytes), not by a number of keys, as keys have
// from a few bytes up to 64 KiB. One that has become light is put together with a neighbour if both
// take no more than half of that then, for inner nodes with what lies between them. So whatever is
// inserted and removed a node is a quarter full on average, but where two inner nodes were put
// together; with keys of 18 bytes it has 18 of them, a million keys stand at most five nodes deep,
// and in fact three or four. The longest keys are one in a leaf, and two in an inner node.
//
// # Steps back
//
// With Note set each change of a Tree says how to take it back, which never has to read: see Undo.
// What is common, a key more or less in a leaf, is taken back by the opposite; where nodes are
// split and merged the old ones are kept.
//
// The model in order_test.go is a sorted slice.
package order

import (
	"errors"
	"slices"
	"sort"
	"strings"
)

// Shape is what is known of a Tree beside its nodes. That of an empty one is zero.
type Shape struct {
	Height int    // of nodes on the way to a key
	Count  int    // of keys
	Root   uint64 // the number of a node
	Next   uint64 // the number that the next new node has; of those below it some are there
}

// Node is a leaf, with keys in ascending order, or an inner node. Then its keys are lower bounds
// for what is below each kid but the first, of which they say nothing. They are in one string, so
// that who searches them stays where he is in memory, and the collector has nothing to do with
// each.
type Node struct {
	Kids []Kid // none in a leaf

	keys string   // one behind the other
	ends []uint32 // of each in keys
}

// Kid is a node below another.
type Kid struct {
	Number uint64
	Count  int // of keys below it
}

// Limits of a node, in bytes of memory: of maxBytes its record has a little less. A node is split
// beyond it, unless it would have less than two kids then; so it takes no more than three of its
// keys beside that.
const (
	maxBytes = 1600
	perKey   = 4 // that one takes beside its own bytes
	perKid   = 16
)

// NewNode returns a node that was stored: its keys, one behind the other, where each ends, and its
// kids. It takes them over.
func NewNode(keys string, ends []uint32, kids []Kid) *Node { return &Node{kids, keys, ends} }

// nodeOf returns a node of a few keys.
func nodeOf(kids []Kid, keys ...string) *Node {
	n := &Node{Kids: kids}
	for i, key := range keys {
		n.insert(i, key)
	}
	return n
}

// Bytes returns how many bytes of memory the node's keys and kids take.
func (n *Node) Bytes() int { return len(n.keys) + len(n.ends)*perKey + len(n.Kids)*perKid }

// Len returns how many keys there are.
func (n *Node) Len() int { return len(n.ends) }

// Key returns the i-th key.
func (n *Node) Key(i int) string { return n.keys[n.start(i):n.ends[i]] }

// start returns where the i-th key begins; behind the last one where all end.
func (n *Node) start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return n.ends[i-1]
}

// insert puts a key before the i-th.
func (n *Node) insert(i int, key string) {
	at := n.start(i)
	n.keys = n.keys[:at] + key + n.keys[at:]
	n.ends = slices.Insert(n.ends, i, at)
	n.shift(i, len(key))
}

// remove takes the i-th key out.
func (n *Node) remove(i int) {
	from, to := n.start(i), n.ends[i]
	n.keys = n.keys[:from] + n.keys[to:]
	n.ends = slices.Delete(n.ends, i, i+1)
	n.shift(i, -int(to-from))
}

// replace puts a key in place of the i-th.
func (n *Node) replace(i int, key string) {
	n.remove(i)
	n.insert(i, key)
}

// shift says that the i-th key and those behind it end later.
func (n *Node) shift(i, by int) {
	for ; i < len(n.ends); i++ {
		n.ends[i] = uint32(int(n.ends[i]) + by)
	}
}

// extend puts what another node has behind what this has.
func (n *Node) extend(by *Node) {
	end := n.start(n.Len())
	n.keys += by.keys
	for _, e := range by.ends {
		n.ends = append(n.ends, end+e)
	}
	n.Kids = append(n.Kids, by.Kids...)
}

// part returns a leaf with a copy of some of the keys.
func (n *Node) part(from, to int) *Node {
	start := n.start(from)
	p := &Node{keys: strings.Clone(n.keys[start:n.start(to)]), ends: slices.Clone(n.ends[from:to])}
	p.shift(0, -int(start))
	return p
}

func (n *Node) isLeaf() bool { return len(n.Kids) == 0 }

func (n *Node) count() (keys int) {
	if n.isLeaf() {
		return n.Len()
	}
	for _, kid := range n.Kids {
		keys += kid.Count
	}
	return keys
}

// clone returns a copy that may be changed.
func (n *Node) clone() *Node {
	return &Node{slices.Clone(n.Kids), n.keys, append(make([]uint32, 0, len(n.ends)+4), n.ends...)}
}

// below returns which kid a key is below.
func (n *Node) below(key string) int {
	return sort.Search(n.Len()-1, func(i int) bool { return n.Key(i+1) > key })
}

// find returns how many keys are less than one, and whether that is there.
func (n *Node) find(key string) (less int, found bool) {
	return sort.Find(n.Len(), func(i int) int { return strings.Compare(key, n.Key(i)) })
}

// Tree is keys in their order.
type Tree struct {
	Shape
	// Read returns a node that is stored. It is not changed.
	Read func(number uint64) (*Node, error)
	// Note, unless it is nil, is told how to take back each change, in the order in which they are
	// made.
	Note func(Undo)

	own map[uint64]*Node // what is here instead of what is stored; nil is of a node that is gone
}

// Changed calls fn with the nodes that changed since they were stored, by their numbers; with nil
// for one that is gone. They are not the Tree's any more.
func (t *Tree) Changed(fn func(number uint64, n *Node)) {
	numbers := make([]uint64, 0, len(t.own))
	for number := range t.own {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	for _, number := range numbers {
		fn(number, t.own[number])
	}
	t.own = nil
}

// Owned returns about how many bytes the nodes take that Changed would pass.
func (t *Tree) Owned() (bytes int) {
	for _, n := range t.own {
		if n != nil {
			bytes += n.Bytes()
		}
	}
	return bytes
}

func (t *Tree) node(number uint64) (*Node, error) {
	if n, ok := t.own[number]; ok {
		return n, nil
	}
	return t.Read(number)
}

// put has a node stand under a number; none if it is nil.
func (t *Tree) put(number uint64, n *Node) {
	was, owned := t.own[number]
	t.note(Undo{node: &undoneNode{number, was, owned}})
	if t.own == nil {
		t.own = map[uint64]*Node{}
	}
	t.own[number] = n
}

// add has a new node stand under a new number.
func (t *Tree) add(n *Node) (number uint64) {
	number = t.Next
	t.Next++
	t.put(number, n)
	return number
}

// step is a node on the way to a key.
type step struct {
	number uint64
	node   *Node
	at     int // of the kid that follows; in a leaf, of the first key that is not less
}

// deep is for how many steps there is memory without an allocation.
const deep = 8

// descend appends the way to a key.
func (t *Tree) descend(way []step, key string) (_ []step, found bool, err error) {
	number := t.Root
	for range t.Height {
		n, err := t.node(number)
		if err != nil {
			return nil, false, err
		}
		s := step{number: number, node: n}
		if n.isLeaf() {
			s.at, found = n.find(key)
		} else {
			s.at = n.below(key)
			number = n.Kids[s.at].Number
		}
		way = append(way, s)
	}
	if len(way) > 0 && !way[len(way)-1].node.isLeaf() {
		return nil, false, errShape
	}
	return way, found, nil
}

var errShape = errors.New("an order's nodes do not fit together")

// edit has a key more or less in the leaf at the end of a way.
func (t *Tree) edit(way []step, key string, by int) {
	for i := range way {
		s := &way[i]
		if own, ok := t.own[s.number]; ok {
			s.node = own
		} else {
			s.node = s.node.clone()
			if t.own == nil {
				t.own = map[uint64]*Node{}
			}
			t.own[s.number] = s.node
		}
		switch n := s.node; {
		case !n.isLeaf():
			n.Kids[s.at].Count += by
		case by > 0:
			n.insert(s.at, key)
		default:
			n.remove(s.at)
		}
	}
	t.Count += by
}

// Insert adds a key, and reports whether it was not there. After an error the keys are right.
func (t *Tree) Insert(key string) (added bool, err error) {
	was := t.Shape
	if t.Height == 0 {
		t.note(Undo{shape: was})
		t.Shape = Shape{Height: 1, Count: 1}
		t.Root = t.add(nodeOf(nil, key))
		return true, nil
	}
	var room [deep]step
	way, found, err := t.descend(room[:0], key)
	if err != nil || found {
		return false, err
	}
	t.note(Undo{shape: was, key: key, by: 1})
	t.edit(way, key, 1)
	if !way[len(way)-1].node.overfull() {
		return true, nil
	}
	return true, t.mend(way)
}

// mend has the nodes of a way be as full as they should be.
func (t *Tree) mend(way []step) error {
	for level := len(way) - 1; level >= 0; level-- {
		var err error
		if way[level].node.overfull() {
			err = t.split(way, level)
		} else if level > 0 {
			err = t.merge(way, level)
		}
		if err != nil {
			return err
		}
	}
	return t.lower()
}

func (n *Node) overfull() bool {
	least := 2
	if !n.isLeaf() {
		least = 4
	}
	return n.Bytes() > maxBytes && n.Len() >= least
}

// split splits a node of a way. Where keys come in ascending or descending order what is left
// behind stays full.
func (t *Tree) split(way []step, level int) error {
	s := way[level]
	at := s.node.middle()
	if n := s.node.Len(); t.outermost(way[:level], true) && s.at >= n-2 {
		at = n - max(n/10, 2)
	} else if t.outermost(way[:level], false) && s.at <= 1 {
		at = max(n/10, 2)
	}
	at = s.node.within(at)
	left, right, bound := s.node.cut(at)
	t.put(s.number, left)
	kid := Kid{t.add(right), right.count()}
	if level == 0 {
		t.Root = t.add(nodeOf([]Kid{{s.number, left.count()}, kid}, "", bound))
		t.Height++
		return nil
	}
	above := &way[level-1]
	parent := above.node.clone()
	parent.Kids[above.at].Count = left.count()
	parent.insert(above.at+1, bound)
	parent.Kids = slices.Insert(parent.Kids, above.at+1, kid)
	above.node = parent
	t.put(above.number, parent)
	return t.settle(above, above.at)
}

// settle puts the two kids from the i-th on together with their other neighbours, where these take
// little room. They came to be by a cut, which may leave one of them light beside a long key.
func (t *Tree) settle(above *step, i int) error {
	for _, i := range []int{i + 1, i - 1} {
		if i < 0 || i+1 >= len(above.node.Kids) {
			continue
		}
		left, right, err := t.pair(above, i)
		if err != nil {
			return err
		}
		if above.fits(i, left, right) {
			t.join(above, i, left, right)
		}
	}
	return nil
}

// fits reports whether a node's i-th kid and the next one take little room together.
func (s *step) fits(i int, left, right *Node) bool {
	bytes := left.Bytes() + right.Bytes()
	if !left.isLeaf() {
		bytes += len(s.node.Key(i + 1)) // which one node has to have
	}
	return bytes <= maxBytes/2
}

// pair returns a node's i-th kid and the next one.
func (t *Tree) pair(above *step, i int) (left, right *Node, err error) {
	if left, err = t.node(above.node.Kids[i].Number); err == nil {
		right, err = t.node(above.node.Kids[i+1].Number)
	}
	return left, right, err
}

// outermost reports whether a way leads along the last kids, or the first.
func (t *Tree) outermost(way []step, last bool) bool {
	for _, s := range way {
		if last && s.at != len(s.node.Kids)-1 || !last && s.at != 0 {
			return false
		}
	}
	return true
}

// middle returns where both sides of a node take about the same.
func (n *Node) middle() int {
	half := (len(n.keys) + n.Len()*perKey) / 2
	return sort.Search(n.Len(), func(i int) bool { return int(n.ends[i])+(i+1)*perKey > half })
}

// within returns where a node may be cut, near a place.
func (n *Node) within(at int) int {
	least := 1
	if !n.isLeaf() {
		least = 2
	}
	return min(max(at, least), n.Len()-least)
}

// cut returns a node's two parts, and what no key of the first is above, and none of the second
// below.
func (n *Node) cut(at int) (left, right *Node, bound string) {
	left, right = n.part(0, at), n.part(at, n.Len())
	if bound = right.Key(0); n.isLeaf() {
		return left, right, shortest(left.Key(at-1), bound)
	}
	left.Kids, right.Kids = slices.Clone(n.Kids[:at]), slices.Clone(n.Kids[at:])
	right.replace(0, "")
	return left, right, bound
}

// shortest returns the shortest beginning of a key that is greater than one below it.
func shortest(below, key string) string {
	for i := range key {
		if i >= len(below) || key[i] != below[i] {
			return key[:i+1]
		}
	}
	return key
}

// Remove removes a key, and reports whether it was there. After an error the keys are right.
func (t *Tree) Remove(key string) (removed bool, err error) {
	var room [deep]step
	way, found, err := t.descend(room[:0], key)
	if err != nil || !found {
		return false, err
	}
	t.note(Undo{shape: t.Shape, key: key, by: -1})
	t.edit(way, key, -1)
	return true, t.mend(way)
}

// lower takes a root away that leads nowhere, or to one node alone.
func (t *Tree) lower() error {
	for t.Height > 0 {
		n, err := t.node(t.Root)
		switch {
		case err != nil:
			return err
		case n.isLeaf() && n.Len() == 0:
			t.put(t.Root, nil)
			t.Shape = Shape{}
		case len(n.Kids) == 1:
			t.put(t.Root, nil)
			t.Root, t.Height = n.Kids[0].Number, t.Height-1
		default:
			return nil
		}
	}
	return nil
}

// merge puts a node of a way and its neighbours together, if they take little room or it has not
// enough to stand alone.
func (t *Tree) merge(way []step, level int) error {
	s, above := way[level], &way[level-1]
	must := s.node.Len() == 0 || len(s.node.Kids) == 1
	if !must && s.node.Bytes() > maxBytes/2 {
		return nil
	}
	for _, i := range []int{above.at, above.at - 1} { // with the one behind it, or before it
		if i < 0 || i+1 >= len(above.node.Kids) {
			continue
		}
		left, right, err := t.pair(above, i)
		if err != nil {
			return err
		}
		if must || above.fits(i, left, right) {
			if cut := t.join(above, i, left, right); cut {
				return t.settle(above, i)
			}
			must = false
		}
	}
	return nil
}

// join puts two kids of a node together; in two other parts if they are too much for one.
func (t *Tree) join(above *step, i int, left, right *Node) (cut bool) {
	parent := above.node.clone()
	all := left.clone()
	all.extend(right)
	if !right.isLeaf() {
		all.replace(left.Len(), parent.Key(i+1))
	}
	first, second := &parent.Kids[i], &parent.Kids[i+1]
	if cut = all.overfull(); cut {
		var bound string
		left, right, bound = all.cut(all.within(all.middle()))
		parent.replace(i+1, bound)
		t.put(first.Number, left)
		t.put(second.Number, right)
		first.Count, second.Count = left.count(), right.count()
	} else {
		t.put(first.Number, all)
		t.put(second.Number, nil)
		first.Count += second.Count
		parent.remove(i + 1)
		parent.Kids = slices.Delete(parent.Kids, i+1, i+2)
	}
	above.node = parent
	t.put(above.number, parent)
	return cut
}

// Rank returns how many keys come before one, which need not be there.
func (t *Tree) Rank(key string) (before int, err error) {
	var room [deep]step
	way, _, err := t.descend(room[:0], key)
	for _, s := range way {
		if s.node.isLeaf() {
			return before + s.at, nil
		}
		for _, kid := range s.node.Kids[:s.at] {
			before += kid.Count
		}
	}
	return 0, err
}

// Walk calls fn with the keys in ascending order from the one that has so many before it on, or in
// descending order from it back, until fn returns false.
func (t *Tree) Walk(from int, back bool, fn func(key string) bool) error {
	if from < 0 || from >= t.Count {
		return nil
	}
	if back {
		from = t.Count - 1 - from
	}
	_, err := t.walk(t.Root, t.Height, from, back, fn)
	return err
}

// walk is Walk below a node, without so many that would come first.
func (t *Tree) walk(number uint64, height, skip int, back bool, fn func(string) bool) (more bool, err error) {
	n, err := t.node(number)
	if err == nil && n.isLeaf() != (height <= 1) {
		err = errShape
	}
	if err != nil {
		return false, err
	}
	turned := func(i, of int) int {
		if back {
			return of - 1 - i
		}
		return i
	}
	if n.isLeaf() {
		for i := skip; i < n.Len(); i++ {
			if !fn(n.Key(turned(i, n.Len()))) {
				return false, nil
			}
		}
		return true, nil
	}
	for i := range n.Kids {
		kid := n.Kids[turned(i, len(n.Kids))]
		if skip >= kid.Count {
			skip -= kid.Count
			continue
		}
		if more, err := t.walk(kid.Number, height-1, skip, back, fn); err != nil || !more {
			return false, err
		}
		skip = 0
	}
	return true, nil
}

// Undo takes back one change.
type Undo struct {
	shape Shape
	key   string
	by    int // 1 if the key was inserted, -1 if it was removed
	node  *undoneNode
}

// undoneNode is what was here instead of a node that is stored.
type undoneNode struct {
	number uint64
	was    *Node
	owned  bool // there was something
}

func (t *Tree) note(u Undo) {
	if t.Note != nil {
		t.Note(u)
	}
}

// Undo takes a change back, and must be called for all that came behind it before, the last one
// first.
func (t *Tree) Undo(u Undo) {
	switch {
	case u.node != nil && u.node.owned:
		t.own[u.node.number] = u.node.was
		return
	case u.node != nil:
		delete(t.own, u.node.number)
		return
	case u.by != 0:
		t.Height, t.Root = u.shape.Height, u.shape.Root
		way, _, _ := t.descend(nil, u.key) // they are all owned
		t.edit(way, u.key, -u.by)
	}
	t.Shape = u.shape
}

// Check calls fn with each node's number, until it fails, and key with each key, in their order. It
// returns an error unless all of them are as they should be.
func (t *Tree) Check(fn func(number uint64) error, key func(string)) error {
	if t.Height == 0 {
		return nil
	}
	last, some := "", false
	count, err := t.check(t.Root, t.Height, "", fn, func(k string) bool {
		ascends := !some || k > last
		last, some = k, true
		key(k)
		return ascends
	})
	if err == nil && (count != t.Count || count == 0) {
		err = errShape
	}
	return err
}

func (t *Tree) check(number uint64, height int, bound string, fn func(uint64) error, key func(string) bool) (
	count int, err error) {
	n, err := t.node(number)
	if err != nil {
		return 0, err
	}
	if err := fn(number); err != nil {
		return 0, err
	}
	if n.isLeaf() != (height <= 1) || !n.isLeaf() && len(n.Kids) != n.Len() || number >= t.Next {
		return 0, errShape
	}
	if n.isLeaf() {
		for i := range n.Len() {
			if k := n.Key(i); !key(k) || i == 0 && k < bound {
				return 0, errShape
			}
		}
		return n.Len(), nil
	}
	for i, kid := range n.Kids {
		if i > 0 {
			bound = n.Key(i)
		}
		below, err := t.check(kid.Number, height-1, bound, fn, func(k string) bool {
			return key(k) && (i+1 == len(n.Kids) || k < n.Key(i+1))
		})
		switch {
		case err != nil:
			return 0, err
		case below != kid.Count:
			return 0, errShape
		}
		count += below
	}
	return count, nil
}
