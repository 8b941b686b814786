package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/report"
	"github.com/peerd/peerd/bench/internal/scenario"
)

func TestScenariosAreChosenByName(t *testing.T) {
	names := map[string]bool{}
	for _, s := range scenario.All {
		if names[s.Name] || s.About == "" || s.Name == "all" || s.Name == "bounds" || s.Name == "help" {
			t.Errorf("scenario %q repeats a name, or says nothing", s.Name)
		}
		names[s.Name] = true
	}
	if all, err := choose([]string{"all"}); err != nil || len(all) != len(scenario.All) {
		t.Errorf("%d are all, %v", len(all), err)
	}
	if _, err := choose([]string{"comit"}); err == nil {
		t.Error("an unknown scenario is chosen")
	}
	for _, args := range [][]string{{"commit", "--profile", "time"}, {"theory", "--json"}, {"bounds",
		"--json"}, {"compare", "HEAD", "--json"}} {
		if err := run(context.Background(), args, new(bytes.Buffer), new(bytes.Buffer)); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// What is wrong is only the row, once the daemon was found.
func TestADaemonIsNamedFromWhereTheHarnessRuns(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	daemon := filepath.Join(t.TempDir(), "daemon")
	if err := os.WriteFile(daemon, []byte("#!/bin/sh\necho peerd v1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, daemon)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"bounds", "none", "--peerd", relative, "--out", t.TempDir()}
	err = run(context.Background(), args, new(bytes.Buffer), new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), `no row is named "none"`) {
		t.Errorf("the error is %v", err)
	}
}

func TestAllQuickEndsWithinTenMinutes(t *testing.T) {
	var sum time.Duration
	for _, s := range scenario.All {
		sum += s.Expected(true)
	}
	if sum > 10*time.Minute {
		t.Errorf("it is expected to take %v", sum)
	}
}

func TestTheTimeLeftIsThatOfThisScenarioAndOfThoseAfterIt(t *testing.T) {
	var out strings.Builder
	p := &progress{out: &out, name: "kv", place: "1/2", began: time.Now().Add(-30 * time.Second),
		expected: time.Hour, later: 5 * time.Minute}
	p.show(0.5, "half")
	p.end(&report.Scenario{Failure: "broken", Skipped: []report.Skipped{{What: "valkey", Why: "no package"}}})
	for _, want := range []string{"[1/2 kv] half (5m30s left)", "valkey: no package", "FAILED: " +
		"broken"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
}

// It is interrupted before anything runs, among servers, and among members in namespaces.
func TestARunThatIsInterruptedLeavesNothingButItsReport(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	binary := os.Getenv("PEERD_E2E_BINARY")
	if binary == "" {
		t.Skip("PEERD_E2E_BINARY names no daemon")
	}
	servers := []string{filepath.Base(binary)}
	if _, err := exec.LookPath("redis-server"); err == nil {
		servers = append(servers, "redis-server")
	}
	noInstalling(t)
	for _, c := range []struct {
		scenario string
		awaits   []string // programs
		isolates bool
	}{
		{"commit", nil, false},
		{"kv", servers, false},
		{"partition", servers[:1], true},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			if c.isolates {
				if err := new(lab.Lab).MayIsolate(t.Context()); err != nil {
					t.Skip(err)
				}
			}
			tmp, out := t.TempDir(), t.TempDir()
			t.Setenv("TMPDIR", tmp)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			s := &stopper{stop: stop, awaits: c.awaits, isolates: c.isolates}
			err := run(ctx, []string{c.scenario, "--quick", "--peerd", binary, "--out", out}, new(bytes.Buffer), s)
			if err == nil || err.Error() != "interrupted" {
				t.Errorf("the error is %v; it said\n%s", err, s.said.String())
			}
			var left []process
			err = lab.Await(context.Background(), lab.Patience, "all has ended", func() bool {
				left = slices.DeleteFunc(slices.Clone(s.started), func(p process) bool { return processes()[p.pid].began != p.began })
				return len(left) == 0 && namespaces() == 0
			})
			if err != nil {
				t.Errorf("%v still run, and there are %d namespaces", left, namespaces())
			}
			if left, _ := os.ReadDir(tmp); len(left) != 0 {
				t.Errorf("files are left over: %v", left)
			}
			if _, err := os.Stat(filepath.Join(out, "report.html")); err != nil {
				t.Error(err)
			}
		})
	}
}

// noInstalling has what is missing be left out.
func noInstalling(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"apt-get", "npm"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// stopper interrupts the run as soon as it says something while all that is awaited is there.
type stopper struct {
	stop     func()
	awaits   []string
	isolates bool
	said     bytes.Buffer
	started  []process // when it was interrupted
}

func (s *stopper) Write(p []byte) (int, error) {
	s.said.Write(p)
	if s.started != nil || s.isolates && namespaces() == 0 {
		return len(p), nil
	}
	started := descendants()
	for _, name := range s.awaits {
		if !slices.ContainsFunc(started, func(p process) bool { return p.name == name }) {
			return len(p), nil
		}
	}
	s.started = started
	s.stop()
	return len(p), nil
}

// process is one that runs, as /proc/PID/stat has it.
type process struct {
	pid, parent int
	name, began string
}

func processes() map[int]process {
	all := map[int]process{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may have ended
		open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if open < 0 {
			continue
		}
		p := process{name: string(text[open+1 : end])}
		fields := strings.Fields(string(text[end+1:]))
		p.began = fields[19]
		if _, err := fmt.Sscan(string(text[:open])+fields[1], &p.pid, &p.parent); err == nil {
			all[p.pid] = p
		}
	}
	return all
}

// descendants are the processes that this one has started, those that they have, and so on.
func descendants() (found []process) {
	all := processes()
	for _, p := range all {
		for up := p.parent; up > 1; up = all[up].parent {
			if up == os.Getpid() {
				found = append(found, p)
				break
			}
		}
	}
	return found
}

// namespaces returns how many threads of this process are in network namespaces of their own.
func namespaces() (n int) {
	own, _ := os.Readlink("/proc/self/ns/net")
	files, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, file := range files {
		if of, err := os.Readlink(file); err == nil && of != own {
			n++
		}
	}
	return n
}
