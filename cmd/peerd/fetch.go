package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/peerd/peerd/peer"
)

const (
	defaultHTTP = "127.0.0.1:7948"
	// fetchTimeout is how long a peer may take to tell its status.
	fetchTimeout = 5 * time.Second
	// maxStatus is how many bytes of a status are read: some 4,096 members and as many replicas.
	maxStatus = 4 << 20
)

// fetchStatus asks the peer whose --http address is addr, with or without "http://", and returns
// the answer as it came and as it reads.
func fetchStatus(ctx context.Context, addr string) ([]byte, peer.Status, error) {
	var status peer.Status
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	where := strings.TrimSuffix(strings.TrimPrefix(addr, "http://"), "/")
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+where+"/v1/status", nil)
	if err != nil {
		return nil, status, misuse("--http %q: must be ip:port, as %s", addr, defaultHTTP)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, status, fmt.Errorf("no answer from %s (%w): is peerd running there with this "+
			"--http?", addr, cause(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, status, fmt.Errorf("no whole answer from %s: %w", addr, cause(err))
	}
	if resp.StatusCode != http.StatusOK {
		var refusal struct{ Error string }
		if json.Unmarshal(body, &refusal) != nil || refusal.Error == "" {
			refusal.Error = resp.Status
		}
		return nil, status, fmt.Errorf("%s refused to tell its status: %s", addr, refusal.Error)
	}
	if err := json.Unmarshal(body, &status); err != nil || status.ContextHash == "" {
		return nil, status, fmt.Errorf("what answers on %s is no peerd", addr)
	}
	return body, status, nil
}

// cause returns what is at the bottom of an error of the HTTP client, without URL and addresses.
func cause(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return err
}
