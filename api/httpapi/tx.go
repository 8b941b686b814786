package httpapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/peerd/peerd/peer"
)

// transaction is the body of POST /v1/tx.
type transaction struct {
	Ops []operation `json:"ops"`
}

// changes is what a request changed.
type changes struct {
	// Results has one result for each operation of a transaction, in their order.
	Results []result `json:"results,omitempty"`
	// Changed is the keys that were written to, in order.
	Changed []octets   `json:"changed"`
	Token   peer.Token `json:"token"`
}

// workTimeout is how long a transaction, or a read, may wait for its turn: less than the 10 s for which
// clients usually wait.
const workTimeout = 8 * time.Second

// runTransaction does a list of operations as one transaction: all of them, or none.
func (s *Server) runTransaction(w http.ResponseWriter, r *http.Request) error {
	q := dataQueryOf(r)
	var t transaction
	if err := decodeBody(w, r, &t); err != nil {
		return err
	}
	if n := len(t.Ops); n == 0 || n > MaxOperations {
		return badRequest(fmt.Sprintf("ops: %d operations; send from 1 to %d (MaxOperations)", n,
			MaxOperations))
	}
	named, prefixes := 0, 0
	for i := range t.Ops {
		o := &t.Ops[i]
		if err := o.check(); err != nil {
			return fmt.Errorf("ops[%d]: %w", i, err)
		}
		named += len(o.Elements) + len(o.Scores) + len(o.Bits)
		if o.Prefix != nil {
			prefixes++
		}
	}
	if err := checkNamed(named, "elements, scores and bits"); err != nil {
		return err
	}
	if prefixes > MaxPrefixes {
		return refuse(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf(
			"transaction too large: %d deletes by prefix (limit %d, MaxPrefixes); send them in parts", prefixes, MaxPrefixes))
	}
	c, err := s.change(w, r, q, t.run)
	for t.canBeLess(err) {
		c, err = s.change(w, r, q, t.run)
	}
	return c.answer(w, r, err)
}

// checkNamed returns a problem if a body names more than a transaction may write, even if nothing
// of it would be: while it is gone through others who write wait.
func checkNamed(n int, what string) error {
	if n <= peer.MaxOps {
		return nil
	}
	return refuse(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf(
		"transaction too large: %d %s (limit %d, MaxOps); send them in parts", n, what, peer.MaxOps))
}

// canBeLess reports whether a transaction is to be run again after an error: a step of a delete
// by prefix that was too large, as keys with counters cost more than one mutation each, with half
// as many keys.
func (t *transaction) canBeLess(err error) bool {
	o := &t.Ops[0]
	if len(t.Ops) > 1 || o.looked < 2 || !errors.Is(err, peer.ErrTooLarge) {
		return false
	}
	o.most = o.looked / 2
	return true
}

func (t *transaction) run(tx *peer.Tx) (changes, error) {
	var c changes
	changed := map[octets]bool{}
	for i := range t.Ops {
		o := &t.Ops[i]
		done, keys, err := o.do(tx)
		if err != nil {
			return c, fmt.Errorf("nothing was done, because of ops[%d], %s: %w", i, o.Op, err)
		}
		c.Results = append(c.Results, done)
		for _, key := range keys {
			if done.Changed {
				changed[octets(key)] = true
			}
		}
	}
	c.Changed = slices.Sorted(maps.Keys(changed))
	return c, nil
}

// change runs fn as a transaction, once the peer has seen the token of the request, and returns
// what it changed. fn may be run on another goroutine, but not after change returned.
func (s *Server) change(w http.ResponseWriter, r *http.Request, q *query,
	fn func(*peer.Tx) (changes, error)) (c changes, err error) {
	data, err := s.await(w, r, q)
	if err != nil {
		return c, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), workTimeout)
	defer cancel()
	token, err := data.UpdateToken(ctx, func(tx *peer.Tx) (err error) {
		c, err = fn(tx)
		return err
	})
	c.Token = token
	return c, orNoToken(err)
}

// answer answers with what was changed, unless there is an error.
func (c *changes) answer(w http.ResponseWriter, r *http.Request, err error) error {
	if err != nil {
		return err
	}
	if c.Changed == nil {
		c.Changed = []octets{}
	}
	w.Header().Set(tokenHeader, string(c.Token))
	answerData(w, r, *c, c.size())
	return nil
}

// size returns how many bytes of names, and about how many beside them, are in what was changed.
func (c *changes) size() int {
	n := len(c.Results) * resultSize
	for _, key := range c.Changed {
		n += len(key) + memberSize
	}
	for i := range c.Results {
		for _, s := range c.Results[i].Scores {
			n += len(*s.Element) + objectSize
		}
	}
	return n
}
