package engine

import (
	"cmp"
	"slices"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
	"github.com/peerd/peerd/internal/engine/order"
)

// orderFilling builds the orders of what fills a replica. Cells come in the order of addresses, so those of a container
// come one behind the other, however they stand. Their keys are gathered and put into the order's tree in runs that are
// sorted, each of which touches a node once. The order's record is written before the next container's first cell: so
// whatever a crash leaves, only the order of the last cell may lack something, and is built anew.
type orderFilling struct {
	of     *filling
	tree   Tree
	at     dotted.Address // the container; empty if there is none
	closed dotted.Address // the one before it
	anew   dotted.Address // a crash came behind this cell
	keys   []string
	bytes  int // of them
	order  order.Tree
	limit  int // of bytes of keys, and of nodes, in memory
}

// fillOrderBytes is how many bytes of keys are gathered, and again how many bytes of nodes change in memory, while a replica
// is filled.
const fillOrderBytes = 8 << 20

// add takes a cell that came, before it is written.
func (o *orderFilling) add(a dotted.Address, c dotted.Cell, write Stage) error {
	if err := o.mend(write); err != nil {
		return err
	}
	container, name, keyOf, ok := a.Standing()
	if o.at != "" && container != o.at {
		if err := o.close(write); err != nil {
			return err
		}
	}
	if !ok {
		return nil
	}
	if o.at == "" {
		if err := o.open(container, write); err != nil {
			return err
		}
	}
	if !c.Visible() {
		return nil
	}
	o.keys = append(o.keys, keyOf(name, c))
	if o.bytes += len(o.keys[len(o.keys)-1]) + 16; o.bytes < o.limit {
		return nil
	}
	return o.insert(write)
}

// open begins with a container; goes on with it, if its cells come from the next source.
func (o *orderFilling) open(container dotted.Address, write Stage) error {
	o.at, o.order = container, order.Tree{}
	o.order.Read = func(number uint64) (*order.Node, error) {
		key := appendNode(nil, container, 0, number)
		record, err := o.read(key)
		if err != nil {
			return nil, err
		}
		return decodeNode(key, record)
	}
	if o.closed != container {
		return nil
	}
	if err := o.of.settle(write); err != nil {
		return err
	}
	key := place(prefixOrder, container)
	record, err := o.read(key)
	if err != nil || record == nil {
		return err
	}
	_, root, _, err := decodeOrder(key, record)
	o.order.Shape = root.Shape
	return err
}

func (o *orderFilling) read(key []byte) (record []byte, err error) {
	snap := o.tree.Snapshot()
	defer snap.Close()
	record, _, err = snap.Get(key)
	return record, err
}

// insert puts the keys into the tree that were gathered.
func (o *orderFilling) insert(write Stage) error {
	slices.Sort(o.keys)
	for i, key := range o.keys {
		if _, err := o.order.Insert(key); err != nil {
			return err
		}
		if i%1024 == 0 && o.order.Owned() > o.limit {
			if err := o.save(write); err != nil {
				return err
			}
		}
	}
	o.keys, o.bytes = o.keys[:0], 0
	clear(o.keys[:cap(o.keys)])
	if o.order.Owned() > o.limit {
		return o.save(write)
	}
	return nil
}

// save writes the nodes that changed. They can be read then.
func (o *orderFilling) save(write Stage) (err error) {
	if err = o.saveNodes(write); err == nil {
		err = o.of.settle(write)
	}
	return err
}

func (o *orderFilling) saveNodes(write Stage) (err error) {
	o.order.Changed(func(number uint64, n *order.Node) {
		if err != nil {
			return
		}
		key := appendNode(nil, o.at, 0, number)
		if n == nil { // one may have been written that an insertion puts together with its neighbour
			o.of.batch.Delete(key)
		} else {
			o.of.set(key, encodeNode(key, n))
		}
		err = o.of.flush(write, stageBytes)
	})
	return err
}

// close ends with the container.
func (o *orderFilling) close(write Stage) error {
	if err := o.mend(write); err != nil || o.at == "" {
		return err
	}
	if err := o.insert(write); err != nil {
		return err
	}
	if err := o.saveNodes(write); err != nil {
		return err
	}
	if o.order.Height > 0 {
		key := place(prefixOrder, o.at)
		o.of.set(key, encodeOrder(key, o.at, &orderRoot{Shape: o.order.Shape}, 0))
	}
	o.closed, o.at = o.at, ""
	return o.of.flush(write, stageBytes)
}

// mend builds the order anew in which the last cell stands that came before a crash.
func (o *orderFilling) mend(write Stage) error {
	container, _, _, ok := o.anew.Standing()
	if o.anew = ""; !ok {
		return nil
	}
	cells := hot.NewTable(o.tree.Snapshot(), 0, unpackItem)
	defer cells.Close()
	v := &View{moment: &moment{shot: cells.Snapshot(), clears: &clears{}}}
	defer v.Close()
	var failed error
	remove := func(key []byte, _ *item) bool {
		o.of.batch.Delete(slices.Clone(key))
		failed = o.of.flush(write, stageBytes)
		return failed == nil
	}
	root, nodes := place(prefixOrder, container), place(prefixNode, container)
	if err := v.cellKeys(root, append(slices.Clone(root), 0), remove); err != nil || failed != nil {
		return cmp.Or(failed, err)
	}
	if err := v.cellKeys(nodes, after(nodes), remove); err != nil || failed != nil {
		return cmp.Or(failed, err)
	}
	err := v.scanStored(container, "", func(a dotted.Address, c dotted.Cell) bool {
		failed = o.add(a, c, write)
		return failed == nil
	})
	return cmp.Or(failed, err)
}
