package peer

import (
	"net/netip"
	"testing"

	libnet "github.com/libp2p/go-libp2p/core/network"
)

// TestAHostThatWasNotReachedForLongCanBeDialled opens connections with one address as a host does that
// dials another for minutes and does not reach it, or that finds its neighbours of one site again.
func TestAHostThatWasNotReachedForLongCanBeDialled(t *testing.T) {
	t.Parallel()
	for _, site := range []string{"10.37.0.1", "192.0.2.1", "fd00::1"} {
		resources, err := resourceManager()
		if err != nil {
			t.Fatal(err)
		}
		at := netip.MustParseAddr(site)
		_, quic := multiaddrs(netip.AddrPortFrom(at, 7947))
		for i := range 300 {
			dir := []libnet.Direction{libnet.DirOutbound, libnet.DirInbound}[i%2]
			scope, err := resources.OpenConnection(dir, false, quic)
			if err != nil {
				t.Fatalf("connection %d with %s: %v", i, quic, err)
			}
			scope.Done()
		}
		if err := resources.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOneAddressLeavesRoomForOthersHandshakes has all that may come from one address open connections and say
// nothing, while others' are accepted.
func TestOneAddressLeavesRoomForOthersHandshakes(t *testing.T) {
	resources, err := resourceManager()
	if err != nil {
		t.Fatal(err)
	}
	defer resources.Close()
	accept := func(site string) error {
		tcp, _ := multiaddrs(netip.AddrPortFrom(netip.MustParseAddr(site), 7947))
		_, err := resources.OpenConnection(libnet.DirInbound, true, tcp)
		return err
	}
	silent := 0
	for silent <= MaxMembers && accept("203.0.113.1") == nil {
		silent++
	}
	if silent < connBurst || silent > MaxMembers {
		t.Errorf("one address has %d connections accepted at once", silent)
	}
	if err := accept("198.51.100.1"); err != nil {
		t.Errorf("beside %d that say nothing another address has none: %v", silent, err)
	}
}
