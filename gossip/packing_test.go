package gossip

import (
	"bytes"
	"testing"

	"github.com/peerd/peerd/internal/delta"
)

// TestAPackingThatIsKeptIsWhatANewOneWouldBe for links that get the same, a part of it, more and other deltas,
// in turn. What is the same is not packed again.
func TestAPackingThatIsKeptIsWhatANewOneWouldBe(t *testing.T) {
	core := newFake(1)
	core.write(40)
	log := core.log
	var kept packing
	for i, deltas := range [][]*delta.Delta{
		log[:3], log[:3], log[:2], log[:5], {log[0], log[4]}, log[2:4], {log[2], log[2], log[3]}, log, log[1:], log[:1], log[:1],
	} {
		before, same := kept.Bytes(), true
		for n, d := range deltas {
			same = same && kept.has(n, d)
			if !kept.has(n, d) {
				kept.add(n, d)
			}
		}
		same = same && len(deltas) == len(kept.deltas)
		var want delta.Packer
		for _, d := range deltas {
			want.Add(d)
		}
		if size := kept.size(len(deltas)); !bytes.Equal(kept.Bytes(), want.Bytes()) || size != len(want.Bytes()) {
			t.Errorf("packing %d has %d bytes that differ from a new one's %d", i, size, len(want.Bytes()))
		}
		if kept.Cost() != want.Cost() {
			t.Errorf("packing %d costs %d, want %d", i, kept.Cost(), want.Cost())
		}
		if same != (i == 1 || i == 10) || same && &before[0] != &kept.Bytes()[0] {
			t.Errorf("packing %d: the same as before: %v", i, same)
		}
	}
	for kept.Cost() <= keptCost {
		kept.add(len(kept.deltas), log[0])
	}
	if kept.keep(); len(kept.deltas) > 0 || kept.Cost() > 0 {
		t.Error("what is much is kept")
	}
}
