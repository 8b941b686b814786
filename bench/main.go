// Bench shows where peerd stands beside what its users would take instead, beside theory, and where
// it loses.
//
//	go -C bench run . all [--quick]            every scenario; a report in bench/out
//	go -C bench run . SCENARIO... [--quick]    only these
//	go -C bench run . bounds [--quick] [ROW...]    the figures that have bounds
//	go -C bench run . compare COMMIT [PKG:PATTERN]  this tree's benchmarks against a commit's
//	go -C bench run . theory                   the charts of docs/choosing.md, into docs/charts, and their table
//	go -C bench run . help                     lists them all
//
// See README.md for how to read what it writes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/peerd/peerd/bench/internal/bounds"
	"github.com/peerd/peerd/bench/internal/compare"
	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/member"
	"github.com/peerd/peerd/bench/internal/report"
	"github.com/peerd/peerd/bench/internal/scenario"
	"github.com/peerd/peerd/bench/internal/theory"
)

// patience is how long a load, a repair or a sweep may take; with --quick less.
const patience, quickPatience = time.Hour, 5 * time.Minute

// papersCharts is where the project's papers have their charts.
const papersCharts = "../docs/charts"

func main() {
	if len(os.Args) == 3 && os.Args[1] == member.Command { // this process was started by another harness
		if err := member.Run(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	quick, json, papers  bool
	out, binary, profile string
	lasts                time.Duration
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "small sizes and few rounds: all in less than ten "+
		"minutes")
	flags.BoolVar(&o.json, "json", false, "print results.json as well")
	flags.BoolVar(&o.papers, "papers", false, "write the charts that the papers show into docs/charts "+
		"as well")
	flags.StringVar(&o.out, "out", "out", "the directory of the report")
	flags.StringVar(&o.binary, "peerd", "", "measure this daemon (default: build the one of this "+
		"tree)")
	flags.StringVar(&o.profile, "profile", "", "write profiles of daemons and harness there too: "+
		"cpu, heap, block or mutex")
	flags.DurationVar(&o.lasts, "for", 0, "how long soak lasts")
	flags.Usage = func() { usage(stderr, flags) }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	names := flags.Args()
	if len(names) == 0 || names[0] == "help" {
		flags.Usage()
		return nil
	}
	if err := o.fit(names[0]); err != nil {
		return err
	}
	switch names[0] {
	case "compare":
		return compareWith(ctx, names[1:], stdout, stderr)
	case "theory":
		charts := theory.Charts()
		if err := report.WriteCharts(papersCharts, theory.Prefix, charts); err != nil {
			return err
		}
		return theory.Print(stdout, charts)
	}
	var chosen []scenario.Scenario
	if names[0] != "bounds" {
		var err error
		if chosen, err = choose(names); err != nil {
			return err
		}
	}
	limit := patience
	if o.quick {
		limit = quickPatience
	}
	l, err := lab.New(ctx, limit, o.binary)
	if err != nil {
		return err
	}
	defer l.Close()
	if l.Profile = (lab.Profile{Kind: o.profile, Dir: filepath.Join(o.out, "profiles")}); o.profile != "" {
		if err := os.MkdirAll(l.Profile.Dir, 0o755); err != nil {
			return err
		}
	}
	r := report.NewRun("go -C bench run . "+strings.Join(args, " "), l.Repo, o.quick)
	if l.Version != lab.ThisTree {
		r.Daemon = l.Version
	}
	if chosen == nil {
		return bounds.Print(ctx, l, o.quick, strings.TrimSpace(r.Heading()+". "+r.Machine.Warning()), names[1:], stdout)
	}
	return o.scenarios(ctx, l, r, chosen, stdout, stderr)
}

// fit reports options that say nothing of what is to be measured, and names the daemon so that it can be
// started in any directory.
func (o *options) fit(what string) (err error) {
	if _, ok := lab.ProfileKinds[o.profile]; !ok && o.profile != "" {
		return fmt.Errorf("no profile is of kind %q: take cpu, heap, block or mutex", o.profile)
	}
	if o.json && slices.Contains([]string{"bounds", "compare", "theory"}, what) {
		return fmt.Errorf("--json is for scenarios: %s prints tables", what)
	}
	if o.binary != "" {
		o.binary, err = filepath.Abs(o.binary)
	}
	return err
}

// repeated is what a command that repeats a scenario has to have beside its name and --quick.
func (o options) repeated(s scenario.Scenario) (flags string) {
	if o.binary != "" {
		flags += " --peerd " + o.binary
	}
	if o.profile != "" {
		flags += " --profile " + o.profile
	}
	if o.lasts > 0 && s.Name == "soak" {
		flags += " --for " + o.lasts.String()
	}
	return flags
}

// compareWith compares this tree with a commit.
func compareWith(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] == "" {
		return errors.New("compare with which commit?")
	}
	repo, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	return compare.Commits(ctx, repo, args[0], strings.Join(args[1:], ""), stdout, stderr)
}

// choose returns the scenarios of some names; "all" is all.
func choose(names []string) ([]scenario.Scenario, error) {
	if slices.Equal(names, []string{"all"}) {
		return scenario.All, nil
	}
	var chosen []scenario.Scenario
	for _, name := range names {
		i := slices.IndexFunc(scenario.All, func(s scenario.Scenario) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no scenario is named %q: %q lists them", name, "go -C bench "+
				"run . help")
		}
		chosen = append(chosen, scenario.All[i])
	}
	return chosen, nil
}

// scenarios runs some, one after the other, and writes the report after each: an interrupted run
// has one too. One that fails does not keep the others from being run.
func (o options) scenarios(ctx context.Context, l *lab.Lab, r *report.Run, chosen []scenario.Scenario,
	stdout, stderr io.Writer) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil { // now, not once all is measured
		return err
	}
	var failed []string
	began := time.Now()
	for i, s := range chosen {
		p := &progress{out: stderr, name: s.Name, place: fmt.Sprintf("%d/%d", i+1, len(chosen)), began: time.Now(),
			expected: s.Expected(o.quick)}
		for _, later := range chosen[i+1:] {
			p.later += later.Expected(o.quick)
		}
		l.Profile.Of = s.Name
		found := s.Measure(ctx, l, scenario.Options{Quick: o.quick, Flags: o.repeated(s), Lasts: o.lasts, Show: p.show})
		r.Scenarios = append(r.Scenarios, found)
		r.Took = report.Seconds(time.Since(r.Began))
		if err := o.write(r); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		p.end(found)
		if found.Failure != "" {
			failed = append(failed, s.Name)
		}
	}
	fmt.Fprintf(stderr, "measuring took %.0f s, without what was installed and built\n",
		(time.Since(began) - l.Prepared).Seconds())
	fmt.Fprintf(stderr, "%s, report.md, results.json and the charts are written\n", filepath.Join(o.out, "report.html"))
	if o.json {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "\t")
		if err := encoder.Encode(r); err != nil {
			return err
		}
	}
	if failed != nil {
		return fmt.Errorf("not measured to the end: %s", strings.Join(failed, ", "))
	}
	return nil
}

func (o options) write(r *report.Run) error {
	if err := r.Write(o.out); err != nil || !o.papers {
		return err
	}
	return r.WriteForPapers(papersCharts)
}

// progress says on one line each what is measured, and how long all will still take.
type progress struct {
	out             io.Writer
	name, place     string
	began           time.Time
	expected, later time.Duration
}

// show says what is measured now, and which part of the scenario is done.
func (p *progress) show(part float64, what string) {
	took := time.Since(p.began)
	left := p.expected - took
	if part > 0.05 {
		left = time.Duration(float64(took) * (1 - part) / part)
	}
	fmt.Fprintf(p.out, "[%s %s] %s (%v left)\n", p.place, p.name, what, max(0, left+p.later).Round(time.Second))
}

func (p *progress) end(s *report.Scenario) {
	fmt.Fprintf(p.out, "[%s %s] took %v\n", p.place, p.name, time.Since(p.began).Round(time.Second/10))
	for _, o := range s.Skipped {
		fmt.Fprintf(p.out, "    not measured: %s: %s\n", o.What, o.Why)
	}
	if s.Failure != "" {
		fmt.Fprintf(p.out, "    FAILED: %s\n", s.Failure)
	}
}

func usage(out io.Writer, flags *pflag.FlagSet) {
	fmt.Fprint(out, "go -C bench run . all|SCENARIO...|bounds [ROW...]|compare COMMIT|theory [--quick] "+
		"[--json] [--profile KIND]\n\n",
		flags.FlagUsages(), "\nscenarios:\n")
	for _, s := range scenario.All {
		fmt.Fprintf(out, "  %-13s %s\n", s.Name, s.About)
	}
	fmt.Fprintln(out, "rows of bounds:")
	for _, r := range bounds.Rows() {
		fmt.Fprintf(out, "  %-13s %s\n", r[0], r[1])
	}
}
