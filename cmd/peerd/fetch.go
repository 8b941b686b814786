package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/peerd/peerd/api/httpapi"
	"github.com/peerd/peerd/internal/auth"
	"github.com/peerd/peerd/peer"
)

const (
	defaultHTTP = "127.0.0.1:7948"
	// fetchTimeout is how long a peer may take to tell its status.
	fetchTimeout = 5 * time.Second
	// maxStatus is how many bytes of a status are read: 4,096 spaces, to which some 400 replicas write each.
	maxStatus = 64 << 20
)

// web asks running peers over HTTP.
type web struct {
	client   *http.Client
	scheme   string // for an address that names none
	password string // empty: none
}

// web returns one that shows what the settings name. It goes to the peer itself, as other clients
// of it do: whoever HTTP_PROXY names would be shown the password.
func (t trust) web() (*web, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	w := &web{client: &http.Client{Transport: transport}, scheme: t.scheme()}
	if t.passwordFile != "" {
		var err error
		if w.password, err = auth.LoadPassword(t.passwordFile); err != nil {
			return nil, err
		}
	}
	if !t.tls.Empty() {
		config, err := t.tls.ClientConfig()
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = config
	}
	return w, nil
}

// web returns what asks a peer, and the address of the one that the settings name.
func (g *given) web() (w *web, addr string, err error) {
	c, err := g.merge()
	if err != nil {
		return nil, "", err
	}
	if c.http == off {
		return nil, "", misuse("http is off in the settings: name the peer that is to answer with --http")
	}
	w, err = c.trust.web()
	return w, fromHere(c.http), err
}

// ask sends a request without a body.
func (w *web) ask(ctx context.Context, method, addr, path, what string) (*http.Response, error) {
	return w.send(ctx, method, addr, path, nil, what)
}

// refusedError is an answer other than 200.
type refusedError struct {
	addr, what string
	code       string // for programs; empty if it came from no peerd
	detail     string
	change     *peer.KeyChange // how far a change of the cluster's key has come that is not done
}

// Error says that the peer refused what was asked.
func (e *refusedError) Error() string {
	return fmt.Sprintf("%s refused %s: %s", e.addr, e.what, e.detail)
}

// send sends a request, with a body in JSON unless that is nil, to the peer whose --http address
// is addr, with or without "http://" or "https://". An answer other than 200 is a refusedError.
func (w *web) send(ctx context.Context, method, addr, path string, body io.Reader, what string) (*http.Response, error) {
	base := addr
	var err error
	if !strings.Contains(addr, "://") {
		base = w.scheme + addr
		_, _, err = net.SplitHostPort(addr)
	}
	r, bad := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path, body)
	if err != nil || bad != nil {
		return nil, misuse("--http %q: must be ip:port, as %s", addr, defaultHTTP)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if w.password != "" {
		r.Header.Set("Authorization", "Bearer "+w.password)
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s: %w%s", addr, cause(err), w.hint(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, w.refusal(addr, what, resp)
}

// refusal returns what an answer other than 200 says.
func (w *web) refusal(addr, what string, resp *http.Response) error {
	var told struct {
		Code, Detail string
		Change       *peer.KeyChange
	}
	err := readAnswer(resp.Body, &told)
	peerd := err == nil && told.Detail != ""
	switch {
	case resp.StatusCode == http.StatusRequestHeaderFieldsTooLarge:
		return fmt.Errorf("%s refused %s: its names are longer than the %s that HTTP takes", addr, what, exactSize(httpapi.MaxHeader))
	case !peerd && resp.StatusCode == http.StatusBadRequest && w.scheme == "http://":
		return fmt.Errorf("what answers on %s does not take plain HTTP: if it speaks HTTPS, ask%s", addr, sameTLS)
	case !peerd:
		return fmt.Errorf("what answers on %s is no peerd: it says %s", addr, resp.Status)
	case resp.StatusCode == http.StatusUnauthorized:
		told.Detail += " (name it with --password-file)"
	}
	return &refusedError{addr, what, told.Code, told.Detail, told.Change}
}

const sameTLS = " with the same --tls-cert, --tls-key and --tls-ca"

// hint says what to do about an error of the HTTP client.
func (w *web) hint(err error) string {
	var name *net.DNSError
	var timeout net.Error
	switch text := err.Error(); {
	case errors.As(err, &name):
		return ": look at --http"
	case errors.Is(err, syscall.ECONNREFUSED):
		return ": is peerd running there with this --http?"
	case strings.Contains(text, "malformed HTTP"), strings.Contains(text, "tls:"), strings.Contains(text, "x509:"):
		return ": ask the --http of a peerd" + sameTLS + " as it has"
	case strings.Contains(text, "HTTP response to HTTPS"):
		return ": ask without https:// and --tls-cert"
	case errors.As(err, &timeout) && timeout.Timeout():
		return ": is the host up, and its port open to this one?"
	case errors.Is(err, io.EOF):
		return ": the peer may be stopping, or what listens there is no peerd"
	}
	return ""
}

// unfit says of an answer that could not be read what is wrong: what answers is no peerd, or it
// broke off.
func unfit(addr string, err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) || errors.As(err, &syntax) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("what answers on %s is no peerd", addr)
	}
	return fmt.Errorf("no whole answer from %s: %w", addr, cause(err))
}

// status returns what a peer tells about itself, as it came and as it is shown.
func (w *web) status(ctx context.Context, addr string) ([]byte, peer.Status, error) {
	var status peer.Status
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	resp, err := w.ask(ctx, http.MethodGet, addr, "/v1/status", "to tell its status")
	if err != nil {
		return nil, status, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, status, unfit(addr, err)
	}
	if err := readAnswer(bytes.NewReader(body), &status); err != nil || status.Spaces == nil || !json.Valid(body) {
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
