package resp

import "github.com/peerd/peerd/crdt"

// set returns the set of the key that the first argument names, and whether it exists.
func (c *call) set() (crdt.Set, bool, error) {
	key := c.arg(1)
	ok, err := c.holds(key, crdt.TypeSet)
	return c.keys().Set(key), ok, err
}

func runSAdd(c *call) error {
	set, _, err := c.set()
	if err != nil {
		return err
	}
	return c.countEach(2, set.Add)
}

func runSRem(c *call) error {
	set, _, err := c.set()
	if err != nil {
		return err
	}
	return c.countEach(2, set.Remove)
}

// countEach calls fn with each argument from the given one on and replies how often it returned
// true.
func (c *call) countEach(first int, fn func(string) (bool, error)) error {
	n := 0
	for i := first; i < len(c.args); i++ {
		changed, err := fn(c.arg(i))
		if err != nil {
			return err
		}
		if changed {
			n++
		}
	}
	c.out.integer(int64(n))
	return nil
}

func runSIsMember(c *call) error {
	set, _, err := c.set()
	if err != nil {
		return err
	}
	return c.countEach(2, set.Contains)
}

func runSCard(c *call) error {
	set, _, err := c.set()
	if err != nil {
		return err
	}
	n, err := set.Len()
	if err != nil {
		return err
	}
	c.out.integer(int64(n))
	return nil
}

func runSMembers(c *call) error {
	set, _, err := c.set()
	if err != nil {
		return err
	}
	at, n := len(c.out.buf), 0
	err = set.Range(func(elem string) bool {
		c.out.text(elem)
		n++
		return len(c.out.buf)-at <= MaxReply
	})
	if err != nil {
		return err
	}
	c.out.setAt(at, n)
	return nil
}
