package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// maxProfile is how long a profile or trace may be taken, with what it takes to send it.
const maxProfile = 5 * time.Minute

// blockRate and mutexFraction say how much of what goroutines wait for is looked at, if there is a socket to ask at: one
// wait in each 100 µs of waiting, and one in a hundred for a lock.
const (
	blockRate     = 100_000
	mutexFraction = 100
)

// maxSocketDir is how long the path of a socket's directory may be, in bytes: the system takes 107 for a socket, and
// it is made under a longer name first.
const maxSocketDir = 107 - len("/.peerd-4294967295/s")

// profiler serves Go's profiles on a unix socket, and nowhere else: they show what is in memory, so the
// rights of a file guard them. It is nil without a socket.
type profiler struct {
	path   string
	listen *net.UnixListener
	server http.Server
}

// openProfiler makes the socket, for its owner alone. A socket that is left over is replaced.
func openProfiler(path string) (*profiler, error) {
	if path == "" {
		return nil, nil
	}
	l, err := listenPrivately(path)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s (%w): name another file with --pprof-socket",
			path, err)
	}
	runtime.SetBlockProfileRate(blockRate)
	runtime.SetMutexProfileFraction(mutexFraction)
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return &profiler{path: path, listen: l, server: http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: maxProfile,
	}}, nil
}

// listenPrivately makes the socket in a directory of its own, and moves it to its place when it has its
// mode: so there is no moment in which others can connect.
func listenPrivately(path string) (*net.UnixListener, error) {
	if err := checkSocket(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".peerd-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	temporary := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(temporary, 0o600); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// checkSocket returns an error if there is anything in the socket's place but one that nobody serves.
func checkSocket(path string) error {
	if dir := filepath.Dir(path); len(dir) > maxSocketDir {
		return fmt.Errorf("its directory's path has %d bytes, limit %d", len(dir), maxSocketDir)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is another file")
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return errors.New("another process serves it")
	}
	return nil
}

// serve serves profiles until ctx ends.
func (p *profiler) serve(ctx context.Context) error {
	if p == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = p.server.Close() })
	defer stop()
	err := p.server.Serve(p.listen)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	if removed := os.Remove(p.path); !errors.Is(removed, fs.ErrNotExist) { // or it was cleaned away
		err = errors.Join(err, removed)
	}
	return err
}

// close ends one that was not served.
func (p *profiler) close() {
	if p != nil && p.listen.Close() == nil {
		_ = os.Remove(p.path)
	}
}
