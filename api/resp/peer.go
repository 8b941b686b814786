package resp

import (
	"context"
	"sync"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// ForPeer returns a peer as the database of a server. It adds no allocation to what the peer does
// itself: what it hands to the peer is made once and used again.
func ForPeer(p *embedded.Peer) DB { return peerDB{p} }

type peerDB struct{ peer *embedded.Peer }

// View implements DB.
func (db peerDB) View(ctx context.Context, fn func(Tx) error) error {
	c := peerCalls.Get().(*peerCall)
	defer c.release()
	c.fn = fn
	return db.peer.View(ctx, c.view)
}

// Update implements DB. The peer runs none of the functions once it has returned, so that the
// call may be used again.
func (db peerDB) Update(ctx context.Context, fns []func(Tx) error) []error {
	c := peerCalls.Get().(*peerCall)
	defer c.release()
	c.fns = fns
	return db.peer.UpdateAll(ctx, c.functions(len(fns)))
}

// Watch implements DB.
func (db peerDB) Watch() Watch { return db.peer.Watch("") }

// peerCall is one call of a peer: the functions of ours that it is to run, as functions of its own.
// They run one after the other, so that one transaction serves them all.
type peerCall struct {
	fn      func(Tx) error
	fns     []func(Tx) error
	view    func(*embedded.Tx) error   // runs fn
	updates []func(*embedded.Tx) error // updates[i] runs fns[i]
	tx      peerTx
}

var peerCalls = sync.Pool{New: func() any {
	c := &peerCall{}
	c.view = func(tx *embedded.Tx) error { return c.fn(c.on(tx)) }
	return c
}}

func (c *peerCall) functions(n int) []func(*embedded.Tx) error {
	for i := len(c.updates); i < n; i++ {
		c.updates = append(c.updates, func(tx *embedded.Tx) error { return c.fns[i](c.on(tx)) })
	}
	return c.updates[:n]
}

func (c *peerCall) on(tx *embedded.Tx) Tx {
	c.tx = peerTx{tx.Base(), tx}
	return &c.tx
}

func (c *peerCall) release() {
	c.fn, c.fns, c.tx = nil, nil, peerTx{}
	peerCalls.Put(c)
}

// peerTx is a peer's transaction: its cells, and of its own methods those that list keys.
type peerTx struct {
	crdt.Tx
	keys *embedded.Tx
}

func (t *peerTx) Keys(prefix, after string, fn func(key string, s crdt.Summary) bool) error {
	return t.keys.Keys(prefix, after, fn)
}

func (t *peerTx) KeyCount() (int, error) { return t.keys.KeyCount() }
