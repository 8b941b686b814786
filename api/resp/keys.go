package resp

import (
	"fmt"
	"strings"

	"github.com/peerd/peerd/crdt"
)

func runDel(c *call) error { return c.countEach(1, c.tx.Remove) }

func runExists(c *call) error {
	return c.countEach(1, func(key string) (bool, error) { return c.tx.Has(key), nil })
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

func runDBSize(c *call) error {
	c.out.integer(int64(c.tx.Len()))
	return nil
}

// runFlush removes everything at once for every reader. ASYNC and SYNC make no difference: the disk is swept
// later in either case.
func runFlush(c *call) error {
	if len(c.args) > 2 || len(c.args) == 2 && !strings.EqualFold(c.arg(1), "ASYNC") &&
		!strings.EqualFold(c.arg(1), "SYNC") {
		return errSyntax
	}
	if _, err := c.tx.Clear(); err != nil {
		return err
	}
	c.out.status("OK")
	return nil
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
	at, n := len(c.out.buf), 0
	for key := range c.tx.Keys(globPrefix(pattern), "") {
		if matchGlob(pattern, key) {
			c.out.text(key)
			n++
		}
		if len(c.out.buf)-at > MaxReply {
			break
		}
	}
	c.out.arrayAt(at, n)
	return nil
}
