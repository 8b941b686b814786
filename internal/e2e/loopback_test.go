package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// loopback is a network of ports on 127.0.0.1, cut by the daemons themselves: each reads from a
// file whose traffic it blocks.
type loopback struct {
	dir   string
	at    []addresses
	p2p   []string
	isCut []bool
}

var _ network = (*loopback)(nil)

func openLoopback(t *testing.T, hosts int) *loopback {
	n := &loopback{dir: t.TempDir(), isCut: make([]bool, hosts)}
	for range hosts {
		n.at = append(n.at, addresses{gossip: freePort(t), resp: freePort(t), http: freePort(t)})
		n.p2p = append(n.p2p, freePort(t))
	}
	if err := n.write(); err != nil {
		t.Fatal(err)
	}
	return n
}

var given sync.Map // addresses that freePort returned

// freePort returns an address with a port that nobody has, TCP or UDP, below those that the system
// gives to outgoing connections: a daemon that is killed must find its own again. None is given
// twice, nor by another process before the test ends: each claims the port of a second loopback
// address.
func freePort(t *testing.T) string {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		claim, err := net.Listen("tcp", strings.Replace(address, "127.0.0.1", "127.0.0.2", 1))
		switch {
		case err == nil:
			t.Cleanup(func() { claim.Close() })
		case errors.Is(err, syscall.EADDRINUSE):
			continue
		} // else the system has no such address
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		tcp.Close()
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		udp.Close()
		return address
	}
	t.Fatal("no free port")
	return ""
}

// TestAPortThatIsGivenIsNotGivenByAnotherProcess while nobody listens to it yet.
func TestAPortThatIsGivenIsNotGivenByAnotherProcess(t *testing.T) {
	claim, err := net.Listen("tcp", strings.Replace(freePort(t), "127.0.0.1", "127.0.0.2", 1))
	if err == nil {
		claim.Close()
		t.Error("another process could claim it as well")
	}
}

func (n *loopback) describe() string { return "loopback, cut by fault injection" }

func (n *loopback) flags(host int) []string {
	return []string{
		"--gossip", n.at[host].gossip, "--p2p", n.p2p[host],
		"--resp", n.at[host].resp, "--http", n.at[host].http, "--cut-file", n.file(host),
	}
}

func (n *loopback) addresses(host int) addresses { return n.at[host] }

func (n *loopback) start(_ int, cmd *exec.Cmd) error { return cmd.Start() }

func (n *loopback) dial(_ int, address string) (net.Conn, error) {
	return net.DialTimeout("tcp", address, patience())
}

func (n *loopback) cut(host int) error {
	n.isCut[host] = true
	return n.write()
}

func (n *loopback) heal(host int) error {
	n.isCut[host] = false
	return n.write()
}

func (n *loopback) file(host int) string {
	return filepath.Join(n.dir, fmt.Sprintf("blocked-%d", host))
}

// write tells each host whom it does not reach. Files are replaced whole, as they are read at any
// moment.
func (n *loopback) write() error {
	for i := range n.at {
		var blocked strings.Builder
		for j := range n.at {
			if i != j && (n.isCut[i] || n.isCut[j]) {
				fmt.Fprintln(&blocked, n.at[j].gossip)
			}
		}
		next := n.file(i) + ".next"
		if err := os.WriteFile(next, []byte(blocked.String()), 0o600); err != nil {
			return err
		}
		if err := os.Rename(next, n.file(i)); err != nil {
			return err
		}
	}
	return nil
}

func (n *loopback) sent() (uint64, bool) { return 0, false }

func (n *loopback) received(int) (uint64, bool) { return 0, false }
