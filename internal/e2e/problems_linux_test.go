package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestProblemsOfTheNetworkAreNamed has what can be wrong between hosts happen to a few of them, one
// after the other, and each named where a person may look, and no longer once it is over.
func TestProblemsOfTheNetworkAreNamed(t *testing.T) {
	n := sites(t)
	program := binary(t)
	key := clusterKey(t, program)
	one := newDaemon(t, n, 0, program, "one", "--cluster-key", key)
	two := newDaemon(t, n, 1, program, "two", "--cluster-key", key, "--join", address(0))
	two.start()
	two.eventually("reaches nobody", two.has("no-host-reached", address(0)))
	one.start()
	two.eventually("is well", two.hasNone)

	must(t, n.hosts[1].ip("address", "flush", "dev", "eth0"))
	two.eventually("has lost its address", two.has("address-gone", address(1)+":7946"))
	must(t, n.hosts[1].ip("address", "add", address(1)+"/24", "dev", "eth0"))
	two.eventually("is well", two.hasNone)

	// A third tells others the address of the second.
	three := newDaemon(t, n, 2, program, "three", "--cluster-key", key, "--join", address(0), "--advertise", address(1))
	three.start()
	one.eventually("names both", one.has("same-address", "two", "three", address(1)+":7946"))
	three.stop()
	one.eventually("is well", one.hasNone)

	// A copy of the second, with its host key.
	twin := newDaemon(t, n, 2, program, "twin", "--join", address(0))
	must(t, os.MkdirAll(twin.dir, 0o700))
	for _, file := range []string{"host.key", "cluster.key"} {
		copyFile(t, filepath.Join(two.dir, file), filepath.Join(twin.dir, file))
	}
	twin.start()
	for _, d := range []*daemon{one, twin} { // the second sees nothing of it but that its links break
		d.eventually("names the twins", d.has("same-id"))
	}
	twin.stop()

	stranger := newDaemon(t, n, 3, program, "stranger", "--join", address(0), "--cluster-key", clusterKey(t, program))
	stranger.start()
	stranger.eventually("names the other key", stranger.has("other-key", address(0), "a host to join"))
	one.eventually("names the other key", one.has("other-key", "a host at "+address(3)+" wants to join"))
}
