package httpapi

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRequestsOfPagesOfOtherSitesAreRefused(t *testing.T) {
	s := New(Config{Peer: &fakePeer{}})
	for _, test := range []struct {
		method, path, headers string
		code                  int
	}{
		{"GET", "/v1/status", "", 200},
		{"GET", "/v1/status", "Sec-Fetch-Site: same-origin", 200},
		{"GET", "/v1/status", "Sec-Fetch-Site: none", 200},
		{"GET", "/v1/status", "Origin: http://localhost:7948", 200},
		{"GET", "/v1/status", "Sec-Fetch-Site: cross-site", 403},
		{"GET", "/v1/status", "Sec-Fetch-Site: same-site", 403},
		{"GET", "/v1/status", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", 403},
		{"GET", "/v1/status", "Origin: http://example.com", 403},
		{"GET", "/v1/status", "Origin: http://localhost:3000", 403},
		{"GET", "/v1/status", "Origin: null", 403},
		{"GET", "/v1/watch", "Origin: http://example.com", 403},
		{"POST", "/v1/tx", "Origin: http://example.com", 403},
		{"POST", "/v1/tx", "Sec-Fetch-Site: cross-site", 403},
		{"DELETE", "/v1/keys/k", "Sec-Fetch-Site: cross-site", 403},
		{"OPTIONS", "/v1/tx", "Origin: http://example.com|Access-Control-Request-Method: POST", 403},
		{"GET", "/", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", 200},
		{"GET", "/", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: iframe", 403},
		{"GET", "/", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: no-cors", 403},
	} {
		r := httptest.NewRequest(test.method, test.path, nil)
		r.Host = "localhost:7948"
		for h := range strings.SplitSeq(test.headers, "|") {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != test.code {
			t.Errorf("%s %s with %q is answered with %d, want %d", test.method, test.path, test.headers, w.Code,
				test.code)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s lets another site read the answer", test.method, test.path)
		}
	}
}
