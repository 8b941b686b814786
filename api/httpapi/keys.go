package httpapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/peer"
)

// entry is what is stored under a key, or under a path in it.
type entry struct {
	// Key and Path, of fields in it, may be left out of a body, and say the same as its URL.
	Key  *octets  `json:"key"`
	Path []octets `json:"path,omitempty"`
	value
	// Also is what is there of other types, which peers stored at the same time. Only with
	// conflicts.
	Also []value `json:"also,omitempty"`
	// Expires is when the key does; not there if it does not, and of fields.
	Expires *time.Time `json:"expires,omitempty"`
	// Cursor is there if there are more elements or fields: the next request brings it.
	Cursor string     `json:"cursor,omitempty"`
	Token  peer.Token `json:"token"`
}

// getKey answers what is stored under a key.
func (s *Server) getKey(w http.ResponseWriter, r *http.Request) error {
	q := dataQueryOf(r, "path", "conflicts", "limit", "cursor")
	path, after, limit := q.path(r), q.cursor(), q.limit()
	in := newReader(q.boolean("conflicts"), shareOf(r))
	data, err := s.await(w, r, q)
	if err != nil {
		return err
	}
	e := entry{Key: &path[0], Path: path[1:]}
	found := false
	token, err := s.view(r, data, func(tx *peer.Tx) (err error) {
		found, err = e.read(in, tx.Fields, path, after, limit)
		if len(path) == 1 {
			e.Expires = expiryOf(tx.Fields, string(path[0]))
		}
		return err
	})
	if err != nil {
		return err
	}
	e.Token = token
	w.Header().Set(tokenHeader, string(token))
	if !found {
		return refuse(http.StatusNotFound, "not-found", "nothing is stored there")
	}
	answerData(w, r, e, shareOf(r).taken())
	return nil
}

// read reads what is stored at the path. It returns false if that is nothing.
func (e *entry) read(in *reader, keys crdt.Fields, path []octets, after *string, limit int) (
	found bool, err error) {
	at, err := walk(keys, path)
	if err != nil {
		return false, err
	}
	types := at.in.Types(at.name)
	if types.First() == 0 {
		return false, nil
	}
	var next *string
	if e.value, next, err = in.page(at, types.First(), after, limit); err != nil {
		return false, err
	}
	e.Cursor = cursorAt(next)
	for _, t := range in.shown(types)[1:] {
		v, err := in.read(at, t)
		if err != nil {
			return false, err
		}
		e.Also = append(e.Also, v)
	}
	return true, nil
}

// view runs fn on a snapshot, once the peer lets one be taken. It returns the token of its moment.
func (s *Server) view(r *http.Request, data Data, fn func(*peer.Tx) error) (peer.Token, error) {
	ctx, cancel := context.WithTimeout(r.Context(), workTimeout)
	defer cancel()
	token, err := data.ViewToken(ctx, fn)
	return token, orNoToken(err)
}

// putKey makes a key, or a path in it, hold what the body says and nothing else that is seen there.
func (s *Server) putKey(w http.ResponseWriter, r *http.Request) error {
	q := dataQueryOf(r, "path")
	path := q.path(r)
	var e entry
	if err := decodeBody(w, r, &e); err != nil {
		return err
	}
	if len(e.Also) > 0 || e.Cursor != "" {
		return badRequest("also and cursor: this is a part of a value; send a whole one, of one type")
	}
	if e.Key != nil && *e.Key != path[0] || e.Path != nil && !slices.Equal(e.Path, path[1:]) {
		return badRequest("key and path: the body names another place than the URL; " +
			"leave them out, or send it to the place that it names")
	}
	if e.Expires != nil && len(path) > 1 {
		return badRequest("expires: a PUT of a field takes none: use the operation expire")
	}
	if err := e.check(len(path)); err != nil {
		return err
	}
	if err := checkNamed(e.members(), "elements, items, entries and fields"); err != nil {
		return err
	}
	c, err := s.change(w, r, q, func(tx *peer.Tx) (changes, error) {
		at, err := walk(tx.Fields, path)
		if err != nil {
			return changes{}, err
		}
		err = keepExpiries(tx.Fields, path, func() error { return e.put(at) })
		if err == nil && len(path) == 1 {
			err = setExpiry(tx.Fields, string(path[0]), e.Expires)
		}
		return changes{Changed: []octets{path[0]}}, err
	})
	return c.answer(w, r, err)
}

// deleteKey deletes a key, or a path in it.
func (s *Server) deleteKey(w http.ResponseWriter, r *http.Request) error {
	q := dataQueryOf(r, "path")
	path := q.path(r)
	c, err := s.change(w, r, q, func(tx *peer.Tx) (c changes, err error) {
		at, err := walk(tx.Fields, path)
		if err != nil {
			return c, err
		}
		existed, err := at.in.Remove(at.name)
		if existed {
			c.Changed = []octets{path[0]}
		}
		return c, err
	})
	return c.answer(w, r, err)
}

// listing is some of the keys.
type listing struct {
	Keys   []listed   `json:"keys"`
	Cursor string     `json:"cursor,omitempty"`
	Token  peer.Token `json:"token"`
}

type listed struct {
	Key     octets     `json:"key"`
	Types   []string   `json:"types"`
	Expires *time.Time `json:"expires,omitempty"`
}

// listKeys answers some keys that begin with a prefix, in order.
func (s *Server) listKeys(w http.ResponseWriter, r *http.Request) error {
	q := dataQueryOf(r, "prefix", "limit", "cursor")
	after, limit, prefix := q.cursor(), q.limit(), q.values.Get("prefix")
	data, err := s.await(w, r, q)
	if err != nil {
		return err
	}
	var l listing
	token, err := s.view(r, data, func(tx *peer.Tx) error {
		return l.read(shareOf(r), tx, prefix, after, limit)
	})
	if err != nil {
		return err
	}
	l.Token = token
	w.Header().Set(tokenHeader, string(token))
	answerData(w, r, l, shareOf(r).taken())
	return nil
}

func (l *listing) read(
	share *share, tx *peer.Tx, prefix string, after *string, limit int,
) error {
	from, size := "", 0
	if after != nil {
		from = *after
	}
	l.Keys = []listed{}
	for key, types := range tx.Keys(prefix, from) {
		// No list can go on after the empty key, so it is never the last of a page.
		if n := len(l.Keys); n > 0 && l.Keys[n-1].Key != "" && (n >= limit || size > MaxAnswer) {
			last := string(l.Keys[n-1].Key)
			l.Cursor = cursorAt(&last)
			break
		}
		size += len(key)
		if busy := share.take(len(key)); busy != nil {
			return busy
		}
		one := listed{Key: octets(key), Expires: expiryOf(tx.Fields, key)}
		for t := range types.All() {
			one.Types = append(one.Types, t.String())
		}
		l.Keys = append(l.Keys, one)
	}
	return nil
}
