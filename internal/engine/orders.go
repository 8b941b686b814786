package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/order"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// The visible cells of a container whose type says where they stand (dotted.Kind.Order) are kept in
// that order, by package order: a record with the shape of the container's tree, and one for each
// node. They say what readers see, as sums do, and change where these change: see group.add.
//
// Nodes refer to each other, so that nodes of two moments are of no use together. The log does not
// have them, but which keys came and went (orderState.ops): carrying that out again needs the nodes
// of just the moment of the checkpoint. So a checkpoint keeps what it writes them over, and opening
// puts that back if it was interrupted: see undone.
//
// A clear leaves the trees under its prefix as they are, however many there are: as of which clear
// a tree was written stands in its record, which says nothing after a later one (see clears).
// Whoever comes next begins another tree, whose nodes have another generation: the group of the
// newest clear over the container. The sweep removes what says nothing before the clear, so that no
// generation comes twice.

// orderRoot is what the record of a container's order says.
type orderRoot struct {
	order.Shape
	generation uint64
}

// orderState is the order of a container's cells that the group has looked at.
type orderState struct {
	at     dotted.Address
	tree   order.Tree
	stored bool   // there is a record, which may say nothing
	had    uint64 // stored nodes have numbers below it

	generation uint64
	fresh      bool         // no node is stored: the generation is that of the commit
	dirty      bool         // the record is to be written
	ops        []orderOp    // what became of the keys since it was stored, or was fresh
	undone     []order.Undo // steps back of the change that is being made
}

// orderOp is a key that came, or went.
type orderOp struct {
	key   string
	comes bool
}

// orderUndo is one step back of an order.
type orderUndo struct {
	of     *orderState
	change *order.Undo // nil: what follows
	ops    int
	dirty  bool
	was    *orderState    // all of it, if it was cleared
	forget dotted.Address // an order that the group had not looked at
}

func (g *group) undoOrder(u *orderUndo) {
	switch {
	case u.forget != "":
		delete(g.orders, u.forget)
	case u.change != nil:
		u.of.tree.Undo(*u.change)
	case u.was != nil:
		*u.of = *u.was
	default:
		u.of.ops, u.of.dirty = u.of.ops[:u.ops], u.dirty
	}
}

// orderOf returns the group's state of a container's order. See add for note.
func (g *group) orderOf(container dotted.Address, note func(undo)) (*orderState, error) {
	g.r.spend(workCell)
	if st := g.orders[container]; st != nil {
		return st, nil
	}
	st := &orderState{at: container}
	if !g.bare(container) {
		g.at = appendPlace(g.at[:0], prefixOrder, container)
		_, stored, err := g.sumsAt(g.at, func(n *sums, record []byte) (err error) {
			n.order = &orderRoot{}
			_, *n.order, n.asOf, err = decodeOrder(g.at, record)
			return err
		})
		if err != nil {
			return nil, err
		}
		if st.stored = stored.order != nil; st.stored && (!g.r.opening.loaded || !g.clears.void(container, stored.asOf)) {
			st.tree.Shape, st.generation, st.had = stored.order.Shape, stored.order.generation, stored.order.Next
		}
	}
	g.begin(st)
	if g.orders == nil {
		g.orders = map[dotted.Address]*orderState{}
	}
	g.orders[container], g.ordered = st, append(g.ordered, st)
	if note != nil {
		note(undo{order: &orderUndo{forget: container}})
	}
	return st, nil
}

// begin has the tree of a state read and noted.
func (g *group) begin(st *orderState) {
	st.fresh = st.tree.Height == 0
	st.tree.Read = func(number uint64) (*order.Node, error) { return g.readNode(st, number) }
	st.tree.Note = func(u order.Undo) { st.undone = append(st.undone, u) }
}

// readNode returns a node as memory or the tree has it.
func (g *group) readNode(st *orderState, number uint64) (*order.Node, error) {
	g.r.spend(workCell)
	g.at = appendNode(g.at[:0], st.at, st.generation, number)
	it := g.r.table.find(g.at)
	if it != nil && it.node != nil {
		return it.node, nil
	}
	g.r.spend(workMiss)
	var record []byte
	var err error
	if it == nil {
		if record, _, err = g.view.shot.Tree().Get(g.at); err != nil {
			return nil, err
		}
	}
	n, err := decodeNode(g.at, record)
	if err == nil {
		g.r.spend(workOf(n.Bytes()))
		g.r.table.Keep(recordItem(string(g.at), body{node: n}))
	}
	return n, err
}

// reorder takes what a change means for the order of its container into the group. See add for
// note.
func (g *group) reorder(d derived, note func(undo)) error {
	container, name, keyOf, ok := d.address.Standing()
	if !ok {
		return nil
	}
	var was, now string
	had, has := d.before.Visible(), d.after.Visible()
	if had {
		was = keyOf(name, d.before)
	}
	if has {
		now = keyOf(name, d.after)
	}
	if had == has && was == now {
		return nil
	}
	st, err := g.orderOf(container, note)
	if err == nil && had {
		err = st.set(orderOp{was, false}, note)
	}
	if err == nil && has {
		err = st.set(orderOp{now, true}, note)
	}
	return err
}

// set has a key come or go.
func (st *orderState) set(op orderOp, note func(undo)) (err error) {
	st.touch(note)
	if op.comes {
		_, err = st.tree.Insert(op.key)
	} else {
		_, err = st.tree.Remove(op.key)
	}
	if note != nil { // and is not kept anywhere: else it would be allocated for each change of any cell
		for _, u := range st.undone {
			note(undo{order: &orderUndo{of: st, change: &u}})
		}
	}
	st.undone = st.undone[:0]
	st.ops = append(st.ops, op)
	return err
}

// touch has the record written, as of the group's clears.
func (st *orderState) touch(note func(undo)) {
	if note != nil {
		note(undo{order: &orderUndo{of: st, ops: len(st.ops), dirty: st.dirty}})
	}
	st.dirty = true
}

// touchOrder has the record of the order in which a cell stands written as of the clear that leaves
// the cell.
func (g *group) touchOrder(a dotted.Address, note func(undo)) error {
	container, _, _, ok := a.Standing()
	if !ok {
		return nil
	}
	st, err := g.orderOf(container, note)
	if err == nil && !st.dirty {
		st.touch(note)
	}
	return err
}

// forgetOrders makes it that nothing stands in the orders under prefix, of those that the group
// has. It reports whether any had a record, even if nothing stands there any more: the nodes are
// the sweep's then.
func (g *group) forgetOrders(prefix dotted.Address, note func(undo)) (stored bool) {
	for _, st := range g.ordered {
		if !hasPrefix(st.at, prefix) || g.orders[st.at] != st {
			continue
		}
		stored = stored || st.stored
		if was := *st; note != nil {
			note(undo{order: &orderUndo{of: st, was: &was}})
		}
		*st = orderState{at: st.at, stored: st.stored, dirty: true}
		g.begin(st)
	}
	return stored
}

// newestOver returns the group of the newest clear of a prefix of a; zero if there is none.
func (c *clears) newestOver(a dotted.Address) (newest uint64) {
	c.over(a, func(list []*pendingClear) {
		for _, p := range list {
			newest = max(newest, p.group)
		}
	})
	return newest
}

// void reports whether what a record says of sums or orders was cleared since, for a sweep.
func (s *sweepStep) void(key, record []byte, of *generations) (void bool, err error) {
	var a dotted.Address
	var asOf uint64
	switch key[0] {
	case prefixNode:
		live, err := of.has(s.g.view, key)
		return !live, err
	case prefixOrder:
		a, _, asOf, err = decodeOrder(bytes.Clone(key), record)
	default:
		a, asOf, _, err = readSum(bytes.Clone(key), record)
	}
	return s.clears.void(a, asOf), err
}

// maxLoggedOps is about how many bytes of keys one derived record has.
const maxLoggedOps = 1 << 20

// loggedOrders returns, for the log, what became of the orders that the group changed.
func (g *group) loggedOrders() (items []*item) {
	for _, st := range g.ordered {
		if !st.dirty || g.orders[st.at] != st {
			continue
		}
		if st.fresh {
			if st.generation = g.clears.newestOver(st.at); !st.stored && st.tree.Height == 0 {
				continue
			}
		}
		key, fresh := place(prefixOrder, st.at), st.fresh
		for ops, more := st.ops, true; more; fresh = false {
			n, size := 0, 0
			for ; n < len(ops) && size < maxLoggedOps; n++ {
				size += len(ops[n].key)
			}
			l := loggedOrder{st.at, g.clears.newest, fresh, st.generation, ops[:n]}
			items = append(items, recordItem(string(key), body{value: l.encode(key)}))
			ops, more = ops[n:], n < len(ops)
		}
	}
	return items
}

// putOrders takes what was logged into memory, as of the group's clears.
func (g *group) putOrders() {
	for _, st := range g.ordered {
		if st.dirty && g.orders[st.at] == st {
			g.putOrder(st, g.clears.newest)
		}
	}
}

func (g *group) putOrder(st *orderState, asOf uint64) {
	st.tree.Changed(func(number uint64, n *order.Node) {
		if n == nil && (st.fresh || number >= st.had) {
			return
		}
		key := appendNode(nil, st.at, st.generation, number)
		g.r.table.put(recordItem(string(key), body{node: n}), nil)
	})
	key := place(prefixOrder, st.at)
	root := &orderRoot{st.tree.Shape, st.generation}
	switch {
	case st.tree.Height > 0:
		it := recordItem(string(key), body{value: encodeOrder(key, st.at, root, asOf), sums: &sums{order: root, asOf: asOf}})
		g.r.table.put(it, nil)
	case st.stored:
		g.r.table.put(recordItem(string(key), body{}), nil)
	}
}

// loggedOrder is what the log has of the change of an order.
type loggedOrder struct {
	at         dotted.Address
	asOf       uint64
	fresh      bool // it begins with nothing
	generation uint64
	ops        []orderOp
}

func (l loggedOrder) encode(key []byte) []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(5)
		writeAddress(w, key, l.at)
		w.Uint(l.asOf)
		w.Bool(l.fresh)
		w.Uint(l.generation)
		w.Array(2 * len(l.ops))
		for _, op := range l.ops {
			w.Bool(op.comes)
			w.String(op.key)
		}
	})
}

func decodeLoggedOrder(key, record []byte) (l loggedOrder, err error) {
	err = decodeBody(key, record, func(r *wire.Reader) {
		r.Array(5)
		l.at = readAddress(r, key)
		l.asOf, l.fresh, l.generation = r.Uint(), r.Bool(), r.Uint()
		n := r.Array(len(record)) / 2
		for i := 0; i < n && r.Err() == nil; i++ {
			l.ops = append(l.ops, orderOp{comes: r.Bool(), key: r.String(len(record))})
		}
	})
	return l, err
}

// redoOrders carries out again what the log has of orders, and returns the other derived records.
func (g *group) redoOrders(derived []*item) (others []*item, err error) {
	asOf := map[dotted.Address]uint64{}
	for _, it := range derived {
		if it.key[0] != prefixOrder {
			others = append(others, it)
			continue
		}
		l, err := decodeLoggedOrder([]byte(it.key), it.value)
		if err != nil {
			return nil, err
		}
		st, err := g.orderOf(l.at, nil)
		if err != nil {
			return nil, err
		}
		if l.fresh {
			if err := g.dropNodes(l.at); err != nil {
				return nil, err
			}
			*st = orderState{at: st.at, stored: st.stored}
			g.begin(st)
		}
		if st.fresh {
			st.generation = l.generation
		}
		for _, op := range l.ops {
			if err := st.set(op, nil); err != nil {
				return nil, err
			}
		}
		asOf[l.at] = l.asOf
	}
	for _, st := range g.ordered {
		g.putOrder(st, asOf[st.at])
	}
	return others, nil
}

// dropNodes removes what is left here of the nodes of a container's order that begins anew. There
// was none then: but a sweep, which the log does not have, may have removed them, and its clear is
// over, so that the generation comes again.
func (g *group) dropNodes(container dotted.Address) error {
	start, end := appendNode(nil, container, 0, 0), appendNode(nil, container, math.MaxUint64, math.MaxUint64)
	root, left := place(prefixOrder, container), []string(nil)
	err := g.view.cellKeys(start, append(end, 0), func(key []byte, _ *item) bool {
		if at, _ := cutNode(key); bytes.Equal(at, root) {
			left = append(left, string(key))
		}
		return true
	})
	for _, key := range left {
		g.r.table.put(recordItem(key, body{}), nil)
	}
	return err
}

// writeAddress writes the address of what stands at a key, if that does not say it.
func writeAddress(w *wire.Writer, key []byte, a dotted.Address) {
	if isShortened(key, a) {
		w.String(string(a))
	} else {
		w.Bytes(nil)
	}
}

func readAddress(r *wire.Reader, key []byte) dotted.Address {
	return cmp.Or(dotted.Address(r.String(crdt.MaxAddress)), dotted.Address(key[1:]))
}

// encodeOrder returns the record of a container's order, as of a clear.
func encodeOrder(key []byte, a dotted.Address, root *orderRoot, asOf uint64) []byte {
	return seal(key, func(w *wire.Writer) {
		w.Array(7)
		writeAddress(w, key, a)
		w.Uint(uint64(root.Height))
		w.Uint(uint64(root.Count))
		w.Uint(root.Root)
		w.Uint(root.Next)
		w.Uint(root.generation)
		w.Uint(asOf)
	})
}

// maxHeight bounds how deep a tree is, for who reads a record.
const maxHeight = 64

func decodeOrder(key, record []byte) (a dotted.Address, root orderRoot, asOf uint64, err error) {
	err = decodeRecord(key, record, func(r *wire.Reader) {
		r.Array(7)
		a = readAddress(r, key)
		root.Height, root.Count = int(min(r.Uint(), maxHeight+1)), int(r.Uint())
		root.Root, root.Next = r.Uint(), r.Uint()
		root.generation, asOf = r.Uint(), r.Uint()
		if root.Height == 0 || root.Height > maxHeight {
			r.Fail("an order %d nodes deep", root.Height)
		}
	})
	return a, root, asOf, err
}

// nodeTail is how many bytes of a node's key follow the place of its container.
const nodeTail = 8 + 8

// appendNode appends where a node of a container's order is.
func appendNode(out []byte, container dotted.Address, generation, number uint64) []byte {
	out = binary.BigEndian.AppendUint64(appendPlace(out, prefixNode, container), generation)
	return binary.BigEndian.AppendUint64(out, number)
}

// cutNode returns where the record of the order to which a node belongs is, and the node's
// generation.
func cutNode(key []byte) (root []byte, generation uint64) {
	if len(key) < 1+nodeTail {
		return nil, 0
	}
	at := len(key) - nodeTail
	return append([]byte{prefixOrder}, key[1:at]...), binary.BigEndian.Uint64(key[at:])
}

// encodeNode returns the record of a node.
func encodeNode(key []byte, n *order.Node) []byte {
	return seal(key, func(w *wire.Writer) {
		w.Array(2)
		w.Array(n.Len())
		for i := range n.Len() {
			w.String(n.Key(i))
		}
		w.Array(2 * len(n.Kids))
		for _, kid := range n.Kids {
			w.Uint(kid.Number)
			w.Uint(uint64(kid.Count))
		}
	})
}

func decodeNode(key, record []byte) (*order.Node, error) {
	if record == nil {
		return nil, damaged(key, errMissing)
	}
	var keys strings.Builder
	var ends []uint32
	var kids []order.Kid
	err := decodeRecord(key, record, func(r *wire.Reader) {
		r.Array(2)
		n := r.Array(len(record))
		keys.Grow(r.Left())
		ends = make([]uint32, 0, n)
		for i := 0; i < n && r.Err() == nil; i++ {
			keys.Write(r.Bytes(len(record)))
			ends = append(ends, uint32(keys.Len()))
		}
		if n = r.Array(2*len(record)) / 2; n != 0 && n != len(ends) || len(ends) == 0 {
			r.Fail("a node of %d keys and %d kids", len(ends), n)
		}
		kids = slices.Grow(kids, n)
		for i := 0; i < n && r.Err() == nil; i++ {
			kids = append(kids, order.Kid{Number: r.Uint(), Count: int(r.Uint())})
		}
	})
	if err != nil {
		return nil, err
	}
	return order.NewNode(keys.String(), ends, kids), nil
}

// order returns the order of a container's cells.
func (v *View) order(container dotted.Address) (t order.Tree, err error) {
	key := place(prefixOrder, container)
	record, ok, err := v.record(key)
	if err != nil || !ok {
		return t, err
	}
	_, root, asOf, err := decodeOrder(key, record)
	if err != nil || v.clears.void(container, asOf) {
		return t, err
	}
	return v.treeOf(container, root), nil
}

// treeOf returns the tree that a record tells of.
func (v *View) treeOf(container dotted.Address, root orderRoot) order.Tree {
	return order.Tree{Shape: root.Shape, Read: func(number uint64) (*order.Node, error) {
		key := appendNode(nil, container, root.generation, number)
		if it := v.item(key); it != nil && it.node != nil {
			return it.node, nil
		}
		record, _, err := v.shot.Tree().Get(key)
		if err != nil {
			return nil, err
		}
		return decodeNode(key, record)
	}}
}

// Rank returns how many of a container's cells come before a key in their order.
func (v *View) Rank(container dotted.Address, key string) (int, error) {
	t, err := v.order(container)
	if err != nil {
		return 0, err
	}
	return t.Rank(key)
}

// Ranked calls fn with the keys of a container's cells in their order.
func (v *View) Ranked(container dotted.Address, from int, back bool, fn func(key string) bool) error {
	t, err := v.order(container)
	if err != nil {
		return err
	}
	return t.Walk(from, back, fn)
}

// Rank returns how many of a container's cells come before a key in their order.
func (tx *Tx) Rank(container dotted.Address, key string) (int, error) {
	st, err := tx.g.orderOf(container, tx.note)
	if err != nil {
		return 0, tx.fail(err)
	}
	before, err := st.tree.Rank(key)
	if err != nil {
		return 0, tx.fail(err)
	}
	return before, nil
}

// Ranked calls fn with the keys of a container's cells in their order.
func (tx *Tx) Ranked(container dotted.Address, from int, back bool, fn func(key string) bool) error {
	st, err := tx.g.orderOf(container, tx.note)
	if err == nil {
		err = st.tree.Walk(from, back, func(key string) bool {
			tx.g.r.spend(workCell)
			return fn(key)
		})
	}
	if err != nil {
		return tx.fail(err)
	}
	return nil
}

// standing takes a cell that readers see into what its container's order should have.
func (n *recount) standing(a dotted.Address, c dotted.Cell) {
	if container, name, keyOf, ok := a.Standing(); ok && c.Visible() {
		n.hashes[prefixOrder] += recordHash([]byte(container), []byte(keyOf(name, c)))
	}
}

// compareOrders compares the orders that are kept with what the cells give, and looks at all their
// nodes.
func (n *recount) compareOrders(stop func() bool) error {
	v, nodes := n.view, 0
	var sum uint64
	var failed error
	err := v.records([]byte{prefixOrder}, []byte{prefixOrder + 1}, func(key []byte, _ *item, record []byte) bool {
		a, root, asOf, err := decodeOrder(bytes.Clone(key), record)
		if failed = err; err != nil || v.clears.void(a, asOf) {
			return err == nil
		}
		t := v.treeOf(a, root)
		failed = t.Check(func(uint64) error {
			if nodes++; stop() {
				return errStopped
			}
			return nil
		}, func(key string) { sum += recordHash([]byte(a), []byte(key)) })
		if failed != nil && failed != errStopped {
			failed = damaged(key, failed)
		}
		return failed == nil
	})
	if failed = cmp.Or(failed, err); failed == nil {
		var found int
		if found, failed = v.countNodes(stop); failed == nil && (found != nodes || sum != n.hashes[prefixOrder]) {
			failed = fmt.Errorf("the cells do not fit the orders of containers (%d nodes of %d): %w", found, nodes,
				store.ErrCorrupt)
		}
	}
	if failed == errStopped {
		return nil
	}
	return failed
}

var errStopped = fmt.Errorf("stopped")

// countNodes returns how many nodes there are of orders that say something; and those that do not,
// unless they may still be swept.
func (v *View) countNodes(stop func() bool) (nodes int, err error) {
	var of generations
	var failed error
	err = v.cellKeys([]byte{prefixNode}, []byte{prefixNode + 1}, func(key []byte, _ *item) bool {
		var live bool
		if live, failed = of.has(v, key); live || v.clears.count == 0 {
			nodes++
		}
		if failed == nil && stop() {
			failed = errStopped
		}
		return failed == nil
	})
	return nodes, cmp.Or(failed, err)
}

// generations tells which nodes say something, and remembers the container of the last one.
type generations struct {
	of         []byte
	generation uint64
	says       bool
}

// has reports whether a node belongs to the order that its container has.
func (g *generations) has(v *View, node []byte) (bool, error) {
	at, generation := cutNode(node)
	if at == nil {
		return false, damaged(node, errMissing)
	}
	if !bytes.Equal(at, g.of) {
		record, ok, err := v.record(at)
		if err != nil {
			return false, err
		}
		if *g = (generations{of: at}); ok {
			a, root, asOf, err := decodeOrder(at, record)
			if err != nil {
				return false, err
			}
			g.generation, g.says = root.generation, !v.clears.void(a, asOf)
		}
	}
	return g.says && generation == g.generation, nil
}
