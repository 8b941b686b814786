package gossip

import "testing"

// send moves one frame of deltas, which must be due.
func (w *net) send(from, to int) (deliver func()) {
	w.t.Helper()
	data, err := w.meshes[from].Next(id(to))
	if err != nil || data == nil || kind(data[0]) != kindDeltas {
		w.t.Fatalf("%d has no deltas for %d: %x, %v", from, to, data, err)
	}
	return func() { w.deliver(from, id(to), data) }
}

func TestALinkIsKeptThatComesFirstWhileAnotherIsAskedToStop(t *testing.T) {
	w := newNet(t, 5) // 4 is reached from 0 through 1, and then 2 or 3
	for _, link := range [][2]int{{0, 1}, {1, 2}, {1, 3}, {2, 4}, {3, 4}} {
		w.connect(link[0], link[1])
	}
	w.run()
	var late []func()
	for range 2 {
		w.cores[0].write(1)
		w.send(0, 1)()
		w.send(1, 2)()
		w.send(1, 3)()
		late = append(late, w.send(2, 4), w.send(3, 4))
	}
	for _, i := range []int{0, 1, 3, 2} { // the second delta comes from the other side first
		late[i]()
	}
	w.run()
	w.deltas = 0
	w.cores[0].write(1)
	w.run() // without a tick
	w.mustAgree()
	if w.deltas != 4 {
		t.Errorf("%d copies were sent to 4 others", w.deltas)
	}
}

func TestTheFirstWriteComesFromOneOfThoseWhoAreLinkedToItsWriter(t *testing.T) {
	w := newNet(t, 5) // 4 is reached from 0 through 1, 2 or 3
	for i := 1; i < 4; i++ {
		w.connect(0, i)
		w.connect(i, 4)
	}
	w.run()
	w.cores[0].write(1)
	w.run()
	w.mustAgree()
	if w.deltas != 4 {
		t.Errorf("%d copies were sent to 4 others", w.deltas)
	}
}

func TestADeltaThatAHelloHadSentAgainStopsNobody(t *testing.T) {
	w := newNet(t, 3)
	w.connect(0, 1)
	w.connect(1, 2)
	w.run()
	w.cores[0].write(1)
	w.send(0, 1)()
	late := w.send(1, 2)
	w.meshes[2].neighbours[id(1)].hello = true // as a graft for something else does
	hello, _ := w.meshes[2].Next(id(1))
	w.deliver(2, id(1), hello)
	late()
	w.run()
	w.cores[0].write(1)
	w.run()
	w.mustAgree()
}

func TestNobodyIsSentItsOwnDeltas(t *testing.T) {
	w := newNet(t, 2)
	w.connect(0, 1)
	w.run()
	w.cores[0].write(1)
	w.cores[1].take(w.cores[0].log[0]) // on another way
	if data, err := w.meshes[1].Next(id(0)); data != nil || err != nil {
		t.Errorf("sent %x, %v", data, err)
	}
}

func TestDeltasThatWaitGoTogether(t *testing.T) {
	const writes = 10
	w := newNet(t, 3)
	w.connect(0, 1)
	w.connect(1, 2)
	w.run()
	w.meshes[0].Hold()
	w.meshes[1].Hold()
	w.cores[0].write(writes)
	w.tick(2 * tellAlone)
	if w.sent[kindDeltas] != 0 {
		t.Fatalf("%d frames of deltas were sent", w.sent[kindDeltas])
	}
	w.cores[1].write(1)
	w.meshes[0].Release()
	w.run()
	if n := w.sent[kindDeltas]; n != 2 { // what is passed on does not wait, and takes along what does
		t.Errorf("%d frames of deltas were sent on, want one on each link", n)
	}
	if c := w.cores[2]; c.seen[1] != writes || c.seen[2] != 1 {
		t.Errorf("the last has %v", c.seen)
	}
	w.meshes[1].Release()
	w.run()
	w.mustAgree()
}
