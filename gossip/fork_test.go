package gossip

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// forkedNet has two hosts of which the first finds replica 9 different at the other. To find a
// chain, or compare it, takes them several steps.
func forkedNet(t *testing.T) *net {
	w := newNet(t, 2)
	w.cores[0].slow, w.cores[1].slow = 3, 3
	w.cores[0].seen[9], w.cores[1].seen[9] = 7, 8
	w.cores[0].forked = []crdt.ReplicaID{9}
	w.cores[1].unsure = true
	w.connect(0, 1)
	w.run()
	return w
}

func TestBothSidesOfAForkNameItAndExchangeNothing(t *testing.T) {
	w := forkedNet(t)
	clear(w.sent)
	w.cores[0].write(3)
	w.cores[1].write(5)
	w.cores[1].root = 1
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		w.tick(1)
		for _, m := range w.meshes {
			m.SendDigest(rng)
		}
		w.run()
	}
	for i, m := range w.meshes {
		if !m.Quarantined(id(1 - i)) {
			t.Errorf("host %d has the other not in quarantine", i)
		}
		forks := m.Forks()
		if len(forks) != 1 || forks[0].Replica != 9 || !slices.Equal(forks[0].There, []NeighbourID{id(1 - i)}) {
			t.Errorf("host %d says %+v", i, forks)
		}
		if forks[0].Parts != 3 {
			t.Errorf("host %d says that the chains part after dot %d, want 3", i, forks[0].Parts)
		}
		if !slices.Contains(m.Events(), Event{Forked, id(1 - i)}) {
			t.Errorf("host %d is not alarmed", i)
		}
	}
	if len(w.sent) > 0 || w.deltas > 0 {
		t.Errorf("frames were exchanged: %v", w.sent)
	}
}

// TestWhatComesFromAHostInQuarantineIsNotTaken sends what a neighbour may have sent before it heard of the fork.
func TestWhatComesFromAHostInQuarantineIsNotTaken(t *testing.T) {
	w := forkedNet(t)
	other := newFake(5)
	other.write(1)
	w.deliver(1, id(0), encodeDeltas(packed(other.log[0]), nil, nil))
	w.deliver(1, id(0), encodeHave(crdt.VersionVector{5: 9}, delta.Heads{5: 9}))
	w.deliver(1, id(0), encodeBehind())
	if w.deltas > 0 || w.cores[0].seen[5] > 0 {
		t.Error("deltas were taken")
	}
	if known, _ := w.meshes[0].Known(id(1)); known[5] > 0 {
		t.Error("news were taken")
	}
	if slices.Contains(w.meshes[0].Events(), Event{Behind, id(1)}) {
		t.Error("a repair is to be begun")
	}
}

// TestWhatWaitsOfAHostInQuarantineIsForgotten has a delta wait for another that comes later, from elsewhere.
func TestWhatWaitsOfAHostInQuarantineIsForgotten(t *testing.T) {
	w := newNet(t, 3)
	w.connectAll()
	w.run()
	other := newFake(5)
	other.write(2)
	w.deliver(1, id(0), encodeDeltas(packed(other.log[1]), nil, nil))
	w.deliver(2, id(0), encodeDeltas(packed(other.log[1]), nil, nil))
	if w.meshes[0].Waiting() != 1 {
		t.Fatal("it does not wait")
	}
	w.meshes[0].Estrange(id(1), 9)
	if w.meshes[0].Waiting() != 0 || w.meshes[0].waitBytes != 0 {
		t.Error("it still waits")
	}
}

func TestAHostThatWasEmptiedLeavesQuarantine(t *testing.T) {
	w := newNet(t, 2)
	w.cores[0].seen[9], w.cores[1].seen[9] = 7, 7
	w.cores[0].forked = []crdt.ReplicaID{9}
	w.connect(0, 1)
	w.run()
	w.cores[0].forked = nil
	w.cores[1] = newFake(6)
	w.meshes[1] = NewMesh(w.cores[1])
	w.connect(0, 1)
	w.run()
	if w.meshes[0].Quarantined(id(1)) || w.meshes[1].Quarantined(id(0)) {
		t.Error("it is still in quarantine")
	}
}

// TestAForkIsRememberedOverLinksAndToldAnew has the other side restart, and the log no longer reach to the fork.
func TestAForkIsRememberedOverLinksAndToldAnew(t *testing.T) {
	w := newNet(t, 2)
	w.cores[0].seen[9], w.cores[1].seen[9] = 7, 8
	w.connect(0, 1)
	w.run()
	w.cores[0].forked = []crdt.ReplicaID{9}
	w.meshes[0].Rebase()
	w.run()
	w.cores[0].forked = nil
	w.cores[0].unsure, w.cores[1].unsure = true, true
	w.meshes[1] = NewMesh(w.cores[1])
	w.connect(0, 1)
	w.run()
	for i, m := range w.meshes {
		if !m.Quarantined(id(1 - i)) {
			t.Errorf("host %d has forgotten the fork", i)
		}
	}
}

// TestADeltaThatGoesAstrayIsAFork has apply find that a delta does not continue its replica's chain.
func TestADeltaThatGoesAstrayIsAFork(t *testing.T) {
	w := newNet(t, 2)
	w.connect(0, 1)
	w.run()
	other := newFake(5)
	other.write(2)
	frame := encodeDeltas(packed(other.log[0], other.log[1]), nil, nil)
	applied := 0
	err := w.meshes[0].Receive(id(1), frame, func(*delta.Delta) (Outcome, error) {
		applied++
		return Astray, nil
	})
	if err != nil || applied != 1 || !w.meshes[0].Quarantined(id(1)) {
		t.Errorf("%d deltas were tried (%v), quarantine %v", applied, err, w.meshes[0].Quarantined(id(1)))
	}
}

func TestWhatIsRememberedOfForksIsBounded(t *testing.T) {
	w := forkedNet(t)
	var many []crdt.ReplicaID
	for r := range crdt.ReplicaID(3 * maxForked) {
		many = append(many, r+10)
	}
	w.deliver(0, id(1), encodeReplicas(kindFork, many))
	if n := len(w.meshes[1].Forks()); n > maxForked {
		t.Errorf("%d forks are remembered of one host", n)
	}
}

// TestQuarantineEndsOnceTheChainsAreKnownNotToFork has the two learn of it from elsewhere, while their link stays.
func TestQuarantineEndsOnceTheChainsAreKnownNotToFork(t *testing.T) {
	w := forkedNet(t)
	w.tick(2 * reviewEvery)
	w.run()
	if !w.meshes[0].Quarantined(id(1)) || !w.meshes[1].Quarantined(id(0)) {
		t.Fatal("it ended, and nothing is known")
	}
	w.cores[0].seen[9], w.cores[0].forked = 8, nil
	w.cores[1].unsure = false
	w.cores[0].write(1)
	w.cores[1].write(1)
	w.tick(reviewEvery)
	w.run()
	for i, m := range w.meshes {
		if m.Quarantined(id(1 - i)) {
			t.Errorf("host %d has the other still in quarantine", i)
		}
		if n := w.cores[i].seen[crdt.ReplicaID(2-i)]; n != 1 {
			t.Errorf("host %d has %d writes of the other, want 1", i, n)
		}
	}
}

// TestWhoWritesUnderAnIDStaysApartFromItsOwnLaterWrites has a host with dots of the other's id that the other never
// issued: its chain is the beginning, and will not be for long.
func TestWhoWritesUnderAnIDStaysApartFromItsOwnLaterWrites(t *testing.T) {
	w := newNet(t, 2)
	w.cores[0].seen[1], w.cores[1].seen[1] = 7, 8
	w.cores[0].unsure = true
	w.connect(0, 1)
	w.run()
	w.meshes[0].Estrange(id(1), 1)
	w.run()
	w.tick(reviewEvery)
	w.run()
	for i, m := range w.meshes {
		if !m.Quarantined(id(1 - i)) {
			t.Errorf("host %d has the other not in quarantine", i)
		}
	}
}

// TestWhatQuarantineDropsLeavesTheWindow has one side learn first that the quarantine is over, and send much.
func TestWhatQuarantineDropsLeavesTheWindow(t *testing.T) {
	w := forkedNet(t)
	dropped := encodeDeltas(make([]byte, window), nil, nil)
	w.deliver(0, id(1), dropped)
	w.meshes[0].neighbours[id(1)].onTheWay += window
	w.cores[0].seen[9], w.cores[0].forked, w.cores[1].unsure = 8, nil, false
	w.cores[0].write(1)
	w.tick(reviewEvery)
	if n := w.cores[1].seen[1]; n != 1 {
		t.Errorf("%d deltas arrived after the quarantine, want 1", n)
	}
}
