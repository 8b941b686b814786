package sim

import (
	"math/rand/v2"
	"time"

	"github.com/peerd/peerd/internal/engine"
)

// In some of the worlds in which keys expire, machines measure each other's clocks, and judge their
// own by that: see engine.JudgeClock. The checks know which clocks are right.

// Of clocks.
const (
	measureError = 5 * time.Millisecond                  // of a measurement, at most
	rightWithin  = 100 * time.Millisecond                // a clock that is off by less is right
	judgedWithin = engine.MaxSkew + 200*time.Millisecond // and one that is judged right is off by less
)

// verdict is what a machine found of its clock. Its disk keeps it.
type verdict struct {
	found engine.Clock

	// What the checks know of it, while no clock is set.
	at     time.Duration // when it was found
	sure   bool          // nothing expires early by it: half of the clocks were right
	most   bool          // nor late: most of at least three clocks were right
	follow bool          // when most told of it last, they were
	told   time.Duration // and when that was
}

// drawMeasured draws whether machines measure each other's clocks, apart.
func (p *plan) drawMeasured(rng *rand.Rand) {
	if p.mix.timed == nil || rng.IntN(2) == 0 {
		return
	}
	if p.measured = rng; rng.IntN(3) == 0 {
		p.faults = append(p.faults, ClockJump, ClockJump, ClockAhead, ClockBehind, Restart)
	}
}

// isRight reports whether the machine's clock is.
func (m *machine) isRight() bool { return !m.clock.stopped && m.clock.off.Abs() <= rightWithin }

// measure measures the clocks of those that can be reached, and judges this machine's by them.
func (m *machine) measure() {
	rng := m.w.plan.measured
	if rng == nil {
		return
	}
	m.look()
	var all []engine.Measured
	right := 0
	for _, o := range m.w.machines {
		if o == m || !o.running || o.paused > m.w.now || !m.w.passes(m, o) || !m.w.passes(o, m) {
			continue
		}
		wrong := time.Duration(rng.Int64N(2*int64(measureError))) - measureError
		ahead := o.clock.read(m.w.now).Sub(m.clock.read(m.w.now)) + wrong
		all = append(all, engine.Measured{Ahead: ahead, Error: measureError})
		if o.isRight() {
			right++
		}
	}
	if len(all) == 0 {
		return
	}
	if m.isRight() {
		right++
	}
	v := &m.disk.verdict
	switch {
	case len(all) > 1:
		v.sure, v.most = 2*right > len(all), 2*right > len(all)+1
		v.follow, v.told = v.most, m.w.now
	default:
		was := v.found
		if m.found.Moved() {
			was = m.judged
		}
		unmoved := was.Ahead == 0 || v.follow && v.told > m.w.clocksSet
		v.sure, v.most = right == 2 || right == 1 && unmoved, false
	}
	m.found, m.loose = m.found.Judge(all, m.reading(), engine.MaxSkew), false
	v.found, v.at = m.found.Clock, m.w.now
	if v.found != m.judged {
		m.w.totals.Judged++
		m.say("finds its clock, which is off by %v, to be %+v, sure: %v", m.clock.off, v.found, v.sure)
	}
	m.judges(v.found)
	m.checkJudged(true)
}

// look has the machine see whether its clock was set.
func (m *machine) look() {
	if m.w.plan.measured == nil {
		return
	}
	clock, found := m.found.At(m.reading(), engine.MaxSkew)
	m.loose = m.loose || m.found.Moved() && !found.Moved()
	if m.found = found; clock != m.judged {
		m.say("takes its clock, which is off by %v, for %+v", m.clock.off, clock)
		m.judges(clock)
	}
	m.checkJudged(true)
}

// judges has the machine's engines take its clock for something.
func (m *machine) judges(c engine.Clock) {
	m.judged = c
	for _, h := range m.hosts {
		if h.up() {
			h.engine.SetClock(c)
		}
	}
}

// doubtClock is what a machine takes its clock for when it starts.
func (m *machine) doubtClock() {
	m.found, m.loose = engine.FoundBefore(m.disk.verdict.found, m.reading()), true
	m.judged, _ = m.found.At(m.reading(), engine.MaxSkew)
	m.checkJudged(false)
}

// time returns the time by which keys have expired for the machine.
func (m *machine) time() time.Time { return m.wall().Add(m.judged.Ahead - m.judged.Slack) }

// checkJudged checks what the machine takes its clock for, as it was found since it was started, or
// before. Nothing expires early if enough clocks were right, whichever were set since, unless that
// was before the start, or its own was set and is believed; and where that was set right while it
// was down. If most were right and none was set since, it is known what the time is.
func (m *machine) checkJudged(since bool) {
	v, w := &m.disk.verdict, m.w
	moved := v.at <= w.clocksSet || w.anyStands()
	lost, within := moved, judgedWithin
	if since {
		if lost = m.loose || w.anyStands(); moved {
			within += engine.MaxSkew // it may have been set by less than is seen
		}
	}
	if set := !since && m.isRight(); !set && (lost || !v.sure) {
		return
	}
	right := m.clock.off + m.judged.Ahead // ahead of the right time
	expires := right - m.judged.Slack
	early := expires > within
	if v.most && !moved {
		early = early || right < -judgedWithin || since && min(expires, -right) < -judgedWithin
	}
	if early {
		w.fail("%s, whose clock is off by %v, takes it for %+v, of %+v", m.id, m.clock.off, m.judged, *v)
	}
}

// anyStands reports whether some clock stands still, and so is ever more wrong.
func (w *world) anyStands() bool {
	for _, m := range w.machines {
		if m.clock.stopped {
			return true
		}
	}
	return false
}
