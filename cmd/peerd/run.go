package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

func runCommand() *cobra.Command {
	var g *given
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a peer until SIGTERM or Ctrl-C",
		Long: "Run a peer. Without flags it starts a cluster of its own, which others can join: a second\n" +
			"host needs a copy of the file cluster.key and --join with the gossip address of any peer.\n\n" +
			settingsHelp,
		Example: "  peerd run\n  peerd run --cluster-key cluster.key --join 10.0.0.5:7946",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			return c.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	g = flagsOf(cmd)
	return cmd
}

// memoryBeside is what the Go heap holds beside the cache, in bytes, and what the collector needs
// for that: changes that are not in the tree take 64 MiB and more, and the storage engine has
// its memtables, and a table while one is written out.
const memoryBeside = 288 << 20

// boundMemory sets how the heap is collected, unless GOGC and GOMEMLIMIT say it.
func boundMemory(cache int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
		followHeap()
	}
	aimHeap(cache)
}

// aimHeap sets what the heap is collected towards, unless GOMEMLIMIT says it. That is no limit: a heap
// that needs more gets it. Under a goal that is less than what is in use the collector runs all the
// time; so it grows with the cache, and what daemons have in use is far below it.
func aimHeap(cache int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryBeside + 2*cache)
	}
}

func (c *config) run(ctx context.Context, stdout, stderr io.Writer) error {
	signal.Ignore(syscall.SIGPIPE)     // who reads the log may end first, and is told no more
	hangups := make(chan os.Signal, 1) // one that waits stands for all
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	level := new(slog.LevelVar)
	level.Set(c.level())
	log := newLogger(stderr, level, c.logFormat)
	adopt(log)
	for _, what := range c.stray {
		log.Warn("the environment has what may be a misspelt setting", "problem", what)
	}
	boundMemory(c.peer.CacheBytes)
	c.peer.Logger = log
	if c.cutFile != "" {
		c.peer.Cut = &peer.Cut{}
		defer followCutFile(c.cutFile, c.peer.Cut, log)()
	}
	defer endInTime(ctx, stopTime, stderr, log, os.Exit)()
	d, err := openDaemon(ctx, c.settings)
	if err != nil {
		return err
	}
	if err := c.greet(d, stdout); err != nil {
		log.Warn("cannot say where the peer is", "error", err)
	}
	stop := (&reloader{running: c, daemon: d, level: level}).follow(hangups)
	err = d.serve(ctx)
	stop()
	if err == nil {
		log.Info("stopped: everything accepted is done")
	}
	return err
}

// greet says where everything is: to a person on the standard output, to a program in the log.
func (c *config) greet(d *daemon, stdout io.Writer) error {
	status, err := d.peer.Status()
	if err != nil {
		return err
	}
	redis, http := addrOf(d.redis), addrOf(d.http)
	d.log.Info("serving", "name", status.Name, "peer_id", status.PeerID, "dir", c.peer.Dir,
		"host_key", d.keys.HostKey, "cluster_key", d.keys.ClusterKey, "gossip", status.GossipAddr,
		"p2p", strings.Join(status.P2PAddrs, ","), "resp", redis, "http", http)
	if c.logFormat == "json" {
		return nil // both streams may go to the same place
	}
	made := ""
	if d.keys.Created {
		made = " (new)"
	}
	dir, err := filepath.Abs(c.peer.Dir)
	if err != nil {
		dir = c.peer.Dir
	}
	_, err = fmt.Fprintf(stdout, greeting, status.Name, version(), dir, d.keys.HostKey,
		d.keys.ClusterKey, made, c.redisLine(redis), c.httpLine(http), status.GossipAddr,
		filepath.Base(d.keys.ClusterKey), status.GossipAddr, reach(status.GossipAddr))
	return err
}

const greeting = `peer %q is up (peerd %s)
  data         %s
  host key     %s
  cluster key  %s%s
  redis        %s
  http         %s
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

// addrOf returns the address of a front-end.
func addrOf(l net.Listener) string {
	if l == nil {
		return off
	}
	return l.Addr().String()
}

// redisLine says where Redis clients find the peer, and what reaches it from this machine.
func (c *config) redisLine(addr string) string {
	if addr == off {
		return off
	}
	at := ""
	if host, _, _ := net.SplitHostPort(fromHere(addr)); host != localhost {
		at = " -h " + host
	}
	return fmt.Sprintf("%s (redis-cli%s -p %s%s)", addr, at, portOf(addr), c.redisFlags())
}

func (c *config) httpLine(addr string) string {
	if addr == off {
		return off
	}
	line := c.scheme() + fromHere(addr) + "/"
	if fromHere(addr) != addr {
		line += " (listening on " + addr + ")"
	}
	return line
}

const localhost = "127.0.0.1"

// fromHere returns where this machine reaches what listens on an address: that, or on loopback if
// it stands for all.
func fromHere(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	ip, noIP := netip.ParseAddr(host)
	if err == nil && (host == "" || noIP == nil && ip.IsUnspecified()) {
		return net.JoinHostPort(localhost, port)
	}
	return addr
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}
