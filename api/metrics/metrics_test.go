package metrics

import (
	"errors"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/latency"
	"github.com/peerd/peerd/peer"
)

// fakePeer has figures, or an error.
type fakePeer struct {
	metrics peer.Metrics
	err     error
}

func (p fakePeer) Metrics() (peer.Metrics, error) { return p.metrics, p.err }

// times returns counts of one duration.
func times(d time.Duration) latency.Counts {
	var h latency.Histogram
	h.Observe(d, 1)
	return h.Counts()
}

// everything is a configuration whose scrape has each metric.
func everything() Config {
	frontend := func() Frontend {
		return Frontend{Clients: 3, Accepted: 5, Refused: 1, Slow: 2,
			Times: map[string]latency.Counts{"get": times(20 * time.Microsecond)}}
	}
	m := peer.Metrics{
		Status: peer.Status{
			Ready: true, FreeBytes: 1 << 40, MinFreeBytes: 1 << 30, Spaces: []peer.SpaceStatus{
				{Space: "default", Repairing: &peer.Repairing{Cells: 1, Of: 2}, VersionVector: map[string]uint64{"aa": 7}, Replicas: 2, Mutations: 12}},
			Members: []peer.Member{{Name: "lima\xff", PeerID: "12D3", Alive: true, Linked: true, TheyLack: new(uint64(0)), WeLack: new(uint64(4)), RTTms: new(1.5),
				ClockOffsetMs: new(-2500.0)}},
		},
		Stable: 9, CommitTimes: peer.Times(times(time.Millisecond)), LogAge: time.Minute,
		Traffic: []peer.Traffic{{Layer: "push", Sent: 100, Received: 200}},
	}
	m.Offered.Copies = 6
	return Config{Peer: fakePeer{metrics: m}, Version: "v1", Redis: frontend, HTTP: frontend}
}

func scrape(t *testing.T, config Config) (code int, text string) {
	t.Helper()
	w := httptest.NewRecorder()
	New(config).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Code, w.Body.String()
}

func TestFiguresAreInTheScrape(t *testing.T) {
	code, text := scrape(t, everything())
	if code != 200 {
		t.Fatalf("answered %d: %s", code, text)
	}
	for _, line := range []string{
		`peerd_build_info{version="v1"} 1`, `peerd_ready 1`, `peerd_dots 12`, `peerd_stable_dots 9`,
		`peerd_member_ahead_dots{name="lima?",peer_id="12D3"} 4`,
		`peerd_member_clock_offset_seconds{name="lima?",peer_id="12D3"} -2.5`,
		`peerd_sent_bytes_total{layer="push"} 100`, `peerd_deltas_received_total{outcome="copy"} 6`,
		`peerd_commit_seconds_bucket{le="0.001024"} 1`, `peerd_commit_seconds_bucket{le="0.000512"} 0`,
		`peerd_redis_command_seconds_bucket{command="get",le="3.2e-05"} 1`, `peerd_redis_clients 3`,
		`peerd_http_request_seconds_count{route="get"} 1`, `peerd_log_age_seconds 60`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

func TestAPeerThatFailedIsNotShownAsZeros(t *testing.T) {
	config := everything()
	config.Peer = fakePeer{err: errors.New("the peer is closed")}
	_, text := scrape(t, config)
	if strings.Contains(text, "peerd_ready") || !strings.Contains(text, "peerd_redis_clients") {
		t.Errorf("the scrape has\n%s", text)
	}
}

// TestEachMetricSaysWhatToDo holds the metrics against docs/operations.md, both ways.
func TestEachMetricSaysWhatToDo(t *testing.T) {
	_, text := scrape(t, everything())
	exposed := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(text, -1) {
		if name, ours := strings.CutPrefix(found[1], "peerd_"); ours {
			exposed[name] = true
		} else if !regexp.MustCompile(`^(go|process)_`).MatchString(found[1]) {
			t.Errorf("%s is neither ours nor of the Go runtime or the process", found[1])
		}
	}
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `peerd_([a-z_]+)`.*$")
	for _, found := range row.FindAllStringSubmatch(string(doc), -1) {
		cells := strings.Split(found[0], "|")
		if len(cells) != 5 || strings.TrimSpace(cells[2]) == "" || len(strings.TrimSpace(cells[3])) < 10 {
			t.Errorf("the row of peerd_%s does not say what it is and what to do", found[1])
		}
		if !exposed[found[1]] {
			t.Errorf("peerd_%s is documented, once too often or in vain", found[1])
		}
		delete(exposed, found[1])
	}
	for name := range exposed {
		t.Errorf("peerd_%s has no row in docs/operations.md: say what to do when it moves", name)
	}
}
