package crdt

import (
	"errors"
	"strings"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// Expiry is when everything under a name ends: under a key, or under a field of a map that is a
// key's. From then on readers see nothing of it, on every replica by its own clock, and what is
// there is removed as by Remove: a State does that when the name is written to, a database soon.
// Whoever writes to what has expired finds nothing there and begins anew.
//
// A write that changes a part of what is there, such as an increment, says the time again: so if
// another replica, which has not seen it, removes what has expired, what it added has expired as
// well. Set of a string or register replaces the whole value, and takes the expiry of its name
// away.
//
// Of concurrent times the latest counts, and that it never ends more than any: of two who said
// when something ends neither loses it early. But a Set where there was no time says nothing of
// one, and ends by what another says meanwhile. Replicas whose clocks differ do not agree at once
// on what has expired, but on what was removed.
//
// A map whose fields have expiries counts its fields by going through them: see Map.Counted.
type Expiry struct {
	ref
}

// errDeepExpiry says what expires.
var errDeepExpiry = errors.New("only keys can expire, and fields of maps that are keys'")

// maxTimed is how many names there are on the way to one that can expire.
const maxTimed = 2

// Expiry returns the expiry of what is under name. Deeper than in a map that is a key's there is
// none, and Set and Clear return an error.
func (f Fields) Expiry(name string) Expiry {
	n := f.named(name)
	if n.err == nil && n.depth > maxTimed {
		n.err = errDeepExpiry
	}
	return Expiry{n}
}

// Get returns when that expires, to the millisecond. ok is false if it does not.
func (e Expiry) Get() (at time.Time, ok bool) {
	c, _ := read(e.ref, func() (dotted.Cell, error) { return e.tx.Cell(e.at.Expiry()) })
	ms, _, ok := c.Expires()
	if !ok || ms == dotted.Never || !e.there() {
		return time.Time{}, false
	}
	return time.UnixMilli(ms), true
}

// there reports whether there is anything that can expire.
func (e Expiry) there() bool {
	there, _ := e.exists()
	return there
}

// Set has what is there expire at a time, to the millisecond, and reports whether anything is. If
// that time has passed it expires at once.
func (e Expiry) Set(at time.Time) (existed bool, err error) {
	if err := e.broken(); err != nil {
		return false, err
	}
	if !e.there() {
		return false, e.tx.err
	}
	if err := e.above().renew(); err != nil {
		return true, err
	}
	return true, e.expireAt(milliOf(at))
}

// milliOf returns a time in milliseconds since 1970: none before that, and at most the last that
// is not dotted.Never.
func milliOf(at time.Time) int64 { return min(max(dotted.Milli(at), 0), dotted.Never-1) }

// Clear takes the time away: what is there does not expire. It reports whether it would have.
func (e Expiry) Clear() (existed bool, err error) {
	if err := e.broken(); err != nil {
		return false, err
	}
	if _, timed := e.Get(); !timed {
		return false, e.tx.err
	}
	if err := e.above().renew(); err != nil {
		return true, err
	}
	return true, e.expireAt(dotted.Never)
}

// timed is what a session knows of the expiry of a name.
type timed struct {
	name  dotted.Address
	known bool
	at    int64 // if it has any
	has   bool
	past  bool  // it has expired
	dots  []Dot // of the entries that say it
	said  bool  // this transaction has said it again
	ended bool  // it had expired and is being removed
}

// timing returns what is known of a name's expiry. The session remembers it of one key and of one
// field.
func (s *session) timing(name dotted.Address, depth int) *timed {
	known := &s.timed[min(depth, maxTimed)-1]
	if known.known && known.name == name {
		return known
	}
	c, err := s.Cell(name.Expiry())
	if s.err == nil {
		s.err = err
	}
	t := timed{name: name, known: true}
	t.at, _, t.has = c.Expires()
	t.past = t.has && t.at <= dotted.Milli(s.Now())
	t.dots = c.Dots()
	*known = t
	return known
}

// forgetTimes has what was found out of expiries found out again.
func (s *session) forgetTimes() { s.timed, s.fields = [maxTimed]timed{}, timedFields{} }

// times reports whether any name has an expiry, or had one before the transaction.
func (s *session) times() bool { return s.Timed() || len(s.lost) > 0 }

// isLost reports whether the transaction has removed the expiry of a name, or may have: see lose.
func (s *session) isLost(name dotted.Address) bool {
	if len(s.lost) == 0 || name == "" {
		return false
	}
	key := name.KeyAddress()
	return s.lost[""] || s.lost[name] || len(name) > len(key) && s.lost[name[:len(key)+1]]
}

func (s *session) noteLost(at dotted.Address) {
	if s.lost == nil {
		s.lost = map[dotted.Address]bool{}
	}
	s.lost[at] = true
}

// timedFields is whether fields of a key have expiries.
type timedFields struct {
	key   dotted.Address
	known bool
	some  bool
}

// fieldsTimed reports whether fields of a key have expiries.
func (s *session) fieldsTimed(key dotted.Address) bool {
	if f := &s.fields; f.known && f.key == key {
		return f.some
	}
	sum, err := s.Summary(key.Key())
	if s.err == nil {
		s.err = err
	}
	s.fields = timedFields{key, true, sum.TimedFields()}
	return s.fields.some
}

// holder returns the ref of the name of a depth on the way to n, or n's own.
func (n ref) holder(depth int) ref {
	n.at, n.typ, n.depth = n.at.Names(depth), 0, depth
	return n
}

// above returns the ref of the key that a field is of; of a key, of nothing.
func (e Expiry) above() ref { return e.holder(e.depth - 1) }

// timing returns what is known of the expiry of the name that n is.
func (n ref) timing() *timed { return n.tx.timing(n.at, n.depth) }

// fieldExpires reports whether n is a field, or in one, of a key of which fields have expiries.
func (n ref) fieldExpires() bool {
	return n.depth != 1 && n.at.Names(maxTimed) != "" && n.tx.fieldsTimed(n.at.KeyAddress())
}

// fieldsHide reports whether fields of the key that n is in may have expired, so that no sums say
// what readers see.
func (n ref) fieldsHide() bool {
	return n.broken() == nil && n.tx.Timed() && n.tx.fieldsTimed(n.at.KeyAddress())
}

// expired reports whether readers see nothing of the key, or the field, that n is in.
func (n ref) expired() bool {
	return n.depth > 0 && n.tx.Timed() && (n.holder(1).timing().past || n.fieldExpires() && n.holder(maxTimed).timing().past)
}

// unexpired returns whether readers see something of the key, and the field, that a cell under n
// is in.
func (n ref) unexpired() func(dotted.Address) bool {
	if n.depth >= maxTimed || !n.tx.Timed() {
		return func(dotted.Address) bool { return true }
	}
	var name [maxTimed]dotted.Address // of the last cell
	var past [maxTimed]bool
	return func(a dotted.Address) bool {
		for i := range name {
			if name[i] == "" || !strings.HasPrefix(string(a), string(name[i])) {
				if name[i], past[i] = a.Names(i+1), false; i < n.depth || name[i] == "" || i > 0 && !n.tx.fieldsTimed(name[0]) {
					continue
				}
				past[i] = n.tx.timing(name[i], i+1).past
			}
			if past[i] {
				return false
			}
		}
		return true
	}
}

// renew prepares a write that changes a part of what its key holds, and its field: what has
// expired goes before, and else the write says their expiries again.
func (n ref) renew() error {
	if n.depth == 0 || n.tx.Replica() == 0 || n.tx.replacing == 1 || !n.tx.times() {
		return nil
	}
	err := n.holder(1).renewName()
	if err != nil || n.tx.replacing == maxTimed || !n.fieldExpires() && !n.tx.isLost(n.at.Names(maxTimed)) {
		return err
	}
	if err = n.holder(maxTimed).renewName(); err == nil && !n.holder(1).timing().has {
		err = n.holder(1).renewName() // nothing was left of it but what had expired
	}
	return err
}

// renewName does it for the name that n is.
func (n ref) renewName() error {
	gone, err := n.began(*n.timing())
	if t := n.timing(); err == nil && !gone && !t.said && t.has && t.at != dotted.Never {
		return n.expireAt(t.at)
	}
	if err == nil && !n.timing().has && n.tx.isLost(n.at) {
		err = n.expireAt(dotted.Never)
	}
	return err
}

// lose notes that a transaction removes what is under the name that n is, whose expiry goes with
// it. If it then writes there again that does not expire, whoever says the old time again
// meanwhile.
func (n ref) lose(t timed) {
	if t.has && !t.past {
		n.tx.noteLost(n.at)
	}
}

// loseAll does it for all that a clear of n removes, and looks for no names: all fields of a map
// count if one has an expiry, and all names there are if everything goes.
func (n ref) loseAll() {
	switch {
	case n.depth == 0:
		n.tx.noteLost("")
	case n.depth == 1 || n.depth == maxTimed && n.fieldExpires():
		name := n.holder(n.depth)
		t := *name.timing()
		name.lose(t)
		if n.depth == 1 && !t.past && !t.ended {
			n.loseFields()
		}
	}
}

// replaces begins a write that replaces all that its key or field holds, which then ends at a
// time. If it reports true replaced ends the write.
func (n ref) replaces(at int64) (timed bool, err error) {
	if err := n.broken(); err != nil || n.depth > maxTimed || at == dotted.Never && !n.tx.times() || n.tx.Replica() == 0 {
		return false, err
	}
	if n.depth == maxTimed {
		err := n.holder(1).renew()
		if err != nil || at == dotted.Never && !n.fieldExpires() && !n.tx.isLost(n.at.Names(maxTimed)) {
			return false, err
		}
	}
	n = n.holder(n.depth)
	_, err = n.began(*n.timing())
	if err == nil {
		n.tx.replacing = n.depth
	}
	return err == nil, err
}

// replaced ends such a write, with the error of what it did.
func (n ref) replaced(at int64, err error) error {
	n = n.holder(n.depth)
	n.tx.replacing = 0
	t := n.timing()
	if err != nil || at == dotted.Never && (!t.has && !n.tx.isLost(n.at) || t.has && t.at == at) {
		return err
	}
	return n.expireAt(at)
}

// fieldsPast reports whether nothing is left of the key that n is but fields that have expired.
func (n ref) fieldsPast() (bool, error) {
	s := n.tx
	if n.depth > 1 || !s.fieldsTimed(n.at) {
		return false, s.err
	}
	written := s.timed[maxTimed-1] // what is known of the field that is written to
	defer func() { s.timed[maxTimed-1] = written }()
	if at := s.Shown().Of(n.at); at != "" {
		seen := n
		seen.at, seen.depth = at, maxTimed
		if c, err := seen.cell(); err != nil || c.Visible() {
			return false, err
		}
	}
	passed, found, unexpired := 0, false, n.unexpired()
	pass := func(a dotted.Address) bool { passed++; return unexpired(a) }
	err := n.scanSome(pass, "", func(a dotted.Address, c dotted.Cell) bool {
		if found = c.Visible() && !a.IsExpiry(); found && passed > walkSteps {
			s.Shown().Note(n.at, a)
		}
		return !found
	})
	return !found, err
}

// began removes what is left under a name that has expired, or an expiry of nothing that readers
// see, before that is written to. It reports whether the name has no expiry then.
func (n ref) began(t timed) (none bool, err error) {
	switch {
	case !t.has:
		return true, n.tx.err
	case t.past:
		return true, n.purge()
	}
	if past, err := n.fieldsPast(); err != nil {
		return false, err
	} else if past {
		n.lose(t)
		return true, n.purge()
	}
	if t.said {
		return false, n.tx.err
	}
	return false, n.emptied()
}

// purge removes what is left under a name that has expired.
func (n ref) purge() error {
	s := n.tx
	n = n.holder(n.depth)
	for depth := 1; depth <= n.depth; depth++ { // a field's key may have expired too
		name := n.holder(depth)
		*name.timing() = timed{name: name.at, known: true, ended: true} // so that nothing hides it
	}
	if _, err := n.clear(); err != nil {
		return err
	}
	s.forgetTimes()
	return n.emptied()
}

// emptied removes the expiry of a key, or of a field of it, that nothing else is left of.
func (n ref) emptied() error {
	if n.at == "" || n.at.IsExpiry() || n.tx.replacing > 0 || !n.tx.Timed() {
		return nil
	}
	if n.at.Names(maxTimed) != "" && n.tx.fieldsTimed(n.at.KeyAddress()) {
		if err := n.holder(maxTimed).emptiedName(); err != nil {
			return err
		}
	}
	s, err := n.tx.Summary(n.at.Key())
	if err != nil || !s.Timed() || s.Exists() {
		return err
	}
	return n.holder(1).emptiedName()
}

// emptiedName does it for the name that n is.
func (n ref) emptiedName() error {
	s := n.tx
	s.forgetTimes() // also what is known of it is to be as of now
	t := *n.timing()
	if s.err != nil || len(t.dots) == 0 {
		return s.err
	}
	if n.depth > 1 {
		*n.timing() = timed{name: n.at, known: true}
		cells, err := n.visibleCells(1)
		s.forgetTimes()
		if err != nil || len(cells) > 0 {
			return err
		}
	}
	n.lose(t)
	err := s.Remove(n.at.Expiry(), t.dots)
	s.forgetTimes()
	return err
}

// expireAt says when what is under the name that n is ends.
func (n ref) expireAt(at int64) error {
	t := n.timing()
	d, err := n.tx.Put(n.at.Expiry(), dotted.ExpiryPayload(at), t.dots)
	if err != nil {
		return err
	}
	past := at <= dotted.Milli(n.tx.Now())
	if past {
		n.lose(*t) // what the transaction writes there next is another one
	}
	t.at, t.has, t.past, t.dots, t.said = at, true, past, []Dot{d}, true
	if n.depth > 1 {
		n.tx.fields = timedFields{n.at.KeyAddress(), true, true}
	}
	return nil
}

// expire removes what is left under a name, if that has expired.
func expire(tx dotted.Tx, name dotted.Address) error {
	n := fieldsOf(tx).ref
	n.at, n.key, n.depth = name, name.Key(), 1
	if name.Names(1) != name {
		n.depth = maxTimed
	}
	if name.Names(n.depth) != name || !n.timing().past {
		return n.tx.err
	}
	return n.purge()
}
