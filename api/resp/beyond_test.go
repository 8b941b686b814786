package resp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestWaitCountsPeersThatHaveWhatWasWritten, also those of them that are linked again while it
// waits.
func TestWaitCountsPeersThatHaveWhatWasWritten(t *testing.T) {
	h := newHostsThatSync(t, 3, embedded.Interval)
	a := h.clients[0]
	a.expect("SET k v", "+OK")
	a.expect("WAIT 2 0", ":2")
	for i := range 2 {
		h.clients[i+1].expect("GET k", `"v"`)
	}
	h.cut()
	a.expect("SET k w", "+OK")
	a.expect("WAIT 1 50", ":0")
	a.send([]string{"WAIT", "2", "0"})
	other := dial(t, a.Conn.RemoteAddr().String())
	eventually(t, "it waits", func() bool { return strings.Contains(other.ask("INFO clients"), `blocked_clients:1\r\n`) })
	h.heal()
	a.expectReply(":2")
}

// TestWhoWaitsForPeersIsEndedAsWhoWaitsForKeys is.
func TestWhoWaitsForPeersIsEndedAsWhoWaitsForKeys(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		_, address := startPeer(t, embedded.Config{}, nil)
		waits, other := dial(t, address), dial(t, address)
		other.expect("SET k v", "+OK")
		id := strings.TrimPrefix(waits.ask("CLIENT ID"), ":")
		for how, reply := range map[string]string{
			"": ":0", " TIMEOUT": ":0", " ERROR": "-UNBLOCKED client unblocked via CLIENT UNBLOCK",
		} {
			waits.send([]string{"WAIT", "1", "0"})
			eventually(t, "it is unblocked", func() bool { return other.ask("CLIENT UNBLOCK "+id+how) == ":1" })
			waits.expectReply(reply)
		}
		waits.expect("MULTI", "+OK")
		waits.expect("WAIT 1 0", "+QUEUED")
		waits.expect("EXEC", "*1\n  :0")
		waits.expect("WAIT 0 0", ":0")
		waits.expect("WAIT 1 -1", "-ERR timeout is negative")
		waits.expect("WAIT 1 x", "-ERR timeout is not an integer or out of range")
		waits.expect("WAIT x 1", "-ERR value is not an integer or out of range")
		waits.send([]string{"WAIT", "1", "0"})
		eventually(t, "it waits", func() bool { return strings.Contains(other.ask("INFO clients"), `blocked_clients:1\r\n`) })
		_ = waits.Conn.Close()
		eventually(t, "nobody waits", func() bool { return strings.Contains(other.ask("INFO clients"), `blocked_clients:0\r\n`) })
	})
}

// TestATokenOfOnePeerIsWaitedForAtAnother until it has what the first had seen.
func TestATokenOfOnePeerIsWaitedForAtAnother(t *testing.T) {
	h := newHosts(t, 2)
	a, b := h.clients[0], h.clients[1]
	h.cut()
	a.expect("SET k v", "+OK")
	token := strings.Trim(a.ask("CRDT.TOKEN"), `"`)
	a.expect("CRDT.WAIT "+token+" 0", ":1")
	b.expect("CRDT.WAIT "+token+" 20", ":0")
	b.send([]string{"CRDT.WAIT", token, "0"}, []string{"GET", "k"})
	h.heal()
	b.expectReply(":1")
	b.expectReply(`"v"`)
	b.expect("CRDT.WAIT nothing 0", "-ERR "+embedded.ErrToken.Error())
	b.expect("MULTI", "+OK")
	b.expect("CRDT.TOKEN", "+QUEUED")
	if got := b.ask("EXEC"); !strings.Contains(got, "after EXEC") {
		t.Errorf("EXEC with CRDT.TOKEN: %s", got)
	}
}

// TestConcurrentValuesAreSeenAndResolved at both peers, of a string and of a field.
func TestConcurrentValuesAreSeenAndResolved(t *testing.T) {
	h := newHosts(t, 2)
	a, b := h.clients[0], h.clients[1]
	a.expect("EXPIRE k 1", ":0")
	a.expect("CRDT.CONFLICTS k", "*0")
	h.cut()
	for i, p := range h.clients {
		p.expect(fmt.Sprint("SET k v", i), "+OK")
		p.expect(fmt.Sprint("HSET h f w", i), ":1")
	}
	a.expect("SADD both x", ":1")
	b.expect("SET both y", "+OK")
	h.heal()
	for _, p := range h.clients {
		for ask, values := range map[string][2]string{"CRDT.CONFLICTS k": {"v0", "v1"}, "CRDT.HCONFLICTS h f": {"w0", "w1"}} {
			both := []string{}
			for _, v := range values {
				both = append(both, fmt.Sprintf("  *2\n    \"string\"\n    %q", v))
			}
			got := p.ask(ask)
			want := "*2\n" + strings.Join(both, "\n")
			slices.Reverse(both)
			if got != want && got != "*2\n"+strings.Join(both, "\n") {
				t.Errorf("%s: %s, want %s or the other way around", ask, got, want)
			}
		}
		p.expect("CRDT.CONFLICTS both", "*2\n  *2\n    \"set\"\n    $-1\n  *2\n    \"string\"\n    \"y\"")
	}
	a.expect("EXPIRE k 1000", ":1")
	a.expect("CRDT.RESOLVE k merged v0", ":0")
	a.expect("CRDT.RESOLVE k merged v1 v0", ":1")
	a.expect("CRDT.CONFLICTS k", "*1\n  *2\n    \"string\"\n    \"merged\"")
	if ttl := a.ask("TTL k"); ttl == ":-1" {
		t.Error("a key that is resolved expires no more")
	}
	a.expect("CRDT.HRESOLVE h f merged w0 w1", ":1")
	a.expect("CRDT.RESOLVE nothing merged v0", ":0")
	a.expect("CRDT.HRESOLVE both f merged v0", ":0")
	h.heal()
	b.expect("GET k", `"merged"`)
	b.expect("HGET h f", `"merged"`)
}

// TestConcurrentScoresAndElementsAreSeenAndResolved at both peers.
func TestConcurrentScoresAndElementsAreSeenAndResolved(t *testing.T) {
	h := newHosts(t, 2)
	a, b := h.clients[0], h.clients[1]
	a.expect("ZADD z 1 m 2 other", ":2")
	a.expect("RPUSH l w x y", ":3")
	h.heal()
	h.cut()
	for i, p := range h.clients {
		p.expect(fmt.Sprintf("ZADD z %d.5 m", 5+i), ":0")
		p.expect(fmt.Sprint("LSET l 1 v", i), "+OK")
	}
	a.expect("ZINCRBY z 1 m", `"6.5"`)
	h.heal()
	for _, p := range h.clients {
		for ask, both := range map[string][]string{
			"CRDT.ZCONFLICTS z m":  {`"6.5"`, `"7.5"`},
			"CRDT.LCONFLICTS l 1":  {`"v0"`, `"v1"`},
			"CRDT.LCONFLICTS l -2": {`"v0"`, `"v1"`},
		} {
			got := strings.Fields(p.ask(ask))
			if slices.Sort(got); !slices.Equal(got, append(slices.Clone(both), "*2")) {
				t.Errorf("%s: %q, want %q", ask, got, both)
			}
		}
		p.expect("CRDT.ZCONFLICTS z other", "*1\n  \"2\"")
		p.expect("CRDT.ZCONFLICTS z nobody", "*0")
		p.expect("CRDT.LCONFLICTS l 0", "*1\n  \"w\"")
		p.expect("CRDT.LCONFLICTS l 3", "*0")
		p.expect("CRDT.LCONFLICTS l -4", "*0")
		p.expect("CRDT.LCONFLICTS l first", "-ERR value is not an integer or out of range")
	}
	a.expect("EXPIRE z 1000", ":1")
	a.expect("CRDT.ZRESOLVE z m 14 6.5", ":0")
	a.expect("CRDT.ZRESOLVE z m 14 7.50 6.5", ":1")
	a.expect("CRDT.ZRESOLVE z m many 14", "-ERR value is not a valid float")
	a.expect("CRDT.ZRESOLVE z nobody 1 0", ":0")
	if ttl := a.ask("TTL z"); ttl == ":-1" {
		t.Error("a key whose member is resolved expires no more")
	}
	b.expect("CRDT.LRESOLVE l 1 merged v1", ":0")
	b.expect("CRDT.LRESOLVE l 1 merged v1 v0", ":1")
	b.expect("CRDT.LRESOLVE l 3 merged x", ":0")
	h.heal()
	for _, p := range h.clients {
		p.expect("ZSCORE z m", `"14"`)
		p.expect("CRDT.ZCONFLICTS z m", "*1\n  \"14\"")
		p.expect("CRDT.LCONFLICTS l 1", "*1\n  \"merged\"")
		p.expect("LRANGE l 0 -1", "*3\n  \"w\"\n  \"merged\"\n  \"y\"")
	}
}
