package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
)

// Keys expire in some worlds. The oracle knows who said when, what the sayer had seen, and so what is said still to
// whoever has seen something: it expects that a write to what had expired for its host finds nothing, that a write to a
// part says the time again, and that hosts remove what has expired and nothing else. Readers for whom time stands still
// see what was not removed.

// drawExpiry returns a mutation of when a key expires.
func (m *mix) drawExpiry() mutation {
	rng := m.timed
	key := m.keys[rng.IntN(len(m.keys))]
	at := dotted.KeyAddress(key)
	after := time.Duration(1+rng.IntN(4000)) * time.Millisecond
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

// says reports whether an effect says when its key expires and does nothing else.
func (e *effect) says() bool { return e.cell.IsExpiry() }

// liveTo reports whether a transaction, with what it did so far, has seen an effect and not that it was removed.
func (t *transaction) liveTo(e *effect) bool {
	gone := func(x *transaction) bool { return x == t || has(t.saw, x) }
	return (e.of == t || has(t.saw, e.of)) && !slices.ContainsFunc(e.removers, gone)
}

// lose notes that a transaction removed a key whose time had not come: if it writes to the key again that does not
// expire, whoever else says the time again.
func (t *transaction) lose(key string, timed bool, until int64) {
	if !timed || until == dotted.Never {
		return
	}
	if t.ended == nil {
		t.ended = map[string]bool{}
	}
	t.ended[key] = true
}

// exists reports whether a transaction finds something under a key.
func (h *history) exists(key string, t *transaction) bool {
	return slices.ContainsFunc(h.byKey[key], func(c *cell) bool { return slices.ContainsFunc(c.effects, t.liveTo) })
}

// expires returns when a key does, by what was said and is live.
func (h *history) expires(key string, live func(*effect) bool) (until int64, ok bool) {
	for _, e := range h.said[key] {
		if live(e) {
			until, ok = max(until, e.until), true
		}
	}
	return until, ok
}

// unsay has a transaction remove all that it sees of what was said of a key.
func (h *history) unsay(key string, t *transaction) {
	for _, e := range h.said[key] {
		if t.liveTo(e) {
			e.removers = append(e.removers, t)
		}
	}
}

// say has an effect's transaction say when a key expires, in place of what it sees was said.
func (h *history) say(key string, e *effect, until int64) {
	h.unsay(key, e.of)
	delete(e.of.ended, key)
	m := *e.mutation
	m.until = until
	h.said[key] = append(h.said[key], &effect{mutation: &m, of: e.of, n: e.n})
}

// purge has a transaction remove all that it sees of a key.
func (h *history) purge(key string, t *transaction) {
	for _, c := range h.byKey[key] {
		for _, e := range c.effects {
			if t.liveTo(e) {
				e.removers = append(e.removers, t)
			}
		}
	}
	h.unsay(key, t)
}

// effect notes what a mutation does to a key, and returns the key's cells.
func (h *history) effect(e *effect, key string, cells []*cell) []*cell {
	t := e.of
	until, timed := h.expires(key, t.liveTo)
	past := timed && until <= t.now
	switch {
	case e.purges:
		h.purge(key, t)
		return cells
	case e.says():
		if timed = timed && !past && until != dotted.Never; (timed || e.until != dotted.Never) && !past && h.exists(key, t) {
			h.say(key, e, e.until)
		}
		return cells
	case e.cell == "":
		if existed := h.exists(key, t); !past {
			e.remove(cells)
			if existed && !h.exists(key, t) {
				h.unsay(key, t)
				t.lose(key, timed, until)
			}
		}
		return cells
	case past:
		h.purge(key, t)
		timed = false
	case timed && !h.exists(key, t):
		h.unsay(key, t)
		t.lose(key, timed, until)
		timed = false
	}
	e.gather(cells)
	if e.clears != "" {
		e.remove(cells)
	}
	cells = e.put(cells)
	switch {
	case e.until > 0:
		h.say(key, e, e.until)
	case timed && until != dotted.Never && e.whole, !timed && t.ended[key]:
		h.say(key, e, dotted.Never)
	case timed && until != dotted.Never:
		h.say(key, e, until)
	}
	return cells
}

// expired notes that the host removed keys that had expired.
func (h *host) expired(keys []string, first crdt.Dot, last uint64) {
	seen, _ := h.engine.Context()
	seen = seen.Clone()
	hist := h.w.hist
	hist.index(first.Replica)
	if seen[first.Replica] = first.Counter - 1; first.Counter == 1 {
		delete(seen, first.Replica)
	}
	t := &transaction{host: h, first: first, last: last, saw: hist.dense(seen), now: h.wall().UnixMilli(), disk: h.disk}
	for _, key := range keys {
		if until, ok := hist.expires(key, t.liveTo); (!ok || until > t.now) && !h.w.blind {
			h.w.fail("%s removes %q at %d, which expires at %d (%v)", h.name, key, t.now, until, ok)
		}
		t.muts = append(t.muts, mutation{what: fmt.Sprintf("remove %q, expired", key), clears: dotted.KeyAddress(key), purges: true})
	}
	hist.add(t)
	h.w.totals.Expired += len(keys)
	h.say("removes %q, which have expired: transaction %d %v", keys, t.id, first)
}

// checkHidden compares what is read with time going on with what has not expired.
func (h *host) checkHidden(seen []uint64) {
	if h.w.plan.mix.timed == nil {
		return
	}
	now := h.wall()
	v := h.engine.View().At(now, engine.Clock{})
	defer v.Close()
	hist := h.w.hist
	live := func(e *effect) bool { return has(seen, e.of) && !e.removedBy(seen) }
	shown := 0
	for _, key := range hist.keys {
		until, timed := hist.expires(key, live)
		if !timed || until > now.UnixMilli() {
			if h.compare(v, key, seen) > 0 {
				shown++
			}
			continue
		}
		if types := engine.Fields(v).Types(key); types != 0 && !h.tolerates(engine.Fields(v).Err()) {
			h.w.fail("%s shows %q, which expired at %d, at %d", h.name, key, until, now.UnixMilli())
		}
	}
	h.checkDue(v, shown)
}

// checkDue compares how many keys a view has without those that it says may have expired and does not
// show with how many there are.
func (h *host) checkDue(v *engine.View, shown int) {
	hidden := 0
	err := v.Due(func(key string) bool {
		if s, err := v.Summary(key); err == nil && s.Exists() && !engine.Fields(v).Has(key) {
			hidden++
		}
		return true
	})
	if n, failed := v.KeyCount(); !h.tolerates(cmp.Or(err, failed)) && n-hidden != shown {
		h.w.fail("%s counts %d keys, of which %d have expired; want %d that have not", h.name, n, hidden, shown)
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
		for _, key := range r.hist.keys {
			if until, timed := r.hist.expires(key, live); timed && until <= h.wall().UnixMilli() {
				w.fail("%q expired at %d and was not removed by %d", key, until, h.wall().UnixMilli())
			}
		}
	}
}

// expiresWithin is how long after the last write what expires is removed: the longest that one waits for another, and
// the latest time that is said.
const expiresWithin = 45 * time.Second

// drawTimed draws whether keys expire, apart.
func (p *plan) drawTimed(rng *rand.Rand) {
	if rng.IntN(5) == 0 && !p.forks {
		p.mix.timed, p.emptied = rng, false
	}
}
