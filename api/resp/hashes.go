package resp

import (
	"iter"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

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
	if err := c.changing(len(c.args)/2-1, "fields"); err != nil {
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
	return c.countEach(2, "fields", func(field string) (bool, error) { return hash.String(field).Clear() })
}

func runHLen(c *call) error {
	if err := c.hashError(); err != nil {
		return err
	}
	hash := c.hash()
	if err := c.afterExpired(int64(uncounted(hash, maxQuickArguments) - maxQuickArguments)); err != nil {
		return err
	}
	c.out.integer(int64(hash.CountStrings()))
	return nil
}

// uncounted returns how many fields of a hash are to be gone through to count them, or more than most.
func uncounted(hash crdt.Map, most int) (n int) {
	if hash.Counted() {
		return 0
	}
	for range hash.Scan("") {
		if n++; n > most {
			break
		}
	}
	return n
}

func workOfHLen(c *call, _ *command) int64 { return int64(uncounted(c.hash(), c.mostWork())) }

func runHGetAll(c *call) error {
	return c.eachField(c.out.dictAt, func(field string, value []byte) {
		c.out.text(field)
		c.out.bulk(value)
	})
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

func runHMSet(c *call) error {
	at := len(c.out.buf)
	if len(c.args)%2 != 0 {
		return wrongArity("hmset")
	}
	if err := runHSet(c); err != nil {
		return err
	}
	c.out.buf = c.out.buf[:at]
	c.out.status("OK")
	return nil
}

func runHSetNX(c *call) error {
	if err := c.hashError(); err != nil {
		return err
	}
	field := c.hash().String(c.arg(2))
	if _, exists := field.Get(); exists {
		c.out.integer(0)
		return nil
	}
	if err := field.Set(c.args[3]); err != nil {
		return err
	}
	c.out.integer(1)
	return nil
}

func runHMGet(c *call) error {
	if err := c.hashError(); err != nil {
		return err
	}
	fields := c.hash().Fields
	return c.readEach(2, func(name string) ([]byte, bool) { return fields.String(name).Get() })
}

func runHExists(c *call) error {
	_, ok, err := c.field()
	if err != nil {
		return err
	}
	c.out.integer(int64(oneIf(ok)))
	return nil
}

func runHStrLen(c *call) error {
	value, _, err := c.field()
	if err != nil {
		return err
	}
	c.out.integer(int64(len(value)))
	return nil
}

// field returns the field that the second argument names.
func (c *call) field() (value []byte, ok bool, err error) {
	if value, ok = c.hash().String(c.arg(2)).Get(); ok {
		return value, true, nil
	}
	return nil, false, c.hashError()
}

func runHKeys(c *call) error {
	return c.eachField(c.out.arrayAt, func(field string, _ []byte) { c.out.text(field) })
}

func runHVals(c *call) error {
	return c.eachField(c.out.arrayAt, func(_ string, value []byte) { c.out.bulk(value) })
}

// eachField replies with what fn writes of each field: see listing.
func (c *call) eachField(header func(at, n int), fn func(field string, value []byte)) error {
	if c.hash().Len() == 0 {
		if err := c.hashError(); err != nil {
			return err
		}
	}
	n := -1
	if c.send != nil {
		n = c.hash().CountStrings()
	}
	return listing(c, n, header, c.hash().Strings(), fn)
}

func runHIncrByFloat(c *call) error {
	switch n, err := parseFloat(c.args[3]); {
	case err != nil:
		return err
	case n.IsInf():
		return replyError("ERR value is NaN or Infinity")
	}
	if err := c.hashError(); err != nil {
		return err
	}
	field := c.hash().String(c.arg(2))
	text, ok := field.Get()
	sum, err := addFloat(text, ok, c.args[3], errHashNoFloat)
	if err != nil {
		return err
	}
	if until, timed := c.hash().Expiry(c.arg(2)).Get(); timed {
		err = field.SetUntil(sum, until)
	} else {
		err = field.Set(sum)
	}
	if err != nil {
		return err
	}
	c.out.bulk(sum)
	return nil
}

// runHScan goes through the fields in the order of their names: as SCAN does.
func runHScan(c *call) error {
	fields := func(after string, _ bool) iter.Seq2[string, crdt.Types] { return c.hash().Scan(after) }
	return scanWithin(c, c.hashError, fields, func(name string, _ crdt.Types) int {
		value, ok := c.hash().String(name).Get()
		if !ok {
			return 0
		}
		c.out.text(name)
		c.out.bulk(value)
		return 2
	})
}

// runHRandField chooses of all fields alike.
func runHRandField(c *call) error {
	count, pairs, err := c.randomCount("withvalues")
	if err != nil {
		return err
	}
	if err := c.hashError(); err != nil {
		return err
	}
	hash := c.hash()
	names := func(yield func(string) bool) {
		for name := range hash.Strings() {
			if !yield(name) {
				return
			}
		}
	}
	n := hash.CountStrings()
	if err := drawable(n, count); err != nil {
		return err
	}
	has := func(name string) bool {
		_, ok := hash.String(name).Get()
		return ok
	}
	drawn := c.drawSome(n, count, has, names)
	return c.writeRandom(drawn, pairs, func(name string) []byte {
		value, _ := hash.String(name).Get()
		return value
	})
}

var hashKind = kind{
	typ: crdt.TypeMap,
	count: func(tx *embedded.Tx, key string) (int, bool) {
		n := tx.Map(key).CountStrings()
		return n, n == tx.Map(key).Len()
	},
	countTo: func(tx *embedded.Tx, key string, most int) int {
		hash := tx.Map(key)
		if hash.Counted() {
			return hash.CountStrings()
		}
		return uncounted(hash, most)
	},
	parts: func(tx *embedded.Tx, key string) iter.Seq2[string, []byte] {
		return tx.Map(key).Strings()
	},
	put: func(tx *embedded.Tx, key, field string, value []byte) error {
		return tx.Map(key).String(field).Set(value)
	},
	encoding: asCells,
}
