package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
)

// Keys, and fields of their maps, expire in some worlds. The oracle knows who said when, what the sayer had seen, and so what is said still to
// whoever has seen something: it expects that a write to what had expired for its host finds nothing, that a write to a
// part says the time again, and that hosts remove what has expired and nothing else. Readers for whom time stands still
// see what was not removed.

// drawExpiry returns a mutation of when a key expires.
func (m *mix) drawExpiry() mutation {
	rng := m.timed
	key := m.keys[rng.IntN(len(m.keys))]
	at := dotted.KeyAddress(key)
	after := time.Duration(1+rng.IntN(4000)) * time.Millisecond
	if m.fields && rng.IntN(2) == 0 {
		return m.drawFieldExpiry(after)
	}
	switch rng.IntN(5) {
	case 0:
		return mutation{what: fmt.Sprintf("persist %q", key), cell: at.Expiry(), until: dotted.Never,
			do: func(f crdt.Fields) error { return second(f.Expiry(key).Clear()) }}
	case 1:
		value := at.Type(crdt.TypeString)
		return mutation{what: fmt.Sprintf("set %q for %v", key, after), cell: value, text: "7", write: true, clears: value,
			whole: true, after: after,
			expire: func(f crdt.Fields, until time.Time) error { return f.String(key).SetUntil([]byte("7"), until) }}
	}
	return mutation{what: fmt.Sprintf("expire %q after %v", key, after), cell: at.Expiry(), after: after,
		expire: func(f crdt.Fields, until time.Time) error { return second(f.Expiry(key).Set(until)) }}
}

// drawFieldExpiry returns a mutation of when a field expires, or a write to one of the few of which that is said.
func (m *mix) drawFieldExpiry(after time.Duration) mutation {
	key := m.keys[m.timed.IntN(min(len(m.keys), 2))]
	field := []string{"0", "0", "1", "in", "set"}[m.timed.IntN(5)]
	at := dotted.KeyAddress(key).Type(crdt.TypeMap).Name(field)
	value := at.Type(crdt.TypeString)
	switch m.timed.IntN(8) {
	case 0:
		return mutation{what: fmt.Sprintf("persist field %q", at), cell: at.Expiry(), until: dotted.Never,
			do: func(f crdt.Fields) error { return second(f.Map(key).Expiry(field).Clear()) }}
	case 1:
		return mutation{what: fmt.Sprintf("set field %q for %v", at, after), cell: value, text: "7", write: true, clears: value,
			whole: true, after: after, expire: func(f crdt.Fields, until time.Time) error {
				return f.Map(key).String(field).SetUntil([]byte("7"), until)
			}}
	case 2:
		return mutation{what: fmt.Sprintf("set field %q", at), cell: value, text: "12", write: true, clears: value, whole: true,
			do: func(f crdt.Fields) error { return f.Map(key).String(field).Set([]byte("12")) }}
	case 3, 4:
		return mutation{what: fmt.Sprintf("add to field %q 1", at), cell: value, adds: 1, count: true,
			do: func(f crdt.Fields) error { return second(f.Map(key).Counter(field).Add(1)) }}
	}
	return mutation{what: fmt.Sprintf("expire field %q after %v", at, after), cell: at.Expiry(), after: after,
		expire: func(f crdt.Fields, until time.Time) error { return second(f.Map(key).Expiry(field).Set(until)) }}
}

// says reports whether an effect says when its key or field expires and does nothing else.
func (e *effect) says() bool { return e.cell.IsExpiry() }

// liveTo reports whether a transaction, with what it did so far, has seen an effect and not that it was removed.
func (t *transaction) liveTo(e *effect) bool {
	gone := func(x *transaction) bool { return x == t || has(t.saw, x) }
	return (e.of == t || has(t.saw, e.of)) && !slices.ContainsFunc(e.removers, gone)
}

// under returns those of a key's cells that are under a name, which is the key's or a field's.
func (h *history) under(name dotted.Address) []*cell {
	cells := h.byKey[name.Key()]
	if name == name.KeyAddress() {
		return cells
	}
	from := find(cells, name)
	to := from
	for to < len(cells) && strings.HasPrefix(string(cells[to].at), string(name)) {
		to++
	}
	return cells[from:to]
}

// exists reports whether a transaction finds something under a name.
func (h *history) exists(name dotted.Address, t *transaction) bool {
	return slices.ContainsFunc(h.under(name), func(c *cell) bool { return slices.ContainsFunc(c.effects, t.liveTo) })
}

// shows reports whether a transaction finds something under a name that is in no field that has expired.
func (h *history) shows(name dotted.Address, t *transaction) bool {
	return slices.ContainsFunc(h.under(name), func(c *cell) bool {
		return !h.past(c.at.Names(2), t.now, t.liveTo) && slices.ContainsFunc(c.effects, t.liveTo)
	})
}

// expires returns when a name does, by what was said and is live.
func (h *history) expires(name dotted.Address, live func(*effect) bool) (until int64, ok bool) {
	for _, e := range h.said[name] {
		if live(e) {
			until, ok = max(until, e.until), true
		}
	}
	return until, ok
}

// past reports whether a name has expired by a time.
func (h *history) past(name dotted.Address, now int64, live func(*effect) bool) bool {
	until, timed := h.expires(name, live)
	return timed && until <= now
}

// fieldsTimed reports whether a transaction sees that it was said of any field of a key when it expires.
func (h *history) fieldsTimed(key string, t *transaction) bool {
	return slices.ContainsFunc(h.fields[key], func(f dotted.Address) bool { return slices.ContainsFunc(h.said[f], t.liveTo) })
}

// unsay has a transaction remove all that it sees of what was said of a name.
func (h *history) unsay(name dotted.Address, t *transaction) {
	for _, e := range h.said[name] {
		if t.liveTo(e) {
			e.removers = append(e.removers, t)
		}
	}
}

// end notes that a transaction removed a name with a time that had not come. If it writes there again that does not
// expire, whoever else says the time again. A map stands for all its fields, and an empty name for all there are.
func (t *transaction) end(name dotted.Address) {
	if t.ended == nil {
		t.ended = map[dotted.Address]bool{}
	}
	t.ended[name] = true
}

func (t *transaction) hasEnded(name dotted.Address) bool {
	key := name.KeyAddress()
	return t.ended[""] || t.ended[name] || name != key && t.ended[key.Type(crdt.TypeMap)]
}

// lose has a transaction remove what it sees was said of a name of which nothing is left.
func (h *history) lose(name dotted.Address, t *transaction) {
	if until, timed := h.expires(name, t.liveTo); timed && until > t.now {
		t.end(name)
	}
	h.unsay(name, t)
}

// say has an effect's transaction say when a name expires, in place of what it sees was said.
func (h *history) say(name dotted.Address, e *effect, until int64) {
	h.unsay(name, e.of)
	m := *e.mutation
	m.until = until
	if _, known := h.said[name]; !known && name != name.KeyAddress() {
		h.fields[name.Key()] = append(h.fields[name.Key()], name)
	}
	h.said[name] = append(h.said[name], &effect{mutation: &m, of: e.of, n: e.n})
}

// renew has an effect that changes a part of what is under a name say again when that expires.
func (h *history) renew(name dotted.Address, e *effect) {
	until, timed := h.expires(name, e.of.liveTo)
	switch {
	case timed && until != dotted.Never:
		h.say(name, e, until)
	case !timed && e.of.hasEnded(name):
		h.say(name, e, dotted.Never)
	}
}

// renewWhole has an effect that replaces what is under a name say that it does not expire, if another says it.
func (h *history) renewWhole(name dotted.Address, e *effect) {
	until, timed := h.expires(name, e.of.liveTo)
	switch {
	case e.until > 0:
		h.say(name, e, e.until)
	case timed && until != dotted.Never, !timed && e.of.hasEnded(name):
		h.say(name, e, dotted.Never)
	}
}

// purge has a transaction remove all that it sees under a name.
func (h *history) purge(name dotted.Address, t *transaction) {
	for _, c := range h.under(name) {
		for _, e := range c.effects {
			if t.liveTo(e) {
				e.removers = append(e.removers, t)
			}
		}
	}
	h.unsay(name, t)
	if key := name.KeyAddress(); name != key {
		h.emptied(key, t)
		return
	}
	for _, field := range h.fields[name.Key()] {
		h.unsay(field, t)
	}
}

// emptied has a transaction remove what was said of a name if nothing else is left of it.
func (h *history) emptied(name dotted.Address, t *transaction) {
	if len(h.said[name]) > 0 && !h.exists(name, t) {
		h.lose(name, t)
	}
}

// begin has a transaction that writes under a name begin anew there, if it has expired, or if the
// name is a key of which nothing is left but fields that have.
func (h *history) begin(name dotted.Address, t *transaction) {
	if h.past(name, t.now, t.liveTo) {
		h.purge(name, t)
	}
	if _, timed := h.expires(name, t.liveTo); timed && name == name.KeyAddress() && !h.shows(name, t) {
		h.lose(name, t)
		h.purge(name, t)
	}
	h.emptied(name, t)
}

// effect notes what a mutation does to a key, and returns the key's cells.
func (h *history) effect(e *effect, key string, cells []*cell) []*cell {
	name, field := dotted.KeyAddress(key), cmp.Or(e.cell, e.clears).Names(2)
	switch {
	case e.grouped != nil:
		return e.grouping(key, cells)
	case e.purges:
		h.purge(e.clears, e.of)
		return cells
	case e.says():
		h.saying(e, name, cmp.Or(field, name))
		return cells
	case e.cell == "":
		h.removal(e, name, field)
		return cells
	}
	h.begin(name, e.of)
	if field != "" {
		h.begin(field, e.of)
	}
	e.gather(cells)
	if e.clears != "" {
		e.remove(cells)
	}
	cells = e.put(cells)
	switch {
	case field == "" && e.whole:
		h.renewWhole(name, e)
	case field == "":
		h.renew(name, e)
	case e.whole:
		h.renew(name, e)
		h.renewWhole(field, e)
	default:
		h.renew(name, e)
		h.renew(field, e)
	}
	return cells
}

// saying notes that it is said when a key or a field of it expires.
func (h *history) saying(e *effect, key, name dotted.Address) {
	t := e.of
	until, timed := h.expires(name, t.liveTo)
	if h.past(key, t.now, t.liveTo) || h.past(name, t.now, t.liveTo) || !h.shows(name, t) ||
		e.until == dotted.Never && (!timed || until == dotted.Never) {
		return
	}
	if name != key {
		h.renew(key, e)
	}
	h.say(name, e, e.until)
}

// removal notes that something is removed which its transaction sees. What has expired is not there to be removed; but
// where fields expire, a clear takes along what it does not find, and ends all fields.
func (h *history) removal(e *effect, key, field dotted.Address) {
	t := e.of
	cells := h.byKey[key.Key()]
	if rest := e.clears[len(key):]; len(rest) <= 1 && !slices.Contains([]dotted.Address{"v", "f"}, rest) && h.fieldsTimed(key.Key(), t) {
		of := key.Type(crdt.TypeMap)
		if strings.HasPrefix(string(of), string(e.clears)) && !h.past(key, t.now, t.liveTo) {
			t.end(of)
		}
		e.remove(cells)
		for _, f := range h.fields[key.Key()] {
			if strings.HasPrefix(string(f), string(e.clears)) {
				h.unsay(f, t)
			}
		}
		h.emptied(key, t)
		return
	}
	if h.past(key, t.now, t.liveTo) || h.past(field, t.now, t.liveTo) {
		return
	}
	for _, name := range []dotted.Address{field, key} {
		if existed := len(h.said[name]) > 0 && h.exists(name, t); existed {
			defer h.emptied(name, t)
		}
	}
	e.remove(cells)
}

// expired notes that the host removed keys and fields that had expired.
func (h *host) expired(names []dotted.Address, first crdt.Dot, last uint64) {
	seen, _ := h.engine.Context()
	seen = seen.Clone()
	hist := h.w.hist
	hist.index(first.Replica)
	if seen[first.Replica] = first.Counter - 1; first.Counter == 1 {
		delete(seen, first.Replica)
	}
	t := &transaction{host: h, first: first, last: last, saw: hist.dense(seen), now: h.time().UnixMilli(), disk: h.disk}
	for _, name := range names {
		if !hist.past(name, t.now, t.liveTo) && !h.w.blind {
			until, ok := hist.expires(name, t.liveTo)
			h.w.fail("%s removes %q at %d, which expires at %d (%v)", h.name, name, t.now, until, ok)
		}
		t.muts = append(t.muts, mutation{what: fmt.Sprintf("remove %q, expired", name), clears: name, purges: true})
	}
	hist.add(t)
	h.w.totals.Expired += len(names)
	h.say("removes %q, which have expired: transaction %d %v", names, t.id, first)
}

// checkHidden compares what is read with time going on with what has not expired.
func (h *host) checkHidden(seen []uint64) {
	if h.w.plan.mix.timed == nil {
		return
	}
	now := h.time()
	v := h.engine.View().At(h.wall(), h.judged)
	defer v.Close()
	hist := h.w.hist
	live := func(e *effect) bool { return has(seen, e.of) && !e.removedBy(seen) }
	shown := 0
	for _, key := range hist.keys {
		past := func(name dotted.Address) bool { return name != "" && hist.past(name, now.UnixMilli(), live) }
		if !past(dotted.KeyAddress(key)) {
			if h.compareBut(v, key, seen, func(at dotted.Address) bool { return past(at.Names(2)) }) > 0 {
				shown++
			}
		} else if types := engine.Fields(v).Types(key); types != 0 && !h.tolerates(engine.Fields(v).Err()) {
			h.w.fail("%s shows %q, which has expired, at %d", h.name, key, now.UnixMilli())
		}
	}
	h.checkDue(v, shown)
}

// checkDue compares how many keys a view has without those that it says may have expired and does not
// show with how many there are.
func (h *host) checkDue(v *engine.View, shown int) {
	hidden, times := 0, 0
	var unread error
	err := v.Due(func(key string, whole bool) bool {
		f := engine.Fields(v)
		s, err := v.Summary(key)
		if s.Exists() && (whole || !f.Has(key)) {
			hidden++
		}
		unread = cmp.Or(unread, err, f.Err())
		return true
	})
	failed := v.Keys("", "", func(key string, s dotted.Summary) bool {
		c, err := v.Cell(dotted.KeyAddress(key).Expiry())
		if at, _, ok := c.Expires(); ok && at != dotted.Never {
			times++
		}
		unread = cmp.Or(unread, err)
		return true
	})
	n, ending, uncounted := v.KeyCount()
	if h.tolerates(cmp.Or(err, failed, unread, uncounted)) {
		return
	}
	if n-hidden != shown || ending != times {
		h.w.fail("%s counts %d keys, of which %d have expired and %d have times; want %d that have not, and %d", h.name, n, hidden,
			ending, shown, times)
	}
}

// expireAll lets the time come of all that expires, and checks that nothing is left of it.
func (w *world) expireAll() {
	if w.plan.mix.timed == nil || w.plan.forks || w.rotten {
		return
	}
	w.pass(expiresWithin)
	w.expired = true
	w.agree()
	for _, r := range w.realms {
		if len(r.members()) == 0 || r.blind {
			continue
		}
		h := r.members()[0]
		seen := r.hist.dense(h.held)
		live := func(e *effect) bool { return has(seen, e.of) && !e.removedBy(seen) }
		due := h.time().Add(-engine.OthersWait).UnixMilli() // on a clock that was put back, not all is
		for _, key := range r.hist.keys {
			for _, name := range append([]dotted.Address{dotted.KeyAddress(key)}, r.hist.fields[key]...) {
				if r.hist.past(name, due, live) {
					w.fail("%q had expired by %d and was not removed", name, due)
				}
			}
		}
	}
}

// expiresWithin is how long after the last write what expires is removed: that, and the latest time that is said.
const expiresWithin = engine.OthersWait + 10*time.Second

// drawTimed draws whether keys expire, and whether fields do, each apart.
func (p *plan) drawTimed(rng, fields *rand.Rand) {
	if rng.IntN(5) == 0 && !p.forks {
		p.mix.timed, p.mix.fields, p.emptied = rng, fields.IntN(2) == 0, false
	}
}
