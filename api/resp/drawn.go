package resp

import (
	"container/list"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/peerd/peerd/crdt"
)

// To draw one name of many costs a descent (see window) or a pass through all of them. So several
// are drawn at once, and the rest is kept for the commands that follow. What was kept is only a
// proposal: who takes it looks in its own transaction whether it is still there, so neither other
// writers nor a transaction that was given up can make it wrong.

const (
	// mostDraws is how many draws are kept, those longest unused forgotten first.
	mostDraws = 16
	// mostDrawnBytes is how many bytes the names may have that are kept of one.
	mostDrawnBytes = 512 << 10
	// drawnShare is by which part what is drawn from may have grown or shrunk, if not by what was
	// drawn, before others are drawn. Less than that is not to be noticed.
	drawnShare = 64
	// mostPassed is among how many names those that go are drawn by a pass through all, which
	// have at most mostPassedBytes.
	mostPassed, mostPassedBytes = 16 << 10, 2 << 20
	// windowShare is of which part of more names a window is made, up to mostPassed.
	windowShare = 2
	// drainedBy is after how many windows in a row, each of names that all were to go, the next one
	// is what follows on the last. What was removed stands in the way of who looks for a random
	// place, and here it is left behind.
	drainedBy = 4
	// passShare is of how many names one is drawn by a pass through all. So each draw costs as much
	// as to pass that many, however many there are.
	passShare = 16
	// mostDrawn is how many are drawn by one pass at most, as they show what was there at its time.
	mostDrawn = 4096
	// keysDrawn is how many keys are drawn from one window.
	keysDrawn = 8
)

// drawSource is what names are drawn from.
type drawSource struct {
	database int
	command  *command // some draw with replacement, and some without
	key      string
}

// keptDraw is what is left of a draw.
type keptDraw struct {
	source drawSource
	names  []string
	n      int // how many names the source should have

	windows int    // that were drawn in a row
	last    string // of the last one's names
}

// changed reports whether a source that has n names is no more what was drawn from.
func (k *keptDraw) changed(n int) bool { return max(n-k.n, k.n-n) > k.n/drawnShare }

// keptDraws are those of all keys.
type keptDraws struct {
	mu       sync.Mutex
	bySource map[drawSource]*list.Element
	byUse    list.List // of *keptDraw, the latest used first
}

// take returns the next name drawn from a source that has n names, and false if another draw is
// due. With away the source is about to lose it.
func (ks *keptDraws) take(source drawSource, n int, away bool) (name string, ok bool) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	e, ok := ks.bySource[source]
	if !ok {
		return "", false
	}
	k := e.Value.(*keptDraw)
	if k.changed(n) {
		ks.remove(e)
		return "", false
	}
	if len(k.names) == 0 {
		return "", false
	}
	ks.byUse.MoveToFront(e)
	name, k.names = k.names[0], k.names[1:]
	if away {
		k.n--
	}
	return name, true
}

// drained returns how many windows were drawn in a row from a source that has n names, and where
// the last one ended.
func (ks *keptDraws) drained(source drawSource, n int) (windows int, last string) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if e, ok := ks.bySource[source]; ok {
		if k := e.Value.(*keptDraw); !k.changed(n) {
			return k.windows, k.last
		}
	}
	return 0, ""
}

// keep has the next commands take some names, drawn from a source that has n: the last of so many
// windows, which ends with last.
func (ks *keptDraws) keep(source drawSource, names []string, n, windows int, last string) {
	k := &keptDraw{source: source, n: n, windows: windows, last: strings.Clone(last)}
	bytes := len(source.key)
	for _, name := range names {
		if bytes += len(name); bytes > mostDrawnBytes {
			break
		}
		k.names = append(k.names, strings.Clone(name)) // it may be part of something longer
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if e, ok := ks.bySource[source]; ok {
		ks.remove(e)
	}
	if n == 0 {
		return
	}
	if ks.bySource == nil {
		ks.bySource = map[drawSource]*list.Element{}
	}
	ks.bySource[source] = ks.byUse.PushFront(k)
	if len(ks.bySource) > mostDraws {
		ks.remove(ks.byUse.Back())
	}
}

func (ks *keptDraws) remove(e *list.Element) {
	ks.byUse.Remove(e)
	delete(ks.bySource, e.Value.(*keptDraw).source)
}

func (c *call) drawSource(key string) drawSource {
	return drawSource{c.session.index, c.command, key}
}

// drawAway returns count of a set's n elements that are to be removed: of those that were drawn
// before if they suffice, else of new ones.
func (c *call) drawAway(set crdt.Set, count, n int) []string {
	source, kept := c.drawSource(c.arg(1)), &c.server.drawn
	var some []string
	for len(some) < count && count < leastWindow {
		// The transaction has removed nothing yet, whatever the draw supposes.
		name, ok := kept.take(source, n-len(some), true)
		if !ok {
			break
		}
		if set.Has(name) {
			some = append(some, name)
		}
	}
	if len(some) == count {
		return some
	}
	least := max(leastWindow, 2*count)
	windows, last := kept.drained(source, n)
	if windows >= drainedBy {
		some = onward(n, least, max(least, mostPassed), last, set)
	}
	ok := len(some) >= min(count, n)
	if !ok && n <= mostPassed {
		some, ok = collected(set.All())
	}
	if !ok {
		some = window(n, least, max(least, min(n/windowShare, mostPassed)), set)
	}
	count = min(count, len(some)) // a read that failed ends the transaction behind this
	if len(some) > 0 {
		last = some[len(some)-1]
	}
	rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	kept.keep(source, some[count:], n-count, windows+1, last)
	return some[:count]
}

// collected returns names, unless they are too long to be gone through at once.
func collected(all iter.Seq[string]) (names []string, ok bool) {
	bytes := 0
	for name := range all {
		if bytes += len(name); bytes > mostPassedBytes {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// drawOne returns one of n names that stays, or false if there is none: what others drew and left,
// or the first that draw returns. That draws each of them anew of all names.
func (c *call) drawOne(
	key string, n int, has func(string) bool, draw func() []string,
) (string, bool) {
	source, kept := c.drawSource(key), &c.server.drawn
	for {
		name, ok := kept.take(source, n, false)
		if !ok {
			break
		}
		if has(name) {
			return name, true
		}
	}
	drawn := draw()
	if len(drawn) == 0 {
		return "", false
	}
	kept.keep(source, drawn[1:], n, 0, "")
	return drawn[0], true
}
