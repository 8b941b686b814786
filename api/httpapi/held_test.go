package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/peer"
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

func TestABodyCountsForWhatItIsDecodedTo(t *testing.T) {
	a := newAPI(t, peer.Config{})
	empty := `{"ops":[` + strings.Repeat("{},", 2<<20) + `{}]}`
	braces := `{"ops":[{"op":"string.set","path":["x"],"value":"` +
		strings.Repeat(`{,\"`, crdt.MaxValue/3) + `"}]}`
	for code, body := range map[int]string{
		http.StatusServiceUnavailable: empty,
		http.StatusOK:                 braces,
	} {
		if w := a.do("POST", "/v1/tx", body); w.Code != code {
			t.Errorf("a body that begins with %s is answered with %d, want %d", body[:50], w.Code, code)
		}
	}
}

func TestWhatIsReadCountsBeforeAllOfItIs(t *testing.T) {
	a := newAPI(t, peer.Config{})
	ops := `{"op":"set.add","path":["s"],"elements":["%[1]s"]},{"op":"string.set","path":["m","%[1]s"],"value":""},`
	body := ""
	for i := range 100 {
		body += fmt.Sprintf(ops, fmt.Sprintf("%01000d", i))
	}
	a.do("POST", "/v1/tx", `{"ops":[`+strings.TrimSuffix(body, ",")+`]}`)
	const left = 10_000
	var held atomic.Int64
	var v value
	reads := map[string]func(r *reader, f crdt.Fields) error{
		"elements": func(r *reader, f crdt.Fields) error {
			_, err := setForm.read(r, spot{f, "s"}, nil, MaxItems, &v)
			return err
		},
		"names": func(r *reader, f crdt.Fields) error {
			names, _, err := r.names(f.Map("m"), nil, MaxItems)
			all := make([]octets, len(names))
			v.Elements = &all
			return err
		},
	}
	for what, read := range reads {
		held.Store(MaxHeld - left)
		err := a.p.View(t.Context(), func(tx *peer.Tx) error {
			return read(newReader(false, &share{all: &held}), tx.Fields)
		})
		if n := len(*v.Elements); !errors.Is(err, errBusy) || n > left/1000/copies+1 {
			t.Errorf("%d %s of 1,000 bytes were read with %d bytes left: %v", n, what, left, err)
		}
	}
}

// stalled is an answer whose client takes nothing before it is told.
type stalled struct {
	*httptest.ResponseRecorder
	begun, goOn chan struct{}
	once        sync.Once
}

func (s *stalled) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.begun); <-s.goOn })
	return s.ResponseRecorder.Write(b)
}

// TestWhoReadsSlowlyLeavesOthersTheirMemory has an answer take all that is left while it is made.
func TestWhoReadsSlowlyLeavesOthersTheirMemory(t *testing.T) {
	a := newAPI(t, peer.Config{})
	const size = 1 << 20
	a.put("k", strings.Repeat("v", size), "")
	a.s.held.Store(MaxHeld - size*copies)
	w := &stalled{ResponseRecorder: httptest.NewRecorder(), begun: make(chan struct{}), goOn: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(func() { a.s.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v1/keys/k", nil)) })
	<-w.begun
	a.put("other", "v", "")
	close(w.goOn)
	reading.Wait()
	if w.Code != http.StatusOK || w.Body.Len() < size {
		t.Errorf("the slow one is answered with %d and %d bytes", w.Code, w.Body.Len())
	}
	if left := a.s.held.Load(); left != MaxHeld-size*copies {
		t.Errorf("%d bytes are still held", left-(MaxHeld-size*copies))
	}
}

// TestWhoIsAnsweredAWriteSlowlyHoldsWhatItIsToldAlone and no more what the body took, of which most
// went into the store.
func TestWhoIsAnsweredAWriteSlowlyHoldsWhatItIsToldAlone(t *testing.T) {
	a := newAPI(t, peer.Config{})
	const size = 8 << 20
	value := strings.Repeat("v", size)
	for path, body := range map[string]string{
		"PUT /v1/keys/k": `{"type":"string","value":"` + value + `"}`,
		"POST /v1/tx":    `{"ops":[{"op":"string.set","path":["k"],"value":"` + value + `"},{"op":"delete","prefix":"k"}]}`,
	} {
		method, target, _ := strings.Cut(path, " ")
		r := httptest.NewRequest(method, "http://localhost"+target, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := &stalled{ResponseRecorder: httptest.NewRecorder(), begun: make(chan struct{}), goOn: make(chan struct{})}
		var writing sync.WaitGroup
		writing.Go(func() { a.s.ServeHTTP(w, r) })
		<-w.begun
		if held := a.s.held.Load(); held > size/4 {
			t.Errorf("while %s of %d bytes is answered %d bytes are held", path, size, held)
		}
		close(w.goOn)
		writing.Wait()
		if w.Code != http.StatusOK {
			t.Errorf("%s is answered with %d: %s", path, w.Code, w.Body)
		}
	}
}
