package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/peerd/peerd/crdt"
)

// ErrUnreplicated is wrapped by the error of a DropSpace that would lose writes. Nothing changed.
var ErrUnreplicated = errors.New("no other member is known to have all that is here")

// dropPatience is how long DropSpace waits for others to say that they have what is here.
const dropPatience = 3 * time.Second

// inquireEvery is how often they are asked meanwhile. What comes to one after its answer it may not tell unasked.
const inquireEvery = 500 * time.Millisecond

// DropSpace ends this host's part in a space and deletes its copy. Others keep theirs: emptying a space everywhere
// is a clear of all its keys. It is refused with ErrUnreplicated while the copy has writes that no other member is
// known to have, or is damaged, unless force says that they may be lost. The host takes the space up again when
// something is written to it here, or when it is opened with a Config.Spaces that names it. ErrNotHeld is wrapped if it
// does not hold it. Views that are open go on; the records are deleted when they have ended.
func (p *Peer) DropSpace(ctx context.Context, name string, force bool) error {
	p.dropping.Lock()
	defer p.dropping.Unlock()
	s := p.space(name)
	switch {
	case name == directorySpace:
		return fmt.Errorf("the space %q has the directory of spaces, and every host holds it: %w", name, ErrReadOnly)
	case s == nil:
		return fmt.Errorf("%w %q", ErrNotHeld, name)
	}
	why := fmt.Errorf("%w %q: it was dropped here, and a write takes it up again", ErrNotHeld, name)
	s.leave(&why) // no write comes after the look at who has them
	s.takeLeave()
	err := s.handOver(ctx, force)
	if err == nil {
		err = p.remove(s, why)
	}
	if err != nil {
		s.leave(nil)
		return err
	}
	select {
	case <-s.stopped:
	case <-ctx.Done(): // it goes on by itself
	}
	return nil
}

// leave has reads and writes refused while the space is dropped, whatever else refuses them; nil takes that back.
func (s *space) leave(why *error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.leaving.Store(why)
}

// remove takes a space that nobody writes to any more away, and has it closed and its records deleted. It waits for
// nobody: who reads the space may be about to make another one.
func (p *Peer) remove(s *space, why error) error {
	p.making.Lock()
	defer p.making.Unlock()
	if p.isStopping() {
		return ErrClosed
	}
	// The mark comes first: from now on who writes makes another space, and after a crash nothing of this one is
	// opened. Its loop still writes its last checkpoint, so that its records go later.
	p.table.Keep(s.number)
	if _, err := p.table.Drop(s.name); err != nil {
		p.table.Release(s.number)
		return err
	}
	s.ended.Store(&why)
	if p.net != nil {
		p.net.board.release(s)
	}
	p.release(s)
	s.end()
	p.changes.tell()
	p.parting.Go(func() { p.part(s, why) })
	return nil
}

// part closes a space that was dropped, once its loop and all views have ended, and deletes its records.
func (p *Peer) part(s *space, why error) {
	<-s.stopped
	s.close(why)
	_ = s.store.Close() // it never fails; what lies below stays open
	p.committer.Forget(s.number)
	p.table.Release(s.number)
	s.log.Info("this host has dropped the space")
	p.reclaim()
}

// accept takes back what the engine refused.
func (s *space) accept() {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.refusing.Store(nil)
}

// handOver waits until others have all that is here.
func (s *space) handOver(ctx context.Context, force bool) error {
	if force {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dropPatience)
	defer cancel()
	poll := time.NewTicker(leaveEvery)
	defer poll.Stop()
	var asked time.Time
	for {
		var missing uint64
		var damage error
		ask := time.Since(asked) >= inquireEvery
		err := s.call(func(l *loop) {
			missing, damage = l.unreplicated(), l.refusal()
			if missing > 0 && ask {
				l.engine.Inquire()
				asked = time.Now()
			}
		})
		switch {
		case err != nil:
			return err
		case damage != nil:
			return fmt.Errorf("%w: what the space %q has cannot be told: %w", ErrUnreplicated, s.name, damage)
		case missing == 0:
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d mutations of the space %q would be lost", ErrUnreplicated, missing, s.name)
		}
	}
}

// isParted reports whether the ends have parted.
func (a *lane) isParted() bool {
	select {
	case <-a.parted:
		return true
	default:
		return false
	}
}

// unreplicated counts the mutations here that no neighbour says it has. One that is rebuilt says what it will have, and
// one that has gone may come back without it.
func (l *loop) unreplicated() uint64 {
	seen, _ := l.engine.Context()
	elsewhere := crdt.VersionVector{}
	for id, lane := range l.links {
		if !lane.isParted() && l.engine.Whole(id) && !l.engine.Quarantined(id) {
			elsewhere.Merge(l.engine.Said(id))
		}
	}
	return elsewhere.Missing(seen)
}
