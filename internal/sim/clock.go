package sim

import (
	"container/heap"
	"time"
)

// event is something that happens at a moment of virtual time.
type event struct {
	at  time.Duration
	seq uint64 // events of one moment happen in the order in which they were planned
	do  func()
}

// agenda holds what is planned, the next event first.
type agenda []event

func (a agenda) Len() int { return len(a) }

func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}

func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push and Pop are for package heap.
func (a *agenda) Push(x any) { *a = append(*a, x.(event)) }

// Pop removes the last element.
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	old[len(old)-1].do = nil
	*a = old[:len(old)-1]
	return last
}

// after plans fn for a moment d from now.
func (w *world) after(d time.Duration, fn func()) { w.at(w.now+d, fn) }

// at plans fn for a moment, at the earliest now.
func (w *world) at(t time.Duration, fn func()) {
	w.planned++
	heap.Push(&w.agenda, event{max(t, w.now), w.planned, fn})
}

// advance lets the next event happen. It reports whether there was one before the given moment.
func (w *world) advance(until time.Duration) bool {
	if len(w.agenda) == 0 || w.agenda[0].at > until {
		w.now = until
		return false
	}
	e := heap.Pop(&w.agenda).(event)
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
