package scenario

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

// Quantities of a phase, in the order of the report.
const (
	writesDone = "writes done"
	writesP50  = "writes, p50"
	writesP99  = "writes, p99"
	firstWrite = "until a write is done"
	sureDone   = "sure reads done"
	sureP50    = "sure reads, p50"
	sureP99    = "sure reads, p99"
	localDone  = "local reads done"
	localP50   = "local reads, p50"
	localP99   = "local reads, p99"
	localOld   = "local reads that were old"
	allWrite   = "until each member has done a write"
	allShow    = "until all show what was acknowledged"
	sureOld    = "sure reads that were old"
	writesLost = "acknowledged writes that are lost"
	failedDone = "failed writes that are there"
)

var quantities = []string{writesDone, writesP50, writesP99, firstWrite, sureDone, sureP50,
	sureP99, localDone,
	localP50, localP99, localOld,
	allWrite, allShow, sureOld, writesLost, failedDone}

// Phases of a split, which names of rows begin with.
func (s split) before() string      { return fmt.Sprintf("%v, before: ", s) }
func (s split) inPart(n int) string { return fmt.Sprintf("%v, cut, in a part of %d: ", s, n) }
func (s split) healed() string      { return fmt.Sprintf("%v, healed: ", s) }
func (s split) inAll() string       { return fmt.Sprintf("%v: ", s) }

func (s split) sizes() []int { return slices.Compact(slices.Clone(s)) }

// sortRows puts rows into the order of phases and quantities: not each system has them all.
func sortRows(rows []*report.Row) {
	var order []string
	for _, s := range splits {
		all := []string{s.before()}
		for _, n := range s.sizes() {
			all = append(all, s.inPart(n))
		}
		for _, phase := range append(all, s.healed(), s.inAll()) {
			for _, q := range quantities {
				order = append(order, phase+q)
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b *report.Row) int {
		return slices.Index(order, a.What) - slices.Index(order, b.What)
	})
}

// tally is what became of some operations.
type tally struct {
	tried, done, old int
	latency          measure.Latencies // of those that were done
}

// count counts the operations of some clients and of a kind that were due from one time to another,
// and would have been given up before that.
func count(ops []partOp, clients []int, k partKind, from, to time.Time) (t tally) {
	for _, op := range ops {
		within := !op.at.Before(from) && !op.at.Add(partDeadline).After(to)
		if op.kind != k || !within || !slices.Contains(clients, op.client) {
			continue
		}
		t.tried++
		if !op.done {
			continue
		}
		t.done++
		t.latency.Observe(op.took)
		if op.old {
			t.old++
		}
	}
	return t
}

func share(part, of int) float64 { return 100 * float64(part) / float64(of) }

// missing counts the keys that are not shown by all.
func missing(keys []string, shown []map[string]bool) (n int) {
	for _, key := range keys {
		if slices.ContainsFunc(shown, func(s map[string]bool) bool { return !s[key] }) {
			n++
		}
	}
	return n
}

// written returns the keys of writes that were acknowledged, and of those that failed.
func written(ops []partOp) (acknowledged, failed []string) {
	for _, op := range ops {
		switch {
		case op.kind != writing:
		case op.done:
			acknowledged = append(acknowledged, op.key)
		default:
			failed = append(failed, op.key)
		}
	}
	return acknowledged, failed
}

// resumed returns how long after some time a client was acknowledged a write that was due then or
// later, and before another time.
func resumed(ops []partOp, client int, from, to time.Time) (d time.Duration, ok bool) {
	for _, op := range ops {
		if op.client != client || op.kind != writing || !op.done || op.at.Before(from) {
			continue
		}
		if end := op.at.Add(op.took); end.Before(to) && (!ok || end.Sub(from) < d) {
			d, ok = end.Sub(from), true
		}
	}
	return d, ok
}

// record writes down what became of it. Clients work no more.
func (c *cutting) record(b *bench, system string, shown []map[string]bool) {
	var all []int
	for i := range c.members {
		all = append(all, i)
	}
	w := c.when
	c.recordPhase(b, system, c.of.before(), all, w.began, w.cut)
	for _, n := range c.of.sizes() {
		var clients []int
		for _, part := range c.parts {
			if len(part) == n {
				clients = append(clients, part...)
			}
		}
		c.recordPhase(b, system, c.of.inPart(n), clients, w.isCut, w.heals)
	}
	var first []time.Duration
	for _, client := range c.parts[0] {
		if d, ok := resumed(c.ops, client, w.isCut, w.heals); ok {
			first = append(first, d)
		}
	}
	if len(first) > 0 {
		b.Less(c.of.inPart(c.of[0])+firstWrite, "s", system, slices.Min(first).Seconds())
	}
	c.recordPhase(b, system, c.of.healed(), all, w.healed, w.healed.Add(c.phases.healed))
	sure := count(c.ops, all, sureReading, w.began, w.ended)
	if sure.done > 0 {
		b.Less(c.of.inAll()+sureOld, "% of those done", system, share(sure.old, sure.done))
	}
	acknowledged, failed := written(c.ops)
	b.Less(c.of.inAll()+writesLost, "writes", system, float64(missing(acknowledged, shown)))
	if len(failed) > 0 {
		b.Less(c.of.inAll()+failedDone, "% of those", system, share(len(failed)-missing(failed, shown), len(failed)))
	}
}

// recordPhase writes down what clients could do in some time.
func (c *cutting) recordPhase(b *bench, system, what string, clients []int, from, to time.Time) {
	writes := count(c.ops, clients, writing, from, to)
	sure := count(c.ops, clients, sureReading, from, to)
	local := count(c.ops, clients, localReading, from, to)
	if writes.tried > 0 {
		b.More(what+writesDone, "%", system, share(writes.done, writes.tried))
	}
	b.quantiles(what, writesP50, writesP99, system, &writes.latency)
	if sure.tried > 0 {
		b.More(what+sureDone, "%", system, share(sure.done, sure.tried))
	}
	b.quantiles(what, sureP50, sureP99, system, &sure.latency)
	if local.tried > 0 {
		b.More(what+localDone, "%", system, share(local.done, local.tried))
	}
	b.quantiles(what, localP50, localP99, system, &local.latency)
	if local.done > 0 {
		b.Less(what+localOld, "% of those done", system, share(local.old, local.done))
	}
}

// quantiles records those of a latency that there were operations enough for.
func (b *bench) quantiles(what, p50, p99, system string, l *measure.Latencies) {
	if b.Enough(what+p50, 0.5, l) {
		b.Less(what+p50, "ms", system, l.Milliseconds(0.5))
	}
	if b.Enough(what+p99, 0.99, l) {
		b.Less(what+p99, "ms", system, l.Milliseconds(0.99))
	}
}

// quorumShare is which share of operations a part with so many members could do, in percent.
func quorumShare(n int) float64 {
	if 2*n > partMembers {
		return 100
	}
	return 0
}

// availability returns which share of operations a client can do whose own member is up, if each
// other one is reached with a probability, and shares[n] can be done where n members reach each
// other: the mean over the binomial distribution of n-1.
func availability(shares []float64, p float64) (sum float64) {
	others := len(shares) - 2
	for n := range others + 1 {
		ways := 1.0
		for i := range n {
			ways = ways * float64(others-i) / float64(i+1)
		}
		sum += ways * math.Pow(p, float64(n)) * math.Pow(1-p, float64(others-n)) * shares[n+1]
	}
	return sum
}

// partitionCharts draws what parts could do, and what that makes of members that are not always
// reached.
func (b *bench) partitionCharts(all []partedSystem) {
	parts := report.Chart{Name: "parts", Title: "Writes done in a part, by its members",
		XLabel: "members, of 5", YLabel: "%", Papers: true}
	means := report.Chart{Name: "availability", Title: "Writes done, by how often a member reaches " +
		"another, computed", XLabel: "% of the time", YLabel: "%"}
	measured := map[int]string{1: splits[1].inPart(1), 2: splits[0].inPart(2), 3: splits[0].inPart(3),
		5: splits[0].before()}
	for _, s := range append(slices.Clone(all), partedSystem{name: "quorum"}) {
		line := report.Line{System: s.name, Theory: s.name == "quorum"}
		mean := report.Line{System: s.name, Theory: line.Theory}
		shares := make([]float64, partMembers+1)
		for n := 1; n <= partMembers; n++ {
			name, ok := measured[n]
			switch {
			case line.Theory:
				shares[n] = quorumShare(n)
			case !ok:
				shares[n] = shares[n-1] // 4 were not measured: they can do no less than 3
				continue
			default:
				shares[n] = b.Median(name+writesDone, s.name)
			}
			line.X, line.Y = append(line.X, float64(n)), append(line.Y, shares[n])
		}
		for p := 0.05; p < 0.999; p += 0.05 {
			mean.X, mean.Y = append(mean.X, 100*p), append(mean.Y, availability(shares, p))
		}
		parts.Lines, means.Lines = append(parts.Lines, line), append(means.Lines, mean)
	}
	b.Charts = append(b.Charts, parts, means)
}
