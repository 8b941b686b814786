package e2e

import (
	"testing"
	"time"
)

// Of the kills, in one measure of faults.
const (
	kills = 20
	// A peer lives for at most so long until it is killed: some do not get to serve.
	longestLife = 1500 * time.Millisecond
	// killPause after each batch of a writer keeps the time short that it takes all to agree in the end.
	killPause = 5 * time.Millisecond
)

// TestKillsAtRandomMomentsLoseNothing kills one peer after another while clients write to all of
// them. Each time its clients read back from it, at once, all that was acknowledged to them.
func TestKillsAtRandomMomentsLoseNothing(t *testing.T) {
	c := newCluster(t, openLoopback(t, hosts))
	rng, seed := randomFaults(t)
	ws := newWriters(seed, c.peers...).slowly(killPause)
	ws.start()
	for range injected(kills) {
		p := c.peers[rng.IntN(len(c.peers))]
		wait(time.Duration(rng.Int64N(int64(longestLife))))
		p.kill()
		p.launch()
	}
	for _, p := range c.peers {
		awaitWrites(t, ws.of(p), 100)
	}
	ws.pause()
	c.awaitAgreement(c.traffic(), c.peers...)
	ws.check(t, c.peers...)
	c.checkHealth()
	c.note("injected: %d kills; %d writes acknowledged", injected(kills), acknowledged(ws.all))
	for _, p := range c.peers {
		p.stop()
	}
}
