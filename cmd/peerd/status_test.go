package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/peer"
)

func TestAStatusReadsAsATable(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	status := peer.Status{
		Name: "oslo", PeerID: "12D3KooWDJsiFu6F4Mxx7itGfCViDkrRneWnZnJrFXTaXnTXeRgP",
		SpaceStatus: peer.SpaceStatus{Replica: "00000000000000aa",
			VersionVector: map[string]uint64{"00000000000000aa": 40}, Replicas: 2, Mutations: 42,
			ContextHash: "0123456789abcdef", Root: "fedcba9876543210", Settled: true, Keys: 1, Cells: 1234},
		Spaces: []peer.SpaceStatus{{Space: "default", Unchecked: 0.5679,
			Repairing: &peer.Repairing{From: "12D3KooWlima0001", Cells: 3000, Of: 10_000, Bytes: 1 << 20, CellsPerSecond: 100,
				SecondsLeft: 69.5}}, {Space: "orders"}},
		Ready: false, Reason: "catching up with the other peers", StoreBytes: 5 << 20,
		FreeBytes: 3 << 30, MinFreeBytes: 1 << 30,
		GossipAddr: "10.0.0.1:7946",
		Problems: []peer.Problem{{ID: "no-link", Since: now.Add(-time.Minute), What: "kyoto is alive and has no data link",
			Do: "Open port 7947."}},
		Members: []peer.Member{
			{Name: "lima", PeerID: "12D3KooWlima0001", Addr: "10.0.0.2:7946", Alive: true,
				Since: now.Add(-90 * time.Second), RTTms: new(12.34), Linked: true, TheyLack: new(uint64(3)), WeLack: new(uint64(0)),
				Told: &peer.Told{Problems: []string{"no-link", "clock-off"}}},
			{Name: "kyoto", PeerID: "12D3KooWkyoto002", Addr: "10.0.0.3:7946",
				Since: now.Add(-time.Hour)},
		},
	}
	want := `
PROBLEM no-link, for 1m0s: kyoto is alive and has no data link
  Open port 7947.
name     oslo (not ready: catching up with the other peers)
peer     …XnTXeRgP
spaces   default, orders (see peerd space list)
replica  00000000000000aa
gossip   10.0.0.1:7946
data     1 key in 1234 cells, 5.0 MiB on disk
disk     3.0 GiB free, 1.0 GiB must be
context  01234567 of 42 writes by 2 replicas
root     fedcba98
check    of the data of space default: 43% was read since it was opened
repair   of space default from lima (…lima0001): 3000 of 10000 cells, 1.0 MiB, 100 a second, 1m10s left

MEMBER             ADDRESS        ALIVE  SINCE   RTT      THEY LACK  WE LACK  PROBLEMS
lima (…lima0001)   10.0.0.2:7946  yes    1m30s   12.3 ms  3          0        no-link, clock-off
kyoto (…kyoto002)  10.0.0.3:7946  no     1h0m0s  -        -          -        -
`
	var got strings.Builder
	if err := writeStatus(&got, status, now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[1:], got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAStatusTellsTheSpaces(t *testing.T) {
	status := peer.Status{Name: "oslo", PeerID: "12D3KooWXnTXeRgP", Ready: true, GossipAddr: "10.0.0.1:7946",
		StoreBytes: 5 << 20, Spaces: []peer.SpaceStatus{{Space: "orders"}, {Space: "peerd"}}}
	want := `
name    oslo (ready)
peer    …XnTXeRgP
spaces  orders, peerd (see peerd space list)
gossip  10.0.0.1:7946
data    5.0 MiB on disk

This peer knows no other yet.
`
	var got strings.Builder
	if err := writeStatus(&got, status, time.Now()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[1:], got.String()); diff != "" {
		t.Error(diff)
	}
}

// TestAsManySpacesAsThereMayBeAreShown by all commands that ask for them.
func TestAsManySpacesAsThereMayBeAreShown(t *testing.T) {
	hash := strings.Repeat("0123456789abcdef", 4)
	status := peer.Status{Name: "oslo"}
	for i := range peer.MaxSpaces {
		one := peer.SpaceStatus{Space: fmt.Sprint("space", i), VersionVector: map[string]uint64{},
			ContextHash: hash, Root: hash, Settled: true, Ready: true}
		for id := range 20 {
			one.VersionVector[fmt.Sprintf("%016x", id+1)] = 1 << 40
		}
		status.Spaces = append(status.Spaces, one)
	}
	answer, err := json.MarshalIndent(status, "", "  ") // as of a peer, also about the spaces alone
	if err != nil {
		t.Fatal(err)
	}
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) }))
	t.Cleanup(host.Close)
	last := status.Spaces[peer.MaxSpaces-1].Space
	for command, want := range map[string]string{"status": last, "space list": last, "wait": "1 peer in agreement"} {
		if said := mustPeerd(t, append(strings.Fields(command), "--http", host.URL)...); !strings.Contains(said, want) {
			t.Errorf("peerd %s does not say %q", command, want)
		}
	}
}

func TestSizesAreShortAndHaveAUnit(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 3 << 30: "3.0 GiB",
		1 << 50: "1024.0 TiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}

func TestWaitingSaysWhatKeepsPeersFromAgreeing(t *testing.T) {
	answer := func(name, context, root string, vector map[string]uint64) asked {
		return asked{addr: "addr-" + name, status: peer.Status{Name: name, Spaces: []peer.SpaceStatus{
			{Space: peer.DefaultSpace, ContextHash: context, Root: root, VersionVector: vector, Settled: true},
		}}}
	}
	// in has a peer hold another space, and not the default one.
	in := func(space string, a asked) asked {
		a.status.Spaces[0].Space = space
		return a
	}
	opening := answer("b", "c1", "r1", nil)
	opening.status.Opening = "space orders: catching up with the other peers"
	one := map[string]uint64{"00000000000000aa": 2}
	two := map[string]uint64{"00000000000000aa": 1, "00000000000000bb": 9}
	sweeping := answer("b", "c1", "r2", one)
	sweeping.status.Spaces[0].Settled = false
	tests := []struct {
		name string
		a, b asked
		want []string
	}{
		{"agreement", answer("a", "c1", "r1", one), answer("b", "c1", "r1", one), nil},
		{"both lack", answer("a", "c1", "r1", one), answer("b", "c2", "r2", two), []string{
			"a (addr-a) lacks 9 writes that b (addr-b) has", "b (addr-b) lacks 1 write that a (addr-a) has",
		}},
		{"sweeping", answer("a", "c1", "r1", one), sweeping, []string{
			"b (addr-b) still sweeps removed data",
		}},
		{"damage", answer("a", "c1", "r1", one), answer("b", "c1", "r2", one), []string{
			"a (addr-a) and b (addr-b) have seen the same writes and hold different data: " +
				"one of them is damaged, see their logs",
		}},
		{"agreement where none holds the default space", in("orders", answer("a", "c1", "r1", one)),
			in("orders", answer("b", "c1", "r1", one)), nil},
		{"another space", in("orders", answer("a", "c1", "r1", one)), in("orders", answer("b", "c2", "r2", two)),
			[]string{"space orders: a (addr-a) lacks 9 writes that b (addr-b) has",
				"space orders: b (addr-b) lacks 1 write that a (addr-a) has"}},
		{"spaces that only one of them holds", in("orders", answer("a", "c1", "r1", one)),
			in("stock", answer("b", "c2", "r2", two)), nil},
		{"a space that one of them is still to open", answer("a", "c1", "r1", nil), opening, []string{
			"b (addr-b) does not hold all spaces yet: space orders: catching up with the other peers",
		}},
		{"a fork", answer("a", "c1", "r1", one), answer("b", "c2", "r2", one), []string{
			"a (addr-a) and b (addr-b) count the same writes and differ in what they are: " +
				"some were issued twice, see their logs",
		}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, differences([]asked{test.a, test.b})); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestWaitingEndsAtItsTimeoutThoughAPeerDoesNotAnswer(t *testing.T) {
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hangs.Close()
	began := time.Now()
	status, _, stderr := peerd(t, "wait", "--http", hangs.Listener.Addr().String(), "--timeout", "100ms")
	if took := time.Since(began); took >= fetchTimeout {
		t.Errorf("it took %v", took)
	}
	if status != exitFailure || !strings.Contains(stderr, "no agreement after 100ms: no answer from ") {
		t.Errorf("status %d: %s", status, stderr)
	}
}
