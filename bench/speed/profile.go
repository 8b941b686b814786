package main

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

// slice is how much of a daemon's life one profile shows. The last one is lost with the daemon.
const slice = 5 * time.Second

// keepProfiles takes profiles of a daemon's processor, one after the other, until it ends:
//
//	go tool pprof bin/peerd DIR/del-here.*
func (l *lab) keepProfiles(ctx context.Context, p *process, socket, name string) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	defer client.CloseIdleConnections()
	url := fmt.Sprintf("http://peerd/debug/pprof/profile?seconds=%d", int(slice.Seconds()))
	for {
		select {
		case <-p.ended:
			return
		case <-ctx.Done():
			return
		default:
		}
		if err := keep(ctx, &client, url, l.profile, name); err != nil && pause(ctx, slice/50) != nil {
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
	at := time.Now().UTC().Format("150405.000")
	return os.WriteFile(filepath.Join(dir, name+"."+at), data, 0o600)
}
