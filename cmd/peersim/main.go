// Command peersim runs simulated worlds of peers through faults: see package internal/sim.
//
//	go run ./cmd/peersim --seeds 1000             a thousand worlds, from a seed that is drawn and printed
//	go run ./cmd/peersim --seed 42 --trace FILE   one world again, and what happened in it, a line an event
//	go run ./cmd/peersim --for 8h                 as many worlds as there is time for
//	go run ./cmd/peersim --seeds 200 --hash       a hash of each trace: equal worlds have equal ones
//
// The last line on standard output is one of totals. The exit status is 1 if an invariant broke.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/peerd/peerd/internal/sim"
)

// heapPerCPU is how much memory the heap may take for each CPU before garbage is collected, in bytes: worlds make
// much of it, and little lives long. With more memory it is not faster.
const heapPerCPU = 256 << 20

// options are what the command line says.
type options struct {
	seeds   uint64
	from    uint64
	seed    uint64
	one     bool // run seed alone
	drawn   bool // from was not given
	trace   string
	lasts   time.Duration
	first   bool
	hashes  bool
	workers int
}

func main() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(heapPerCPU * int64(runtime.NumCPU()))
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(2)
	}
	ok, err := run(o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "peersim:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func parse(args []string, out io.Writer) (o options, err error) {
	set := flag.NewFlagSet("peersim", flag.ContinueOnError)
	set.SetOutput(out)
	set.Uint64Var(&o.seeds, "seeds", 1000, "how many worlds to run")
	set.Uint64Var(&o.from, "from", 0, "the first seed; drawn and printed if absent")
	set.Uint64Var(&o.seed, "seed", 0, "run the world of this seed alone")
	set.StringVar(&o.trace, "trace", "", "write what happened to this file, a line an event (with -seed)")
	set.DurationVar(&o.lasts, "for", 0, "run worlds for this long, whatever -seeds says")
	set.BoolVar(&o.first, "first", false, "stop at the first violation")
	set.BoolVar(&o.hashes, "hash", false, "print a hash of each world's trace: equal worlds have equal ones")
	set.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "how many worlds to run at once")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	o.drawn = true
	set.Visit(func(f *flag.Flag) {
		o.one = o.one || f.Name == "seed"
		o.drawn = o.drawn && f.Name != "from"
	})
	switch {
	case set.NArg() > 0:
		err = fmt.Errorf("unknown argument %q", set.Arg(0))
	case o.trace != "" && !o.one:
		err = errors.New("a trace is of one world: name its -seed")
	case o.workers < 1:
		err = errors.New("it takes a worker, at least")
	}
	if err != nil {
		_, _ = fmt.Fprintln(out, "peersim:", err)
	}
	return o, err
}

// run runs what the options ask for. It reports whether all invariants held.
func run(o options, out io.Writer) (ok bool, err error) {
	if o.one {
		return runOne(o, out)
	}
	if o.drawn {
		o.from = uint64(rand.Uint32())
		_, _ = fmt.Fprintf(out, "from seed %d\n", o.from)
	}
	total := runMany(o, out)
	_, err = fmt.Fprintln(out, total)
	return total.Violations == 0, err
}

func runOne(o options, out io.Writer) (ok bool, err error) {
	var trace io.Writer
	if o.trace != "" {
		f, err := os.Create(o.trace)
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		buffered := bufio.NewWriter(f)
		defer func() { err = errors.Join(err, buffered.Flush()) }()
		trace = buffered
	}
	totals, violation := sim.Run(o.seed, trace)
	report(out, o.seed, violation)
	_, err = fmt.Fprintln(out, totals)
	return violation == nil, err
}

// report prints a violation and how to see it again.
func report(out io.Writer, seed uint64, violation error) {
	if violation != nil {
		_, _ = fmt.Fprintf(out, "seed %d: %v\nreplay: go run ./cmd/peersim --seed %d --trace trace.txt\n",
			seed, violation, seed)
	}
}
