package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/beat"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
	spacestore "github.com/peerd/peerd/store/space"
)

// directorySpace is the space that every host holds. It has the directory of spaces.
const directorySpace = "peerd"

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

// advertisedSpaces is what the other members are told that this host holds, which they choose their
// links by: the beginnings of ids, or nil for all. It says all where it drops nothing that the
// cluster has, and where there is no room for more names.
func (p *Peer) advertisedSpaces() (all []uint32) {
	if len(p.cfg.Spaces) == 0 && !p.table.Lacks() {
		return nil
	}
	for _, s := range p.held() {
		all = append(all, s.id.Short())
	}
	if len(all) > members.MaxSpaces {
		return nil
	}
	return all
}

// openSpaces opens the spaces that the host holds, and those that it is to hold in any case.
func (p *Peer) openSpaces() error {
	all := p.table.Spaces()
	logs, from := make([]store.Log, len(all)), p.journal.Next()
	for i, s := range all { // the log is cut only when all have said what they need
		logs[i] = p.committer.Log(s.Number, s.From)
		from = min(from, max(s.From, engine.Durable(spacestore.NewTree(p.store, s.Number))))
	}
	if err := p.committer.Survey(from); err != nil {
		return err
	}
	for i, entry := range all {
		s, err := p.openSpace(entry.Name, spacestore.NewTree(p.store, entry.Number), logs[i])
		if err != nil {
			return fmt.Errorf("space %s: %w", entry.Name, p.disk.lacking(err))
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
		if p.space(name) != nil {
			continue
		}
		if _, err := p.create(name, nil); err != nil {
			return err
		}
	}
	return nil
}

// create opens a space that is not there, with records that its log begins with. p.making is held,
// or the peer is not open yet.
func (p *Peer) create(name string, records [][]byte) (*space, error) {
	if s := p.spaceOf(gossip.SpaceOf(name)); s != nil {
		return nil, fmt.Errorf("%w: the id of %q is that of %q", ErrSpaceName, name, s.name)
	}
	if len(*p.spaces.Load()) >= MaxSpaces {
		return nil, ErrTooManySpaces
	}
	var number spacestore.Number
	log, err := p.committer.Begin(func(from store.Position) (_ spacestore.Number, err error) {
		number, err = p.table.Add(name, from)
		return number, err
	})
	if err != nil && !errors.Is(err, store.ErrFailed) {
		return nil, err
	}
	var s *space
	if err == nil {
		s, err = p.found(name, number, log, records)
	}
	if err != nil { // it is unknown what is written, and the table may say that it is held
		p.fail(fmt.Errorf("space %s: %w", name, err))
		return nil, errFailed(err)
	}
	return s, nil
}

func (p *Peer) found(name string, number spacestore.Number, log store.Log, records [][]byte) (*space, error) {
	for _, record := range records {
		if _, _, err := log.Append(record); err != nil {
			return nil, err
		}
	}
	if err := log.Sync(); err != nil {
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

// restsAfter is how long others must be used, and a space not, until it leaves its cache to them:
// those that take turns would lose theirs to each other.
const restsAfter = time.Minute

// share is what decides on a space's share of memory.
type share struct {
	commits, uses uint64    // that there had been: uses are commits, and transactions that may only have read
	writes        bool      // there were more commits since the time before
	used          time.Time // when there were more uses; zero for never
	rests         bool      // others were used for some time since
	given         [2]int64  // what the space was told
}

// lookAtUse looks which spaces were used since the last time, and returns how many were written
// to, and how many do not rest. While none is used none comes to rest.
func lookAtUse(all []*space, now time.Time) (writing, used int) {
	var last time.Time
	for _, s := range all {
		commits, h := s.counters.commits.Load(), &s.share
		uses := commits + s.counters.transactions.Load()
		if h.writes = commits != h.commits; h.writes {
			writing++
		}
		if uses != h.uses {
			h.used = now
		}
		if h.used.After(last) {
			last = h.used
		}
		h.commits, h.uses = commits, uses
	}
	for _, s := range all {
		if s.share.rests = last.Sub(s.share.used) >= restsAfter; !s.share.rests {
			used++
		}
	}
	return writing, used
}

// shareOf returns what a space has of a whole: see shareMemory.
func shareOf(whole, least int64, spaces, busy int, isBusy bool) int64 {
	half := max(whole-least*int64(spaces), 0) / 2
	n := least + half/int64(spaces)
	switch {
	case isBusy:
		n += half / int64(busy)
	case busy == 0:
		n += half / int64(spaces)
	}
	return n
}

// shareMemory divides what memory the host has for data among its spaces. Each has the least, and
// of what is left half is divided evenly, and half among those that are busy, so that those which
// rest leave theirs to the others. Where there is not enough for that each has the least all the
// same. Busy are for changes those that were written to since the last time, and for the cache,
// which a space that has less of it loses, those that do not rest.
func (p *Peer) shareMemory() {
	all := p.held()
	writing, used := lookAtUse(all, time.Now())
	for _, s := range all {
		h := &s.share
		dirty := shareOf(engine.MaxDirty, leastDirty, len(all), writing, h.writes)
		cache := shareOf(p.limits.Load().cache, leastCache, len(all), used, !h.rests)
		if h.given == [2]int64{dirty, cache} {
			continue
		}
		select {
		case s.jobs <- func(l *loop) { l.engine.SetMemory(dirty, cache) }:
			h.given = [2]int64{dirty, cache}
		default: // the next time
		}
	}
}

// holderEvery is how often a space is named that holds the log.
const holderEvery = time.Hour

// nameHolders tells people which damaged spaces keep the log, which all share, from being cut to
// its size.
func (p *Peer) nameHolders(now time.Time) {
	for _, s := range p.held() {
		kept, limit := s.holdsLog(), p.limits.Load().logBytes
		if kept <= limit || !s.held.IsZero() && now.Sub(s.held) < holderEvery {
			continue
		}
		s.held = now
		wayOut := "give up what only this host has of it, with peerd space drop " + s.name + " --force"
		if s.name == directorySpace {
			wayOut = givingUp[2:]
		}
		s.log.Error("this space is damaged, and until it is rebuilt the log that all spaces share cannot be cut: start a host "+
			"that has all of it, or "+wayOut, "log_bytes", kept, "limit_bytes", limit)
	}
}

// keepBudgets does both every second until the peer is closed, and looks after spaces that rest.
func (p *Peer) keepBudgets() {
	for {
		p.shareMemory()
		p.nameHolders(time.Now())
		p.follow()
		select {
		case <-beat.After(time.Second):
		case <-p.stop:
			return
		}
	}
}

// take opens a space that others have, unless it is open. It is nil if it was dropped here.
func (p *Peer) take(name string) (*space, error) {
	p.making.Lock()
	defer p.making.Unlock()
	s := p.space(name)
	switch {
	case s != nil || p.table.Dropped(name):
		return s, nil
	case p.isStopping():
		return nil, ErrClosed
	}
	return p.add(name, nil)
}

// add makes a space while the peer runs. p.making is held.
func (p *Peer) add(name string, records [][]byte) (*space, error) {
	s, err := p.create(name, records)
	if err != nil {
		return nil, err
	}
	p.running.Go(s.loop.run)
	if p.net != nil {
		p.net.board.hold(s)
	}
	s.log.Info("this host holds the space from now on")
	p.changes.ring()
	return s, nil
}

// begin runs transactions of a space that is not there, and makes it if they write something. If it
// is there meanwhile it is returned, and nothing was run.
func (p *Peer) begin(ctx context.Context, name string, u *update) (*space, []error) {
	p.making.Lock()
	defer p.making.Unlock()
	if s := p.space(name); s != nil {
		return s, nil
	}
	err := ctx.Err()
	switch {
	case err != nil:
	case p.isStopping():
		err = ErrClosed
	case !p.cfg.subscribes(name):
		err = notHeld(name)
	}
	if err != nil {
		return nil, repeat(err, len(u.fns))
	}
	draft := &space{p: p, name: name}
	u.s = draft
	records, err := draft.run(u)
	if err == nil && len(records) > 0 {
		var s *space
		if s, err = p.add(name, records); err == nil {
			s.listed.Store(true)
			s.counters.transactions.Add(draft.counters.transactions.Load())
			s.counters.failed.Add(draft.counters.failed.Load())
		}
	}
	p.forgetGuards()
	if err != nil {
		return nil, repeat(err, len(u.fns))
	}
	return nil, u.result()
}

// forgetGuards forgets the guards of spaces that are not held, unless somebody uses them. Called
// under making.
func (p *Peer) forgetGuards() {
	p.guards.Range(func(name, of any) bool {
		if p.space(name.(string)) == nil && !of.(*engine.Guards).Used() {
			p.guards.Delete(name)
		}
		return true
	})
}

// run runs transactions of a space that is nowhere else than in memory, and returns the log of what
// they wrote, with the end of the id under which they did: nothing if they wrote nothing. A replica
// that is opened with it has all of it, as after a crash.
func (s *space) run(u *update) (records [][]byte, err error) {
	tree, log := mem.New(), mem.NewLog()
	e, err := engine.Open(tree, log, engine.Config{
		NewID: s.p.drawID, MaxSkew: s.p.skewLimit(), Guards: s.p.guardsOf(s.name),
	}, rand.New(rand.NewPCG(0, 0)), time.Now())
	if err != nil {
		return nil, err
	}
	defer e.Close()
	e.Submit(u)
	for {
		s.p.disk.lookFree(time.Now())
		e.SetRoom(engine.Room(s.p.disk.room()), s.p.disk.refusal())
		now := time.Now()
		wall, clock := s.p.takenFor(now)
		e.SetClock(clock)
		if !apart(func() { err = e.Step(now, wall) }) && e.Interrupted() {
			continue
		}
		if err != nil {
			return nil, err
		}
		rd := e.Ready()
		for i := range rd.Writes {
			if record := rd.Writes[i].RecordCopy(); record != nil {
				records = append(records, record)
			}
		}
		if err := engine.CarryOut(rd.Writes, tree, log); err != nil {
			return nil, err
		}
		e.Advance()
		if rd.Sync != nil {
			if err := rd.Sync.Run(tree, log); err != nil {
				return nil, err
			}
			e.SyncEnded(*rd.Sync)
		}
		if len(rd.Answers) > 0 {
			e.Stop()
		}
		if rd.Closed {
			return records, nil
		}
	}
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

// spaceOf is space by the id.
func (p *Peer) spaceOf(id gossip.SpaceID) *space {
	for _, s := range *p.spaces.Load() {
		if s.id == id {
			return s
		}
	}
	return nil
}

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
	p.guards.Delete(s.name)
	p.spaces.Store(&all)
}

// guardsOf returns the guards of a space, which are the same before it is made and until it is
// dropped. p.making is held, or the peer is not open yet.
func (p *Peer) guardsOf(name string) *engine.Guards {
	guards, _ := p.guards.LoadOrStore(name, new(engine.Guards))
	return guards.(*engine.Guards)
}

// The space "peerd" has the directory of spaces: a set of their names. A name is added before
// anything is written to its space, and stays. "default" and "peerd" are there without it.

// directoryKey is the key of the set.
const directoryKey = "spaces"

// announce has the directory list a space. After an error nothing has changed, or no more than the
// directory.
func (p *Peer) announce(ctx context.Context, name string) error {
	if name == DefaultSpace || name == directorySpace {
		return nil
	}
	errs := p.space(directorySpace).UpdateAll(ctx, []func(*Tx) error{func(tx *Tx) error {
		names := tx.Set(directoryKey)
		if names.Has(name) {
			return nil
		}
		if names.Len() >= MaxSpaces {
			return ErrTooManySpaces
		}
		_, err := names.Add(name)
		return err
	}})
	return errors.Join(errs...)
}

// directory returns the names that are listed, as far as they can be those of spaces.
func (p *Peer) directory(ctx context.Context) (names []string, err error) {
	err = (&Space{p, directorySpace}).View(ctx, func(tx *Tx) error {
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
		err := p.takeUp(ctx)
		if err != nil && !errors.Is(err, ErrClosed) {
			p.log.Warn("cannot take up all spaces that the directory lists; it is tried again", "error", err)
		}
		if !p.nextChange(ctx, w, err != nil, directoryRetry) {
			return
		}
	}
}

// nextChange returns once what is watched has changed, or after a time if something failed, as
// the reading of the watch may too. It reports whether the peer goes on.
func (p *Peer) nextChange(ctx context.Context, w *Watch, failed bool, again time.Duration) bool {
	limit, done := ctx, context.CancelFunc(func() {})
	if failed {
		limit, done = context.WithTimeout(ctx, again)
	}
	_, err := w.Next(limit)
	done()
	switch {
	case errors.Is(err, ErrClosed):
		return false
	case err == nil, errors.Is(err, context.DeadlineExceeded):
		return true
	}
	pause := time.NewTimer(again)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-p.stop:
		return false
	}
}

// takeUp opens the spaces that the directory lists and this host is to hold, and has it list those
// that are held here and not listed, as after a restore.
func (p *Peer) takeUp(ctx context.Context) error {
	names, err := p.directory(ctx)
	if err != nil {
		return err
	}
	var failed error
	var refused []string
	for _, name := range names {
		if !p.cfg.subscribes(name) {
			continue
		}
		s, err := p.take(name)
		if err != nil {
			failed, refused = errors.Join(failed, err), append(refused, name)
		}
		if s != nil {
			s.listed.Store(true)
		}
	}
	p.refused.Store(&refused)
	for _, s := range p.held() {
		if !s.listed.Load() && !slices.Contains(names, s.name) && s.written() {
			err := p.announce(ctx, s.name)
			s.listed.Store(err == nil)
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// written reports whether a space has seen a write.
func (s *space) written() bool { return len(s.feed.now().seen.Vector()) > 0 }

// list has the directory list the space, unless it does, before something is written to it. One
// that has data already takes more while the directory takes nothing: takeUp lists it.
func (s *space) list() error {
	if s.listed.Load() {
		return nil
	}
	err := s.p.announce(context.Background(), s.name)
	switch {
	case err == nil:
		s.listed.Store(true)
	case s.written():
		err = nil
	}
	return err
}

// reclaimEvery is how often a full disk is looked at before what is left of dropped spaces is
// deleted on.
const reclaimEvery = time.Second

// reclaim deletes what is left of dropped spaces, bit by bit, until nothing is left or the peer is
// closed.
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

// ErrUnreplicated is wrapped by the error of a DropSpace that could lose writes. Nothing changed.
var ErrUnreplicated = errors.New("no other member is known to have all that is here")

// DropSpace ends this host's part in a space and deletes its copy. Others keep theirs: emptying
// a space everywhere is a clear of all its keys. It is refused with ErrUnreplicated while the
// copy has writes that no other member is known to have, or, if this store ever wrote to it,
// none has durably (see Space.Replicated); and while it is damaged; unless force says that they
// may be lost. Where this peer promises nothing itself, with Memory or Durability None, it does
// not ask whether others have them durably. The host takes the space up again when something is
// written to it here, or when it is opened with a Config.Spaces that names it; until then reads
// of it are ErrNotHeld, as is this for a space that it does not hold. Until it is decided, some
// seconds at most, the space is read and watched as before, and writes to it are ErrLeaving.
// Views that are open go on; the records are deleted when they have ended.
func (p *Peer) DropSpace(ctx context.Context, name string, force bool) error {
	p.dropping.Lock()
	defer p.dropping.Unlock()
	s := p.space(name)
	switch {
	case name == directorySpace:
		return worded{fmt.Sprintf("the space %q is peerd's own: it lists the spaces, every host holds it, and it cannot be "+
			"dropped", name), ErrReadOnly}
	case s == nil:
		return fmt.Errorf("%w %q", ErrNotHeld, name)
	}
	s.leaving.Store(true) // no write comes after the look at who has them
	s.takeLeave()
	err := s.handOver(ctx, force)
	if err == nil {
		err = p.remove(s)
	}
	switch {
	case err != nil && p.broken.Load(): // the table may say that it is dropped: nothing is written
		return err
	case err != nil:
		_ = s.call(func(l *loop) { l.engine.Leave(false) })
		s.leaving.Store(false)
		return err
	}
	select {
	case <-s.stopped:
	case <-ctx.Done(): // it goes on by itself
	}
	return nil
}

// remove takes a space that nobody writes to any more away, and has it closed and its records
// deleted. It waits for nobody: who reads the space may be about to make another one.
func (p *Peer) remove(s *space) error {
	p.making.Lock()
	defer p.making.Unlock()
	if p.isStopping() {
		return ErrClosed
	}
	// The mark comes first: from now on who writes makes another space, and after a crash nothing
	// of this one is opened. Its loop still writes its last checkpoint, so that its records go
	// later.
	p.table.Keep(s.number)
	if _, err := p.table.Drop(s.name); err != nil {
		p.table.Release(s.number)
		if errors.Is(err, store.ErrFailed) { // it is unknown what the table says
			p.fail(fmt.Errorf("space %s: %w", s.name, err))
			err = errFailed(err)
		}
		return err
	}
	why := dropped(s.name)
	s.ended.Store(&why)
	if p.net != nil {
		p.net.board.release(s)
	}
	p.release(s)
	s.end()
	p.changes.ring()
	p.parting.Go(func() { p.part(s, why) })
	return nil
}

// part closes a space that was dropped, once its loop and all views have ended, and deletes its
// records. Its log is given up before: writes may be refused for want of that room, and a view
// may last.
func (p *Peer) part(s *space, why error) {
	<-s.stopped
	if err := p.committer.Forget(s.number); err != nil {
		s.log.Error("cannot give up the log of a dropped space", "error", err)
		p.fail(err)
	}
	s.close(why)
	_ = s.store.Close() // it never fails; what lies below stays open
	p.table.Release(s.number)
	s.log.Info("this host has dropped the space")
	p.reclaim()
}

// handOver waits until others have all that is here.
func (s *space) handOver(ctx context.Context, force bool) error {
	// Of two that drop it at one moment each would else rely on the other.
	err := s.call(func(l *loop) { l.engine.Leave(true) })
	if force {
		return nil // also of one that failed
	}
	if err != nil {
		return err
	}
	poll := time.NewTicker(leaveEvery)
	defer poll.Stop()
	began, asked := time.Now(), time.Time{}
	for {
		var left engine.Handover
		err := s.call(func(l *loop) {
			left = l.handOver()
			if left.Inquires(time.Since(asked)) {
				l.engine.Inquire()
				asked = time.Now()
			}
		})
		switch {
		case err != nil:
			return err
		case left.Safe():
			return nil
		case left.Stays(time.Since(began)):
			return s.unreplicated(left)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return s.unreplicated(left)
		}
	}
}

// unreplicated says why a copy stays.
func (s *space) unreplicated(left engine.Handover) error {
	switch {
	case left.Refusal != nil:
		return fmt.Errorf("%w: what the space %q has cannot be told: %w", ErrUnreplicated, s.name, left.Refusal)
	case left.Missing > 0:
		return fmt.Errorf("%w: %d mutations of the space %q would be lost", ErrUnreplicated, left.Missing, s.name)
	}
	return fmt.Errorf("%w so that it survives a loss of power: none that has all of the space %q has said so; those "+
		"with the durability none can within a minute", ErrUnreplicated, s.name)
}

// handOver tells whether the space may go. A link whose ends have parted may still be known to the
// engine.
func (l *loop) handOver() engine.Handover {
	left := l.engine.Handover(func(id gossip.NeighbourID) bool {
		lane := l.links[id]
		return lane == nil || isClosed(lane.parted)
	})
	left.Refusal = cmp.Or(left.Refusal, l.s.refusal())
	return left
}

// leaveTime is how long a peer that is closed waits until its neighbours have heard of the end of
// its id. One that has not hears of it when this store is opened again, and keeps what deleted
// counters left until then.
const leaveTime = 500 * time.Millisecond

// leaveEvery is how often it looks.
const leaveEvery = 5 * time.Millisecond

// takeLeave has all spaces take leave.
func (p *Peer) takeLeave() {
	var all sync.WaitGroup
	for _, s := range p.held() {
		all.Go(s.takeLeave)
	}
	all.Wait()
}

// takeLeave ends the replica's id while there are still links. A write that is accepted later takes
// another id, which ends as well when the loop does.
func (s *space) takeLeave() {
	if s.call(func(l *loop) { l.engine.EndID() }) != nil {
		return
	}
	poll, limit := time.NewTicker(leaveEvery), time.NewTimer(leaveTime)
	defer poll.Stop()
	defer limit.Stop()
	for {
		left := false
		if s.call(func(l *loop) { left = l.engine.HasLeft() }) != nil || left {
			return
		}
		select {
		case <-poll.C:
		case <-limit.C:
			return
		}
	}
}
