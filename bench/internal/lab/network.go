package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Network is hosts on a bridge, each of them a network namespace, and the bridge one too:
//
//	host 0: 10.98.0.1 ── port0 ┐
//	host 1: 10.98.0.2 ── port1 ┼ bridge
//	…                          ┘
//
// Nothing of it is seen outside. It is gone with the section.
type Network struct {
	Hosts []*Host

	hub *namespace
}

// Host is a host of a network. What listens on its loopback is reached there alone.
type Host struct {
	*namespace

	IP  string // in the network
	lab *Lab
}

// MayIsolate reports why this machine cannot have a Network.
func (l *Lab) MayIsolate(ctx context.Context) error {
	if os.Getuid() != 0 {
		return errors.New("needs root, for network namespaces")
	}
	return errors.Join(l.Debian(ctx, "ip", "iproute2"), l.Debian(ctx, "nft", "nftables"))
}

// Network makes a network of some hosts.
func (l *Lab) Network(hosts int) (*Network, error) {
	n := &Network{}
	l.networks = append(l.networks, n)
	var err error
	if n.hub, err = newNamespace(); err != nil {
		return nil, err
	}
	err = errors.Join(n.hub.ip("link", "add", "bridge0", "type", "bridge"), n.hub.ip("link", "set", "bridge0", "up"))
	if err != nil {
		return nil, err
	}
	for i := range hosts {
		ns, err := newNamespace()
		if err != nil {
			return nil, err
		}
		h := &Host{ns, fmt.Sprint("10.98.0.", i+1), l}
		n.Hosts = append(n.Hosts, h)
		if err := n.plugIn(h, fmt.Sprint("port", i)); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// plugIn lays the cable from a host to the bridge.
func (n *Network) plugIn(h *Host, port string) error {
	return errors.Join(
		n.hub.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(h.thread)),
		n.hub.ip("link", "set", port, "master", "bridge0", "up"),
		h.ip("address", "add", h.IP+"/24", "dev", "eth0"),
		h.ip("link", "set", "eth0", "up"),
		h.ip("link", "set", "lo", "up"))
}

func (n *Network) close() {
	for _, h := range n.Hosts {
		close(h.work)
	}
	if n.hub != nil {
		close(n.hub.work)
	}
}

// Split has hosts drop what comes from those that are not in the same part, without a word, as a
// network does that is broken between them. Each host is in one part.
func (n *Network) Split(parts ...[]int) error {
	for i, mine := range parts {
		var others []string
		for j, theirs := range parts {
			for _, h := range theirs {
				if i != j {
					others = append(others, n.Hosts[h].IP)
				}
			}
		}
		for _, h := range mine {
			err := n.Hosts[h].nft(fmt.Sprintf("table ip cut {\nchain in {\ntype filter hook input priority 0\n"+
				"ip saddr { %s } drop\n}\n}\n", strings.Join(others, ", ")))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Heal ends what Split began.
func (n *Network) Heal() error {
	for _, h := range n.Hosts {
		if err := h.nft("delete table ip cut\n"); err != nil {
			return err
		}
	}
	return nil
}

// Start starts a process on the host. It ends with the section, if not before, and with this
// process.
func (h *Host) Start(name, program string, args ...string) (*Process, error) {
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // of the thread, which lasts as long as the section
	return h.lab.begin(name, cmd, func(cmd *exec.Cmd) error { return h.do(cmd.Start) })
}

// Dial connects from the host to an address of numbers.
func (h *Host) Dial(ctx context.Context, addr string) (conn net.Conn, err error) {
	err = h.do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
		return err
	})
	return conn, err
}

// nft runs a script of nft(8) on the host.
func (h *Host) nft(script string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	return h.run(cmd)
}

// namespace is a network namespace without a name, held by a thread of this process that is in it
// and does what is sent to it. It is gone when that thread and all processes in it are.
type namespace struct {
	work   chan func()
	thread int
}

func newNamespace() (*namespace, error) {
	ns := &namespace{work: make(chan func())}
	entered := make(chan error)
	go ns.hold(entered)
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("new network namespace: %w", err)
	}
	return ns, nil
}

// hold makes the namespace, says that it is there, and does what is sent to it.
func (ns *namespace) hold(entered chan<- error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
	ns.thread = syscall.Gettid()
	if ns.thread == syscall.Getpid() { // but for a process' first: another is taken while this goroutine has that
		inner := make(chan error)
		go ns.hold(inner)
		entered <- <-inner
		runtime.UnlockOSThread()
		return
	}
	err := syscall.Unshare(syscall.CLONE_NEWNET)
	entered <- err
	if err != nil {
		return
	}
	for work := range ns.work {
		work()
	}
}

// do does something in the namespace: sockets that it opens belong there, and processes that it
// starts. It must not leave that to other goroutines.
func (ns *namespace) do(what func() error) error {
	done := make(chan error, 1)
	ns.work <- func() { done <- what() }
	return <-done
}

func (ns *namespace) ip(args ...string) error { return ns.run(exec.Command("ip", args...)) }

func (ns *namespace) run(cmd *exec.Cmd) error {
	return ns.do(func() error {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
		}
		return nil
	})
}
