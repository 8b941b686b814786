package e2e

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	faults = flag.Float64("faults", 0, "how many faults to inject: 1 is 20 kills, 4 power losses, "+
		"100 damaged files and a minute of SIGSTOP, 10 ten times that; by default a few of each")
	faultSeed = flag.Uint64("faultseed", 0, "draw faults and writes from this seed; 0 draws one")
)

// injected returns how many faults of a kind are to be injected, where one measure is so many.
func injected(measure int) int { return max(2, int(float64(measure)**faults)) }

// randomFaults returns the source of a test's faults, and prints its seed. The moments at which real
// processes are hit are not replayed by it, only what is done to them.
func randomFaults(t *testing.T) (*rand.Rand, uint64) {
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d; to draw the same again: go test -v ./internal/e2e -run %s -faults %v -faultseed %d",
		seed, t.Name(), *faults, seed)
	return rand.New(rand.NewPCG(seed, 1)), seed
}

// wait waits for a moment that nothing else tells.
func wait(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}
