package resp

import "github.com/peerd/peerd/crdt"

// hash returns the map of the key that the first argument names. Fields that are no strings, which
// other front-ends can make, are not shown.
func (c *call) hash() crdt.Map { return c.tx.Map(c.arg(1)) }

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
		if _, existed := field.Get(); !existed {
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
	if value, ok := c.hash().String(c.arg(2)).Get(); ok {
		if c.tooLong(value) {
			return errApart
		}
		c.out.bulk(value)
		return nil
	}
	if err := c.hashError(); err != nil {
		return err
	}
	c.out.null()
	return nil
}

func runHDel(c *call) error {
	if err := c.hashError(); err != nil {
		return err
	}
	hash := c.hash()
	return c.countEach(2, func(field string) (bool, error) { return hash.String(field).Clear() })
}

func runHLen(c *call) error {
	if err := c.hashError(); err != nil {
		return err
	}
	c.out.integer(int64(c.hash().CountStrings()))
	return nil
}

func runHGetAll(c *call) error {
	at, n := len(c.out.buf), 0
	for field, value := range c.hash().Strings() {
		c.out.text(field)
		c.out.bulk(value)
		if n++; len(c.out.buf)-at > MaxReply {
			break
		}
	}
	if n == 0 {
		if err := c.hashError(); err != nil {
			return err
		}
	}
	c.out.dictAt(at, n)
	return nil
}

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
