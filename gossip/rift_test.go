package gossip

import (
	"slices"
	"testing"

	"github.com/peerd/peerd/crdt"
)

// meetings returns whom a mesh was told to meet since the last call.
func meetings(m *Mesh) (all []NeighbourID) {
	for _, e := range m.Events() {
		if e.Kind == Meet {
			all = append(all, e.From)
		}
	}
	return all
}

// TestAForkedStoreHearsWhomToMeet has the store that forked three links away from two hosts that found
// different chains of its deltas at each other.
func TestAForkedStoreHearsWhomToMeet(t *testing.T) {
	w := newNet(t, 5)
	w.cores[3].forked, w.cores[3].strange = []crdt.ReplicaID{1}, true
	for i := range 4 {
		w.connect(i, i+1)
	}
	w.run()
	// Between 2 and 3 as well, which is no rift in truth, but all the same to this core.
	want := []NeighbourID{"2", "3", "4"}
	got := meetings(w.meshes[0])
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("the store is to meet %v, want %v", got, want)
	}
	for i, m := range w.meshes[1:] {
		if all := meetings(m); all != nil {
			t.Errorf("host %d, which did not fork, is to meet %v", i+1, all)
		}
	}
	told := w.sent[kindRift]
	w.tick(riftTicks / 2)
	if w.sent[kindRift] != told || meetings(w.meshes[0]) != nil {
		t.Error("it is told again before it is forgotten")
	}
	w.tick(riftTicks)
	w.meshes[3].Rebase()
	w.run()
	if meetings(w.meshes[0]) == nil {
		t.Error("it is not told again later")
	}
}

// TestAStoreThatWasAwayHearsOfTheRiftThatIsStillThere has the store that forked link to the others only when
// they have forgotten the rift between two of them.
func TestAStoreThatWasAwayHearsOfTheRiftThatIsStillThere(t *testing.T) {
	w := newNet(t, 4)
	w.cores[2].forked, w.cores[2].strange = []crdt.ReplicaID{1}, true
	w.connect(1, 2)
	w.connect(2, 3)
	w.run()
	w.tick(riftTicks + 10)
	w.connect(0, 1)
	w.run()
	if all := meetings(w.meshes[0]); all != nil {
		t.Fatalf("it is to meet %v, of which this test has it hear later", all)
	}
	w.tick(2 * riftAgain)
	if meetings(w.meshes[0]) == nil {
		t.Error("it never hears of the rift that is still there")
	}
}

// TestARiftThatIsGoneIsForgotten has a link break and open again for half an hour.
func TestARiftThatIsGoneIsForgotten(t *testing.T) {
	w := newNet(t, 4)
	w.cores[1].forked, w.cores[1].strange = []crdt.ReplicaID{1}, true
	w.connect(0, 1)
	w.connect(1, 3)
	w.run()
	w.cores[1].forked, w.cores[1].strange = nil, false
	w.tick(riftTicks / 2)
	w.connect(1, 2)
	w.run()
	for range 50 {
		w.tick(riftTicks/2 + 50)
		w.connect(1, 2)
		w.run()
	}
	for i, m := range w.meshes {
		if len(m.rifts) > 0 {
			t.Errorf("half an hour later host %d remembers %v; %d frames told of it", i, m.rifts, w.sent[kindRift])
		}
	}
}

func TestNobodyIsToldOfARiftOfABranchThatWasHealed(t *testing.T) {
	w := newNet(t, 3)
	w.connect(0, 1)
	w.run()
	w.deliver(0, id(1), encodeRift(newRift(9, "", "x"), riftTicks))
	w.deliver(0, id(1), encodeRift(newRift(8, "", "x"), riftTicks))
	w.deliver(0, id(1), encodeAbandoned([]Branch{{
		Replica: 9, Links: []ChainLink{{1, 2}}, Healed: crdt.VersionVector{10: 1},
	}}))
	w.connect(1, 2)
	w.run()
	if n := w.sent[kindRift]; n != 1 {
		t.Errorf("%d rifts are told of, want one: the other branch was healed", n)
	}
}

func TestNobodyHasARiftRememberedForMoreThanAMinute(t *testing.T) {
	w := newNet(t, 2)
	w.connect(0, 1)
	w.run()
	w.deliver(0, id(1), encodeRift(newRift(9, "", "x"), 1<<40))
	w.tick(riftTicks)
	if rifts := w.meshes[1].rifts; len(rifts) > 0 {
		t.Errorf("a minute later it remembers %v", rifts)
	}
}

func TestRiftsAreBounded(t *testing.T) {
	w := newNet(t, 3)
	w.connect(0, 1)
	w.connect(1, 2)
	w.run()
	for i := range 2 * maxRifts {
		w.deliver(0, id(1), encodeRift(newRift(crdt.ReplicaID(100+i), "", "x"), riftTicks))
	}
	w.run()
	if n := len(w.meshes[1].rifts); n != maxRifts {
		t.Errorf("%d rifts are remembered, want %d", n, maxRifts)
	}
	if n := w.sent[kindRift]; n != maxRifts {
		t.Errorf("%d are passed on", n)
	}
}
