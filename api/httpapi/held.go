package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

const (
	// MaxHeld is how many bytes of bodies, answers and events all requests together may hold,
	// each counted copies times. A request that would go beyond is answered with 503, a watch
	// ends.
	MaxHeld = 256 << 20
	// copies is in how many forms a body, or what is read for an answer, is in memory at once: as
	// read, decoded, and its strings. Of an answer that is sent there are its strings alone: see
	// answerData.
	copies = 4
	// memberSize and objectSize are the bytes that a member of a list and an object of a body
	// take when they are decoded, however short they are, each counted copies times; memberSize
	// also what a field of a stream's entry takes beside its bytes in an answer.
	memberSize = 16
	objectSize = 64
	// resultSize is the same of what an operation did.
	resultSize = 96
)

var errBusy = refuse(http.StatusServiceUnavailable, "busy", fmt.Sprintf(
	"all requests together hold more than %d bytes (MaxHeld): try again, or send and ask for less at once",
	MaxHeld))

// share is what one request holds. One goroutine at a time uses it.
type share struct {
	all   *atomic.Int64 // bytes that all requests hold
	bytes int64
}

// take adds bytes of a body or an answer.
func (s *share) take(n int) error {
	cost := int64(n) * copies
	s.bytes += cost
	if s.all.Add(cost) > MaxHeld {
		return errBusy
	}
	return nil
}

// give takes back what take added.
func (s *share) give(n int) {
	cost := int64(n) * copies
	s.bytes -= cost
	s.all.Add(-cost)
}

// taken returns how many bytes of bodies and answers the request took.
func (s *share) taken() int { return int(s.bytes / copies) }

// keep has the request hold n bytes from now on, whatever it took before.
func (s *share) keep(n int) {
	more := int64(n) - s.bytes
	s.bytes += more
	s.all.Add(more)
}

// shareKey is the context's key of a request's share.
type shareKey struct{}

// ration gives each request a share, and takes it back in the end.
func (s *Server) ration(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := &share{all: &s.held}
		defer func() { s.held.Add(-own.bytes) }()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), shareKey{}, own)))
	})
}

// answerData answers with v, which has so many bytes of names and values. While it is sent, which
// may take long, the request holds those alone, and a piece of the text: who reads slowly does not
// keep others from the memory that only making it took, or that its body did.
func answerData(w http.ResponseWriter, r *http.Request, v any, size int) {
	shareOf(r).keep(size + pieceSize)
	w.Header().Set("Content-Type", "application/json")
	out := &pieces{to: w}
	if encodeTo(out, "  ", v) == nil { // who has gone away is told nothing
		_, _ = out.Write([]byte("\n"))
	}
}

// shareOf returns the share that ration gave a request.
func shareOf(r *http.Request) *share { return r.Context().Value(shareKey{}).(*share) }

// weigh returns how many bytes a body of JSON takes beside its own when it is decoded.
func weigh(body []byte) (n int) {
	inText := false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '\\': // the next is a part of the text
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == ',':
			n += memberSize
		case c == '{':
			n += objectSize
		}
	}
	return n
}

// rationed is a reader whose bytes count.
type rationed struct {
	io.Reader
	share *share
}

func (r rationed) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if busy := r.share.take(n); busy != nil {
		return n, busy
	}
	return n, err
}
