package resp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/peerd/peerd/internal/delta"
	embedded "github.com/peerd/peerd/peer"
)

// TestAPushAtOnePeerWakesWhoWaitsAtAnother: each element that arrives is given to one of them, and is gone everywhere.
func TestAPushAtOnePeerWakesWhoWaitsAtAnother(t *testing.T) {
	h := newHosts(t, 2)
	var waits []*peer
	for i, command := range []string{"BLPOP l k 0", "BRPOP k 0", "BLMOVE k moved LEFT RIGHT 0"} {
		p := dial(t, h.addresses[1])
		waits = append(waits, p)
		p.send(strings.Fields(command))
		n := fmt.Sprintf(`blocked_clients:%d\r\n`, i+1)
		h.until(command, func() bool { return strings.Contains(h.clients[1].ask("INFO clients"), n) })
	}
	for i, want := range []string{taken("k", "0"), taken("k", "1"), `"2"`} { // who came first is given the first
		h.clients[0].expect("LPUSH k "+strconv.Itoa(i), ":1")
		waits[i].expectReply(want)
		h.heal()
		h.clients[0].expect("LLEN k", ":0")
	}
	h.clients[0].expect("LRANGE moved 0 -1", "*1\n  \"2\"")
}

func TestTrimmingMoreThanATransactionHoldsIsRefusedWhole(t *testing.T) {
	_, address := startServer(t, Config{Peer: openOffline(t, embedded.Config{Memory: true})})
	p := dial(t, address)
	half := delta.MaxOps/2 + 10
	for i := range 2 {
		p.send(append([]string{"RPUSH", "k"}, slices.Repeat([]string{"x"}, half)...))
		p.expectReply(fmt.Sprint(":", (i+1)*half))
	}
	p.expect("LTRIM k 0 9", fmt.Sprintf("-ERR %d elements exceed the limit of %d a transaction (MaxOps)", 2*half-10, delta.MaxOps))
	p.expect("LLEN k", fmt.Sprint(":", 2*half))
	p.expect(fmt.Sprintf("LTRIM k 0 %d", half-1), "+OK") // in parts
	p.expect("LTRIM k 0 9", "+OK")
	p.expect("LLEN k", ":10")
}
