package members

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MaxKnown is how many members are remembered. Beyond it those that were not seen for longest are
// forgotten; members that are alive never are.
const MaxKnown = 4096

// Member is what is known of another member. Its slices must not be changed.
type Member struct {
	ID        string            // peer id
	Label     string            // for people
	PublicKey ed25519.PublicKey // ID is derived from it
	Addr      string            // gossip address, "ip:port"
	P2P       []string          // addresses for data streams, best first
	Versions  Versions          // wire formats it speaks; zero if it was not seen since the start
	Spaces    []uint32          // that it holds, by the beginnings of their ids; nil: all, as far as is known
	Alive     bool              // whether the failure detector believes that it answers
	Since     time.Time         // when Alive last changed; of one not seen since the start: last seen
	RTT       time.Duration     // smoothed round trip time; 0 if not measured since Since

	// ClockOffset is how far its clock is ahead of this host's, ClockError by how much that may be
	// wrong, either way; both are 0 if not measured since Since.
	ClockOffset, ClockError time.Duration
	// Compared is when they were measured, and Shown what this host's clock showed then.
	Compared, Shown time.Time

	Report *Report // how it is, in its own words; nil if it has not told since Since
}

// Holds reports whether the member holds a space, as far as is known.
func (m Member) Holds(space uint32) bool { return m.Spaces == nil || slices.Contains(m.Spaces, space) }

// record is a Member and what only this package needs of it.
type record struct {
	Member
	seen     time.Time // last known to be alive; of one that is, Since or later
	metadata []byte    // as last verified for Addr; nil if not seen since the start
}

// table is all members known. memberlist calls into it while it holds its own lock, so none of its
// methods may call memberlist, block, or take a lock but its own.
type table struct {
	changed chan struct{} // of capacity 1: a token when List would return something new
	dirty   chan struct{} // of capacity 1: a token when the known file should be written

	mu      sync.Mutex
	known   map[string]*record
	removed map[string]bool // ids of members that are kept, and not shown
	closed  bool

	here atomic.Bool // others take this host for removed
}

// newTable returns a table of members that are not alive yet.
func newTable(known []record) *table {
	t := &table{
		changed: make(chan struct{}, 1),
		dirty:   make(chan struct{}, 1),
		known:   make(map[string]*record, len(known)),
	}
	for _, r := range known {
		t.known[r.ID] = &r
	}
	t.forgetOldest()
	return t
}

// verified reports whether this very metadata was found good for this member at this address
// before.
func (t *table) verified(id, addr string, encoded []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.known[id]
	return r != nil && r.Addr == addr && r.metadata != nil && bytes.Equal(r.metadata, encoded)
}

// alive notes that a member answers, with its verified metadata.
func (t *table) alive(id, addr string, m metadata, encoded []byte, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.known[id]
	if r == nil {
		r = &record{}
		t.known[id] = r
	}
	if !r.Alive {
		r.Since = now
	}
	r.Member = Member{
		ID: id, Label: m.label, PublicKey: m.key, Addr: addr, P2P: m.p2p, Versions: m.versions, Spaces: m.spaces,
		Alive: true, Since: r.Since, RTT: r.RTT,
		ClockOffset: r.ClockOffset, ClockError: r.ClockError, Compared: r.Compared, Shown: r.Shown,
		Report: r.Report,
	}
	r.seen, r.metadata = now, bytes.Clone(encoded)
	t.forgetOldest()
	t.note()
}

// gone notes that a member left or no longer answers. It stays in the table.
func (t *table) gone(id string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lose(t.known[id], now)
}

// allGone notes that of no member it is known whether it answers.
func (t *table) allGone(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.known {
		t.lose(r, now)
	}
}

// lose notes that a member is not alive. t.mu is held.
func (t *table) lose(r *record, now time.Time) {
	if r == nil || !r.Alive {
		return
	}
	r.Alive, r.Since, r.seen, r.RTT, r.ClockOffset, r.ClockError = false, now, now, 0, 0, 0
	r.Report = nil
	t.note()
}

// measured notes a round trip, smoothed as TCP does (RFC 6298): an eighth of the new value.
func (t *table) measured(id string, rtt time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.known[id]
	switch {
	case r == nil || !r.Alive:
	case r.RTT == 0:
		r.RTT = rtt
	default:
		r.RTT += (rtt - r.RTT) / 8
	}
}

func (t *table) get(id string) (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.known[id]; r != nil && !t.removed[id] {
		return r.Member, true
	}
	return Member{}, false
}

// has reports whether any member is, or was, at a gossip address.
func (t *table) has(addr string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.known {
		if r.Addr == addr {
			return true
		}
	}
	return false
}

// list returns all members, sorted by id.
func (t *table) list() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Member, 0, len(t.known))
	for id, r := range t.known {
		if !t.removed[id] {
			out = append(out, r.Member)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// records returns a copy of all records: those alive first, then the most recently seen.
func (t *table) records(now time.Time) []record {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]record, 0, len(t.known))
	for _, r := range t.known {
		if r.Alive {
			r.seen = now
		}
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b record) int {
		// Those alive were seen now, so they come first.
		return cmp.Or(b.seen.Compare(a.seen), strings.Compare(a.ID, b.ID))
	})
	return out
}

// close ends the notifications: the channel changed is closed, and later events are dropped.
func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		close(t.changed)
	}
}

// note leaves a token for the user and for whoever writes the file. t.mu is held.
func (t *table) note() {
	if t.closed {
		return
	}
	for _, c := range []chan struct{}{t.changed, t.dirty} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// forgetOldest keeps the table to MaxKnown. t.mu is held. O(n), at most once for each new member.
func (t *table) forgetOldest() {
	for len(t.known) > MaxKnown {
		var oldest *record
		for _, r := range t.known {
			if !r.Alive && (oldest == nil || r.olderThan(oldest)) {
				oldest = r
			}
		}
		if oldest == nil {
			return
		}
		delete(t.known, oldest.ID)
	}
}

func (r *record) olderThan(o *record) bool {
	return cmp.Or(r.seen.Compare(o.seen), strings.Compare(r.ID, o.ID)) < 0
}
