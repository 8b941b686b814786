package resp

import (
	"iter"
	"math"
	"sort"
	"strings"

	"github.com/peerd/peerd/crdt"
)

// Ranges of sorted sets are found as ranks: those of the first element and of the one behind the
// last. What comes after is the same for all of them, and goes through the set without holding it.

const (
	errNoBound    = replyError("ERR min or max is not a float")
	errNoLexBound = replyError("ERR min or max not valid string range item")
)

// bound is one end of a range.
type bound struct {
	score float64
	name  string
	all   int // of names: -1 before all, 1 behind all
	open  bool
}

// parseBound reads a score as an end of a range: what strtod reads whole, up to a zero byte,
// nothing being 0.
func parseBound(text string) (b bound, err error) {
	text, _, _ = strings.Cut(text, "\x00")
	text, b.open = strings.CutPrefix(text, "(")
	text = strings.TrimLeft(text, blanks)
	if text == "" {
		return b, nil
	}
	var ok bool
	if b.score, _, ok = parseNumber(text); !ok {
		return b, errNoBound
	}
	return b, nil
}

// parseLexBound reads a name as an end of a range.
func parseLexBound(text string) (b bound, err error) {
	switch {
	case text == "+" || text == "-":
		return bound{all: map[string]int{"+": 1, "-": -1}[text], open: true}, nil
	case strings.HasPrefix(text, "("), strings.HasPrefix(text, "["):
		return bound{name: text[1:], open: text[0] == '('}, nil
	}
	return b, errNoLexBound
}

// before returns how many members of a sorted set come before the bound, which itself counts if
// with is set.
func (b bound) before(zset crdt.SortedSet, with bool) int {
	score := b.score
	if with {
		if math.IsInf(score, 1) {
			return zset.Len()
		}
		score = math.Nextafter(score, math.Inf(1))
	}
	return zset.Before(score, "")
}

// beforeName is before in the order of names. That is the order of members that have all one score,
// or whose scores grow as their names do; of others Redis too returns some.
func (b bound) beforeName(zset crdt.SortedSet, with bool) int {
	if b.all != 0 {
		return map[int]int{-1: 0, 1: zset.Len()}[b.all]
	}
	return sort.Search(zset.Len(), func(rank int) bool {
		for name := range zset.From(rank) {
			return name > b.name || name == b.name && !with
		}
		return true
	})
}

type rangeBy int

const (
	byRank rangeBy = iota
	byScore
	byLex
)

// zrange is a range of a sorted set.
type zrange struct {
	by            rangeBy
	start, stop   int64 // ranks, from the end if they are negative; of the set backwards if it is
	min, max      bound
	back          bool
	offset, count int64 // how many to leave out, and how many to take; negative: all
}

// parse reads the ends of the range. Of a backward one the greater comes first.
func (r *zrange) parse(c *call, first int) (err error) {
	low, high := first, first+1
	if r.back {
		low, high = high, low
	}
	switch r.by {
	case byScore:
		if r.min, err = parseBound(c.arg(low)); err == nil {
			r.max, err = parseBound(c.arg(high))
		}
	case byLex:
		if r.min, err = parseLexBound(c.arg(low)); err == nil {
			r.max, err = parseLexBound(c.arg(high))
		}
	default:
		if r.start, err = c.integer(first); err == nil {
			r.stop, err = c.integer(first + 1)
		}
	}
	return err
}

// ranks returns the ranks of the first of the range and how many there are. A backward range begins
// with the last.
func (r *zrange) ranks(zset crdt.SortedSet) (first, n int) {
	switch r.by {
	case byScore:
		first = r.min.before(zset, r.min.open)
		n = r.max.before(zset, !r.max.open) - first
	case byLex:
		first = r.min.beforeName(zset, r.min.open)
		n = r.max.beforeName(zset, !r.max.open) - first
	default:
		return r.places(zset)
	}
	if r.offset < 0 {
		return 0, 0
	}
	skipped := int(min(r.offset, int64(max(n, 0))))
	if r.back {
		first += n - 1 - skipped
	} else {
		first += skipped
	}
	if n -= skipped; r.count >= 0 {
		n = int(min(int64(n), r.count))
	}
	return first, n
}

// places is ranks of a range by rank.
func (r *zrange) places(zset crdt.SortedSet) (first, n int) {
	length := int64(zset.Len())
	start, stop := r.start, r.stop
	if start < 0 {
		start = max(start+length, 0)
	}
	if stop < 0 {
		stop += length
	}
	stop = min(stop, length-1)
	if start > stop || start >= length {
		return 0, 0
	}
	if first = int(start); r.back {
		first = int(length - 1 - start)
	}
	return first, int(stop - start + 1)
}

// all passes the members of the range, and returns how many there are.
func (r *zrange) all(zset crdt.SortedSet) (members iter.Seq2[string, float64], n int) {
	first, n := r.ranks(zset)
	if n <= 0 {
		return func(func(string, float64) bool) {}, 0
	}
	from := zset.From(first)
	if r.back {
		from = zset.Back(first)
	}
	return func(yield func(string, float64) bool) {
		left := n
		for member, score := range from {
			if left--; !yield(member, score) || left == 0 {
				return
			}
		}
	}, n
}

// rangeOptions reads a range with its options, of which a fixed one takes no way and no direction.
func (c *call) rangeOptions(r zrange, fixed bool, first int, store bool) (_ zrange, scores bool, err error) {
	r.count = -1
	for i := first + 2; i < len(c.args); i++ {
		switch {
		case !store && c.is(i, "withscores"):
			scores = true
		case c.is(i, "limit") && len(c.args)-i-1 >= 2:
			if r.offset, err = c.integer(i + 1); err != nil {
				return r, false, err
			}
			if r.count, err = c.integer(i + 2); err != nil {
				return r, false, err
			}
			i += 2
		case !fixed && !r.back && c.is(i, "rev"):
			r.back = true
		case !fixed && r.by == byRank && c.is(i, "bylex"):
			r.by = byLex
		case !fixed && r.by == byRank && c.is(i, "byscore"):
			r.by = byScore
		default:
			return r, false, errSyntax
		}
	}
	switch {
	case r.count != -1 && r.by == byRank:
		return r, false, replyError("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
	case scores && r.by == byLex:
		return r, false, replyError("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
	}
	return r, scores, r.parse(c, first)
}

// ranging returns ZRANGE or its like.
func ranging(r zrange, fixed bool) func(c *call) error {
	return func(c *call) error {
		r, scores, err := c.rangeOptions(r, fixed, 2, false)
		if err != nil {
			return err
		}
		if err := c.zsetError(); err != nil {
			return err
		}
		members, n := r.all(c.zset())
		return c.members(n, members, scores)
	}
}

// workOfRange is that of ZRANGE and its like.
func workOfRange(r zrange, fixed bool) func(*call, *command) int64 {
	return func(c *call, _ *command) int64 {
		r, _, err := c.rangeOptions(r, fixed, 2, false)
		if err != nil {
			return 0 // which the command refuses
		}
		_, n := r.ranks(c.zset())
		return int64(max(n, 0))
	}
}

// counting returns ZCOUNT or ZLEXCOUNT.
func counting(by rangeBy) func(c *call) error {
	return func(c *call) error {
		r := zrange{by: by, count: -1}
		if err := r.parse(c, 2); err != nil {
			return err
		}
		if err := c.zsetError(); err != nil {
			return err
		}
		_, n := r.ranks(c.zset())
		c.out.integer(int64(max(n, 0)))
		return nil
	}
}

// removingRange returns ZREMRANGEBYRANK or its like.
func removingRange(by rangeBy) func(c *call) error {
	return func(c *call) error {
		r := zrange{by: by, count: -1}
		if err := r.parse(c, 2); err != nil {
			return err
		}
		if err := c.zsetError(); err != nil {
			return err
		}
		zset := c.zset()
		_, n := r.ranks(zset)
		if n = max(n, 0); n > 0 && n == zset.Len() {
			if _, err := zset.Clear(); err != nil { // which looks at none of them
				return err
			}
		} else if _, err := c.take(zset, r); err != nil {
			return err
		}
		c.out.integer(int64(n))
		return nil
	}
}

// scored is a member with its score.
type scored struct {
	member string
	score  float64
}

// take removes a range from a sorted set, and returns what was in it.
func (c *call) take(zset crdt.SortedSet, r zrange) ([]scored, error) {
	members, n := r.all(zset)
	if err := c.changing(n, "members"); err != nil {
		return nil, err
	}
	taken := make([]scored, 0, n)
	for member, score := range members {
		taken = append(taken, scored{member, score})
	}
	for _, m := range taken {
		if _, err := zset.Remove(m.member); err != nil {
			return nil, err
		}
	}
	return taken, nil
}

// runZRangeStore has the first key hold a range of the second.
func runZRangeStore(c *call) error {
	r, _, err := c.rangeOptions(zrange{}, false, 3, true)
	if err != nil {
		return err
	}
	if err := c.zsetErrorOf(c.arg(2)); err != nil {
		return err
	}
	members, n := r.all(c.tx.SortedSet(c.arg(2)))
	if err := c.changing(n, "members"); err != nil {
		return err
	}
	made := make([]scored, 0, n)
	for member, score := range members {
		made = append(made, scored{member, score})
	}
	return c.storeScored(c.arg(1), made)
}

// storeScored has a key hold these members and nothing else, and replies how many they are.
func (c *call) storeScored(key string, made []scored) error {
	if _, err := c.tx.Remove(key); err != nil {
		return err
	}
	zset := c.tx.SortedSet(key)
	for _, m := range made {
		if _, err := zset.Set(m.member, m.score); err != nil {
			return err
		}
	}
	c.out.integer(int64(len(made)))
	return nil
}
