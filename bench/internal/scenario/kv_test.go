package scenario

import (
	"slices"
	"testing"

	"github.com/peerd/peerd/bench/internal/report"
)

// The report compares one peer with all others. A cluster is compared with each rival here, in the same
// round, whichever was measured first, and never with peerd itself.
func TestAClusterOfThreePeersIsComparedWithEachRivalInTheSameRound(t *testing.T) {
	b := &bench{Scenario: &report.Scenario{}}
	s := newClusterSides(b, "GET -P 1")
	for _, m := range []struct {
		round  int
		system string
		rate   float64
	}{
		{0, "peerd", 100}, {0, "redis", 200}, {0, "valkey", 50}, {0, threePeers, 100},
		{1, threePeers, 30}, {1, "peerd", 10}, {1, "redis", 10}, {1, "valkey", 15},
		{2, "redis", 0}, {2, threePeers, 7}, // of nothing there is no quotient
	} {
		b.Round(m.round+1, 3)
		s.more(m.round, m.system, m.rate)
	}
	want := map[string][]float64{
		"GET -P 1, 3 peers divided by redis":  {0.5, 3},
		"GET -P 1, 3 peers divided by valkey": {2, 2},
	}
	for _, r := range b.Rows {
		if len(r.Of) != 1 || r.Of[0].System != threePeers || r.Less || !slices.Equal(r.Of[0].Rounds[:2], want[r.What]) {
			t.Errorf("%s is %v", r.What, r.Of[0].Rounds)
		}
		delete(want, r.What)
	}
	if len(want) > 0 {
		t.Errorf("there is no %v", want)
	}
}

func TestKVMeasuresAllThatRedisBenchmarkIsToBeComparedWith(t *testing.T) {
	for _, name := range []string{"GET", "SET", "INCR", "SADD", "HSET", "ZADD", "LPUSH", "RPOP", "LRANGE of 100", "MSET",
		"SPOP", "EVAL of a rate limiter"} {
		if !slices.ContainsFunc(redisTests, func(r redisTest) bool { return r.name == name }) {
			t.Errorf("there is no %s", name)
		}
	}
	for _, name := range quickTests {
		if !slices.ContainsFunc(redisTests, func(r redisTest) bool { return r.name == name }) {
			t.Errorf("there is no %s, which --quick is to measure", name)
		}
	}
}
