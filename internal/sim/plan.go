package sim

import (
	"math/rand/v2"
	"time"

	"github.com/peerd/peerd/store"
)

// durability says what an acknowledgement promises, as in package peer.
type durability int

const (
	never durability = iota
	everySecond
	always
)

func (d durability) String() string { return [...]string{"none", "interval", "always"}[d] }

// plan is what a world is like. Each world draws a few kinds of fault and none of the others: a
// bug that needs two of them, and is hidden by a third, is found so too. Most worlds are short, so
// that what they find can be followed; a few are long, large or busy.
type plan struct {
	hosts      int
	spaces     int
	divided    bool // disks have a table of spaces, and links a Switch, which several spaces need
	durability durability
	lasts      time.Duration // the time of writes and faults
	writeEvery time.Duration // on average, over all hosts
	faultEvery time.Duration // on average
	faults     []Fault       // that happen, once and again
	mix        mix
	maxLog     int64         // bytes of log that each replica keeps
	maxLogAge  time.Duration // and its age
	links      int           // that each host opens
	inFlight   int           // frames on the way on one link
	latency    time.Duration // one way
	jitter     time.Duration
	lossy      float64 // of messages
	unordered  bool    // links deliver frames twice, and out of order
	checkEvery int     // groups, on average
	restful    bool    // sweeps take rests, so that clears pile up
	checkAll   bool    // every step that changes anything is checked
	maxBatch   int     // writes that a storage transaction takes
	maxDirty   int64   // bytes that may wait for a checkpoint; 0 is the core's own bound
	pieces     int     // bytes of cells in a message of a repair; 0 is what ships
	stepWork   int     // of a host's loop; 0 is the core's own bound
	maxListed  int     // ids that vectors list before bases are said; 0 is the core's own bound
	idleTicks  int     // after which an id is idle
	emptied    bool    // everything is deleted in the end
	rotAlone   bool    // records rot at hosts that are cut off, with writes that nobody else has
	putBacks   int     // of machines to images, at most
	forks      bool    // machines are put back from images: see forks.go

	waits    *rand.Rand // which decides who waits for others to hold what it wrote; nil if nobody does
	memory   *rand.Rand // which decides how much of it spaces have, again and again; nil if that stays
	measured *rand.Rand // how wrongly machines measure each other's clocks; nil if they do not
}

func drawPlan(rng *rand.Rand) plan {
	p := plan{
		hosts:      2 + rng.IntN(3),
		durability: durability(rng.IntN(3)),
		lasts:      time.Duration(600+rng.IntN(3000)) * time.Millisecond,
		writeEvery: time.Duration(40+rng.IntN(400)) * time.Millisecond,
		faultEvery: time.Duration(300+rng.IntN(3000)) * time.Millisecond,
		maxLog:     []int64{1 << 30, 1 << (9 + rng.IntN(8)), 1 << (9 + rng.IntN(8)), 1}[rng.IntN(4)],
		maxLogAge:  7 * 24 * time.Hour,
		inFlight:   1 + rng.IntN(8),
		latency:    time.Duration(rng.IntN(1<<rng.IntN(9))) * time.Millisecond,
		checkEvery: 4 + rng.IntN(30),
		emptied:    rng.IntN(8) == 0,
	}
	switch rng.IntN(20) { // a heavy tail
	case 0:
		p.hosts = 5 + rng.IntN(8)
	case 1:
		p.lasts *= 4
	case 2:
		p.writeEvery /= 8
	}
	if rng.IntN(10) == 0 {
		p.maxLogAge = time.Duration(1+rng.IntN(5)) * time.Second
	}
	p.jitter = time.Duration(rng.IntN(2)) * p.latency
	p.links = 1 + rng.IntN(p.hosts)
	if rng.IntN(2) == 0 {
		p.lossy = rng.Float64() * 0.2
	}
	p.unordered = rng.IntN(8) == 0
	p.mix = drawMix(rng)
	p.faults = drawFaults(rng)
	if p.forks = rng.IntN(10) == 0; p.forks {
		p.drawForks(rng)
	}
	return p
}

// drawLater draws what was added to plans later, apart, so that seeds keep their worlds.
func (p *plan) drawLater(rng *rand.Rand) {
	p.maxBatch = store.MaxBatchOps
	if rng.IntN(8) == 0 {
		p.maxBatch = 4 + rng.IntN(60)
		p.faults = append(p.faults, Kill) // there are many more moments to die at
	}
	p.checkAll = rng.IntN(32) == 0
	p.restful = rng.IntN(4) == 0
	if rng.IntN(8) == 0 {
		p.stepWork = 20 << rng.IntN(7) // so that frames and what waits take several steps
	}
	if rng.IntN(3) == 0 && !p.forks { // markers must stay
		p.mix.empties = 5 + rng.IntN(60)
	}
	if p.rotAlone = rng.IntN(4) == 0 && !p.forks; p.rotAlone {
		p.faults = append(p.faults, BitFlip)
	}
	if rng.IntN(3) == 0 {
		p.maxDirty = 1 << (8 + rng.IntN(10))
	}
	if rng.IntN(2) == 0 { // so that bases are said
		p.maxListed, p.idleTicks = 1+rng.IntN(4), 1<<rng.IntN(6)
		p.faults = append(p.faults, Restart, Kill)
	}
	p.drawSpaces(rng)
	if rng.IntN(3) == 0 { // so that repairs break off in the middle
		p.pieces = 2048 << rng.IntN(3)
	}
}

// drawMemory draws whether spaces have other shares of a machine's memory each second, as those
// of a peer do.
func (p *plan) drawMemory(rng *rand.Rand) {
	if rng.IntN(8) == 0 {
		p.memory = rng
	}
}

// drawSpaces draws how many spaces there are. Of forks, worlds of one tell enough.
func (p *plan) drawSpaces(rng *rand.Rand) {
	p.spaces = 1
	if rng.IntN(4) == 0 && !p.forks {
		p.spaces = 2 + rng.IntN(2)
		if rng.IntN(2) == 0 {
			p.faults = append(p.faults, Subscribe, Drop)
		}
	}
	p.divided = p.spaces > 1 || rng.IntN(4) == 0
}

// drawable are the faults that are planned; the others come with the network, or along with these.
var drawable = []Fault{
	Reset, Partition, OneWay, Flapping, Alone, Kill, PowerFailure, Restart, Pause, SlowDisk, FullDisk,
	ScarceDisk,
	ReadError, FsyncError, BitFlip, OldBackup, Copy, DiskLoss, ClockAhead, ClockBehind, ClockJump,
	ClockStill, Join, Leave, ComeBack,
}

func drawFaults(rng *rand.Rand) []Fault {
	var out []Fault
	for range 1 + rng.IntN(6) {
		out = append(out, drawable[rng.IntN(len(drawable))])
	}
	return out
}

// spread draws a time about d.
func (w *world) spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + time.Duration(w.rng.Int64N(int64(d)))
}

// chance reports true once in n times.
func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }
