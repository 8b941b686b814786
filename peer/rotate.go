package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/secret"
	"github.com/peerd/peerd/internal/wire"
)

// A cluster's key is replaced in steps, each of which all members have taken before the next
// begins: hold the new key, use it, hold no other. So any two members understand each other at any
// moment, wherever a change ends early, and two changes at once do no harm: see
// docs/decisions/0013.

var (
	// ErrKeyChangeRuns is returned while another change of the cluster's key is begun at this peer.
	ErrKeyChangeRuns = errors.New("the cluster's key is being changed here already: wait for that to end")
	// ErrKeyChangeOpen is returned by RetireKeys if a new key is held that is not in use yet.
	ErrKeyChangeOpen = errors.New("a new key is not in use yet: end its rotation first, with peerd key rotate")
	// ErrKeyAlone is returned by a peer that was told of others and has not found any: it would
	// give itself a key that they do not have.
	ErrKeyAlone = errors.New("this peer was told of others to join and knows none yet: wait until peerd " +
		"status lists them")
	// ErrUnknownMember is wrapped by the error for what is not of a known member: its id, six
	// characters or more at either end of that, its name or its gossip address.
	ErrUnknownMember = errors.New("no member has this id, name or address")

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
	// Key is the id of the key that the cluster goes over to; empty if nothing was begun.
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

// States of a KeyHost, in the order of the steps. A host with a Problem has in its place what keeps
// it from going on.
const (
	KeyAnswers  = "answers"                   // nothing has changed there
	KeyAccepted = "accepts the new key"       // beside the old one, which it uses
	KeyUsed     = "uses the new key"          // and accepts the old one
	KeyAlone    = "accepts the new key alone" // the old one is retired there
	KeyLeftOut  = "left out"                  // it was named in without, and not asked
)

// RotateKey gives the cluster a new key, and has all members use it once all hold it. The old one
// is accepted until RetireKeys. Members named in without are left out, also of what this peer does
// to the key until then, unless they are given the key by hand and prove that they hold it: when
// the old key is retired the others of them are strangers. If a member does not answer, nothing
// changes, and KeyChange says so; if it fails later, the old key stays in use or accepted
// everywhere, and another call goes on with the same new key, unless one that is left out may hold
// that. The error is ErrKeyChangeRuns while a change that was begun here runs, ErrKeyAlone,
// ErrClosed, or wraps ErrUnknownMember or ErrSeveralMembers for who is in without.
func (p *Peer) RotateKey(ctx context.Context, without []string) (KeyChange, error) {
	return p.changeClusterKey(ctx, without, (*keyChange).rotate)
}

// RetireKeys has all members accept no key but the one in use here, once all use it. If a member
// does not answer, nothing is retired, and KeyChange says so. Members named in without are left
// out, and those that the rotation to that key left out, if this peer began it and was not
// started again since. The error is one of RotateKey's, or ErrKeyChangeOpen if a new key is held
// that is not in use.
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
	if n.ctx.Err() != nil {
		return KeyChange{}, ErrClosed
	}
	without, err := n.meant(ctx, without)
	if err != nil {
		return KeyChange{}, err
	}
	without = slices.Concat(without, n.keyless(ctx, n.keys.leftOut()))
	c := &keyChange{n: n, without: without, states: map[string]KeyHost{}}
	ok, err := c.gather(ctx)
	if ok && err == nil {
		err = run(c, ctx)
	}
	return c.result(), err
}

// keyChange is a change of the cluster's key that this peer has begun.
type keyChange struct {
	n       *network
	without []string
	mayFail []string // of those that were left out: they take part if they can
	key     secret.Key
	done    bool
	states  map[string]KeyHost // by peer id
}

// gather finds out who is to take part: the members that are known here, or to one of those. It
// reports whether all answer and are known here; nothing has changed.
func (c *keyChange) gather(ctx context.Context) (ok bool, err error) {
	c.note(c.n.id.String(), c.n.p.cfg.Name, KeyAnswers, nil)
	known := c.n.permitted(c.n.members.List())
	if len(known) == 0 && len(c.n.members.Joining())+len(c.n.members.Unmet()) > 0 {
		return false, ErrKeyAlone
	}
	knows := map[string]string{c.n.id.String(): ""} // the name of one who does, by peer id
	for _, m := range known {
		knows[m.ID] = ""
	}
	answers, ok := c.all(ctx, keyRequest{step: stepTell}, KeyAnswers)
	for name, answer := range answers {
		for _, id := range answer.members {
			if _, here := knows[id]; here || !c.n.gater.permitsText(id) {
				continue
			}
			knows[id] = name
			if !slices.Contains(c.without, id) {
				c.note(id, "?", "", fmt.Errorf("is known to %s and not here", name))
				ok = false
			}
		}
	}
	for _, id := range c.without {
		_, somewhere := knows[id]
		if !somewhere && !c.n.gater.isRemoved(id) && !slices.Contains(c.n.keys.leftOut(), id) {
			return false, fmt.Errorf("%q: %w", id, ErrUnknownMember)
		}
	}
	return ok, ctx.Err()
}

func (c *keyChange) rotate(ctx context.Context) error {
	ring := c.n.keys.ring()
	removed := c.n.gater.removedIDs()
	var begun bool
	if c.key, begun = ring.Next(); !begun || !c.n.keys.goesOn(c.key, c.without, removed) {
		c.key = secret.New()
	}
	c.n.keys.begun, c.n.keys.without, c.n.keys.removed = c.key, c.without, removed
	hold := keyRequest{step: stepHold, key: c.key.Expose()}
	use := keyRequest{step: stepUse, id: c.key.ClusterID()}
	if err := c.here(hold, KeyAccepted); err != nil {
		return err
	}
	if !c.have(ctx, hold, KeyAccepted) || !c.have(ctx, use, KeyUsed) {
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
	c.mayFail = c.without
	c.without = c.n.keyless(ctx, c.without)
	c.key = ring.InUse()
	id := c.key.ClusterID()
	c.note(c.n.id.String(), c.n.p.cfg.Name, KeyUsed, nil)
	if !c.have(ctx, keyRequest{step: stepHold, key: c.key.Expose()}, KeyAccepted) ||
		!c.have(ctx, keyRequest{step: stepUse, id: id}, KeyUsed) ||
		!c.have(ctx, keyRequest{step: stepRetire, id: id}, KeyAlone) {
		return ctx.Err()
	}
	c.done = true
	if err := c.here(keyRequest{step: stepRetire, id: id}, KeyAlone); err != nil {
		return err
	}
	c.n.keys.begun = secret.Key{} // whom it left out joins as others do, or not at all
	return nil
}

// here takes a step at this peer.
func (c *keyChange) here(q keyRequest, state string) error {
	err := c.n.changeKeys(q.apply)
	c.note(c.n.id.String(), c.n.p.cfg.Name, state, err)
	c.done = c.done && err == nil
	return err
}

// have has the other members take a step, and reports whether all have.
func (c *keyChange) have(ctx context.Context, q keyRequest, state string) bool {
	_, ok := c.all(ctx, q, state)
	return ok
}

// all has the other members take a step. It returns the answers by the members' names, and whether
// all have taken it. Those that joined meanwhile are asked as well.
func (c *keyChange) all(ctx context.Context, q keyRequest, state string) (
	answers map[string]keyAnswer, ok bool) {
	answers, ok = map[string]keyAnswer{}, true
	asked := map[string]bool{}
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
		got, problems := c.n.tellAll(ctx, hosts, q)
		for i, m := range hosts {
			if problems[i] != nil && slices.Contains(c.mayFail, m.ID) {
				c.without = append(c.without, m.ID)
				c.note(m.ID, m.Label, KeyLeftOut, nil)
				continue
			}
			c.note(m.ID, m.Label, state, problems[i])
			answers[m.Label+" ("+m.ID+")"] = got[i]
			ok = ok && problems[i] == nil
		}
	}
	return answers, ok
}

func (c *keyChange) note(id, name, state string, problem error) {
	if problem != nil {
		state = problem.Error()
	}
	c.states[id] = KeyHost{Name: name, PeerID: id, State: state, Problem: problem != nil}
}

func (c *keyChange) result() KeyChange {
	out := KeyChange{Done: c.done}
	if !c.key.IsZero() {
		out.Key = c.key.ClusterID()
	}
	self := c.n.id.String()
	out.Hosts = []KeyHost{c.states[self]}
	for _, id := range slices.Sorted(maps.Keys(c.states)) {
		if id != self {
			out.Hosts = append(out.Hosts, c.states[id])
		}
	}
	return out
}

// tellAll has members take a step, several at once. It returns the answer of each, or what kept it
// from that.
func (n *network) tellAll(ctx context.Context, hosts []members.Member, q keyRequest) (
	answers []keyAnswer, problems []error) {
	answers, problems = make([]keyAnswer, len(hosts)), make([]error, len(hosts))
	askEach(len(hosts), func(i int) { answers[i], problems[i] = n.tell(ctx, hosts[i], q) })
	return answers, problems
}

// askEach calls ask for each of n, for keyAtOnce of them at the same time, and returns when all
// have returned.
func askEach(n int, ask func(i int)) {
	free := make(chan struct{}, keyAtOnce)
	var asking sync.WaitGroup
	for i := range n {
		free <- struct{}{}
		asking.Go(func() {
			ask(i)
			<-free
		})
	}
	asking.Wait()
}

// reaches reports whether a member may answer: one that is behind NAT is taken for dead now and
// then, and linked.
func (n *network) reaches(m members.Member, id libpeer.ID) bool { return m.Alive || n.linked(id) }

// tell has a member take a step. It is tried again for what passes: the other side may just have
// gone over to another key, and this one not know of it yet.
func (n *network) tell(ctx context.Context, m members.Member, q keyRequest) (keyAnswer, error) {
	id, err := libpeer.Decode(m.ID)
	if err != nil || !n.reaches(m, id) {
		return keyAnswer{}, errNoAnswer
	}
	if v := versionOf(m); v != 0 {
		return keyAnswer{}, v
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		answer, err := n.tellOnce(ctx, id, m.P2P, n.keys.ring().Keys(), q)
		if err == nil && answer.problem != "" {
			return answer, errors.New(answer.problem)
		}
		if err == nil {
			return answer, nil
		}
		n.p.log.Debug("cannot tell a member of a key", "peer_id", m.ID, "error", err)
		if v := versionError(0); errors.As(err, &v) {
			return answer, v
		}
		if attempt == keyAttempts || ctx.Err() != nil {
			return answer, errNoAnswer
		}
		select {
		case <-time.After(keyPause):
		case <-ctx.Done():
		}
	}
}

// keyless returns those of the members left out that do not prove to hold the key in use. Who does
// was given it by hand since, and takes part as the others do: it is told nothing that it does not
// know, and would accept the old key for ever.
func (n *network) keyless(ctx context.Context, leftOut []string) (ids []string) {
	inUse := []secret.Key{n.keys.ring().InUse()}
	hold := make([]bool, len(leftOut))
	askEach(len(leftOut), func(i int) {
		m, known := n.members.Get(leftOut[i])
		hold[i] = known && n.holds(ctx, m, inUse)
	})
	for i, one := range leftOut {
		if !hold[i] {
			ids = append(ids, one)
		}
	}
	return ids
}

// holds reports whether a member answers over a stream that only these keys open.
func (n *network) holds(ctx context.Context, m members.Member, keys []secret.Key) bool {
	id, err := libpeer.Decode(m.ID)
	if err != nil || !n.reaches(m, id) || !n.gater.permits(id) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	_, err = n.tellOnce(ctx, id, m.P2P, keys, keyRequest{step: stepTell})
	return err == nil
}

// tellOnce sends a request on a stream of its own and returns the answer.
func (n *network) tellOnce(ctx context.Context, id libpeer.ID, addrs []string, keys []secret.Key, q keyRequest) (
	answer keyAnswer, err error) {
	if err := n.connect(ctx, id, addrs); err != nil {
		return answer, err
	}
	s, err := n.openProven(ctx, id, keyStream, keys)
	if err != nil {
		return answer, err
	}
	defer func() { _ = s.Reset() }()
	if err := writeFrame(s, q.encode()); err != nil {
		return answer, err
	}
	data, err := readFrame(s, maxKeyAnswer)
	if err != nil {
		return answer, err
	}
	return decodeKeyAnswer(data)
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
	data, err := readFrame(s, maxKeyRequest)
	if err != nil {
		return err
	}
	q, err := decodeKeyRequest(data)
	if err != nil {
		return err
	}
	var answer keyAnswer
	if q.step == stepTell {
		for _, m := range n.members.List() {
			answer.members = append(answer.members, m.ID)
		}
	} else {
		n.p.log.Info("a member changes the cluster's keys", "peer_id", s.Conn().RemotePeer().String())
	}
	err = n.changeKeys(func(ring secret.Ring) (secret.Ring, error) {
		if ring.InUse() != key {
			return ring, errFormerKey
		}
		return q.apply(ring)
	})
	if errors.Is(err, errFormerKey) {
		return err // and no answer: who has the new key tries again with that
	}
	if err != nil {
		answer.problem = err.Error()
	}
	return writeFrame(s, answer.encode())
}

// keyRequest asks another member to change its keys. It travels on a stream of its own, after the
// proofs; a keyAnswer follows.
type keyRequest struct {
	step keyStep
	key  []byte // to hold: the key itself
	id   string // to use, or to be left alone with: the key's ClusterID
}

// keyStep is a step of the change of a cluster's key.
type keyStep uint64

const (
	stepHold   keyStep = 1 // accept a key
	stepUse    keyStep = 2 // begin what you begin with it
	stepRetire keyStep = 3 // accept no other any more
	stepTell   keyStep = 4 // change nothing, and tell whom you know
)

// Limits of messages about keys, in bytes.
const (
	maxKeyRequest = 1 << 10
	maxKeyAnswer  = MaxMembers*(maxPeerID+4) + 1<<10
	maxKeyID      = 64
	maxPeerID     = 128
	maxKeyProblem = 512
)

func (q keyRequest) encode() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		w.Uint(uint64(q.step))
		w.Bytes(q.key)
		w.String(q.id)
	})
}

// decodeKeyRequest reads what encode wrote. Fields that a newer version added are passed over.
func decodeKeyRequest(data []byte) (q keyRequest, err error) {
	err = wire.Decode(data, func(r *wire.Reader) {
		n := r.Array(16)
		if n < 3 {
			r.Fail("a request about keys of %d fields", n)
			return
		}
		q.step = keyStep(r.Uint())
		q.key = r.Bytes(secret.KeySize)
		q.id = r.String(maxKeyID)
		r.Skip(n - 3)
	})
	return q, err
}

// keyAnswer is how a request ended at the other side.
type keyAnswer struct {
	problem string   // empty if it was done
	members []string // whom the other side knows, by peer id; only to stepTell
}

func (a keyAnswer) encode() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(2)
		w.String(a.problem[:min(len(a.problem), maxKeyProblem)])
		w.Array(len(a.members))
		for _, id := range a.members {
			w.String(id)
		}
	})
}

// decodeKeyAnswer reads what encode wrote.
func decodeKeyAnswer(data []byte) (a keyAnswer, err error) {
	err = wire.Decode(data, func(r *wire.Reader) {
		n := r.Array(16)
		if n < 2 {
			r.Fail("an answer about keys of %d fields", n)
			return
		}
		a.problem = members.Printable(r.String(maxKeyProblem))
		for range r.Array(MaxMembers) {
			a.members = append(a.members, r.String(maxPeerID))
		}
		r.Skip(n - 2)
	})
	return a, err
}

// apply returns the change of keys that a request asks for.
func (q keyRequest) apply(ring secret.Ring) (secret.Ring, error) {
	switch q.step {
	case stepHold:
		key, err := secret.FromBytes(q.key)
		if err != nil {
			return ring, err
		}
		return ring.Hold(key)
	case stepUse:
		return ring.Use(q.id)
	case stepRetire:
		if ring.InUse().ClusterID() != q.id {
			return ring, errors.New("this host uses another cluster key")
		}
		if _, open := ring.Next(); open { // others may use it soon, by a change that somebody else leads
			return ring, ErrKeyChangeOpen
		}
		return ring.Retire(), nil
	case stepTell:
		return ring, nil
	}
	return ring, errors.New("this host does not know that step: it runs an older peerd")
}
