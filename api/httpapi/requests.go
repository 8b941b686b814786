package httpapi

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/internal/latency"
)

// requests counts and logs what was asked, by route.
type requests struct {
	log  *slog.Logger
	slow time.Duration // how long a request may take to be answered before it is logged; 0: any time
	last atomic.Uint64 // number of the newest request
	late atomic.Uint64 // requests that were slow

	mu    sync.Mutex
	times map[string]*latency.Histogram // by route: there are only so many
}

// Metrics are a server's figures for monitoring, since it was made.
type Metrics struct {
	Slow  uint64                    // requests that took longer than Config.SlowLog
	Times map[string]latency.Counts // until the answer began, by route
}

// Metrics returns the server's figures. Routes that nobody asked for are left out.
func (s *Server) Metrics() Metrics {
	s.requests.mu.Lock()
	times := maps.Clone(s.requests.times)
	s.requests.mu.Unlock()
	m := Metrics{Slow: s.requests.late.Load(), Times: map[string]latency.Counts{}}
	for _, route := range slices.Sorted(maps.Keys(times)) {
		m.Times[route] = times[route].Counts()
	}
	return m
}

// observe counts requests and logs them: at debug level, those that are slow as a warning. Each has a
// number, which its answer names in the header X-Request-Id. The mux behind it says what the route is.
func (q *requests) observe(mux http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := q.last.Add(1)
		w.Header().Set("X-Request-Id", strconv.FormatUint(id, 10))
		answer := &answer{ResponseWriter: w, code: http.StatusOK}
		mux.ServeHTTP(answer, r)
		ended := time.Now()
		if answer.began.IsZero() {
			answer.began = ended
		}
		took := answer.began.Sub(began)
		q.of(r.Pattern).Observe(took, 1)
		level, what := slog.LevelDebug, "request"
		if q.slow > 0 && took >= q.slow {
			level, what = slog.LevelWarn, "slow request"
			q.late.Add(1)
		}
		if !q.log.Enabled(r.Context(), level) {
			return
		}
		q.log.LogAttrs(context.WithoutCancel(r.Context()), level, what,
			slog.Uint64("request_id", id), slog.String("method", r.Method),
			slog.String("path", shown(r.URL.Path)), slog.String("client", r.RemoteAddr),
			slog.Int("status", answer.code), slog.Int64("bytes", answer.bytes),
			slog.Float64("ms", milliseconds(took)), slog.Float64("total_ms", milliseconds(ended.Sub(began))))
	})
}

// of returns the times of a route.
func (q *requests) of(route string) *latency.Histogram {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.times[route]
	if h == nil {
		h = &latency.Histogram{}
		q.times[route] = h
	}
	return h
}

// shown returns what the log has of a path: it may hold a long key.
func shown(path string) string {
	const most = 256 // bytes
	return path[:min(len(path), most)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// answer notes how a request is answered.
type answer struct {
	http.ResponseWriter
	began time.Time // when the answer was
	code  int
	bytes int64
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) {
	a.begin(code)
	a.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.begin(http.StatusOK)
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

func (a *answer) begin(code int) {
	if a.began.IsZero() && code >= http.StatusOK {
		a.began, a.code = time.Now(), code
	}
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
