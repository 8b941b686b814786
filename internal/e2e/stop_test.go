package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

const (
	// stopTime is how long a process is stopped, in one measure of faults.
	stopTime = time.Minute
	// calm is for how long nobody's view of the members may change when all are back.
	calm = 5 * time.Second
	// writePause after each batch of a writer keeps what the stopped one misses small enough for it to
	// be fetched while the test waits.
	writePause = 100 * time.Millisecond
)

// stopLength is how long a process is stopped: ten minutes at most.
func stopLength() time.Duration {
	return max(3*time.Second, time.Duration(float64(stopTime)*min(*faults, 10)))
}

// TestAPeerThatIsStoppedForAMinuteHoldsNobodyUp stops the process of a peer as a whole, its clients'
// writes half done, and lets it go on: to itself no time has passed.
func TestAPeerThatIsStoppedForAMinuteHoldsNobodyUp(t *testing.T) {
	c := newCluster(t, openLoopback(t, hosts))
	_, seed := randomFaults(t)
	ws := newWriters(seed, c.peers...).slowly(writePause)
	ws.start()
	stopped, others := c.peers[0], c.peers[1:]
	awaitWrites(t, ws.all, 1000)
	length := stopLength()
	if err := stopped.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for time.Since(began) < length {
		for _, p := range others {
			awaitWrites(t, ws.of(p), 100)
		}
		wait(length / 20)
	}
	for _, p := range others {
		p.eventually("is linked to the one that runs", func() error {
			links, err := p.links()
			if err == nil && len(links) != 1 {
				err = fmt.Errorf("it is linked to %v", links)
			}
			return err
		})
	}
	if err := stopped.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	awaitWrites(t, ws.of(stopped), 100)
	ws.pause()
	for _, w := range ws.all {
		if w.last != nil {
			t.Errorf("writer %s of %s was cut off: %v", w.id, w.d.name, w.last)
		}
	}
	c.awaitAgreement(c.traffic(), c.peers...)
	ws.check(t, c.peers...)
	c.awaitLinks()
	c.awaitCalm()
	c.checkHealth()
	c.note("injected: stopped for %v; %d writes acknowledged", length, acknowledged(ws.all))
}

// awaitCalm waits until the peers have seen all others alive for some time without a break.
func (c *cluster) awaitCalm() {
	c.t.Helper()
	eventually(c.t, "nobody flaps", func() error {
		for _, p := range c.peers {
			s, err := p.status()
			if err != nil {
				return err
			}
			for _, m := range s.Members {
				if !m.Alive || !m.Linked || time.Since(m.Since) < calm {
					return fmt.Errorf("to %s, %s is alive: %v, linked: %v, since %v", p.name, m.Name,
						m.Alive, m.Linked, m.Since)
				}
			}
		}
		return nil
	})
}
