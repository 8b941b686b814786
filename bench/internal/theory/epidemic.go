package theory

import (
	"math"
	"math/rand/v2"
)

// Push is an epidemic in rounds: in each of them every member that knows of a rumour tells it to
// some others, chosen at random, and goes on doing so.
type Push struct {
	Members, Fanout int
	Loss            float64 // the probability that what is told is lost
}

// Ignorant returns how many members do not know after each round, on average: the recurrence of
// Demers et al. 1987 for pushing, from before the first round until hardly anybody is left.
func (p Push) Ignorant() []float64 {
	n := float64(p.Members)
	left := []float64{n - 1}
	for last := n - 1; last > 1e-4 && len(left) < 1000; {
		told := float64(p.Fanout) * (1 - p.Loss) * (n - last)
		last *= math.Pow(1-1/(n-1), told)
		left = append(left, last)
	}
	return left
}

// Rounds predicts after how many rounds all know, on average: the sum over rounds of the
// probability that somebody is left.
func (p Push) Rounds() (rounds float64) {
	for _, left := range p.Ignorant() {
		rounds += 1 - math.Exp(-left)
	}
	return rounds
}

// Run has one rumour spread, and returns in which round the last member learns of it.
func (p Push) Run(chance *rand.Rand) (rounds int) {
	knows, all := make([]bool, p.Members), []int{0}
	knows[0] = true
	for ; len(all) < p.Members; rounds++ {
		for _, from := range all {
			for range p.Fanout {
				if to := other(chance, from, p.Members); chance.Float64() >= p.Loss && !knows[to] {
					knows[to] = true
					all = append(all, to)
				}
			}
		}
	}
	return rounds
}

// Once is a rumour that each member passes on once, when it learns of it, to some others.
type Once Push

// Dies predicts the probability that the rumour ends among the first few: that of a branching
// process of which each member tells so many, less what is lost.
func (o Once) Dies() (q float64) {
	for range 1000 {
		q = math.Pow(o.Loss+(1-o.Loss)*q, float64(o.Fanout))
	}
	return q
}

// Residue predicts what part of the members never learns of a rumour that does not die early: the
// fixed point s = e^(-m(1-s)) for m copies that arrive a member (Demers et al. 1987).
func (o Once) Residue() float64 {
	s := 0.0
	for range 1000 {
		s = math.Exp(-float64(o.Fanout) * (1 - o.Loss) * (1 - s))
	}
	return s
}

// Missed predicts the probability that a given member never learns of it.
func (o Once) Missed() float64 {
	q := o.Dies()
	return q + (1-q)*o.Residue()
}

// AnyMissed predicts the probability that somebody does not. That all do, if f = ln n + c arrive
// each, is e^(-e^(-c)) (Kermarrec, Massoulié, Ganesh 2003): a law of rare events.
func (o Once) AnyMissed() float64 {
	q := o.Dies()
	return q + (1-q)*-math.Expm1(-float64(o.Members-1)*o.Residue())
}

// Run has one rumour spread, and returns how many members never learn of it.
func (o Once) Run(chance *rand.Rand) (missed int) {
	knows, tell := make([]bool, o.Members), []int{0}
	knows[0] = true
	missed = o.Members - 1
	for len(tell) > 0 {
		from := tell[0]
		tell = tell[1:]
		for range o.Fanout {
			if to := other(chance, from, o.Members); chance.Float64() >= o.Loss && !knows[to] {
				knows[to] = true
				missed--
				tell = append(tell, to)
			}
		}
	}
	return missed
}

// other draws a member that is not this one.
func other(chance *rand.Rand, self, members int) int {
	to := chance.IntN(members - 1)
	if to >= self {
		to++
	}
	return to
}
