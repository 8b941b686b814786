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
	ordered      bool // cells that stand in orders are written too
}

type host struct {
	i      int
	disk   *disk
	engine *Engine
	epoch  int

	gathering *View // that was asked to gather a key, and is not remembered yet
}

type link struct{ frames [][]byte }

// session is a repair under way.
type session struct {
	from, to           int
	fromEpoch, toEpoch int
	source             *Pinned
	puller             *antientropy.Puller
	repair             *repairSession
	response           antientropy.Response
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
		indexes: w.cfg.indexes, derivedBytes: w.cfg.derivedBytes, orderBytes: 3000, leavesAtOnce: 7, MaxBatch: w.cfg.maxBatch})
	if err != nil {
		t.Fatalf("open host %d: %v", h.i, err)
	}
	h.engine, h.gathering = newEngine(r), nil
	must(t, h.engine.checkAll())
	h.epoch++
}

func name(i int) gossip.NeighbourID { return gossip.NeighbourID(fmt.Sprint(i)) }

func hostOf(id gossip.NeighbourID) int {
	var i int
	_, _ = fmt.Sscan(string(id), &i)
	return i
}

// transact does something random at a host.
func (w *world) transact(t testing.TB, h *host) {
	t.Helper()
	g := w.begin(t, h)
	for range 1 + w.rng.IntN(2) {
		err := g.update(func(tx *Tx) error {
			for range 1 + w.rng.IntN(3) {
				if w.cfg.ordered && w.rng.IntN(2) == 0 {
					if err := w.mutateOrdered(tx); err != nil {
						return err
					}
					continue
				}
				if err := w.mutate(Fields(tx)); err != nil {
					return err
				}
			}
			if w.rng.IntN(10) == 0 {
				return errGaveUp
			}
			return nil
		})
		if err != nil && !errors.Is(err, errGaveUp) {
			t.Fatalf("host %d: %v", h.i, err)
		}
	}
	w.commit(t, h, g)
	w.ask(t, h)
}

// begin begins a group, in which what there is to collect is collected first.
func (w *world) begin(t testing.TB, h *host) *group {
	t.Helper()
	h.engine.beginStep()
	g := h.engine.newGroup(w.now)
	h.engine.countDownExpiries(w.now)
	if h.engine.Collects() {
		if err := h.engine.collectSome(g); err != nil {
			t.Fatalf("host %d: collect: %v", h.i, err)
		}
	}
	return g
}

// end ends a host's id.
func (w *world) end(t testing.TB, h *host) {
	t.Helper()
	for h.engine.owes() {
		w.commit(t, h, w.begin(t, h))
	}
	g := h.engine.newGroup(w.now)
	if err := g.end(); err != nil {
		t.Fatalf("host %d does not end: %v", h.i, err)
	}
	w.commit(t, h, g)
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

func (w *world) commit(t testing.TB, h *host, g *group) {
	t.Helper()
	done, err := g.Commit(w.cfg.sync || w.rng.IntN(4) == 0)
	if err != nil {
		t.Fatalf("host %d: commit: %v", h.i, err)
	}
	w.noteSeen(h, done.Deltas)
	for _, d := range done.Deltas {
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
	if len(h.engine.say) > 0 && h.engine.replica.Whole() {
		w.commit(t, h, w.begin(t, h))
		w.done["bases said"]++
	}
	h.engine.say = nil
}

func (w *world) pump(t testing.TB, from, to int) bool {
	t.Helper()
	l := w.links[[2]int{from, to}]
	if l == nil || len(l.frames) > 2 {
		return false
	}
	frame, err := w.hosts[from].engine.Next(name(to))
	if err != nil {
		t.Fatalf("host %d: next frame: %v", from, err)
	}
	if frame == nil {
		return false
	}
	l.frames = append(l.frames, frame)
	w.done[fmt.Sprintf("frame %d", frame[0])]++
	return true
}

func (w *world) deliver(t testing.TB, from, to int) bool {
	t.Helper()
	l := w.links[[2]int{from, to}]
	if l == nil || len(l.frames) == 0 {
		return false
	}
	frame := l.frames[0]
	l.frames = l.frames[1:]
	h := w.hosts[to]
	g := w.begin(t, h)
	if err := h.engine.receiveIn(g, name(from), frame); err != nil {
		t.Fatalf("host %d receives from %d: %v", to, from, err)
	}
	for w.commit(t, h, g); h.engine.Unfinished(name(from)); w.commit(t, h, g) {
		g = w.begin(t, h)
		if err := h.engine.Resume(name(from), h.engine.offer(g)); err != nil {
			t.Fatalf("host %d receives from %d: %v", to, from, err)
		}
	}
	w.events(t, h)
	return true
}

func (w *world) events(t testing.TB, h *host) {
	t.Helper()
	for _, e := range h.engine.Events() {
		switch e.Kind {
		case gossip.Behind:
			w.beginRepair(t, hostOf(e.From), h.i)
		case gossip.Forked:
			if !w.forked {
				t.Fatalf("host %d is alarmed about %s, and there was no fork: %+v", h.i, e.From, h.engine.Forks())
			}
		case gossip.Damaged:
			t.Fatalf("host %d and %s have one context and different cells", h.i, e.From)
		}
	}
}

func (w *world) connect(i, j int) {
	if i == j || w.links[[2]int{i, j}] != nil {
		return
	}
	for _, p := range [][2]int{{i, j}, {j, i}} {
		w.links[p] = &link{}
		w.hosts[p[0]].engine.Connect(name(p[1]), 1)
	}
}

func (w *world) cut(i, j int) {
	for _, p := range [][2]int{{i, j}, {j, i}} {
		if w.links[p] != nil {
			delete(w.links, p)
			w.hosts[p[0]].engine.Disconnect(name(p[1]))
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
		w.end(t, h)
		if err := h.engine.Save(w.now); err != nil {
			t.Fatal(err)
		}
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

func (w *world) beginRepair(t testing.TB, from, to int) {
	t.Helper()
	source, err := w.hosts[from].engine.Pin()
	if err != nil {
		return
	}
	response, tables, err := gather(source, w.hosts[to].engine)
	if err != nil {
		t.Fatal(err)
	}
	repair, err := w.hosts[to].engine.beginRepairFrom(name(from), response.Context, response.Heads, tables...)
	if err != nil {
		source.Close()
		return
	}
	must(t, w.hosts[to].engine.carry())
	repair.write = w.hosts[to].engine.stage
	response.Context, response.Heads = repair.target, repair.heads
	p := repair.puller()
	w.say("host %d repairs from %d", to, from)
	w.repairs = append(w.repairs, &session{
		from: from, to: to, fromEpoch: w.hosts[from].epoch, toEpoch: w.hosts[to].epoch,
		source: source, puller: p, repair: repair, response: response,
	})
}

// pieces are how large a source's responses are, in bytes, by its host.
var pieces = [2]int{1 << 10, 1 << 19}

// repairStep moves a repair on by one message, and reports whether it is over.
func (w *world) repairStep(t testing.TB, s *session) bool {
	t.Helper()
	to := w.hosts[s.to]
	if to.epoch != s.toEpoch {
		return true
	}
	if w.hosts[s.from].epoch != s.fromEpoch || w.cfg.crashes && w.rng.IntN(40) == 0 {
		if err := to.engine.AbortRepair(s.repair); err != nil {
			t.Fatal(err)
		}
		w.done["repair aborted"]++
		return true
	}
	request, done, err := s.puller.Handle(s.response)
	if errors.Is(err, errNotEmpty) { // it wrote something while it was filled
		if err := to.engine.AbortRepair(s.repair); err != nil {
			t.Fatal(err)
		}
		w.done["filling ended"]++
		return true
	}
	if err != nil {
		t.Fatalf("host %d repairs from %d: %v", s.to, s.from, err)
	}
	if done {
		err := to.engine.FinishRepair(s.repair)
		if errors.Is(err, ErrForked) {
			w.say("host %d does not take over what is across a fork", s.to)
			return true
		}
		if errors.Is(err, errNotEmpty) {
			w.done["filling ended"]++
			return true
		}
		if err != nil {
			t.Fatal(err)
		}
		w.done["repair"]++
		w.say("host %d is repaired", s.to)
		return true
	}
	if s.response, err = antientropy.ServeIn(pieces[s.from%2], s.source, request); err != nil {
		t.Fatal(err)
	}
	return false
}

func (w *world) stepRepairs(t testing.TB) bool {
	if len(w.repairs) == 0 {
		return false
	}
	i := w.rng.IntN(len(w.repairs))
	if s := w.repairs[i]; w.repairStep(t, s) {
		s.source.Close()
		w.repairs = slices.Delete(w.repairs, i, i+1)
	}
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
	case p < 25:
		w.transact(t, h)
	case p < 50:
		w.pump(t, i, j)
	case p < 75:
		w.deliver(t, i, j)
	case p < 82:
		h.engine.Tick(h.engine.Repairing())
		h.engine.SendDigest(w.rng)
	case p < 86:
		w.connect(i, j)
	case p < 88:
		w.cut(i, j)
	case p < 94:
		w.stepRepairs(t)
	case p < 97:
		w.upkeep(t, h)
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

func (w *world) upkeep(t testing.TB, h *host) bool {
	t.Helper()
	more, err := h.engine.Sweep()
	if err != nil {
		t.Fatal(err)
	}
	if h.engine.beginStep(); w.rng.IntN(3) == 0 {
		return h.maintain(t, w.now) || more
	}
	_, err = h.engine.Maintain(w.now)
	if err != nil {
		t.Fatal(err)
	}
	return more
}

// settle heals everything and runs until nothing is left to say.
func (w *world) settle(t testing.TB) {
	t.Helper()
	for i := range w.hosts {
		for j := range i {
			w.connect(i, j)
		}
	}
	w.cfg.crashes = false
	for round := 0; ; round++ {
		busy := false
		for i, h := range w.hosts {
			busy = w.upkeep(t, h) || busy
			for j := range w.hosts {
				busy = w.pump(t, i, j) || busy
				busy = w.deliver(t, i, j) || busy
			}
		}
		busy = w.stepRepairs(t) || busy
		if !busy {
			if w.agreed() {
				return
			}
			for _, h := range w.hosts {
				h.engine.Tick(h.engine.Repairing())
				h.engine.SendDigest(w.rng)
			}
		}
		if round > 20_000 {
			t.Fatalf("no agreement after %d rounds: %s", round, w.describe())
		}
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
