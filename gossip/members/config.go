package members

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// DefaultPort is the gossip port, UDP and TCP, of a host to join whose address names none.
const DefaultPort = 7946

// Limits of a Config. Validate refuses what is beyond.
const (
	MaxID       = 128 // bytes of an id
	MaxP2P      = 16  // addresses
	MaxP2PBytes = 128 // bytes of one address
	MaxJoin     = 256 // hosts to join
	MaxSpaces   = 32  // spaces, of a host that does not hold all
)

// Preset is a set of intervals and timeouts.
type Preset int

const (
	// LAN is for hosts of one network or region: a crash is seen within 10 s, and every 10 to 15
	// s 8 absent hosts are tried again, half of them of those configured and those last seen.
	LAN Preset = iota
	// Fast is for tests and demonstrations on one machine: some ten times faster, and too nervous
	// for a real network.
	Fast
)

// Config says who this host is, where it listens, and whom it looks for. Open copies it.
type Config struct {
	// ID is the peer id, which other members know this one by. It must be what IDOf says.
	ID string
	// IDOf derives a peer id from a public key. It must be pure; it is called under locks.
	IDOf func(ed25519.PublicKey) (string, error)
	// PrivateKey signs what this host tells about itself.
	PrivateKey ed25519.PrivateKey
	// Label is a name for people, as the host's name. Cut off after MaxLabel bytes; need not be
	// unique.
	Label string
	// P2P are the addresses at which this host takes data streams, best first. Opaque here. Those
	// that do not fit into the 512 bytes of metadata are left out from the end on, with a
	// warning.
	P2P []string
	// Versions are the wire formats that this host speaks, for its peers to choose from.
	Versions Versions
	// Spaces are the beginnings of the ids of the spaces that this host holds. Opaque here. Nil:
	// all.
	Spaces []uint32

	// Bind is the "ip:port" to listen on, UDP and TCP. Port 0 takes a free one.
	Bind string
	// Advertise is the "ip:port" that others reach Bind at; port 0 is that of Bind. Empty: the
	// address of Bind, which then may not be 0.0.0.0 or ::. See Members.Move.
	Advertise string
	// Key is the cluster's gossip key. A host with another one neither joins nor is joined. See
	// Members.SetKeys.
	Key [32]byte
	// Accepted are other keys, which others may use. Most are none.
	Accepted [][32]byte

	// Join are hosts to look for: "host:port", "host" or "ip:port", of names all addresses. It
	// may name this host itself, so that all hosts of a cluster can have the same list.
	Join []string
	// KnownFile keeps the members seen so far, to find them again without Join. Empty: none.
	KnownFile string
	// ForgetAfter is how long a member that is gone is remembered and looked for. 0: for ever.
	ForgetAfter time.Duration
	// Removed are the ids of members that are removed: see Members.SetRemoved.
	Removed []string
	// Preset sets all intervals and timeouts.
	Preset Preset
	// Now is the clock that is compared with those of other members. Nil: time.Now.
	Now func() time.Time
	// Report returns how this host is, for the others; it is called often, and must not block or
	// call Members. Nil, or a nil answer: they are told nothing.
	Report func() *Report
	// Log takes warnings and, at debug level, what memberlist says. Nil: nothing.
	Log *slog.Logger
	// Transport is what memberlist sends and receives through, for tests of whole clusters in
	// memory. Its address is Bind. Nil: sockets there.
	Transport memberlist.NodeAwareTransport
	// Blocked is fault injection: packets and streams to, and packets from, the gossip addresses
	// ("ip:port") that it names are dropped. A stream's source port tells nothing, so a stream is
	// cut at the end that dials it: give both ends of a cut link the same Blocked. Called by many
	// goroutines at once. Nil: none.
	Blocked func(addr string) bool
}

// Versions is a range of wire formats, both ends included.
type Versions struct{ Min, Max uint64 }

// Format implements fmt.Formatter: a Config holds keys, and is never printed.
func (Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(members.Config)") }

// Validate returns every problem of the configuration, joined into one error, or nil.
func (c *Config) Validate() error {
	var problems []error
	wrong := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(format, args...))
	}
	c.validateIdentity(wrong)
	bind, err := netip.ParseAddrPort(c.Bind)
	if err != nil || bind.Addr().Zone() != "" {
		wrong("bind %q: must be ip:port", c.Bind)
	}
	if c.Advertise != "" || bind.Addr().IsUnspecified() {
		a, err := netip.ParseAddrPort(c.Advertise)
		if err != nil || a.Addr().IsUnspecified() || a.Addr().Zone() != "" {
			wrong("advertise %q: must be ip:port, as other hosts reach this one", c.Advertise)
		}
	}
	if c.Key == [32]byte{} {
		wrong("key: must be the cluster's gossip key")
	}
	if len(c.Join) > MaxJoin {
		wrong("join: %d hosts, at most %d", len(c.Join), MaxJoin)
	}
	for _, host := range c.Join {
		if _, _, err := SplitHost(host); err != nil {
			wrong("join %q: %w", host, err)
		}
	}
	if c.Preset != LAN && c.Preset != Fast {
		wrong("preset: there is none with number %d", c.Preset)
	}
	return errors.Join(problems...)
}

func (c *Config) validateIdentity(wrong func(format string, args ...any)) {
	if c.ID == "" || len(c.ID) > MaxID {
		wrong("id: must have 1 to %d bytes, has %d", MaxID, len(c.ID))
	}
	switch {
	case len(c.PrivateKey) != ed25519.PrivateKeySize:
		wrong("private key: must be an ed25519 key")
	case c.IDOf == nil:
		wrong("id: IDOf is missing")
	default:
		id, err := c.IDOf(c.PrivateKey.Public().(ed25519.PublicKey))
		if err != nil || id != c.ID {
			wrong("id %q: does not belong to the private key", c.ID)
		}
	}
	if c.Versions.Min > c.Versions.Max {
		wrong("versions: %d to %d is no range", c.Versions.Min, c.Versions.Max)
	}
	if len(c.P2P) > MaxP2P {
		wrong("p2p: %d addresses, at most %d", len(c.P2P), MaxP2P)
	}
	if len(c.Spaces) > MaxSpaces {
		wrong("spaces: %d, at most %d", len(c.Spaces), MaxSpaces)
	}
	for _, addr := range c.P2P {
		if addr == "" || len(addr) > MaxP2PBytes {
			wrong("p2p %q: must have 1 to %d bytes", addr, MaxP2PBytes)
		}
	}
}

// clone returns a copy that shares nothing with the caller's.
func (c *Config) clone() Config {
	out := *c
	out.PrivateKey = bytes.Clone(c.PrivateKey)
	out.P2P, out.Join = slices.Clone(c.P2P), slices.Clone(c.Join)
	out.Spaces = slices.Clone(c.Spaces)
	out.Accepted = slices.Clone(c.Accepted)
	if out.Now == nil {
		out.Now = time.Now
	}
	if out.Report == nil {
		out.Report = func() *Report { return nil }
	}
	if out.Log == nil {
		out.Log = slog.New(slog.DiscardHandler)
	}
	return out
}

// CheckHost returns an error, which says what to do, unless host can be joined: see Config.Join.
func CheckHost(host string) error {
	_, _, err := SplitHost(host)
	return err
}

var (
	errHost     = errors.New("must be host:port or host")
	errLinkOnly = errors.New("is an address of one link, which means another host elsewhere: use one that is the " +
		"same everywhere, as 10.0.0.5 or fd00::5, or a name")
)

// SplitHost returns host and port of a host to join, with DefaultPort if it names none.
func SplitHost(hostPort string) (host string, port uint16, err error) {
	host, text := strings.TrimSuffix(strings.TrimPrefix(hostPort, "["), "]"), strconv.Itoa(DefaultPort)
	if _, err := netip.ParseAddr(host); err != nil {
		if host, text, err = net.SplitHostPort(hostPort); err != nil {
			// Without a port: what is left must be a name, as "a:b:c" is not.
			host, text, err = net.SplitHostPort(hostPort + ":" + strconv.Itoa(DefaultPort))
		}
		if err != nil {
			return "", 0, errHost
		}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ ") {
		return "", 0, errHost
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
	case ip.Zone() != "" || ip.Is6() && ip.IsLinkLocalUnicast():
		return "", 0, errLinkOnly
	default:
		host = ip.String()
	}
	return host, uint16(n), nil
}

// timing is what a Preset stands for, as far as memberlist's own Config does not hold it.
type timing struct {
	rejoinMin time.Duration // between the first rounds of joining
	rejoinMax time.Duration // between later ones, before jitter of a fifth either way
	resolve   time.Duration // to look a name up
	leave     time.Duration // to tell the others goodbye
	save      time.Duration // at least between two writes of the known file
}

// tune sets the intervals of a memberlist configuration and returns ours.
func (p Preset) tune(c *memberlist.Config) timing {
	// A member that died may come back under another address at once: its metadata is signed, so
	// nobody else can.
	c.DeadNodeReclaimTime = time.Nanosecond
	if p == LAN {
		c.TCPTimeout = 5 * time.Second
		return timing{
			rejoinMin: time.Second, rejoinMax: 12500 * time.Millisecond,
			resolve: 3 * time.Second, leave: 2 * time.Second, save: time.Second,
		}
	}
	c.TCPTimeout = time.Second
	c.RetransmitMult = 3
	c.SuspicionMult = 3
	c.SuspicionMaxTimeoutMult = 2
	c.AwarenessMaxMultiplier = 2
	c.PushPullInterval = 2 * time.Second
	c.ProbeInterval = 200 * time.Millisecond
	c.ProbeTimeout = 100 * time.Millisecond
	c.GossipInterval = 20 * time.Millisecond
	c.GossipToTheDeadTime = 500 * time.Millisecond
	return timing{
		rejoinMin: 100 * time.Millisecond, rejoinMax: time.Second,
		resolve: time.Second, leave: 500 * time.Millisecond, save: 20 * time.Millisecond,
	}
}
