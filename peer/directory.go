package peer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/peerd/peerd/store"
)

// The space "peerd" has the directory of spaces: a set of their names. A name is added before anything is written to its
// space, and stays. "default" and "peerd" are there without it.

// directoryKey is the key of the set.
const directoryKey = "spaces"

// announce has the directory list a space. After an error nothing has changed, or no more than the directory.
func (p *Peer) announce(ctx context.Context, name string) error {
	if name == DefaultSpace || name == directorySpace {
		return nil
	}
	return p.space(directorySpace).Update(ctx, func(tx *Tx) error {
		names := tx.Set(directoryKey)
		if names.Has(name) {
			return nil
		}
		if names.Len() >= MaxSpaces {
			return ErrTooManySpaces
		}
		_, err := names.Add(name)
		return err
	})
}

// directory returns the names that are listed, as far as they can be those of spaces.
func (p *Peer) directory(ctx context.Context) (names []string, err error) {
	err = p.space(directorySpace).View(ctx, func(tx *Tx) error {
		for name := range tx.Set(directoryKey).All() {
			if len(names) == MaxSpaces {
				break
			}
			if CheckSpaceName(name) == nil {
				names = append(names, name)
			}
		}
		return nil
	})
	return names, err
}

// directoryRetry is after how long the directory is read again where that did not lead to its end.
const directoryRetry = 5 * time.Second

// followDirectory takes up the spaces that are listed, until the peer is closed.
func (p *Peer) followDirectory() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := (&Space{p, directorySpace}).Watch(directoryKey)
	defer w.Close()
	for {
		limit, done := ctx, context.CancelFunc(func() {})
		if err := p.takeUp(ctx); err != nil && !errors.Is(err, ErrClosed) {
			p.log.Warn("cannot take up all spaces that the directory lists; it is tried again", "error", err)
			limit, done = context.WithTimeout(ctx, directoryRetry)
		}
		_, err := w.Next(limit)
		done()
		if errors.Is(err, ErrClosed) {
			return
		}
	}
}

// takeUp opens the spaces that the directory lists and this host is to hold, and has it list those that are held here
// and not listed, as after a restore.
func (p *Peer) takeUp(ctx context.Context) error {
	names, err := p.directory(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, name := range names {
		s := p.space(name)
		if s == nil && p.cfg.subscribes(name) && !p.table.Dropped(name) {
			if s, err = p.take(name); err != nil {
				failed = errors.Join(failed, err)
			}
		}
		if s != nil {
			s.listed.Store(true)
		}
	}
	for _, s := range p.held() {
		if !s.listed.Load() && !slices.Contains(names, s.name) && s.written() {
			failed = errors.Join(failed, p.list(ctx, s))
		}
	}
	return failed
}

// written reports whether a space has seen a write.
func (s *space) written() bool { return len(s.feed.now().seen.Vector()) > 0 }

// list has the directory list a space that is held, unless it does.
func (p *Peer) list(ctx context.Context, s *space) error {
	if s.listed.Load() {
		return nil
	}
	err := p.announce(ctx, s.name)
	if err == nil {
		s.listed.Store(true)
	}
	return err
}

// reclaimEvery is how often a full disk is looked at before what is left of dropped spaces is deleted on.
const reclaimEvery = time.Second

// reclaim deletes what is left of dropped spaces, bit by bit, until nothing is left or the peer is closed.
func (p *Peer) reclaim() {
	p.reclaiming.Lock()
	defer p.reclaiming.Unlock()
	pause := time.NewTicker(reclaimEvery)
	defer pause.Stop()
	for more := true; more && !p.isStopping(); {
		if p.disk.room() == full {
			select {
			case <-pause.C:
			case <-p.stop:
			}
			continue
		}
		var err error
		if more, err = p.table.Reclaim(); err != nil {
			if !errors.Is(err, store.ErrClosed) {
				p.log.Error("cannot delete what is left of a dropped space", "error", err)
				p.fail(err)
			}
			return
		}
	}
}
