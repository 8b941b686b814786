package resp

import (
	"errors"
	"iter"
	"math"
	"strconv"
	"strings"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

const errNoNumber = replyError("ERR resulting score is not a number (NaN)")

// zset returns the sorted set of the key that the first argument names.
func (c *call) zset() crdt.SortedSet { return c.tx.SortedSet(c.arg(1)) }

// zsetError returns errWrongType if that key exists without a sorted set.
func (c *call) zsetError() error { return c.zsetErrorOf(c.arg(1)) }

func (c *call) zsetErrorOf(key string) error { return c.typeError(key, crdt.TypeSortedSet) }

// zaddOptions are ZADD's.
type zaddOptions struct{ nx, xx, gt, lt, ch, incr bool }

// zaddOptions reads them, and returns the first argument behind.
func (c *call) zaddOptions() (o zaddOptions, first int) {
	names := map[string]*bool{"nx": &o.nx, "xx": &o.xx, "gt": &o.gt, "lt": &o.lt, "ch": &o.ch, "incr": &o.incr}
	for first = 2; first < len(c.args); first++ {
		option := names[strings.ToLower(c.arg(first))]
		if option == nil {
			break
		}
		*option = true
	}
	return o, first
}

func (o zaddOptions) check(pairs int) error {
	switch {
	case o.nx && o.xx:
		return replyError("ERR XX and NX options at the same time are not compatible")
	case o.gt && o.nx, o.lt && o.nx, o.gt && o.lt:
		return replyError("ERR GT, LT, and/or NX options at the same time are not compatible")
	case o.incr && pairs > 1:
		return replyError("ERR INCR option supports a single increment-element pair")
	}
	return nil
}

// allow reports whether a member with a score, or one that is not there, may have another score.
func (o zaddOptions) allow(now float64, exists bool, next float64) bool {
	switch {
	case !exists:
		return !o.xx
	case o.nx, o.gt && next <= now, o.lt && next >= now:
		return false
	}
	return true
}

func runZAdd(c *call) error {
	o, first := c.zaddOptions()
	return c.zadd(o, first)
}

func runZIncrBy(c *call) error {
	o, first := c.zaddOptions()
	o.incr = true
	return c.zadd(o, first)
}

// zadd does what ZADD does with pairs of scores and members from an argument on.
func (c *call) zadd(o zaddOptions, first int) error {
	pairs := (len(c.args) - first) / 2
	if pairs == 0 || (len(c.args)-first)%2 != 0 {
		return errSyntax
	}
	if err := o.check(pairs); err != nil {
		return err
	}
	scores := make([]float64, pairs)
	for i := range scores {
		var ok bool
		if scores[i], ok = parseScore(c.args[first+2*i]); !ok {
			return errNoFloat
		}
	}
	if err := c.zsetError(); err != nil {
		return err
	}
	if o.incr {
		return c.zincr(o, scores[0], c.arg(first+1))
	}
	return c.zaddEach(o, scores, func(i int) string { return c.arg(first + 2*i + 1) })
}

// zaddEach gives members scores, and replies how many of them are new.
func (c *call) zaddEach(o zaddOptions, scores []float64, memberOf func(i int) string) error {
	if err := c.changing(len(scores), "members"); err != nil {
		return err
	}
	added, updated, zset := 0, 0, c.zset()
	for i, score := range scores {
		member := memberOf(i)
		if o != (zaddOptions{}) {
			now, exists := zset.Score(member)
			if !o.allow(now, exists, score) {
				continue
			}
			updated += oneIf(exists && now != score)
		}
		isNew, err := zset.Set(member, score)
		if err != nil {
			return err
		}
		added += oneIf(isNew)
	}
	if o.ch {
		added += updated
	}
	c.out.integer(int64(added))
	return nil
}

func (c *call) zincr(o zaddOptions, by float64, member string) error {
	if o.nx || o.xx || o.gt || o.lt {
		now, exists := c.zset().Score(member)
		switch {
		case exists && !o.nx && math.IsNaN(now+by):
			return errNoNumber
		case !o.allow(now, exists, now+by):
			c.out.null()
			return nil
		}
	}
	score, err := c.zset().Add(member, by)
	if errors.Is(err, crdt.ErrNotANumber) {
		return errNoNumber
	}
	if err != nil {
		return err
	}
	c.out.double(score)
	return nil
}

func runZRem(c *call) error {
	if err := c.zsetError(); err != nil {
		return err
	}
	return c.countEach(2, "members", c.zset().Remove)
}

func runZScore(c *call) error {
	score, ok := c.zset().Score(c.arg(2))
	if !ok {
		if err := c.zsetError(); err != nil {
			return err
		}
		c.out.null()
		return nil
	}
	c.out.double(score)
	return nil
}

func runZMScore(c *call) error {
	if err := c.zsetError(); err != nil {
		return err
	}
	zset := c.zset()
	c.out.array(len(c.args) - 2)
	for i := 2; i < len(c.args); i++ {
		if score, ok := zset.Score(c.arg(i)); ok {
			c.out.double(score)
		} else {
			c.out.null()
		}
	}
	return nil
}

func runZCard(c *call) error {
	n := c.zset().Len()
	if n == 0 {
		if err := c.zsetError(); err != nil {
			return err
		}
	}
	c.out.integer(int64(n))
	return nil
}

// ranking returns ZRANK, or counted from the end ZREVRANK.
func ranking(back bool) func(c *call) error {
	return func(c *call) error {
		zset := c.zset()
		score, ok := zset.Score(c.arg(2))
		if !ok {
			if err := c.zsetError(); err != nil {
				return err
			}
			c.out.null()
			return nil
		}
		rank := zset.Before(score, c.arg(2))
		if back {
			rank = zset.Len() - 1 - rank
		}
		c.out.integer(int64(rank))
		return nil
	}
}

func runZScan(c *call) error {
	return scanWithin(c, c.zsetError, func(after string, more bool) iter.Seq2[string, []byte] {
		if more {
			return withScores(c.zset().ByNameAfter(after), appendDouble)
		}
		return withScores(c.zset().ByName(), appendDouble)
	}, func(member string, score []byte) int {
		c.out.text(member)
		c.out.bulk(score)
		return 2
	})
}

// withScores passes members with their scores as text.
func withScores(members iter.Seq2[string, float64], text func([]byte, float64) []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for member, score := range members {
			if !yield(member, text(nil, score)) {
				return
			}
		}
	}
}

// runZRandMember chooses of all members alike, by their ranks.
func runZRandMember(c *call) error {
	count, scores, err := c.randomCount("withscores")
	if err != nil {
		return err
	}
	if err := c.zsetError(); err != nil {
		return err
	}
	zset := c.zset()
	n := zset.Len()
	if err := drawable(n, count); err != nil {
		return err
	}
	places := drawPlaces(n, count)
	if len(c.args) == 2 && len(places) == 0 {
		c.out.null()
		return nil
	}
	at := len(c.out.buf)
	if len(c.args) > 2 {
		c.out.pairs(len(places), scores)
	}
	for _, place := range places {
		for member, score := range zset.From(place) {
			c.out.member(member, score, scores)
			break
		}
		if len(c.out.buf)-at > MaxReply {
			return errReplyTooLarge
		}
	}
	return nil
}

// members replies with n members, with their scores or without: see listing.
func (c *call) members(n int, all iter.Seq2[string, float64], scores bool) error {
	header := func(at, n int) { c.out.pairsAt(at, n, scores) }
	return listing(c, n, header, all, func(member string, score float64) { c.out.member(member, score, scores) })
}

// pairs begins a list of n members, with their scores or without: each with its score is an array
// in RESP3.
func (w *replies) pairs(n int, scores bool) { w.pairsAt(len(w.buf), n, scores) }

func (w *replies) pairsAt(at, n int, scores bool) {
	if scores && !w.resp3 {
		n *= 2
	}
	w.arrayAt(at, n)
}

// member writes an element of it.
func (w *replies) member(member string, score float64, scores bool) {
	if scores && w.resp3 {
		w.array(2)
	}
	w.text(member)
	if scores {
		w.double(score)
	}
}

// parseScore reads a number as Redis reads a score: what C's strtod takes whole, but no blanks in
// front, and nothing that is beyond all numbers.
func parseScore(text []byte) (float64, bool) {
	if len(text) == 0 || strings.IndexByte(blanks, text[0]) >= 0 {
		return 0, false
	}
	f, beyond, ok := parseNumber(string(text))
	return f, ok && !beyond
}

const blanks = " \t\n\v\f\r"

// parseNumber reads what C's strtod does. beyond tells that what the text says is no number, but
// infinity or 0 are nearest.
func parseNumber(text string) (f float64, beyond, ok bool) {
	if len(text) > longestFloat || strings.Contains(text, "_") {
		return 0, false, false
	}
	digits := strings.ToLower(strings.TrimLeft(text, "+-"))
	if strings.HasPrefix(digits, "0x") && !strings.Contains(digits, "p") {
		text += "p0"
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(f) {
		return 0, false, false
	}
	mantissa, _, _ := strings.Cut(strings.TrimPrefix(digits, "0x"), "p")
	if !strings.HasPrefix(digits, "0x") {
		mantissa, _, _ = strings.Cut(mantissa, "e")
	}
	return f, err != nil || f == 0 && strings.ContainsAny(mantissa, "123456789abcdef"), true
}

var zsetKind = kind{
	typ:   crdt.TypeSortedSet,
	count: func(tx *embedded.Tx, key string) (int, bool) { return tx.SortedSet(key).Len(), true },
	parts: func(tx *embedded.Tx, key string) iter.Seq2[string, []byte] {
		return withScores(tx.SortedSet(key).All(), func(b []byte, score float64) []byte {
			return strconv.AppendFloat(b, score, 'g', -1, 64)
		})
	},
	check: func(_ string, value []byte) bool {
		_, ok := parseScore(value)
		return ok
	},
	put: func(tx *embedded.Tx, key, member string, value []byte) error {
		score, _ := parseScore(value) // as check has found it
		_, err := tx.SortedSet(key).Set(member, score)
		return err
	},
	encoding: asCells,
	sorted:   true,
	ordered:  true,
}
