package peer

import "github.com/peerd/peerd/internal/engine"

// Guard notices whether keys change between two transactions of one peer, by whatever there is:
// writes here, what comes from other peers, expiring. With it a program reads in one transaction,
// takes its time, and writes in another only if what it has read still holds. It decides nothing
// across peers: two that are apart may both go on.
//
// A Guard is of the space whose transaction used it first, from before somebody writes to that
// until it is dropped, and of a peer while that is open. Its methods and Tx.Guard are for one
// goroutine at a time. The zero value guards nothing.
type Guard struct {
	guard engine.Guard
	here  []string // keys that existed
}

// Guard has g guard a key from now on. It is for transactions that may write, though this one need
// not: in View g has changed at once. A failed transaction leaves what it guards. It costs others
// who write a look at each key, while there are guards.
func (tx *Tx) Guard(g *Guard, key string) {
	writer, ok := tx.base.(*engine.Tx)
	if !ok {
		g.guard.Spoil()
		return
	}
	if writer.Guard(&g.guard, key) && tx.Has(key) {
		g.here = append(g.here, key)
	}
}

// Changed reports whether a key has changed since it is guarded, as a transaction sees it: if it
// may have been written to, with what it held or something else; if it does not exist any more, or
// all that is known is that a repair took place. To delete or to expire what did not exist is no
// change. In a transaction that writes it is exact. O(keys guarded). With nil it tells, to any
// goroutine, whether a key was written to, and nothing of what has expired.
func (g *Guard) Changed(tx *Tx) bool {
	if tx == nil {
		return g.guard.Changed()
	}
	if !tx.base.Guarded(&g.guard) || g.guard.Changed() {
		return true
	}
	for _, key := range g.here {
		if !tx.Has(key) {
			return true
		}
	}
	return false
}

// Release has g guard nothing more: it is not to be used again. Who forgets it has others pay for
// it until the peer is closed.
func (g *Guard) Release() { g.guard.Release() }
