package httpapi

import (
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/internal/auth/authtest"
)

const password = "correct-horse-battery"

// guarded returns a server whose clients need the password.
func guarded(t *testing.T) *Server {
	return New(Config{Peer: &fakePeer{}, Auth: authtest.Guard(t, password)})
}

// askWith asks with an Authorization header.
func askWith(s *Server, path, host, authorization string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	r.Host = host
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestOnlyHealthIsToldWithoutThePassword(t *testing.T) {
	s := guarded(t)
	basic := httptest.NewRequest("GET", "/", nil)
	basic.SetBasicAuth("anyone", password)
	for _, test := range []struct {
		path, host, authorization string
		code                      int
	}{
		{"/healthz", "localhost", "", 200},
		{"/readyz", "localhost", "", 200},
		{"/healthz", "db.example.com", "", 421},
		{"/v1/status", "localhost", "", 401},
		{"/", "localhost", "", 401},
		{"/console.js", "localhost", "", 401},
		{"/nothing", "localhost", "", 401},
		{"/v1/status", "localhost", "Bearer wrong", 401},
		{"/v1/status", "db.example.com", "", 421},
		{"/v1/status", "localhost", "Bearer " + password, 200},
		{"/v1/status", "db.example.com", "bearer " + password, 200},
		{"/", "localhost", basic.Header.Get("Authorization"), 200},
	} {
		w := askWith(s, test.path, test.host, test.authorization)
		if w.Code != test.code {
			t.Errorf("%+v: answered %d", test, w.Code)
		}
		challenges := w.Header().Values("WWW-Authenticate")
		var schemes []string
		for _, line := range challenges {
			scheme, parameters, _ := strings.Cut(line, " ")
			if schemes = append(schemes, scheme); !strings.HasPrefix(parameters, `realm="peerd"`) {
				t.Errorf("%+v: a challenge is %q", test, line)
			}
		}
		var want []string
		if w.Code == 401 {
			want = []string{"Bearer", "Basic"} // a line each
		}
		if !slices.Equal(schemes, want) {
			t.Errorf("%+v: the challenges are %q", test, challenges)
		}
		stays := w.Header().Get("Connection") != "close"
		if stays != (test.authorization != "" && w.Code == 200) {
			t.Errorf("%+v: whether the connection stays: %v", test, stays)
		}
	}
}

func TestWhyAPeerIsNotReadyIsToldWithThePassword(t *testing.T) {
	const why = "space customer-x: catching up with the other peers"
	p := &fakePeer{ready: errors.New(why)}
	guarded, open := New(Config{Peer: p, Auth: authtest.Guard(t, password)}), New(Config{Peer: p})
	for _, test := range []struct {
		s             *Server
		authorization string
		told          bool
	}{{guarded, "", false}, {guarded, "Bearer wrong", false}, {guarded, "Bearer " + password, true}, {open, "", true}} {
		w := askWith(test.s, "/readyz", "localhost", test.authorization)
		if told := strings.Contains(w.Body.String(), "customer-x"); w.Code != 503 || told != test.told {
			t.Errorf("with %q: answered %d %s", test.authorization, w.Code, w.Body)
		}
	}
}

func TestOverTLSAHostHasTheNamesOfItsCertificate(t *testing.T) {
	r := httptest.NewRequest("GET", "https://db.example.com/v1/status", nil)
	w := httptest.NewRecorder()
	New(Config{Peer: &fakePeer{}}).ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("answered %d: %s", w.Code, w.Body)
	}
}

func TestWhoGuessesIsToldToWait(t *testing.T) {
	s := guarded(t)
	for range 20 {
		w := askWith(s, "/v1/status", "localhost", "Bearer wrong")
		if w.Code == 401 {
			continue
		}
		if w.Code != 429 || w.Header().Get("Retry-After") != "1" {
			t.Errorf("answered %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
		}
		return
	}
	t.Error("20 wrong passwords, and no wait")
}
