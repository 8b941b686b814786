package resp

import "github.com/peerd/peerd/crdt"

// hash returns the map of the key that the first argument names. Fields that are no strings, which
// other front-ends can make, are not shown.
func (c *call) hash() crdt.Map { return c.keys().Map(c.arg(1)) }

// hashError returns errWrongType if that key exists without a map.
func (c *call) hashError() error { return c.typeError(c.arg(1), crdt.TypeMap) }

func runHSet(c *call) error {
	if len(c.args)%2 != 0 {
		return wrongArity("hset")
	}
	if err := c.hashError(); err != nil {
		return err
	}
	hash, added := c.hash(), 0
	for i := 2; i < len(c.args); i += 2 {
		field := hash.String(c.arg(i))
		existed, err := field.Exists()
		if err != nil {
			return err
		}
		if !existed {
			added++
		}
		if err := field.Set(c.args[i+1]); err != nil {
			return err
		}
	}
	c.out.integer(int64(added))
	return nil
}

func runHGet(c *call) error {
	value, ok, err := c.hash().String(c.arg(2)).Get()
	if !ok && err == nil {
		err = c.hashError()
	}
	switch {
	case err != nil:
		return err
	case ok:
		c.out.bulk(value)
	default:
		c.out.null()
	}
	return nil
}

func runHDel(c *call) error {
	if err := c.hashError(); err != nil {
		return err
	}
	hash := c.hash()
	return c.countEach(2, func(field string) (bool, error) { return hash.String(field).Delete() })
}

func runHLen(c *call) error {
	s, err := c.tx.Summary(c.arg(1))
	switch {
	case err != nil:
		return err
	case s.Exists() && !s.Holds(crdt.TypeMap):
		return errWrongType
	}
	const stringField = string(crdt.TypeMap) + string(crdt.TypeValue)
	c.out.integer(int64(s.Visible[stringField]))
	return nil
}

func runHGetAll(c *call) error {
	prefix := crdt.KeyAddress(c.arg(1)).Type(crdt.TypeMap)
	at, n := len(c.out.buf), 0
	err := c.tx.Scan(prefix, "", func(a crdt.Address, cell crdt.Cell) bool {
		field, rest, _ := a[len(prefix):].CutName()
		if rest != crdt.Address(crdt.TypeValue) {
			return true
		}
		value, ok := textOf(cell)
		if !ok {
			return true
		}
		c.out.text(field)
		c.out.bulk(value)
		n++
		return len(c.out.buf)-at <= MaxReply
	})
	if n == 0 && err == nil {
		err = c.hashError()
	}
	if err != nil {
		return err
	}
	c.out.dictAt(at, n)
	return nil
}

// textOf returns how a cell that a scan has at hand reads as a string.
func textOf(cell crdt.Cell) (value []byte, ok bool) {
	value, ok, _ = crdt.Root(scannedCell{cell: cell}).String("").Get()
	return value, ok
}

// scannedCell is a transaction in which every cell is the same one: so that a handle reads what was
// scanned, instead of a store once more.
type scannedCell struct {
	crdt.Tx
	cell crdt.Cell
}

func (s scannedCell) Cell(crdt.Address) (crdt.Cell, error) { return s.cell, nil }

func runHIncrBy(c *call) error {
	n, err := c.integer(3)
	if err != nil {
		return err
	}
	if err := c.hashError(); err != nil {
		return err
	}
	value, err := c.hash().String(c.arg(2)).Add(n)
	if err != nil {
		return additionError(err, errHashInteger)
	}
	c.out.integer(value)
	return nil
}
