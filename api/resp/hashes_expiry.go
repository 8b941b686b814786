package resp

import (
	"encoding/binary"
	"iter"
	"math"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

// Fields of a hash expire as keys do. The commands are those of Redis 7.4.

var (
	errNoFields   = replyError("ERR Mandatory argument FIELDS is missing or not at the right position")
	errFewFields  = replyError("ERR Parameter `numFields` should be greater than 0")
	errFieldCount = replyError("ERR The `numfields` parameter must match the number of arguments")
)

// What is said of a field, beside a time.
const (
	fieldAbsent    = -2
	fieldUntimed   = -1
	fieldUnchanged = 0
	fieldChanged   = 1
	fieldRemoved   = 2
)

// fieldsBehind returns the fields that stand behind the word and their number, up to the end.
func (c *call) fieldsBehind(i int) ([][]byte, error) {
	if i+1 >= len(c.args) || !c.is(i, "fields") {
		return nil, errNoFields
	}
	n, err := c.integer(i + 1)
	switch names := c.args[i+2:]; {
	case err != nil || n < 1:
		return nil, errFewFields
	case n != int64(len(names)):
		return nil, errFieldCount
	default:
		return names, nil
	}
}

// fieldsToChange returns those of a command that may change them.
func (c *call) fieldsToChange(i int) ([][]byte, error) {
	names, err := c.fieldsBehind(i)
	if err == nil {
		err = c.changing(len(names), "fields")
	}
	return names, err
}

// ofEach answers with what is said of each field; of a key that does not exist, that there is none.
func (c *call) ofEach(names [][]byte, say func(field string) (int64, error)) error {
	if err := c.hashError(); err != nil {
		return err
	}
	hash := c.hash()
	c.out.array(len(names))
	for _, name := range names {
		said := int64(fieldAbsent)
		if hash.Has(string(name)) {
			var err error
			if said, err = say(string(name)); err != nil {
				return err
			}
		}
		c.out.integer(said)
	}
	return nil
}

// expiringFields returns HEXPIRE or its like.
func expiringFields(name string, unit expiryUnit) func(c *call) error {
	return func(c *call) error {
		n, err := c.integer(2)
		if err != nil {
			return err
		}
		at, ok := c.until(n, unit)
		if n < 0 || !ok {
			return errExpireTime(name)
		}
		var o expireOptions
		i := 3
		for word, flag := range map[string]*bool{"nx": &o.nx, "xx": &o.xx, "gt": &o.gt, "lt": &o.lt} {
			if *flag = c.is(3, word); *flag {
				i = 4
			}
		}
		names, err := c.fieldsToChange(i)
		if err != nil {
			return err
		}
		over := c.isOver(n, at, unit)
		return c.ofEach(names, func(field string) (int64, error) { return c.expireField(field, at, over, o) })
	}
}

// expireField has a field expire at a time, in milliseconds since 1970, if the options allow that. One
// whose time is over it removes.
func (c *call) expireField(field string, at int64, over bool, o expireOptions) (int64, error) {
	hash := c.hash()
	now, timed := hash.Expiry(field).Get()
	if !o.allow(at, now.UnixMilli(), timed) {
		return fieldUnchanged, nil
	}
	if over {
		_, err := hash.Remove(field)
		return fieldRemoved, err
	}
	_, err := hash.Expiry(field).Set(time.UnixMilli(at))
	return fieldChanged, err
}

// tellingFields returns HTTL or its like.
func tellingFields(unit expiryUnit) func(c *call) error {
	return func(c *call) error {
		names, err := c.fieldsBehind(2)
		if err != nil {
			return err
		}
		return c.ofEach(names, func(field string) (int64, error) {
			at, timed := c.hash().Expiry(field).Get()
			if !timed {
				return fieldUntimed, nil
			}
			ms := at.UnixMilli()
			if !unit.millis {
				ms = min(ms, math.MaxInt64-499) + 499 // a field's time is rounded up, a key's to the nearest
			}
			return c.told(ms, unit), nil
		})
	}
}

func runHPersist(c *call) error {
	names, err := c.fieldsToChange(2)
	if err != nil {
		return err
	}
	return c.ofEach(names, func(field string) (int64, error) {
		existed, err := c.hash().Expiry(field).Clear()
		if existed {
			return fieldChanged, err
		}
		return fieldUntimed, err
	})
}

// fieldTimesKind is when the fields of a hash expire, for DUMP: in milliseconds since 1970. No key is
// of its type.
var fieldTimesKind = kind{
	typ: '@',
	count: func(tx *embedded.Tx, key string) (n int, shown bool) {
		for range fieldTimes(tx, key) {
			n++
		}
		return n, true
	},
	parts: fieldTimes,
	check: func(_ string, value []byte) bool { return len(value) == 8 },
	put: func(tx *embedded.Tx, key, field string, value []byte) error {
		_, err := tx.Map(key).Expiry(field).Set(time.UnixMilli(int64(binary.BigEndian.Uint64(value))))
		return err
	},
}

func fieldTimes(tx *embedded.Tx, key string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		hash := tx.Map(key)
		for field := range hash.Strings() {
			at, timed := hash.Expiry(field).Get()
			if timed && !yield(field, binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli()))) {
				return
			}
		}
	}
}

func hashExpiryCommands() []command {
	return grouped("hash", []command{
		{name: "hexpire", arity: -6, keys: oneKey, run: expiringFields("hexpire", expiryUnit{}), access: accessWrite,
			summary: "Sets after how many seconds fields of a hash expire."},
		{name: "hpexpire", arity: -6, keys: oneKey, run: expiringFields("hpexpire", expiryUnit{millis: true}),
			access: accessWrite, summary: "Sets after how many milliseconds fields of a hash expire."},
		{name: "hexpireat", arity: -6, keys: oneKey, run: expiringFields("hexpireat", expiryUnit{since: true}),
			access: accessWrite, summary: "Sets when fields of a hash expire, in seconds since 1970."},
		{name: "hpexpireat", arity: -6, keys: oneKey, run: expiringFields("hpexpireat", expiryUnits["pxat"]),
			access: accessWrite, summary: "Sets when fields of a hash expire, in milliseconds since 1970."},
		{name: "httl", arity: -5, keys: oneKey, run: tellingFields(expiryUnit{}), access: accessRead,
			summary: "Returns after how many seconds fields of a hash expire."},
		{name: "hpttl", arity: -5, keys: oneKey, run: tellingFields(expiryUnit{millis: true}), access: accessRead,
			summary: "Returns after how many milliseconds fields of a hash expire."},
		{name: "hexpiretime", arity: -5, keys: oneKey, run: tellingFields(expiryUnit{since: true}), access: accessRead,
			summary: "Returns when fields of a hash expire, in seconds since 1970."},
		{name: "hpexpiretime", arity: -5, keys: oneKey, run: tellingFields(expiryUnits["pxat"]), access: accessRead,
			summary: "Returns when fields of a hash expire, in milliseconds since 1970."},
		{name: "hpersist", arity: -5, keys: oneKey, run: runHPersist, access: accessWrite,
			summary: "Has fields of a hash not expire, whatever others say at the same time."},
	})
}
