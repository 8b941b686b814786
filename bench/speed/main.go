// Speed measures how fast peerd is, beside what its users would take instead: redis-server with
// appendonly yes, and bare Badger. It prints a table: each figure with what it must be at least,
// what it is meant to become, and whether it is.
//
//	bench/speed.sh                 everything, which takes an hour or two
//	bench/speed.sh --quick         the same with small sizes, in a few minutes
//	bench/speed.sh plain open      only these rows
//
// A row is a function in the table of rows. It starts what it needs in a lab, which ends all of it
// and removes its files when the row is over, however it ends. Daemons and redis-servers listen on
// loopback, on ports that are free. What is compared is run in turn, several times, and the median
// of the quotients counts: machines are noisy, and a quotient within one run says more than a rate.
//
// The bounds are those of the full sizes. With --quick a verdict on a figure that depends on them
// is in parentheses: it shows that everything runs, and large changes.
//
// It needs Linux (/proc), Go, and for some rows Debian's redis-server and redis-tools.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// row measures one line, or a few that belong together, of the table.
type row struct {
	name    string
	about   string
	measure func(context.Context, *lab) ([]figure, error)
}

var rows = []row{
	{"plain", "commands of 50 clients, beside redis-server", plain},
	{"pipelined", "the same with -P 16", pipelined},
	{"p99", "the 99th percentile of SET under that load", tail},
	{"neighbours", "CPU of a SET with two neighbours, against alone", neighbours},
	{"spread", "what a slow neighbour costs another", spread},
	{"uniform", "GET of keys that do not fit into the cache", uniform},
	{"replica", "CPU of a SET in the replica alone", replica},
	{"commits", "transactions of 64 writers, beside bare Badger", commits},
	{"memory", "what a daemon holds after a million SETs", memory},
	{"open", "how long a daemon takes to start", opening},
	{"write", "whether writing goes on evenly", writing},
	{"bootstrap", "an empty peer gets everything", bootstrap},
	{"repair", "bytes of a repair", repair},
	{"agree", "bytes to find that two peers are equal", agree},
	{"burst", "bytes of writes to a peer that was away", burst},
	{"idle", "what an idle daemon holds", idle},
	{"idle-cluster", "CPU of peers with nothing to do", idleCluster},
	{"growth", "operations among more and more keys that they do not touch", growth},
	{"element", "one more element into a large set", element},
	{"del", "adding and deleting many sets on two linked peers", deleting},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(1)
	}
}

// run measures and prints what the arguments ask for. A figure that misses its bound is no error; a
// row that cannot be measured is, and the others are measured nevertheless.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("speed", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "small sizes")
	binary := flags.String("peerd", "", "measure this daemon (default: build the one of this tree)")
	profile := flags.String("profile", "", "write profiles of the daemons into this directory")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "speed [--quick] [--peerd FILE] [--profile DIR] [ROW...]")
		flags.PrintDefaults()
		for _, r := range rows {
			fmt.Fprintf(flags.Output(), "  %-13s %s\n", r.name, r.about)
		}
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	chosen, err := choose(flags.Args())
	if err != nil {
		return err
	}
	s := full
	if *quick {
		s = small
	}
	l, err := newLab(ctx, s, *binary)
	if err != nil {
		return err
	}
	defer l.close()
	if *profile != "" {
		if l.profile, err = filepath.Abs(*profile); err == nil {
			err = os.MkdirAll(l.profile, 0o700)
		}
		if err != nil {
			return err
		}
	}
	return l.measure(ctx, chosen, out)
}

// choose returns the rows of some names, all if there are none.
func choose(names []string) ([]row, error) {
	if len(names) == 0 {
		return rows, nil
	}
	var chosen []row
	for _, name := range names {
		i := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no row is named %q: --help lists them", name)
		}
		chosen = append(chosen, rows[i])
	}
	return chosen, nil
}

// measure prints the table, each row as soon as it is measured.
func (l *lab) measure(ctx context.Context, chosen []row, out io.Writer) error {
	fmt.Fprintln(out, machine(ctx, l))
	fmt.Fprint(out, heading)
	var failed []string
	for _, r := range chosen {
		began := time.Now()
		l.row = r.name
		found, err := r.measure(ctx, l)
		l.end()
		for _, f := range found {
			fmt.Fprintln(out, f.line(r.name, l.quick()))
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			failed = append(failed, r.name)
			fmt.Fprintf(out, "| %s | NOT MEASURED: %s | | | | | |\n", r.name, oneLine(err))
		}
		fmt.Fprintf(os.Stderr, "speed: %s took %v\n", r.name, time.Since(began).Round(time.Second/10))
	}
	if failed != nil {
		return fmt.Errorf("not measured: %s", strings.Join(failed, ", "))
	}
	return nil
}

// oneLine makes an error fit into a table.
func oneLine(err error) string {
	return strings.NewReplacer("\n", " / ", "|", "¦").Replace(err.Error())
}
