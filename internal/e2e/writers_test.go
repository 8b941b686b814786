package e2e

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// writersEach is how many write to each peer at once.
const writersEach = 3

// writers write to all peers of a cluster at once.
type writers struct {
	all     []*writer
	stop    chan struct{}
	running sync.WaitGroup
}

func newWriters(seed uint64, peers ...*daemon) *writers {
	ws := &writers{}
	for _, p := range peers {
		for i := range writersEach {
			ws.all = append(ws.all, newWriter(p, fmt.Sprintf("%s-%d", p.name, i), seed+uint64(len(ws.all))))
		}
	}
	return ws
}

// slowly has each writer rest after each batch.
func (ws *writers) slowly(pause time.Duration) *writers {
	for _, w := range ws.all {
		w.pause = pause
	}
	return ws
}

func (ws *writers) start() {
	ws.stop = make(chan struct{})
	for _, w := range ws.all {
		ws.running.Go(func() { w.run(ws.stop) })
	}
}

// pause has the writers end what they have begun, and waits for that.
func (ws *writers) pause() {
	close(ws.stop)
	ws.running.Wait()
}

// of returns those that write to a peer.
func (ws *writers) of(d *daemon) (its []*writer) {
	for _, w := range ws.all {
		if w.d == d {
			its = append(its, w)
		}
	}
	return its
}

func acknowledged(ws []*writer) (sum int64) {
	for _, w := range ws {
		sum += w.acknowledged.Load()
	}
	return sum
}

// check fails the test unless the peers show all that was acknowledged to the writers, which must
// be paused, and the same of what was not.
func (ws *writers) check(t *testing.T, peers ...*daemon) {
	t.Helper()
	for _, p := range peers {
		c, err := p.connect()
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		for _, w := range ws.all {
			s, err := w.read(c)
			if err != nil {
				t.Fatalf("read from %s: %v", p.name, err)
			}
			w.compare(t, p, s)
			w.settle(s)
		}
		if err := ws.checkKeys(c); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

// checkKeys returns an error if there is a key that no writer has.
func (ws *writers) checkKeys(c *client) error {
	keys, err := c.keys()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, w := range ws.all {
		known[w.counterKey()], known[w.pairKey()] = true, true
		for i := range w.sets {
			known[w.setKey(i)] = true
		}
		for i := range w.registers {
			known[w.registerKey(i)] = true
		}
	}
	for _, key := range keys {
		if !known[key] {
			err = errors.Join(err, fmt.Errorf("key %.200q is nobody's", key))
		}
	}
	return err
}

// awaitWrites waits until so many more writes were acknowledged to some writers.
func awaitWrites(t *testing.T, ws []*writer, more int64) {
	t.Helper()
	before := acknowledged(ws)
	eventually(t, "writes are acknowledged", func() error {
		n := acknowledged(ws) - before
		if n < more {
			return fmt.Errorf("%d of %d", n, more)
		}
		return nil
	})
}
