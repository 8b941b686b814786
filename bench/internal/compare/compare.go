// Package compare compares two commits of the project by their own benchmarks: it builds both, runs
// them in turn, ten times each, and has benchstat say what differs. What is slower, or takes more,
// by more than a twentieth, significantly, is a failure.
package compare

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// runs is how often each commit is measured: benchstat finds 5% in the noise of a quiet machine
// then.
const runs = 10

// worse is from where on a change is a failure, in percent.
const worse = 5

// suite is the benchmarks that are compared: those of the way that a write, a read, a delta and a
// repair take, each for some tenths of a second. Those that wait for a disk are left out: what they
// measure is not the commit's.
var suite = []struct{ pkg, pattern string }{
	{"crdt", "."},
	{"antientropy", "^BenchmarkPull$/^100$|^Benchmark(Of|LeafOf|TreeUpdate)"},
	{"internal/engine", "^Benchmark(Set|Incr|Step|Counter)$"},
	{"store/segment", "^BenchmarkAppend$"},
	{"store/badger", "^BenchmarkCommit$/^sync=false$"},
	{"peer", "^BenchmarkCommit$/^(none|interval)$/^64$/^peerd$"},
	{"api/resp", "."},
}

// Commits compares the tree at repo, as it is, with a commit, and writes benchstat's tables. With a
// pattern only benchmarks that match it are run, of the packages named before it: "crdt:Merge".
func Commits(ctx context.Context, repo, base, only string, out, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "peerd-compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	old := filepath.Join(dir, "tree")
	if err := checkOut(ctx, repo, base, old); err != nil {
		return err
	}
	chosen := suite
	if pkg, pattern, ok := strings.Cut(only, ":"); ok {
		chosen = []struct{ pkg, pattern string }{{pkg, pattern}}
	}
	sides := []struct{ name, tree string }{{"base", old}, {"now", repo}}
	for _, s := range sides {
		for _, p := range chosen {
			binary := filepath.Join(dir, s.name+"-"+strings.ReplaceAll(p.pkg, "/", "-"))
			if err := tool(ctx, s.tree, nil, "go", "test", "-c", "-o", binary, "./"+p.pkg); err != nil {
				return err
			}
		}
	}
	for run := range runs {
		for i := range sides {
			s := sides[(run+i)%len(sides)]
			fmt.Fprintf(progress, "run %d of %d: %s\n", run+1, runs, s.name)
			results, err := os.OpenFile(filepath.Join(dir, s.name+".txt"),
				os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			for _, p := range chosen {
				binary := filepath.Join(dir, s.name+"-"+strings.ReplaceAll(p.pkg, "/", "-"))
				err = errors.Join(err, tool(ctx, filepath.Join(s.tree, p.pkg), results, binary, "-test.run", "^$",
					"-test.bench", p.pattern, "-test.benchmem", "-test.benchtime", "200ms"))
			}
			if err := errors.Join(err, results.Close()); err != nil {
				return err
			}
		}
	}
	return benchstat(ctx, repo, dir, out)
}

// checkOut has a commit of a repository in a directory: as a clone, of which nothing is left in
// the repository, wherever it is interrupted.
func checkOut(ctx context.Context, repo, commit, dir string) error {
	var id strings.Builder
	err := tool(ctx, repo, &id, "git", "rev-parse", "--verify", "--end-of-options", commit+"^{commit}")
	if err != nil {
		return err
	}
	err = tool(ctx, repo, nil, "git", "clone", "-q", "--shared", "--no-checkout", repo, dir)
	if err != nil {
		return err
	}
	return tool(ctx, dir, nil, "git", "checkout", "-q", "--detach", strings.TrimSpace(id.String()))
}

func benchstat(ctx context.Context, repo, dir string, out io.Writer) error {
	harness := filepath.Join(repo, "bench")
	base, now := "base="+filepath.Join(dir, "base.txt"), "now="+filepath.Join(dir, "now.txt")
	if err := tool(ctx, harness, out, "go", "tool", "benchstat", base, now); err != nil {
		return err
	}
	var table strings.Builder
	if err := tool(ctx, harness, &table, "go", "tool", "benchstat", "-format", "csv", base, now); err != nil {
		return err
	}
	found, err := regressions(table.String())
	if err != nil {
		return err
	}
	if found != nil {
		return fmt.Errorf("worse by more than %d%%:\n%s", worse, strings.Join(found, "\n"))
	}
	return nil
}

// moreIsBetter reports whether of a unit more is better, as of all that are a second. Of the
// others less is.
func moreIsBetter(unit string) bool {
	return strings.HasSuffix(unit, "/s") || unit == "operations/step"
}

// regressions returns what benchstat's table says is significantly worse. benchstat writes ~ for
// what is not significant, and ? for a change from nothing, which is as many percent as you like.
func regressions(table string) (found []string, err error) {
	unit := ""
	for line := range strings.Lines(table) {
		fields, err := csv.NewReader(strings.NewReader(line)).Read()
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(fields) < 7 {
			continue
		}
		if fields[0] == "" {
			if fields[1] != "" && fields[5] == "vs base" {
				unit = fields[1]
			}
			continue
		}
		if fields[0] == "geomean" || fields[6] == "" {
			continue // it is no benchmark, or only one side has it
		}
		if fields[5] == "?" && !moreIsBetter(unit) {
			found = append(found, fmt.Sprintf("%s: from 0 to %s %s (%s)", fields[0], fields[3], unit,
				fields[6]))
			continue
		}
		change, err := strconv.ParseFloat(strings.TrimSuffix(fields[5], "%"), 64)
		if err != nil {
			continue // "~"
		}
		if moreIsBetter(unit) {
			change = -change
		}
		if change > worse {
			found = append(found, fmt.Sprintf("%s: %s %s (%s)", fields[0], fields[5], unit, fields[6]))
		}
	}
	return found, nil
}

// tool runs a program in a directory, and tells what it said if it fails.
func tool(ctx context.Context, dir string, out io.Writer, program string, args ...string) error {
	var problem strings.Builder
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, &problem
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, strings.TrimSpace(problem.String()))
	}
	return nil
}
