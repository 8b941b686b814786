package gossip

import (
	"slices"

	"github.com/peerd/peerd/internal/delta"
)

// waiting is a delta that could not be applied when it came.
type waiting struct {
	from  NeighbourID
	delta *delta.Delta
}

// Limits of what waits.
const (
	maxWaiting      = 1024          // deltas
	maxWaitingBytes = delta.MaxSize // bytes of them
)

// wait keeps a delta until what it depends on is here. Without room it is dropped: ticks notice that
// it is missing.
func (m *Mesh) wait(from NeighbourID, d *delta.Delta) {
	if slices.ContainsFunc(m.waiting, func(w waiting) bool {
		return w.delta.Replica == d.Replica && w.delta.First == d.First
	}) {
		return
	}
	size := len(d.Encode())
	if len(m.waiting) < maxWaiting && m.waitBytes+size <= maxWaitingBytes {
		m.waiting = append(m.waiting, waiting{from, d})
		m.waitBytes += size
	}
}

// retry applies what waits, for as long as that makes progress. If apply has no more room it is gone on with when the
// neighbour's frame is, or whenever the next one comes.
func (m *Mesh) retry(n *neighbour, apply func(*delta.Delta) (Outcome, error)) error {
	var astray []waiting
	defer func() {
		for _, w := range astray {
			m.Estrange(w.from, w.delta.Replica)
		}
	}()
	for m.grown = false; m.looked < len(m.waiting); {
		w := m.waiting[0]
		outcome, err := apply(w.delta)
		if err != nil {
			return err
		}
		if outcome == Later {
			m.grown, n.retrying = true, true
			return nil
		}
		m.waiting[0] = waiting{}
		m.waiting = m.waiting[1:]
		if outcome == Early {
			m.waiting = append(m.waiting, w)
			m.looked++
			continue
		}
		switch outcome {
		case Applied:
			m.looked = 0
			m.arrived(w.from, w.delta)
		case Astray:
			astray = append(astray, w)
		}
		m.waitBytes -= len(w.delta.Encode())
	}
	m.looked = 0
	return nil
}

// forgetWaiting drops what came from a neighbour and waits.
func (m *Mesh) forgetWaiting(from NeighbourID) {
	m.looked = 0
	m.waiting = slices.DeleteFunc(m.waiting, func(w waiting) bool {
		if w.from == from {
			m.waitBytes -= len(w.delta.Encode())
		}
		return w.from == from
	})
}

// Waiting returns how many deltas wait for what they depend on.
func (m *Mesh) Waiting() int { return len(m.waiting) }
