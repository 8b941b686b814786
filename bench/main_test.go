package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

func TestARunThatIsInterruptedLeavesNothingButItsReport(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	binary := os.Getenv("PEERD_E2E_BINARY")
	if binary == "" {
		t.Skip("PEERD_E2E_BINARY names no daemon")
	}
	tmp, out := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	said := &stopper{stop: stop}
	err := run(ctx, []string{"commit", "--quick", "--peerd", binary, "--out", out}, new(bytes.Buffer), said)
	if err == nil || err.Error() != "interrupted" || errors.Is(ctx.Err(), nil) {
		t.Errorf("the error is %v", err)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("files are left over: %v", left)
	}
	if _, err := os.Stat(filepath.Join(out, "report.html")); err != nil {
		t.Error(err)
	}
}

// stopper interrupts the run as soon as it says something.
type stopper struct{ stop func() }

func (s *stopper) Write(p []byte) (int, error) {
	s.stop()
	return len(p), nil
}
