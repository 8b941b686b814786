package resp

import (
	"context"
	"fmt"
	"slices"

	embedded "github.com/peerd/peerd/peer"
)

// watched is what WATCH has watched, of every database: what EXEC executes, it executes only if
// nothing of it has changed.
type watched struct {
	keys  map[int]*watchedKeys // by database; nil while nothing is
	count int                  // of keys
	bytes int                  // of them, each charged ArgumentCost besides

	guards *guardList // for others to look at
}

// guardList is guards that others may ask. It does not change.
type guardList []*embedded.Guard

// touched reports whether somebody has written to a key that is guarded.
func (l *guardList) touched() bool {
	return l != nil && slices.ContainsFunc(*l, func(g *embedded.Guard) bool { return g.Changed(nil) })
}

// watchedKeys are those of one database.
type watchedKeys struct {
	db    database
	guard *embedded.Guard
	names map[string]struct{}
}

// any reports whether there are keys.
func (g *watched) any() bool { return g.keys != nil }

// end ends it.
func (g *watched) end() {
	for _, of := range g.keys {
		of.guard.Release()
	}
	*g = watched{}
}

// in returns the keys of a database.
func (g *watched) in(n int, db database) *watchedKeys {
	if g.keys == nil {
		g.keys = map[int]*watchedKeys{}
	}
	if g.keys[n] == nil {
		g.keys[n] = &watchedKeys{db, new(embedded.Guard), map[string]struct{}{}}
		guards := guardList{g.keys[n].guard}
		if g.guards != nil {
			guards = append(guards, *g.guards...)
		}
		g.guards = &guards
	}
	return g.keys[n]
}

// runWatch has keys be guarded. It is a transaction that writes nothing: what comes after it is a
// change.
func runWatch(c *call) error {
	if c.session.pending.open {
		return replyError("ERR WATCH inside MULTI is not allowed")
	}
	db := c.session.db
	if db == nil {
		db = c.server.config.db
	}
	g := &c.session.watched
	if g.count+len(c.args)-1 > MaxWatched {
		return replyError(fmt.Sprintf("ERR more than %d watched keys of a client (MaxWatched)", MaxWatched))
	}
	of := g.in(c.session.index, db)
	for i := range c.args[1:] {
		key := c.arg(i + 1)
		if _, there := of.names[key]; there {
			continue
		}
		of.names[key] = struct{}{}
		g.count++
		g.bytes += len(key) + ArgumentCost
		c.tx.Guard(of.guard, key)
	}
	c.out.status("OK")
	return nil
}

func runUnwatch(c *call) error {
	if !c.whole { // EXEC ends it itself
		c.session.watched.end()
	}
	c.out.status("OK")
	return nil
}

// isStale reports whether something that is guarded has changed. That of the transaction's database
// is decided within it; others are looked at before it is committed. The error says why one cannot be.
func (c *call) isStale() (stale bool, err error) {
	for n, of := range c.session.watched.keys {
		if n == c.session.index {
			stale = of.guard.Changed(c.tx)
		} else {
			err = of.db.View(context.Background(), func(tx *embedded.Tx) error {
				stale = of.guard.Changed(tx)
				return nil
			})
		}
		if stale || err != nil {
			break
		}
	}
	return stale, err
}
