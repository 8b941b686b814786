package resp

import (
	"errors"
	"math"

	"github.com/peerd/peerd/crdt"
)

func runGet(c *call) error {
	value, ok, err := c.getString(c.arg(1))
	switch {
	case err != nil:
		return err
	case c.tooLong(value):
		return errApart
	case ok:
		c.out.bulk(value)
	default:
		c.out.null()
	}
	return nil
}

// tooLong reports whether the loop must not copy a value.
func (c *call) tooLong(value []byte) bool { return c.looped && len(value) > maxQuickBytes }

// getString returns the string of a key, and errWrongType if there is only something else.
func (c *call) getString(key string) (value []byte, ok bool, err error) {
	if value, ok = c.tx.String(key).Get(); ok {
		return value, true, nil
	}
	return nil, false, c.typeError(key, crdt.TypeString)
}

// setOptions is what may follow SET's key and value.
type setOptions struct {
	ifAbsent, ifPresent, get bool
}

func (c *call) setOptions() (o setOptions, err error) {
	expires := false
	for i := 3; i < len(c.args); i++ {
		switch {
		case c.is(i, "nx") && !o.ifPresent:
			o.ifAbsent = true
		case c.is(i, "xx") && !o.ifAbsent:
			o.ifPresent = true
		case c.is(i, "get"):
			o.get = true
		case c.is(i, "keepttl"):
			// Nothing expires, so there is nothing to keep.
		case c.isExpiry(i) && i+1 < len(c.args):
			expires = true
			i++
		default:
			return o, errSyntax
		}
	}
	if expires {
		return o, replyError("ERR expiry is not supported yet: SET without EX, PX, EXAT and PXAT")
	}
	return o, nil
}

func (c *call) isExpiry(i int) bool {
	return c.is(i, "ex") || c.is(i, "px") || c.is(i, "exat") || c.is(i, "pxat")
}

func runSet(c *call) error {
	o, err := c.setOptions()
	if err != nil {
		return err
	}
	key := c.arg(1)
	types := c.tx.Types(key)
	exists := types != 0
	if o.get {
		old, ok, err := c.getString(key)
		if err != nil {
			return err
		}
		if ok {
			c.out.bulk(old)
		} else {
			c.out.null()
		}
	}
	if o.ifAbsent && exists || o.ifPresent && !exists {
		if !o.get {
			c.out.null()
		}
		return nil
	}
	if exists && !types.Only(crdt.TypeString) {
		if _, err := c.tx.Remove(key); err != nil {
			return err
		}
	}
	if err := c.tx.String(key).Set(c.args[2]); err != nil {
		return err
	}
	if !o.get {
		c.out.status("OK")
	}
	return nil
}

func runIncr(c *call) error { return c.add(1) }

func runDecr(c *call) error { return c.add(-1) }

func runIncrBy(c *call) error {
	n, err := c.integer(2)
	if err != nil {
		return err
	}
	return c.add(n)
}

func runDecrBy(c *call) error {
	n, err := c.integer(2)
	switch {
	case err != nil:
		return err
	case n == math.MinInt64:
		return errDecrement
	}
	return c.add(-n)
}

// add increments the string of the key that the first argument names.
func (c *call) add(n int64) error {
	key := c.arg(1)
	if err := c.typeError(key, crdt.TypeString); err != nil {
		return err
	}
	value, err := c.tx.String(key).Add(n)
	if err != nil {
		return additionError(err, errNotInteger)
	}
	c.out.integer(value)
	return nil
}

// additionError returns an error of String.Add in Redis's words.
func additionError(err, notInteger error) error {
	switch {
	case errors.Is(err, crdt.ErrNotInteger):
		return notInteger
	case errors.Is(err, crdt.ErrOverflow):
		return errOverflow
	}
	return err
}
