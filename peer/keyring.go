package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/peerd/peerd/internal/secret"
)

// keyring is the cluster keys that this peer accepts: those of its gossip and of its streams, and
// the file that keeps them.
type keyring struct {
	path    string
	present atomic.Pointer[secret.Ring]
	changed chan struct{} // holds a token after a change

	changing sync.Mutex // held by a change
	turn     sync.Mutex // held by what this peer begins for all: one at a time

	// The key of the last rotation that this peer began or went on with, whom that left out, and who
	// was removed then. Used while turn is held.
	begun   secret.Key
	without []string
	removed []string
}

// goesOn reports whether a rotation goes on with a key that others hold already: none of those
// to be left out may have been told it, nor one that was removed since this peer began it. Of a
// key that it did not begin it cannot know when others were removed; were it not to go on with
// that either, keys that nobody uses could fill the ring.
func (k *keyring) goesOn(key secret.Key, without, removed []string) bool {
	told := func(id string) bool {
		return key != k.begun || !slices.Contains(k.without, id) && !slices.Contains(k.removed, id)
	}
	return !slices.ContainsFunc(without, told) && (key != k.begun || !slices.ContainsFunc(removed, told))
}

// leftOut returns whom the rotation to the key in use left out, if this peer began that.
func (k *keyring) leftOut() []string {
	if k.begun != k.ring().InUse() {
		return nil
	}
	return k.without
}

func newKeyring(path string, ring secret.Ring) *keyring {
	k := &keyring{path: path, changed: make(chan struct{}, 1)}
	k.present.Store(&ring)
	return k
}

func (k *keyring) ring() secret.Ring { return *k.present.Load() }

// gossipKeys returns what membership derives from a ring.
func gossipKeys(ring secret.Ring) (inUse [secret.KeySize]byte, accepted [][secret.KeySize]byte) {
	for _, k := range ring.Keys()[1:] {
		accepted = append(accepted, k.GossipKey())
	}
	return ring.InUse().GossipKey(), accepted
}

// changeKeys replaces the ring by what change makes of it: in the file first, so that what this
// peer tells others to hold survives a crash. After an error, ErrClosed too, nothing has changed.
func (n *network) changeKeys(change func(secret.Ring) (secret.Ring, error)) error {
	n.keys.changing.Lock()
	defer n.keys.changing.Unlock()
	if n.ctx.Err() != nil {
		return ErrClosed // the directory may be another peer's by now
	}
	old := n.keys.ring()
	ring, err := change(old)
	if err != nil || ring.Equal(old) {
		return err
	}
	if err := ring.Save(n.keys.path); err != nil {
		return err
	}
	inUse, accepted := gossipKeys(ring)
	if err := n.members.SetKeys(inUse, accepted...); err != nil {
		return err
	}
	n.keys.present.Store(&ring)
	n.serveStreams(ring)
	n.endLinks()
	signal(n.keys.changed)
	n.p.log.Info("the cluster's keys changed", "in_use", ring.InUse().ClusterID(),
		"accepted", len(accepted))
	return nil
}

// Kinds of streams.
const (
	syncStream = "sync" // deltas: see link.go
	pullStream = "pull" // a repair: see pull.go
	keyStream  = "key"  // a change of keys: see rotate.go
)

// streamID returns the protocol of a kind of stream on which both sides prove to hold the key.
func streamID(kind string, key secret.Key) protocol.ID {
	return protocol.ID(fmt.Sprint(streamPrefix(kind, key), streamVersion))
}

// streamPrefix is what stands before the version.
func streamPrefix(kind string, key secret.Key) string {
	return "/peerd/" + key.ClusterID() + "/" + kind + "/"
}

// serveStreams accepts the streams of a ring's keys, and no others any more. Keys are changed by
// those alone who hold the one in use.
func (n *network) serveStreams(ring secret.Ring) {
	n.mu.Lock()
	served := n.protocols
	n.protocols = nil
	wanted := map[protocol.ID]func(libnet.Stream){}
	for i, key := range ring.Keys() {
		wanted[streamID(syncStream, key)] = func(s libnet.Stream) { n.acceptSync(s, key) }
		wanted[streamID(pullStream, key)] = func(s libnet.Stream) { n.acceptPull(s, key) }
		if i == 0 {
			wanted[streamID(keyStream, key)] = func(s libnet.Stream) { n.acceptKey(s, key) }
		}
	}
	for id := range wanted {
		n.protocols = append(n.protocols, id)
	}
	n.mu.Unlock()
	for id, handler := range wanted {
		n.host.SetStreamHandler(id, handler)
	}
	for _, id := range served {
		if wanted[id] == nil {
			n.host.RemoveStreamHandler(id)
		}
	}
}

// errFormerKey ends a stream whose key was replaced since it was proven.
var errFormerKey = errors.New("the cluster's key was replaced meanwhile")

// accepts reports whether a key is accepted: what was proven with it may have been so when it no
// longer was, or since.
func (n *network) accepts(key secret.Key) bool {
	_, here := n.keys.ring().Get(key.ClusterID())
	return here
}

// endLinks ends the links that were opened with a key that is not accepted any more.
func (n *network) endLinks() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.streams {
		if !n.accepts(l.key) {
			_ = l.stream.Reset()
		}
		l.renewed = false
	}
}

// openStream opens a stream with the first of the keys that the other side accepts. Nothing is
// proven yet. The error wraps a versionError if the other side speaks other versions alone.
func (n *network) openStream(ctx context.Context, id libpeer.ID, kind string, keys []secret.Key) (
	libnet.Stream, secret.Key, error) {
	var ids []protocol.ID
	of := map[protocol.ID]secret.Key{}
	for _, key := range keys {
		ids = append(ids, streamID(kind, key))
		of[streamID(kind, key)] = key
	}
	// Both sides negotiate: libp2p drops word of what the other one serves now if more than one in 5
	// seconds comes from a subnet, and would go by that of former keys while the connection lasts.
	_ = n.host.Peerstore().RemoveProtocols(id, ids...)
	s, err := n.host.NewStream(ctx, id, ids...)
	if err != nil {
		return nil, secret.Key{}, n.otherVersion(id, kind, keys, err)
	}
	return s, of[s.Protocol()], nil
}

// openProven opens a stream with one of the keys, and proves it.
func (n *network) openProven(ctx context.Context, id libpeer.ID, kind string, keys []secret.Key) (libnet.Stream, error) {
	s, key, err := n.openStream(ctx, id, kind, keys)
	if err != nil {
		return nil, err
	}
	if err := proveAsDialer(deadlined(s), key, n.id, id); err != nil {
		_ = s.Reset()
		return nil, err
	}
	return s, nil
}

// prove proves to the peer that opened a stream that this one holds the key, and checks the peer.
func (n *network) prove(s libnet.Stream, key secret.Key) error {
	id := s.Conn().RemotePeer()
	if !n.gater.permits(id) {
		return errNotAllowed
	}
	return proveAsAcceptor(deadlined(s), key, n.id, id)
}
