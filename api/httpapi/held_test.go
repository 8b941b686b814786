package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// halting is a body that says when it has been read up to its middle, and ends when it is told.
type halting struct {
	io.Reader
	half, end chan struct{}
}

func (h *halting) Read(b []byte) (int, error) {
	n, err := h.Reader.Read(b)
	if err == io.EOF {
		close(h.half)
		<-h.end
	}
	return n, err
}

func TestAllRequestsTogetherHoldABoundedMemory(t *testing.T) {
	s := New(Config{Peer: &fakePeer{}})
	post := func(body io.Reader) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "http://localhost/v1/tx", body)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	const size = 7 << 20
	end := make(chan struct{})
	answers := make(chan int)
	held := 0
	for ; (held+1)*size*copies <= MaxHeld; held++ {
		body := &halting{strings.NewReader(strings.Repeat(" ", size)), make(chan struct{}), end}
		go func() { answers <- post(body).Code }()
		<-body.half
	}
	w := post(strings.NewReader(strings.Repeat(" ", size)))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" ||
		!strings.Contains(w.Body.String(), "MaxHeld") {
		t.Errorf("beyond the limit a request is answered with %d: %s", w.Code, w.Body)
	}
	if w := ask(s, "GET", "/healthz", "localhost"); w.Code != http.StatusOK {
		t.Errorf("health is answered with %d", w.Code)
	}
	close(end)
	for range held {
		if code := <-answers; code != http.StatusBadRequest { // blanks are no JSON
			t.Errorf("a request within the limit is answered with %d", code)
		}
	}
	if left := s.held.Load(); left != 0 {
		t.Errorf("%d bytes are still held", left)
	}
}
