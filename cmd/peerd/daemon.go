package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/peerd/peerd/api/httpapi"
	"github.com/peerd/peerd/api/metrics"
	"github.com/peerd/peerd/api/resp"
	"github.com/peerd/peerd/peer"
)

// settings are what a daemon is opened with.
type settings struct {
	peer peer.Config
	resp string // "ip:port"; port 0 takes a free one; off serves none
	http string
	trust

	maxClients  int           // of the Redis protocol
	slowLog     time.Duration // 0: nothing is slow
	pprofSocket string        // path; empty: none
}

// validate reports mistakes of the person who wrote the settings, all at once: as peer.ConfigErrors
// where they are about one of them.
func (s *settings) validate() error {
	var errs [4]error
	s.resp, errs[0] = s.checkAddr("resp", s.resp)
	s.http, errs[1] = s.checkAddr("http", s.http)
	errs[2] = s.trust.validate()
	errs[3] = s.peer.Validate()
	return errors.Join(errs[:]...)
}

// daemon is a peer and its front-ends.
type daemon struct {
	peer *peer.Peer
	keys peer.Keys
	log  *slog.Logger
	credentials

	redis, http net.Listener // open, served by serve; nil if off
	redisServer *resp.Server // nil if off
	httpServer  *httpapi.Server
	profiler    *profiler // nil if there is none
}

// openDaemon opens a peer and takes the ports of its front-ends. After an error nothing is left
// running.
func openDaemon(ctx context.Context, s settings) (*daemon, error) {
	if err := s.validate(); err != nil {
		return nil, usageError{err}
	}
	d := &daemon{log: s.peer.Logger}
	if err := d.open(ctx, s); err != nil {
		d.closeListeners()
		return nil, err
	}
	return d, nil
}

// open opens the peer last: it is slow to open and to close, and what fails most fails before.
func (d *daemon) open(ctx context.Context, s settings) (err error) {
	if d.credentials, err = s.trust.load(); err != nil {
		return usageError{err}
	}
	if d.redis, err = listen("--resp", s.resp); err != nil {
		return err
	}
	if d.http, err = listen("--http", s.http); err != nil {
		return err
	}
	d.warn(d.log, d.redis, d.http)
	if d.profiler, err = openProfiler(s.pprofSocket); err != nil {
		return err
	}
	s.peer.Version = version()
	if d.peer, err = peer.Open(ctx, s.peer); err != nil {
		instead := beginInstead
		if len(s.peer.Join) > 0 {
			instead = "run there peerd invite and here what that prints"
		}
		return explainKey(s.peer.ClusterKey, err, instead)
	}
	d.keys = d.peer.Keys()
	d.httpServer = httpapi.New(httpapi.Config{
		Peer: d.peer, Auth: d.guard, TLS: d.tls, Metrics: d.metrics(), Redis: d.redisFigures, SlowLog: s.slowLog, Logger: d.log,
	})
	if d.redis == nil {
		return nil
	}
	d.redisServer, err = resp.New(resp.Config{
		Peer: d.peer, Auth: d.guard, Version: version(), SlowLog: s.slowLog, Logger: d.log,
		MaxClients: d.clientsWithFiles(s.maxClients),
		Settings:   map[string]string{"appendfsync": appendfsync(s.peer.Durability)},
	})
	if err != nil {
		return errors.Join(err, d.peer.Close())
	}
	return nil
}

// A store that cannot open a file fails, so that Redis clients must not take them all.
const (
	// filesBeside is what is left to tables and the log, and to connections over HTTP and of
	// gossip.
	filesBeside = 1024
	// maxPeerFiles is what is left at most to connections for data, of other hosts and of
	// strangers: package peer takes a quarter of all files for them, and this is more than it
	// needs.
	maxPeerFiles = 3072
)

// roomForClients returns how many Redis clients there can be in a process that may open so many
// files.
func roomForClients(files uint64) uint64 {
	beside := filesBeside + min(files/4, maxPeerFiles)
	return max(files-min(files, beside), files/8)
}

// clientsWithFiles returns how many clients there can be with the files that the process may open.
func (d *daemon) clientsWithFiles(wanted int) int {
	files, known := openFiles()
	room := roomForClients(files)
	if !known || uint64(wanted) <= room {
		return wanted
	}
	d.log.Warn("fewer redis clients are admitted than max-clients says: the process may not open more "+
		"files (ulimit -n, LimitNOFILE)", "max_clients", wanted, "files", files, "admitted", room)
	return int(room)
}

// metrics returns what answers scrapes.
func (d *daemon) metrics() http.Handler {
	config := metrics.Config{
		Peer: d.peer, Version: version(),
		HTTP: func() metrics.Frontend {
			m := d.httpServer.Metrics()
			return metrics.Frontend{Slow: m.Slow, Times: m.Times}
		},
	}
	if d.redis != nil {
		config.Redis = func() metrics.Frontend {
			m := d.redisServer.Metrics()
			return metrics.Frontend{
				Clients: m.Clients, Accepted: m.Accepted, Refused: m.Refused, Held: m.Held,
				Evicted: m.Evicted, Unread: m.Unread, Slow: m.Slow, Times: m.Times,
			}
		}
	}
	return metrics.New(config)
}

// maxShown is how many clients and slow commands the console is told.
const maxShown = 100

// redisFigures returns what the console shows of the Redis protocol.
func (d *daemon) redisFigures() (out httpapi.Redis) {
	if d.redisServer == nil {
		return out // the server for HTTP is made first
	}
	clients, connected := d.redisServer.Clients(maxShown)
	out.Connected, out.Times = connected, d.redisServer.Metrics().Times
	for _, c := range clients {
		out.Clients = append(out.Clients, httpapi.Client(c))
	}
	for _, e := range d.redisServer.SlowCommands(maxShown) {
		out.Slow = append(out.Slow, httpapi.SlowCommand(e))
	}
	return out
}

const beginInstead = "leave --cluster-key out to begin a cluster"

// explainKey says of an error about keys what to do where the file that was named is not there:
// instead of copying it as well.
func explainKey(named string, err error, instead string) error {
	var file *fs.PathError
	if errors.As(err, &file) && file.Path == named && errors.Is(err, fs.ErrNotExist) {
		return misuse("there is no cluster key in %s: copy it from a host of the cluster, or %s", named, instead)
	}
	return err
}

func listen(flag, addr string) (net.Listener, error) {
	if addr == off {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("cannot listen on %s with %s: %w", addr, flag, err)
	}
	return l, nil
}

func (d *daemon) closeListeners() {
	for _, l := range []net.Listener{d.redis, d.http} {
		if l != nil {
			l.Close()
		}
	}
	d.profiler.close()
}

// appendfsync is what Redis calls a durability.
func appendfsync(d peer.Durability) string {
	switch d {
	case peer.Always:
		return "always"
	case peer.None:
		return "no"
	}
	return "everysec"
}

// serve serves clients until ctx ends or the peer fails, finishes what was accepted and closes
// the peer.
func (d *daemon) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if d.redis != nil {
		group.Go(func() error { return d.redisServer.Serve(ctx, d.secure(d.redis)) })
	}
	if d.http != nil {
		group.Go(func() error { return d.httpServer.Serve(ctx, d.http) })
	}
	group.Go(func() error { return d.profiler.serve(ctx) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-d.peer.Done():
			return errPeerEnded
		}
	})
	err := group.Wait()
	failure := d.peer.Close()
	if failure != nil && errors.Is(err, errPeerEnded) {
		return fmt.Errorf("the peer ended by itself: %w", failure)
	}
	return errors.Join(err, failure)
}

var errPeerEnded = errors.New("the peer ended by itself")
