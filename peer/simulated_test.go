package peer

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/marcopolo/simnet"

	"github.com/peerd/peerd/gossip/members"
)

// inBubble runs a test in a synctest bubble. What is in pools afterwards is thrown away, which the second collection does:
// updates have channels, and those of a bubble nobody else may use.
func inBubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	defer func() {
		runtime.GC()
		runtime.GC()
	}()
	synctest.Test(t, fn)
}

// universe is a network in memory, for whole peers in one synctest bubble: QUIC's packets go over simnet,
// membership's packets and streams over channels. Every host has an address of its own.
type universe struct {
	latency time.Duration // one way
	net     *simnet.Simnet
	end     chan struct{}

	mu   sync.Mutex
	rng  *rand.Rand
	loss func(from, to netip.Addr) float64 // the share of packets that is lost
	at   map[netip.AddrPort]*gossipPort
}

// Ports of every host.
const (
	gossipNumber = 7946
	p2pNumber    = 7947
)

// linkBits is how much a host sends or receives in a second.
const linkBits = 100 * simnet.Mibps

func newUniverse(latency time.Duration, seed uint64) *universe {
	u := &universe{
		latency: latency,
		net:     &simnet.Simnet{LatencyFunc: simnet.StaticLatency(latency)},
		end:     make(chan struct{}),
		rng:     rand.New(rand.NewPCG(seed, 0)),
		loss:    func(from, to netip.Addr) float64 { return 0 },
		at:      map[netip.AddrPort]*gossipPort{},
	}
	u.net.Start()
	return u
}

// close ends the network, after the hosts on it.
func (u *universe) close() {
	close(u.end)
	u.net.Close()
}

// lose sets which packets are lost from now on.
func (u *universe) lose(loss func(from, to netip.Addr) float64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.loss = loss
}

// loses draws whether a packet is lost.
func (u *universe) loses(from, to netip.Addr) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	share := u.loss(from, to)
	return share > 0 && u.rng.Float64() < share
}

// hostIP is the address of the n-th host.
func hostIP(n int) netip.Addr {
	ip, _ := netip.AddrFromSlice(simnet.IntToPublicIPv4(n).To4())
	return ip
}

// host returns the configuration that puts a peer on the network as its n-th host.
func (u *universe) host(n int, cfg Config) Config {
	ip := hostIP(n)
	cfg.Gossip = netip.AddrPortFrom(ip, gossipNumber).String()
	cfg.P2P = netip.AddrPortFrom(ip, p2pNumber).String()
	port := &gossipPort{
		u: u, addr: netip.AddrPortFrom(ip, gossipNumber), closed: make(chan struct{}),
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
	}
	u.mu.Lock()
	u.at[port.addr] = port
	u.mu.Unlock()
	cfg.simulated = &simulated{
		packets: u.quic(),
		members: func(m *members.Config) { m.Transport = port },
	}
	return cfg
}

// fixedSource is the host's only address.
type fixedSource struct{ ip net.IP }

func (s *fixedSource) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return s.ip, nil
}

// lossyConn is a host's UDP socket.
type lossyConn struct {
	*simnet.SimConn
	u    *universe
	from netip.Addr
}

func (c lossyConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.u.loses(c.from, to.(*net.UDPAddr).AddrPort().Addr().Unmap()) {
		return len(b), nil
	}
	return c.SimConn.WriteTo(b, to)
}

// quic has QUIC go over simnet.
func (u *universe) quic() []quicreuse.Option {
	source := &fixedSource{}
	bits := simnet.LinkSettings{BitsPerSecond: linkBits}
	link := simnet.NodeBiDiLinkSettings{Downlink: bits, Uplink: bits}
	return []quicreuse.Option{
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) {
			return source, nil
		}),
		quicreuse.OverrideListenUDP(func(_ string, addr *net.UDPAddr) (net.PacketConn, error) {
			source.ip = addr.IP
			conn := u.net.NewEndpoint(addr, link)
			return lossyConn{conn, u, addr.AddrPort().Addr().Unmap()}, nil
		}),
	}
}

// gossipPort is a host's transport for membership.
type gossipPort struct {
	u       *universe
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

var _ memberlist.NodeAwareTransport = (*gossipPort)(nil)

func (p *gossipPort) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return p.addr.Addr().AsSlice(), int(p.addr.Port()), nil
}

func (p *gossipPort) PacketCh() <-chan *memberlist.Packet { return p.packets }
func (p *gossipPort) StreamCh() <-chan net.Conn           { return p.streams }

func (p *gossipPort) Shutdown() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *gossipPort) WriteTo(b []byte, addr string) (time.Time, error) {
	return p.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (p *gossipPort) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	to := p.u.port(addr.Addr)
	if to == nil || p.u.loses(p.addr.Addr(), to.addr.Addr()) {
		return time.Now(), nil
	}
	b = bytes.Clone(b)
	time.AfterFunc(p.u.latency, func() {
		select {
		case to.packets <- &memberlist.Packet{Buf: b, From: net.UDPAddrFromAddrPort(p.addr),
			Timestamp: time.Now()}:
		case <-to.closed:
		case <-p.u.end:
		}
	})
	return time.Now(), nil
}

// port returns whoever listens at an address, nil if nobody does.
func (u *universe) port(addr string) *gossipPort {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.at[at]
}

func (p *gossipPort) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return p.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (p *gossipPort) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (
	net.Conn, error) {
	end := time.After(timeout)
	to := p.u.port(addr.Addr)
	for wait := time.Second; ; wait *= 2 { // as TCP sends its SYN again
		if to != nil && !p.u.loses(p.addr.Addr(), to.addr.Addr()) &&
			!p.u.loses(to.addr.Addr(), p.addr.Addr()) {
			break
		}
		select {
		case <-time.After(wait):
		case <-end:
			return nil, fmt.Errorf("dial %s: %w", addr.Addr, os.ErrDeadlineExceeded)
		}
	}
	<-time.After(2 * p.u.latency)
	near, far := p.u.stream(p.addr, to.addr)
	select {
	case to.streams <- far:
		return near, nil
	case <-to.closed:
	case <-end:
	}
	return nil, fmt.Errorf("dial %s: nobody listens", addr.Addr)
}

// stream returns the two ends of a stream.
func (u *universe) stream(a, b netip.AddrPort) (near, far net.Conn) {
	there, back := newPipe(), newPipe()
	return &streamEnd{u: u, self: a, other: b, in: back, out: there},
		&streamEnd{u: u, self: b, other: a, in: there, out: back}
}

// pipe is one direction of a stream.
type pipe struct {
	pieces chan piece
	once   sync.Once
	closed chan struct{} // its reader has closed it
}

type piece struct {
	due  time.Time
	data []byte // nil at the end
}

// pipePieces is how many writes are under way before more wait.
const pipePieces = 1024

func newPipe() *pipe {
	return &pipe{pieces: make(chan piece, pipePieces), closed: make(chan struct{})}
}

// streamEnd is one end of a stream. What is lost comes later, unless all is lost.
type streamEnd struct {
	u           *universe
	self, other netip.AddrPort
	in, out     *pipe
	rest        []byte

	mu       sync.Mutex
	deadline time.Time
}

func (s *streamEnd) Write(b []byte) (int, error) {
	due, arrives := time.Now().Add(s.u.latency), false
	for again := 200 * time.Millisecond; again < time.Minute && !arrives; again *= 2 {
		if arrives = !s.u.loses(s.self.Addr(), s.other.Addr()); !arrives {
			due = due.Add(again)
		}
	}
	if !arrives {
		return len(b), nil
	}
	return len(b), s.send(piece{due, bytes.Clone(b)})
}

func (s *streamEnd) send(p piece) error {
	select {
	case s.out.pieces <- p:
		return nil
	case <-s.out.closed:
		return io.ErrClosedPipe
	}
}

func (s *streamEnd) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		s.mu.Lock()
		deadline := s.deadline
		s.mu.Unlock()
		var late <-chan time.Time
		if !deadline.IsZero() {
			late = time.After(time.Until(deadline))
		}
		select {
		case p := <-s.in.pieces:
			<-time.After(time.Until(p.due))
			if p.data == nil {
				s.in.pieces <- p
				return 0, io.EOF
			}
			s.rest = p.data
		case <-s.in.closed:
			return 0, net.ErrClosed
		case <-late:
			return 0, os.ErrDeadlineExceeded
		}
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *streamEnd) Close() error {
	s.in.once.Do(func() {
		close(s.in.closed)
		select {
		case s.out.pieces <- piece{due: time.Now().Add(s.u.latency)}:
		default: // full: the other side ends at its deadline
		}
	})
	return nil
}

func (s *streamEnd) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return nil
}

func (s *streamEnd) SetReadDeadline(t time.Time) error { return s.SetDeadline(t) }
func (s *streamEnd) SetWriteDeadline(time.Time) error  { return nil }
func (s *streamEnd) LocalAddr() net.Addr               { return net.TCPAddrFromAddrPort(s.self) }
func (s *streamEnd) RemoteAddr() net.Addr              { return net.TCPAddrFromAddrPort(s.other) }
