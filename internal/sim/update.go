package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// update is a transaction that a client asks for.
type update struct {
	h    *host
	muts []mutation
	t    *transaction
	done bool // it was accepted
}

// ask asks the host for a transaction, if it is there to be asked.
func (h *host) ask(muts []mutation) {
	if h.up() && !h.leaving && h.asked < maxAsked {
		h.submit(muts)
		h.wake()
	}
}

func (h *host) submit(muts []mutation) *update {
	u := &update{h: h, muts: muts}
	h.asked++
	h.engine.Submit(u)
	return u
}

// Begin implements engine.Update.
func (u *update) Begin() bool { return true }

// Len implements engine.Update.
func (u *update) Len() int { return 1 }

// Run implements engine.Update.
func (u *update) Run(_ int, tx *engine.Tx) error {
	h := u.h
	u.t = &transaction{host: h}
	muts := u.muts
	if h.w.plan.forks {
		muts = append(muts, h.w.mark(u.t)...)
	}
	giveUp := !h.w.calm && h.w.chance(12)
	seen, _ := h.engine.Context()
	u.t.saw = h.w.hist.dense(seen)
	u.t.first = crdt.Dot{Replica: tx.Replica(), Counter: seen[tx.Replica()] + 1}
	u.t.time, u.t.now = tx.Time(), tx.Now().UnixMilli()
	if now := h.time().UnixMilli(); u.t.now != now {
		h.w.fail("%s has keys expire by %d, which it takes for %d", h.name, u.t.now, now)
	}
	for _, m := range muts {
		if m.expire != nil {
			m.until = tx.Right().Add(m.after).UnixMilli()
			m.do = func(f crdt.Fields) error { return m.expire(f, time.UnixMilli(m.until)) }
		}
		m.timed = m.all && tx.Timed()
		before := tx.Touched(0, func(string) {})
		err := m.do(engine.Fields(tx))
		if m.grouped != nil {
			m.grouped.wrote = tx.Touched(before, func(string) {}) > before
		}
		if errors.Is(err, crdt.ErrNotInteger) || errors.Is(err, crdt.ErrOverflow) || errors.Is(err, errNothing) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
		u.t.muts = append(u.t.muts, m)
	}
	if giveUp {
		return errGaveUp
	}
	return nil
}

// Ran implements engine.Update.
func (u *update) Ran(_ int, err error) {
	h := u.h
	h.asked--
	switch {
	case err == nil:
	case errors.Is(err, errGaveUp), errors.Is(err, delta.ErrTooLarge), errors.Is(err, errRead),
		errors.Is(err, errScarce), errors.Is(err, engine.ErrRebuilding),
		errors.Is(err, store.ErrCorrupt) && h.scars().rotten:
		return // the client is told
	default:
		h.broken = err
		return
	}
	t := u.t
	seen, _ := h.engine.Context()
	if t.last = seen[t.first.Replica]; t.last < t.first.Counter {
		return // nothing was there to be changed
	}
	h.checkTime(t)
	t.disk = h.disk
	h.w.hist.add(t)
	u.done = true
	if h.w.trace != nil {
		for _, m := range t.muts {
			h.say("transaction %d %v: %s", t.id, t.first, m.what)
		}
	}
}

// answer tells the client that the transaction took effect.
func (u *update) answer() {
	if !u.done {
		return
	}
	u.t.acked = true
	u.h.w.totals.Operations++
	u.h.checkKey(u.t.muts[0])
	u.waits()
}
