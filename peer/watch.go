package peer

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/peerd/peerd/crdt"
)

// maxPending is how many changed keys a watch holds for its reader. Beyond it the reader is told that it
// missed some.
const maxPending = 4096

// Watch tells which keys change, by local transactions and by what arrives from other peers. It never
// slows writers: keys that change again before they are read are told once.
type Watch struct {
	prefix string
	from   *watchers
	ready  chan struct{} // of capacity 1: there may be something to read

	mu      sync.Mutex
	pending map[string]struct{}
	missed  bool
	closed  bool
}

// Change is what happened since the last one.
type Change struct {
	// Keys have changed, or may have: in order, each once.
	Keys []string
	// Missed says that there were more than a watch holds, or that a repair changed an unknown number
	// of keys: any key under the prefix may have changed.
	Missed bool
}

// watchers is all watches of a peer.
type watchers struct {
	mu     sync.Mutex
	open   map[*Watch]struct{}
	closed bool
}

// Watch begins to watch the keys that begin with prefix. It must be closed. What is committed after it
// returned is told.
func (p *Peer) Watch(prefix string) *Watch {
	w := &Watch{
		prefix: prefix, from: &p.watchers,
		ready: make(chan struct{}, 1), pending: map[string]struct{}{},
	}
	ws := &p.watchers
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.open == nil {
		ws.open = map[*Watch]struct{}{}
	}
	w.closed = ws.closed
	if !ws.closed {
		ws.open[w] = struct{}{}
	}
	return w
}

// Next waits for a change. It returns ctx's error, or ErrClosed after Close of the watch or the peer.
func (w *Watch) Next(ctx context.Context) (Change, error) {
	for {
		if c, ok, err := w.take(); ok || err != nil {
			return c, err
		}
		select {
		case <-w.ready:
		case <-ctx.Done():
			return Change{}, ctx.Err()
		}
	}
}

func (w *Watch) take() (c Change, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 && !w.missed {
		if w.closed {
			err = ErrClosed
		}
		return c, false, err
	}
	for key := range w.pending {
		c.Keys = append(c.Keys, key)
	}
	slices.Sort(c.Keys)
	c.Missed = w.missed
	clear(w.pending)
	w.missed = false
	return c, true, nil
}

// Close ends the watch. A second Close does nothing.
func (w *Watch) Close() {
	w.from.mu.Lock()
	delete(w.from.open, w)
	w.from.mu.Unlock()
	w.end()
}

func (w *Watch) end() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *Watch) add(key string) {
	if !strings.HasPrefix(key, w.prefix) {
		return
	}
	w.mu.Lock()
	if len(w.pending) < maxPending {
		w.pending[key] = struct{}{}
	} else if _, told := w.pending[key]; !told {
		w.missed = true
	}
	w.mu.Unlock()
	w.signal()
}

// notify tells the watches what deltas changed.
func (ws *watchers) notify(deltas []*crdt.Delta) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.open) == 0 {
		return
	}
	for _, d := range deltas {
		last := ""
		for i := range d.Ops {
			key := d.Ops[i].Address.Key()
			if i > 0 && key == last {
				continue
			}
			last = key
			for w := range ws.open {
				w.add(key)
			}
		}
	}
}

// notifyAll tells the watches that anything may have changed.
func (ws *watchers) notifyAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.open {
		w.mu.Lock()
		w.missed = true
		w.mu.Unlock()
		w.signal()
	}
}

func (ws *watchers) closeAll() {
	ws.mu.Lock()
	open := ws.open
	ws.open, ws.closed = nil, true
	ws.mu.Unlock()
	for w := range open {
		w.end()
	}
}
