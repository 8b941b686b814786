package engine

import "testing"

func TestWhatAGroupLeavesIsZero(t *testing.T) {
	var c chunks[int]
	for round := range 3 {
		seen := map[*int]bool{}
		for range 5*chunkSize + round {
			v := c.next()
			if *v != 0 || seen[v] {
				t.Fatalf("round %d: %d was handed out before", round, *v)
			}
			seen[v], *v = true, 1
		}
		n := 0
		if c.each(func(*int) { n++ }); n != len(seen) {
			t.Fatalf("round %d: %d of %d", round, n, len(seen))
		}
		c.reset()
	}
}
