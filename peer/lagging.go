package peer

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
)

// A member that lacks writes is no problem: there are always some on the way. One that lacks what
// there was a minute ago is: its disk, its processor or the network does not keep up, and what
// happens to the hosts that it lags behind may cost those writes. Counts tell that. Who has less of
// a context now than all that was in it then lacks some of that.

// Limits of what is known to lag.
const (
	lagAfter    = time.Minute   // how old what is lacked has to be
	lagEvery    = lagAfter / 12 // between two marks
	maxLagMarks = 13            // as many as cover lagAfter; more are made once the first is passed
)

// lagPatience returns lagAfter, or less where gossip is fast.
func (p *Peer) lagPatience() time.Duration {
	if p.cfg.FastGossip {
		return lagAfter / 10
	}
	return lagAfter
}

// gap is what a linked member and this host lack of a space that both hold.
type gap struct {
	space, id    string
	all          side // of the mutations here, and of those there
	theirs, ours uint64
	apart        bool // nothing is exchanged, because of a fork
}

// side is how many mutations there are on the two sides of a gap.
type side struct{ here, there uint64 }

// gaps returns those of all spaces.
func gaps(told []report) (all []gap) {
	for _, of := range told {
		for id, theirs := range of.known {
			apart := slices.ContainsFunc(of.Forks, func(f Fork) bool { return slices.Contains(f.There, id) })
			all = append(all, gap{of.Space, id, side{of.Mutations, crdt.VersionVector{}.Missing(theirs)},
				theirs.Missing(of.seen), of.seen.Missing(theirs), apart})
		}
	}
	return all
}

// lagging is a member that has lacked writes for long, or that has had what this host lacks.
type lagging struct {
	id   string
	here bool   // this host lacks them
	lack uint64 // writes, of all spaces that lag
	old  time.Duration
}

// lagMark is how many mutations there were at a time.
type lagMark struct {
	all uint64
	at  time.Time
}

// lagKey is one side of a gap.
type lagKey struct {
	space, id string
	here      bool
}

// lags returns what lags by more than patience. It keeps marks of those sides that lack something.
func (p *problems) lags(all []gap, patience time.Duration, now time.Time) (out []lagging) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := map[lagKey][]lagMark{}
	found := map[lagKey]lagging{} // by member and side
	look := func(key lagKey, all, lack uint64) {
		if lack == 0 {
			return
		}
		marks := p.marks[key]
		for len(marks) > 0 && marks[0].all <= all-lack {
			marks = marks[1:]
		}
		if n := len(marks); n == 0 || n < maxLagMarks && now.Sub(marks[n-1].at) >= lagEvery {
			marks = append(slices.Clone(marks), lagMark{all, now})
		}
		next[key] = marks
		if old := now.Sub(marks[0].at); old >= patience {
			key.space = ""
			was := found[key]
			found[key] = lagging{key.id, key.here, was.lack + lack, max(was.old, old)}
		}
	}
	for _, g := range all {
		if g.apart {
			continue // that is a problem of its own
		}
		look(lagKey{g.space, g.id, false}, g.all.here, g.theirs)
		look(lagKey{g.space, g.id, true}, g.all.there, g.ours)
	}
	p.marks = next
	for _, l := range found {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b lagging) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.lack, b.lack))
	})
	return out
}

// subject tells the two sides of a member apart.
func (l lagging) subject() string { return fmt.Sprint(l.id, l.here) }

// what says who lacks how much; name is the member's.
func (l lagging) what(name string) string {
	old := l.old.Round(time.Second)
	if l.here {
		return fmt.Sprintf("this host lacks %d writes that %s has, some for %v", l.lack, name, old)
	}
	return fmt.Sprintf("%s lacks %d writes that are here, some for %v", name, l.lack, old)
}
