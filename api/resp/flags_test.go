package resp

import (
	"regexp"
	"strings"
	"testing"
)

// TestOthersSeeWhatAClientIsIn, and INFO counts who is told of what, as Redis has it.
func TestOthersSeeWhatAClientIsIn(t *testing.T) {
	t.Run("by Redis", func(t *testing.T) { testOthersSeeWhatAClientIsIn(t, startRedis(t)) })
	eachWay(t, func(t *testing.T) {
		_, address := startServer(t, Config{db: newMemory(t)})
		testOthersSeeWhatAClientIsIn(t, address)
	})
}

var (
	clientFlags   = regexp.MustCompile(` flags=(\w+) `)
	trackingLines = regexp.MustCompile(`tracking_\w+:\d+`)
)

func testOthersSeeWhatAClientIsIn(t *testing.T, address string) {
	p, other, told := dial(t, address), dial(t, address), dial(t, address)
	id, toldID := p.ask("CLIENT ID")[1:], told.ask("CLIENT ID")[1:]
	flags := func(want string) {
		t.Helper()
		got := clientFlags.FindStringSubmatch(other.ask("CLIENT LIST ID " + id))
		if len(got) != 2 || got[1] != want {
			t.Errorf("the flags are %q, want %q", got, want)
		}
	}
	counted := func(want string) {
		t.Helper()
		if got := strings.Join(trackingLines.FindAllString(other.ask("INFO"), -1), " "); got != want {
			t.Errorf("INFO says %q, want %q", got, want)
		}
	}
	flags("N")
	p.expect("WATCH a b", "+OK")
	other.expect("SET other 1", "+OK")
	flags("N")
	other.expect("SET b 1", "+OK")
	flags("d")
	p.expect("MULTI", "+OK")
	flags("xd")
	p.expect("DISCARD", "+OK")
	flags("N")
	counted("tracking_clients:0 tracking_total_keys:0 tracking_total_items:0 tracking_total_prefixes:0")

	p.expect("CLIENT TRACKING ON REDIRECT "+toldID, "+OK")
	flags("t")
	p.expect("GET b", `"1"`)
	p.expect("GET c", "$-1")
	told.expect("CLIENT TRACKING ON", "+OK")
	told.expect("GET b", `"1"`)
	counted("tracking_clients:2 tracking_total_keys:2 tracking_total_items:3 tracking_total_prefixes:0")
	told.expect("QUIT", "+OK")
	told.expectEnd()
	other.expect("SET b 2", "+OK")
	eventually(t, "it is known that nobody is told", func() bool {
		return strings.Contains(other.ask("CLIENT LIST ID "+id), " flags=tR ")
	})
	p.expect("CLIENT TRACKING OFF", "+OK")
	p.expect("CLIENT TRACKING ON BCAST PREFIX a PREFIX b", "+OK")
	flags("tB")
	other.expect("CLIENT TRACKING ON BCAST PREFIX b", "+OK")
	if got := trackingLines.FindAllString(other.ask("INFO"), -1); got[0] != "tracking_clients:2" || got[3] != "tracking_total_prefixes:2" {
		t.Errorf("INFO says %q", got)
	}
	p.expect("WATCH b", "+OK")
	other.expect("SET b 3", "+OK")
	flags("tBd")
	p.expect("RESET", "+RESET")
	flags("N")
}
