package peer

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
)

// ErrNoSpace is wrapped by the error of a write that is refused because the disk is nearly full. Nothing
// changed. Reads go on, and so do writes as soon as there is room.
var ErrNoSpace = errors.New("the disk is nearly full: writes are refused until there is room")

// Limits of free space.
const (
	// DefaultMinFree is how much stays free of a large disk, in bytes; of one of less than 20 GiB it is a
	// twentieth.
	DefaultMinFree = 1 << 30
	minFreeShare   = 20

	// Free space is looked at once a second, and before a commit group if that was so long ago: another
	// program can write some ten megabytes meanwhile.
	freeEvery = 5 * time.Millisecond
	// resumeShare of what must be free must be free beside it for writes to be taken again.
	resumeShare = 8
)

// room is how much may be written.
type room int32

const (
	roomy  room = iota
	scarce      // no writes, nothing from other peers; what makes room goes on
	full        // nothing at all: the store needs what is left to do what it began
)

// meter is what a store tells of its disk.
type meter interface {
	Disk() (badger.Disk, error)
	Free() (uint64, error)
}

// diskRoom watches how much room a store has. A full disk would kill the process, as the store maps its files
// into memory, so a peer stops writing well before.
type diskRoom struct {
	meter   meter // nil in memory
	minimum atomic.Uint64
	level   atomic.Int32
	free    atomic.Uint64 // bytes, when last looked
	needed  atomic.Uint64 // bytes below which it is scarce
	claimed atomic.Int64  // bytes that are about to be written beside what clients write

	mu      sync.Mutex
	wanted  uint64 // Config.MinFree
	working uint64 // bytes below which it is full
	looked  time.Time
}

// newDiskRoom watches the disk of a store. A minimum of 0 stands for the default.
func newDiskRoom(m meter, minimum uint64) (*diskRoom, error) {
	s := &diskRoom{meter: m, wanted: minimum}
	if m == nil {
		return s, nil
	}
	now, err := m.Disk()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		s.meter = nil
		return s, nil
	case err != nil:
		return nil, err
	}
	s.judge(now)
	return s, nil
}

// judge works out the room from a look at the disk, and reports whether that changed.
func (s *diskRoom) judge(now badger.Disk) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working = now.Working
	s.minimum.Store(cmp.Or(s.wanted, min(now.Total/minFreeShare, DefaultMinFree)))
	s.needed.Store(max(s.minimum.Load(), now.Working))
	return s.judgeFree(now.Free)
}

// judgeFree does so by what is free alone. s.mu is held.
func (s *diskRoom) judgeFree(free uint64) (changed bool) {
	s.free.Store(free)
	was := room(s.level.Load())
	// Once below a limit, it takes some more than that limit to come back.
	above := func(limit uint64, below room) bool {
		if was >= below {
			limit += limit / resumeShare
		}
		return free >= limit
	}
	is := full
	switch {
	case above(s.needed.Load(), scarce):
		is = roomy
	case above(s.working, full):
		is = scarce
	}
	s.level.Store(int32(is))
	return is != was
}

// room returns how much may be written.
func (s *diskRoom) room() room { return room(s.level.Load()) }

// refusal returns why writes are refused, or nil.
func (s *diskRoom) refusal() error {
	if s.room() == roomy {
		return nil
	}
	advice := "make room"
	if s.needed.Load() == s.minimum.Load() {
		advice += ", or lower --min-free (Config.MinFree)"
	}
	return fmt.Errorf("%w: %d MiB are free and %d MiB must stay so: %s", ErrNoSpace, s.free.Load()>>20,
		s.needed.Load()>>20, advice)
}

// lacking adds how much is free to an error of a space that cannot be opened on a full disk.
func (s *diskRoom) lacking(err error) error {
	if s.room() != full || !errors.Is(err, store.ErrNoSpace) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("%w: %d MiB are free and %d MiB needed", err, s.free.Load()>>20, s.working>>20)
}

// claim takes room for so many bytes that are to be written at once, until it is given back. The error says why there
// is too little, beside what others have claimed.
func (s *diskRoom) claim(bytes int64) (giveBack func(), err error) {
	all := s.claimed.Add(bytes)
	giveBack = func() { s.claimed.Add(-bytes) }
	if free := s.free.Load(); s.meter != nil && free < s.needed.Load()+uint64(all) {
		giveBack()
		return nil, fmt.Errorf("%w: %d MiB are to be written and %d MiB are free", ErrNoSpace, all>>20, free>>20)
	}
	return giveBack, nil
}

// want has another Config.MinFree count from the next look on.
func (s *diskRoom) want(minimum uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = minimum
}

// look looks at the disk, and reports whether the room changed.
func (s *diskRoom) look() (changed bool) {
	if s.meter == nil {
		return false
	}
	now, err := s.meter.Disk()
	s.mu.Lock()
	s.looked = time.Now()
	s.mu.Unlock()
	return err == nil && s.judge(now)
}

// lookFree is look without the store, if the last look was some time ago.
func (s *diskRoom) lookFree(now time.Time) (changed bool) {
	if s.meter == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.looked) < freeEvery {
		return false
	}
	s.looked = now
	free, err := s.meter.Free()
	return err == nil && s.judgeFree(free)
}

// watchDisk looks at the disk, and pauses or resumes what needs room.
func (l *loop) watchDisk() { l.noticeRoom(l.p.disk.look()) }

// watchFree is watchDisk before a commit group: without a look at the store.
func (l *loop) watchFree(now time.Time) { l.noticeRoom(l.p.disk.lookFree(now)) }

// noticeRoom acts on what room there is. changed says that this loop is the one to tell of it.
func (l *loop) noticeRoom(changed bool) {
	room := l.p.disk.room()
	if room != l.room || room != roomy { // what writers are told has numbers in it
		l.room = room
		l.engine.SetRoom(engine.Room(room), l.p.disk.refusal())
	}
	if changed {
		l.p.tellRoom()
	}
}

// tellRoom logs that the room on the disk changed.
func (p *Peer) tellRoom() {
	s := p.disk
	log := p.log.With("free_mib", s.free.Load()>>20, "needed_mib", s.needed.Load()>>20, "dir", p.cfg.Dir)
	switch s.room() {
	case roomy:
		log.Info("there is room on the disk again: writes and replication go on")
	case scarce:
		log.Error("the disk is nearly full: writes are refused and replication pauses until there is room")
	case full:
		log.Error("the disk is full: nothing is written until there is room")
	}
}
