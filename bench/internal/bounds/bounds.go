// Package bounds measures the figures that have bounds: what must be at least, what they are meant
// to become, and whether they are, beside redis-server with appendonly yes and bare Badger. It
// prints a table.
//
// A row is a function in the table of rows. It starts what it needs in a lab, and all of it ends
// when the row is over, however it ends. What is compared is run in turn, several times, and the
// median of the quotients counts: machines are noisy, and a quotient within one run says more than
// a rate.
//
// The bounds are those of the full sizes. With small ones a verdict on a figure that depends on
// them is in parentheses: it shows that everything runs, and large changes.
package bounds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
)

// row measures one line, or a few that belong together, of the table.
type row struct {
	name    string
	about   string
	measure func(context.Context, *bench) ([]figure, error)
}

var rows = []row{
	{"plain", "commands of 50 clients, beside redis-server", plain},
	{"pipelined", "the same with -P 16", pipelined},
	{"types", "commands of the other types, and a script, beside redis-server", types},
	{"types-pipelined", "the same with -P 16", typesPipelined},
	{"p99", "the 99th percentile of SET under that load, a closed loop", tail},
	{"neighbours", "CPU of a SET with two neighbours, against alone", neighbours},
	{"spread", "what a slow neighbour costs another", spread},
	{"expiring", "the slowest write while very many keys expire", expiring},
	{"uniform", "GET of keys that do not fit into the cache", uniform},
	{"replica", "CPU of a SET in the replica alone", replica},
	{"step", "how long a step of the core takes whose budget is spent", step},
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

// sizes is how much is measured.
type sizes struct {
	rounds   int           // of what is compared in turn
	requests int           // of each plain redis-benchmark; with -P 16 four times as many
	warm     int           // keys that operations work on
	cells    int           // what stands for 10⁶
	many     int           // what stands for 10⁷
	written  int           // keys that are written in so many seconds that these can be compared
	watch    time.Duration // how long what is idle is watched
	settle   time.Duration // how long it is left alone before that
	deleted  []int         // how many sets of 20 elements are deleted
	sets     int           // SETs of the replica alone
	bench    string        // -test.benchtime of transactions
}

var full = sizes{
	rounds: 5, requests: 200_000, warm: 10_000, cells: 1_000_000, many: 10_000_000, written: 10_000_000,
	watch: time.Minute, settle: 90 * time.Second, deleted: []int{12_500, 25_000, 50_000, 100_000},
	sets: 200_000, bench: "2s",
}

var small = sizes{
	rounds: 3, requests: 10_000, warm: 10_000, cells: 50_000, many: 100_000, written: 1_000_000,
	watch: 20 * time.Second, settle: 90 * time.Second, deleted: []int{1_500, 3_000, 6_000},
	sets: 20_000, bench: "300ms",
}

// quick reports whether there is too little to judge figures by that depend on how much there is.
func (s sizes) quick() bool { return s.many < full.many }

// bench is where rows are measured, and how much of it.
type bench struct {
	*lab.Lab
	sizes
}

// Rows returns the names of all rows, each with what it is about.
func Rows() (names [][2]string) {
	for _, r := range rows {
		names = append(names, [2]string{r.name, r.about})
	}
	return names
}

// Print measures rows, all if none are named, and prints their table, below a line that says on
// which machine. A figure that misses its bound is no error; a row that cannot be measured is, and
// the others are measured nevertheless.
func Print(ctx context.Context, l *lab.Lab, quick bool, machine string, names []string, out io.Writer) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	b := &bench{l, full}
	if quick {
		b.sizes = small
		machine += ", QUICK: small sizes; what depends on them is in parentheses"
	}
	fmt.Fprintf(out, "%s\n\n%s\n\n", machine, b.about(ctx))
	return b.measure(ctx, chosen, out)
}

// about says what the rows are of.
func (b *bench) about(ctx context.Context) string {
	redis := "none"
	if said, err := b.Tool(ctx, "redis-server", "--version"); err == nil {
		redis, _, _ = strings.Cut(said, "\n")
	}
	command := "go -C bench run . bounds ROW"
	if b.quick() {
		command += " --quick"
	}
	return fmt.Sprintf("peerd: %s. redis-server (appendonly yes): %s. Badger: %s. Daemons and redis-server sync each second; of `commits` each figure "+
		"names its durability, and `replica`, `repair` and the peers of `spread` are in memory. In parentheses: the 95%% interval of %d rounds, "+
		"in turn where they are of several systems, or that there was one run. `%s` repeats a row.",
		b.Version, redis, lab.ModuleVersion("github.com/dgraph-io/badger/v4"), b.rounds, command)
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
			return nil, fmt.Errorf("no row is named %q: \"go -C bench run . help\" lists them", name)
		}
		chosen = append(chosen, rows[i])
	}
	return chosen, nil
}

// measure prints the table, each row as soon as it is measured.
func (b *bench) measure(ctx context.Context, chosen []row, out io.Writer) error {
	fmt.Fprint(out, heading)
	var failed []string
	for _, r := range chosen {
		began := time.Now()
		b.Profile.Of = r.name
		found, err := r.measure(ctx, b)
		b.End()
		for _, f := range found {
			fmt.Fprintln(out, f.line(r.name, b.quick()))
		}
		missed := func(f figure) bool { return f.verdict(b.quick()) == "MISSED" }
		if slices.ContainsFunc(found, missed) && ctx.Err() == nil {
			fmt.Fprintf(out, "| %s | profile of a miss, of one round more | | | | | %s |\n", r.name,
				oneLine(b.profile(ctx, r)))
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			failed = append(failed, r.name)
			fmt.Fprintf(out, "| %s | NOT MEASURED: %s | | | | | |\n", r.name, oneLine(err.Error()))
		}
		fmt.Fprintf(os.Stderr, "%s took %v\n", r.name, time.Since(began).Round(time.Second/10))
	}
	if failed != nil {
		return fmt.Errorf("not measured: %s", strings.Join(failed, ", "))
	}
	return nil
}

// profile measures a row once more, with a CPU profile of the daemons and of benchmarks, and says
// in which files it is, and what takes the most. What that costs is not in the row. If profiles
// are taken already, it is in those.
func (b *bench) profile(ctx context.Context, r row) string {
	if b.Profile.Kind != "" {
		return "see " + b.Profile.Dir
	}
	once := *b
	once.rounds = 1
	before := b.Profile
	defer func() { b.Profile = before }()
	b.Profile.Kind = "cpu"
	err := os.MkdirAll(before.Dir, 0o755)
	if err == nil {
		b.Profile.Dir, err = os.MkdirTemp(before.Dir, r.name+"-") // with nothing else in it
	}
	if err == nil {
		_, err = r.measure(ctx, &once)
	}
	b.End()
	if err != nil {
		return fmt.Sprintf("none: %v", err)
	}
	files, err := profilesOf(b.Profile.Dir)
	if err != nil || len(files) == 0 {
		return "none: nothing of peerd's ran for long enough"
	}
	pattern := filepath.Join(b.Profile.Dir, "*.cpu.*")
	top, err := b.ToolIn(ctx, ".", "go", append([]string{"tool", "pprof", "-top", "-nodecount=6"},
		files...)...)
	if err != nil {
		return fmt.Sprintf("%s: %v", pattern, err)
	}
	return pattern + ": " + strings.Join(mostOf(top), ", ")
}

// profilesOf returns the files of a directory's CPU profiles.
func profilesOf(dir string) (files []string, err error) {
	all, err := os.ReadDir(dir)
	for _, f := range all {
		if strings.Contains(f.Name(), ".cpu.") {
			files = append(files, filepath.Join(dir, f.Name()))
		}
	}
	return files, err
}

// mostOf returns what pprof says takes the most, a function each with its own part of the time.
func mostOf(top string) (functions []string) {
	_, lines, _ := strings.Cut(top, "cum%\n")
	for line := range strings.Lines(lines) {
		if fields := strings.Fields(line); len(fields) > 5 {
			functions = append(functions, fields[1]+" "+strings.Join(fields[5:], " "))
		}
	}
	return functions
}

// oneLine makes a text fit into a table.
func oneLine(text string) string {
	return strings.NewReplacer("\n", " / ", "|", "¦").Replace(text)
}
