package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// TestConversations runs the scripts of testdata: what is asked of a few engines, and what each Ready says to that.
// After a change that is meant, -rewrite writes down what they say now.
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := newScript(t)
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
				s.t = t
				return s.command(d)
			})
		})
	}
}

// script is a conversation of a few engines, of which each does only what the script says. Frames, syncs, checks and the
// questions of repairs wait until it says that they go on; "stabilize" has everything go on until nothing waits.
type script struct {
	t       *testing.T
	begin   time.Time
	now     time.Time
	cfg     Config
	actors  []*actor
	updates int // so many were asked for
	quiet   bool
	out     strings.Builder
}

// actor is a host: an engine on a disk, and what waits to be done for it.
type actor struct {
	s    *script
	i    int // from 1 on
	ids  int // so many were drawn
	disk *disk
	e    *Engine // nil while it is down
	room Room

	due     bool // there is something to step for
	at      time.Time
	clocked int              // steps because of the time, since somebody asked
	frames  map[int][][]byte // on the way to here, by their senders
	taking  map[int]*Frame   // the engine has one of a link
	sync    *Syncing
	check   *Pinned
	errands []*errand
	logged  map[crdt.Dot]bool // dots whose deltas are in records that were written
	image   *image
	refuses bool // its last Ready said so
}

// errand is a repair that waits for its next question to be answered.
type errand struct {
	*Pull
	source   *actor
	question antientropy.Request
	asked    bool // the source was asked for a moment
	pinned   *Pinned
	refused  error
}

// image is one of a running machine.
type image struct {
	disk *disk
	id   crdt.ReplicaID
}

func newScript(t *testing.T) *script {
	now := time.UnixMilli(1e12)
	return &script{t: t, begin: now, now: now}
}

func (s *script) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

// command carries out a line of a script.
func (s *script) command(d *datadriven.TestData) string {
	var words []string
	s.quiet = false
	for _, a := range d.CmdArgs {
		switch {
		case a.Key == "quiet":
			s.quiet = true
		case len(a.Vals) == 0:
			words = append(words, a.Key)
		}
	}
	if d.Cmd == "hosts" {
		s.hosts(d, words)
	} else if run := commands[d.Cmd]; run != nil {
		run(s, words, d.Input)
	} else {
		s.t.Fatalf("%s: no command %q", d.Pos, d.Cmd)
	}
	said := s.out.String()
	s.out.Reset()
	if said == "" {
		return "ok\n"
	}
	return said
}

// commands are what a script may say, but for hosts.
var commands = map[string]func(s *script, words []string, input string){
	// write HOST MUTATION asks for a transaction; each line below is one more in the same update.
	"write": func(s *script, words []string, input string) {
		all := [][]string{words[1:]}
		for line := range strings.Lines(input) {
			all = append(all, strings.Fields(line))
		}
		s.actor(words[0]).submit(slices.DeleteFunc(all, func(m []string) bool { return len(m) == 0 }))
	},
	// many HOST COUNT PREFIX SIZE asks for so many transactions, of a key each.
	"many": func(s *script, words []string, _ string) {
		var all [][]string
		for i := range s.number(words[1]) {
			all = append(all, []string{"fill", words[2] + strconv.Itoa(i), words[3]})
		}
		s.actor(words[0]).submit(all)
	},
	"link": func(s *script, words []string, _ string) { s.pair(words, (*actor).connect) },
	"cut":  func(s *script, words []string, _ string) { s.pair(words, (*actor).disconnect) },
	// step HOST hands the next frame of each link to the engine, and has it take a step.
	"step": func(s *script, words []string, _ string) {
		s.actor(words[0]).deliver()
		s.actor(words[0]).step(true)
	},
	"sync":      func(s *script, words []string, _ string) { s.actor(words[0]).endSync() },
	"verify":    func(s *script, words []string, _ string) { s.actor(words[0]).endCheck() },
	"answer":    func(s *script, words []string, _ string) { s.actor(words[0]).runErrands() },
	"stabilize": func(s *script, _ []string, _ string) { s.stabilize() },
	"run":       func(s *script, words []string, _ string) { s.run(words[0]) },
	"room":      func(s *script, words []string, _ string) { s.actor(words[0]).setRoom(words[1]) },
	"end":       func(s *script, words []string, _ string) { s.on(words, (*Engine).EndID) },
	"stop":      func(s *script, words []string, _ string) { s.on(words, (*Engine).Stop) },
	"checkpoint": func(s *script, words []string, _ string) {
		s.on(words, (*Engine).Checkpoint)
	},
	// cut-log HOST COUNT has its log forget its oldest records.
	"cut-log": func(s *script, words []string, _ string) {
		a := s.actor(words[0])
		(&host{i: a.i, disk: a.disk, engine: a.e}).cutLog(s.t, s.number(words[1]))
	},
	// fail HOST breaks the streams of its repairs.
	"fail": func(s *script, words []string, _ string) {
		a := s.actor(words[0])
		for _, e := range a.errands {
			a.e.Fail(e.Pull, errNoStream)
		}
	},
	// suspect HOST says that a reader came upon a broken record.
	"suspect": func(s *script, words []string, _ string) {
		s.on(words, func(e *Engine) { e.Suspect(store.ErrCorrupt) })
	},
	"rot": func(s *script, words []string, _ string) { s.actor(words[0]).rot(words[1], words[2]) },
	// kill ends the process: what is written stays. power ends the machine: what is not synced goes. wipe is a new disk.
	"kill":  func(s *script, words []string, _ string) { s.actor(words[0]).ends((*disk).Clone) },
	"power": func(s *script, words []string, _ string) { s.actor(words[0]).ends((*disk).Crash) },
	"wipe": func(s *script, words []string, _ string) {
		s.actor(words[0]).ends(func(*disk) *disk { return newDisk() })
	},
	"start": func(s *script, words []string, _ string) { s.actor(words[0]).start() },
	"image": func(s *script, words []string, _ string) { s.actor(words[0]).takeImage() },
	"put-back": func(s *script, words []string, _ string) {
		s.actor(words[0]).putBack()
	},
	// secure HOST has it ask its neighbours whether all that it wrote survives a loss of power there, and secured HOST
	// tells what they answered.
	"secure": func(s *script, words []string, _ string) {
		s.on(words, func(e *Engine) { e.Secure(crdt.Dot{Replica: e.ID(), Counter: e.seen[e.ID()]}) })
	},
	"secured": func(s *script, words []string, _ string) {
		a := s.actor(words[0])
		for _, id := range a.e.Neighbours() {
			a.line("knows", fmt.Sprintf("%s to hold %s", id, dotName(a.e.Secured(id))))
		}
	},
	// leave HOST has it say that its copy is to go, and stay HOST that it stays; inquire HOST asks
	// what others have, and handover HOST tells whether the copy may go.
	"leave":    func(s *script, words []string, _ string) { s.on(words, func(e *Engine) { e.Leave(true) }) },
	"stay":     func(s *script, words []string, _ string) { s.on(words, func(e *Engine) { e.Leave(false) }) },
	"inquire":  func(s *script, words []string, _ string) { s.on(words, func(e *Engine) { e.Inquire() }) },
	"handover": func(s *script, words []string, _ string) { s.on(words, s.actor(words[0]).handOver) },
	"read":     func(s *script, words []string, _ string) { s.actor(words[0]).read() },
	"salvage":  func(s *script, words []string, _ string) { s.say("%q", salvaged(s.t, s.actor(words[0]).disk)) },
	// clocked tells how often the time alone was a reason for a step, since it was last told.
	"clocked": func(s *script, _ []string, _ string) {
		for _, a := range s.actors {
			s.say("%d  %d times", a.i, a.clocked)
			a.clocked = 0
		}
	},
	"state": func(s *script, _ []string, _ string) {
		for _, a := range s.actors {
			s.say("%s", a.state())
		}
	},
}

func (s *script) number(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *script) actor(word string) *actor { return s.actors[s.number(word)-1] }

func (s *script) on(words []string, do func(*Engine)) {
	a := s.actor(words[0])
	do(a.e)
	a.due = true
}

func (s *script) pair(words []string, do func(a *actor, other int)) {
	for _, p := range [][2]string{{words[0], words[1]}, {words[1], words[0]}} {
		do(s.actor(p[0]), s.actor(p[1]).i)
	}
}

// hosts starts so many, configured by what follows.
func (s *script) hosts(d *datadriven.TestData, words []string) {
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			continue
		}
		switch value := a.Vals[0]; a.Key {
		case "durability":
			s.cfg.Sync, s.cfg.SyncEverySecond = value == "always", value == "second"
		case "max-log":
			s.cfg.MaxLogBytes = int64(s.number(value))
		case "step-work":
			s.cfg.StepWork = s.number(value)
		case "max-listed":
			s.cfg.MaxListed = s.number(value)
		case "idle-ticks":
			s.cfg.IdleTicks = s.number(value)
		case "max-dirty":
			s.cfg.MaxDirty = int64(s.number(value))
		default:
			s.t.Fatalf("hosts: no setting %q", a.Key)
		}
	}
	for i := range s.number(words[0]) {
		a := &actor{s: s, i: i + 1, disk: newDisk(), logged: map[crdt.Dot]bool{}}
		s.actors = append(s.actors, a)
		a.start()
	}
}

// start opens the disk. The n-th id that host i draws is i.n.
func (a *actor) start() {
	cfg := a.s.cfg
	cfg.NewID = func() crdt.ReplicaID {
		a.ids++
		return crdt.ReplicaID(a.i<<8 | a.ids)
	}
	r, err := openAt(a.disk, cfg)
	if err != nil {
		a.s.t.Fatal(err)
	}
	if r.Damaged() != nil {
		a.line("opens", "and is damaged")
	}
	a.e = withNeighbours(r, rand.New(rand.NewPCG(uint64(a.i), 1)), a.s.now)
	a.due, a.room, a.sync, a.check, a.errands = true, Roomy, nil, nil, nil
	a.refuses = a.e.Refusal() != nil
	a.frames, a.taking = map[int][][]byte{}, map[int]*Frame{}
}

// ends ends the process, and leaves what is found on the disk then.
func (a *actor) ends(find func(*disk) *disk) {
	for _, other := range a.s.actors {
		if other.e != nil && other.e.linked(name(a.i)) {
			other.disconnect(a.i)
		}
	}
	a.disk, a.e = find(a.disk), nil
}

func (a *actor) connect(other int) {
	a.e.Connect(name(other), LinkFrames)
	a.frames[other] = nil
	delete(a.taking, other)
	a.due = true
}

func (a *actor) handOver(e *Engine) {
	left := e.Handover(func(gossip.NeighbourID) bool { return false })
	a.line("lacks", fmt.Sprintf("%+v, safe: %v", left, left.Safe()))
}

func (a *actor) disconnect(other int) {
	if a.e != nil {
		a.e.Disconnect(name(other))
		delete(a.frames, other)
		a.due = true
	}
}

func (a *actor) setRoom(word string) {
	a.room = map[string]Room{"roomy": Roomy, "scarce": Scarce, "full": Full}[word]
	a.e.SetRoom(a.room, errNoRoom)
	a.due = true
}

var errNoRoom = errors.New("there is too little room on the disk")

// rot changes a record on the disk: "cell KEY" of a string loses it, "record N" of the log is broken.
func (a *actor) rot(what, which string) {
	h := &host{i: a.i, disk: a.disk, engine: a.e}
	if what == "record" {
		h.rotLog(a.s.t, uint64(a.s.number(which)))
		return
	}
	h.spoil(a.s.t, func(rot *store.Batch) {
		rot.Delete(place(prefixCell, dotted.KeyAddress(which).Type(crdt.TypeString)))
	})
}

func (a *actor) takeImage() { a.image = &image{a.disk.Clone(), a.e.ID()} }

// putBack starts the machine again as the image has it, with its memory: it goes on under the same id.
func (a *actor) putBack() {
	a.ends(func(*disk) *disk { return a.image.disk.Clone() })
	a.start()
	a.e.replica.id = a.image.id
	delete(a.e.gained, a.image.id)
}

// step has the engine take a step, and does what its Ready says.
func (a *actor) step(always bool) {
	for _, other := range a.s.actors {
		if other != a && a.e.linked(name(other.i)) {
			a.e.Takes(name(other.i), LinkFrames-len(other.frames[a.i]))
		}
	}
	var err error
	if exits := a.apart(func() { err = a.e.Step(a.s.now, a.s.now) }); exits != a.e.Interrupted() {
		a.s.t.Errorf("the step ended its goroutine: %v; the engine says %v", exits, a.e.Interrupted())
	} else if exits {
		a.s.say("%d  a function ended the goroutine of the step: another goes on", a.i)
		a.step(always)
		return
	}
	if err != nil {
		a.s.t.Fatal(err)
	}
	rd := a.e.Ready()
	a.carryOut(rd, always)
}

// apart calls fn in a goroutine of its own, and reports whether fn ended that.
func (a *actor) apart(fn func()) (exits bool) {
	done := make(chan struct{})
	exits = true
	go func() {
		defer close(done)
		fn()
		exits = false
	}()
	<-done
	return exits
}

// carryOut does what a Ready says. That comes in the order of its fields; always has it told also if it says nothing.
func (a *actor) carryOut(rd *Ready, always bool) {
	a.print(rd, always)
	if err := CarryOut(rd.Writes, a.disk, a.disk.log); err != nil {
		a.s.t.Fatal(err)
	}
	a.checkOrder(rd)
	a.e.Advance()
	a.due, a.at = rd.Again, rd.At
	for _, f := range rd.Handled {
		from := hostOf(f.From)
		if a.taking[from] == f {
			delete(a.taking, from)
		}
	}
	for _, f := range rd.Frames {
		to := a.s.actors[hostOf(f.To)-1]
		to.frames[a.i] = append(to.frames[a.i], f.Data)
	}
	if rd.Sync != nil {
		s := *rd.Sync
		a.sync = &s
	}
	if rd.Verify != nil {
		a.check = rd.Verify
	}
	for _, p := range slices.Clone(rd.Pulls) {
		a.goOn(p)
	}
	if rd.Closed {
		a.ends((*disk).Clone)
	}
}

// checkOrder fails unless everything that is told, to clients, watches and neighbours, is in a record that is written
// by now, and synced if that is wanted.
func (a *actor) checkOrder(rd *Ready) {
	synced := true
	for _, w := range rd.Writes {
		if w.SyncLog {
			synced = true
		}
		if w.Record == nil {
			continue
		}
		synced = false
		rec, err := decodeLogged(w.Record)
		if err != nil {
			a.s.t.Error(err)
		}
		for _, d := range rec.deltas {
			a.logged[crdt.Dot{Replica: d.Replica, Counter: d.Last()}] = true
		}
	}
	told := func(what string, d crdt.Dot) {
		if !a.logged[d] {
			a.s.t.Errorf("host %d: %s %s, and no record of it is written", a.i, what, dotName(d))
		}
	}
	for _, u := range rd.Answers {
		for _, d := range u.(*asked).wrote {
			if told("answers", d); a.s.cfg.Sync && !synced {
				a.s.t.Errorf("host %d answers %s, which is not synced", a.i, dotName(d))
			}
		}
	}
	for _, d := range rd.Committed {
		told("commits", crdt.Dot{Replica: d.Replica, Counter: d.Last()})
	}
	for _, f := range rd.Frames {
		for _, d := range deltasIn(f.Data) {
			told("sends", crdt.Dot{Replica: d.Replica, Counter: d.Last()})
		}
	}
}

// deliver hands the next frame of each link to the engine.
func (a *actor) deliver() (did bool) {
	for i := range a.s.actors {
		from := i + 1
		if len(a.frames[from]) == 0 || a.taking[from] != nil {
			continue
		}
		f := &Frame{From: name(from), Data: a.frames[from][0]}
		a.frames[from] = a.frames[from][1:]
		a.taking[from] = f
		a.e.Receive(f)
		did, a.due, a.s.actors[i].due = true, true, true
	}
	return did
}

// endSync ends the sync under way.
func (a *actor) endSync() (did bool) {
	if a.sync == nil {
		return false
	}
	if err := a.sync.Run(a.disk, a.disk.log); err != nil {
		a.s.t.Fatal(err)
	}
	a.e.SyncEnded(*a.sync)
	a.sync, a.due = nil, true
	return true
}

// endCheck ends the check under way.
func (a *actor) endCheck() (did bool) {
	if a.check == nil {
		return false
	}
	err := a.check.Verify(func() bool { return false })
	a.check.Close()
	a.e.Verified(err)
	a.check, a.due = nil, true
	return true
}

var errNoStream = errors.New("the stream broke")

// goOn begins a repair, carries it on after the engine was asked, or takes note of its end.
func (a *actor) goOn(p *Pull) {
	i := slices.IndexFunc(a.errands, func(e *errand) bool { return e.Pull == p })
	switch {
	case p.Over:
		if i >= 0 && a.errands[i].pinned != nil {
			a.errands[i].pinned.Close()
		}
		a.errands = slices.DeleteFunc(a.errands, func(e *errand) bool { return e.Pull == p })
	case p.Spoiled:
		a.e.Fail(p, errNoStream)
	case i >= 0:
		a.take(a.errands[i], "")(p.Resume(a.stage))
	default:
		a.errands = append(a.errands, &errand{Pull: p, source: a.s.actors[hostOf(p.From)-1], question: p.Start()})
	}
}

func (a *actor) stage(b *store.Batch) error {
	if b == nil {
		return nil
	}
	if !a.s.quiet {
		a.s.say("%d  stages   %s", a.i, batchName(b))
	}
	return a.disk.Commit(b, false)
}

// runErrands has each repair's question answered by its source.
func (a *actor) runErrands() (did bool) {
	for _, e := range slices.Clone(a.errands) {
		switch {
		case e.source.e == nil || !e.source.e.linked(name(a.i)):
			a.e.Fail(e.Pull, errNoStream)
			a.due, did = true, true
		case !e.asked:
			e.asked, e.source.due, did = true, true, true
			e.source.e.Serve(name(a.i), func(p *Pinned, err error) {
				e.source.line("serves", strings.TrimSuffix(fmt.Sprintf("%d: %v", a.i, err), ": <nil>"))
				e.pinned, e.refused = p, err
			})
		case e.refused != nil:
			a.e.Fail(e.Pull, e.refused)
			a.due, did = true, true
		case e.pinned != nil && e.question.Kind != 0:
			did = true
			answer, err := antientropy.Serve(e.pinned, e.question)
			if err != nil {
				a.s.t.Fatal(err)
			}
			a.take(e, questionName(e.question))(e.Go(answer, a.stage))
		}
	}
	return did
}

// take returns what takes what came of an answer.
func (a *actor) take(e *errand, question string) func(antientropy.Request, bool, error) {
	return func(q antientropy.Request, asks bool, err error) {
		if !a.s.quiet && question != "" {
			a.s.say("%d  asks     %s for %s", a.i, e.From, question)
		}
		a.due, e.question = true, antientropy.Request{}
		switch {
		case err != nil:
			a.e.Fail(e.Pull, err)
		case asks:
			e.question = q
		default:
			a.e.Take(e.Pull)
		}
	}
}

// stabilize has everything go on, in turn, until nothing waits.
func (s *script) stabilize() {
	for range 5000 {
		did := false
		for _, a := range s.actors {
			if a.e == nil {
				continue
			}
			did = a.deliver() || did
			if a.due {
				a.step(false)
				did = true
			}
			if a.e != nil {
				did = a.endSync() || did
				did = a.endCheck() || did
				did = a.runErrands() || did
			}
		}
		if !did {
			return
		}
	}
	s.t.Fatalf("it comes to no rest; it said\n%s", s.out.String())
}

// run lets time pass, from one thing that is due to the next.
func (s *script) run(word string) {
	d, err := time.ParseDuration(word)
	if err != nil {
		s.t.Fatal(err)
	}
	end := s.now.Add(d)
	for s.stabilize(); s.now.Before(end); s.stabilize() {
		next := end
		for _, a := range s.actors {
			if a.e != nil && a.at.Before(next) {
				next = a.at
			}
		}
		s.now = next
		for _, a := range s.actors {
			if a.e != nil && !a.at.After(next) {
				a.due, a.clocked = true, a.clocked+1
			}
		}
	}
}

// asked is transactions that a client asked for.
type asked struct {
	a     *actor
	n     int
	muts  [][]string
	said  []string   // what became of each
	wrote []crdt.Dot // the last dots of those that wrote
}

func (a *actor) submit(muts [][]string) {
	a.s.updates++
	a.e.Submit(&asked{a: a, n: a.s.updates, muts: muts})
	a.due = true
}

// Begin implements Update.
func (u *asked) Begin() bool { return true }

// Len implements Update.
func (u *asked) Len() int { return len(u.muts) }

var errAborts = errors.New("it gives up")

// Run implements Update.
func (u *asked) Run(i int, tx *Tx) (err error) {
	m, f := u.muts[i], Fields(tx)
	switch m[0] {
	case "set":
		err = f.String(m[1]).Set([]byte(m[2]))
	case "fill":
		err = f.String(m[1]).Set(bytes.Repeat([]byte("x"), u.a.s.number(m[2])))
	case "count":
		_, err = f.Counter(m[1]).Add(int64(u.a.s.number(m[2])))
	case "add":
		for _, e := range m[2:] {
			if _, err = f.Set(m[1]).Add(e); err != nil {
				return err
			}
		}
	case "drop":
		_, err = f.Remove(m[1])
	case "clear":
		_, err = f.Clear()
	case "give-up":
		_ = f.String("lost").Set(nil)
		return errAborts
	case "exit":
		_ = f.String("lost").Set(nil)
		runtime.Goexit()
	default:
		u.a.s.t.Fatalf("no mutation %q", m)
	}
	return err
}

// Ran implements Update.
func (u *asked) Ran(_ int, err error) {
	if err != nil {
		u.said = append(u.said, shortError(err))
		return
	}
	id := u.a.e.current()
	if last := u.a.e.seen[id]; last > 0 {
		u.wrote = append(u.wrote, crdt.Dot{Replica: id, Counter: last})
	}
	u.said = append(u.said, "done")
}
