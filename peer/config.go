package peer

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"time"

	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// Durability says when an acknowledged write survives a power failure. A crash of the process alone
// loses nothing with any of them, except in memory.
type Durability string

const (
	// Always syncs before a write is answered. Groups of waiting writes share one sync.
	Always Durability = "always"
	// Interval syncs every second, as Redis's "everysec": a power failure loses at most about that.
	Interval Durability = "interval"
	// None leaves syncing to the operating system.
	None Durability = "none"
)

// Config says how a peer runs. The zero value of each field stands for its default; only Dir is
// required, or Memory. Open copies it; Reload changes some of it.
type Config struct {
	// Dir is the directory for data and keys. It is created with mode 0700 if it is not there.
	Dir string
	// Memory keeps everything in memory instead of in Dir, for tests and examples.
	Memory bool
	// Offline starts no network, and opens no port: the peer is alone until it is opened without.
	// Otherwise it listens at Gossip and P2P, on all of the host's addresses unless they say
	// otherwise, for hosts with the cluster's key. A new directory is given its keys all the same,
	// unless ClusterKey or Join says that it is to belong to others.
	Offline bool

	// Name is a label for people; names may repeat. Others are told its first 64 bytes. Default: the
	// host's name.
	Name string
	// ClusterKey is a file with the cluster's secret, which is copied to cluster.key in Dir: the
	// first opening needs it, and later ones do not. Default: cluster.key in Dir, which is created
	// if it is not there, Join is empty, and Dir neither holds data nor knows members.
	ClusterKey string
	// Gossip is the "ip:port" or "name:port" for membership, TCP and UDP. 0.0.0.0 is all addresses
	// of IPv4, [::] all of both families. Default [::]:7946. Port 0 takes a free one.
	Gossip string
	// P2P is the same for data, TCP and QUIC. Default [::]:7947.
	P2P string
	// Advertise is the IP or name under which other hosts reach this one. Default: the address
	// listened on; if that is all of them, the one from which this host reaches those in Join or
	// known, else the internet.
	Advertise string
	// Join lists gossip addresses of other peers, "host:port" or, with port 7946, "host". A name is
	// looked up at each attempt. Known ones are rejoined without it. At most 256.
	Join []string
	// ForgetAfter is how long a member that is gone is remembered, looked for and waited for by a
	// change of the cluster's key. A host that reaches nobody forgets nobody. Default
	// DefaultForgetAfter; negative: for ever.
	ForgetAfter time.Duration
	// Allow narrows the cluster to the peers with these ids, as Init returns them; this peer's own may
	// be among them. Others are not connected to, and refused, though they hold the cluster's key.
	// Empty allows every member.
	Allow []string

	// Spaces are the names of the spaces that this host takes part in; "peerd", which every host
	// holds, need not be among them. DefaultSpace, which is meant where none is named, has to be
	// among them to be held. What others write to other spaces is neither kept here nor passed on.
	// Empty means every space of the cluster. A space that is held already stays until DropSpace. At
	// most MaxListedSpaces.
	Spaces []string

	// Durability is Interval by default.
	Durability Durability
	// PushDelay is for how long a write waits, before it is sent to the other peers, for others here
	// that go along with it: fewer messages for a later arrival. What is passed on for other peers
	// does not wait again. At most MaxPushDelay; default 0.
	PushDelay time.Duration
	// LogBytes bounds the log of deltas on disk. A peer that was away for longer than the log reaches
	// back is repaired by comparing cells, which costs more. In bytes; default 256 MiB.
	LogBytes int64
	// LogAge bounds the age of the log's deltas. Default 7 days.
	LogAge time.Duration

	// CacheBytes is about how many bytes of memory the cells and sums that were read or written last
	// may take, in all spaces, so that they are found without the store. Default DefaultCacheBytes.
	CacheBytes int64

	// MinFree is how many bytes of the disk must stay free: with less, writes are refused, and what
	// other peers write is not taken, until there is more. The store may need more than that for a
	// while to do what it began; then that counts. Default a twentieth of the disk, DefaultMinFree at
	// most.
	MinFree int64

	// MaxSkew is by how much another peer's clock may be off before it is named, in the log and in
	// Status, and its time is not adopted. Nothing is refused or delayed for it. If this peer's own is
	// set by more, keys expire rather later until it is measured again. Default 500 ms.
	MaxSkew time.Duration

	// ReadyWait is how long a peer that had data when it was opened waits for what the others had then,
	// before it is ready without that, and says so. Longer: clients are sent to another host for
	// longer while none is reached. Default DefaultReadyWait.
	ReadyWait time.Duration

	// Version is the program's, which the other hosts are told, for people. Default: none.
	Version string

	// Logger takes the peer's log. Default: nothing is logged.
	Logger *slog.Logger
	// Cut is fault injection: it blocks all traffic with some peers. Nil blocks none.
	Cut *Cut
	// FastGossip notices and heals changes of membership ten times faster, for demonstrations and
	// tests on one machine. Too nervous for a real network.
	FastGossip bool

	// Fault injection, by tests here.
	clockOffset func() time.Duration                                  // by which its clock is off
	faulty      func(store.Store, store.Log) (store.Store, store.Log) // puts faults in front of them
	simulated   *simulated
	spent       func(part string, work, limit int) // is told of each part of a step
	memory      crdt.ReplicaID                     // the replica id in the image of memory that is started; zero without one
}

// simulated is a network in memory, in the place of the system's.
type simulated struct {
	packets []quicreuse.Option    // has QUIC, the one transport, go over it
	members func(*members.Config) // sets its transport for membership
}

// Limits of a peer, beside those of package crdt.
const (
	// MaxQueue is how many transactions of a space may wait for their turn. More block their callers.
	MaxQueue = 4096
	// MaxLinks is how many other peers a peer keeps a stream to for each of its spaces. In a larger
	// cluster each picks so many, twice as many for all spaces together, and the rest is reached
	// through them; with those that others open there are four times as many at most.
	MaxLinks = 16
	// MaxPushDelay is how long a write may be kept from the other peers so that more go along.
	MaxPushDelay = 10 * time.Second
	// DefaultMaxSkew is how far a clock may be off unless Config says otherwise.
	DefaultMaxSkew = engine.MaxSkew
	// DefaultForgetAfter is Config.ForgetAfter unless that says something else.
	DefaultForgetAfter = 30 * 24 * time.Hour
	// MaxMembers is how many members are remembered.
	MaxMembers = 4096
	// MaxListedSpaces is how many spaces Config.Spaces may name.
	MaxListedSpaces = members.MaxSpaces - 1
	// MaxKey is how long a key, a field, or an element of a set may be, in bytes.
	MaxKey = 64 << 10
	// MaxValue is how long a value, or an element of a list, may be, in bytes.
	MaxValue = 16 << 20
	// MaxOps is how many mutations a transaction may consist of. More are refused with ErrTooLarge, as
	// is what MaxCost bounds.
	MaxOps = delta.MaxOps
	// MaxCost bounds how large a transaction is, in bytes: for each mutation 20, its value, the
	// names on the way to it, and 20 for each concurrent or earlier value that it replaces; and 64
	// once.
	MaxCost = delta.MaxCost
)

const (
	defaultGossip = "[::]:7946"
	defaultP2P    = "[::]:7947"

	defaultLogBytes = 256 << 20

	// DefaultCacheBytes is Config.CacheBytes unless that says something else.
	DefaultCacheBytes = 128 << 20
)

// withDefaults returns c with defaults in place of zeros.
func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name, _ = os.Hostname()
	}
	if c.Gossip == "" {
		c.Gossip = defaultGossip
	}
	if c.P2P == "" {
		c.P2P = defaultP2P
	}
	if c.Durability == "" {
		c.Durability = Interval
	}
	if c.MaxSkew == 0 {
		c.MaxSkew = DefaultMaxSkew
	}
	if c.ReadyWait == 0 {
		c.ReadyWait = DefaultReadyWait
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = DefaultCacheBytes
	}
	if c.ForgetAfter == 0 {
		c.ForgetAfter = DefaultForgetAfter
	}
	if c.LogBytes == 0 {
		c.LogBytes = defaultLogBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	c.Join = append([]string(nil), c.Join...)
	c.Allow = append([]string(nil), c.Allow...)
	c.Spaces = append([]string(nil), c.Spaces...)
	return c
}

// ConfigError is one problem of a Config.
type ConfigError struct {
	Field  string // in lower case, with hyphens: "gossip", "cluster-key"
	Value  string
	Reason string // what the value must be, or what to do
}

// Error says it in one line.
func (e *ConfigError) Error() string { return fmt.Sprintf("%s %q: %s", e.Field, e.Value, e.Reason) }

// Validate returns every problem of the configuration as a ConfigError, joined into one error, or
// nil.
func (c Config) Validate() error {
	c = c.withDefaults()
	var problems []error
	wrong := func(field, value, reason string) {
		problems = append(problems, &ConfigError{field, value, reason})
	}
	if c.Dir == "" && !c.Memory {
		wrong("dir", c.Dir, "name a directory for the data")
	}
	if c.Memory && !c.Offline && c.ClusterKey == "" {
		wrong("cluster-key", c.ClusterKey,
			"a peer in memory needs the file of a cluster's secret, or Offline")
	}
	for _, at := range [][2]string{{"gossip", c.Gossip}, {"p2p", c.P2P}} {
		if _, _, err := splitListen(at[1]); err != nil {
			wrong(at[0], at[1], err.Error())
		}
	}
	if n := len(c.Join); n > members.MaxJoin {
		wrong("join", c.Join[0]+",…", fmt.Sprintf("names %d hosts, at most %d", n, members.MaxJoin))
	}
	for _, host := range c.Join {
		if err := members.CheckHost(host); err != nil {
			wrong("join", host, err.Error())
		}
	}
	for _, id := range c.Allow {
		if _, err := libpeer.Decode(id); err != nil {
			wrong("allow", id, "must be a peer id, as peerd init prints it")
		}
	}
	if n := len(c.Spaces); n > MaxListedSpaces {
		wrong("spaces", c.Spaces[0]+",…", fmt.Sprintf("names %d spaces, at most %d", n, MaxListedSpaces))
	}
	for _, name := range c.Spaces {
		if err := CheckSpaceName(name); err != nil {
			wrong("spaces", name, "must be names of spaces: 1 to 64 of a-z, 0-9, dot, hyphen and underscore")
		}
	}
	if c.Advertise != "" {
		if err := checkAdvertised(c.Advertise); err != nil {
			wrong("advertise", c.Advertise, err.Error())
		}
	}
	switch c.Durability {
	case Always, Interval, None:
	default:
		wrong("durability", string(c.Durability), "must be always, interval or none")
	}
	if c.PushDelay < 0 || c.PushDelay > MaxPushDelay {
		wrong("push-delay", c.PushDelay.String(), fmt.Sprintf("must be from 0 to %v", MaxPushDelay))
	}
	if c.LogBytes < 0 {
		wrong("log-bytes", strconv.FormatInt(c.LogBytes, 10), "must not be negative")
	}
	if c.CacheBytes < 0 {
		wrong("cache-bytes", strconv.FormatInt(c.CacheBytes, 10), "must not be negative")
	}
	for i, d := range []time.Duration{c.LogAge, c.MaxSkew, c.ReadyWait} {
		if d < 0 {
			wrong([]string{"log-age", "max-skew", "ready-wait"}[i], d.String(), "must not be negative")
		}
	}
	if c.MinFree < 0 {
		wrong("min-free", strconv.FormatInt(c.MinFree, 10), "must not be negative")
	}
	return errors.Join(problems...)
}
