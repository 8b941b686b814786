package resp

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
)

// randomCount returns how many elements are asked for by the second argument, if there is one: each
// once, or, if it is negative, as many draws. paired says that word follows, for values as well.
func (c *call) randomCount(word string) (count int, paired bool, err error) {
	if len(c.args) == 2 {
		return 1, false, nil
	}
	n, err := c.integer(2)
	paired = len(c.args) == 4 && c.is(3, word)
	switch {
	case err != nil:
		return 0, false, err
	case n == math.MinInt64:
		return 0, false, replyError(fmt.Sprintf(
			"ERR value is out of range, value must between %d and %d", -math.MaxInt64, math.MaxInt64))
	case len(c.args) > 3 && !paired:
		return 0, false, errSyntax
	case paired && max(n, -n) > math.MaxInt64/2:
		return 0, false, replyError("ERR value is out of range")
	case n < -MaxRandom:
		return 0, false, replyError(fmt.Sprintf(
			"ERR %d elements exceed the limit of %d (MaxRandom)", -n, MaxRandom))
	}
	return int(min(n, math.MaxInt32)), paired, nil
}

// drawable returns errReplyTooLarge if too many of n elements are asked for.
func drawable(n, count int) error {
	if min(n, count) > MaxRandom {
		return errReplyTooLarge
	}
	return nil
}

// draw returns count of n names, each once and all alike likely; or -count names, each of all
// alike likely. O(n). If they have more than most bytes those that come then are empty.
func draw(n, count, most int, names iter.Seq[string]) []string {
	places := drawPlaces(n, count)
	chosen := make(map[int]string, len(places))
	for _, place := range places {
		chosen[place] = ""
	}
	i, held := 0, 0
	for name := range names {
		if _, ok := chosen[i]; ok {
			chosen[i], held = name, held+len(name)
		}
		if i++; held > most {
			break
		}
	}
	drawn := make([]string, len(places))
	for i, place := range places {
		drawn[i] = chosen[place]
	}
	return drawn
}

// drawSome returns what draw would of a key's names. For one it goes through them now and then.
func (c *call) drawSome(n, count int, has func(string) bool, all iter.Seq[string]) []string {
	if n == 0 || count != 1 && count != -1 {
		return draw(n, count, MaxReply, all) // no reply has more
	}
	one, ok := c.drawOne(c.arg(1), n, has, func() []string {
		return draw(n, -min(mostDrawn, n/passShare+1), math.MaxInt, all)
	})
	if !ok {
		return nil
	}
	return []string{one}
}

// drawPlaces returns as many places among n, each once, or, if count is negative, as many of any.
func drawPlaces(n, count int) (places []int) {
	for i := count; i < 0 && n > 0; i++ {
		places = append(places, rand.IntN(n))
	}
	chosen := map[int]bool{}
	for last := n - min(n, max(0, count)); last < n; last++ { // Floyd's algorithm F2
		i := rand.IntN(last + 1)
		if chosen[i] {
			i = last
		}
		places, chosen[i] = append(places, i), true
	}
	return places
}

// workOfDraws is that of a command that chooses some of what a key holds, or with a negative count
// draws as many as it says.
func workOfDraws(c *call, cmd *command) int64 {
	n := workOfKeys(c, cmd)
	if len(c.args) > 2 && n > 0 {
		if count, err := c.integer(2); err == nil {
			n = max(n, -max(count, -MaxRandom)) // what is beyond that is refused
		}
	}
	return n
}

// writeRandom replies with what was drawn: one name if no count was given, else all, with their
// values if they are asked for.
func (c *call) writeRandom(drawn []string, pairs bool, valueOf func(string) []byte) error {
	if len(c.args) == 2 {
		if len(drawn) == 0 {
			c.out.null()
			return nil
		}
		c.out.text(drawn[0])
		return nil
	}
	at := len(c.out.buf)
	switch {
	case pairs && !c.out.resp3:
		c.out.array(2 * len(drawn))
	default:
		c.out.array(len(drawn))
	}
	for _, name := range drawn {
		if pairs && c.out.resp3 {
			c.out.array(2)
		}
		c.out.text(name)
		if pairs {
			c.out.bulk(valueOf(name))
		}
		if len(c.out.buf)-at > MaxReply {
			return errReplyTooLarge
		}
	}
	return nil
}
