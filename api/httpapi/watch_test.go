package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/peer"
)

// serve serves the api on loopback until the test or the returned function ends it.
func (a *api) serve() (at string, stop func()) {
	a.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		if err := a.s.Serve(ctx, l); err != nil {
			a.t.Error(err)
		}
	})
	stop = func() { cancel(); served.Wait() }
	a.t.Cleanup(stop)
	return "http://" + l.Addr().String(), stop
}

// sent is an event as a client gets it.
type sent struct {
	name, id string
	event
}

// source reads events as an EventSource does.
type source struct {
	t    testing.TB
	resp *http.Response
	in   *bufio.Scanner
}

func (a *api) events(at, query, last string) *source {
	a.t.Helper()
	r, err := http.NewRequest("GET", at+"/v1/watch?"+query, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	return a.source(r)
}

// source sends the request for a watch.
func (a *api) source(r *http.Request) *source {
	a.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	if media := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || media != "text/event-stream" {
		a.t.Fatalf("a watch is answered with %d, %q", resp.StatusCode, media)
	}
	a.t.Cleanup(func() { resp.Body.Close() })
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 16<<20)
	return &source{a.t, resp, in}
}

// next returns the next event; false at the end.
func (s *source) next() (e sent, ok bool) {
	s.t.Helper()
	for s.in.Scan() {
		name, value, _ := strings.Cut(s.in.Text(), ": ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e.event); err != nil {
				s.t.Fatal(err)
			}
		case "":
			if e.name != "" {
				return e, true
			}
		}
	}
	return e, false
}

func (s *source) want(name string, keys ...octets) sent {
	s.t.Helper()
	e, ok := s.next()
	if keys == nil {
		keys = []octets{}
	}
	if diff := cmp.Diff(keys, e.Keys); !ok || e.name != name || diff != "" {
		s.t.Fatalf("event %q, want %q; keys (-want +got):\n%s", e.name, name, diff)
	}
	if e.id != string(e.Token) && (e.Token != "" || e.id != beginning) {
		s.t.Errorf("the id %q is not the token %q", e.id, e.Token)
	}
	return e
}

func (a *api) enable(keys ...string) string {
	a.t.Helper()
	token, err := a.p.UpdateToken(context.Background(), func(tx *peer.Tx) error {
		for _, key := range keys {
			if err := tx.Flag(key).Set(true); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return string(token)
}

func TestAWatchSendsChangesAndGoesOnAfterTheLastEvent(t *testing.T) {
	a := newAPI(t, peer.Config{})
	at, _ := a.serve()
	first := a.enable("u:1")
	s := a.events(at, "prefix=u:", "")
	s.want("open")
	a.enable("u:3", "v", "u:2", "u:\xff")
	last := s.want("change", "u:2", "u:3", "u:\xff")
	a.enable("u:4")
	s.want("change", "u:4")
	s.resp.Body.Close()
	a.enable("u:5")

	s = a.events(at, "prefix=u:", last.id)
	if e := s.want("open"); e.id != last.id {
		t.Error("a watch that goes on does not begin where it was")
	}
	s.want("change", "u:4", "u:5")
	s = a.events(at, "since="+url.QueryEscape(first), "")
	s.want("open")
	s.want("change", "u:2", "u:3", "u:4", "u:5", "u:\xff", "v")
}

func TestAWatchGoesOnFromBeforeTheFirstWrite(t *testing.T) {
	a := newAPI(t, peer.Config{})
	at, _ := a.serve()
	s := a.events(at, "", "")
	first := s.want("open")
	s.resp.Body.Close()
	a.enable("k")
	s = a.events(at, "", first.id)
	s.want("open")
	s.want("change", "k")
	s = a.events(at, "since="+url.QueryEscape(first.id), "")
	s.want("open")
	s.want("change", "k")
}

func TestAWatchThatTheLogDoesNotReachIsResetAndListsAllKeys(t *testing.T) {
	a := newAPI(t, peer.Config{LogBytes: 1000})
	at, _ := a.serve()
	old := a.enable("k:gone")
	a.want(200, `{"changed":["k:gone"]}`, "DELETE", "/v1/keys/k:gone", "")
	var want []string
	for i := range 15 {
		var keys []string
		for j := range 100 {
			keys = append(keys, fmt.Sprintf("k:%02d:%02d", i, j))
		}
		a.enable(keys...)
		want = append(want, keys...)
	}
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for s, err := a.p.Status(); s.LogBytes > 20_000; s, err = a.p.Status() {
		if err != nil {
			t.Fatal(err)
		}
		<-poll.C
	}
	s := a.events(at, "prefix=k:", old)
	s.want("open")
	var got []string
	for i := 0; ; i++ {
		e, ok := s.next()
		if !ok || (e.name == "reset") != (i == 0) {
			t.Fatalf("event %d is %q", i, e.name)
		}
		for _, key := range e.Keys {
			got = append(got, string(key))
		}
		if e.Token != "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys after a reset (-want +got):\n%s", diff)
	}
}

// TestAWatchOfADroppedSpaceIsRefused: else it would end at once, as often as the client comes back.
func TestAWatchOfADroppedSpaceIsRefused(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k?space=orders", `{"type":"string","value":"v"}`)
	if err := a.p.DropSpace(t.Context(), "orders", true); err != nil {
		t.Fatal(err)
	}
	a.refused(404, "not-held", "GET", "/v1/watch?space=orders", "")
}

// TestAWatchOfASpaceWhoseDropIsTriedIsServed: an EventSource that is refused comes back no more,
// and the space may stay.
func TestAWatchOfASpaceWhoseDropIsTriedIsServed(t *testing.T) {
	a := newAPI(t, peer.Config{})
	const path, value = "/v1/keys/k?space=orders", `{"type":"string","value":"v"}`
	a.want(200, `{"changed":["k"]}`, "PUT", path, value)
	at, _ := a.serve()
	ctx, giveUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.p.DropSpace(ctx, "orders", false) }()
	var w *httptest.ResponseRecorder
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); {
		if w = a.do("PUT", path, value); w.Code != 200 {
			break
		}
	}
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"leaving"`) {
		t.Errorf("a write is answered with %d %v %s", w.Code, w.Header(), w.Body)
	}
	s := a.events(at, "space=orders", "")
	s.want("open")
	giveUp()
	if err := <-ended; !errors.Is(err, peer.ErrUnreplicated) {
		t.Fatalf("the drop returned %v, want %v", err, peer.ErrUnreplicated)
	}
	a.want(200, `{"changed":["k"]}`, "PUT", path, value)
	s.want("change", "k")
}

func TestAWatchEndsBeforeItHoldsTooMuchAndGoesOn(t *testing.T) {
	a := newAPI(t, peer.Config{})
	at, _ := a.serve()
	const held = MaxHeld - 1<<20
	a.s.held.Store(held)
	s := a.events(at, "", "")
	s.want("open")
	a.enable("small")
	last := s.want("change", "small")
	large := []octets{octets(strings.Repeat("a", 60_000))}
	for len(large) < 10 {
		large = append(large, large[0]+octets(strconv.Itoa(len(large))))
	}
	keys := make([]string, len(large))
	for i, key := range large {
		keys[i] = string(key)
	}
	a.enable(keys...)
	if e, ok := s.next(); !ok || e.name != "problem" || len(e.Keys) > 0 {
		t.Fatalf("a change of more than may be held is told as %q, with %d keys", e.name, len(e.Keys))
	}
	if _, more := s.next(); more {
		t.Error("the watch goes on")
	}
	for a.s.held.Load() != held { // until the request has ended
		runtime.Gosched()
	}
	a.s.held.Store(0)
	s = a.events(at, "", last.id)
	s.want("open")
	s.want("change", large...)
}

func TestTheServersEndEndsWatches(t *testing.T) {
	a := newAPI(t, peer.Config{})
	at, stop := a.serve()
	s := a.events(at, "", "")
	s.want("open")
	stop()
	if e, ok := s.next(); ok {
		t.Errorf("after the end of the server: %+v", e)
	}
	if err := s.in.Err(); err != nil {
		t.Errorf("the watch was cut off: %v", err)
	}
}

func TestWatchesAreBounded(t *testing.T) {
	a := newAPI(t, peer.Config{})
	at, _ := a.serve()
	for range MaxWatches {
		a.events(at, "", "").want("open")
	}
	resp, err := http.Get(at + "/v1/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 503 || p.Code != "too-many-watches" || !strings.Contains(p.Detail, "MaxWatches") {
		t.Errorf("one watch too many is answered with %d %+v", resp.StatusCode, p)
	}
	if w := a.do("GET", "/v1/keys", ""); w.Code != 200 {
		t.Errorf("beside all watches, a request is answered with %d", w.Code)
	}
}

// A watcher that does not read is cut off by the connection's deadline; until then writers do not
// notice.
func TestAWatcherThatDoesNotReadDoesNotHoldWritersUp(t *testing.T) {
	a := newAPI(t, peer.Config{})
	at, _ := a.serve()
	a.events(at, "", "").want("open") // and reads nothing more
	long := strings.Repeat("x", 1000)
	for i := range 30 {
		var keys []string
		for j := range 1000 {
			keys = append(keys, fmt.Sprint(long, i, ":", j))
		}
		a.enable(keys...) // 30 MB of keys in all
	}
	if _, err := a.p.Status(); err != nil {
		t.Error(err)
	}
}
