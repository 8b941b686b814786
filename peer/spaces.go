package peer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	spacestore "github.com/peerd/peerd/store/space"
)

// DefaultSpace is the name of the space that the methods of Peer are about.
const DefaultSpace = "default"

// directorySpace is the space that every host holds. It has the directory of spaces.
const directorySpace = "peerd"

// MaxSpaceName is how long the name of a space may be, in bytes.
const MaxSpaceName = 64

// ErrSpaceName is wrapped by errors about the name of a space.
var ErrSpaceName = errors.New("the name of a space has 1 to 64 of a-z, 0-9, dot, hyphen and underscore, and begins " +
	"with a letter or a digit")

// MaxSpaces is how many spaces a host may hold, and the directory list.
const MaxSpaces = gossip.MaxSpaces

var (
	// ErrNotHeld is wrapped by errors about a space that this host does not hold, and is not to. Nothing changed.
	ErrNotHeld = errors.New("this host does not hold the space")
	// ErrTooManySpaces is returned for a write to one space too many. Nothing changed.
	ErrTooManySpaces = fmt.Errorf("the cluster has had %d spaces, and takes no more: write to one of those", MaxSpaces)
)

// CheckSpaceName returns an error that wraps ErrSpaceName unless name can be that of a space.
func CheckSpaceName(name string) error {
	ok := name != "" && len(name) <= MaxSpaceName
	for i := 0; i < len(name) && ok; i++ {
		c := name[i]
		alone := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		ok = alone || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if ok {
		return nil
	}
	return fmt.Errorf("%w: not %.80q", ErrSpaceName, name)
}

// subscribes reports whether the host is to hold a space that others have.
func (c *Config) subscribes(name string) bool {
	return len(c.Spaces) == 0 || name == directorySpace || slices.Contains(c.Spaces, name)
}

// spaceIDs returns the ids of the spaces that are held.
func (p *Peer) spaceIDs() (ids []gossip.SpaceID) {
	for _, s := range p.held() {
		ids = append(ids, s.id)
	}
	return ids
}

// advertisedSpaces is what the other members are told that this host holds, which they choose their links by: the
// beginnings of ids, or nil for all, which it says too where more is held than there is room for.
func (p *Peer) advertisedSpaces() (all []uint32) {
	if len(p.cfg.Spaces) == 0 {
		return nil
	}
	names := append([]string{directorySpace}, p.cfg.Spaces...)
	for _, s := range p.held() {
		names = append(names, s.name)
	}
	for _, name := range names {
		if id := gossip.SpaceOf(name).Short(); !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	if len(all) > members.MaxSpaces {
		return nil
	}
	return all
}

// openSpaces opens the spaces that the host holds, and those that it is to hold in any case.
func (p *Peer) openSpaces() error {
	all := p.table.Spaces()
	logs := make([]store.Log, len(all))
	for i, s := range all { // the log is cut only when all have said what they need
		logs[i] = p.committer.Log(s.Number, s.From)
	}
	for i, entry := range all {
		s, err := p.openSpace(entry.Name, spacestore.NewTree(p.store, entry.Number), logs[i])
		if err != nil {
			return err
		}
		if s.number = entry.Number; !p.cfg.subscribes(s.name) {
			s.log.Warn("this host holds a space that it is not told to hold: name it in --spaces, or drop it",
				"command", "peerd space drop "+s.name)
		}
		p.hold(s)
	}
	wanted := append([]string{directorySpace}, p.cfg.Spaces...)
	if p.cfg.subscribes(DefaultSpace) && !p.table.Dropped(DefaultSpace) {
		wanted = append(wanted, DefaultSpace)
	}
	for _, name := range wanted {
		if _, err := p.create(name); err != nil {
			return fmt.Errorf("data directory %s: %w", p.cfg.Dir, err)
		}
	}
	return nil
}

// create opens a space that may not be there yet. p.making is held, or the peer is not open yet.
func (p *Peer) create(name string) (*space, error) {
	if s := p.space(name); s != nil {
		return s, nil
	}
	id := gossip.SpaceOf(name)
	for _, s := range p.held() {
		if s.id == id {
			return nil, fmt.Errorf("%w: the id of %q is that of %q", ErrSpaceName, name, s.name)
		}
	}
	if len(p.held()) >= MaxSpaces {
		return nil, ErrTooManySpaces
	}
	var number spacestore.Number
	log, err := p.committer.Begin(func(from store.Position) (_ spacestore.Number, err error) {
		number, err = p.table.Add(name, from)
		return number, err
	})
	if err != nil {
		return nil, err
	}
	s, err := p.openSpace(name, spacestore.NewTree(p.store, number), log)
	if err == nil {
		s.number = number
		p.hold(s)
	}
	return s, err
}

// Least of the host's memory that a space has, in bytes.
const (
	leastDirty = 1 << 20
	leastCache = 1 << 20
)

// shareMemory divides what memory the host has for data among its spaces: half of it evenly, and half among those that
// were written to since the last time, so that those which rest leave theirs to the others.
func (p *Peer) shareMemory() {
	all := p.held()
	busy := 0
	for _, s := range all {
		commits := s.counters.commits.Load()
		if s.busy = commits != s.shared; s.busy {
			busy++
		}
		s.shared = commits
	}
	for _, s := range all {
		share := func(whole, least int64) int64 {
			n := whole / 2 / int64(len(all))
			if s.busy || busy == 0 {
				n += whole / 2 / int64(max(busy, 1))
			}
			return max(n, least)
		}
		dirty, cache := share(engine.MaxDirty, leastDirty), share(engine.MaxCache, leastCache)
		select {
		case s.jobs <- job{call: func(l *loop) { l.engine.SetMemory(dirty, cache) }}:
		default: // the next time
		}
	}
}

// keepBudgets does so every second until the peer is closed.
func (p *Peer) keepBudgets() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		p.shareMemory()
		select {
		case <-tick.C:
		case <-p.stop:
			return
		}
	}
}

// take opens a space while the peer runs, unless it is open.
func (p *Peer) take(name string) (*space, error) {
	p.making.Lock()
	defer p.making.Unlock()
	if s := p.space(name); s != nil {
		return s, nil
	}
	if p.isStopping() {
		return nil, ErrClosed
	}
	s, err := p.create(name)
	if err != nil {
		return nil, err
	}
	p.startSpace(s)
	if p.net != nil {
		p.net.board.hold(s)
	}
	s.log.Info("this host holds the space from now on")
	p.changes.tell()
	return s, nil
}

// held returns the spaces that are open, by name.
func (p *Peer) held() []*space {
	all := *p.spaces.Load()
	out := make([]*space, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

// space returns a space that is open, or nil.
func (p *Peer) space(name string) *space { return (*p.spaces.Load())[name] }

// hold adds a space to those that are open. p.making is held, or the peer is not open yet.
func (p *Peer) hold(s *space) {
	all := maps.Clone(*p.spaces.Load())
	all[s.name] = s
	p.spaces.Store(&all)
}

// release takes a space away from those that are open. p.making is held.
func (p *Peer) release(s *space) {
	all := maps.Clone(*p.spaces.Load())
	delete(all, s.name)
	p.spaces.Store(&all)
}

// spaceChanges tells that spaces were opened or dropped.
type spaceChanges struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns a channel that is closed at the next change.
func (c *spaceChanges) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.next
}

func (c *spaceChanges) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}
