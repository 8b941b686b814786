package members

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerd/peerd/internal/wire"
)

// That gossip has a member at two addresses proves nothing: it tells for a while where a host was
// before it was restarted. So both addresses are asked at one moment who is there. Each start of a
// host draws a number, and two that differ, of one id, are two hosts that run with one key. One
// host that is reached at two addresses has one number.

const (
	askEvery     = 5 * time.Second // after a member was asked for, until it is again
	answerWithin = 2 * time.Second // of the question; later ones do not count as of the same moment
	maxAsked     = 16              // members that are asked for at once, and messages that wait
)

// conflict is a member that is said to be at two addresses.
type conflict struct{ id, addr, other string }

// inquiry is a message about who has an id: a question, or the answer of who has it.
type inquiry struct {
	number uint64 // drawn for the question; the answer has the same
	id     string
	addr   string // of a question: where the answer goes
	start  uint64 // of an answer: its sender's
}

func (q inquiry) encode() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(4)
		w.Uint(q.number)
		w.String(q.id)
		w.String(q.addr)
		w.Uint(q.start)
	})
}

func decodeInquiry(data []byte) (q inquiry, err error) {
	err = wire.Decode(data, func(r *wire.Reader) {
		extra := r.Fields(4)
		q.number, q.id, q.addr, q.start = r.Uint(), r.String(MaxID), r.String(MaxID), r.Uint()
		r.Skip(extra)
	})
	return q, err
}

// asked is a question that is open.
type asked struct {
	conflict
	began  time.Time
	number uint64
	start  uint64 // of the first that answered; 0 if none has
}

// inquire settles conflicts, and answers others that do, until ctx is done.
func (m *Members) inquire(ctx context.Context) {
	start := rand.Uint64() | 1
	open := map[string]*asked{} // by id
	for {
		select {
		case c := <-m.conflicts:
			m.ask(open, c, start, time.Now())
		case data := <-m.inquiries:
			q, err := decodeInquiry(data)
			switch {
			case err != nil:
			case q.addr == "":
				m.hear(open[q.id], q, time.Now())
			case q.id == m.cfg.ID:
				m.send(q.addr, inquiry{number: q.number, id: q.id, start: start})
			}
		case <-ctx.Done():
			return
		}
	}
}

// ask asks at both addresses of a conflict who is there. This host knows of itself.
func (m *Members) ask(open map[string]*asked, c conflict, start uint64, now time.Time) {
	for id, a := range open {
		if now.Sub(a.began) > askEvery {
			delete(open, id)
		}
	}
	if open[c.id] != nil || len(open) >= maxAsked {
		return
	}
	a := &asked{conflict: c, began: now, number: rand.Uint64()}
	open[c.id] = a
	question := inquiry{number: a.number, id: c.id, addr: m.Addr()}
	if c.id == m.cfg.ID {
		a.start = start
	} else {
		m.send(c.addr, question)
	}
	m.send(c.other, question)
}

// hear takes an answer.
func (m *Members) hear(a *asked, q inquiry, now time.Time) {
	switch {
	case a == nil || a.number != q.number || now.Sub(a.began) > answerWithin || q.start == 0:
	case a.start == 0:
		a.start = q.start
	case a.start != q.start:
		m.journal.seen.note(Sighting{Kind: SameID, Addr: a.other, ID: a.id})
	}
}

func (m *Members) send(addr string, q inquiry) {
	if err := m.current().SendToAddress(memberlist.Address{Addr: addr}, q.encode()); err != nil {
		m.journal.debug("cannot ask who has an id, or answer that", "addr", addr, "error", err)
	}
}
