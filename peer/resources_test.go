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
