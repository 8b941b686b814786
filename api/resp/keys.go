package resp

import (
	"fmt"
	"strings"

	"github.com/peerd/peerd/crdt"
)

func runDel(c *call) error { return c.countEach(1, c.keys().Delete) }

func runExists(c *call) error { return c.countEach(1, c.keys().Exists) }

func runType(c *call) error {
	s, err := c.tx.Summary(c.arg(1))
	if err != nil {
		return err
	}
	c.out.status(typeName(s))
	return nil
}

// typeName returns what TYPE says. Of several types that replicas gave a key at once it is always
// the same one: the first that holds the most.
func typeName(s crdt.Summary) string {
	switch {
	case s.Holds(crdt.TypeMap):
		return "hash"
	case s.Holds(crdt.TypeSet):
		return "set"
	case s.Holds(crdt.TypeValue):
		return "string"
	case s.Holds(crdt.TypeFlag):
		return "flag"
	}
	return "none"
}

func runDBSize(c *call) error {
	n, err := c.tx.KeyCount()
	if err != nil {
		return err
	}
	c.out.integer(int64(n))
	return nil
}

// runFlush removes everything at once for every reader. ASYNC and SYNC make no difference: the disk is swept
// later in either case.
func runFlush(c *call) error {
	if len(c.args) > 2 || len(c.args) == 2 && !strings.EqualFold(c.arg(1), "ASYNC") &&
		!strings.EqualFold(c.arg(1), "SYNC") {
		return errSyntax
	}
	if _, err := c.keys().Clear(); err != nil {
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
	err = c.tx.Keys(globPrefix(pattern), "", func(key string, _ crdt.Summary) bool {
		if matchGlob(pattern, key) {
			c.out.text(key)
			n++
		}
		return len(c.out.buf)-at <= MaxReply
	})
	if err != nil {
		return err
	}
	c.out.arrayAt(at, n)
	return nil
}
