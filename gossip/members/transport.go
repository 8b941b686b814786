package members

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxStreams bounds the gossip streams taken at once; more are closed at once.
	maxStreams = 128
	// maxStreamBytes bounds what those streams together have sent. memberlist holds it in memory, up
	// to 20 MB of each, before it checks the key. What all of MaxKnown members tell of themselves is
	// 3 MB. A stream that goes beyond is closed.
	maxStreamBytes = 64 << 20
	// bindAttempts is how often a free port is looked for that is free for both UDP and TCP.
	bindAttempts = 10
)

var errBlocked = errors.New("blocked by fault injection")

// transport is memberlist's own over UDP and TCP, or Config.Transport, but for three things: it
// drops what Config.Blocked names, it advertises the address that the metadata is signed for, and
// when it is shut down its streams end at once instead of at their timeouts.
type transport struct {
	memberlist.NodeAwareTransport
	bound     netip.AddrPort
	advertise netip.AddrPort
	lent      bool                   // it is not to be shut down: another goes on with it
	blocked   func(addr string) bool // never nil
	packets   chan *memberlist.Packet
	streams   chan net.Conn
	dial      func(addr string, timeout time.Duration) (net.Conn, error)
	stop      func()          // ends the forwarding goroutines and dials under way
	stopped   <-chan struct{} // closed by stop
	forwards  sync.WaitGroup

	mu     sync.Mutex
	open   map[*trackedConn]struct{} // nil when shut down
	inward int                       // how many of them others dialed
	taken  int                       // bytes that those have sent
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen opens the sockets. Its errors are one line and say what to do.
func listen(cfg *Config, lines *log.Logger) (*transport, error) {
	bind := netip.MustParseAddrPort(cfg.Bind)
	if cfg.Transport != nil {
		t := newTransport(cfg.Transport, cfg.Blocked)
		t.dial = cfg.Transport.DialTimeout
		t.bound, t.advertise = bind, advertised(cfg.Advertise, bind)
		return t, nil
	}
	sockets := &memberlist.NetTransportConfig{
		BindAddrs: []string{bind.Addr().String()},
		BindPort:  int(bind.Port()),
		Logger:    lines,
	}
	var inner *memberlist.NetTransport
	var err error
	for range bindAttempts {
		inner, err = memberlist.NewNetTransport(sockets)
		if err == nil || bind.Port() != 0 {
			break
		}
	}
	if err != nil {
		return nil, explainBind(cfg.Bind, err)
	}
	t := newTransport(inner, cfg.Blocked)
	t.bound = netip.AddrPortFrom(bind.Addr(), uint16(inner.GetAutoBindPort()))
	t.advertise = advertised(cfg.Advertise, t.bound)
	return t, nil
}

// successor returns a transport over the same sockets that advertises another address. The
// receiver, which is to be shut down before, leaves them open.
func (t *transport) successor(cfg *Config, advertise string) *transport {
	next := newTransport(t.NodeAwareTransport, cfg.Blocked)
	if cfg.Transport != nil {
		next.dial = cfg.Transport.DialTimeout
	}
	next.bound, next.advertise = t.bound, advertised(advertise, t.bound)
	return next
}

// explainBind says what to do about an address that cannot be had. memberlist does not wrap the
// system's error, so its text is all there is.
func explainBind(bind string, err error) error {
	says := func(e syscall.Errno) bool { return strings.Contains(err.Error(), e.Error()) }
	switch {
	case says(syscall.EADDRINUSE):
		return fmt.Errorf("gossip address %s is in use: "+
			"stop the process that listens there, or choose another port", bind)
	case says(syscall.EADDRNOTAVAIL):
		return fmt.Errorf("gossip address %s is not an address of this host: "+
			"choose one that is, or 0.0.0.0", bind)
	}
	return fmt.Errorf("gossip address %s: %w", bind, err)
}

func newTransport(
	inner memberlist.NodeAwareTransport, blocked func(string) bool,
) *transport {
	if blocked == nil {
		blocked = func(string) bool { return false }
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &transport{
		NodeAwareTransport: inner,
		blocked:            blocked,
		packets:            make(chan *memberlist.Packet),
		streams:            make(chan net.Conn),
		stop:               cancel,
		stopped:            ctx.Done(),
		open:               map[*trackedConn]struct{}{},
	}
	t.dial = func(addr string, timeout time.Duration) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	t.forwards.Go(t.forwardPackets)
	t.forwards.Go(t.forwardStreams)
	return t
}

func (t *transport) forwardPackets() {
	for {
		select {
		case p := <-t.NodeAwareTransport.PacketCh():
			if t.blocked(p.From.String()) {
				continue
			}
			select {
			case t.packets <- p:
			case <-t.stopped:
			}
		case <-t.stopped:
			return
		}
	}
}

func (t *transport) forwardStreams() {
	for {
		select {
		case conn := <-t.NodeAwareTransport.StreamCh():
			tracked, ok := t.track(conn, true)
			if !ok {
				continue
			}
			select {
			case t.streams <- tracked:
			case <-t.stopped:
				_ = tracked.Close()
			}
		case <-t.stopped:
			return
		}
	}
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport. A blocked packet is lost without an
// error, as on a network.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	if t.blocked(addr.Addr) {
		return time.Now(), nil
	}
	return t.NodeAwareTransport.WriteToAddress(b, addr)
}

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *transport) DialAddressTimeout(
	addr memberlist.Address, timeout time.Duration,
) (net.Conn, error) {
	if t.blocked(addr.Addr) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errBlocked}
	}
	conn, err := t.dial(addr.Addr, timeout)
	if err != nil {
		return nil, err
	}
	tracked, ok := t.track(conn, false)
	if !ok {
		return nil, net.ErrClosed
	}
	return tracked, nil
}

func (t *transport) Shutdown() error {
	t.stop()
	t.forwards.Wait()
	var err error
	if !t.lent {
		closed := make(chan struct{})
		t.forwards.Go(func() { t.drain(closed) })
		err = t.NodeAwareTransport.Shutdown()
		close(closed)
		t.forwards.Wait()
	}
	t.mu.Lock()
	open := t.open
	t.open = nil
	t.mu.Unlock()
	for conn := range open {
		_ = conn.Conn.Close()
	}
	return err
}

// drain drops what the sockets' readers still hand over: they do not end before they have.
func (t *transport) drain(closed <-chan struct{}) {
	for {
		select {
		case <-t.NodeAwareTransport.PacketCh():
		case conn := <-t.NodeAwareTransport.StreamCh():
			_ = conn.Close()
		case <-closed:
			return
		}
	}
}

// trackedConn is a stream that Shutdown closes.
type trackedConn struct {
	net.Conn
	owner  *transport
	inward bool
	taken  int // bytes, of one that others dialed; guarded by owner.mu
}

var errStreamBytes = errors.New("gossip streams have sent too much at once")

func (c *trackedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.inward {
		return n, err
	}
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	if _, ok := c.owner.open[c]; !ok {
		return n, err
	}
	c.taken += n
	c.owner.taken += n
	if c.owner.taken > maxStreamBytes {
		return 0, errStreamBytes
	}
	return n, err
}

// track takes a stream over, or closes it if there are too many or after Shutdown.
func (t *transport) track(conn net.Conn, inward bool) (*trackedConn, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil || inward && t.inward >= maxStreams {
		_ = conn.Close()
		return nil, false
	}
	c := &trackedConn{Conn: conn, owner: t, inward: inward}
	t.open[c] = struct{}{}
	if inward {
		t.inward++
	}
	return c, true
}

func (c *trackedConn) Close() error {
	c.owner.mu.Lock()
	if _, ok := c.owner.open[c]; ok {
		delete(c.owner.open, c)
		if c.inward {
			c.owner.inward--
			c.owner.taken -= c.taken
		}
	}
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// advertised returns the address that others reach this host at, given Config.Advertise and what
// is listened on.
func advertised(advertise string, bound netip.AddrPort) netip.AddrPort {
	told, err := netip.ParseAddrPort(advertise)
	if err != nil { // it is empty
		told = bound
	}
	if told.Port() == 0 {
		told = netip.AddrPortFrom(told.Addr(), bound.Port())
	}
	return netip.AddrPortFrom(told.Addr().Unmap(), told.Port())
}
