package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync/atomic"
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/beat"
	"github.com/peerd/peerd/internal/secret"
)

// Timeouts of streams.
const (
	dialTimeout  = 10 * time.Second
	proofTimeout = 10 * time.Second
	writeTimeout = 30 * time.Second // for a piece of a frame; a neighbour that reads slower is cut off
)

// What may have arrived over a link and not been handled yet, in bytes, as frameCost counts. A
// space that keeps to the protocol sends no more deltas than have been acknowledged, so it stays
// far below its limit; the link of a neighbour that goes beyond is cut. All spaces together may
// well come to more: then the link is not read until it is less.
const (
	maxLaneBytes = 4 * gossip.MaxFrame // of one space
	maxLinkBytes = 4 * maxLaneBytes    // of all, and a frame more
)

// frameCost is the memory that a frame takes while it waits, or somewhat more.
func frameCost(data []byte) int { return len(data) + 64 }

// maxNeighbours is how many streams there are to others, those included that others opened
// because this peer is one of their MaxLinks, or was while the cluster was smaller. One more
// takes the place of another, as outranked says, or is closed.
const maxNeighbours = 4 * MaxLinks

var (
	errLinkReplaced = errors.New("the link was replaced by a newer one")
	errOutranked    = errors.New("there are too many links: another takes the place of this one")
	errFlooded      = errors.New("the neighbour sends more than it was asked for")
)

// link is a stream to a neighbour. It carries the frames of all spaces that both hold: see lane.
type link struct {
	n      *network
	id     gossip.NeighbourID
	peer   libpeer.ID
	stream libnet.Stream
	ended  chan struct{}
	key    secret.Key // that both sides proved to hold

	beaten  chan struct{}            // of capacity 1: a beat arrived
	ready   chan struct{}            // of capacity 1: something may be to be sent
	waiting atomic.Int64             // bytes of frames that arrived and were not handled
	drained chan struct{}            // of capacity 1: waiting is less than it was
	lanes   map[gossip.SpaceID]*lane // guarded by board.mu, as is what follows
	ring    []*lane                  // the same, in the order in which they send
	turn    int                      // whose turn it is in it

	dialed bool                  // this end opened it
	began  time.Time             // when both sides had proven the key
	cause  atomic.Pointer[error] // why this end has ended it

	heard atomic.Int64 // how long after it began something was heard last, or not listened to
	deaf  atomic.Bool  // it is not listened to: what was heard waits

	moving  bool // a second dial is under way; guarded by network.mu
	renewed bool // a stream with the key in use was tried in its place; guarded by network.mu
}

// dialSync opens the stream to a peer, with one of the keys, and keeps it until it breaks. replaces
// is the link that there is; nil if there is none.
func (n *network) dialSync(id libpeer.ID, addrs []string, keys []secret.Key, replaces *link) {
	defer func() {
		n.mu.Lock()
		delete(n.dialing, id)
		n.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	defer cancel()
	if err := n.connect(ctx, id, addrs); err != nil {
		n.p.log.Debug("cannot connect", "peer_id", id.String(), "error", err)
		n.noteDial(id, err)
		return
	}
	if n.taken(id, replaces) || replaces == nil && n.leaves(id) {
		return
	}
	s, key, err := n.openStream(ctx, id, syncStream, keys)
	if err != nil {
		n.p.log.Debug("cannot open a stream", "peer_id", id.String(), "error", err)
		n.noteVersion(id, err)
		n.noteDial(id, err)
		return
	}
	n.runLink(s, key, true, proveAsDialer(deadlined(s), key, n.id, id))
}

// connect connects to a peer unless it is connected. libp2p would leave an address that did not
// answer alone for up to 5 minutes, and not say why; here only one attempt is under way at a time.
func (n *network) connect(ctx context.Context, id libpeer.ID, addrs []string) error {
	if n.host.Network().Connectedness(id) == libnet.Connected {
		return nil
	}
	ctx = libnet.WithForceDirectDial(ctx, "no backoff")
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
	if !n.refuses(s) {
		n.spawnFor(s, func() { n.runLink(s, key, false, n.prove(s, key)) })
	}
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

// runLink serves a stream whose proof of the key ended with proven, until it breaks. dialed says
// that this end opened it.
func (n *network) runLink(s libnet.Stream, key secret.Key, dialed bool, proven error) {
	id := s.Conn().RemotePeer()
	if proven != nil {
		if errors.Is(proven, errNoProof) || errors.Is(proven, errNotAllowed) {
			n.gater.refuse("refused a stream: "+proven.Error(), id, s.Conn().RemoteMultiaddr().String())
		}
		_ = s.Reset()
		n.noteDial(id, judge(proven)) // a refusal: it tells why, and begins no new rest
		return
	}
	_ = s.SetDeadline(time.Time{})
	l := &link{
		n: n, id: neighbourID(id), peer: id, stream: s, key: key, dialed: dialed, began: time.Now(),
		ended: make(chan struct{}), beaten: make(chan struct{}, 1), ready: make(chan struct{}, 1), drained: make(chan struct{}, 1),
		lanes: map[gossip.SpaceID]*lane{},
	}
	l.listened()
	n.mu.Lock()
	old, why := n.streams[id], errLinkReplaced
	if old == nil && len(n.streams) >= maxNeighbours {
		old, why = n.outranked(id), errOutranked
	}
	full := old == nil && len(n.streams) >= maxNeighbours
	if !n.accepts(key) || full || l.yields(n.streams[id]) {
		n.mu.Unlock()
		_ = s.Reset()
		return
	}
	if old != nil {
		delete(n.streams, old.peer)
	}
	n.streams[id], n.opener[id] = l, dialed
	n.mu.Unlock()
	if old != nil {
		old.cut(why)
	}
	n.board.connect(l)
	n.spawn(l.write)
	l.cut(l.read())
	reason := *l.cause.Load()
	close(l.ended)
	n.board.disconnect(l)
	n.mu.Lock()
	if n.streams[id] == l {
		delete(n.streams, id)
	}
	n.mu.Unlock()
	n.noteEnd(id, reason)
	n.p.log.Info("link closed", "peer_id", id.String(), "reason", reason)
}

// outranked returns the link that is given up for one with a peer, as there is no room; nil if
// none is. n.mu is held.
func (n *network) outranked(id libpeer.ID) *link {
	linked := make(map[string]*link, len(n.streams))
	for other, l := range n.streams {
		linked[other.String()] = l
	}
	return linked[outranked(n.id.String(), id.String(), maps.Keys(linked), n.wanted)]
}

// read hands the stream's frames to the lanes of their spaces. It waits for no space by itself:
// what one has not handled yet waits in its lane, as far as that goes.
func (l *link) read() error {
	in := bufio.NewReaderSize(l, 16<<10)
	for {
		data, err := readFrame(in, gossip.MaxFrame+gossip.SpaceIDSize)
		if err != nil {
			return err
		}
		if len(data) == 0 { // a beat
			signal(l.beaten)
			l.n.own.received.add(gossip.Vectors, frameHeader)
			continue
		}
		l.deaf.Store(true)
		if err := l.n.board.receive(l, data); err != nil {
			return err
		}
		l.awaitRoom()
		l.listened()
		l.deaf.Store(false)
	}
}

// awaitRoom returns when no more waits in all lanes than may, or the host is closed. Lanes drain
// without it: their spaces handle what they have, and what is left when one parts is thrown away.
// Meanwhile the neighbour waits for the stream.
func (l *link) awaitRoom() {
	for l.waiting.Load() > maxLinkBytes {
		select {
		case <-l.drained:
		case <-l.n.ctx.Done():
			return
		}
	}
}

// write sends what the spaces have for the neighbour, in turn, and a beat now and then: also in
// answer to one, so that those of both ends, and their acknowledgements, travel together.
func (l *link) write() {
	out := patient{l.stream, writeTimeout}
	every, _ := l.n.beat()
	due := beat.After(every)
	var said time.Time
	for {
		data, from := l.n.board.next(l)
		if data == nil {
			select {
			case <-l.ready:
				continue
			case <-l.beaten:
			case <-due:
				due = beat.After(every)
			case <-l.ended:
				return
			}
			if time.Since(said) < every/2 {
				continue
			}
		}
		said = time.Now()
		var err error
		if from == nil {
			err = writeFrame(out, data)
			l.n.own.sent.add(ownLayer(data), frameHeader+len(data))
		} else {
			err = writeFrame(out, from.s.id[:], data)
			from.s.counters.sent.add(gossip.LayerOf(data), frameHeader+gossip.SpaceIDSize+len(data))
			signal(from.s.loop.wake)
		}
		if err != nil {
			_ = l.stream.Reset()
			return
		}
	}
}

// ownLayer returns what a frame of the host's own channel is for.
func ownLayer(frame []byte) gossip.Layer {
	if gossip.IsMessages(frame) {
		return gossip.Messages
	}
	return gossip.Vectors
}

// signal leaves a token in a channel of capacity 1, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
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
		return nil, fmt.Errorf("%w: %d bytes (limit %d)", gossip.ErrFrame, size, limit)
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

// writeFrame writes the parts of a frame.
func writeFrame(w io.Writer, parts ...[]byte) error {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	out := make([]byte, frameHeader, frameHeader+size)
	binary.BigEndian.PutUint32(out, uint32(size))
	for _, part := range parts {
		out = append(out, part...)
	}
	_, err := w.Write(out)
	return err
}

// pieceSize is how many bytes of a frame have a deadline of their own.
const pieceSize = 64 << 10

// patient is a stream on which every piece of a frame has a deadline of its own: the other side may
// be slow, and take minutes for a large frame, but not silent.
type patient struct {
	libnet.Stream
	timeout time.Duration
}

// Read implements io.Reader.
func (s patient) Read(b []byte) (int, error) {
	_ = s.SetReadDeadline(time.Now().Add(s.timeout))
	return s.Stream.Read(b)
}

// Write implements io.Writer.
func (s patient) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		_ = s.SetWriteDeadline(time.Now().Add(s.timeout))
		var wrote int
		wrote, err = s.Stream.Write(b[n:min(n+pieceSize, len(b))])
		n += wrote
	}
	return n, err
}

// Every stream begins with a proof by each side that it holds the cluster's secret: an HMAC over
// the ids of both, which the connection has authenticated, and a fresh nonce of each.
//
//	dialer   → nonce
//	acceptor → nonce, proof
//	dialer   → proof

const (
	nonceSize    = 32
	proofSize    = 32
	labelDialer  = "peerd stream dialer"
	labelAnswers = "peerd stream acceptor"
)

// errNotAllowed is returned for a host that Config.Allow does not name.
var errNotAllowed = errors.New("the other host is not on the list of allowed peers")

// errNoProof is returned when the other side does not prove that it holds the secret.
var errNoProof = errors.New("the other host did not prove that it holds the cluster's key")

// proveAsDialer proves this side on a stream that it opened, and checks the other.
func proveAsDialer(rw io.ReadWriter, key secret.Key, self, other libpeer.ID) error {
	var mine, theirs [nonceSize]byte
	_, _ = rand.Read(mine[:]) // never fails
	if _, err := rw.Write(mine[:]); err != nil {
		return err
	}
	var proof [proofSize]byte
	if _, err := io.ReadFull(rw, theirs[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(rw, proof[:]); err != nil {
		return err
	}
	parts := [][]byte{[]byte(self), []byte(other), mine[:], theirs[:]}
	if !key.Verify(proof[:], labelAnswers, parts...) {
		return errNoProof
	}
	_, err := rw.Write(key.Proof(labelDialer, parts...))
	return err
}

// proveAsAcceptor is the other end of proveAsDialer.
func proveAsAcceptor(rw io.ReadWriter, key secret.Key, self, other libpeer.ID) error {
	var mine, theirs [nonceSize]byte
	if _, err := io.ReadFull(rw, theirs[:]); err != nil {
		return err
	}
	_, _ = rand.Read(mine[:]) // never fails
	parts := [][]byte{[]byte(other), []byte(self), theirs[:], mine[:]}
	if _, err := rw.Write(append(mine[:], key.Proof(labelAnswers, parts...)...)); err != nil {
		return err
	}
	var proof [proofSize]byte
	if _, err := io.ReadFull(rw, proof[:]); err != nil {
		return err
	}
	if !key.Verify(proof[:], labelDialer, parts...) {
		return errNoProof
	}
	return nil
}
