package engine

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// steps has a host's engine take steps, and calls fn after the writes of each.
func (h *host) steps(t *testing.T, n int, fn func(rd *Ready)) {
	t.Helper()
	now := h.engine.now
	for range n {
		now = now.Add(tickEvery)
		must(t, h.engine.Step(now, now))
		rd := h.engine.Ready()
		must(t, CarryOut(rd.Writes, h.disk, h.disk.log))
		fn(rd)
		h.engine.Advance()
		if rd.Sync != nil {
			must(t, h.engine.endSync(rd.Sync))
		}
	}
}

// pulls has an engine begin to pull from another, and returns the moment that it is to ask.
func (e *Engine) pulls(t testing.TB, from *Engine) (p *Pull, source *Pinned) {
	t.Helper()
	source, err := from.Pin()
	must(t, err)
	t.Cleanup(source.Close)
	e.Connect("1", 1)
	e.startPull("1")
	return e.pull, source
}

// compares has that go on until the comparison begins, with nothing fetched.
func (e *Engine) compares(t testing.TB, from *Engine) *Pull {
	t.Helper()
	p, source := e.pulls(t, from)
	must(t, e.drive(p, source, 0, func() bool { return p.repair == nil }))
	return p
}

// drive has a pull ask a source, whose answers are as large as antientropy.ServeIn has them, for as
// long as goesOn says, or until it is over.
func (e *Engine) drive(p *Pull, source *Pinned, pieces int, goesOn func() bool) (err error) {
	for question, asks := p.Start(), true; err == nil && goesOn(); {
		if asks {
			var answer antientropy.Response
			if answer, err = antientropy.ServeIn(pieces, source, question); err == nil {
				answer, err = antientropy.DecodeResponse(antientropy.EncodeResponse(answer))
			}
			if err == nil {
				question, asks, err = p.Go(answer, e.stage)
			}
			continue
		}
		e.Take(p)
		for !p.Over && (p.repair == nil || p.fetched) {
			if _, err := e.stepAlone(e.now); err != nil {
				return err
			}
		}
		if p.Over {
			return p.Err
		}
		question, asks, err = p.Resume(e.stage)
	}
	return err
}

// TestWhoHasNothingIsSentToCellsInsteadOfALongLog asks a replica whose log covers everything
// where others begin in it.
func TestWhoHasNothingIsSentToCellsInsteadOfALongLog(t *testing.T) {
	w := newWorld(t, 6, worldConfig{hosts: 1})
	a := w.hosts[0]
	w.fillMixed(t, a)
	begins := func(theirs crdt.VersionVector) bool {
		_, covered := a.engine.LogStart(theirs)
		return covered
	}
	if !begins(nil) {
		t.Error("a short log is not offered to who has nothing")
	}
	all := a.engine.LogBytes()
	a.engine.SetLimits(0, 8*all-8, 0)
	if begins(nil) {
		t.Error("a long log is offered to who has nothing")
	}
	if !begins(a.engine.Vector()) {
		t.Error("a long log is not offered to who has a part")
	}
}

// beginsFilling returns a host that has begun to be filled, and the moment that it is filled from.
func beginsFilling(t *testing.T, seed uint64) (*world, *host, *Pinned) {
	t.Helper()
	w := newWorld(t, seed, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	_, source := b.engine.pulls(t, a.engine)
	return w, b, source
}

// TestNothingIsToldOfAFillingBeforeItIsWritten has somebody linked who takes frames while a
// filling ends: what they are told is there after a crash.
func TestNothingIsToldOfAFillingBeforeItIsWritten(t *testing.T) {
	w, b, source := beginsFilling(t, 6)
	e, p := b.engine, b.engine.pull
	must(t, e.drive(p, source, 0, func() bool { return !p.fetched }))
	e.Take(p)
	told := 0
	for during := true; during; {
		during = e.Busy()
		e.Connect("2", 1) // it takes a hello, which says all
		b.steps(t, 1, func(rd *Ready) {
			for range rd.Frames {
				told++
				r, err := openAt(b.disk.Clone(), Config{NewID: w.newID})
				must(t, err)
				if !r.seen.Contains(e.seen) {
					t.Fatalf("told of %v, and a crash leaves %v", e.seen, r.seen)
				}
			}
		})
	}
	if told == 0 {
		t.Error("nothing was ever told")
	}
}

// TestAFillingThatWaitsGivesItsRoomBack when the disk becomes scarce: no source may go on with it.
func TestAFillingThatWaitsGivesItsRoomBack(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	_, err := repairSome(a.engine, b.engine, 6)
	must(t, err)
	if !b.engine.Parked() {
		t.Fatal("nothing waits")
	}
	b.engine.SetRoom(Scarce, store.ErrNoSpace)
	b.steps(t, 200, func(*Ready) {})
	if b.engine.fills() {
		t.Errorf("it still waits, with %d records", len(recordsOf(t, b.disk)))
	}
}

// TestARepairIsNotTakenOverOnAFullDisk has the disk fill up when that has begun: nothing is written, who asks for
// something is told, and a stop is not held up. What was begun is ended once there is room, or by the next start with
// room.
func TestARepairIsNotTakenOverOnAFullDisk(t *testing.T) {
	for _, stops := range []bool{false, true} {
		w, b, p := fetchedRepair(t)
		b.takesOver(t, p)
		b.engine.SetRoom(Full, store.ErrNoSpace)
		asks := wishFor(func(*Tx) error { return nil })
		b.engine.Submit(asks)
		closed := false
		nothing := func(rd *Ready) {
			if len(rd.Writes) > 0 {
				t.Errorf("%d things are written to a full disk", len(rd.Writes))
			}
			if rd.Again {
				t.Error("it has something to do at once, and no room to do it")
			}
			closed = rd.Closed
		}
		b.steps(t, 20, nothing)
		if err := errors.Join(asks.errs...); !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("who asks for something is told: %v", err)
		}
		if stops {
			b.engine.Stop()
			if b.steps(t, 1, nothing); !closed {
				t.Error("a stop waits for room")
			}
			b.disk = b.disk.Clone()
			there, end := len(recordsOf(t, b.disk)), b.disk.log.Next()
			if _, err := openAt(b.disk, Config{NewID: w.newID, Full: true}); !errors.Is(err, store.ErrNoSpace) {
				t.Errorf("a start on the full disk returns %v, want %v", err, store.ErrNoSpace)
			}
			if n := len(recordsOf(t, b.disk)); n != there || b.disk.log.Next() != end {
				t.Errorf("a start on the full disk writes: of %d records there are %d", there, n)
			}
			w.open(t, b)
		} else {
			b.engine.SetRoom(Roomy, nil)
			b.steps(t, 300, func(*Ready) {})
		}
		if b.engine.Busy() || b.engine.Lacks(w.hosts[0].engine.Vector()) {
			t.Errorf("it was stopped: %v, and what was begun is not ended: it has %v", stops, b.engine.seen)
		}
		w.check(t, b)
	}
}

// TestNothingIsRemovedAtAStartOnAFullDisk has one find that all is to be removed, for a rebuild or after a filling.
func TestNothingIsRemovedAtAStartOnAFullDisk(t *testing.T) {
	for _, mark := range []struct{ key, record []byte }{
		{keyRebuild, (&rebuild{phase: rebuildDiscards}).encode((&replica{}).writeOwn)},
		{keyFilling, fillingMark{over: true}.encode()},
	} {
		w := newWorld(t, 1, worldConfig{hosts: 1})
		h := w.hosts[0]
		w.fillMixed(t, h)
		write(t, h.disk, mark.key, mark.record)
		there := len(recordsOf(t, h.disk))
		if _, err := openAt(h.disk.Clone(), Config{NewID: w.newID}); err != nil {
			t.Fatal(err)
		}
		if _, err := openAt(h.disk, Config{NewID: w.newID, Full: true}); !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("with %q a start on a full disk returns %v, want %v", mark.key, err, store.ErrNoSpace)
		}
		if n := len(recordsOf(t, h.disk)); n != there {
			t.Errorf("with %q a start on a full disk leaves %d of %d records", mark.key, n, there)
		}
	}
}

// fetchedRepair returns a world whose second host has fetched and staged a repair from the first, and taken nothing of it.
func fetchedRepair(t *testing.T) (w *world, b *host, p *Pull) {
	t.Helper()
	w = newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	w.write(t, b, put("own")) // so that it stages
	return w, b, b.fetch(t, a)
}

// fetch has a host fetch and stage a repair from another, and take nothing of it.
func (h *host) fetch(t *testing.T, from *host) *Pull {
	t.Helper()
	p, source := h.engine.pulls(t, from.engine)
	must(t, h.engine.drive(p, source, 0, func() bool { return !p.fetched }))
	return p
}

// takesOver has a host begin to take a repair over.
func (h *host) takesOver(t *testing.T, p *Pull) {
	t.Helper()
	h.engine.Take(p)
	for i := 0; i < 10 && h.engine.flip == nil; i++ {
		h.steps(t, 1, func(*Ready) {})
	}
	if h.engine.flip == nil {
		t.Fatal("the repair is not taken over")
	}
}

// TestWhatWasStagedWaitsForRoomAfterAStart has a host killed that had staged a repair, and started on a full disk.
func TestWhatWasStagedWaitsForRoomAfterAStart(t *testing.T) {
	w, b, _ := fetchedRepair(t)
	staged := func() (n int) {
		snap := b.disk.Snapshot()
		defer snap.Close()
		must(t, snap.ScanKeys([]byte{prefixStage}, []byte{prefixStage + 1}, func([]byte) bool { n++; return true }))
		return n
	}
	b.disk = b.disk.Clone()
	before, end := staged(), b.disk.log.Next()
	if before == 0 {
		t.Fatal("nothing is staged")
	}
	r, err := openAt(b.disk, Config{NewID: w.newID, Full: true})
	must(t, err)
	b.engine, b.gathering = newEngine(r), nil
	b.engine.SetRoom(Full, store.ErrNoSpace)
	b.steps(t, 20, func(*Ready) {})
	if n := staged(); n != before || b.disk.log.Next() != end {
		t.Errorf("something is written to a full disk: of %d records that were staged there are %d", before, n)
	}
	v := b.engine.View()
	if value, _ := Fields(v).Register("r").Get(); string(value) != "own" {
		t.Error("reads are not served")
	}
	v.Close()
	b.engine.SetRoom(Roomy, nil)
	b.steps(t, 300, func(*Ready) {})
	if n := staged(); n != 0 || b.engine.Busy() {
		t.Errorf("with room there are still %d records that were staged", n)
	}
	w.check(t, b)
}

// stepLinked has a host take what others have sent it, and a step.
func (w *world) stepLinked(t *testing.T, h *host) {
	t.Helper()
	for j := range w.hosts {
		w.hand(j, h.i)
		if l := w.links[[2]int{h.i, j}]; l != nil {
			h.engine.Takes(name(j), LinkFrames-len(l.frames))
		}
	}
	rd, err := h.engine.takeStep(w.now)
	must(t, err)
	if w.act(t, h, rd); h.sync != nil {
		must(t, h.engine.endSync(h.sync))
		h.sync = nil
	}
}

// TestWhatWaitsForRoomKeepsNoWriteFromNeighbours has a disk be full while a repair is taken over,
// or after a start that finds the stage of one: what was written here, and nobody else has, goes to
// a neighbour all the same.
func TestWhatWaitsForRoomKeepsNoWriteFromNeighbours(t *testing.T) {
	for name, begins := range map[string]func(w *world, b *host, p *Pull){
		"taking over": func(w *world, b *host, p *Pull) { b.takesOver(t, p) },
		"a stage that is to go": func(w *world, b *host, p *Pull) {
			b.disk = b.disk.Clone()
			r, err := openAt(b.disk, Config{NewID: w.newID, Full: true})
			must(t, err)
			b.engine, b.gathering = withNeighbours(r, w.rng, w.now), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, b, p := fetchedRepair(t)
			begins(w, b, p)
			b.engine.SetRoom(Full, store.ErrNoSpace)
			if !b.engine.stalled() {
				t.Fatal("nothing waits for room")
			}
			b.engine.Disconnect("1") // by which it has fetched
			w.connectAll()
			there := len(recordsOf(t, b.disk))
			for range 50 {
				w.now = w.now.Add(tickEvery)
				for _, h := range w.hosts {
					w.stepLinked(t, h)
				}
			}
			v := w.hosts[0].engine.View()
			defer v.Close()
			if value, _ := Fields(v).Register("r").Get(); string(value) != "own" {
				t.Errorf("the neighbour has %q", value)
			}
			if n := len(recordsOf(t, b.disk)); n != there {
				t.Errorf("of %d records there are %d", there, n)
			}
		})
	}
}

// TestTheLogIsReadWithoutACheckpointOnAFullDisk has a host be killed with more in its log than
// memory is to hold, or a longer one than it may be, and be started on a full disk.
func TestTheLogIsReadWithoutACheckpointOnAFullDisk(t *testing.T) {
	for name, limits := range map[string]Config{
		"more changes than may wait": {MaxDirty: 3000}, "a longer log than is kept": {MaxLogBytes: 3000},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, worldConfig{hosts: 1})
			h := w.hosts[0]
			for i := range 100 {
				w.write(t, h, func(f crdt.Fields) error { return f.String(fmt.Sprint(i)).Set([]byte("x")) })
			}
			h.disk = h.disk.Clone()
			there := len(recordsOf(t, h.disk))
			limits.NewID, limits.Full = w.newID, true
			r, err := openAt(h.disk, limits)
			must(t, err)
			h.engine, h.gathering = newEngine(r), nil
			h.engine.SetRoom(Full, store.ErrNoSpace)
			h.steps(t, 20, func(*Ready) {})
			if n := len(recordsOf(t, h.disk)); n != there {
				t.Errorf("of %d records there are %d", there, n)
			}
			w.check(t, h)
			h.engine.SetRoom(Roomy, nil)
			h.steps(t, 300, func(*Ready) {})
			if h.engine.late() || h.engine.unsaved() {
				t.Error("with room it is not written")
			}
			w.check(t, h)
		})
	}
}

// TestACheckpointDoesNotGoOnOnAFullDisk has the disk fill up while one is under way.
func TestACheckpointDoesNotGoOnOnAFullDisk(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, maxBatch: 10})
	h := w.hosts[0]
	w.write(t, h, func(f crdt.Fields) error {
		for i := range 500 {
			if err := f.String(fmt.Sprint(i)).Set([]byte("x")); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, h.disk.log.Sync())
	h.steps(t, 1, func(*Ready) {})
	if h.engine.saving == nil {
		t.Fatal("no checkpoint is under way")
	}
	h.engine.SetRoom(Full, store.ErrNoSpace)
	h.steps(t, 20, func(rd *Ready) {
		if len(rd.Writes) > 0 {
			t.Errorf("%d things are written to a full disk", len(rd.Writes))
		}
	})
}

// TestAFillingOfWhichSomethingWasNotWrittenDoesNotGoOn, whatever ended it: what is missing would be behind no source's
// beginning.
func TestAFillingOfWhichSomethingWasNotWrittenDoesNotGoOn(t *testing.T) {
	for _, lost := range []bool{false, true} {
		_, b, source := beginsFilling(t, 1)
		p := b.engine.pull
		asked := 0
		must(t, b.engine.drive(p, source, 4096, func() bool { asked++; return asked < 8 }))
		if lost {
			p.Unwritten()
		}
		b.engine.Fail(p, errors.New("the stream was reset"))
		b.steps(t, 200, func(*Ready) {})
		if goesOn := b.engine.Parked(); goesOn == lost {
			t.Errorf("something is lost: %v, and the filling waits: %v", lost, goesOn)
		}
	}
}

// TestARottenRecordEndsAFillingThatWaits: the next source begins anew, and does not come upon it
// again.
func TestARottenRecordEndsAFillingThatWaits(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	_, err := repairSome(a.engine, b.engine, 6)
	must(t, err)
	for _, kv := range recordsOf(t, b.disk) {
		if bytes.HasPrefix(kv[0], append([]byte{prefixCell}, "r0\x00"...)) {
			kv[1][len(kv[1])/2] ^= 1
			write(t, b.disk, kv[0], kv[1])
		}
	}
	w.write(t, a, func(f crdt.Fields) error { return f.Register("r0").Set([]byte("new")) })
	for attempt := range 3 {
		p, source := b.engine.pulls(t, a.engine)
		if p == nil {
			t.Fatal("no repair began")
		}
		err := b.engine.drive(p, source, 0, func() bool { return !p.fetched })
		if err == nil {
			return
		}
		b.engine.Fail(p, err)
		b.steps(t, 50, func(*Ready) {})
		t.Logf("attempt %d failed: %v", attempt, p.Err)
	}
	t.Error("it comes upon the record each time")
}

// TestWhatAKillLeavesOfAFillingThatIsGivenUpIsNotGoneOnWith kills a replica after each step of the removal: a part of the cells
// is gone then, and what was computed from them is there.
func TestWhatAKillLeavesOfAFillingThatIsGivenUpIsNotGoneOnWith(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	for i := range 4 {
		w.write(t, a, func(f crdt.Fields) error {
			for j := range 500 {
				if _, err := f.Counter(fmt.Sprint("a", i, "-", j)).Add(3); err != nil {
					return err
				}
				if _, err := f.Set(fmt.Sprint("b", i, "-", j)).Add("member"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for i := range 60 {
		w.write(t, a, func(f crdt.Fields) error { return f.Register(fmt.Sprint("r", i)).Set(make([]byte, 40_000)) })
	}
	_, err := repairSome(a.engine, b.engine, 6)
	must(t, err)
	if !b.engine.Parked() {
		t.Fatal("no filling waits")
	}
	before := b.disk
	for steps, left := 0, true; left; steps++ {
		b.disk = before.Clone()
		w.open(t, b)
		b.engine.SetRoom(Scarce, store.ErrNoSpace)
		b.steps(t, steps, func(*Ready) {})
		left = b.engine.fills()
		b.disk = b.disk.Clone()
		w.open(t, b)
		must(t, repairAll(a.engine, b.engine))
		checkWhole(t, b.engine.replica)
	}
}

// TestADigestIsOfOneState: the cells of a filling are taken over before what it has seen, and a disk
// without room may be in between for long.
func TestADigestIsOfOneState(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	nothing, empty, _ := b.engine.Digest()
	between := false
	look := func() {
		context, root, settled := b.engine.Digest()
		mixed := (context == nothing) != (root == empty)
		if mixed && settled {
			t.Error("a digest has the cells of one state, and what another has seen")
		}
		between = between || mixed
	}
	p, source := b.engine.pulls(t, a.engine)
	must(t, b.engine.drive(p, source, 0, func() bool { return !p.fetched }))
	b.engine.Take(p)
	look()
	for b.engine.Busy() {
		must(t, b.engine.goOn())
		look()
		if len(b.engine.writes) > 0 {
			must(t, CarryOut(b.engine.writes, b.disk, b.disk.log))
			b.engine.written()
		}
	}
	if !between || b.engine.fills() {
		t.Errorf("in between a digest was looked at: %t; it still fills: %t", between, b.engine.fills())
	}
}

// TestWhatAKillLeavesOfTheCellThatWasComingGoes kills a replica between any two writes of a filling. Then its source has
// nothing any more of what was coming: the tree is not to have it either.
func TestWhatAKillLeavesOfTheCellThatWasComingGoes(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	for _, key := range []string{"a", "b", "d"} {
		w.write(t, a, func(f crdt.Fields) error { return f.Register(key).Set(make([]byte, maxPiece+1)) })
	}
	g := a.engine.newGroup(w.now)
	for i := range 200 { // values of one register, together of more than a record
		d := &delta.Delta{Replica: crdt.ReplicaID(1000 + i), First: 1, Time: dotted.Time(i + 1), Ops: []delta.Op{{
			Kind: delta.OpPut, Address: dotted.KeyAddress("c").Type(crdt.TypeString), Payload: make([]byte, maxInline),
		}}}
		if outcome, err := g.apply(d); err != nil || outcome != gossip.Applied {
			t.Fatal(outcome, err)
		}
	}
	w.commit(t, a, g)
	first, parked := a.disk, 0
	for deaths, died := 0, true; died; deaths++ {
		a.disk, b.disk = first.Clone(), w.newDisk()
		w.open(t, a)
		st := &failing{disk: b.disk, left: 1 << 30}
		n := w.opened(t, st)
		st.left = deaths
		err := repairAll(a.engine, n)
		if died = errors.Is(err, errDied); !died {
			must(t, err)
		}
		b.disk = b.disk.Clone()
		w.open(t, b)
		parked += gain(false, b.engine.Parked())
		w.clearAll(t, a)
		w.write(t, a, func(f crdt.Fields) error { return f.Register("e").Set([]byte("x")) })
		must(t, repairAll(a.engine, b.engine))
		w.check(t, b)
		w.clearAll(t, b)
		wantNothing(t, fmt.Sprintf("after death %d", deaths), b.disk)
	}
	if parked < 5 {
		t.Errorf("after %d deaths a filling went on: too few to show anything", parked)
	}
}
