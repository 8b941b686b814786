package resp

import (
	"github.com/peerd/peerd/crdt"
)

// popping is what ZPOPMIN or its like takes of one key.
func popping(count int64, greatest bool) zrange {
	return zrange{by: byRank, stop: count - 1, back: greatest}
}

// popRange returns ZPOPMIN or ZPOPMAX.
func popRange(greatest bool) func(c *call) error {
	return func(c *call) error {
		if len(c.args) > 3 {
			return errSyntax
		}
		count := int64(1)
		if len(c.args) == 3 {
			var err error
			if count, err = c.integer(2); err != nil || count < 0 {
				return replyError("ERR value is out of range, must be positive")
			}
		}
		if err := c.zsetError(); err != nil {
			return err
		}
		if count == 0 {
			c.out.array(0)
			return nil
		}
		taken, err := c.take(c.zset(), popping(count, greatest))
		if err != nil {
			return err
		}
		nested := c.out.resp3 && len(c.args) == 3
		if nested {
			c.out.array(len(taken))
		} else {
			c.out.array(2 * len(taken))
		}
		c.writePopped(taken, nested)
		return nil
	}
}

// writePopped writes members with their scores, each with its own in an array or not.
func (c *call) writePopped(taken []scored, nested bool) {
	for _, m := range taken {
		if nested {
			c.out.array(2)
		}
		c.out.text(m.member)
		c.out.double(m.score)
	}
}

// manyPops is what ZMPOP is asked for.
type manyPops struct {
	keys     []string
	greatest bool
	count    int64
}

// manyPops reads the arguments, from the one on that says how many keys follow.
func (c *call) manyPops(first int) (p manyPops, err error) {
	n, err := c.integer(first)
	if err != nil || n < 1 {
		return p, replyError("ERR numkeys should be greater than 0")
	}
	if n >= int64(len(c.args)-first-1) {
		return p, errSyntax
	}
	where := first + int(n) + 1
	for i := first + 1; i < where; i++ {
		p.keys = append(p.keys, c.arg(i))
	}
	if p.greatest = c.is(where, "max"); !p.greatest && !c.is(where, "min") {
		return p, errSyntax
	}
	for i := where + 1; i < len(c.args); i += 2 {
		if p.count != 0 || !c.is(i, "count") || i+1 == len(c.args) {
			return p, errSyntax
		}
		if p.count, err = c.integer(i + 1); err != nil || p.count < 1 {
			return p, replyError("ERR count should be greater than 0")
		}
	}
	p.count = max(p.count, 1)
	return p, nil
}

// firstZSet returns the first of some keys with a sorted set, or none; an error if there is
// something else before it.
func (c *call) firstZSet(keys []string) (key string, zset crdt.SortedSet, found bool, err error) {
	for _, key := range keys {
		if err := c.zsetErrorOf(key); err != nil {
			return "", zset, false, err
		}
		if zset = c.tx.SortedSet(key); zset.Len() > 0 {
			return key, zset, true, nil
		}
	}
	return "", zset, false, nil
}

// popFirst takes from the first of the keys that has something, and replies with it. done is false
// if none has.
func (p *manyPops) popFirst(c *call) (done bool, err error) {
	key, zset, found, err := c.firstZSet(p.keys)
	if err != nil || !found {
		return false, err
	}
	taken, err := c.take(zset, popping(p.count, p.greatest))
	if err != nil {
		return false, err
	}
	c.out.array(2)
	c.out.text(key)
	c.out.array(len(taken))
	c.writePopped(taken, true)
	return true, nil
}

func runZMPop(c *call) error {
	p, err := c.manyPops(1)
	if err != nil {
		return err
	}
	done, err := p.popFirst(c)
	if !done && err == nil {
		c.out.nullArray()
	}
	return err
}

// noPop is the reply to a command that waited in vain.
func noPop(out *replies) { out.nullArray() }

// blockingPop returns BZPOPMIN or BZPOPMAX.
func blockingPop(greatest bool) func(c *call) error {
	try := func(c *call, key string) (bool, error) {
		taken, err := c.take(c.tx.SortedSet(key), popping(1, greatest))
		if err != nil || len(taken) == 0 {
			return false, err
		}
		c.out.array(3)
		c.out.text(key)
		c.writePopped(taken, false)
		return true, nil
	}
	return func(c *call) error {
		timeout, err := c.seconds(len(c.args) - 1)
		if err != nil {
			return err
		}
		var keys []string
		for i := range c.args[1 : len(c.args)-1] {
			keys = append(keys, c.arg(i+1))
		}
		key, _, found, err := c.firstZSet(keys)
		if err != nil {
			return err
		}
		if found {
			_, err := try(c, key)
			return err
		}
		return c.block(keys, timeout, attempt{try: try, none: noPop, takes: taking{typ: zsetKind.typ}})
	}
}

// runBZMPop is ZMPOP with a time to wait in front.
func runBZMPop(c *call) error {
	p, err := c.manyPops(2)
	if err != nil {
		return err
	}
	timeout, err := c.seconds(1)
	if err != nil {
		return err
	}
	if done, err := p.popFirst(c); done || err != nil {
		return err
	}
	return c.block(p.keys, timeout, attempt{none: noPop, takes: taking{typ: zsetKind.typ},
		try: func(c *call, key string) (bool, error) {
			if c.zsetErrorOf(key) != nil { // it waits on, as if the key was not there
				return false, nil
			}
			one := p
			one.keys = []string{key}
			return one.popFirst(c)
		}})
}
