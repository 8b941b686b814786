package resp

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// operand is a sorted set, or a set, whose members have then the score 1.
type operand struct {
	key     string
	zset    crdt.SortedSet
	set     crdt.Set
	plain   bool // it is the set
	members int
	weight  float64
}

func (o *operand) score(member string) (float64, bool) {
	if o.plain {
		return 1, o.set.Has(member)
	}
	return o.zset.Score(member)
}

func (o *operand) each(fn func(member string, score float64) bool) {
	if !o.plain {
		o.zset.ByName()(fn)
		return
	}
	for member := range o.set.All() {
		if !fn(member, 1) {
			return
		}
	}
}

// zalgebra is what ZUNION or its like is asked for.
type zalgebra struct {
	operands  []*operand
	aggregate string
	scores    bool
	limit     int64
}

// zoperation is what ZUNION, ZINTER or ZDIFF makes of operands. It passes each member once, until
// fn returns false.
type zoperation struct {
	run       func(a *zalgebra, fn func(member string, score float64) bool)
	weighs    bool // WEIGHTS and AGGREGATE mean something
	counts    bool // it is ZINTERCARD
	unordered bool // the smallest operand goes first
}

var (
	zunion     = zoperation{run: (*zalgebra).union, weighs: true, unordered: true}
	zinter     = zoperation{run: (*zalgebra).inter, weighs: true, unordered: true}
	zdiff      = zoperation{run: (*zalgebra).diff}
	zintercard = zoperation{run: (*zalgebra).inter, counts: true, unordered: true}
)

// operand returns what a key holds.
func (c *call) operand(key string) (*operand, error) {
	o := &operand{key: key, zset: c.tx.SortedSet(key), set: c.tx.Set(key), weight: 1}
	if c.zsetErrorOf(key) == nil {
		o.members = o.zset.Len()
		return o, nil
	}
	err := setErrorOf(c, key)
	o.plain, o.members = true, o.set.Len()
	return o, err
}

// zalgebra reads the arguments, from the one on that says how many keys follow.
func (c *call) zalgebra(op zoperation, first int, store bool) (*zalgebra, error) {
	n, err := c.integer(first)
	switch {
	case err != nil:
		return nil, err
	case n < 1:
		return nil, replyError("ERR at least 1 input key is needed for '" + c.command.name + "' command")
	case n > int64(len(c.args)-first-1):
		return nil, errSyntax
	}
	a := &zalgebra{aggregate: "sum"}
	for i := first + 1; i <= first+int(n); i++ {
		o, err := c.operand(c.arg(i))
		if err != nil {
			return nil, err
		}
		a.operands = append(a.operands, o)
	}
	for i := first + int(n) + 1; i < len(c.args); {
		read, err := c.zalgebraOption(a, op, i, store)
		if err != nil {
			return nil, err
		}
		i += read
	}
	if op.unordered {
		slices.SortStableFunc(a.operands, func(a, b *operand) int { return cmp.Compare(a.members, b.members) })
	}
	return a, nil
}

// zalgebraOption reads an option, and returns of how many arguments it is.
func (c *call) zalgebraOption(a *zalgebra, op zoperation, i int, store bool) (read int, err error) {
	left := len(c.args) - i
	switch {
	case op.weighs && left >= len(a.operands)+1 && c.is(i, "weights"):
		for j, o := range a.operands {
			var ok bool
			if o.weight, ok = parseScore(c.args[i+1+j]); !ok {
				return 0, replyError("ERR weight value is not a float")
			}
		}
		return 1 + len(a.operands), nil
	case op.weighs && left >= 2 && c.is(i, "aggregate"):
		for _, way := range []string{"sum", "min", "max"} {
			if c.is(i+1, way) {
				a.aggregate = way
				return 2, nil
			}
		}
	case !store && !op.counts && c.is(i, "withscores"):
		a.scores = true
		return 1, nil
	case op.counts && left >= 2 && c.is(i, "limit"):
		if a.limit, err = c.integer(i + 1); err != nil || a.limit < 0 {
			return 0, replyError("ERR LIMIT can't be negative")
		}
		return 2, nil
	}
	return 0, errSyntax
}

// weighed returns a score with a weight; of no number, as 0 times infinity is, 0.
func (o *operand) weighed(score float64) float64 { return orZero(o.weight * score) }

func orZero(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return f
}

func (a *zalgebra) join(x, y float64) float64 {
	switch {
	case a.aggregate == "sum":
		return orZero(x + y)
	case a.aggregate == "min" && y < x, a.aggregate == "max" && y > x:
		return y
	}
	return x
}

// holding returns the operands that have a member.
func holding(operands []*operand) []*operand {
	return slices.DeleteFunc(slices.Clone(operands), func(o *operand) bool { return o.members == 0 })
}

func (a *zalgebra) union(fn func(string, float64) bool) {
	operands := holding(a.operands)
	for i, o := range operands {
		again := true
		o.each(func(member string, score float64) bool {
			score = o.weighed(score)
			for j, other := range operands {
				value, has := 0.0, false
				if j != i {
					value, has = other.score(member)
				}
				switch {
				case has && j < i:
					return true // it was passed
				case has:
					score = a.join(score, other.weighed(value))
				}
			}
			again = fn(member, score)
			return again
		})
		if !again {
			return
		}
	}
}

func (a *zalgebra) inter(fn func(string, float64) bool) {
	first := a.operands[0]
	first.each(func(member string, score float64) bool {
		sum := first.weighed(score)
		for _, o := range a.operands[1:] {
			value, has := o.score(member)
			if !has {
				return true
			}
			sum = a.join(sum, o.weight*value)
		}
		return fn(member, sum)
	})
}

func (a *zalgebra) diff(fn func(string, float64) bool) {
	others := holding(a.operands[1:])
	a.operands[0].each(func(member string, score float64) bool {
		for _, o := range others {
			if _, has := o.score(member); has {
				return true
			}
		}
		return fn(member, score)
	})
}

// collect returns what the operation makes: most members, and one more if there are more.
func (a *zalgebra) collect(op zoperation, most int) (made []scored, err error) {
	held := 0
	op.run(a, func(member string, score float64) bool {
		made, held = append(made, scored{member, score}), held+len(member)
		return len(made) <= most && held <= MaxReply
	})
	if held > MaxReply {
		return nil, errMuchHeld
	}
	return made, nil
}

// zcombined returns ZUNION or its like.
func zcombined(op zoperation) func(*call) error {
	return func(c *call) error {
		a, err := c.zalgebra(op, 1, false)
		if err != nil {
			return err
		}
		made, err := a.collect(op, MaxSort)
		switch {
		case err != nil:
			return err
		case len(made) > MaxSort:
			return replyError(fmt.Sprintf("ERR what is made exceeds %d members (MaxSort)", MaxSort))
		}
		slices.SortFunc(made, func(a, b scored) int {
			return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(a.member, b.member))
		})
		return c.members(len(made), func(yield func(string, float64) bool) {
			for _, m := range made {
				if !yield(m.member, m.score) {
					return
				}
			}
		}, a.scores)
	}
}

// zstored returns ZUNIONSTORE or its like.
func zstored(op zoperation) func(*call) error {
	return func(c *call) error {
		a, err := c.zalgebra(op, 2, true)
		if err != nil {
			return err
		}
		looks, err := c.mayCombine()
		if err != nil {
			return err
		}
		made, err := lookAhead(c, looks, 3, 3+len(a.operands), func() ([]scored, error) {
			return a.collect(op, embedded.MaxOps)
		})
		if err != nil {
			return err
		}
		if err := c.changing(len(made), "members"); err != nil {
			return err
		}
		return c.storeScored(c.arg(1), made)
	}
}

func runZInterCard(c *call) error {
	a, err := c.zalgebra(zintercard, 1, false)
	if err != nil {
		return err
	}
	n := int64(0)
	zintercard.run(a, func(string, float64) bool {
		n++
		return n != a.limit
	})
	c.out.integer(n)
	return nil
}
