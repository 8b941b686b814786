package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
	"github.com/peerd/peerd/store/space"
)

// hall is a store and a log that several replicas share.
type hall struct {
	tree *mem.Store
	log  *mem.Log
	from []store.Position // where each one's records begin
}

// openAll opens the replicas over what is there.
func (l *hall) openAll(t *testing.T, cfg Config) (engines []*Engine) {
	t.Helper()
	c := space.NewCommitter(l.log)
	logs := make([]store.Log, len(l.from))
	for i, from := range l.from {
		logs[i] = c.Log(space.Number(i+1), from)
	}
	for i, log := range logs {
		r, err := open(space.NewTree(l.tree, space.Number(i+1)), log, cfg)
		if err != nil || r.Damaged() != nil {
			t.Fatalf("replica %d: %v, %v", i, err, r.Damaged())
		}
		engines = append(engines, newEngine(r))
	}
	return engines
}

// put writes under a key of an engine's.
func (w *world) put(t *testing.T, n *Engine, key string, value []byte) {
	t.Helper()
	w.write(t, &host{engine: n}, func(f crdt.Fields) error { return f.String(key).Set(value) })
}

func (w *world) wantValue(t *testing.T, n *Engine, key string, want int) {
	t.Helper()
	v := n.View()
	defer v.Close()
	if got, ok := Fields(v).String(key).Get(); ok != (want >= 0) || ok && len(got) != want {
		t.Fatalf("%s has %d bytes (%v), want %d", key, len(got), ok, want)
	}
}

// maintainAll has all do what there is to be done.
func (w *world) maintainAll(t *testing.T, engines []*Engine) {
	t.Helper()
	for _, n := range engines {
		w.maintain(t, &host{engine: n})
	}
}

// TestAnIdleReplicaHoldsNobodysLogBack writes to one of several replicas that share a log. The others, of which one has
// a record in it and one nothing at all, are checkpointed, and what they no longer need is cut. After a power
// failure each finds what it had.
func TestAnIdleReplicaHoldsNobodysLogBack(t *testing.T) {
	const maxLog = 64 << 10
	w := newWorld(t, 1, worldConfig{})
	l := &hall{mem.New(), mem.NewLog(), []store.Position{0, 0, 0}}
	cfg := Config{NewID: w.newID, MaxLogBytes: maxLog}
	engines := l.openAll(t, cfg)
	busy := engines[0]
	w.put(t, engines[1], "once", make([]byte, 100))
	for i := range 1000 {
		w.put(t, busy, fmt.Sprint("key ", i%50), make([]byte, 1000+i))
		w.maintainAll(t, engines)
		for j, n := range engines {
			if n.LogBytes() > n.LogBound() {
				t.Fatalf("replica %d counts %d bytes of log after %d writes, bound %d", j, n.LogBytes(), i+1,
					n.LogBound())
			}
		}
		if size, bound := l.log.Size(), busy.LogBound(); i > 200 && size > bound {
			t.Fatalf("the log has %d bytes after %d writes, bound %d", size, i+1, bound)
		}
	}
	for _, cut := range []int64{0, 1 << 20} { // power fails, then the process is killed
		w.put(t, busy, "last", make([]byte, 10))
		if err := busy.logs.(store.Log).Sync(); err != nil {
			t.Fatal(err)
		}
		l.tree, l.log = l.tree.Crash(), l.log.Crash(cut)
		engines = l.openAll(t, cfg)
		busy = engines[0]
		w.wantValue(t, busy, "last", 10)
		w.wantValue(t, busy, "key 49", 1999)
		w.wantValue(t, busy, "once", -1)
		w.wantValue(t, engines[1], "once", 100)
		w.wantValue(t, engines[2], "once", -1)
	}
}

// writeMuch has the first of several engines write four times as much as their log may hold, and all do what there is
// to be done.
func (w *world) writeMuch(t *testing.T, engines []*Engine) {
	t.Helper()
	for i := range 128 {
		w.put(t, engines[0], fmt.Sprint(i%20), make([]byte, 1000))
		w.maintainAll(t, engines)
	}
}

// besideABusyOne opens a replica that is new in a log to which another one has written much.
func (w *world) besideABusyOne(t *testing.T) (l *hall, cfg Config, engines []*Engine) {
	t.Helper()
	l = &hall{mem.New(), mem.NewLog(), []store.Position{0}}
	cfg = Config{NewID: w.newID, MaxLogBytes: 32 << 10}
	w.writeMuch(t, l.openAll(t, cfg))
	must(t, l.log.Sync())
	l.from = append(l.from, l.log.Synced())
	return l, cfg, l.openAll(t, cfg)
}

// TestAFillingKeepsNothingOfTheLog has a replica be filled, or wait for the rest, while another one writes to their
// log. That is cut, and what came stays.
func TestAFillingKeepsNothingOfTheLog(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	source := w.hosts[0].engine
	w.fillMixed(t, w.hosts[0])
	for _, waits := range []bool{false, true} {
		l, _, engines := w.besideABusyOne(t)
		filled := engines[1]
		var p *Pull
		if waits {
			_, err := repairSome(source, filled, 6)
			must(t, err)
		} else {
			p = filled.compares(t, source)
		}
		w.writeMuch(t, engines)
		if size, bound := l.log.Size(), engines[0].LogBound(); size > bound {
			t.Errorf("the filling waits: %v, and the log has %d bytes, bound %d", waits, size, bound)
		}
		if !waits {
			filled.Fail(p, errNoStream)
			must(t, filled.carry())
		}
		if !filled.Parked() {
			t.Fatalf("the filling waits: %v, and what came is given up for what others write", waits)
		}
		must(t, repairAll(source, filled))
		if _, root, _ := filled.Digest(); root != source.tree.Root() {
			t.Errorf("the filling waits: %v, and does not become what its source holds", waits)
		}
	}
}

// TestAFillingSurvivesThatItsCheckpointMoves ends the process, or the power, before and after each step of that.
func TestAFillingSurvivesThatItsCheckpointMoves(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	source := w.hosts[0].engine
	w.fillMixed(t, w.hosts[0])
	for _, power := range []bool{false, true} {
		for steps := range 4 {
			l, cfg, engines := w.besideABusyOne(t)
			_, err := repairSome(source, engines[1], 6)
			must(t, err)
			if steps > 0 { // it is written
				_, err := engines[1].Maintain(w.now)
				must(t, err)
			}
			if steps > 1 { // and durable
				s := engines[1].beginSync()
				must(t, s.Run(l.tree, l.log))
				engines[1].SyncEnded(s)
			}
			if steps > 2 { // and the log is cut
				w.writeMuch(t, engines)
			}
			if power {
				l.tree, l.log = l.tree.Crash(), l.log.Crash(0)
			}
			engines = l.openAll(t, cfg)
			w.maintainAll(t, engines)
			filled := engines[1]
			if waits := filled.Parked(); waits == (power && steps < 2) || filled.Recounted() != nil {
				t.Errorf("power fails: %v, after %d steps: what came waits: %v, a doubt: %v", power, steps, waits,
					filled.Recounted())
			}
			must(t, repairAll(source, filled))
			if _, root, _ := filled.Digest(); root != source.tree.Root() {
				t.Errorf("power fails: %v, after %d steps: it does not become what its source holds", power, steps)
			}
		}
	}
}

// TestALogIsNotLongForWhatOthersWroteToIt asks a replica with two small records, between which another wrote much, whether
// somebody who has nothing gets its log; also once it was opened again, with a checkpoint and without.
func TestALogIsNotLongForWhatOthersWroteToIt(t *testing.T) {
	w := newWorld(t, 1, worldConfig{})
	l := &hall{mem.New(), mem.NewLog(), []store.Position{0, 0}}
	cfg := Config{NewID: w.newID, MaxLogBytes: 80_000}
	engines := l.openAll(t, cfg)
	w.put(t, engines[0], "first", make([]byte, 100))
	for i := range 30 {
		w.put(t, engines[1], fmt.Sprint("key ", i), make([]byte, 1000))
	}
	w.put(t, engines[0], "last", make([]byte, 100))
	for _, opened := range []string{"before", "after a crash", "after a checkpoint"} {
		if _, covered := engines[0].LogStart(nil); !covered {
			t.Errorf("%s: a small space's log is not offered: others wrote to it", opened)
		}
		if _, covered := engines[1].LogStart(nil); covered {
			t.Errorf("%s: a long log is offered to who has nothing", opened)
		}
		if opened == "after a crash" {
			w.maintainAll(t, engines)
		}
		engines = l.openAll(t, cfg)
	}
}

// TestAReplicaBeginsInALogThatWasCut opens a new one beside another whose log no longer reaches to its beginning, and
// again after a crash before its first checkpoint.
func TestAReplicaBeginsInALogThatWasCut(t *testing.T) {
	w := newWorld(t, 1, worldConfig{})
	l := &hall{mem.New(), mem.NewLog(), []store.Position{0}}
	cfg := Config{NewID: w.newID, MaxLogBytes: 20_000}
	engines := l.openAll(t, cfg)
	for range 100 {
		w.put(t, engines[0], "key", make([]byte, 1000))
		w.maintainAll(t, engines)
	}
	w.put(t, engines[0], "key", make([]byte, 1000))
	if l.log.First() == 0 {
		t.Fatal("nothing was cut")
	}
	l.from = append(l.from, l.log.Synced())
	if err := l.tree.Sync(); err != nil {
		t.Fatal(err)
	}
	engines = l.openAll(t, cfg)
	w.put(t, engines[1], "new", make([]byte, 7))
	for _, n := range engines {
		w.wantValue(t, n, "key", map[bool]int{true: 1000, false: -1}[n == engines[0]])
	}
	l.tree, l.log = l.tree.Crash(), l.log.Crash(1<<20)
	engines = l.openAll(t, cfg)
	w.wantValue(t, engines[1], "new", 7)
}

// TestARebuildReadsNothingThatItsReplicaGaveUp has a replica discard its cells while another one keeps the log from
// before what the first one has given up, and cuts it then.
func TestARebuildReadsNothingThatItsReplicaGaveUp(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	l := &hall{mem.New(), mem.NewLog(), []store.Position{0, 0}}
	nodes := l.openAll(t, Config{NewID: w.newID, MaxLogBytes: 20_000})
	w.put(t, nodes[1], "early", nil)
	for range 100 {
		w.put(t, nodes[0], "key", make([]byte, 1000))
		w.maintainAll(t, nodes[:1])
	}
	if l.log.First() != 0 {
		t.Fatal("the other replica does not keep the log")
	}
	nodes[0].setDamaged(errors.New("rot"))
	if err := nodes[0].Discard(); err != nil {
		t.Fatal(err)
	}
	w.maintainAll(t, nodes[1:])
	if l.log.First() == 0 {
		t.Fatal("nothing was cut")
	}
	w.hosts[0].engine = nodes[0]
	w.connect(0, 1)
	for range 10 {
		w.healRound(t)
	}
	if !nodes[0].CaughtUp() {
		t.Fatal("the rebuild was never tried to end")
	}
}

// TestARebuildNamesWhatIsSynced has another space append between any two steps of a discard.
func TestARebuildNamesWhatIsSynced(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, shared: true})
	h := w.hosts[0]
	w.write(t, h, counted(1))
	h.engine.setDamaged(errors.New("rot"))
	h.engine.discard()
	log := h.engine.logs.(*busyLog)
	for h.engine.Busy() {
		_, _, err := log.beside.Append(make([]byte, 50))
		must(t, err)
		must(t, h.engine.goOn())
		must(t, CarryOut(h.engine.writes, h.engine.st.(store.Store), log))
		h.engine.written()
	}
	if named, synced := Durable(h.engine.st), log.Synced(); named > synced {
		t.Errorf("the checkpoint ends at %d, and the log is synced to %d", named, synced)
	}
}

// TestMaintainingAnIdleReplicaCostsNothing calls it when nothing changed.
func TestMaintainingAnIdleReplicaCostsNothing(t *testing.T) {
	w := newWorld(t, 1, worldConfig{})
	l := &hall{mem.New(), mem.NewLog(), []store.Position{0, 0}}
	engines := l.openAll(t, Config{NewID: w.newID})
	for i := range 2000 {
		w.put(t, engines[0], fmt.Sprint(i), make([]byte, 1000))
	}
	w.put(t, engines[1], "new", nil)
	w.maintainAll(t, engines)
	h := &host{engine: engines[1]}
	if n := testing.AllocsPerRun(100, func() { w.maintain(t, h) }); n != 0 {
		t.Errorf("an idle replica makes %v allocations", n)
	}
}

// TestAnIdleReplicasLogIsReadToItsEnd and not behind it, where the records of others stand.
func TestAnIdleReplicasLogIsReadToItsEnd(t *testing.T) {
	const before, own = 100, 3
	w := newWorld(t, 1, worldConfig{})
	log := &countedLog{Log: mem.NewLog()}
	c, tree := space.NewCommitter(log), mem.New()
	var nodes []*Engine
	for i := range space.Number(2) {
		r, err := open(space.NewTree(tree, i+1), c.Log(i+1, 0), Config{NewID: w.newID})
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, newEngine(r))
	}
	busy, idle := nodes[0], nodes[1]
	for i := range 2 * before {
		w.put(t, busy, fmt.Sprint(i), nil)
		if i == before {
			for range own {
				w.put(t, idle, "key", nil)
			}
		}
	}
	idle.log.recent, idle.log.recentBytes = nil, 0 // so that it is the log that is read
	log.read = 0
	var got int
	next, covered, err := idle.LogRead(idle.log.First, 1000, func(*delta.Delta) bool { got++; return true })
	if err != nil || !covered || next != idle.LogEnd() || got != own {
		t.Fatalf("%d deltas up to record %d (%v, %v), want %d up to %d", got, next, covered, err, own, idle.LogEnd())
	}
	if log.read != own {
		t.Errorf("%d records of the log were read for %d", log.read, own)
	}
}

// countedLog counts the records that are read from a log.
type countedLog struct {
	store.Log
	read int
}

func (l *countedLog) Read(at store.Position, buf []byte) (store.LogReader, error) {
	r, err := l.Log.Read(at, buf)
	return &countedReader{r, l}, err
}

type countedReader struct {
	store.LogReader
	log *countedLog
}

func (r *countedReader) Next() (store.Record, error) {
	r.log.read++
	return r.LogReader.Next()
}
