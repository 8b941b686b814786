package members

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/peerd/peerd/internal/wire"
)

// Members that were removed are not listed, not looked for, and refused when they come back. Who
// removes them, and how all hosts agree on that, is not decided here: see Members.SetRemoved. A
// removed host may not have heard of it. So whoever exchanges member lists tells whom it takes
// for removed, by the beginnings of hashes of their ids, and each host looks for its own.

// MaxRemoved is how many removed members are told of.
const MaxRemoved = MaxKnown

var errRemoved = errors.New("it was removed from the cluster")

// SetRemoved says which members are removed from now on, by their ids, in the place of those
// before. Of more than MaxRemoved some are forgotten.
func (m *Members) SetRemoved(ids []string) { m.table.setRemoved(ids) }

// Tell exchanges member lists with a member, removed or not, so that it hears now whether it is:
// else it hears that from whoever exchanges lists with it next, which may take half a minute. It
// takes twice memberlist's TCPTimeout at most. An error says why it was not told.
func (m *Members) Tell(id string) error {
	addr, known := m.table.addrOf(id)
	if !known {
		return fmt.Errorf("no address of %s is known", id)
	}
	_, err := m.current().Join([]string{addr})
	return err
}

// Removed reports whether the host that this one exchanged member lists with last takes it for
// removed.
func (m *Members) Removed() bool { return m.table.here.Load() }

func (t *table) setRemoved(ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	removed := map[string]bool{}
	for _, id := range ids[:min(len(ids), MaxRemoved)] {
		removed[id] = true
	}
	if !maps.Equal(removed, t.removed) {
		t.removed = removed
		t.note()
	}
}

func (t *table) isRemoved(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.removed[id]
}

// addrOf returns the gossip address of a member, removed or not.
func (t *table) addrOf(id string) (addr string, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.known[id]; r != nil {
		return r.Addr, true
	}
	return "", false
}

// removedAt returns the gossip addresses at which members were that are removed, and nobody else
// is.
func (t *table) removedAt() map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := map[string]bool{}
	for id := range t.removed {
		if r := t.known[id]; r != nil {
			at[r.Addr] = true
		}
	}
	for id, r := range t.known {
		if !t.removed[id] {
			delete(at, r.Addr)
		}
	}
	return at
}

// forget forgets the members that are gone and were not seen since a time. A host that reaches
// nobody forgets nobody: it may be the one that was away, or its clock be wrong.
func (t *table) forget(before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	reached := false
	for id, r := range t.known {
		reached = reached || r.Alive && !t.removed[id]
	}
	for id, r := range t.known {
		if reached && !r.Alive && r.seen.Before(before) {
			delete(t.known, id)
			t.note()
		}
	}
}

// removedMark is what stands for an id in a list of removed members.
func removedMark(id string) uint64 {
	sum := sha256.Sum256([]byte("peerd removed member " + id))
	return binary.BigEndian.Uint64(sum[:])
}

// LocalState returns whom this host takes for removed.
func (d *delegate) LocalState(bool) []byte {
	d.table.mu.Lock()
	ids := slices.Sorted(maps.Keys(d.table.removed))
	d.table.mu.Unlock()
	return wire.Encode(func(w *wire.Writer) {
		w.Array(1)
		w.Array(len(ids))
		for _, id := range ids {
			w.Uint(removedMark(id))
		}
	})
}

// MergeRemoteState looks for this host in another one's list of removed members.
func (d *delegate) MergeRemoteState(data []byte, _ bool) {
	own, found := removedMark(d.self), false
	err := wire.Decode(data, func(r *wire.Reader) {
		extra := r.Fields(1)
		for range r.Array(MaxRemoved) {
			found = r.Uint() == own || found
		}
		r.Skip(extra)
	})
	if err == nil && d.table.here.Swap(found) != found {
		d.table.tell()
	}
}

// tell leaves a token for the user.
func (t *table) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.note()
}
