package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
)

// hosts is how many there are: three peers, and the stranger.
const hosts = 4

// network is what the daemons run on. Hosts are numbered from 0.
type network interface {
	// describe says what it is.
	describe() string
	// flags returns the flags for a daemon on the host, and addresses where it then listens.
	flags(host int) []string
	addresses(host int) addresses
	// start starts a command on the host.
	start(host int, cmd *exec.Cmd) error
	// dial opens a TCP connection from the host to an address.
	dial(host int, address string) (net.Conn, error)
	// cut separates the host from all others, without a word to either side; heal undoes it.
	cut(host int) error
	heal(host int) error
	// sent returns how many bytes hosts have sent to each other so far, with all headers; ok is
	// false if this network does not know.
	sent() (bytes uint64, ok bool)
	// received returns how many bytes have come to the host from others so far, counted as by sent.
	received(host int) (bytes uint64, ok bool)
}

type addresses struct{ gossip, resp, http string }

// openNetwork returns namespaces if they can be had, else loopback.
func openNetwork(t *testing.T) (n network, namespaced bool) {
	t.Helper()
	n, err := openNamespaces(t)
	if err == nil {
		return n, true
	}
	if os.Getenv("PEERD_E2E_NAMESPACES") == "require" {
		t.Fatalf("no network namespaces: %v", err)
	}
	t.Logf("no network namespaces (%v): using loopback", err)
	return openLoopback(t, hosts), false
}

// printMode prints what .ci/run looks for.
func printMode(namespaced bool) {
	mode := "loopback"
	if namespaced {
		mode = "namespaced"
	}
	fmt.Println("e2e: " + mode)
}
