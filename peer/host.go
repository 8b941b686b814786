package peer

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libtls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// hostConfig is what a libp2p host is opened with, beside its key. Each field may be nil.
type hostConfig struct {
	gater     connmgr.ConnectionGater
	resources libnet.ResourceManager // closed with the host, and by openHost if that fails
	addrs     func([]ma.Multiaddr) []ma.Multiaddr
	simulated *simulated // in the place of the system's network: QUIC alone
}

// libp2pHost is a libp2p host with TCP and QUIC, which listens nowhere yet. libp2p.New would link
// every transport that there is, and services that find out what we know.
type libp2pHost struct {
	*basichost.BasicHost
	end func() error
}

// Close closes the host with its connections. It may be called again.
func (h libp2pHost) Close() error { return h.end() }

func openHost(key crypto.PrivKey, cfg hostConfig) (_ host.Host, err error) {
	if cfg.resources == nil {
		cfg.resources = &libnet.NullResourceManager{}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, cfg.resources.Close())
		}
	}()
	id, err := libpeer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	book, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(book.AddPrivKey(id, key), book.AddPubKey(id, key.GetPublic())); err != nil {
		return nil, errors.Join(err, book.Close())
	}
	bus := eventbus.NewBus()
	connections, err := swarm.NewSwarm(id, book, bus,
		swarm.WithConnectionGater(cfg.gater), swarm.WithResourceManager(cfg.resources),
		// These would stop all dials over IPv6 or UDP while one member alone does not answer there.
		swarm.WithIPv6BlackHoleSuccessCounter(nil), swarm.WithUDPBlackHoleSuccessCounter(nil))
	if err != nil {
		return nil, errors.Join(err, book.Close())
	}
	packets, err := addTransports(connections, key, cfg)
	if err != nil {
		return nil, errors.Join(err, connections.Close(), book.Close())
	}
	h, err := basichost.NewHost(connections, &basichost.HostOpts{
		EventBus: bus, AddrsFactory: cfg.addrs, UserAgent: "peerd",
	})
	if err != nil {
		return nil, errors.Join(err, connections.Close(), packets.Close(), book.Close())
	}
	h.Start()
	return libp2pHost{h, sync.OnceValue(func() error {
		return errors.Join(h.Close(), packets.Close()) // in this order: connections say farewell
	})}, nil
}

// addTransports has connections go over TCP and QUIC, and returns what QUIC's have in common,
// which is closed after them.
func addTransports(connections *swarm.Swarm, key crypto.PrivKey, cfg hostConfig) (*quicreuse.ConnManager, error) {
	packets, err := quicPackets(key, cfg)
	if err != nil {
		return nil, err
	}
	streams, err := libquic.NewTransport(key, packets, nil, cfg.gater, cfg.resources,
		libquic.WithTLSIdentityOption(libtls.WithCertTemplate(timeless())))
	if err == nil {
		err = connections.AddTransport(streams)
	}
	if err == nil && cfg.simulated == nil {
		if streams, err = tcpTransport(key, cfg); err == nil {
			err = connections.AddTransport(streams)
		}
	}
	if err != nil {
		return nil, errors.Join(err, packets.Close())
	}
	return packets, nil
}

// timeless returns what a host's certificate is made from: it holds whatever a clock shows.
// libp2p's own begins an hour ago, so that hosts whose clocks differ by more would not meet.
// libp2p adds to what is returned.
func timeless() *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: "peerd"},
		NotBefore: time.Unix(0, 0),
		NotAfter:  time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
	}
}

// tcpTransport has Noise alone, which knows no time: the certificate of libp2p's TLS over TCP is
// not ours to choose.
func tcpTransport(key crypto.PrivKey, cfg hostConfig) (transport.Transport, error) {
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	noisy, err := noise.New(noise.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	up, err := upgrader.New([]sec.SecureTransport{noisy}, muxers, nil, cfg.resources, cfg.gater)
	if err != nil {
		return nil, err
	}
	return tcp.NewTCPTransport(up, cfg.resources, nil)
}

// quicPackets returns what QUIC's connections have in common. Its keys follow from the host's, so
// that others learn from a host that started again that its connections are no more.
func quicPackets(key crypto.PrivKey, cfg hostConfig) (*quicreuse.ConnManager, error) {
	raw, err := key.Raw()
	if err != nil {
		return nil, err
	}
	reset, err := hkdf.Key(sha256.New, raw, nil, "peerd quic stateless reset", len(quic.StatelessResetKey{}))
	if err != nil {
		return nil, err
	}
	token, err := hkdf.Key(sha256.New, raw, nil, "peerd quic token", len(quic.TokenGeneratorKey{}))
	if err != nil {
		return nil, err
	}
	options := []quicreuse.Option{
		quicreuse.ConnContext(func(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
			from, _ := quicreuse.ToQuicMultiaddr(client.RemoteAddr, quic.Version1) // of none the manager decides
			scope, err := cfg.resources.OpenConnection(libnet.DirInbound, false, from)
			if err != nil {
				return ctx, err
			}
			ctx = libnet.WithConnManagementScope(ctx, scope)
			context.AfterFunc(ctx, scope.Done)
			return ctx, nil
		}),
		quicreuse.VerifySourceAddress(func(from net.Addr) bool { return cfg.resources.VerifySourceAddress(from) }),
	}
	if cfg.simulated != nil {
		options = append(options, cfg.simulated.packets...)
	}
	return quicreuse.NewConnManager(quic.StatelessResetKey(reset), quic.TokenGeneratorKey(token), options...)
}
