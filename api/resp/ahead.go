package resp

import (
	"errors"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

// Others who write wait for a transaction that writes. So what a command has to look for among many
// elements before it writes is looked for on a view, while its keys are guarded: it is executed
// there up to where it would write, and then in a transaction, where what was found holds if none
// of the keys has changed. If one has it begins again, and after mostLooks times it looks within
// the transaction. In MULTI and in scripts a command does so at once, as it must see what those
// before it wrote.

// mostLooks is how often a command looks on a view, before all others who write wait for it.
const mostLooks = 3

// errAhead is what a command returns that is to be executed on a view next, and errLooked what it
// returns there.
var (
	errAhead  = errors.New("to look on a view first")
	errLooked = errors.New("what was looked for is found")
)

// ahead is what a request of a batch looks for before its transaction.
type ahead struct {
	request int            // in batch.requests
	guard   embedded.Guard // of the keys where it looks
	looks   int            // this one included
	looking bool           // its next execution is on a view
	found   any            // there
	took    time.Duration  // until it is answered
}

// lookAhead returns what look finds in the keys that the arguments from first up to last name,
// where it looks at about so many elements. look must change nothing.
func lookAhead[T any](c *call, elements, first, last int, look func() (T, error)) (found T, err error) {
	a := c.ahead
	switch {
	case a != nil && a.looking:
		if found, err = look(); err == nil {
			a.found, err = found, errLooked
		}
		return found, err
	case a != nil && !a.guard.Changed(c.tx):
		return a.found.(T), nil
	case c.whole || c.inScript || elements <= quickElements || a != nil && a.looks == mostLooks:
		return look()
	case c.looped:
		return found, errApart
	}
	c.ahead = &ahead{looks: 1}
	if a != nil {
		a.guard.Release()
		c.ahead.looks, c.ahead.took = a.looks+1, a.took
	}
	for i := first; i < last; i++ {
		c.tx.Guard(&c.ahead.guard, c.arg(i))
	}
	return found, errAhead
}

// isAgain reports whether an error says that the command is to be executed again, otherwise.
func isAgain(err error) bool {
	return err == errApart || err == errLong || err == errAhead || err == errLooked
}

// aheadOf returns what a request has looked for; nil if it has not.
func (b *batch) aheadOf(request int) *ahead {
	if b.ahead == nil || b.ahead.request != request {
		return nil
	}
	return b.ahead
}

// again has a request be executed as it asks for with an error for which isAgain holds.
func (b *batch) again(request int, err error) {
	r := &b.requests[request]
	b.out.buf = b.out.buf[:r.at]
	r.apart, r.long, b.halted = true, err == errLong, true
	if err == errAhead {
		if b.ahead != nil {
			b.ahead.guard.Release() // of a request before, which has used what it found, or of this one
		}
		b.ahead, b.call.ahead.request = b.call.ahead, request
	}
	if a := b.aheadOf(request); a != nil {
		a.looking = err == errAhead
	}
}

// endAhead takes note of how long the requests of a cut took. If what one of them looked for is
// used, or wanted no more, that is forgotten. It returns how long the request took, all in all.
func (b *batch) endAhead(took time.Duration) time.Duration {
	a := b.ahead
	if a == nil {
		return took
	}
	a.took += took
	if b.next <= a.request {
		return took
	}
	b.dropAhead()
	return a.took
}

func (b *batch) dropAhead() {
	if b.ahead != nil {
		b.ahead.guard.Release()
	}
	b.ahead, b.call.ahead = nil, nil
}
