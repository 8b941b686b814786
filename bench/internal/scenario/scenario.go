// Package scenario is what the harness measures, a file for each scenario. A scenario names its
// systems with their versions, settings and durability, runs them in turn, records what each round
// gave, and says what was not on the same work. What cannot be installed is skipped, by name.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

// Scenario is one of them.
type Scenario struct {
	Name  string
	About string
	quick plan
	full  plan
	run   func(context.Context, *bench) error
}

// plan is of how many rounds what is compared in turn has, and how long the scenario takes on two
// cores.
type plan struct {
	rounds int
	takes  time.Duration
}

// All is every scenario, in the order in which they are run.
var All = []Scenario{
	{"commit", "Writes of an embedded database: rate, latency, CPU and allocations, by " +
		"durability, writers and size",
		plan{3, time.Minute}, plan{3, 8 * time.Minute}, commit},
	{"kv", "Redis commands, and YCSB A to F, of one peer and of three",
		plan{2, 50 * time.Second}, plan{3, 23 * time.Minute}, kv},
	{"types", "Merging and encoding each type, in memory",
		plan{2, 17 * time.Second}, plan{3, 4 * time.Minute}, types},
	{"repair", "Finding and carrying few differences among many cells, where no log reaches back",
		plan{3, 15 * time.Second}, plan{3, 7 * time.Minute}, repair},
	{"catchup", "A copy that was away for some writes returns: bytes, round trips, time",
		plan{2, 27 * time.Second}, plan{3, 7 * time.Minute}, catchup},
	{"growth", "Memory, disk, metadata, opening and latency, as keys, elements, deletes and replicas " +
		"grow by tens",
		plan{1, 40 * time.Second}, plan{3, 18 * time.Minute}, growth},
	{"spread", "From a write at one member until all have it, with packets lost, beside the " +
		"epidemic's prediction",
		plan{2, 65 * time.Second}, plan{3, 15 * time.Minute}, spreading},
	{"strong", "Increments and compare-and-set by many clients: what coordination costs",
		plan{2, 40 * time.Second}, plan{3, 4 * time.Minute}, strong},
	{"partition", "A cluster under load is split, in two parts and in three: what each part can still do, and what is lost",
		plan{1, 90 * time.Second}, plan{3, 33 * time.Minute}, partition},
	{"bootstrap", "An empty peer joins: time, bytes, memory, and the other's latency meanwhile",
		plan{1, 21 * time.Second}, plan{3, 30 * time.Minute}, bootstrap},
	{"soak", "Mixed load and faults for a time: the first quarter against the last",
		plan{1, 27 * time.Second}, plan{3, 6 * time.Minute}, soak},
}

// Expected is about how long the scenario takes.
func (s Scenario) Expected(quick bool) time.Duration {
	if quick {
		return s.quick.takes
	}
	return s.full.takes
}

// bench is where a scenario measures and what it records in.
type bench struct {
	*lab.Lab
	*report.Scenario
	quick  bool
	rounds int           // of what is compared in turn
	lasts  time.Duration // how long soak lasts, 0 for as long as it does
	show   func(part float64, what string)
}

// Options say how scenarios are measured.
type Options struct {
	Quick bool
	Flags string                          // what else the command line had that its figures depend on
	Lasts time.Duration                   // how long soak lasts; 0 is as long as it does
	Show  func(part float64, what string) // told what is measured now, and which part of the scenario is done
}

// Measure runs the scenario, and ends all that it has started. A failure is in what it returns.
func (s Scenario) Measure(ctx context.Context, l *lab.Lab, o Options) *report.Scenario {
	b := &bench{Lab: l, quick: o.Quick, rounds: s.full.rounds, lasts: o.Lasts, show: o.Show, Scenario: &report.Scenario{
		Name: s.Name, About: s.About, Command: "go -C bench run . " + s.Name + o.Flags}}
	if o.Quick {
		b.rounds = s.quick.rounds
		b.Command += " --quick"
	}
	began := time.Now()
	err := func() (err error) {
		defer l.End() // also after a panic
		stop, err := profileThis(l.Profile)
		if err != nil {
			return fmt.Errorf("a profile of the harness: %w", err)
		}
		defer func() { err = errors.Join(err, stop()) }()
		return s.run(ctx, b)
	}()
	if err != nil {
		b.Failure = err.Error()
	}
	b.Finish()
	b.Took = report.Seconds(time.Since(began))
	return b.Scenario
}

// size returns one of two, the first of them with --quick.
func size[T any](b *bench, quick, full T) T {
	if b.quick {
		return quick
	}
	return full
}

// inTurn measures systems in turn, and says how far it is: from the part of the scenario that is
// done to that of its end.
func (b *bench) inTurn(from, to float64, what string, systems int, one func(round, system int) error) error {
	done := 0
	defer b.Round(0, 0)
	return measure.InTurn(b.rounds, systems, func(round, system int) error {
		if done%systems == 0 {
			part := from + (to-from)*float64(done)/float64(b.rounds*systems)
			b.show(part, fmt.Sprintf("%s, round %d of %d", what, round+1, b.rounds))
		}
		done++
		b.Round(round+1, b.rounds)
		return one(round, system)
	})
}

// version is lab.ModuleVersion.
func version(module string) string { return lab.ModuleVersion(module) }

// moduleVersion is version for a module that only another program of the harness has.
func (b *bench) moduleVersion(ctx context.Context, module string) string {
	out, err := b.ToolIn(ctx, filepath.Join(b.Repo, "bench"), "go", "list", "-m", "-f", "{{.Version}}", module)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(out)
}

// programVersion returns the first line that a program says of its version.
func (b *bench) programVersion(ctx context.Context, program string, args ...string) string {
	out, err := b.Tool(ctx, program, args...)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	return line
}

// profileThis takes a profile of the harness itself, for what is measured inside it, until the
// function that it returns is called. Without a kind it does nothing.
func profileThis(p lab.Profile) (stop func() error, err error) {
	if p.Kind == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(filepath.Join(p.Dir, p.Of+"-harness."+p.Kind))
	if err != nil {
		return nil, err
	}
	switch p.Kind {
	case "cpu":
		if err := pprof.StartCPUProfile(file); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	case "block":
		runtime.SetBlockProfileRate(int(10 * time.Microsecond))
	case "mutex":
		runtime.SetMutexProfileFraction(10)
	}
	return func() error {
		if p.Kind == "cpu" {
			pprof.StopCPUProfile()
			return file.Close()
		}
		err := pprof.Lookup(p.Kind).WriteTo(file, 0)
		runtime.SetBlockProfileRate(0)
		runtime.SetMutexProfileFraction(0)
		return errors.Join(err, file.Close())
	}, nil
}

// closeAll closes what was opened, and returns the first error.
func closeAll(closers ...func() error) error {
	var all []error
	for _, c := range closers {
		all = append(all, c())
	}
	return errors.Join(all...)
}
