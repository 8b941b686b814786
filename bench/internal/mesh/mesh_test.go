package mesh

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestAWriteReachesAllOnceOverFewLinks(t *testing.T) {
	for _, c := range []struct {
		peers, links, hops int
	}{{3, 16, 1}, {100, 16, 3}} {
		s := Simulation{Peers: c.peers, Links: c.links, Latency: time.Millisecond, Writes: 10, Warm: 10, Seed: 1}
		r, err := s.Run()
		if err != nil {
			t.Fatal(err)
		}
		if most := slices.Max(r.Hops); most > c.hops || r.Copies < 1 || r.Copies > 1.05 || len(r.All) != 10 {
			t.Errorf("%+v: %d links, %v copies: %+v", c, most, r.Copies, r)
		}
	}
}

func TestLossDelaysAndASeedReplays(t *testing.T) {
	s := Simulation{Peers: 50, Links: 16, Latency: time.Millisecond, Writes: 10, Warm: 10, Seed: 1}
	clean, err := s.Run()
	if err != nil {
		t.Fatal(err)
	}
	s.Loss = 0.3
	lossy, err := s.Run()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Run(); err != nil || !reflect.DeepEqual(lossy, again) {
		t.Errorf("a seed gave %+v and then %+v (%v)", lossy, again, err)
	}
	if slices.Max(lossy.All) <= slices.Max(clean.All) {
		t.Errorf("all have it after %v, with loss after %v", clean.All, lossy.All)
	}
}
