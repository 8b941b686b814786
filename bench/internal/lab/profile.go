package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Profile says of what the daemons' profiles are taken. None are if Kind is empty.
type Profile struct {
	Kind string // one of ProfileKinds
	Dir  string // where they are written
	Of   string // what is measured: names begin with it
}

// ProfileKinds are what the daemon's --pprof-socket can be asked for, and under which name.
var ProfileKinds = map[string]string{"cpu": "profile", "heap": "heap", "block": "block", "mutex": "mutex"}

// profileFlags have the binary of a Go test write one of itself.
var profileFlags = map[string]string{"cpu": "-test.cpuprofile", "heap": "-test.memprofile",
	"block": "-test.blockprofile",
	"mutex": "-test.mutexprofile"}

// slice is how much of a daemon's life one profile shows at most. The first ones show less, as a daemon
// may live for some seconds only, and the last one is lost with it.
const slice = 5 * time.Second

// sliceOf returns how much of a daemon's life its profiles show, one after the other: 1, 2, 4, 5, 5 … s.
func sliceOf(n int) time.Duration { return min(slice, time.Second<<min(n, 8)) }

// ProfileArgs are what a daemon is started with besides, so that KeepProfiles finds its socket. None
// are if no profiles are taken.
func (l *Lab) ProfileArgs(socket string) []string {
	if l.Profile.Kind == "" {
		return nil
	}
	return []string{"--pprof-socket", socket}
}

// KeepProfiles has profiles of a daemon taken, one after the other, until it ends, if any are to be:
//
//	go tool pprof bin/peerd DIR/kv-here.cpu.*
func (l *Lab) KeepProfiles(ctx context.Context, ended <-chan struct{}, socket, name string) {
	if l.Profile.Kind != "" {
		l.profiling.Go(func() { l.keepProfiles(ctx, ended, socket, name) })
	}
}

func (l *Lab) keepProfiles(ctx context.Context, ended <-chan struct{}, socket, name string) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	defer client.CloseIdleConnections()
	of := fmt.Sprintf("%s-%s.%s", l.Profile.Of, name, l.Profile.Kind)
	for taken := 0; ; {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			return
		default:
		}
		url := fmt.Sprintf("http://peerd/debug/pprof/%s?seconds=%d", ProfileKinds[l.Profile.Kind],
			int(sliceOf(taken).Seconds()))
		switch err := keep(ctx, &client, url, l.Profile.Dir, of); {
		case err == nil:
			taken++
		case Pause(ctx, slice/50) != nil:
			return // else the socket is not there yet, or no more
		}
	}
}

// keep writes one profile into a file of its own.
func keep(ctx context.Context, client *http.Client, url, dir, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("no profile: %s", answer.Status)
	}
	at := time.Now().UTC().Format("150405.000")
	return os.WriteFile(filepath.Join(dir, name+"."+at), data, 0o600)
}
