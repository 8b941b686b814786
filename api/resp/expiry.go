package resp

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// expiryUnit is how a command says when a key expires.
type expiryUnit struct {
	millis bool // in milliseconds, and not in seconds
	since  bool // since 1970, and not from now on
}

// expiryUnits are those of the options of SET and GETEX.
var expiryUnits = map[string]expiryUnit{
	"ex": {}, "px": {millis: true}, "exat": {since: true}, "pxat": {millis: true, since: true},
}

// errExpireTime says that a time is none.
func errExpireTime(name string) error {
	return replyError(fmt.Sprintf("ERR invalid expire time in '%s' command", name))
}

// until returns the time that an argument says, in milliseconds since 1970. ok is false if that is
// beyond 64 bits.
func (c *call) until(n int64, unit expiryUnit) (at int64, ok bool) {
	if !unit.millis {
		if n > math.MaxInt64/1000 || n < math.MinInt64/1000 {
			return 0, false
		}
		n *= 1000
	}
	if !unit.since {
		now := c.now()
		if n > math.MaxInt64-now {
			return 0, false
		}
		n += now
	}
	return n, true
}

// isOver reports whether what expires at a time that an argument says, as until returns it, is to be removed
// now. What is to last for no time is, whatever the clock: see Tx.Past.
func (c *call) isOver(n, at int64, unit expiryUnit) bool {
	return !unit.since && n <= 0 || c.tx.Past(time.UnixMilli(at))
}

// now returns the time, in milliseconds since 1970.
func (c *call) now() int64 { return c.tx.Now().UnixMilli() }

// lifetime returns the time that an argument of SET or its like says, which must be behind 1970 or
// now.
func (c *call) lifetime(i int, unit expiryUnit, name string) (time.Time, error) {
	n, err := c.integer(i)
	if err != nil {
		return time.Time{}, err
	}
	at, ok := c.until(n, unit)
	if n <= 0 || !ok || at <= 0 {
		return time.Time{}, errExpireTime(name)
	}
	return time.UnixMilli(at), nil
}

// expires returns when a key expires, in milliseconds since 1970.
func (c *call) expires(key string) (at int64, ok bool) {
	t, ok := c.tx.Expiry(key).Get()
	return t.UnixMilli(), ok
}

// expireOptions are EXPIRE's.
type expireOptions struct{ nx, xx, gt, lt bool }

func (c *call) expireOptions() (o expireOptions, err error) {
	for i := 3; i < len(c.args); i++ {
		switch {
		case c.is(i, "nx"):
			o.nx = true
		case c.is(i, "xx"):
			o.xx = true
		case c.is(i, "gt"):
			o.gt = true
		case c.is(i, "lt"):
			o.lt = true
		default:
			option, _, _ := strings.Cut(c.arg(i), "\x00") // as Redis prints it
			return o, replyError("ERR Unsupported option " + option)
		}
	}
	switch {
	case o.nx && (o.xx || o.gt || o.lt):
		return o, replyError("ERR NX and XX, GT or LT options at the same time are not compatible")
	case o.gt && o.lt:
		return o, replyError("ERR GT and LT options at the same time are not compatible")
	}
	return o, nil
}

// allow reports whether a key that expires at one time may have another one. What never expires
// does so at the latest time of all.
func (o expireOptions) allow(next, now int64, expires bool) bool {
	switch {
	case o.nx:
		return !expires
	case o.xx && !expires:
		return false
	case o.gt:
		return expires && next > now
	case o.lt:
		return !expires || next < now
	}
	return true
}

// expiring returns EXPIRE or its like.
func expiring(name string, unit expiryUnit) func(c *call) error {
	return func(c *call) error {
		o, err := c.expireOptions()
		if err != nil {
			return err
		}
		n, err := c.integer(2)
		if err != nil {
			return err
		}
		at, ok := c.until(n, unit)
		if !ok {
			return errExpireTime(name)
		}
		key := c.arg(1)
		now, expires := c.expires(key)
		if !c.tx.Has(key) || !o.allow(at, now, expires) {
			c.out.integer(0)
			return nil
		}
		if c.isOver(n, at, unit) {
			_, err = c.tx.Remove(key)
		} else {
			_, err = c.tx.Expiry(key).Set(time.UnixMilli(at))
		}
		if err != nil {
			return err
		}
		c.out.integer(1)
		return nil
	}
}

// telling returns TTL or its like, which says when a key expires: −1 of one that does not, −2 of
// one that does not exist. A part of a second is rounded.
func telling(unit expiryUnit) func(c *call) error {
	return func(c *call) error {
		key := c.arg(1)
		at, ok := c.expires(key)
		switch {
		case !ok && !c.tx.Has(key):
			at = -2
		case !ok:
			at = -1
		default:
			at = c.told(at, unit)
		}
		c.out.integer(at)
		return nil
	}
}

// told returns a time, in milliseconds since 1970, as a command says it.
func (c *call) told(at int64, unit expiryUnit) int64 {
	if !unit.since {
		at = max(at-c.now(), 0)
	}
	if !unit.millis {
		at = at/1000 + (at%1000+500)/1000
	}
	return at
}

func runPersist(c *call) error {
	existed, err := c.tx.Expiry(c.arg(1)).Clear()
	if err != nil {
		return err
	}
	n := int64(0)
	if existed {
		n = 1
	}
	c.out.integer(n)
	return nil
}

// settingEx returns SETEX or PSETEX.
func settingEx(name string, unit expiryUnit) func(c *call) error {
	return func(c *call) error {
		at, err := c.lifetime(2, unit, name)
		if err != nil {
			return err
		}
		key := c.arg(1)
		if err := c.put(key, c.tx.Types(key), c.args[3], at); err != nil {
			return err
		}
		c.out.status("OK")
		return nil
	}
}

func runGetEx(c *call) error {
	var unit expiryUnit
	at, persist := 0, false
	for i := 2; i < len(c.args); i++ {
		u, timed := c.expiryUnit(i)
		switch {
		case c.is(i, "persist") && at == 0:
			persist = true
		case timed && !persist && i+1 < len(c.args) && (at == 0 || u == unit):
			i++
			at, unit = i, u
		default:
			return errSyntax
		}
	}
	key := c.arg(1)
	value, ok, err := c.getString(key)
	switch {
	case err != nil:
		return err
	case !ok:
		c.out.null()
		return nil
	case c.tooLong(value):
		return errApart
	}
	var until time.Time
	if at > 0 {
		if until, err = c.lifetime(at, unit, "getex"); err != nil {
			return err
		}
	}
	c.out.bulk(value)
	switch {
	case persist:
		_, err = c.tx.Expiry(key).Clear()
	case at > 0 && c.tx.Past(until):
		_, err = c.tx.Remove(key)
	case at > 0:
		_, err = c.tx.Expiry(key).Set(until)
	}
	return err
}

// expiryUnit returns what an option of SET or GETEX says a time in.
func (c *call) expiryUnit(i int) (unit expiryUnit, ok bool) {
	for name, unit := range expiryUnits {
		if c.is(i, name) {
			return unit, true
		}
	}
	return unit, false
}

// setString makes a key's string another one, which expires at a time, or never if that is zero.
func (c *call) setString(key string, value []byte, until time.Time) error {
	if until.IsZero() {
		return c.tx.String(key).Set(value)
	}
	return c.tx.String(key).SetUntil(value, until)
}
