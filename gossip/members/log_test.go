package members

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestWarningsOfAKindComeOnceAMinute(t *testing.T) {
	now := noon
	l := limiter{now: func() time.Time { return now }}
	if !l.allow("a") || l.allow("a") || !l.allow("b") {
		t.Error("not one of each kind")
	}
	now = now.Add(warnEvery)
	if !l.allow("a") || l.allow("a") {
		t.Error("not one more after a minute")
	}
	for n := range 10 * maxKinds {
		l.allow(fmt.Sprint(n))
	}
	if len(l.last) > maxKinds+1 {
		t.Errorf("remembers %d kinds", len(l.last))
	}
}

func TestLinesOfMemberlistAreToldApart(t *testing.T) {
	var text memory
	j := &journal{to: text.logger(), limit: limiter{now: func() time.Time { return noon }},
		known: func(addr string) bool { return addr == "10.0.0.2:5" || addr == "10.0.0.1:5" }}
	const no = "no installed keys could decrypt the message"
	for _, line := range []string{
		"[ERR] memberlist: failed to receive: " + no + " from=10.0.0.1:5",
		"[ERR] memberlist: Decrypt packet failed: " + no + " from=10.0.0.2:5",
		"[ERR] memberlist: Decrypt packet failed: " + no + " from=10.0.0.4:6",
		"[ERR] memberlist: Decrypt packet failed: " + no + " from=10.0.0.4:7",
		"[DEBUG] memberlist: failed to join 10.0.0.3:5: " + no,
		"[ERR] memberlist: Failed to send UDP ping: network is unreachable",
		"[ERR] memberlist: Failed to send UDP ping: no buffer space",
		"[INFO] memberlist: Suspect x has failed, no acks received",
		"",
	} {
		fmt.Fprintln(j, line)
	}
	for part, want := range map[string]int{
		"another cluster key":        1,
		"10.0.0.1:5":                 1,
		"memberlist reports":         1,
		"network is unreachable":     1,
		"Suspect":                    0,
		"level=WARN":                 2,
		"level=INFO":                 0,
		"level=ERROR":                0,
		"give both the same cluster": 1,
	} {
		if got := text.count(part); got != want {
			t.Errorf("%d lines with %q, want %d", got, part, want)
		}
	}
	var at []string
	for _, seen := range j.seen.all {
		at = append(at, seen.Addr)
	}
	if want := []string{"10.0.0.1", "10.0.0.2:5", "10.0.0.4"}; !slices.Equal(at, want) {
		t.Errorf("hosts with another key at %v, want %v: the port of a connection, and a stranger's, is nobody's", at, want)
	}
	j.silent.Store(true)
	j.warn("after Close")
	if text.count("after Close") != 0 {
		t.Error("logged after Close")
	}
}
