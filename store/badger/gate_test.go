package badger

import (
	"sync"
	"testing"
)

func TestAGateIsDrainedOnceTheLastCallerLeaves(t *testing.T) {
	drained := 0
	g := gate{drained: func() { drained++ }}
	for range 2 {
		if !g.enter() {
			t.Fatal("an open gate lets nobody in")
		}
	}
	if !g.shut() || g.shut() {
		t.Error("want only the first to shut the gate")
	}
	if g.enter() {
		t.Error("a shut gate lets somebody in")
	}
	g.leave()
	if drained != 0 {
		t.Error("drained with somebody inside")
	}
	g.leave()
	if g.enter() || drained != 1 {
		t.Errorf("drained %d times, want once", drained)
	}
}

func TestAGateThatManyPassIsDrainedOnce(t *testing.T) {
	for range 200 {
		drained := make(chan struct{}) // Closing it twice would panic.
		g := gate{drained: func() { close(drained) }}
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() {
				for g.enter() {
					g.leave()
				}
			})
		}
		g.shut()
		callers.Wait()
		<-drained
	}
}
