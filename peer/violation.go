package peer

import (
	"errors"
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/gossip/members"
)

// A neighbour that sends what is none of the protocol's is cut off, and hears of it by the code with
// which the stream ends. The link is opened again at once, as it may have been an accident. If that
// happens again both sides leave each other in peace for a while: each further try would fail as
// well, once a second. The problem no-link says why.

const (
	// violationPatience is for how long no stream of deltas is opened to such a neighbour, nor taken
	// from it.
	violationPatience = 30 * time.Second
	// violationMemory is how long after a violation another one is one more.
	violationMemory = time.Minute
)

// violationError says what a neighbour did.
type violationError struct{ cause error }

func (v violationError) Error() string {
	return "it sends what this peer does not understand (" + v.cause.Error() + "): upgrade the older of the two"
}

func (v violationError) Unwrap() error { return v.cause }

// errNotUnderstood is what a neighbour says of this host.
var errNotUnderstood = errors.New("it does not understand what this peer sends: upgrade the older of the two")

// violation is the last of a neighbour.
type violation struct {
	err   error
	at    time.Time
	again bool // there was one not long before
}

// judge returns what ended a stream, as a violationError or errNotUnderstood if it is one.
func judge(err error) error {
	var reset *libnet.StreamError
	switch {
	case errors.Is(err, gossip.ErrFrame), errors.Is(err, errFlooded):
		return violationError{err}
	case errors.As(err, &reset) && reset.Remote && reset.ErrorCode == libnet.StreamProtocolViolation:
		return errNotUnderstood
	}
	return err
}

// cut ends the link, for a reason that is told.
func (l *link) cut(reason error) {
	reason = judge(reason)
	l.cause.CompareAndSwap(nil, &reason)
	code := libnet.StreamNoError
	if errors.As(reason, new(violationError)) {
		code = libnet.StreamProtocolViolation
	}
	_ = l.stream.ResetWithError(code)
}

// noteEnd takes down that a stream has ended, if the protocol was not kept to.
func (n *network) noteEnd(id libpeer.ID, reason error) {
	if !errors.As(reason, new(violationError)) && !errors.Is(reason, errNotUnderstood) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	last, now := n.violations[id], time.Now()
	if len(n.violations) >= members.MaxKnown {
		clear(n.violations)
	}
	n.violations[id] = violation{reason, now, now.Sub(last.at) < violationMemory}
}

// inPeace returns why a peer is left in peace now; nil if it is not. n.mu is held.
func (n *network) inPeace(id libpeer.ID) error {
	if v := n.violations[id]; v.again && time.Since(v.at) < violationPatience {
		return v.err
	}
	return nil
}

// refuses reports whether a peer that opens a stream is left in peace, and ends that.
func (n *network) refuses(s libnet.Stream) bool {
	n.mu.Lock()
	why := n.inPeace(s.Conn().RemotePeer())
	n.mu.Unlock()
	if why != nil {
		_ = s.ResetWithError(libnet.StreamProtocolViolation)
	}
	return why != nil
}
