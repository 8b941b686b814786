package engine

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// world is a handful of engines under one seed: their disks, the links between them, and everything that
// any of them ever committed. All choices come from rng, so a seed replays a run.
type world struct {
	rng     *rand.Rand
	now     time.Time
	hosts   []*host
	links   map[[2]int]*link // from, to
	deltas  map[crdt.Dot]*delta.Delta
	order   []*delta.Delta
	saw     map[crdt.Dot]crdt.VersionVector // by a delta's first dot, its origin's context before it
	nextID  crdt.ReplicaID
	repairs []*session
	backups []*disk // stores made from backups of some time
	cfg     worldConfig
	trace   []string
	done    map[string]int
	forked  bool       // dots stand for two things
	asks    *rand.Rand // for which keys are gathered: what else happens does not depend on it
}

type worldConfig struct {
	hosts, steps int
	crashes      bool
	bases        bool // of anything are said, by anyone, at any time
	maxLog       int64
	maxDirty     int64
	sync         bool
	indexes      []cellIndex
	derivedBytes int
	shared       bool // disks are: see disk
	maxBatch     int
	stepWork     int
	ordered      bool // cells that stand in orders are written too
}

type host struct {
	i      int
	disk   *disk
	engine *Engine
	epoch  int
	due    bool // there is something to step for
	at     time.Time
	sync   *Syncing // under way
	closed bool

	gathering *View // that was asked to gather a key, and is not remembered yet
}

type link struct {
	frames [][]byte
	taking *Frame // that the other end's engine has
}

// session is a repair under way, whose next question waits to be answered.
type session struct {
	*Pull
	from, to *host
	epoch    int // of from, when it began
	question antientropy.Request
	asked    bool // the source was, for a moment
	pinned   *Pinned
	refused  error
}

func newWorld(t testing.TB, seed uint64, cfg worldConfig) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 1)), now: time.UnixMilli(1e12), cfg: cfg,
		links: map[[2]int]*link{}, deltas: map[crdt.Dot]*delta.Delta{}, done: map[string]int{},
		saw: map[crdt.Dot]crdt.VersionVector{}, asks: rand.New(rand.NewPCG(seed, 2)),
	}
	for i := range cfg.hosts {
		h := &host{i: i, disk: w.newDisk()}
		w.hosts = append(w.hosts, h)
		w.open(t, h)
	}
	return w
}

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) newDisk() *disk {
	d := newDisk()
	d.shared = w.cfg.shared
	return d
}

func (w *world) newID() crdt.ReplicaID {
	w.nextID++
	return w.nextID
}

func (w *world) open(t testing.TB, h *host) {
	t.Helper()
	r, err := openAt(h.disk, Config{NewID: w.newID, MaxLogBytes: w.cfg.maxLog, MaxDirty: w.cfg.maxDirty,
		Sync: w.cfg.sync, SyncEverySecond: !w.cfg.sync,
		indexes: w.cfg.indexes, derivedBytes: w.cfg.derivedBytes, orderBytes: 3000, leavesAtOnce: 7,
		MaxBatch: w.cfg.maxBatch, StepWork: w.cfg.stepWork})
	if err != nil {
		t.Fatalf("open host %d: %v", h.i, err)
	}
	w.repairs = slices.DeleteFunc(w.repairs, func(s *session) bool { return s.to == h })
	h.engine, h.gathering, h.sync, h.closed = withNeighbours(r, w.rng, w.now), nil, nil, false
	h.epoch++
	w.round(t, h)
}

func name(i int) gossip.NeighbourID { return gossip.NeighbourID(fmt.Sprint(i)) }

func hostOf(id gossip.NeighbourID) int {
	var i int
	_, _ = fmt.Sscan(string(id), &i)
	return i
}

// round has a host's engine take steps until no task is under way, and does what each wants done. It
// reports whether there is more to do at once.
func (w *world) round(t testing.TB, h *host) (more bool) {
	t.Helper()
	for busy := true; busy; busy = h.engine.Busy() {
		rd, err := h.engine.takeStep(w.now)
		must(t, err)
		h.due, h.at, h.closed = rd.Again, rd.At, rd.Closed
		w.act(t, h, rd)
		if h.sync != nil && (!w.cfg.crashes || w.rng.IntN(2) == 0) {
			must(t, h.engine.endSync(h.sync))
			h.sync, h.due = nil, true
		}
	}
	return h.due || h.sync != nil
}

// takeStep has an engine take a step, and does its writes.
func (e *Engine) takeStep(now time.Time) (rd *Ready, err error) {
	if err = e.Step(now, now); err != nil {
		return nil, err
	}
	rd = e.Ready()
	if err = CarryOut(rd.Writes, e.st.(store.Store), e.logs.(store.Log)); err == nil {
		e.Advance()
	}
	return rd, err
}

// endSync does a sync that a Ready wants done.
func (e *Engine) endSync(s *Syncing) error {
	err := s.Run(e.st.(store.Store), e.logs.(store.Log))
	if err == nil {
		e.SyncEnded(*s)
	}
	return err
}

// stepAlone has an engine take a step without links, and ends at once what it wants done beside it.
func (e *Engine) stepAlone(now time.Time) (rd *Ready, err error) {
	rd, err = e.takeStep(now)
	if err == nil && rd.Sync != nil {
		err = e.endSync(rd.Sync)
	}
	if err == nil && rd.Verify != nil {
		e.Verified(rd.Verify.Verify(func() bool { return false }))
		rd.Verify.Close()
	}
	return rd, err
}

// act does what a Ready wants done once its writes are.
func (w *world) act(t testing.TB, h *host, rd *Ready) {
	t.Helper()
	w.noteCommitted(t, h, rd.Committed)
	for _, u := range rd.Answers {
		u.(*wish).answered = true
	}
	for _, f := range rd.Handled {
		if f.Err != nil && !errors.Is(f.Err, ErrReplaced) {
			t.Fatalf("host %d receives from %s: %v", h.i, f.From, f.Err)
		}
		if l := w.links[[2]int{hostOf(f.From), h.i}]; l != nil && l.taking == f {
			l.taking = nil
		}
	}
	for _, f := range rd.Frames {
		l := w.links[[2]int{h.i, hostOf(f.To)}]
		l.frames = append(l.frames, f.Data)
		w.done[fmt.Sprintf("frame %d", f.Data[0])]++
	}
	if s := rd.Sync; s != nil {
		begun := *s
		h.sync = &begun
	}
	if p := rd.Verify; p != nil {
		err := p.Verify(func() bool { return false })
		p.Close()
		h.engine.Verified(err)
		h.due = true
	}
	for _, p := range slices.Clone(rd.Pulls) {
		w.goOn(t, h, p)
	}
	for _, n := range rd.Notices {
		switch {
		case n.Kind == Forked && !w.forked:
			t.Fatalf("host %d is alarmed, and there was no fork: %+v", h.i, n.Forks)
		case n.Kind == Mismatch:
			t.Fatalf("host %d and %s have one context and different cells", h.i, n.From)
		}
	}
}

// wish is an update: transactions that an engine is asked for.
type wish struct {
	fns      []func(tx *Tx) error
	errs     []error // what became of each
	answered bool
}

func wishFor(fns ...func(tx *Tx) error) *wish { return &wish{fns: fns} }

// Begin implements Update.
func (u *wish) Begin() bool { return true }

// Len implements Update.
func (u *wish) Len() int { return len(u.fns) }

// Run implements Update.
func (u *wish) Run(i int, tx *Tx) error { return u.fns[i](tx) }

// Ran implements Update.
func (u *wish) Ran(_ int, err error) { u.errs = append(u.errs, err) }

// update has a host run transactions, and returns what became of each. They are not answered if they
// wait for a repair.
func (w *world) update(t testing.TB, h *host, fns ...func(tx *Tx) error) (_ []error, answered bool) {
	t.Helper()
	u := wishFor(fns...)
	h.engine.Submit(u)
	for more := true; more && !u.answered; {
		more = w.round(t, h)
	}
	return u.errs, u.answered
}

// try has a host run a transaction.
func (w *world) try(t testing.TB, h *host, fn func(f crdt.Fields) error) error {
	t.Helper()
	errs, answered := w.update(t, h, func(tx *Tx) error { return fn(Fields(tx)) })
	if !answered {
		t.Fatalf("host %d does not answer", h.i)
	}
	return errs[0]
}

func (w *world) write(t testing.TB, h *host, fn func(f crdt.Fields) error) {
	t.Helper()
	must(t, w.try(t, h, fn))
}

// writeAlone commits a transaction without a step of the engine, which might sync, or go on with a
// checkpoint.
func (w *world) writeAlone(t testing.TB, h *host, fn func(f crdt.Fields) error) {
	t.Helper()
	g := h.engine.newGroup(w.now)
	must(t, g.update(func(tx *Tx) error { return fn(Fields(tx)) }))
	w.commit(t, h, g)
}

// transact does something random at a host.
func (w *world) transact(t testing.TB, h *host) {
	t.Helper()
	fns := make([]func(tx *Tx) error, 1+w.rng.IntN(2))
	for i := range fns {
		fns[i] = w.mutateSome
	}
	errs, _ := w.update(t, h, fns...)
	for _, err := range errs {
		if err != nil && !errors.Is(err, errGaveUp) {
			t.Fatalf("host %d: %v", h.i, err)
		}
	}
	w.ask(t, h)
}

func (w *world) mutateSome(tx *Tx) (err error) {
	for n := 1 + w.rng.IntN(3); n > 0 && err == nil; n-- {
		if w.cfg.ordered && w.rng.IntN(2) == 0 {
			err = w.mutateOrdered(tx)
		} else {
			err = w.mutate(Fields(tx))
		}
	}
	if err == nil && w.rng.IntN(10) == 0 {
		err = errGaveUp
	}
	return err
}

// close stops a host.
func (w *world) close(t testing.TB, h *host) {
	t.Helper()
	for h.engine.Stop(); w.round(t, h); {
	}
	if !h.closed {
		t.Fatalf("host %d does not stop", h.i)
	}
}

var errGaveUp = errors.New("the transaction gives up")

func (w *world) mutate(f crdt.Fields) error {
	key := string(rune('a' + w.rng.IntN(4)))
	if w.rng.IntN(25) == 0 {
		key = strings.Repeat("long", 100) + key
	}
	elem := fmt.Sprint(w.rng.IntN(30))
	var err error
	if w.rng.IntN(60) == 0 {
		_, err = f.Clear()
		return err
	}
	switch w.rng.IntN(17) {
	case 0, 1:
		err = f.String(key).Set([]byte(fmt.Sprint(w.rng.IntN(100))))
	case 2, 3:
		_, err = f.Counter(key).Add(int64(w.rng.IntN(9) - 3))
	case 4, 5, 6:
		for range 1 + w.rng.IntN(12) {
			if _, err = f.Set(key).Add(fmt.Sprint(w.rng.IntN(30))); err != nil {
				return err
			}
		}
	case 7:
		_, err = f.Set(key).Remove(elem)
	case 8:
		err = f.Map(key).String(elem).Set([]byte("x"))
	case 9:
		_, err = f.Map(key).Map("nested").Counter(elem).Add(1)
	case 10:
		_, err = f.Map(key).Remove(elem)
	case 11:
		_, err = f.Remove(key)
	case 12:
		_, err = f.Set(key).Clear()
	case 13:
		err = f.Register(key).Set(make([]byte, 20_000))
	case 14:
		_, err = f.Expiry(key).Set(w.now.Add(time.Duration(w.rng.IntN(3000)) * time.Millisecond))
	case 15:
		_, err = f.Expiry(key).Clear()
	case 16:
		err = f.String(key).SetUntil([]byte("7"), w.now.Add(time.Duration(w.rng.IntN(3000))*time.Millisecond))
	}
	return err
}

// commit commits a group that a test has made itself.
func (w *world) commit(t testing.TB, h *host, g *group) {
	t.Helper()
	done, err := g.Commit(w.cfg.sync)
	if err != nil {
		t.Fatalf("host %d: commit: %v", h.i, err)
	}
	w.noteCommitted(t, h, done.Deltas)
}

// noteCommitted takes note of deltas that became visible.
func (w *world) noteCommitted(t testing.TB, h *host, deltas []*delta.Delta) {
	t.Helper()
	w.noteSeen(h, deltas)
	for _, d := range deltas {
		first := d.Dot(0)
		if old, ok := w.deltas[first]; ok {
			if old.Hash() != d.Hash() && !w.forked {
				t.Fatalf("dot %v was issued twice", first)
			}
			continue
		}
		w.deltas[first] = d
		w.order = append(w.order, d)
		w.say("host %d commits %v..%d, %d ops", h.i, first, d.Last(), len(d.Ops))
	}
}

// noteSeen notes what the origin of deltas that were just committed for the first time had seen before each.
func (w *world) noteSeen(h *host, deltas []*delta.Delta) {
	seen := h.engine.seen.Clone()
	for _, d := range slices.Backward(deltas) {
		if seen[d.Replica] = d.First - 1; d.First == 1 {
			delete(seen, d.Replica)
		}
		if _, known := w.saw[d.Dot(0)]; !known {
			w.saw[d.Dot(0)] = seen.Clone()
		}
	}
}

// sayBases has a host say bases of whatever it may.
func (w *world) sayBases(t testing.TB, h *host) {
	t.Helper()
	for _, id := range h.engine.short.Replicas() {
		if n := h.engine.short[id]; h.engine.mayBase(id, n) && w.rng.IntN(2) == 0 {
			h.engine.say = append(h.engine.say, delta.Base{Replica: id, Last: n, Head: h.engine.heads[id]})
		}
	}
	if len(h.engine.say) > 0 {
		w.round(t, h)
		w.done["bases said"] += gain(false, len(h.engine.say) == 0)
	}
	h.engine.say = nil
}

// pump has a host send a frame, if there is one and the link has room.
func (w *world) pump(t testing.TB, from, to int) (did bool) {
	t.Helper()
	l := w.links[[2]int{from, to}]
	if l == nil || len(l.frames) >= LinkFrames {
		return false
	}
	had := len(l.frames)
	w.hosts[from].engine.Takes(name(to), 1)
	w.round(t, w.hosts[from])
	w.hosts[from].engine.Takes(name(to), 0)
	return len(l.frames) > had
}

// deliver has a host take the next frame of a link, now or in its turn.
func (w *world) deliver(t testing.TB, from, to int) (did bool) {
	t.Helper()
	if did = w.hand(from, to); did {
		l := w.links[[2]int{from, to}]
		for f := l.taking; w.round(t, w.hosts[to]) && l.taking == f; {
		}
	}
	return did
}

// hand hands the next frame of a link to the engine, unless it has one.
func (w *world) hand(from, to int) (did bool) {
	l := w.links[[2]int{from, to}]
	if l == nil || len(l.frames) == 0 || l.taking != nil {
		return false
	}
	l.taking = &Frame{From: name(from), Data: l.frames[0]}
	l.frames = l.frames[1:]
	w.hosts[to].engine.Receive(l.taking)
	w.hosts[to].due, w.hosts[from].due = true, true
	return true
}

// turn has a host take a frame of each link, and send what there is room for, if there is anything
// to do.
func (w *world) turn(t testing.TB, h *host) (did bool) {
	t.Helper()
	for j := range w.hosts {
		w.hand(j, h.i)
	}
	if !h.due && h.sync == nil {
		return false
	}
	for j := range w.hosts {
		if l := w.links[[2]int{h.i, j}]; l != nil {
			h.engine.Takes(name(j), LinkFrames-len(l.frames))
		}
	}
	w.round(t, h)
	for j := range w.hosts {
		h.engine.Takes(name(j), 0)
	}
	return true
}

func (w *world) connect(i, j int) {
	if i == j || w.links[[2]int{i, j}] != nil {
		return
	}
	for _, p := range [][2]int{{i, j}, {j, i}} {
		w.links[p] = &link{}
		w.hosts[p[0]].engine.Connect(name(p[1]), 0)
		w.hosts[p[0]].due = true
	}
}

func (w *world) cut(i, j int) {
	for _, p := range [][2]int{{i, j}, {j, i}} {
		if w.links[p] != nil {
			delete(w.links, p)
			w.hosts[p[0]].engine.Disconnect(name(p[1]))
			w.hosts[p[0]].due = true
		}
	}
}

func (w *world) restart(t testing.TB, h *host, how string) {
	t.Helper()
	for j := range w.hosts {
		w.cut(h.i, j)
	}
	w.say("host %d %s", h.i, how)
	w.done[how]++
	switch how {
	case "crashes":
		h.disk = h.disk.Crash()
	case "is killed":
		h.disk = h.disk.Clone()
	case "is wiped":
		h.disk = w.newDisk()
	case "is restored":
		h.disk = w.backups[w.rng.IntN(len(w.backups))].Clone()
	case "closes":
		w.close(t, h)
	}
	w.open(t, h)
}

// backUp takes a backup of a host, if it can be taken now, and restores it aside.
func (w *world) backUp(t testing.TB, h *host) {
	t.Helper()
	moment, err := h.engine.takeMoment(w.now)
	if err != nil {
		return
	}
	defer moment.Close()
	b := &store.Batch{}
	err = moment.Scan(func(key, value []byte) bool {
		b.Set(slices.Clone(key), slices.Clone(value))
		return true
	})
	restored := w.newDisk()
	if err = errors.Join(err, restored.tree().Commit(b, true)); err != nil {
		t.Fatal(err)
	}
	w.backups = append(w.backups, restored)
}

// goOn begins a repair, carries it on after the engine was asked, or takes note of its end.
func (w *world) goOn(t testing.TB, h *host, p *Pull) {
	t.Helper()
	i := slices.IndexFunc(w.repairs, func(s *session) bool { return s.Pull == p })
	switch {
	case p.Over:
		w.noteRepair(t, h, p)
		w.repairs = slices.DeleteFunc(w.repairs, func(s *session) bool {
			if s.Pull == p && s.pinned != nil {
				s.pinned.Close()
			}
			return s.Pull == p
		})
	case p.Spoiled:
		h.engine.Fail(p, errNoStream)
	case i >= 0:
		w.repairs[i].take(p.Resume(h.engine.stage))
	default:
		from := w.hosts[hostOf(p.From)]
		w.say("host %d repairs from %d", h.i, from.i)
		w.repairs = append(w.repairs,
			&session{Pull: p, from: from, to: h, epoch: from.epoch, question: p.Start()})
	}
}

// noteRepair takes note of how a repair ended.
func (w *world) noteRepair(t testing.TB, h *host, p *Pull) {
	t.Helper()
	switch {
	case p.Err == nil:
		w.done["repair"]++
		w.say("host %d is repaired", h.i)
	case errors.Is(p.Err, errNoStream):
		w.done["repair aborted"]++
	case errors.Is(p.Err, errNotEmpty): // it wrote something while it was filled
		w.done["filling ended"]++
	case errors.Is(p.Err, ErrBusy), errors.Is(p.Err, ErrForked):
		w.say("host %d is not repaired: %v", h.i, p.Err)
		w.done["repair refused"]++
	default:
		t.Fatalf("host %d repairs from %s: %v", h.i, p.From, p.Err)
	}
}

// take goes on with what came of an answer.
func (s *session) take(q antientropy.Request, asks bool, err error) {
	s.to.due, s.question = true, antientropy.Request{}
	switch {
	case err != nil:
		s.to.engine.Fail(s.Pull, err)
	case asks:
		s.question = q
	default:
		s.to.engine.Take(s.Pull)
	}
}

// pieces are how large a source's responses are, by its host: see antientropy.ServeIn.
var pieces = [2]int{1 << 10, 0}

// stepRepairs moves one of the repairs on by one message, and reports whether it did.
func (w *world) stepRepairs(t testing.TB) (did bool) {
	t.Helper()
	if len(w.repairs) == 0 {
		return false
	}
	s := w.repairs[w.rng.IntN(len(w.repairs))]
	switch {
	case s.from.epoch != s.epoch, w.cfg.crashes && w.rng.IntN(15) == 0:
		s.to.engine.Fail(s.Pull, errNoStream)
	case !s.asked:
		s.asked = true
		s.from.engine.Serve(name(s.to.i), func(p *Pinned, err error) { s.pinned, s.refused = p, err })
		w.round(t, s.from)
		return true
	case s.refused != nil:
		s.to.engine.Fail(s.Pull, s.refused)
	case s.pinned != nil && s.question.Kind != 0:
		answer, err := antientropy.ServeIn(pieces[s.from.i%2], s.pinned, s.question)
		must(t, err)
		s.take(s.Go(answer, s.to.engine.stage))
	default:
		return false
	}
	w.round(t, s.to)
	return true
}

func (w *world) step(t testing.TB) {
	w.now = w.now.Add(time.Duration(w.rng.IntN(20)) * time.Millisecond)
	i, j := w.rng.IntN(len(w.hosts)), w.rng.IntN(len(w.hosts))
	h := w.hosts[i]
	if w.cfg.bases && w.rng.IntN(12) == 0 {
		w.sayBases(t, h)
		return
	}
	switch p := w.rng.IntN(100); {
	case p < 20:
		w.transact(t, h)
	case p < 43:
		w.pump(t, i, j)
	case p < 66:
		w.deliver(t, i, j)
	case p < 74:
		w.now = w.now.Add(time.Duration(w.rng.IntN(200)) * time.Millisecond)
		w.round(t, h)
	case p < 86:
		w.connect(i, j)
	case p < 88:
		w.cut(i, j)
	case p < 94:
		w.stepRepairs(t)
	case p < 97:
		w.round(t, h)
	default:
		if w.cfg.crashes {
			hows := []string{"crashes", "is killed", "closes", "closes", "is wiped"}
			if w.backUp(t, h); len(w.backups) > 0 {
				hows = append(hows, "is restored")
			}
			w.restart(t, h, hows[w.rng.IntN(len(hows))])
		}
	}
}

// settle heals everything and runs until nothing is left to say.
func (w *world) settle(t testing.TB) {
	t.Helper()
	w.connectAll()
	w.cfg.crashes = false
	for round := 0; ; round++ {
		busy := false
		for _, h := range w.hosts {
			h.due = h.due || round == 0
			busy = w.turn(t, h) || busy
		}
		if busy = w.stepRepairs(t) || busy; !busy {
			if w.agreed() {
				return
			}
			w.sleep()
		}
		if round > 20_000 {
			t.Fatalf("no agreement after %d rounds: %s", round, w.describe())
		}
	}
}

func (w *world) connectAll() {
	for i := range w.hosts {
		for j := range i {
			w.connect(i, j)
		}
	}
}

// sleep lets time pass until something is due.
func (w *world) sleep() {
	w.now = slices.MinFunc(w.hosts, func(a, b *host) int { return a.at.Compare(b.at) }).at
	for _, h := range w.hosts {
		h.due = h.due || !h.at.After(w.now)
	}
}

func (w *world) agreed() bool {
	context, root, _ := w.hosts[0].engine.Digest()
	for _, h := range w.hosts {
		c, r, settled := h.engine.Digest()
		if c != context || r != root || !settled {
			return false
		}
	}
	return true
}

func (w *world) describe() string {
	var b strings.Builder
	for _, h := range w.hosts {
		c, r, settled := h.engine.Digest()
		seen, _ := h.engine.Context()
		fmt.Fprintf(&b, "\nhost %d: context %v root %v settled %v repairing %v waiting %d: %v",
			h.i, c, r, settled, h.engine.Repairing(), h.engine.Waiting(), seen)
		fmt.Fprintf(&b, "\n\trebuilding %v, forks %+v", h.engine.rebuilding, h.engine.Forks())
	}
	return b.String()
}

// check compares a host's state with what its context says it must be.
func (w *world) check(t testing.TB, h *host) {
	t.Helper()
	want := w.meaning(h)
	got := map[dotted.Address]dotted.Cell{}
	visible := map[string]*dotted.Shapes{}
	last := dotted.Address("") // a string's cells are counted once
	v := h.engine.View()
	defer v.Close()
	err := v.Scan("", "", func(a dotted.Address, c dotted.Cell) bool {
		got[a] = c
		at := a
		if counter, _, ok := a.CutShare(); ok {
			at = counter
		}
		if c.Visible() && at != last {
			last = at
			if visible[a.Key()] == nil {
				visible[a.Key()] = &dotted.Shapes{}
			}
			shape := at.Shape()
			if at.IsExpiry() {
				shape = at.ExpiryShape(c)
			}
			visible[a.Key()].Add(shape, 1)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for a, c := range want {
		if !sameDots(c, got[a]) {
			t.Fatalf("host %d: cell %q is %v, want %v", h.i, a, got[a].Dots(), c.Dots())
		}
	}
	for a := range got {
		if len(want[a]) == 0 {
			t.Fatalf("host %d: cell %q should be gone", h.i, a)
		}
	}
	checkOrders(t, v)
	w.checkListings(t, h)
	for key, shapes := range visible {
		s, err := v.Summary(key)
		if err != nil || !slices.Equal(s.Visible, *shapes) {
			t.Fatalf("host %d: key %q: summary %v (%v), counted %v", h.i, key, s.Visible, err, *shapes)
		}
	}
	exist := 0
	for _, shapes := range visible {
		exist += gain(false, dotted.Summary{Visible: *shapes}.Exists())
	}
	if n, _ := h.engine.Counts(); n != exist {
		t.Fatalf("host %d: counts %d keys, there are %d", h.i, n, exist)
	}
	w.checkTree(t, h)
}

// checkTree compares the tree kept in place with one built anew.
func (w *world) checkTree(t testing.TB, h *host) {
	t.Helper()
	fresh, err := openAt(h.disk.Clone(), Config{NewID: w.newID})
	if err != nil || fresh.damage != nil {
		t.Fatal(err, fresh.damage)
	}
	for h.engine.clears.count == 0 && fresh.clears.count > 0 {
		if _, err := fresh.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	if h.engine.clears.count == 0 && (!fresh.tree.Equal(h.engine.tree) || fresh.cells != h.engine.cells) {
		t.Fatalf("host %d: the tree kept in place is not the tree of the cells", h.i)
	}
	digest, _, _ := h.engine.Digest()
	if got, _, _ := fresh.Digest(); got != digest || !fresh.seen.Equal(h.engine.seen) || fresh.keys != h.engine.keys {
		t.Fatalf("host %d: the context in memory is not the stored one", h.i)
	}
	w.checkVectors(t, h)
}

// checkVectors compares the context with what its short form stands for, and with what its deltas had seen.
func (w *world) checkVectors(t testing.TB, h *host) {
	t.Helper()
	for _, d := range w.order {
		if saw := w.saw[d.Dot(0)]; h.engine.seen.Has(d.Dot(0)) && !h.engine.seen.Contains(saw) {
			t.Fatalf("host %d holds %v without what that had seen: %v, and %v", h.i, d.Dot(0), h.engine.seen, saw)
		}
	}
	full, heads := h.engine.Expand(h.engine.Vector(), h.engine.heads, nil)
	if !full.Equal(h.engine.seen) || !maps.Equal(heads, h.engine.heads) {
		t.Fatalf("host %d: the short form %v stands for %v, want %v", h.i, h.engine.Vector(), full, h.engine.seen)
	}
	for id := range h.engine.seen {
		left := h.engine.bases.LeavesOut(id, h.engine.seen[id], h.engine.heads[id]) && id != h.engine.current()
		if _, listed := h.engine.short[id]; listed == left && !h.engine.Ended(id) {
			t.Fatalf("host %d: whether %v is listed is %v", h.i, id, listed)
		}
	}
	for _, o := range w.hosts {
		if full, _ := h.engine.Expand(o.engine.Vector(), nil, nil); !o.engine.seen.Contains(full) {
			t.Fatalf("host %d takes the vector %v of host %d for %v, it has %v", h.i, o.engine.Vector(), o.i, full, o.engine.seen)
		}
		if !h.engine.Lacks(o.engine.Vector()) != h.engine.seen.Contains(o.engine.seen) {
			t.Fatalf("host %d: whether it lacks something of host %d", h.i, o.i)
		}
	}
	w.done["left out"] += len(h.engine.seen) - len(h.engine.short)
}

// meaning computes the cells that a host's context stands for, from all deltas ever committed.
func (w *world) meaning(h *host) map[dotted.Address]dotted.Cell {
	seen, _ := h.engine.Context()
	cells := map[dotted.Address]dotted.Cell{}
	removed := map[crdt.Dot]bool{}
	type clear struct {
		prefix dotted.Address
		set    delta.ClearSet
	}
	var clears []clear
	for _, d := range w.order {
		if d.Last() > seen[d.Replica] {
			continue
		}
		for i, op := range d.Ops {
			if op.Kind == delta.OpPut {
				e := dotted.Entry{Dot: d.Dot(i), Payload: op.Payload}
				cells[op.Address] = cells[op.Address].With(e)
			}
			for _, r := range op.Removes {
				removed[r] = true
			}
			if op.Kind == delta.OpClear {
				clears = append(clears, clear{op.Address, d.SeenBy(i, delta.Whole(w.saw[d.Dot(0)]))})
			}
		}
	}
	for a, c := range cells {
		c = slices.DeleteFunc(c, func(e dotted.Entry) bool { return removed[e.Dot] })
		for _, clear := range clears {
			if hasPrefix(a, clear.prefix) {
				c = c.Outside(clear.set)
			}
		}
		cells[a] = c
	}
	return cells
}

func runWorld(t testing.TB, seed uint64, cfg worldConfig) (trace uint64, done map[string]int) {
	t.Helper()
	w := newWorld(t, seed, cfg)
	for i := range cfg.steps {
		w.step(t)
		if i%10 == 0 {
			w.check(t, w.hosts[w.rng.IntN(len(w.hosts))])
		}
	}
	w.settle(t)
	for _, h := range w.hosts {
		w.check(t, h)
	}
	sum := fnv.New64a()
	for _, line := range w.trace {
		_, _ = sum.Write([]byte(line))
	}
	return sum.Sum64(), w.done
}
