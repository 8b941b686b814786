package peer

import (
	"context"
	"testing"
	"time"

	"github.com/peerd/peerd/gossip"
)

// said counts the frames that all peers have sent: beats and what is about spaces in general, and what is of one.
func (c *simulatedCluster) said() (beats, others uint64) {
	for _, p := range c.peers {
		beats += p.net.own.sent[gossip.Vectors].frames.Load()
		for _, s := range p.held() {
			for layer := range s.counters.sent {
				others += s.counters.sent[layer].frames.Load()
			}
		}
	}
	return beats, others
}

func TestAnIdleClusterSaysNoMoreThanThatItIsThere(t *testing.T) {
	const hosts, seconds = 3, 120
	simulate(t, hosts, Config{}, func(c *simulatedCluster) {
		if err := c.peers[0].Update(context.Background(), func(tx *Tx) error { return tx.Flag("on").Set(true) }); err != nil {
			t.Fatal(err)
		}
		c.within(time.Minute, "all have it", c.converged)
		<-time.After(2 * time.Minute)
		beats, others := c.said()
		<-time.After(seconds * time.Second)
		beatsNow, othersNow := c.said()
		const each = seconds * hosts * (hosts - 1)
		if n := beatsNow - beats; n < each*2/3 || n > each*11/10 {
			t.Errorf("%d beats in %d s, of %d hosts", n, seconds, hosts)
		}
		// A digest of each of two spaces at each host in half a minute.
		if n := othersNow - others; n > 2*hosts*(seconds/30+1) {
			t.Errorf("%d frames of spaces in %d s, of %d hosts", n, seconds, hosts)
		}
	})
}
