package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/peer"
)

// fakePeer answers what it is told to.
type fakePeer struct {
	Peer          // nil: no test asks it for data
	ready, broken error
	status        peer.Status
	backup        string
	rotated       bool // a change of the key comes to its end
}

func (f *fakePeer) Space(string) (*peer.Space, error)             { return nil, peer.ErrNotHeld }
func (f *fakePeer) DropSpace(context.Context, string, bool) error { return peer.ErrNotHeld }

func (f *fakePeer) Ready() error                 { return f.ready }
func (f *fakePeer) Status() (peer.Status, error) { return f.status, f.broken }
func (f *fakePeer) Mutations() (uint64, error)   { return f.status.Mutations, f.broken }

func (f *fakePeer) Backup(_ context.Context, w io.Writer, _ func(peer.BackupProgress)) (
	info peer.BackupInfo, err error) {
	if f.broken == nil || f.backup != "" {
		_, err = io.WriteString(w, f.backup)
	}
	return info, errors.Join(f.broken, err)
}

func ask(s *Server, method, path, host string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestEachPathAnswersAsDocumented(t *testing.T) {
	catchingUp := errors.New("catching up with the other peers")
	tests := []struct {
		method, path string
		peer         fakePeer
		code         int
		body         string // a part of it
		media        string
	}{
		{"GET", "/healthz", fakePeer{ready: catchingUp}, 200, "ok\n", "text/plain"},
		{"HEAD", "/healthz", fakePeer{}, 200, "", "text/plain"},
		{"GET", "/readyz", fakePeer{}, 200, "ready\n", "text/plain"},
		{"GET", "/readyz", fakePeer{ready: catchingUp}, 503, "catching up", "text/plain"},
		{"GET", "/v1/status", fakePeer{}, 200, `"version_vector"`, "application/json"},
		{"GET", "/v1/status", fakePeer{broken: peer.ErrClosed}, 503, `"detail": "the peer is`,
			"application/problem+json"},
		{"GET", "/v1/backup", fakePeer{backup: "all"}, 200, "all", backupType},
		{"HEAD", "/v1/backup", fakePeer{backup: "all"}, 200, "", backupType},
		{"GET", "/v1/backup", fakePeer{broken: peer.ErrBackupRuns}, 409, "runs already", "application/problem+json"},
		{"GET", "/v1/backup", fakePeer{broken: peer.ErrRebuilding}, 503, "is damaged", "application/problem+json"},
		{"HEAD", "/v1/backup", fakePeer{broken: peer.ErrBackupRuns}, 409, "", "application/problem+json"},
		{"GET", "/", fakePeer{}, 200, "<!DOCTYPE html>", "text/html"},
		{"GET", "/console.js", fakePeer{}, 200, "'use strict'", "text/javascript"},
		{"GET", "/console.css", fakePeer{}, 200, "prefers-color-scheme", "text/css"},
		{"GET", "/nothing", fakePeer{}, 404, `"no-such-path"`, "application/problem+json"},
		{"GET", "/v1/", fakePeer{}, 404, `"no-such-path"`, "application/problem+json"},
		{"POST", "/v1/status", fakePeer{}, 405, `"method-not-allowed"`, "application/problem+json"},
		{"DELETE", "/", fakePeer{}, 405, `"method-not-allowed"`, "application/problem+json"},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			w := ask(New(Config{Peer: &test.peer}), test.method, test.path, "localhost")
			if w.Code != test.code || !strings.Contains(w.Body.String(), test.body) {
				t.Errorf("answered %d %q, want %d with %q", w.Code, w.Body, test.code, test.body)
			}
			if media := w.Header().Get("Content-Type"); !strings.HasPrefix(media, test.media) {
				t.Errorf("the media type is %q, want %q", media, test.media)
			}
			if allow := w.Header().Get("Allow"); (test.code == 405) != (allow == "GET, HEAD") {
				t.Errorf("Allow is %q", allow)
			}
			if w.Header().Get("Content-Security-Policy") != policy {
				t.Error("no content security policy")
			}
		})
	}
}

// TestHEADOfABackupIsAnsweredAsGET is, without a backup.
func TestHEADOfABackupIsAnsweredAsGET(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.put("k", strings.Repeat("v", 4<<20), "")
	for path, code := range map[string]int{
		"/v1/backup": 200, "/v1/backup?space=default": 200, "/v1/backup?space=nosuch": 404, "/v1/backup?space=No": 400,
	} {
		get, head := ask(a.s, "GET", path, "localhost"), ask(a.s, "HEAD", path, "localhost")
		if get.Code != code || head.Code != code {
			t.Errorf("GET %s is answered with %d and HEAD with %d, want %d", path, get.Code, head.Code, code)
		}
		get.Header().Del("X-Request-Id")
		head.Header().Del("X-Request-Id")
		if !maps.EqualFunc(get.Header(), head.Header(), slices.Equal) {
			t.Errorf("GET %s has the headers %v and HEAD %v", path, get.Header(), head.Header())
		}
		if code == 200 && head.Body.Len() > 0 {
			t.Errorf("HEAD %s is answered with %d bytes", path, head.Body.Len())
		}
	}
}

func TestTheStatusIsThePeersOwn(t *testing.T) {
	want := peer.Status{
		Name: "oslo", SpaceStatus: peer.SpaceStatus{VersionVector: map[string]uint64{"00000000000000aa": 7},
			ContextHash: "c0", Root: "f0"},
		Members: []peer.Member{{Name: "lima", Alive: true, TheyLack: new(uint64(3)), RTTms: new(0.5)}},
	}
	w := ask(New(Config{Peer: &fakePeer{status: want}}), "GET", "/v1/status", "127.0.0.1:7948")
	var got peer.Status
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRequestsInTheNameOfAnotherHostAreRefused(t *testing.T) {
	s := New(Config{Peer: &fakePeer{}})
	for host, code := range map[string]int{
		"localhost": 200, "LOCALHOST:7948": 200, "127.0.0.1": 200, "127.8.0.1:80": 200, "[::1]:7948": 200,
		"::1": 200, "": 421, "example.com": 421, "localhost.example.com": 421, "192.0.2.1:7948": 421,
		"127.0.0.1.example.com:7948": 421,
	} {
		if w := ask(s, "GET", "/v1/status", host); w.Code != code {
			t.Errorf("Host %q is answered with %d, want %d", host, w.Code, code)
		}
	}
	r := httptest.NewRequest("GET", "http://192.0.2.1:7948/healthz", nil)
	local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:7948"))
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("the address that the connection came in on is answered with %d, want 200", w.Code)
	}
}

func TestThePageNamesNoOtherServer(t *testing.T) {
	for _, name := range []string{"index.html", "console.css", "console.js"} {
		content, err := consoleFiles.ReadFile("console/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, forbidden := range []string{"http://", "https://", "//cdn", "style=", "onclick", "innerHTML"} {
			if strings.Contains(string(content), forbidden) {
				t.Errorf("%s contains %q", name, forbidden)
			}
		}
	}
}

func TestServingEndsWithItsContextAndFinishesWhatItAnswers(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	s := New(Config{Peer: slowPeer{asked: asked, answer: answer}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var served, asking sync.WaitGroup
	served.Go(func() {
		if err := s.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	asking.Go(func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/readyz")
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); string(body) != "ready\n" {
			t.Errorf("the answer under way was %q", body)
		}
	})
	<-asked
	stop()
	close(answer)
	served.Wait()
	asking.Wait()
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("still accepting after Serve returned")
	}
}

// slowPeer says when it is asked and waits to be let go.
type slowPeer struct {
	Peer
	asked, answer chan struct{}
}

func (p slowPeer) Ready() error {
	close(p.asked)
	<-p.answer
	return nil
}

func (p slowPeer) Status() (peer.Status, error) { return peer.Status{}, nil }
func (p slowPeer) Mutations() (uint64, error)   { return 0, nil }

func (p slowPeer) Backup(context.Context, io.Writer, func(peer.BackupProgress)) (peer.BackupInfo, error) {
	return peer.BackupInfo{}, nil
}

func TestOversizedHeadersAreRefused(t *testing.T) {
	s := New(Config{Peer: &fakePeer{}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	defer served.Wait()
	defer stop()
	r, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("x", 2*MaxHeader))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered with %d, want 431", resp.StatusCode)
	}
}

// TestALongestTokenIsTaken in whichever place: it is no token, and that is what is told.
func TestALongestTokenIsTaken(t *testing.T) {
	a := newAPI(t, peer.Config{})
	at, _ := a.serve()
	long := strings.Repeat("x", peer.MaxToken)
	for _, test := range []struct{ path, header string }{
		{"/v1/keys/k", tokenHeader}, {"/v1/keys/k?token=" + long, ""},
		{"/v1/watch", "Last-Event-ID"}, {"/v1/watch?since=" + long, ""},
	} {
		r, err := http.NewRequest("GET", at+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.header != "" {
			r.Header.Set(test.header, long)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), `"bad-token"`) {
			t.Errorf("%.20s %s: answered with %d: %.200s", test.path, test.header, resp.StatusCode, body)
		}
	}
}

func TestABackupThatEndsEarlyIsABrokenAnswer(t *testing.T) {
	server := httptest.NewServer(New(Config{Peer: &fakePeer{backup: "some", broken: peer.ErrClosed}}))
	defer server.Close()
	resp, err := http.Get(server.URL + "/v1/backup")
	if err != nil {
		return // broken before its headers came
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the whole answer is %q", body)
	}
}

// manyReplicas is a peer at which more replicas have written than a token can name.
type manyReplicas struct{ *peer.Peer }

func (p manyReplicas) ViewToken(ctx context.Context, fn func(*peer.Tx) error) (peer.Token, error) {
	return "", errors.Join(p.View(ctx, fn), peer.ErrTooManyReplicas)
}

func (p manyReplicas) UpdateToken(ctx context.Context, fn func(*peer.Tx) error) (peer.Token, error) {
	return "", errors.Join(p.Update(ctx, fn), peer.ErrTooManyReplicas)
}

func TestWhereNoTokenCanBeMadeDataIsAnsweredWithoutOne(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.s = New(Config{Peer: manyReplicas{a.p}})
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", `{"type":"string","value":"v"}`)
	a.want(200, `{"key":"k","type":"string","value":"v"}`, "GET", "/v1/keys/k", "")
	a.want(200, `{"keys":[{"key":"k","types":["string"]}]}`, "GET", "/v1/keys", "")
	a.refused(404, "not-found", "GET", "/v1/keys/l", "")
	a.refused(501, "too-many-replicas", "GET", "/v1/watch", "") // at once, and not at the first change
}

// outgrown is a watch whose next change has no token.
type outgrown struct{ told bool }

func (o *outgrown) Next(context.Context) (peer.Change, error) {
	o.told = true
	return peer.Change{Keys: []string{"k"}}, nil
}

func (o *outgrown) Token() (peer.Token, error) {
	if o.told {
		return "", peer.ErrTooManyReplicas
	}
	return "t", nil
}

func TestAWatchThatOutgrowsItsTokensEndsWithAProblem(t *testing.T) {
	w := httptest.NewRecorder()
	out := events{w: w, control: http.NewResponseController(w), share: &share{all: new(atomic.Int64)}}
	out.follow(t.Context(), &outgrown{})
	got := w.Body.String()
	if !strings.Contains(got, "event: change\n") || !strings.Contains(got, "event: problem\n") ||
		!strings.Contains(got, `"code":"too-many-replicas"`) {
		t.Errorf("it sent %s", got)
	}
}

func TestADeleteByPrefixGoesInSteps(t *testing.T) {
	a := newAPI(t, peer.Config{})
	const n = MaxOperations + 100
	err := a.p.Update(t.Context(), func(tx *peer.Tx) error {
		for i := range n {
			if err := tx.Register(fmt.Sprintf("k%05d", i)).Set([]byte("v")); err != nil {
				return err
			}
		}
		return tx.Register("other").Set([]byte("v"))
	})
	if err != nil {
		t.Fatal(err)
	}
	step := func(cursor string) result {
		var done changes
		body := fmt.Sprintf(`{"ops":[{"op":"delete","prefix":"k"%s}]}`, cursor)
		if w := a.do("POST", "/v1/tx", body); w.Code != 200 {
			t.Fatalf("%d: %s", w.Code, w.Body)
		} else if err := json.Unmarshal(w.Body.Bytes(), &done); err != nil {
			t.Fatal(err)
		}
		return done.Results[0]
	}
	first := step("")
	if *first.Count != MaxOperations || first.Cursor == "" {
		t.Fatalf("the first step deleted %d, with the cursor %q", *first.Count, first.Cursor)
	}
	// What is written behind the cursor meanwhile does not keep it from coming to its end.
	a.want(200, `{"changed":["k00000"]}`, "PUT", "/v1/keys/k00000", `{"type":"string","value":"v"}`)
	if second := step(fmt.Sprintf(`,"cursor":%q`, first.Cursor)); *second.Count != 100 || second.Cursor != "" {
		t.Errorf("the second step deleted %d, with the cursor %q", *second.Count, second.Cursor)
	}
	a.want(200, `{"keys":[{"key":"k00000","types":["string"]},{"key":"other","types":["string"]}]}`, "GET", "/v1/keys", "")
	a.refused(400, "bad-request", "POST", "/v1/tx", `{"ops":[{"op":"delete","prefix":"k","cursor":"."}]}`)
	a.refused(400, "bad-request", "POST", "/v1/tx", `{"ops":[{"op":"delete","path":["k"],"cursor":"bg"}]}`)
}

// smallPeer takes transactions that write to so many keys at most.
type smallPeer struct {
	Peer
	most int
}

func (p smallPeer) UpdateToken(ctx context.Context, fn func(*peer.Tx) error) (peer.Token, error) {
	return p.Peer.UpdateToken(ctx, func(tx *peer.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		keys := map[string]bool{}
		tx.Touched(0, func(key string) { keys[key] = true })
		if len(keys) > p.most {
			return peer.ErrTooLarge
		}
		return nil
	})
}

// TestADeleteByPrefixGetsThroughKeysThatCostMuch has no step delete as many as it may look at.
func TestADeleteByPrefixGetsThroughKeysThatCostMuch(t *testing.T) {
	a := newAPI(t, peer.Config{})
	const n, most = 100, 7
	err := a.p.Update(t.Context(), func(tx *peer.Tx) error {
		for i := range n {
			if err := tx.Register(fmt.Sprintf("k%02d", i)).Set([]byte("v")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	a.s = New(Config{Peer: smallPeer{a.p, most}})
	deleted, cursor := 0, ""
	for more := true; more; more = cursor != "" {
		var done changes
		w := a.do("POST", "/v1/tx", fmt.Sprintf(`{"ops":[{"op":"delete","prefix":"k","cursor":%q}]}`, cursor))
		if err := json.Unmarshal(w.Body.Bytes(), &done); err != nil || w.Code != 200 {
			t.Fatalf("after %d of %d keys: %d %s", deleted, n, w.Code, w.Body)
		}
		deleted, cursor = deleted+*done.Results[0].Count, done.Results[0].Cursor
	}
	if deleted != n {
		t.Errorf("%d of %d keys were deleted", deleted, n)
	}
	a.want(200, `{"keys":[]}`, "GET", "/v1/keys", "")
	a.put("k", "v", "")
	a.s = New(Config{Peer: smallPeer{a.p, 0}})
	a.refused(413, "too-large", "POST", "/v1/tx", `{"ops":[{"op":"delete","prefix":"k"}]}`)
}
