// Package members finds the other hosts of the cluster and tells which of them answer: discovery
// and liveness, and nothing else.
//
// It wraps hashicorp/memberlist, an implementation of SWIM (Das, Gupta, Motivala: SWIM, 2002)
// with the Lifeguard extensions. No user data travels on it. Each member tells at most 512 bytes
// about itself: a label, its public key, the addresses of its data streams, the wire formats it
// speaks.
//
// What this package adds:
//
//   - Identity. All gossip is encrypted with the cluster's key, but to memberlist whoever has that
//     key can be anyone. Here a member's metadata is signed, together with its id and gossip
//     address, by the key that the id is derived from; others are refused.
//   - Memory. A dead member is not forgotten: it stays listed with Alive false, and in a file, until it was not seen
//     for Config.ForgetAfter, or is removed: see removed.go.
//   - Healing. memberlist never merges two halves again after a partition longer than
//     GossipToTheDeadTime. Here hosts that are absent are looked for as long as they are listed: see rejoin.go.
//
// Membership is a hint. Liveness is the opinion of a failure detector, which errs both ways;
// whether a member may have data is decided where its stream is authenticated, not here.
//
// Caveats: holders of the cluster's key are trusted not to lie about others' liveness. A replayed
// old record of a member can bring back its old addresses until it speaks again. On one machine
// all members share an IP, so fault injection (Config.Blocked) cuts streams where they are
// dialed; a third member that reaches both ends of a cut link keeps them alive for each other, as
// it should.
//
// Tests run real members on loopback with the Fast preset; the decoder of metadata is fuzzed.
package members

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerd/peerd/internal/beat"
	"github.com/peerd/peerd/internal/wire"
)

// saveEvery is how often the known file is written though nobody came or went: for "last seen".
const saveEvery = 10 * time.Minute

// Members is this host's view of the cluster. Its methods may be called by many goroutines at once.
type Members struct {
	// Fixed after Open.
	cfg     Config
	timing  timing
	table   *table
	journal *journal
	keyring *memberlist.Keyring
	unmet   []string // hosts that an earlier start was to join, and this one is not

	told atomic.Pointer[told] // changed while mu is held

	mu        sync.Mutex // held while what follows is replaced
	list      *memberlist.Memberlist
	transport *transport
	own       *delegate
	closed    bool

	join   atomic.Pointer[[]string] // Config.Join, or what SetJoin put in its place
	joinIt chan struct{}            // holds a token when join was replaced
	selves sync.Map                 // hosts to join, by name, that stood for this one when last looked up

	conflicts chan conflict // to be settled: see same.go
	inquiries chan []byte   // that arrived

	disputed atomic.Bool    // our address is: the next round of joining is eager
	moves    atomic.Int64   // raised by each Move, before and after it forgets who is alive
	tried    atomic.Int64   // one more than that was before a round of which every host was joined, or could not be
	running  sync.WaitGroup // goroutines of ours
	ending   atomic.Bool    // Close was called
	stop     context.CancelFunc
	closing  sync.Once
	closeErr error
}

// told is what others are told of this host and can change.
type told struct {
	addr   string // gossip address
	p2p    []string
	spaces []uint32
}

// Open starts to listen, to look for others and to be found. It waits for nobody: a host alone is
// a cluster. Errors are about the configuration, all problems at once, about the gossip address,
// and about a known file of another format, which is left as it is; after one nothing runs. A
// known file that cannot be read is put aside and warned about.
func Open(cfg Config) (*Members, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	m := &Members{cfg: cfg.clone(), joinIt: make(chan struct{}, 1), conflicts: make(chan conflict, maxAsked),
		inquiries: make(chan []byte, maxAsked)}
	m.join.Store(&m.cfg.Join)
	m.journal = &journal{to: m.cfg.Log, limit: limiter{now: time.Now}}
	known, err := m.loadKnown()
	if err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	m.timing = m.cfg.Preset.tune(memberlist.DefaultLANConfig())
	m.table = newTable(known)
	if len(known) == 0 && len(m.cfg.Join) > 0 {
		m.table.dirty <- struct{}{} // so that the file names whom to join, however this start ends
	}
	m.table.setRemoved(m.cfg.Removed)
	m.journal.known = m.table.has
	if err := m.listen(); err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	m.running.Go(func() { m.rejoin(ctx) })
	m.running.Go(func() { m.save(ctx) })
	m.running.Go(func() { m.inquire(ctx) })
	return m, nil
}

// listen opens the sockets and starts memberlist on them.
func (m *Members) listen() error {
	transport, err := listen(&m.cfg, log.New(m.journal, "", 0))
	if err != nil {
		return err
	}
	if m.keyring, err = memberlist.NewKeyring(nil, m.cfg.Key[:]); err == nil {
		err = m.SetKeys(m.cfg.Key, m.cfg.Accepted...)
	}
	if err != nil {
		return errors.Join(err, transport.Shutdown())
	}
	return m.create(transport, m.cfg.P2P, m.cfg.Spaces)
}

// create starts memberlist. m.mu is held, or m is nobody else's yet.
func (m *Members) create(transport *transport, p2p []string, spaces []uint32) error {
	d := &delegate{
		self: m.cfg.ID, cfg: &m.cfg, table: m.table, journal: m.journal,
		disputed: func() { m.disputed.Store(true) }, conflicts: m.conflicts, inquiries: m.inquiries,
	}
	m.own, m.transport = d, transport
	m.signMetadata(told{transport.advertise.String(), p2p, spaces})
	c := memberlist.DefaultLANConfig()
	m.cfg.Preset.tune(c)
	c.Name = m.cfg.ID
	c.Transport = transport
	c.Keyring = m.keyring
	c.EnableCompression = false // keys and signatures do not shrink
	c.Logger = log.New(m.journal, "", 0)
	c.Delegate, c.Alive, c.Events, c.Conflict, c.Ping = d, d, d, d, d
	list, err := memberlist.Create(c)
	if err != nil {
		return errors.Join(err, transport.Shutdown())
	}
	beat.Begin() // as memberlist's tickers just did
	m.list = list
	return nil
}

// signMetadata renews what this host tells about itself. m.mu is held, or m is nobody else's yet.
func (m *Members) signMetadata(now told) {
	public := m.cfg.PrivateKey.Public()
	own := metadata{
		format: metadataFormat, label: m.cfg.Label, key: public.(ed25519.PublicKey), p2p: now.p2p, versions: m.cfg.Versions,
		spaces: now.spaces,
	}
	m.told.Store(&now)
	encoded, kept := own.sign(m.cfg.PrivateKey, m.cfg.ID, now.addr)
	if kept < len(now.p2p) {
		m.journal.warn("too many addresses to tell them all to others",
			"told", now.p2p[:kept], "left_out", now.p2p[kept:])
	}
	m.own.metadata.Store(&encoded)
}

// Addr returns the gossip address that others are told, as "ip:port".
func (m *Members) Addr() string { return m.told.Load().addr }

// Move has others told other addresses of this host, in the place of Config.Advertise and
// Config.P2P, on the same sockets. Others take a member's new address only once it has left, so
// this host leaves, for a second or two at most, and comes back: until it has found the others
// again, it lists them as not alive. An error is about the addresses, and nothing has changed, or
// memberlist's, and this host is no member any more.
func (m *Members) Move(advertise string, p2p []string) error {
	cfg := m.cfg
	cfg.Advertise, cfg.P2P = advertise, slices.Clone(p2p)
	if err := cfg.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	if err := m.list.Leave(m.timing.leave); err != nil {
		m.journal.debug("left without being heard", "error", err)
	}
	m.own.over.Store(true)
	m.transport.lent = true
	_ = m.list.Shutdown()
	m.moves.Add(1)
	m.table.allGone(time.Now())
	m.moves.Add(1) // a round that began in between may have seen them alive
	if err := m.create(m.transport.successor(&m.cfg, advertise), cfg.P2P, m.told.Load().spaces); err != nil {
		m.closed = true
		return err
	}
	m.disputed.Store(true)
	m.look()
	return nil
}

// look has the next round of joining begin.
func (m *Members) look() {
	select {
	case m.joinIt <- struct{}{}:
	default: // the round to come sees both changes
	}
}

// current returns what joins now.
func (m *Members) current() *memberlist.Memberlist {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list
}

// List returns all members that were ever seen, this one excepted, sorted by ID. O(n log n).
func (m *Members) List() []Member { return m.table.list() }

// Get returns the member with this id, and false if it was never seen. O(1).
func (m *Members) Get(id string) (Member, bool) { return m.table.get(id) }

// Joining returns the hosts to join: those of Config.Join, or what SetJoin put in their place, but
// for those that are known to be this one.
func (m *Members) Joining() []string {
	return slices.DeleteFunc(slices.Clone(*m.join.Load()), func(host string) bool {
		_, own := m.selves.Load(host)
		return own || host == m.Addr()
	})
}

// Unmet returns the hosts that were to be joined at an earlier start, if this one is to join none,
// and no member is known: so this host is alone, and was not meant to be.
func (m *Members) Unmet() []string {
	if len(*m.join.Load()) > 0 || len(m.table.list()) > 0 {
		return nil
	}
	removed := m.table.removedAt()
	return slices.DeleteFunc(slices.Clone(m.unmet), func(host string) bool { return removed[host] })
}

// SetJoin puts other hosts in the place of Config.Join, and begins to look for those that are
// absent. Members that are there, or were, stay known. After an error, which names every host
// that cannot be, nothing has changed.
func (m *Members) SetJoin(hosts []string) error {
	cfg := m.cfg
	cfg.Join = slices.Clone(hosts)
	if err := cfg.Validate(); err != nil {
		return err
	}
	m.join.Store(&cfg.Join)
	m.selves.Clear()
	m.look()
	return nil
}

// SetSpaces tells the other members which spaces this host holds from now on, in the place of
// Config.Spaces; nil is all. It returns when some have been told, or after a second, or when
// Close is called. Callers take turns. After an error nothing has changed.
func (m *Members) SetSpaces(spaces []uint32) error {
	if len(spaces) > MaxSpaces {
		return fmt.Errorf("%d spaces, at most %d", len(spaces), MaxSpaces)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := *m.told.Load()
	now.spaces = slices.Clone(spaces)
	m.signMetadata(now)
	for !m.ending.Load() && !m.closed {
		// memberlist drops an update without a word if it has defended this host's old one, with a
		// higher number, since it drew the number of the new one. After a restart it defends often.
		err := m.list.UpdateNode(time.Second)
		if m.own.taken() {
			break
		}
		m.journal.debug("what this host holds is not told yet", "error", err)
	}
	return nil
}

// Tried reports whether the hosts to join at the start, and since the last Move, have been joined,
// or could not be.
func (m *Members) Tried() bool { return m.tried.Load() == m.moves.Load()+1 }

// Changed returns a channel, always the same, that holds a token when List may return something new
// since the token before, round trip times aside. Many changes leave one token, so it is of use to
// one receiver. Close closes it.
func (m *Members) Changed() <-chan struct{} { return m.table.changed }

// Close says goodbye to the others, for a second or two at most, stops listening and writes the
// known file. It returns when all is done, but for probes of memberlist's that wait for their
// timers: they end within seconds, unheard. A second Close returns the same error.
func (m *Members) Close() error {
	m.closing.Do(func() {
		m.ending.Store(true)
		m.stop()
		m.mu.Lock()
		defer m.mu.Unlock()
		var err error
		if !m.closed {
			if err := m.list.Leave(m.timing.leave); err != nil {
				m.journal.debug("left without being heard", "error", err)
			}
			err = m.list.Shutdown()
		}
		m.closed = true
		m.mu.Unlock() // for a round of joining
		m.running.Wait()
		m.mu.Lock()
		m.table.close()
		m.closeErr = errors.Join(err, m.saveKnown())
		m.journal.silent.Store(true)
	})
	return m.closeErr
}

// save writes the known file after changes, but not more often than timing.save.
func (m *Members) save(ctx context.Context) {
	look := saveEvery
	if m.cfg.ForgetAfter > 0 {
		look = min(look, m.cfg.ForgetAfter)
	}
	every := time.NewTicker(look)
	defer every.Stop()
	for {
		select {
		case <-m.table.dirty:
		case <-every.C:
		case <-ctx.Done():
			return
		}
		if after := m.cfg.ForgetAfter; after > 0 {
			m.table.forget(time.Now().Add(-after))
		}
		if err := m.saveKnown(); err != nil {
			m.journal.warn("cannot write the file of known members", "error", err)
		}
		select {
		case <-time.After(m.timing.save):
		case <-ctx.Done():
			return
		}
	}
}

func (m *Members) saveKnown() error {
	if m.cfg.KnownFile == "" {
		return nil
	}
	return saveKnown(m.cfg.KnownFile, m.table.records(time.Now()), append(m.Joining(), m.Unmet()...))
}

// loadKnown reads the known file. One that cannot be read must not keep the host from starting,
// unless it is only of another format.
func (m *Members) loadKnown() ([]record, error) {
	path := m.cfg.KnownFile
	if path == "" {
		return nil, nil
	}
	known, invalid, err := loadKnown(path, m.cfg.IDOf, time.Now())
	if errors.Is(err, wire.ErrFormat) {
		return nil, err
	}
	if err != nil {
		m.journal.warn("cannot read the file of known members: it is put aside",
			"error", err, "aside", path+".damaged")
		_ = os.Rename(path, path+".damaged")
	}
	if file, err := readKnown(path); err == nil && len(m.cfg.Join) == 0 {
		m.unmet = file.Join[:min(len(file.Join), MaxJoin)]
	}
	known = slices.DeleteFunc(known, func(r record) bool { return r.ID == m.cfg.ID })
	if invalid > 0 {
		m.journal.warn("left out invalid entries of the file of known members", "count", invalid)
	}
	return known, nil
}

// SetKeys makes inUse the key that this host encrypts with, and accepts what others encrypt with
// it or with any of the accepted. To replace a key without a moment in which two hosts do not
// understand each other: have all accept the new one, then all use it, then none accept the old
// one. Callers take turns.
func (m *Members) SetKeys(inUse [32]byte, accepted ...[32]byte) error {
	keys := append([][32]byte{inUse}, accepted...)
	for _, key := range keys {
		if err := m.keyring.AddKey(bytes.Clone(key[:])); err != nil {
			return err
		}
	}
	if err := m.keyring.UseKey(inUse[:]); err != nil {
		return err
	}
	// From the end on: memberlist reads the slice that it returned before without a lock, and removing
	// the last of a slice moves none of the others.
	for _, key := range slices.Backward(m.keyring.GetKeys()) {
		if slices.Contains(keys, [32]byte(key)) {
			continue
		}
		if err := m.keyring.RemoveKey(key); err != nil {
			return err
		}
	}
	return nil
}
