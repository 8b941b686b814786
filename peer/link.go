package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/secret"
)

// Timeouts of streams.
const (
	dialTimeout  = 10 * time.Second
	proofTimeout = 10 * time.Second
	writeTimeout = 30 * time.Second // for a piece of a frame; a neighbour that reads slower is cut off
)

// linkFrames is how many frames wait in a link for its stream. What comes after them is made when they
// are gone.
const linkFrames = 2

// maxNeighbours is how many streams there are to others, those included that others opened because
// this peer is one of their MaxLinks. One more is closed.
const maxNeighbours = 4 * MaxLinks

var errLinkReplaced = errors.New("the link was replaced by a newer one")

// counters are a peer's statistics.
type counters struct {
	commits, deltas     atomic.Uint64
	sent, received      traffic
	repairs, mismatches atomic.Uint64
	monitored
}

// link is a stream to a neighbour.
type link struct {
	n      *network
	id     gossip.NeighbourID
	peer   libpeer.ID
	stream libnet.Stream
	out    chan []byte // filled by the commit loop
	ended  chan struct{}
	key    secret.Key // that both sides proved to hold

	renewed bool // a stream with the key in use was tried in its place; guarded by network.mu
}

// dialSync opens the stream to a peer, with one of the keys, and keeps it until it breaks.
func (n *network) dialSync(id libpeer.ID, addrs []string, keys []secret.Key) {
	defer func() {
		n.mu.Lock()
		delete(n.dialing, id)
		n.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	defer cancel()
	if err := n.connect(ctx, id, addrs); err != nil {
		n.p.log.Debug("cannot connect", "peer_id", id.String(), "error", err)
		return
	}
	s, key, err := n.openStream(ctx, id, syncStream, keys)
	if err != nil {
		n.p.log.Debug("cannot open a stream", "peer_id", id.String(), "error", err)
		n.noteVersion(id, err)
		return
	}
	n.runLink(s, key, proveAsDialer(deadlined(s), key, n.id, id))
}

func (n *network) connect(ctx context.Context, id libpeer.ID, addrs []string) error {
	info := libpeer.AddrInfo{ID: id}
	for _, s := range addrs {
		if a, err := ma.NewMultiaddr(s); err == nil {
			info.Addrs = append(info.Addrs, a)
		}
	}
	return n.host.Connect(ctx, info)
}

// acceptSync takes a stream that another peer opened.
func (n *network) acceptSync(s libnet.Stream, key secret.Key) {
	n.spawnFor(s, func() { n.runLink(s, key, n.prove(s, key)) })
}

// spawnFor runs a stream's handler so that close waits for it; after close it resets the stream.
func (n *network) spawnFor(s libnet.Stream, fn func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		_ = s.Reset()
		return
	}
	n.spawn(fn)
}

// deadlined sets the deadline for a stream's proof.
func deadlined(s libnet.Stream) libnet.Stream {
	_ = s.SetDeadline(time.Now().Add(proofTimeout))
	return s
}

// runLink serves a stream whose proof of the key ended with proven, until it breaks.
func (n *network) runLink(s libnet.Stream, key secret.Key, proven error) {
	id := s.Conn().RemotePeer()
	if proven != nil {
		if errors.Is(proven, errNoProof) || errors.Is(proven, errNotAllowed) {
			n.gater.refuse("refused a stream: "+proven.Error(), id, s.Conn().RemoteMultiaddr().String())
		}
		_ = s.Reset()
		return
	}
	_ = s.SetDeadline(time.Time{})
	l := &link{
		n: n, id: neighbourID(id), peer: id, stream: s, key: key,
		out: make(chan []byte, linkFrames), ended: make(chan struct{}),
	}
	n.mu.Lock()
	old := n.streams[id]
	if old == nil && len(n.streams) >= maxNeighbours {
		n.mu.Unlock()
		_ = s.Reset()
		return
	}
	n.streams[id] = l
	n.mu.Unlock()
	if old != nil {
		_ = old.stream.Reset()
	}
	err := n.p.space(DefaultSpace).call(func(loop *loop) { loop.connect(l) })
	if err == nil {
		n.spawn(l.write)
		err = l.read()
	}
	_ = s.Reset()
	close(l.ended)
	_ = n.p.space(DefaultSpace).call(func(loop *loop) { loop.disconnect(l) })
	n.mu.Lock()
	if n.streams[id] == l {
		delete(n.streams, id)
	}
	n.mu.Unlock()
	n.p.log.Info("link closed", "peer_id", id.String(), "reason", err)
}

// connect makes a link the one to its neighbour.
func (l *loop) connect(link *link) {
	l.links[link.id] = link
	l.node.Connect(link.id)
}

// disconnect forgets a link, unless a newer one has taken its place.
func (l *loop) disconnect(link *link) {
	if l.links[link.id] == link {
		delete(l.links, link.id)
		l.node.Disconnect(link.id)
	}
}

// read hands the stream's frames to the commit loop, one after the other: the stream's own flow control
// then holds back a neighbour that sends faster than they are committed.
func (l *link) read() error {
	in := bufio.NewReaderSize(l.stream, 16<<10)
	f := &frame{link: l, done: make(chan error, 1)}
	for {
		data, err := readFrame(in, gossip.MaxFrame)
		if err != nil {
			return err
		}
		l.n.p.space(DefaultSpace).counters.received.add(gossip.LayerOf(data), len(data)+frameHeader)
		f.data = data
		select {
		case l.n.p.space(DefaultSpace).jobs <- job{frame: f}:
		case <-l.n.p.stopped:
			return ErrClosed
		}
		select {
		case err := <-f.done:
			if err != nil {
				return err
			}
		case <-l.n.p.stopped:
			return ErrClosed
		}
	}
}

// write sends what the commit loop puts into the link.
func (l *link) write() {
	out := patient{l.stream, writeTimeout}
	for {
		select {
		case data := <-l.out:
			if err := writeFrame(out, data); err != nil {
				_ = l.stream.Reset()
				return
			}
			l.n.p.space(DefaultSpace).counters.sent.add(gossip.LayerOf(data), len(data)+frameHeader)
			select {
			case l.n.p.space(DefaultSpace).loop.wake <- struct{}{}:
			default:
			}
		case <-l.ended:
			return
		}
	}
}

// frameHeader is the size of a frame's length on a stream.
const frameHeader = 4

// readFrame reads a frame of at most limit bytes. It takes no more memory than a few times what has
// arrived.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(header[:]))
	if size > int64(limit) {
		return nil, fmt.Errorf("a frame of %d bytes (limit %d)", size, limit)
	}
	if size <= 64<<10 {
		data := make([]byte, size)
		_, err := io.ReadFull(r, data)
		return data, err
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, size); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func writeFrame(w io.Writer, data []byte) error {
	out := make([]byte, frameHeader, frameHeader+len(data))
	binary.BigEndian.PutUint32(out, uint32(len(data)))
	_, err := w.Write(append(out, data...))
	return err
}
