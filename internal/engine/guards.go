package engine

import (
	"slices"
	"sync/atomic"

	"github.com/peerd/peerd/internal/delta"
)

// Guard notices that keys change: see Tx.Guard, and docs/decisions/0055. Its owner may ask it, and release it, beside the replica.
type Guard struct {
	of      *Guards // nil until it guards something
	changed atomic.Bool
	over    atomic.Bool
}

// Changed reports whether a key that is guarded has changed.
func (g *Guard) Changed() bool { return g.changed.Load() }

// Spoil has it have noticed a change.
func (g *Guard) Spoil() { g.changed.Store(true) }

// Release has it guard nothing more.
func (g *Guard) Release() {
	if g.of != nil && g.over.CompareAndSwap(false, true) {
		g.of.live.Add(-1)
	}
}

// Guards are those of a replica, and of another that takes its place, if Config.Guards says so. They are for whoever
// steps it. Without any a change costs one comparison.
type Guards struct {
	live atomic.Int64        // how many are not released
	keys map[string][]*Guard // that are guarded; guards that have noticed a change are not found by it any more
	held int                 // in keys, released ones too
	kept int                 // were left when those were looked for last

	resting bool   // what is removed now nobody sees
	noted   []note // of the delta that is being applied
}

// note is a change of a guarded key.
type note struct {
	key string
	put bool // also if something stays there
}

// Used reports whether there are some that are not released. Any goroutine may ask.
func (s *Guards) Used() bool { return s.live.Load() > 0 }

// sweptGuards is how many guards, of a key each, come before the released are looked for.
const sweptGuards = 1024

// Guard has a guard notice when a key changes, from now on, and reports whether it did not do so before. A guard is of one
// replica: elsewhere it has changed.
func (tx *Tx) Guard(g *Guard, key string) bool {
	s := tx.g.r.guards
	if g.of == nil && !g.over.Load() {
		g.of = s
		s.live.Add(1)
	}
	if g.of != s {
		g.Spoil()
	}
	if g.Changed() || g.over.Load() || slices.Contains(s.keys[key], g) {
		return false
	}
	if s.held >= 2*s.kept+sweptGuards {
		s.sweep()
	}
	if s.keys == nil {
		s.keys = map[string][]*Guard{}
	}
	s.keys[key] = append(s.keys[key], g)
	s.held++
	return true
}

// Guarded reports whether a guard is of this replica, or guards nothing.
func (tx *Tx) Guarded(g *Guard) bool { return g.of == nil || g.of == tx.g.r.guards }

// Guarded reports whether a guard is of the replica whose view this is, or guards nothing: one of the same name may have
// taken its place.
func (v *View) Guarded(g *Guard) bool { return g.of == nil || g.of == v.guards }

// GuardedBy has the view be of the replica that has these guards.
func (v *View) GuardedBy(s *Guards) *View {
	v.guards = s
	return v
}

// sweep takes out the released ones.
func (s *Guards) sweep() {
	s.held = 0
	for key, of := range s.keys {
		of = slices.DeleteFunc(of, func(g *Guard) bool { return g.over.Load() })
		if s.held += len(of); len(of) == 0 {
			delete(s.keys, key)
		} else {
			s.keys[key] = of
		}
	}
	s.kept = s.held
}

// forget has all guards notice a change: what has changed is not known.
func (s *Guards) forget() {
	for key := range s.keys {
		s.tell(key)
	}
}

// tell has the guards of a key notice that it has changed.
func (s *Guards) tell(key string) {
	of := s.keys[key]
	for _, g := range of {
		g.Spoil()
	}
	s.held -= len(of)
	delete(s.keys, key)
}

// idle reports whether nothing is guarded. It forgets the released ones if there are no others.
func (s *Guards) idle() bool {
	if len(s.keys) > 0 && s.live.Load() == 0 {
		s.keys, s.held, s.kept = nil, 0, 0
	}
	return len(s.keys) == 0
}

// note notes a change by an operation of a delta.
func (s *Guards) note(o *delta.Op) {
	if s.idle() || o.Address == "" || o.Kind == delta.OpEnd || o.Kind == delta.OpBase {
		return
	}
	if key := o.Address.Key(); s.keys[key] != nil {
		s.noted = append(s.noted, note{key, o.Kind == delta.OpPut})
	}
}

// noteAll notes what a delta of this replica changes. What it clears altogether is gone: its owner sees that.
func (s *Guards) noteAll(d *delta.Delta) {
	for i := range d.Ops {
		if s.idle() {
			return
		}
		s.note(&d.Ops[i])
	}
}

// settle tells of what was noted of a delta that was applied: but for keys that it removes because
// they had expired, which is nothing new.
func (s *Guards) settle(d *delta.Delta) {
	expired := s.expired(d)
	for _, n := range s.noted {
		if !s.resting && (n.put || !expired[n.key]) {
			s.tell(n.key)
		}
	}
	s.noted = s.noted[:0]
}

// expired returns the keys that a delta removes because they had expired, if any key was noted.
func (s *Guards) expired(d *delta.Delta) map[string]bool {
	if len(s.noted) == 0 || len(d.Expired) == 0 {
		return nil
	}
	keys := make(map[string]bool, len(d.Expired))
	for _, key := range d.Expired {
		keys[key] = true
	}
	return keys
}

// noteGuarded notes which guarded keys a clear of another replica changes, perhaps: those that exist.
func (g *group) noteGuarded(o *delta.Op) error {
	s := g.r.guards
	if s.idle() {
		return nil
	}
	among := s.keys
	if o.Address != "" {
		key := o.Address.Key()
		among = map[string][]*Guard{key: s.keys[key]}
	}
	for _, key := range sortedKeys(among) { // in which sums may be logged
		if len(among[key]) == 0 {
			continue
		}
		switch sum, err := g.summary(key); {
		case err != nil:
			return err
		case sum.now.Exists():
			s.noted = append(s.noted, note{key, false})
		}
	}
	return nil
}

// noteSurvivors has it be told that keys changed of which something stays, though what another
// replica had seen of them had expired there.
func (g *group) noteSurvivors(d *delta.Delta) error {
	expired := g.r.guards.expired(d)
	for i := range g.r.guards.noted {
		n := &g.r.guards.noted[i]
		if n.put || !expired[n.key] {
			continue
		}
		sum, err := g.summary(n.key)
		if err != nil {
			return err
		}
		n.put = sum.now.Exists()
	}
	return nil
}
