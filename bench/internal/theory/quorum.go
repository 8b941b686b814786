package theory

import (
	"math"
	"math/rand/v2"
)

// Cluster is nodes that fail and are repaired, each for itself, and what must be up for an answer.
type Cluster struct {
	Nodes, Need int
	Down        float64 // the part of the time for which a node is down
}

// Out predicts the part of the time for which too few nodes are up: a sum of binomials.
func (c Cluster) Out() (part float64) {
	for up := range c.Need {
		part += choose(c.Nodes, up) * math.Pow(1-c.Down, float64(up)) * math.Pow(c.Down, float64(c.Nodes-up))
	}
	return part
}

func choose(n, k int) float64 {
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return c
}

// Run has nodes fail after times of an exponential distribution, and be repaired after one that is
// always the same: how repairs are distributed does not matter to the prediction. It returns the
// part of the time for which too few were up, and how often that began.
func (c Cluster) Run(chance *rand.Rand, changes int) (part float64, outages int) {
	repair, up := c.Down, c.Nodes
	fails := func() float64 { return chance.ExpFloat64() * (1 - c.Down) }
	next, isUp := make([]float64, c.Nodes), make([]bool, c.Nodes)
	for i := range next {
		next[i], isUp[i] = fails(), true
	}
	now, out := 0.0, 0.0
	for range changes {
		first := 0
		for i := range next {
			if next[i] < next[first] {
				first = i
			}
		}
		if up < c.Need {
			out += next[first] - now
		}
		now = next[first]
		isUp[first] = !isUp[first]
		if isUp[first] {
			up++
			next[first] += fails()
			continue
		}
		up--
		next[first] += repair
		if up == c.Need-1 {
			outages++
		}
	}
	return out / now, outages
}
