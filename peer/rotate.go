package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/secret"
)

// A cluster's key is replaced in steps, each of which all members have taken before the next begins:
// hold the new key, use it, hold no other. So any two members understand each other at any moment,
// wherever a change ends early, and two changes at once do no harm: see docs/decisions/0013.

var (
	// ErrKeyChangeRuns is returned while another change of the cluster's key is begun at this peer.
	ErrKeyChangeRuns = errors.New("the cluster's key is being changed here already: wait for that to end")
	// ErrKeyChangeOpen is returned by RetireKeys if a new key is held that is not in use yet.
	ErrKeyChangeOpen = errors.New("a new key is not in use yet: end its rotation first, with peerd key rotate")
	// ErrUnknownMember is wrapped by the error for an id that is none of a known member's.
	ErrUnknownMember = errors.New("no member has this peer id")

	errNoAnswer = errors.New("does not answer")
)

// Limits of a change of keys.
const (
	keyTimeout  = 10 * time.Second // for a member to take one step
	keyAttempts = 3                // to reach it, within that time
	keyPause    = 300 * time.Millisecond
	keyAtOnce   = 8 // members that are asked at the same time
	keyRounds   = 3 // in which members are looked for that joined meanwhile
)

// KeyChange is how far a change of the cluster's key has come.
type KeyChange struct {
	// Key is the id of the key that the cluster goes over to.
	Key string `json:"key"`
	// Done says that all members but those left out have taken every step.
	Done  bool      `json:"done"`
	Hosts []KeyHost `json:"hosts"` // this one first
}

// KeyHost is how far one member has come.
type KeyHost struct {
	Name    string `json:"name"`
	PeerID  string `json:"peer_id"`
	State   string `json:"state"`
	Problem bool   `json:"problem"` // it is why the change is not done
}

// States of a KeyHost, beside what keeps it from going on.
const (
	KeyAccepted = "accepts the new key"
	KeyUsed     = "uses the new key"
	KeyAlone    = "accepts the new key alone"
	KeyLeftOut  = "left out"
)

// RotateKey gives the cluster a new key, and has all members use it once all hold it. The old one is
// accepted until RetireKeys. Members named in without are left out: when the old key is retired they
// are strangers. If a member does not answer, the old key stays in use everywhere, KeyChange says
// so, and another call goes on with the same new key.
func (p *Peer) RotateKey(ctx context.Context, without []string) (KeyChange, error) {
	return p.changeClusterKey(ctx, without, (*keyChange).rotate)
}

// RetireKeys has all members accept no key but the one in use here, once all use it. If a member does
// not answer, nothing is retired, and KeyChange says so. Members named in without are left out.
func (p *Peer) RetireKeys(ctx context.Context, without []string) (KeyChange, error) {
	return p.changeClusterKey(ctx, without, (*keyChange).retire)
}

func (p *Peer) changeClusterKey(ctx context.Context, without []string,
	run func(*keyChange, context.Context) error) (KeyChange, error) {
	if p.net == nil {
		return KeyChange{}, errors.New("this peer is offline: it has no cluster")
	}
	n := p.net
	if !n.keys.turn.TryLock() {
		return KeyChange{}, ErrKeyChangeRuns
	}
	defer n.keys.turn.Unlock()
	for _, id := range without {
		if _, known := n.members.Get(id); !known {
			return KeyChange{}, fmt.Errorf("%q: %w", id, ErrUnknownMember)
		}
	}
	c := &keyChange{n: n, without: without, states: map[string]KeyHost{}}
	err := run(c, ctx)
	return c.result(), err
}

// keyChange is a change of the cluster's key that this peer has begun.
type keyChange struct {
	n       *network
	without []string
	key     secret.Key
	done    bool
	states  map[string]KeyHost // by peer id
}

func (c *keyChange) rotate(ctx context.Context) error {
	ring := c.n.keys.ring()
	var begun bool
	if c.key, begun = ring.Next(); !begun {
		c.key = secret.New()
	}
	hold := keyRequest{step: stepHold, key: c.key.Expose()}
	use := keyRequest{step: stepUse, id: c.key.ClusterID()}
	if err := c.here(hold, KeyAccepted); err != nil {
		return err
	}
	if !c.all(ctx, hold, KeyAccepted) || !c.all(ctx, use, KeyUsed) {
		return ctx.Err()
	}
	c.done = true
	return c.here(use, KeyUsed)
}

func (c *keyChange) retire(ctx context.Context) error {
	ring := c.n.keys.ring()
	if _, open := ring.Next(); open {
		return ErrKeyChangeOpen
	}
	c.key = ring.InUse()
	id := c.key.ClusterID()
	c.note(c.n.id.String(), c.n.p.cfg.Name, KeyUsed, nil)
	if !c.all(ctx, keyRequest{step: stepHold, key: c.key.Expose()}, KeyAccepted) ||
		!c.all(ctx, keyRequest{step: stepUse, id: id}, KeyUsed) ||
		!c.all(ctx, keyRequest{step: stepRetire, id: id}, KeyAlone) {
		return ctx.Err()
	}
	c.done = true
	return c.here(keyRequest{step: stepRetire, id: id}, KeyAlone)
}

// here takes a step at this peer.
func (c *keyChange) here(q keyRequest, state string) error {
	err := c.n.changeKeys(q.apply)
	c.note(c.n.id.String(), c.n.p.cfg.Name, state, err)
	c.done = c.done && err == nil
	return err
}

// all has the other members take a step, and reports whether all have. Those that joined meanwhile are
// asked as well.
func (c *keyChange) all(ctx context.Context, q keyRequest, state string) bool {
	asked, ok := map[string]bool{}, true
	for range keyRounds {
		var hosts []members.Member
		for _, m := range c.n.permitted(c.n.members.List()) {
			switch {
			case slices.Contains(c.without, m.ID):
				c.note(m.ID, m.Label, KeyLeftOut, nil)
			case !asked[m.ID]:
				asked[m.ID] = true
				hosts = append(hosts, m)
			}
		}
		if len(hosts) == 0 {
			break
		}
		for i, err := range c.n.tellAll(ctx, hosts, q) {
			c.note(hosts[i].ID, hosts[i].Label, state, err)
			ok = ok && err == nil
		}
	}
	return ok
}

func (c *keyChange) note(id, name, state string, problem error) {
	if problem != nil {
		state = problem.Error()
	}
	c.states[id] = KeyHost{Name: name, PeerID: id, State: state, Problem: problem != nil}
}

func (c *keyChange) result() KeyChange {
	out := KeyChange{Key: c.key.ClusterID(), Done: c.done}
	self := c.n.id.String()
	for _, h := range c.states {
		out.Hosts = append(out.Hosts, h)
	}
	slices.SortFunc(out.Hosts, func(a, b KeyHost) int {
		switch {
		case a.PeerID == self:
			return -1
		case b.PeerID == self || a.PeerID > b.PeerID:
			return 1
		}
		return -1
	})
	return out
}

// tellAll has members take a step, several at once, and returns what kept each from it.
func (n *network) tellAll(ctx context.Context, hosts []members.Member, q keyRequest) []error {
	problems := make([]error, len(hosts))
	free := make(chan struct{}, keyAtOnce)
	var asking sync.WaitGroup
	for i, m := range hosts {
		free <- struct{}{}
		asking.Go(func() {
			problems[i] = n.tell(ctx, m, q)
			<-free
		})
	}
	asking.Wait()
	return problems
}

// tell has a member take a step. It is tried again for what passes: the other side may just have gone
// over to another key, and this one not know of it yet.
func (n *network) tell(ctx context.Context, m members.Member, q keyRequest) error {
	id, err := libpeer.Decode(m.ID)
	if err != nil || !m.Alive {
		return errNoAnswer
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		answer, err := n.tellOnce(ctx, id, m.P2P, q)
		if err == nil {
			return decodeKeyAnswer(answer)
		}
		n.p.log.Debug("cannot tell a member of a key", "peer_id", m.ID, "error", err)
		if attempt == keyAttempts || ctx.Err() != nil {
			return errNoAnswer
		}
		select {
		case <-time.After(keyPause):
		case <-ctx.Done():
		}
	}
}

// tellOnce sends a request on a stream of its own and returns the answer.
func (n *network) tellOnce(ctx context.Context, id libpeer.ID, addrs []string, q keyRequest) (
	[]byte, error) {
	if err := n.connect(ctx, id, addrs); err != nil {
		return nil, err
	}
	s, key, err := n.openStream(ctx, id, keyStream, n.keys.ring().Keys())
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Reset() }()
	if err := proveAsDialer(deadlined(s), key, n.id, id); err != nil {
		return nil, err
	}
	if err := writeFrame(s, q.encode()); err != nil {
		return nil, err
	}
	return readFrame(s, maxKeyMessage)
}

// acceptKey takes a request of another member about keys.
func (n *network) acceptKey(s libnet.Stream, key secret.Key) {
	n.spawnFor(s, func() {
		err := n.serveKey(s, key)
		if err == nil {
			_ = s.Close() // and not reset it: the answer is on its way
			return
		}
		_ = s.Reset()
		n.p.log.Warn("refused a change of the cluster's keys", "peer_id", s.Conn().RemotePeer().String(),
			"error", err)
	})
}

func (n *network) serveKey(s libnet.Stream, key secret.Key) error {
	if err := n.prove(s, key); err != nil {
		return err
	}
	data, err := readFrame(s, maxKeyMessage)
	if err != nil {
		return err
	}
	q, err := decodeKeyRequest(data)
	if err != nil {
		return err
	}
	n.p.log.Info("a member changes the cluster's keys", "peer_id", s.Conn().RemotePeer().String())
	return writeFrame(s, encodeKeyAnswer(n.changeKeys(q.apply)))
}
