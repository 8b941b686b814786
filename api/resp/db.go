package resp

import (
	"context"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// DB is the database behind a server. Its methods are called by many goroutines at once.
type DB interface {
	// View runs fn on a snapshot and returns fn's error or its own. fn has ended when View
	// returns.
	View(ctx context.Context, fn func(Tx) error) error
	// Update runs the functions one after the other in order, each at most once and as a
	// transaction of its own, and commits them as one group. It returns when they are as durable
	// as configured, and none of them will run any more. The errors are one for each function, its
	// own or the database's, or nil if there is none at all. A function with an error changed
	// nothing.
	Update(ctx context.Context, fns []func(Tx) error) []error
	// Watch begins to tell which keys change. It does not wait.
	Watch() Watch
}

// Watch tells which keys change. It must be closed. *peer.Watch is one.
type Watch interface {
	// Next waits for a change. After Close it returns an error.
	Next(ctx context.Context) (embedded.Change, error)
	Close()
}

// Tx is a transaction on all keys. It is used by one goroutine, until the function it was given to
// returns.
type Tx interface {
	crdt.Tx
	// Keys calls fn with each key that exists, begins with prefix and comes after the given one, until
	// fn returns false: in one order that never changes, which for all but very long names is that of
	// their bytes. An empty after bounds nothing; another begins with prefix, and may be gone by now.
	// fn must not write.
	Keys(prefix, after string, fn func(key string, s crdt.Summary) bool) error
	// KeyCount returns the number of keys that exist.
	KeyCount() (int, error)
}
