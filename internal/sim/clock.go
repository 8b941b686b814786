package sim

import "time"

// event is something that happens at a moment of virtual time.
type event struct {
	at  time.Duration
	seq uint64 // events of one moment happen in the order in which they were planned
	do  func()
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// agenda holds what is planned, the next event first: a heap.
type agenda []event

func (a *agenda) push(e event) {
	h := append(*a, e)
	for i := len(h) - 1; i > 0 && h[i].before(h[(i-1)/2]); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
	*a = h
}

func (a *agenda) pop() (next event) {
	h, last := *a, len(*a)-1
	next, h[0], h[last] = h[0], h[last], event{}
	h = h[:last]
	for i, least := 0, 0; ; i = least {
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h[child].before(h[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
	}
	*a = h
	return next
}

// after plans fn for a moment d from now.
func (w *world) after(d time.Duration, fn func()) { w.at(w.now+d, fn) }

// at plans fn for a moment, at the earliest now.
func (w *world) at(t time.Duration, fn func()) {
	w.planned++
	w.agenda.push(event{max(t, w.now), w.planned, fn})
}

// advance lets the next event happen. It reports whether there was one before the given moment.
func (w *world) advance(until time.Duration) bool {
	if len(w.agenda) == 0 || w.agenda[0].at > until {
		w.now = until
		return false
	}
	e := w.agenda.pop()
	w.now = e.at
	w.totals.Events++
	e.do()
	return true
}

// wallStart is what a right wall clock shows when a world begins.
var wallStart = time.UnixMilli(1_790_000_000_000)

// wallClock is a host's clock: right, or off by something, or standing still.
type wallClock struct {
	off     time.Duration
	stopped bool
	shows   time.Time // while it stands still
}

// read returns what the clock shows at a moment.
func (c *wallClock) read(now time.Duration) time.Time {
	t := c.shows
	if !c.stopped {
		t = wallStart.Add(now + c.off)
	}
	return t
}

// stop lets the clock stand still from now on.
func (c *wallClock) stop(now time.Duration) { c.shows, c.stopped = c.read(now), true }

// set makes the clock run, off by d.
func (c *wallClock) set(d time.Duration) { c.off, c.stopped = d, false }
