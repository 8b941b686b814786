package resp

import "github.com/peerd/peerd/crdt"

// hash returns the map of the key that the first argument names, and whether it exists. Fields
// that are no strings, which other front-ends can make, are not shown.
func (c *call) hash() (crdt.Map, bool, error) {
	key := c.arg(1)
	ok, err := c.holds(key, crdt.TypeMap)
	return c.keys().Map(key), ok, err
}

func runHSet(c *call) error {
	if len(c.args)%2 != 0 {
		return wrongArity("hset")
	}
	hash, _, err := c.hash()
	if err != nil {
		return err
	}
	added := 0
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
	hash, _, err := c.hash()
	if err != nil {
		return err
	}
	value, ok, err := hash.String(c.arg(2)).Get()
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
	hash, _, err := c.hash()
	if err != nil {
		return err
	}
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
	hash, ok, err := c.hash()
	if err != nil {
		return err
	}
	at, n := len(c.out.buf), 0
	var fields []string
	if ok {
		if fields, err = stringFields(hash); err != nil {
			return err
		}
	}
	for _, field := range fields {
		value, ok, err := hash.String(field).Get()
		switch {
		case err != nil:
			return err
		case !ok:
			continue
		}
		c.out.text(field)
		c.out.bulk(value)
		n++
		if len(c.out.buf)-at > MaxReply {
			return errReplyTooLarge
		}
	}
	c.out.dictAt(at, n)
	return nil
}

func stringFields(hash crdt.Map) (fields []string, err error) {
	size := 0
	err = hash.Range(func(field string, t crdt.Type) bool {
		if t == crdt.TypeValue {
			fields = append(fields, field)
			size += len(field)
		}
		return size <= MaxReply
	})
	return fields, err
}

func runHIncrBy(c *call) error {
	n, err := c.integer(3)
	if err != nil {
		return err
	}
	hash, _, err := c.hash()
	if err != nil {
		return err
	}
	value, err := hash.String(c.arg(2)).Add(n)
	if err != nil {
		return additionError(err, errHashInteger)
	}
	c.out.integer(value)
	return nil
}
