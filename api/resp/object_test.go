package resp

import (
	"fmt"
	"strconv"
	"testing"
)

// TestMemoryUsageGrowsWithWhatAKeyHolds and is near to it, from a few samples or from all.
func TestMemoryUsageGrowsWithWhatAKeyHolds(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	const n, long = 500, 100
	for i := range n {
		p.ask(fmt.Sprintf("SADD s %0*d", long, i))
		p.ask(fmt.Sprintf("HSET h %d %0*d", i, long, i))
	}
	p.ask(fmt.Sprintf("SET text %0*d", n*long, 1))
	for _, key := range []string{"s", "h", "text"} {
		for _, samples := range []string{"", " SAMPLES 0", " SAMPLES 1"} {
			got, err := strconv.Atoi(p.ask("MEMORY USAGE " + key + samples)[1:])
			if err != nil || got < n*long || got > 2*n*long {
				t.Errorf("MEMORY USAGE %s%s is %d, %v, of %d bytes", key, samples, got, err, n*long)
			}
		}
	}
	p.expect("OBJECT ENCODING s", `"cells"`)
	p.expect("OBJECT ENCODING h", `"cells"`)
	p.expect("OBJECT IDLETIME s", "-ERR idle time is not tracked: nothing is evicted, so nothing keeps when a key was used")
}
