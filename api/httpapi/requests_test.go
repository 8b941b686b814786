package httpapi

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestRequestsAreLoggedWithTheirNumberAndCountedByRoute(t *testing.T) {
	var log bytes.Buffer
	s := New(Config{
		Peer:   &fakePeer{ready: errors.New("catching up")},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	for i, path := range []string{"/readyz", "/healthz", "/nowhere" + strings.Repeat("x", 1000)} {
		w := ask(s, http.MethodGet, path, "localhost")
		if got, want := w.Header().Get("X-Request-Id"), string(rune('1'+i)); got != want {
			t.Errorf("the answer has number %s, want %s", got, want)
		}
	}
	want := regexp.MustCompile(`level=DEBUG msg=request request_id=1 method=GET path=/readyz ` +
		`client=\S+ status=503 bytes=12 ms=\S+ total_ms=\S+\n`)
	if !want.Match(log.Bytes()) {
		t.Errorf("the log is\n%s", &log)
	}
	if longest := 600; log.Len() > 3*longest {
		t.Errorf("the log of three requests has %d bytes", log.Len())
	}
	times := s.Metrics().Times
	for _, route := range []string{"GET /readyz", "GET /healthz", "/"} {
		if times[route].Total != 1 {
			t.Errorf("%s was counted %d times", route, times[route].Total)
		}
	}
	if s.Metrics().Slow != 0 {
		t.Error("something was slow without a limit")
	}
}

func TestASlowRequestIsAWarning(t *testing.T) {
	var log bytes.Buffer
	s := New(Config{Peer: &fakePeer{}, SlowLog: time.Nanosecond,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ask(s, http.MethodGet, "/v1/status", "localhost")
	if !strings.Contains(log.String(), `level=WARN msg="slow request" request_id=1`) {
		t.Errorf("the log is %s", &log)
	}
	if n := s.Metrics().Slow; n != 1 {
		t.Errorf("%d requests were slow, want 1", n)
	}
}
