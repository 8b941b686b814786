package peer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libtls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// bareHost opens a host without a peer, which listens at the addresses.
func bareHost(t *testing.T, cfg hostConfig, at ...string) host.Host {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHost(key, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	for _, addr := range at {
		if err := h.Network().Listen(ma.StringCast(addr)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// TestHostsMeetWhateverTheirClocksShow: neither QUIC nor TCP rests on the time of either.
func TestHostsMeetWhateverTheirClocksShow(t *testing.T) {
	at := bareHost(t, hostConfig{}, "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1")
	for _, addr := range at.Addrs() {
		from := bareHost(t, hostConfig{})
		if err := from.Connect(t.Context(), libpeer.AddrInfo{ID: at.ID(), Addrs: []ma.Multiaddr{addr}}); err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		c := from.Network().ConnsToPeer(at.ID())[0]
		var packets *quic.Conn
		if !c.As(&packets) {
			if with := c.ConnState().Security; with != noise.ID {
				t.Errorf("%s is secured with %s, whose certificates have a time", addr, with)
			}
			continue
		}
		chain := packets.ConnectionState().TLS.PeerCertificates
		synctest.Test(t, func(t *testing.T) { // whose clock begins in the year 2000
			for range 2 {
				if _, err := libtls.PubKeyFromCertChain(chain); err != nil {
					t.Errorf("%s: at %s %v", addr, time.Now(), err)
				}
				<-time.After(200 * 365 * 24 * time.Hour)
			}
		})
	}
}

// refusing is a resource manager that has room for no connection.
type refusing struct{ libnet.NullResourceManager }

func (refusing) OpenConnection(libnet.Direction, bool, ma.Multiaddr) (libnet.ConnManagementScope, error) {
	return nil, libnet.ErrResourceLimitExceeded
}

// TestAMemberThatIsNotReachedStopsNoDialsOfOthers dials one for so long that libp2p would take
// IPv6 and UDP for cut off.
func TestAMemberThatIsNotReachedStopsNoDialsOfOthers(t *testing.T) {
	h := bareHost(t, hostConfig{resources: &refusing{}})
	absent, other := bareHost(t, hostConfig{}).ID(), bareHost(t, hostConfig{}).ID()
	addrs := []ma.Multiaddr{ma.StringCast("/ip6/2600::1/tcp/1"), ma.StringCast("/ip6/2600::1/udp/1/quic-v1")}
	ctx := libnet.WithForceDirectDial(t.Context(), "no backoff")
	for range 120 {
		if err := h.Connect(ctx, libpeer.AddrInfo{ID: absent, Addrs: addrs}); err == nil {
			t.Fatal("connected")
		}
	}
	for _, addr := range []string{"/ip6/2600::2/tcp/1", "/ip6/2600::2/udp/1/quic-v1", "/ip4/8.8.8.8/udp/1/quic-v1"} {
		if !h.Network().CanDial(other, ma.StringCast(addr)) {
			t.Errorf("another member is not dialled at %s", addr)
		}
	}
}
