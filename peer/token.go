package peer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Token names a moment of a space: everything that had been written and seen at one peer then.
// Given to another peer of the cluster, it lets that one wait until it has seen all of it
// (Peer.Wait), or tell what changed since (Peer.WatchSince). It is text without blanks or quotes,
// to be kept and handed on, not to be looked into. The empty Token names the moment before the
// first write.
type Token string

// MaxToken is how long a token may be, in bytes: as base64 has 18 bytes, which an id and a count
// take at most, of each of MaxMembers replicas that write. Those of starts that are long over are
// not named. A start that ended in a crash is named for 10 to 20 minutes more, so in a cluster of
// so many others a host that crashes every second or so, and writes each time, may leave too little
// of that: until some 20 minutes after it has stopped to do so there are no tokens, and watches
// end.
const MaxToken = 100_000

var (
	// ErrToken is wrapped for text that is no token: cut off, mistyped, or of another version; and for
	// a token of another space.
	ErrToken = errors.New("the token cannot be used: pass one on as it was received, to its space")
	// ErrTooManyReplicas is returned if more replicas write, or crashed lately, than a token can
	// name: see MaxToken. What was to be done beside it was done.
	ErrTooManyReplicas = fmt.Errorf("more replicas write here than a token of %d bytes can name", MaxToken)
)

// tokenVersion is the version of the encoding, and tokenSeal what its checksum covers beside it.
const (
	tokenVersion = 2
	tokenSeal    = "peerd token"
)

func newToken(space gossip.SpaceID, seen crdt.VersionVector) (Token, error) {
	if len(seen) == 0 {
		return "", nil
	}
	body := wire.Encode(func(w *wire.Writer) {
		w.Array(2)
		w.Bytes(space[:])
		dotted.WriteVector(w, seen)
	})
	text := base64.RawURLEncoding.EncodeToString(wire.Seal(tokenVersion, []byte(tokenSeal), body))
	if len(text) > MaxToken {
		return "", ErrTooManyReplicas
	}
	return Token(text), nil
}

// vector returns what the token names in a space, or ErrToken. The vector is never nil.
func (t Token) vector(space gossip.SpaceID) (crdt.VersionVector, error) {
	of, seen, err := t.decode()
	switch {
	case err != nil:
		return nil, err
	case t != "" && of != space:
		return nil, fmt.Errorf("%w: it is of another space", ErrToken)
	}
	return seen, nil
}

// decode returns which space the token is about, and what it names there.
func (t Token) decode() (space gossip.SpaceID, seen crdt.VersionVector, err error) {
	seen = crdt.VersionVector{}
	if t == "" {
		return space, seen, nil
	}
	if len(t) > MaxToken {
		return space, nil, fmt.Errorf("%w (%d bytes, limit %d)", ErrToken, len(t), MaxToken)
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(string(t))
	if err != nil {
		return space, nil, ErrToken
	}
	version, body, err := wire.Unseal([]byte(tokenSeal), sealed)
	if err != nil {
		return space, nil, ErrToken
	}
	if err := wire.CheckFormat(uint64(version), tokenVersion, "take a new one"); err != nil {
		return space, nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	err = wire.Decode(body, func(r *wire.Reader) {
		fields := r.Array(16)
		name := r.Bytes(gossip.SpaceIDSize)
		if fields < 2 || len(name) != gossip.SpaceIDSize {
			r.Fail("a token of %d fields about space %x", fields, name)
			return
		}
		space = gossip.SpaceID(name)
		if v := dotted.ReadVector(r); v != nil {
			seen = v
		}
		r.Skip(fields - 2)
	})
	if err != nil {
		return space, nil, ErrToken
	}
	return space, seen, nil
}

// Check returns ErrToken unless t is a token.
func (t Token) Check() error {
	_, _, err := t.decode()
	return err
}

// NotSeenError is returned by Wait if the peer has not seen all that a token names.
type NotSeenError struct {
	// Missing maps the id of each replica to how many of its writes are not here.
	Missing map[string]uint64
	cause   error
}

// Error implements error.
func (e *NotSeenError) Error() string {
	var n uint64
	for _, missing := range e.Missing {
		n += missing
	}
	what := fmt.Sprintf("this peer has not seen %d of the writes that the token names, of %d replicas", n, len(e.Missing))
	if errors.Is(e.cause, ErrLost) {
		return what + ": " + ErrLost.Error()
	}
	return what + ": ask again later, or the peer that gave the token"
}

// Unwrap returns why the wait ended.
func (e *NotSeenError) Unwrap() error { return e.cause }

// Wait waits for what a token names: see Space.Wait.
func (s *space) Wait(ctx context.Context, want crdt.VersionVector) error {
	for _, id := range want.Replicas() {
		if err := s.waitFor(ctx, crdt.Dot{Replica: id, Counter: want[id]}); err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrLost) {
				return err
			}
			if missing := s.lacks(want); len(missing) > 0 {
				return &NotSeenError{Missing: missing, cause: err}
			}
			return nil
		}
	}
	return nil
}

func (s *space) waitFor(ctx context.Context, d crdt.Dot) error {
	here := s.feed.want(d)
	if here == nil {
		return nil
	}
	look := time.NewTicker(lostEvery)
	defer look.Stop()
	for lost := 0; ; {
		select {
		case <-here:
			return nil
		case <-ctx.Done():
			s.feed.drop(d, here)
			return ctx.Err()
		case <-s.stopped:
			return s.gone()
		case <-look.C:
		}
		if vain, _ := ask(ctx, s, func(l *loop) bool { return l.isLost(d) }); vain {
			lost++
		} else {
			lost = 0
		}
		if lost == lostAfter {
			s.feed.drop(d, here)
			return ErrLost
		}
	}
}

// lacks counts what is not here, for each replica.
func (s *space) lacks(want crdt.VersionVector) map[string]uint64 {
	missing := map[string]uint64{}
	for id, n := range s.feed.now().seen.Missing(want) {
		missing[id.String()] = n
	}
	return missing
}

// viewOfTurn opens a view, and returns a moment that is its own, or before it and with nothing but deltas of the log
// between the two.
func (s *space) viewOfTurn() (*view, moment, error) {
	for {
		wake := s.feed.bell.wait()
		v, at, err := s.view(s.feed.now)
		if err != nil || v.Turns() == at.turns {
			return v, at, err
		}
		v.Close() // a repair was taken over, and the feed is told at once
		select {
		case <-wake:
		case <-s.stopped:
		}
	}
}

// viewMoment opens a view, and tells its moment.
func (s *space) viewMoment() (*view, moment, error) {
	v, at, err := s.viewOfTurn()
	if err != nil {
		return nil, at, err
	}
	// What was committed between the two is in the view's log.
	err = v.Log(at.next, func(number uint64, deltas []*delta.Delta) bool {
		at.next = number + 1
		for _, d := range deltas {
			at.seen.Raise(d.Replica, d.Last())
		}
		return true
	})
	if err != nil {
		v.Close()
		s.suspectRead(err)
	}
	if err != nil && isClosed(s.stopped) {
		err = s.gone() // as is its log
	}
	return v, at, err
}

// A token can name writes that every host lost: one that answers before it syncs was cut off from its power, and had
// not sent them yet. Nobody can know of a host that is not linked, so such writes are given up only once all linked
// peers have answered that they lack them, and whoever wrote them has ended.

// ErrLost is wrapped by Wait if a token names writes that no linked peer has, and that nobody will send any more.
var ErrLost = errors.New("every linked peer lacks writes that the token names, and who wrote them has ended: " +
	"they are lost, go on without the token")

// lostEvery is how often a wait looks whether it is in vain, and lostAfter how often in a row it must be: neighbours tell
// what they have within two seconds.
const (
	lostEvery = time.Second
	lostAfter = 3
)

// isLost reports whether nobody will send a dot any more.
func (l *loop) isLost(d crdt.Dot) bool {
	seen, _ := l.engine.Context()
	if seen.Has(d) || l.engine.Refusal() != nil || l.engine.Pulling() || d.Replica == l.engine.ID() || l.engine.Writes(d.Replica) {
		return false
	}
	for id := range l.links {
		if said := l.engine.Said(id); said == nil || said.Has(d) || l.engine.Quarantined(id) {
			return false
		}
	}
	if l.engine.Ended(d.Replica) {
		return true
	}
	// An id lives for one start. So it has ended if it is an earlier one of this host, or of one of the members:
	// each link says as what its host writes now.
	lacking, all := l.asksAll()
	return all && (len(l.links)+lacking > 0 || l.engine.Wrote(d.Replica))
}

// asksAll reports whether each known member that may hold the space is linked: over the space, or it has said that it
// does not hold it, as lacking members have.
func (l *loop) asksAll() (lacking int, all bool) {
	if l.p.net == nil {
		return 0, true
	}
	for _, m := range l.p.net.members.List() {
		id := gossip.NeighbourID(m.ID)
		switch {
		case l.links[id] != nil:
		case l.p.net.board.lacks(id, l.s.id):
			lacking++
		case m.Holds(l.s.id.Short()):
			return lacking, false
		}
	}
	return lacking, true
}
