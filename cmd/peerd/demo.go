package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

func demoCommand() *cobra.Command {
	var exit bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start three peers, break the network between them, and show what becomes of it",
		Long: "Start three peers in this process, each a full daemon with a directory of its own in a\n" +
			"temporary folder; cut one off, write on both sides, heal the cut, and show what each\n" +
			"conflict became. The peers stay up until Ctrl-C.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), exit)
		},
	}
	cmd.Flags().BoolVar(&exit, "exit", false, "end after the story")
	return cmd
}

// demo is three daemons and where their story is told.
type demo struct {
	out    io.Writer
	log    *slog.Logger
	dir    string
	places []*place // oslo, lima and kyoto, which is cut off

	cancel  context.CancelFunc
	serving sync.WaitGroup
	mu      sync.Mutex
	failed  error // why daemons ended
}

// place is one of the daemons, with a connection to it as an application has one.
type place struct {
	name   string
	daemon *daemon
	cut    *peer.Cut
	redis  *redisClient
	gossip string
}

// runDemo tells the story, and stays until ctx ends unless it is to exit. An interrupted story is
// no failure.
func runDemo(ctx context.Context, stdout, stderr io.Writer, exit bool) (err error) {
	dir, err := os.MkdirTemp("", "peerd-demo-")
	if err != nil {
		return err
	}
	serve, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d := &demo{
		out: stdout, dir: dir, cancel: cancel,
		log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	defer func() {
		err = errors.Join(err, d.close(), os.RemoveAll(dir))
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil
		}
	}()
	if err := d.tell(ctx, serve); err != nil || exit {
		return err
	}
	d.say("\nThe peers stay up until Ctrl-C, which also removes %s.", dir)
	select {
	case <-ctx.Done():
	case <-serve.Done(): // a daemon failed
	}
	return nil
}

// open starts one more daemon. All join the first.
func (d *demo) open(ctx, serve context.Context, name string) error {
	p := &place{name: name, cut: &peer.Cut{}}
	cfg := peer.Config{
		Dir: filepath.Join(d.dir, name), Name: name, Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0",
		Logger: d.log.With("peer", name), Cut: p.cut, FastGossip: true,
	}
	if len(d.places) > 0 {
		cfg.Join = []string{d.places[0].gossip}
		cfg.ClusterKey = d.places[0].daemon.keys.ClusterKey
	}
	var err error
	p.daemon, err = openDaemon(ctx, settings{peer: cfg, resp: "127.0.0.1:0", http: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	d.places = append(d.places, p)
	d.serving.Go(func() {
		if err := p.daemon.serve(serve); err != nil {
			d.mu.Lock()
			d.failed = errors.Join(d.failed, fmt.Errorf("%s: %w", name, err))
			d.mu.Unlock()
			d.cancel()
		}
	})
	status, err := p.daemon.peer.Status()
	if err != nil {
		return err
	}
	p.gossip = status.GossipAddr
	p.redis, err = dialRedis(ctx, p.daemon.redis.Addr().String())
	return err
}

// close ends the daemons and returns why one ended before.
func (d *demo) close() error {
	for _, p := range d.places {
		if p.redis != nil {
			p.redis.Close()
		}
	}
	d.cancel()
	d.serving.Wait()
	return d.failed
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

const (
	// demoPoll is how often the demo looks whether what it waits for has happened.
	demoPoll = 2 * time.Millisecond
	// demoPatience is how long it waits before it gives up.
	demoPatience = 30 * time.Second
)

// until waits for a condition on the peers' statuses and returns how long that took.
func (d *demo) until(ctx context.Context, what string, holds func(all []peer.Status) bool) (
	time.Duration, error) {
	began := time.Now()
	limit := time.NewTimer(demoPatience)
	defer limit.Stop()
	tick := time.NewTicker(demoPoll)
	defer tick.Stop()
	for {
		all, err := d.statuses()
		if err != nil {
			return 0, err
		}
		if holds(all) {
			return time.Since(began), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-limit.C:
			return 0, fmt.Errorf("gave up waiting for %s after %v: is this machine very busy?",
				what, demoPatience)
		}
	}
}

func (d *demo) statuses() ([]peer.Status, error) {
	all := make([]peer.Status, len(d.places))
	for i, p := range d.places {
		var err error
		if all[i], err = p.daemon.peer.Status(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
