package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTheVersionNamesCommitAndGo(t *testing.T) {
	got := mustPeerd(t, "version")
	if !regexp.MustCompile(`^peerd \S+\ncommit \S+.*\ngo1\S+.* \w+/\w+\n$`).MatchString(got) {
		t.Errorf("version prints %q", got)
	}
}

func TestInitCanBeRunAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := mustPeerd(t, "init", "--dir", dir)
	if !strings.Contains(first, "(new: copy it to the hosts that are to join)") {
		t.Errorf("init says %s", first)
	}
	again := mustPeerd(t, "init", "--dir", dir)
	want := strings.ReplaceAll(first, " (new: copy it to the hosts that are to join)", "")
	if again != want {
		t.Errorf("init says %swant %s", again, want)
	}
	d := run(t, dir)
	if !strings.Contains(d.stderr.String(), first[strings.Index(first, "12D3"):len(first)-1]) {
		t.Errorf("the peer that runs there has another id: %s", d.stderr)
	}
}

func TestHelpListsTheCommands(t *testing.T) {
	help := mustPeerd(t, "--help")
	for _, name := range []string{"run", "init", "status", "wait", "demo", "version"} {
		if !strings.Contains(help, "\n  "+name+" ") {
			t.Errorf("no %q in %s", name, help)
		}
	}
	flags := mustPeerd(t, "run", "--help")
	if strings.Contains(flags, "cut-file") || !strings.Contains(flags, "--advertise ip") {
		t.Errorf("help of run: %s", flags)
	}
}
