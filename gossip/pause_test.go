package gossip

import "testing"

func TestAPausedMeshTakesNoDeltasAndGetsThemAllAfterwards(t *testing.T) {
	const writes = 3 * window / 64 // several windows of deltas
	w := newNet(t, 2)
	w.connect(0, 1)
	w.run()
	w.meshes[1].Pause(true)
	w.cores[0].write(writes)
	for range 2 * askEvery {
		w.meshes[0].Tick(false)
		w.meshes[1].Tick(true)
		w.run()
	}
	if n := len(w.cores[1].log); n != 0 || w.deltas != 0 {
		t.Errorf("%d deltas were taken", w.deltas)
	}
	if sent, most := w.sent[kindDeltas], window/frameSize+1; sent == 0 || sent > most {
		t.Errorf("%d frames of deltas were sent to it, want 1 to %d", sent, most)
	}
	w.cores[1].write(1) // what it sends is taken
	w.run()
	if w.cores[0].seen[2] != 1 {
		t.Error("it does not send any more")
	}
	w.meshes[1].Pause(false)
	w.tick(2 * askEvery)
	w.mustAgree()
	if w.deltas != writes+1 {
		t.Errorf("%d deltas were taken, want %d", w.deltas, writes+1)
	}
}
