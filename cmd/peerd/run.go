package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

const defaultDir = "./peerd-data"

// runFlags are the flags of "peerd run" that are not settings as they are.
type runFlags struct {
	settings   settings
	durability string
	logLevel   string
	logFormat  string
	cutFile    string
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a peer until SIGTERM or Ctrl-C",
		Long: "Run a peer. Without flags it starts a cluster of its own, which others can join: a second\n" +
			"host needs a copy of the file cluster.key and --join with the gossip address of any peer.",
		Example: "  peerd run\n  peerd run --cluster-key cluster.key --join 10.0.0.5:7946",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	p, flags := &f.settings.peer, cmd.Flags()
	flags.StringVar(&p.Dir, "dir", defaultDir, "`directory` for data and keys")
	flags.StringVar(&p.ClusterKey, "cluster-key", "",
		"`file` with the cluster's secret (default cluster.key in the directory)")
	flags.StringSliceVar(&p.Join, "join", nil, "gossip `addresses` of other peers, host:port,…")
	flags.StringVar(&p.Name, "name", "", "a label for people, may repeat (default the host's name)")
	flags.StringVar(&p.Gossip, "gossip", "0.0.0.0:7946", "`ip:port` for membership, TCP and UDP")
	flags.StringVar(&p.P2P, "p2p", "0.0.0.0:7947", "`ip:port` for data between peers, TCP and QUIC")
	flags.StringVar(&p.Advertise, "advertise", "",
		"`ip` at which other hosts reach this one (default a private one of the host, else another)")
	flags.StringVar(&f.settings.resp, "resp", "127.0.0.1:6379",
		"`ip:port` for Redis clients, on loopback")
	flags.StringVar(&f.settings.http, "http", "127.0.0.1:7948", "`ip:port` for HTTP, on loopback")
	flags.StringVar(&f.durability, "durability", string(peer.Interval),
		"when a write survives a power failure: always, interval (a second) or none")
	flags.DurationVar(&p.MaxSkew, "max-skew", peer.DefaultMaxSkew,
		"by how much another host's clock may be off before it is named and not adopted")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&f.cutFile, "cut-file", "", "block the gossip addresses in this `file`")
	flags.BoolVar(&p.FastGossip, "fast-gossip", false, "notice changes of membership faster")
	// Those are for tests.
	for _, hidden := range []string{"cut-file", "fast-gossip"} {
		_ = flags.MarkHidden(hidden) // it exists
	}
	return cmd
}

// memoryGoal is what the Go heap is collected towards, in bytes, unless GOMEMLIMIT says otherwise. After
// 800,000 pipelined SETs the daemon held 780 and 920 MB of anonymous memory without a goal and 290 and
// 310 MB with this one, at about 0.8 of the speed. It is no limit: a heap that needs more gets it.
const memoryGoal = 400 << 20

// boundMemory sets the goal.
func boundMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
}

func (f *runFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	log, err := newLogger(stderr, f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	boundMemory()
	f.settings.peer.Logger = log
	f.settings.peer.Durability = peer.Durability(f.durability)
	if f.cutFile != "" {
		f.settings.peer.Cut = &peer.Cut{}
		stop := followCutFile(f.cutFile, f.settings.peer.Cut, log)
		defer stop()
	}
	d, err := openDaemon(ctx, f.settings)
	if err != nil {
		return err
	}
	if err := f.greet(d, stdout); err != nil {
		log.Warn("cannot say where the peer is", "error", err)
	}
	err = d.serve(ctx)
	if err == nil {
		log.Info("stopped: everything accepted is done")
	}
	return err
}

// newLogger returns the log that the flags ask for.
func newLogger(to io.Writer, level, format string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var at slog.Level
	if err := at.UnmarshalText([]byte(level)); err != nil {
		return nil, misuse("--log-level %q: must be debug, info, warn or error", level)
	}
	options.Level = at
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(to, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(to, &options)), nil
	}
	return nil, misuse("--log-format %q: must be text or json", format)
}

// greet says where everything is: to a person on the standard output, to a program in the log.
func (f *runFlags) greet(d *daemon, stdout io.Writer) error {
	status, err := d.peer.Status()
	if err != nil {
		return err
	}
	redis, http := d.redis.Addr().String(), d.http.Addr().String()
	d.log.Info("serving", "name", status.Name, "peer_id", status.PeerID, "dir", f.settings.peer.Dir,
		"host_key", d.keys.HostKey, "cluster_key", d.keys.ClusterKey, "gossip", status.GossipAddr,
		"p2p", strings.Join(status.P2PAddrs, ","), "resp", redis, "http", http)
	if f.logFormat == "json" {
		return nil // both streams may go to the same place
	}
	made := ""
	if d.keys.Created {
		made = " (new)"
	}
	dir, err := filepath.Abs(f.settings.peer.Dir)
	if err != nil {
		dir = f.settings.peer.Dir
	}
	_, err = fmt.Fprintf(stdout, greeting, status.Name, version(), dir, d.keys.HostKey,
		d.keys.ClusterKey, made, redis, portOf(redis), http, status.GossipAddr,
		filepath.Base(d.keys.ClusterKey), status.GossipAddr, reach(status.GossipAddr))
	return err
}

const greeting = `peer %q is up (peerd %s)
  data         %s
  host key     %s
  cluster key  %s%s
  redis        %s (redis-cli -p %s)
  http         http://%s/
  gossip       %s
A second host joins with a copy of the cluster key's file:
  peerd run --cluster-key %s --join %s%s
`

// reach warns of an address that other hosts cannot reach.
func reach(gossip string) string {
	at, err := netip.ParseAddrPort(gossip)
	if err != nil || !at.Addr().IsLoopback() {
		return ""
	}
	return "\nOnly this machine reaches that address: with --advertise IP other hosts do."
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}
