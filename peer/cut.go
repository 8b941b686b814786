package peer

import (
	"sync"
)

// Cut is fault injection: it blocks all gossip and all streams between the peer that is opened with it
// and some others, while everything keeps running, as a broken network would. Give both ends of a cut
// link a Cut that names the other. The zero Cut blocks nothing.
type Cut struct {
	mu      sync.Mutex
	blocked map[string]bool
	changed bell
}

// Block blocks exactly the peers with the given gossip addresses ("ip:port"): those blocked before and
// not named are healed.
func (c *Cut) Block(gossip ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = make(map[string]bool, len(gossip))
	for _, addr := range gossip {
		c.blocked[addr] = true
	}
	c.changed.ring()
}

// blocks reports whether the peer with this gossip address is blocked. A nil Cut blocks nothing.
func (c *Cut) blocks(gossip string) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocked[gossip]
}

// wait returns a channel that is closed at the next change.
func (c *Cut) wait() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.changed.wait()
}
