package crdt

import (
	"errors"
	"strings"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// Expiry is when everything under a key ends. From then on readers see nothing of it, on every
// replica by its own clock, and what is there is removed as by Remove: a State does that when the key
// is written to, a database soon. Whoever writes to a key that has expired finds nothing there and
// begins anew.
//
// A write that changes a part of what is there, such as an increment, says the time again: so if
// another replica, which has not seen it, removes what has expired, what it added has expired as
// well. Set of a string or register replaces the whole value, and takes the expiry away.
//
// Of concurrent times the latest counts, and that it never ends more than any: of two who said
// when a key ends neither loses it early. But a Set of a key that had no time says nothing of one,
// and ends by what another says meanwhile. Replicas whose clocks differ do not agree at once on what has
// expired, but on what was removed.
type Expiry struct {
	node
}

// errFieldExpiry says that only keys expire.
var errFieldExpiry = errors.New("only keys can expire, and no fields of maps")

// Expiry returns the expiry of the key under name. Of a field it is none, and cannot be set.
func (f Fields) Expiry(name string) Expiry {
	n := f.named(name)
	if n.err == nil && n.depth > 1 {
		n.err = errFieldExpiry
	}
	n.at = n.at.Expiry()
	return Expiry{n}
}

// Get returns when the key expires, to the millisecond. ok is false if it does not.
func (e Expiry) Get() (at time.Time, ok bool) {
	c, _ := e.cell()
	ms, _, ok := c.Expires()
	if !ok || ms == dotted.Never || !e.exists() {
		return time.Time{}, false
	}
	return time.UnixMilli(ms), true
}

// exists reports whether there is anything that can expire.
func (e Expiry) exists() bool {
	s, _ := e.summary()
	return s.Exists()
}

// Set has the key expire at a time, to the millisecond, and reports whether the key exists. If that
// has passed it expires at once.
func (e Expiry) Set(at time.Time) (existed bool, err error) {
	if err := e.broken(); err != nil {
		return false, err
	}
	if !e.exists() {
		return false, e.tx.err
	}
	return true, e.expireAt(max(at.UnixMilli(), 0))
}

// Clear takes the time away: the key does not expire. It reports whether it would have.
func (e Expiry) Clear() (existed bool, err error) {
	if err := e.broken(); err != nil {
		return false, err
	}
	if _, timed := e.Get(); !timed {
		return false, e.tx.err
	}
	return true, e.expireAt(dotted.Never)
}

// timed is what a session knows of the expiry of a key.
type timed struct {
	key   string
	known bool
	at    int64 // if it has any
	has   bool
	past  bool  // it has expired
	dots  []Dot // of the entries that say it
	said  bool  // this transaction has said it again
}

// timing returns what is known of a key's expiry.
func (s *session) timing(key string) *timed {
	if t := &s.timed; t.known && t.key == key {
		return t
	}
	c, err := s.Cell(dotted.KeyAddress(key).Expiry())
	if s.err == nil {
		s.err = err
	}
	t := timed{key: key, known: true}
	t.at, _, t.has = c.Expires()
	t.past = t.has && t.at <= s.Now().UnixMilli()
	t.dots = c.Dots()
	s.timed = t
	return &s.timed
}

// times reports whether any name has an expiry, or had one before the transaction.
func (s *session) times() bool { return s.Timed() || len(s.lost) > 0 }

// expired reports whether readers see nothing of the key that n is in.
func (n node) expired() bool {
	return n.depth > 0 && n.tx.Timed() && n.tx.timing(n.key).past
}

// unexpired returns whether readers see something of the key that a cell under n is in.
func (n node) unexpired() func(dotted.Address) bool {
	if n.depth > 0 || !n.tx.Timed() {
		return func(dotted.Address) bool { return true }
	}
	key, past := dotted.Address(""), false
	return func(a dotted.Address) bool {
		if key == "" || !strings.HasPrefix(string(a), string(key)) {
			key = a.KeyAddress()
			past = n.tx.timing(a.Key()).past
		}
		return !past
	}
}

// renew prepares a write that changes a part of what its key holds: what has expired goes before,
// and else the write says the key's expiry again.
func (n node) renew() error {
	if n.depth == 0 || n.tx.Replica() == 0 || n.tx.replacing || !n.tx.times() {
		return nil
	}
	t := n.tx.timing(n.key)
	if gone, err := n.began(t); gone || err != nil || t.said || !t.has || t.at == dotted.Never {
		if err == nil && n.tx.lost[n.key] {
			err = n.expireAt(dotted.Never)
		}
		return err
	}
	return n.expireAt(t.at)
}

// lose notes that a transaction removes a key, whose expiry goes with it. If it then writes to the key that one
// does not expire, whoever says the old time again meanwhile.
func (n node) lose(key string, t timed) {
	if !t.has || t.past || t.at == dotted.Never {
		return
	}
	if n.tx.lost == nil {
		n.tx.lost = map[string]bool{}
	}
	n.tx.lost[key] = true
}

// replaces begins a write that replaces all that its key holds, which then ends at a time. If it
// reports true replaced ends the write.
func (n node) replaces(at int64) (timed bool, err error) {
	if err := n.broken(); err != nil || n.depth != 1 || at == dotted.Never && !n.tx.times() || n.tx.Replica() == 0 {
		return false, err
	}
	_, err = n.began(n.tx.timing(n.key))
	n.tx.replacing = err == nil
	return err == nil, err
}

// replaced ends such a write, with the error of what it did.
func (n node) replaced(at int64, err error) error {
	n.tx.replacing = false
	t := n.tx.timing(n.key)
	if err != nil || at == dotted.Never && (!t.has && !n.tx.lost[n.key] || t.has && t.at == at) {
		return err
	}
	return n.expireAt(at)
}

// began removes what is left of a key that has expired, or an expiry of nothing, before the key is
// written to. It reports whether the key has no expiry then.
func (n node) began(t *timed) (none bool, err error) {
	switch {
	case !t.has:
		return true, n.tx.err
	case t.past:
		return true, n.purge()
	case t.said:
		return false, n.tx.err
	}
	return false, n.emptied()
}

// purge removes what is left of a key that has expired.
func (n node) purge() error {
	s := n.tx
	s.timed = timed{key: n.key, known: true} // so that nothing hides it
	key := fieldsOf(s.Tx).named(n.key)
	key.tx = s
	if _, err := key.clear(); err != nil {
		return err
	}
	return key.emptied()
}

// emptied removes the expiry of a key that nothing else is left of.
func (n node) emptied() error {
	if n.at == "" || n.at.IsExpiry() || n.tx.replacing || !n.tx.Timed() {
		return nil
	}
	at := n.at.KeyAddress()
	key := at.Key()
	s, err := n.tx.Summary(key)
	if err != nil || !s.Timed() || s.Exists() {
		return err
	}
	n.tx.timed.known = false // also what is known of it is to be as of now
	t := *n.tx.timing(key)
	if n.tx.err != nil {
		return n.tx.err
	}
	n.lose(key, t)
	n.tx.timed = timed{key: key, known: true}
	return n.tx.Remove(at.Expiry(), t.dots)
}

// expireAt says when what is stored under n's key ends.
func (n node) expireAt(at int64) error {
	t := n.tx.timing(n.key)
	d, err := n.tx.Put(dotted.KeyAddress(n.key).Expiry(), dotted.ExpiryPayload(at), t.dots)
	if err != nil {
		return err
	}
	delete(n.tx.lost, n.key)
	t.at, t.has, t.dots, t.said = at, true, []Dot{d}, true
	t.past = at <= n.tx.Now().UnixMilli()
	return nil
}

// expire removes what is left of a key, if that has expired.
func expire(tx dotted.Tx, key string) error {
	n := fieldsOf(tx).named(key)
	if n.err != nil || !n.expired() {
		return n.err
	}
	return n.purge()
}
