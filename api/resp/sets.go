package resp

import "github.com/peerd/peerd/crdt"

// set returns the set of the key that the first argument names.
func (c *call) set() crdt.Set { return c.tx.Set(c.arg(1)) }

// setError returns errWrongType if that key exists without a set.
func (c *call) setError() error { return c.typeError(c.arg(1), crdt.TypeSet) }

func runSAdd(c *call) error {
	if err := c.setError(); err != nil {
		return err
	}
	return c.countEach(2, c.set().Add)
}

func runSRem(c *call) error {
	if err := c.setError(); err != nil {
		return err
	}
	return c.countEach(2, c.set().Remove)
}

// countEach calls fn with each argument from the given one on and replies how often it returned
// true.
func (c *call) countEach(first int, fn func(string) (bool, error)) error {
	n := 0
	for i := first; i < len(c.args); i++ {
		counts, err := fn(c.arg(i))
		if err != nil {
			return err
		}
		if counts {
			n++
		}
	}
	c.out.integer(int64(n))
	return nil
}

// Commands that only read look at the key's type last, and only if they have found nothing.

func runSIsMember(c *call) error {
	if c.set().Has(c.arg(2)) {
		c.out.integer(1)
		return nil
	}
	if err := c.setError(); err != nil {
		return err
	}
	c.out.integer(0)
	return nil
}

func runSCard(c *call) error {
	n := c.set().Len()
	if n == 0 {
		if err := c.setError(); err != nil {
			return err
		}
	}
	c.out.integer(int64(n))
	return nil
}

func runSMembers(c *call) error {
	at, n := len(c.out.buf), 0
	for elem := range c.set().All() {
		c.out.text(elem)
		if n++; len(c.out.buf)-at > MaxReply {
			break
		}
	}
	if n == 0 {
		if err := c.setError(); err != nil {
			return err
		}
	}
	c.out.setAt(at, n)
	return nil
}
