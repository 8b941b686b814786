package sim

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/peerd/peerd/crdt"
)

// world is a few machines under one seed. Everything that happens in it is decided by rng, in the
// order of virtual time.
type world struct {
	seed    uint64
	rng     *rand.Rand
	plan    plan
	now     time.Duration
	agenda  agenda
	planned uint64
	totals  Totals
	trace   *bufio.Writer // nil: nobody reads it

	realms    []*realm // its spaces
	machines  []*machine
	blocked   map[[2]*machine]int     // how many partitions block the way from one to another
	clocksSet time.Duration           // when one was set last, or began to stand still
	calm      bool                    // no more faults are injected
	expired   bool                    // all has that ever will
	rotten    bool                    // some stored record was changed behind a replica's back
	markers   int                     // drawn so far
	putBacks  int                     // of machines to images
	images    map[crdt.ReplicaID]bool // whose id was in one of them
	salvaged  map[string]bool         // markers
	blind     bool                    // the oracle is: it does not know all dots by their names
}

// Run runs the world of a seed. It returns what happened there, and the invariant that broke, if
// one did. A trace, if it is not nil, gets a line an event; the world does not depend on it.
func Run(seed uint64, trace io.Writer) (totals Totals, violation error) {
	w := newWorld(seed, trace)
	defer func() {
		thrown := recover()
		if v, ok := thrown.(violated); ok {
			violation = v
		} else if thrown != nil {
			violation = fmt.Errorf("panic: %v\n%s", thrown, debug.Stack())
		}
		w.totals.Worlds, w.totals.Time = 1, w.now
		if violation != nil {
			w.totals.Violations = 1
			w.say("VIOLATION %v", violation)
		}
		if w.trace != nil {
			_ = w.trace.Flush()
		}
		totals = w.totals
	}()
	w.run()
	return totals, nil
}

func newWorld(seed uint64, trace io.Writer) *world {
	w := &world{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)),
		blocked: map[[2]*machine]int{}, images: map[crdt.ReplicaID]bool{}, salvaged: map[string]bool{},
	}
	if trace != nil {
		w.trace = bufio.NewWriter(trace)
	}
	w.plan = drawPlan(w.rng)
	w.plan.drawLater(rand.New(rand.NewPCG(seed, 1)))
	w.plan.drawTimed(rand.New(rand.NewPCG(seed, 2)), rand.New(rand.NewPCG(seed, 19)))
	w.plan.drawScored(rand.New(rand.NewPCG(seed, 3)))
	w.plan.drawBits(rand.New(rand.NewPCG(seed, 8)))
	w.plan.drawStreams(rand.New(rand.NewPCG(seed, 9)))
	w.plan.drawLists(rand.New(rand.NewPCG(seed, 11)))
	w.plan.drawWaits(rand.New(rand.NewPCG(seed, 12)))
	w.plan.drawMeasured(rand.New(rand.NewPCG(seed, 20)))
	w.plan.drawMemory(rand.New(rand.NewPCG(seed, 21)))
	for i := range w.plan.spaces {
		w.realms = append(w.realms, newRealm(w, i))
	}
	return w
}

// violated is a broken invariant. It is thrown, and caught by Run.
type violated struct{ error }

// fail ends the world: an invariant broke.
func (w *world) fail(format string, args ...any) {
	panic(violated{fmt.Errorf("at %v: "+format, append([]any{w.now}, args...)...)})
}

// say writes a line into the trace.
func (w *world) say(format string, args ...any) {
	if w.trace != nil {
		_, _ = fmt.Fprintf(w.trace, "%12.6f ", w.now.Seconds())
		_, _ = fmt.Fprintf(w.trace, format+"\n", args...)
	}
}

// run lets the world begin, go through its faults, and end in peace.
func (w *world) run() {
	p := &w.plan
	w.say("seed %d: %d hosts, %d spaces, divided %v, durability %v, %v, log %d bytes %v, latency %v, lossy %.2f, "+
		"unordered %v, faults %v", w.seed, p.hosts, p.spaces, p.divided, p.durability, p.lasts, p.maxLog, p.maxLogAge,
		p.latency, p.lossy, p.unordered, p.faults)
	for range p.hosts {
		w.addMachine(newDisk(), w.drawSpaces())
	}
	w.planWrite()
	w.planFault()
	for w.advance(p.lasts) {
	}
	w.settle()
}

// addMachine lets a machine with a disk come into the world, which holds spaces.
func (w *world) addMachine(d *disk, spaces []*realm) *machine {
	m := newMachine(w, d, spaces)
	m.start()
	return m
}

// planWrite has clients write, once and again.
func (w *world) planWrite() {
	w.after(w.spread(w.plan.writeEvery), func() {
		if w.calm {
			return
		}
		m := w.machines[w.rng.IntN(len(w.machines))]
		h := m.hosts[0]
		if len(m.hosts) > 1 {
			h = m.hosts[w.rng.IntN(len(m.hosts))]
		}
		for range 1 + w.rng.IntN(2) {
			h.ask(w.plan.mix.drawTransaction(w.rng))
		}
		w.planWrite()
	})
}

// present returns the machines that have not left for good.
func (w *world) present() []*machine {
	var out []*machine
	for _, m := range w.machines {
		if !m.gone {
			out = append(out, m)
		}
	}
	return out
}
