package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

// besider is a host that does what goes beside its engine when a test says so.
type besider struct {
	*testing.T
	disk *disk
	e    *Engine
	now  time.Time
	n    int
}

// puts is an update: transactions that each write a key, from one on.
type puts struct {
	t       *testing.T
	from, n int
}

func (p *puts) Begin() bool { return true }
func (p *puts) Len() int    { return p.n }
func (p *puts) Run(i int, tx *Tx) error {
	return Fields(tx).String(fmt.Sprint("key", p.from+i)).Set(make([]byte, 100))
}
func (p *puts) Ran(_ int, err error) { must(p.t, err) }

func newBesider(t *testing.T) *besider {
	b := &besider{T: t, disk: newDisk(), now: time.UnixMilli(1e12)}
	id := crdt.ReplicaID(0)
	cfg := Config{NewID: func() crdt.ReplicaID { id++; return id }, MaxDirty: 1 << 20, MaxBatch: 50, Beside: true}
	var err error
	b.e, err = Open(b.disk, b.disk.log, cfg, rand.New(rand.NewPCG(1, 1)), b.now)
	must(t, err)
	return b
}

// step takes a step, in which so many keys are written.
func (b *besider) step(writes int) *Ready {
	b.Helper()
	if writes > 0 {
		b.e.Submit(&puts{b.T, b.n, writes})
		b.n += writes
	}
	b.now = b.now.Add(tickEvery)
	must(b.T, b.e.Step(b.now, b.now))
	return b.e.Ready()
}

// done carries out what a Ready has, but for what goes beside it.
func (b *besider) done(rd *Ready) {
	b.Helper()
	must(b.T, CarryOut(rd.Writes, b.disk, b.disk.log))
	b.e.Advance()
	if rd.Sync != nil {
		must(b.T, rd.Sync.Run(b.disk, b.disk.log))
		b.e.SyncEnded(*rd.Sync)
	}
	if rd.Verify != nil {
		rd.Verify.Close()
	}
}

// untilBeside writes until a part of a checkpoint goes beside the engine.
func (b *besider) untilBeside() *Beside {
	b.Helper()
	for range 1000 {
		rd := b.step(20)
		b.done(rd)
		if rd.Beside != nil {
			return rd.Beside
		}
	}
	b.Fatal("no checkpoint begins")
	return nil
}

// wantAll fails unless readers of a disk that was opened anew, and of the engine, see all keys.
func (b *besider) wantAll(when string) {
	b.Helper()
	for where, r := range map[string]*replica{"memory": b.e.replica, "what was opened": openOn(b.T, b.disk.Clone(), 9)} {
		if got := len(keysOf(b.T, r)); got != b.n {
			b.Errorf("%s, %s has %d keys, want %d", when, where, got, b.n)
		}
	}
}

// TestCommitsDoNotWaitForACheckpoint writes while a part of one is under way, and is killed before it is written, behind
// it, and once the engine was told.
func TestCommitsDoNotWaitForACheckpoint(t *testing.T) {
	b := newBesider(t)
	part := b.untilBeside()
	for range 20 {
		rd := b.step(20)
		if rd.Waits || rd.Beside != nil || len(rd.Answers) != 1 {
			t.Fatalf("waits %v, another part %v, %d answers", rd.Waits, rd.Beside != nil, len(rd.Answers))
		}
		b.done(rd)
	}
	b.wantAll("before it is written")
	must(t, part.Run(b.disk))
	b.wantAll("once it is written")
	b.e.BesideEnded()
	b.done(b.step(0))
	b.wantAll("once the engine was told")
	for parts := 0; b.e.saving != nil; parts++ {
		rd := b.step(1)
		b.done(rd)
		if rd.Beside != nil {
			must(t, rd.Beside.Run(b.disk))
			b.e.BesideEnded()
		}
		if parts > 1000 {
			t.Fatal("the checkpoint does not end")
		}
	}
	b.wantAll("after the checkpoint")
}

// TestATaskWaitsForWhatGoesBeside has all of it checkpointed at once while a part is under way, and does not ask to be
// called again until that has ended.
func TestATaskWaitsForWhatGoesBeside(t *testing.T) {
	b := newBesider(t)
	part := b.untilBeside()
	b.e.Checkpoint()
	for range 3 {
		rd := b.step(0)
		if len(rd.Writes) > 0 || rd.Again {
			t.Fatalf("a task writes %d times beside, or asks for more: %v", len(rd.Writes), rd.Again)
		}
		b.done(rd)
	}
	must(t, part.Run(b.disk))
	b.e.BesideEnded()
	for steps := 0; b.e.Busy(); steps++ {
		rd := b.step(0)
		if rd.Beside != nil {
			t.Fatal("something goes beside a task")
		}
		b.done(rd)
		if steps > 1000 {
			t.Fatal("it does not end")
		}
	}
	b.wantAll("after the checkpoint")
	if b.e.unsaved() {
		t.Error("not all is in the tree")
	}
}

// TestWhatIsWrittenToTheTreeWaitsForWhatGoesBeside finds damage, which is noted at once, while a part is under way.
func TestWhatIsWrittenToTheTreeWaitsForWhatGoesBeside(t *testing.T) {
	b := newBesider(t)
	b.untilBeside()
	b.e.judge(damaged([]byte{prefixCell}, errMissing))
	if rd := b.step(0); !rd.Waits {
		t.Errorf("%d writes do not wait", len(rd.Writes))
	}
}
