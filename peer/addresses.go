package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/beat"
)

// This file alone decides where a host listens and under which address others are told to reach
// it, for membership and data alike:
//
//   - "0.0.0.0" is all its IPv4 addresses, "[::]" all of both families, a name its address on this host.
//   - Others are told Config.Advertise, or else the one address that is listened on. Where that is all of them,
//     they are told the one from which this host reaches those that it is to join or knows, or else the internet;
//     and with neither of these routes, one of an interface. A bridge is none of those: docker0 has the same
//     address on every host.
//
// Asking for a route sends nothing: see routeFrom.

// lookUpTimeout bounds how long names take to look up, all together.
const lookUpTimeout = 2 * time.Second

// maxRoutes is how many hosts to join, and known ones, are asked for a route to.
const maxRoutes = 16

// addresses are where a host listens and what it tells of that.
type addresses struct {
	gossip, p2p netip.AddrPort // listened on; port 0 takes a free one, which p2p then has
	advertise   string         // Config.Advertise
}

// addressesOf looks up where a configuration that is valid has the host listen.
func addressesOf(ctx context.Context, c *Config) (a addresses, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	a.advertise = c.Advertise
	if a.gossip, err = listenAt(ctx, c.Gossip); err != nil {
		return a, fmt.Errorf("gossip: %w", err)
	}
	if a.p2p, err = listenAt(ctx, c.P2P); err != nil {
		return a, fmt.Errorf("p2p: %w", err)
	}
	return a, nil
}

// listenAt returns what "host:port" stands for on this host.
func listenAt(ctx context.Context, hostPort string) (netip.AddrPort, error) {
	host, port, err := splitListen(hostPort)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ip, err = ownAddressOf(ctx, host)
	}
	if ip == netip.IPv6Unspecified() && !hasIPv6() {
		ip = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(ip.Unmap(), port), err
}

// splitListen returns the parts of an address to listen on, as far as they can be told without
// the network.
func splitListen(hostPort string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(hostPort)
	if err != nil || host == "" {
		return "", 0, errors.New("must be ip:port or name:port")
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, errors.New("must be ip:port or name:port")
	}
	return host, uint16(number), checkHost(host)
}

// checkHost returns an error unless host is an IP address that means the same on every host, or
// may be a name.
func checkHost(host string) error { return members.CheckHost(net.JoinHostPort(host, "1")) }

// checkAdvertised returns an error unless Config.Advertise may be host.
func checkAdvertised(host string) error {
	ip, err := netip.ParseAddr(host)
	if err == nil && ip.IsUnspecified() || err != nil && strings.Contains(host, ":") {
		return errors.New("must be the IP or name at which others reach this host, without a port")
	}
	return checkHost(host)
}

// hasIPv6 reports whether the system has IPv6 at all.
func hasIPv6() bool {
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6zero})
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// ownAddressOf returns which of a name's addresses is one of this host, rather one that others
// reach than loopback.
func ownAddressOf(ctx context.Context, name string) (netip.Addr, error) {
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return netip.Addr{}, err
	}
	var best netip.Addr
	for _, ip := range found {
		ip = ip.Unmap()
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
		if err != nil {
			continue
		}
		_ = conn.Close()
		if !best.IsValid() || best.IsLoopback() {
			best = ip
		}
	}
	if !best.IsValid() {
		return best, fmt.Errorf("%s stands for %v, and none of these is an address of this host", name, found)
	}
	return best, nil
}

// own returns the address that others are told. reach are hosts to join or known, as "host:port"
// or "host", the most telling first; was is what they were told before, which stays as long as it
// is as good as another. sure is false if a name could not be looked up.
func (a *addresses) own(ctx context.Context, reach []string, was netip.Addr) (ip netip.Addr, sure bool) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	sure = true
	if a.advertise != "" {
		found, err := lookUp(ctx, a.advertise)
		if err == nil {
			return first(found, was), true
		}
		if was.IsValid() {
			return was, false // a name that is not known for a moment moves no host
		}
		sure = false
	}
	only4 := a.gossip.Addr().Is4() || a.p2p.Addr().Is4()
	for _, at := range []netip.AddrPort{a.gossip, a.p2p} {
		if !at.Addr().IsUnspecified() {
			return at.Addr(), sure
		}
	}
	routes, found := routesTo(ctx, reach)
	for _, equal := range [][]netip.Addr{routes, {routeFrom(anywhere4), routeFrom(anywhere6)}, onInterfaces()} {
		equal = slices.DeleteFunc(equal, func(ip netip.Addr) bool { return !ip.IsGlobalUnicast() || only4 && !ip.Is4() })
		if len(equal) > 0 {
			return first(equal, was), sure && found
		}
	}
	return loopback, sure && found
}

// first returns was if it is one of some addresses of equal worth, or the first that is more than
// loopback.
func first(equal []netip.Addr, was netip.Addr) netip.Addr {
	if slices.Contains(equal, was) {
		return was
	}
	return equal[max(0, slices.IndexFunc(equal, func(ip netip.Addr) bool { return !ip.IsLoopback() }))]
}

// loopback is told by a host without a network. It is still a whole store for itself.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// changes reports whether what own returns may become another.
func (a *addresses) changes() bool {
	_, err := netip.ParseAddr(a.advertise)
	return err != nil && (a.advertise != "" || a.gossip.Addr().IsUnspecified() && a.p2p.Addr().IsUnspecified())
}

// tell returns the addresses that others are told, given the host's own: of membership, and of
// data, best first. What listens on one address is told with that, unless Config says another.
func (a *addresses) tell(own netip.Addr) (netip.AddrPort, []ma.Multiaddr) {
	of := func(at netip.AddrPort) netip.Addr {
		if a.advertise == "" && !at.Addr().IsUnspecified() {
			return at.Addr()
		}
		return own
	}
	tcp, quic := multiaddrs(netip.AddrPortFrom(of(a.p2p), a.p2p.Port()))
	return netip.AddrPortFrom(of(a.gossip), a.gossip.Port()), []ma.Multiaddr{tcp, quic}
}

// listening returns what the host is to listen on for data: over TCP, and over QUIC.
func (a *addresses) listening() (tcp, quic []ma.Multiaddr) {
	all := []netip.AddrPort{a.p2p}
	if a.p2p.Addr() == netip.IPv6Unspecified() {
		all = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), a.p2p.Port()), a.p2p}
	}
	for _, at := range all {
		t, q := multiaddrs(at)
		tcp, quic = append(tcp, t), append(quic, q)
	}
	return tcp, quic
}

// multiaddrs returns what libp2p calls an address: over TCP, and over UDP with QUIC.
func multiaddrs(at netip.AddrPort) (tcp, quic ma.Multiaddr) {
	family := "ip6"
	if at.Addr().Is4() {
		family = "ip4"
	}
	base := "/" + family + "/" + at.Addr().String()
	return ma.StringCast(fmt.Sprintf("%s/tcp/%d", base, at.Port())),
		ma.StringCast(fmt.Sprintf("%s/udp/%d/quic-v1", base, at.Port()))
}

// lookUp returns the addresses of an IP address or a name.
func lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found, err
}

// Addresses far away, one of each family, to which the default route leads.
var (
	anywhere4 = netip.MustParseAddr("198.51.100.1")
	anywhere6 = netip.MustParseAddr("2000::1")
)

// routeFrom returns the address from which this host sends to another, or none without a route.
// It asks the system by connecting a UDP socket, which sends nothing.
func routeFrom(to netip.Addr) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, members.DefaultPort)))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// routesTo returns the addresses from which this host sends to others, and whether all their
// names were found.
func routesTo(ctx context.Context, reach []string) (routes []netip.Addr, found bool) {
	found = true
	for _, hostPort := range reach[:min(len(reach), maxRoutes)] {
		host, _, err := members.SplitHost(hostPort)
		if err != nil {
			continue
		}
		ips, err := lookUp(ctx, host)
		found = found && err == nil
		for _, ip := range ips {
			routes = append(routes, routeFrom(ip))
		}
	}
	return routes, found
}

// onInterfaces returns the addresses of interfaces that are up and no bridges: IPv4 first,
// private ones before others.
func onInterfaces() (out []netip.Addr) {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || isBridge(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, p.Addr().Unmap())
			}
		}
	}
	rank := func(a netip.Addr) int {
		switch {
		case a.Is4() && a.IsPrivate():
			return 0
		case a.Is4():
			return 1
		case a.IsPrivate():
			return 2
		}
		return 3
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return rank(a) - rank(b) })
	return out
}

// The system's addresses and default routes are looked at every addressEvery, and when they have
// changed, or a name could not be looked up, what others are told is worked out again; without
// that every namesEvery, for names that stand for another address by now.
const (
	addressEvery = 2 * time.Second
	namesEvery   = time.Minute
)

// followAddress has others told another address when the host has another. One that has none for
// a while keeps what it had: nobody would reach loopback either.
func (n *network) followAddress() {
	var looked time.Time
	var was string
	for {
		if now := hostAddresses(); now != was || time.Since(looked) > namesEvery {
			own, sure := n.places.own(n.ctx, n.reach(), n.told)
			if own != n.told && !own.IsLoopback() && n.ctx.Err() == nil {
				n.readvertise(own)
			}
			looked, was = time.Now(), now
			if !sure {
				was = ""
			}
		}
		select {
		case <-beat.After(addressEvery):
		case <-n.ctx.Done():
			return
		}
	}
}

// readvertise has others told that this host is at another address.
func (n *network) readvertise(own netip.Addr) {
	n.p.log.Warn("the address of this host has changed, and others are told", "from", n.told, "to", own)
	n.told = own
	if err := n.members.Move(n.advertise(own)); err != nil {
		n.p.log.Error("cannot tell the other members the address of this host", "error", err)
	}
}

// hostAddresses describes what addresses.own goes by.
func hostAddresses() string {
	addrs, _ := net.InterfaceAddrs()
	return fmt.Sprint(addrs, routeFrom(anywhere4), routeFrom(anywhere6))
}
