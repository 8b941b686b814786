package httpapi

import (
	"time"

	"github.com/peerd/peerd/crdt"
)

// expiryOperations are those on when a key, or a field, expires.
var expiryOperations = map[string]kind{
	"expire":  {member: "until", expires: true, run: expire},
	"persist": {expires: true, run: persist},
}

// lastShown is the latest time that is shown: JSON has none after that year.
var lastShown = time.Date(9999, time.December, 31, 23, 59, 59, 999e6, time.UTC)

// expiryOf returns when a key expires, lastShown at most; nil if it does not.
func expiryOf(keys crdt.Fields, key string) *time.Time {
	at, ok := keys.Expiry(key).Get()
	if !ok {
		return nil
	}
	if at = at.UTC(); at.After(lastShown) {
		at = lastShown
	}
	return &at
}

// setExpiry makes a key that was written as a whole expire at a time, or not if that is nil.
func setExpiry(keys crdt.Fields, key string, at *time.Time) (err error) {
	if at == nil {
		_, err = keys.Expiry(key).Clear()
	} else {
		_, err = keys.Expiry(key).Set(*at)
	}
	return err
}

// keepExpiries runs a write of what a path leads to, and has the key and the fields above that
// expire when they did: a write that removes what it replaces may leave them empty for a moment.
func keepExpiries(keys crdt.Fields, path []octets, write func() error) error {
	type timed struct {
		crdt.Expiry
		until time.Time
	}
	var above []timed
	for _, name := range path[:len(path)-1] {
		e := keys.Expiry(string(name))
		if until, ok := e.Get(); ok {
			above = append(above, timed{e, until})
		}
		keys = keys.Map(string(name)).Fields
	}
	err := write()
	for _, e := range above {
		if _, still := e.Get(); err == nil && !still {
			_, err = e.Set(e.until)
		}
	}
	return err
}

func expire(o *operation, at spot) (result, error) {
	existed, err := at.in.Expiry(at.name).Set(*o.Until)
	return result{Changed: existed}, err
}

func persist(_ *operation, at spot) (result, error) {
	existed, err := at.in.Expiry(at.name).Clear()
	return result{Changed: existed}, err
}
