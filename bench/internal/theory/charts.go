// Package theory is the mathematics of docs/choosing.md: what is predicted of epidemics, quorums,
// version vectors and the matrix clock, simulations of the same from fixed seeds, and charts of
// both. The same seeds give the same charts, so a test holds the papers' to them.
//
// References: Demers, Greene, Hauser, Irish, Larson, Shenker, Sturgis, Swinehart, Terry: Epidemic
// algorithms for replicated database maintenance (PODC 1987). Kermarrec, Massoulié, Ganesh:
// Probabilistic reliable dissemination in large-scale systems (IEEE TPDS 2003). Parker et al.:
// Detection of mutual inconsistency in distributed systems (IEEE TSE 1983). Wuu, Bernstein:
// Efficient solutions to the replicated log and dictionary problems (PODC 1984).
package theory

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"text/tabwriter"

	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

// losses are those of the scenario "spread".
var losses = []float64{0, 0.1, 0.3}

// Prefix is what the names of the charts' files begin with.
const Prefix = "theory-"

const (
	fanout  = 3
	crowd   = 1000 // members of the epidemics whose fan-out changes
	rumours = 300  // of each point
)

// made is when the models were changed last, which the charts say. The seeds are fixed: nothing
// else changes them.
const made = "2026-11-29, version 1 of the models"

// Charts simulates everything anew, and returns its charts. It takes a few seconds.
func Charts() []report.Chart {
	all := []report.Chart{rounds(), missed(), anyMissed(), quorums(), concurrent(), stability()}
	for i := range all {
		all[i].Caption = made + ": go -C bench run . theory\npoints: simulated from fixed seeds; dashed: predicted"
	}
	return all
}

// Print writes what the charts show as a table: what was simulated, what is predicted, and by which part that is off.
func Print(out io.Writer, charts []report.Chart) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range charts {
		fmt.Fprintf(w, "%s: %s\n%s\tsimulated\tpredicted\toff\t\n", c.Name, c.Title, c.XLabel)
		for i := 0; i+1 < len(c.Lines); i += 2 {
			simulated, predicted := c.Lines[i], c.Lines[i+1]
			for j, x := range simulated.X {
				k := slices.Index(predicted.X, x)
				off := "–"
				if simulated.Y[j] > 0 {
					off = fmt.Sprintf("%+.1f %%", 100*(predicted.Y[k]/simulated.Y[j]-1))
				}
				fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%s\t%s\n", report.Number(x), simulated.Y[j], predicted.Y[k], off, simulated.System)
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// seeded is the chance of one chart.
func seeded(chart uint64) *rand.Rand { return rand.New(rand.NewPCG(13, chart)) }

// both are a line of what was measured and one of what is predicted, which share a name.
func both(name string) (measured, predicted report.Line) {
	return report.Line{System: name}, report.Line{System: name, Theory: true}
}

func point(l *report.Line, x, y float64) { l.X, l.Y = append(l.X, x), append(l.Y, y) }

// spreadOf is the mean of what was measured, and where nine of ten were.
func spreadOf(values []float64) measure.Interval {
	slices.Sort(values)
	return measure.Interval{Value: mean(values), Low: values[len(values)/20], High: values[len(values)*19/20]}
}

func mean(values []float64) (m float64) {
	for _, v := range values {
		m += v / float64(len(values))
	}
	return m
}

func rounds() report.Chart {
	c := report.Chart{Name: "epidemic-rounds", Title: "Rounds until all know of a rumour that all pass on " +
		"to 3 others a round", XLabel: "members", YLabel: "rounds, mean", LogX: true}
	chance := seeded(1)
	for _, loss := range losses {
		measured, predicted := both(fmt.Sprintf("%.0f%% lost", 100*loss))
		for n := 4; n <= 4096; n *= 4 {
			p := Push{Members: n, Fanout: fanout, Loss: loss}
			took := make([]float64, rumours)
			for i := range took {
				took[i] = float64(p.Run(chance))
			}
			measured.Point(float64(n), spreadOf(took))
			point(&predicted, float64(n), p.Rounds())
		}
		c.Lines = append(c.Lines, measured, predicted)
	}
	return c
}

// once draws a chart of rumours that are passed on once, over the fan-out.
func once(c report.Chart, chart uint64, predict func(Once) float64, of func(missed int) float64) report.Chart {
	chance := seeded(chart)
	for _, loss := range losses {
		measured, predicted := both(fmt.Sprintf("%.0f%% lost", 100*loss))
		for f := 2; f <= 14; f++ {
			o := Once{Members: crowd, Fanout: f, Loss: loss}
			found := make([]float64, rumours)
			for i := range found {
				found[i] = of(o.Run(chance))
			}
			point(&measured, float64(f), mean(found))
			point(&predicted, float64(f), predict(o))
		}
		c.Lines = append(c.Lines, measured, predicted)
	}
	return c
}

func missed() report.Chart {
	return once(report.Chart{Name: "epidemic-missed", Title: "A rumour that each of 1,000 passes on once: " +
		"who never learns of it", XLabel: "to how many others", YLabel: "probability for one member", LogY: true},
		2, Once.Missed, func(missed int) float64 { return float64(missed) / (crowd - 1) })
}

func anyMissed() report.Chart {
	return once(report.Chart{Name: "epidemic-any", Title: "The same: that anybody never learns of it",
		XLabel: "to how many others", YLabel: "probability"},
		3, Once.AnyMissed, func(missed int) float64 { return float64(min(1, missed)) })
}

func quorums() report.Chart {
	c := report.Chart{Name: "quorum", Title: "For which part of the time nobody answers",
		XLabel: "for which part of the time a node is down", YLabel: "part of the time", LogX: true, LogY: true}
	chance := seeded(4)
	for _, q := range []struct {
		name        string
		nodes, need int
	}{
		{"one's own host", 1, 1}, {"a majority of 3", 3, 2}, {"a majority of 5", 5, 3}, {"any of 3 hosts", 3, 1},
	} {
		measured, predicted := both(q.name)
		for _, down := range []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5} {
			cluster := Cluster{q.nodes, q.need, down}
			part, outages := cluster.Run(chance, 400_000)
			if outages >= 30 { // fewer say little
				point(&measured, down, part)
			}
			point(&predicted, down, cluster.Out())
		}
		c.Lines = append(c.Lines, measured, predicted)
	}
	return c
}

func concurrent() report.Chart {
	c := report.Chart{Name: "concurrent", Title: "With how many others a write is concurrent, by version vectors",
		XLabel: "ms until the others have a write", YLabel: "writes", LogX: true, LogY: true}
	chance := seeded(5)
	for _, n := range []int{3, 10, 30} {
		measured, predicted := both(fmt.Sprintf("%d replicas, each writes once a second", n))
		for _, delay := range []float64{0.01, 0.1, 1, 10} {
			w := Writers{Replicas: n, Rate: 1, Delay: delay}
			point(&measured, 1000*delay, w.Run(chance, 2000))
			point(&predicted, 1000*delay, w.Concurrent())
		}
		c.Lines = append(c.Lines, measured, predicted)
	}
	return c
}

func stability() report.Chart {
	c := report.Chart{Name: "stability", Title: "Rounds until all have a write, and until its writer knows that",
		XLabel: "members, each tells one other a round", YLabel: "rounds, mean", LogX: true}
	chance := seeded(6)
	there, thereMeant := both("all have it")
	known, knownMeant := both("the writer's matrix clock says so")
	late, lateMeant := both("the same, with one member away for 40 rounds")
	for n := 4; n <= 1024; n *= 4 {
		var all, stable, after []float64
		w, away := Watchers{Members: n}, Watchers{Members: n, Away: 40}
		for range 50 {
			a, s := w.Run(chance)
			_, l := away.Run(chance)
			all, stable, after = append(all, float64(a)), append(stable, float64(s)), append(after, float64(l))
		}
		x := float64(n)
		there.Point(x, spreadOf(all))
		known.Point(x, spreadOf(stable))
		late.Point(x, spreadOf(after))
		point(&thereMeant, x, w.Everywhere())
		point(&knownMeant, x, w.Stable())
		point(&lateMeant, x, away.Stable())
	}
	c.Lines = []report.Line{there, thereMeant, known, knownMeant, late, lateMeant}
	return c
}
