package resp

import (
	"cmp"
	"context"
	"iter"
	"math"
	"slices"
	"sync/atomic"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// What Redis has not, under names of our own: all concurrent values of a string, a score or an
// element, and what has been seen where. WAIT is with it, which counts peers and not replicas.

func beyondCommands() []command {
	return grouped("crdt", []command{
		{name: "wait", arity: 3, run: runWait,
			summary: "Waits until so many other peers hold what this one had written durably, and returns how many do."},
		{name: "crdt.conflicts", apart: true, arity: 2, keys: oneKey, run: runConflicts, access: accessRead,
			summary: "Returns what a key holds, all concurrent values of a string: each its type and its value."},
		{name: "crdt.hconflicts", apart: true, arity: 3, keys: oneKey, run: runConflicts, access: accessRead,
			summary: "Returns what a field holds, all concurrent values of a string: each its type and its value."},
		{name: "crdt.zconflicts", arity: 3, keys: oneKey, run: runZConflicts, access: accessRead,
			summary: "Returns all concurrent scores of a member."},
		{name: "crdt.lconflicts", apart: true, arity: 3, keys: oneKey, run: runLConflicts, access: accessRead,
			summary: "Returns all concurrent values of the element of a list at an index."},
		{name: "crdt.resolve", apart: true, arity: -4, keys: oneKey, run: resolving(2), access: accessWrite,
			summary: "Sets a string if its concurrent values are those that follow. Returns 1, or 0 if they are not."},
		{name: "crdt.hresolve", apart: true, arity: -5, keys: oneKey, run: resolving(3), access: accessWrite,
			summary: "Sets a field if its concurrent values are those that follow. Returns 1, or 0 if they are not."},
		{name: "crdt.zresolve", arity: -5, keys: oneKey, run: runZResolve, access: accessWrite,
			summary: "Sets a score if its concurrent ones are those that follow. Returns 1, or 0."},
		{name: "crdt.lresolve", apart: true, arity: -5, keys: oneKey, run: runLResolve, access: accessWrite,
			summary: "Sets an element if its concurrent values are those that follow. Returns 1, or 0."},
		{name: "crdt.token", arity: 1, apart: true, alone: true, run: runToken,
			summary: "Returns a token of what this peer has seen of the database."},
		{name: "crdt.wait", arity: 3, run: runWaitToken,
			summary: "Waits until this peer has seen what a token names. Returns 1, or 0 if the time is over."},
	})
}

// holder returns what the first arguments name: the keys and a key, or with a field the fields of a
// hash and it.
func (c *call) holder(inHash bool) (crdt.Fields, string) {
	if inHash {
		return c.tx.Map(c.arg(1)).Fields, c.arg(2)
	}
	return c.tx.Fields, c.arg(1)
}

func runConflicts(c *call) error {
	fields, name := c.holder(c.command.name == "crdt.hconflicts")
	n, parts := 0, replies{resp3: c.out.resp3}
	add := func(t crdt.Type, value []byte) {
		n++
		parts.array(2)
		if parts.text(t.String()); value == nil {
			parts.null()
		} else {
			parts.bulk(value)
		}
	}
	plain := slices.Collect(fields.String(name).All())
	for t := range fields.Types(name).All() {
		switch {
		case t.Redis().Name != "string":
			add(t, nil)
		case len(plain) > 0: // of the types that are strings to Redis it comes first
			for _, value := range plain {
				add(t, append([]byte{}, value...))
			}
			plain = nil
		default:
			value, _ := packed(fields, name)
			add(t, value)
		}
		if len(parts.buf) > MaxReply {
			return errReplyTooLarge
		}
	}
	c.out.array(n)
	c.out.buf = append(c.out.buf, parts.buf...)
	return nil
}

func runZConflicts(c *call) error {
	at, n := len(c.out.buf), 0
	for score := range c.zset().Scores(c.arg(2)) {
		n++
		c.out.double(score)
	}
	c.out.arrayAt(at, n)
	return nil
}

func runLConflicts(c *call) error {
	l := c.list()
	i, _, err := c.index(l.Len())
	if err != nil {
		return err
	}
	at, n := len(c.out.buf), 0
	for value := range l.Values(i) {
		if len(c.out.buf)-at > MaxReply {
			return errReplyTooLarge
		}
		n++
		c.out.bulk(value)
	}
	c.out.arrayAt(at, n)
	return nil
}

// resolving returns what sets a string, whose new value is an argument, before those that it has.
func resolving(at int) func(c *call) error {
	return func(c *call) error {
		fields, name := c.holder(at == 3)
		s := fields.String(name)
		return settle(c, textsOf(slices.Values(c.args[at+1:])), textsOf(s.All()), func() error {
			if until, ok := fields.Expiry(name).Get(); ok {
				return s.SetUntil(c.args[at], until)
			}
			return s.Set(c.args[at])
		})
	}
}

func runZResolve(c *call) error {
	var scores []float64 // the one to set, then those that it has
	for _, arg := range c.args[3:] {
		score, ok := parseScore(arg)
		if !ok {
			return errNoFloat
		}
		scores = append(scores, score)
	}
	zset, member := c.zset(), c.arg(2)
	return settle(c, scores[1:], slices.Collect(zset.Scores(member)), func() error {
		_, err := zset.Set(member, scores[0])
		return err
	})
}

func runLResolve(c *call) error {
	l := c.list()
	i, _, err := c.index(l.Len())
	if err != nil {
		return err
	}
	return settle(c, textsOf(slices.Values(c.args[4:])), textsOf(l.Values(i)), func() error {
		_, err := l.Set(i, c.args[3])
		return err
	})
}

// settle sets a value and replies 1, if the concurrent ones that are there are those that were
// seen; else it replies 0.
func settle[T cmp.Ordered](c *call, seen, there []T, set func() error) error {
	slices.Sort(seen)
	slices.Sort(there)
	if !slices.Equal(seen, there) {
		c.out.integer(0)
		return nil
	}
	if err := set(); err != nil {
		return err
	}
	c.out.integer(1)
	return nil
}

func textsOf(values iter.Seq[[]byte]) (texts []string) {
	for value := range values {
		texts = append(texts, string(value))
	}
	return texts
}

// tokens are what a database has beyond transactions.
type tokens interface {
	ViewToken(ctx context.Context, fn func(*embedded.Tx) error) (embedded.Token, error)
	Wait(ctx context.Context, t embedded.Token) error
	Replicated(ctx context.Context, n int) (int, error)
}

func runToken(c *call) error {
	if c.whole {
		return replyError("ERR CRDT.TOKEN within a transaction names nothing of it: ask for one after EXEC")
	}
	token, err := c.selected().(tokens).ViewToken(context.Background(), func(*embedded.Tx) error { return nil })
	if err != nil {
		return err
	}
	c.out.text(string(token))
	return nil
}

func runWait(c *call) error {
	n, err := c.integer(1)
	if err != nil {
		return err
	}
	timeout, err := c.milliseconds(2)
	if err != nil {
		return err
	}
	db, have := c.selected().(tokens), new(atomic.Int64)
	return c.await(timeout, func(ctx context.Context) error {
		held, err := db.Replicated(ctx, int(min(n, math.MaxInt32)))
		have.Store(int64(held))
		return err
	}, func(out *replies) { out.integer(have.Load()) })
}

func runWaitToken(c *call) error {
	timeout, err := c.milliseconds(2)
	if err != nil {
		return err
	}
	token := embedded.Token(c.arg(1))
	if err := token.Check(); err != nil {
		return replyError("ERR " + err.Error())
	}
	db, seen := c.selected().(tokens), new(atomic.Int64)
	return c.await(timeout, func(ctx context.Context) error {
		err := db.Wait(ctx, token)
		if err == nil {
			seen.Store(1)
		}
		return err
	}, func(out *replies) { out.integer(seen.Load()) })
}
