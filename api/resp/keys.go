package resp

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

func runDel(c *call) error { return c.countEach(1, "keys", c.tx.Remove) }

func runExists(c *call) error {
	n := 0
	for i := 1; i < len(c.args); i++ {
		n += oneIf(c.tx.Has(c.arg(i)))
	}
	c.out.integer(int64(n))
	return nil
}

func runType(c *call) error {
	c.out.status(typeName(c.tx.Types(c.arg(1))))
	return nil
}

// typeName returns what TYPE says. Of several types that replicas gave a key at once it is always
// the same one: the first that holds the most.
func typeName(types crdt.Types) string {
	if t := types.First(); t != 0 {
		return t.Redis().Name
	}
	return "none"
}

// runDBSize counts the keys without those that have expired and are not removed yet. To find these
// may take long: nobody waits for it, unless it is within MULTI or a script.
func runDBSize(c *call) error {
	if err := c.afterExpired(int64(c.tx.ExpiredCost(0))); err != nil {
		return err
	}
	expired, _ := c.tx.Expired()
	c.out.integer(int64(c.tx.Len() - expired))
	return nil
}

// afterExpired returns an error for a command that is to look for what has expired, if that costs
// something and others would wait for it, or it has no place among the MaxScans that look at much.
func (c *call) afterExpired(cost int64) error {
	switch {
	case cost > 0 && c.whole && c.looped:
		return errApart
	case cost > 0 && !c.whole && !c.apart:
		return errLong
	}
	return nil
}

// workOfDBSize is what it costs to find what has expired.
func workOfDBSize(c *call, _ *command) int64 { return int64(c.tx.ExpiredCost(c.mostWork())) }

// runFlush removes everything at once for every reader. ASYNC and SYNC make no difference: the
// disk is swept later in either case.
func runFlush(c *call) error {
	if err := c.checkFlush(); err != nil {
		return err
	}
	if _, err := c.tx.Clear(); err != nil {
		return err
	}
	c.out.status("OK")
	return nil
}

func (c *call) checkFlush() error {
	if len(c.args) > 2 || len(c.args) == 2 && !c.is(1, "async") && !c.is(1, "sync") {
		return errSyntax
	}
	return nil
}

// runFlushAll is runFlush for each database that this host holds, in a transaction of its own.
// One that fails keeps it from none of the others.
func runFlushAll(c *call) error {
	if err := c.checkFlush(); err != nil {
		return err
	}
	if c.session.pending.open {
		return replyError("ERR FLUSHALL is not allowed in transactions: use FLUSHDB, " +
			"for the selected database, or leave MULTI")
	}
	var failed error
	for i := range Databases {
		db, err := c.server.database(i)
		if err != nil {
			continue // it cannot be held
		}
		if err := flush(db); err != nil && failed == nil {
			failed = fmt.Errorf("database %d was not cleared: %w", i, err)
		}
	}
	if failed != nil {
		return failed
	}
	c.out.status("OK")
	return nil
}

// flush clears a database.
func flush(db database) error {
	return errors.Join(db.UpdateAll(context.Background(), []func(*embedded.Tx) error{func(tx *embedded.Tx) error {
		_, err := tx.Clear()
		return err
	}})...)
}

const errNoKey = replyError("ERR no such key")

func runRename(c *call) error {
	if err := c.rename(); err != nil {
		return err
	}
	c.out.status("OK")
	return nil
}

func runRenameNX(c *call) error {
	if c.tx.Has(c.arg(1)) && c.tx.Has(c.arg(2)) {
		c.out.integer(0)
		return nil
	}
	if err := c.rename(); err != nil {
		return err
	}
	c.out.integer(1)
	return nil
}

func (c *call) rename() error {
	from, to := c.arg(1), c.arg(2)
	switch {
	case !c.tx.Has(from):
		return errNoKey
	case from == to:
		return nil
	}
	if err := c.copyAll(from, to); err != nil {
		return err
	}
	_, err := c.tx.Remove(from)
	return err
}

func runCopy(c *call) error {
	from, to, replace := c.arg(1), c.arg(2), false
	for i := 3; i < len(c.args); i++ {
		switch {
		case c.is(i, "replace"):
			replace = true
		case c.is(i, "db") && i+1 < len(c.args):
			i++
			n, err := c.databaseNumber(i)
			switch {
			case err != nil:
				return err
			case n != c.session.index:
				return replyError("ERR COPY to another database is not possible: " +
					"a transaction is of one database")
			}
		default:
			return errSyntax
		}
	}
	switch {
	case from == to:
		return replyError("ERR source and destination objects are the same")
	case !c.tx.Has(from), !replace && c.tx.Has(to):
		c.out.integer(0)
		return nil
	}
	if err := c.copyAll(from, to); err != nil {
		return err
	}
	c.out.integer(1)
	return nil
}

// copyAll has a key hold what another one does, unless that is more than a transaction may write.
func (c *call) copyAll(from, to string) error {
	if err := c.changing(countParts(c.tx, from, embedded.MaxOps), "parts"); err != nil {
		return err
	}
	_, err := c.tx.Copy(from, to)
	return err
}

// keyNames are the names of all keys, with those that have expired.
type keyNames struct{ tx *embedded.Tx }

func (k keyNames) All() iter.Seq[string] {
	return func(yield func(string) bool) { k.pass("", yield) }
}

func (k keyNames) AllAfter(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		k.pass(name, func(key string) bool { return key == "" || yield(key) })
	}
}

// pass calls fn with the keys beyond a name, and with the empty one if that is the name.
func (k keyNames) pass(name string, fn func(key string) bool) {
	for key := range k.tx.Scan("", name) {
		if !fn(key) {
			return
		}
	}
}

func (k keyNames) Next(name string) (next string, ok bool) {
	for next = range k.AllAfter(name) {
		return next, true
	}
	return "", false
}

// runRandomKey chooses of leastWindow keys that follow a random one, a few times of the same ones.
func runRandomKey(c *call) error {
	n := c.tx.Len()
	key, ok := c.drawOne("", n, c.tx.Has, func() []string {
		some := window(n, leastWindow, leastWindow, keyNames{c.tx})
		some = slices.DeleteFunc(some, func(key string) bool { return !c.tx.Has(key) })
		if len(some) == 0 { // those have expired
			for key := range c.tx.All() {
				some = append(some, key)
				break
			}
		}
		return draw(len(some), -keysDrawn, MaxReply, slices.Values(some))
	})
	if !ok {
		c.out.null()
		return nil
	}
	c.out.text(key)
	return nil
}

func runTime(c *call) error {
	writeTime(c.out, c.server.config.clock())
	return nil
}

func writeTime(out *replies, now time.Time) {
	out.array(2)
	out.text(strconv.FormatInt(now.Unix(), 10))
	out.text(strconv.FormatInt(int64(now.Nanosecond()/1000), 10))
}

func (c *call) pattern(i int) (string, error) {
	if len(c.args[i]) > MaxPattern {
		return "", replyError(fmt.Sprintf(
			"ERR a pattern of %d bytes exceeds the limit of %d bytes", len(c.args[i]), MaxPattern))
	}
	return c.arg(i), nil
}

func runKeys(c *call) error {
	pattern, err := c.pattern(1)
	if err != nil {
		return err
	}
	return c.names(-1, c.out.arrayAt, func(yield func(string) bool) {
		for key := range c.tx.Keys(globPrefix(pattern), "") {
			if matchGlob(pattern, key) && !yield(key) {
				return
			}
		}
	})
}
