package engine

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed of the driver alone")
	seedsFlag = flag.Uint64("seeds", 60, "how many seeds of the driver to run")
)

func configOf(seed uint64) worldConfig {
	return worldConfig{
		hosts:   2 + int(seed%3),
		steps:   300 + int(seed%5)*150,
		crashes: seed%2 == 0,
		maxLog:  []int64{1 << 30, 20_000, 2_000}[seed%3],
		sync:    seed%7 == 0,
		bases:   seed%4 < 2,
		shared:  seed/3%4 == 1,

		derivedBytes: []int{0, 40}[seed/2%2], // so that derived records take several of the log
		ordered:      seed%5 == 3 || seed%7 == 4,
		stepWork:     []int{0, 100, 1000}[seed/2%3], // so that sweeps and frames take several
		maxDirty:     []int64{0, 3000, 0, 0, 20_000}[seed%5],
	}
}

// TestReplicasConvergeWhateverHappens runs engines through random writes, losses, crashes, restarts, cut
// logs and repairs. At every point each must hold exactly what its context stands for; in the end
// all must agree.
func TestReplicasConvergeWhateverHappens(t *testing.T) {
	total := map[string]int{}
	for seed := uint64(1); seed <= *seedsFlag; seed++ {
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("replay: go test ./internal/engine -run TestReplicasConverge -seed %d", seed)
				}
			}()
			trace, done := runWorld(t, seed, configOf(seed))
			for what, n := range done {
				total[what] += n
			}
			if seed%10 == 0 {
				if again, _ := runWorld(t, seed, configOf(seed)); again != trace {
					t.Fatal("the same seed ran differently the second time")
				}
			}
		})
		if !ok || *seedFlag != 0 {
			break
		}
	}
	for _, what := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%s: %d", what, total[what])
	}
	if *seedFlag == 0 && *seedsFlag >= 60 && !t.Failed() {
		for _, what := range []string{"repair", "repair aborted", "crashes", "is killed", "closes", "is restored",
			"bases said", "left out"} {
			if total[what] == 0 {
				t.Errorf("no run did this: %s", what)
			}
		}
	}
}
