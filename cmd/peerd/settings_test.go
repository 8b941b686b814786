package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the table of settings into docs/operations.md")

// settingsTable is the table of docs/operations.md.
func settingsTable() string {
	var table strings.Builder
	table.WriteString("| flag and key | variable | default | SIGHUP | what it is |\n|---|---|---|---|---|\n")
	c := &config{}
	c.flags = c.options.table()
	c.public(func(f *pflag.Flag) {
		initial := "`" + strings.Join(textOf(f), ",") + "`"
		_, what := pflag.UnquoteUsage(f)
		if stands := f.Annotations[unset]; len(stands) > 0 {
			initial = stands[0]
			what = strings.TrimSuffix(what, " (default "+initial+")")
		}
		if initial == "``" {
			initial = "none"
		}
		fmt.Fprintf(&table, "| `%s` | `%s` | %s | %s | %s |\n", f.Name, variable(f.Name), initial,
			cmp.Or(reloadOf(f), "no"), what)
	})
	return table.String()
}

func TestEverySettingIsDocumentedAsItIs(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "operations.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "<!-- settings")
	mark, rest, _ := strings.Cut(rest, "-->\n")
	old, after, found := strings.Cut(rest, "<!-- end of settings")
	switch {
	case !found:
		t.Fatal("docs/operations.md has no table of settings")
	case *update:
		whole := before + "<!-- settings" + mark + "-->\n" + settingsTable() + "<!-- end of settings" + after
		if err := os.WriteFile(path, []byte(whole), 0o644); err != nil {
			t.Fatal(err)
		}
	case old != settingsTable():
		t.Errorf("docs/operations.md is stale: go test ./cmd/peerd -run Documented -update")
	}
}

func TestTheCommentOfTheProgramNamesEachCommand(t *testing.T) {
	comment, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range rootCommand(nil, nil).Commands() {
		if command.Name() != "help" && !strings.Contains(string(comment), "\n//\tpeerd "+command.Name()+" ") {
			t.Errorf("main.go does not name %s", command.Name())
		}
	}
}

func TestManualPagesAreWrittenForEachCommand(t *testing.T) {
	dir := t.TempDir()
	mustPeerd(t, "man", dir)
	overview, err := os.ReadFile(filepath.Join(dir, "peerd.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range rootCommand(nil, nil).Commands() {
		if command.Name() != "help" && !strings.Contains(string(overview), `\fB`+command.Name()+"\\fP\n"+command.Short+"\n") {
			t.Errorf("the page of peerd does not say what %s does", command.Name())
		}
		page, err := os.ReadFile(filepath.Join(dir, "peerd-"+command.Name()+".1"))
		if err != nil && command.Name() != "help" {
			t.Error(err)
		}
		command.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(string(page), `\fB--`+f.Name+`\fP`) {
				t.Errorf("the page of %s has no --%s", command.Name(), f.Name)
			}
		})
	}
	if page, _ := os.ReadFile(filepath.Join(dir, "peerd-key.1")); !strings.Contains(string(page), "\\fBrotate\\fP\nGive the cluster") {
		t.Errorf("the page of peerd key does not say what rotate does: %s", page)
	}
	again := t.TempDir()
	mustPeerd(t, "man", again)
	for _, name := range []string{"peerd.1", "peerd-run.1"} {
		one, _ := os.ReadFile(filepath.Join(dir, name))
		other, _ := os.ReadFile(filepath.Join(again, name))
		if len(one) == 0 || string(one) != string(other) {
			t.Errorf("%s differs each time, or is empty", name)
		}
	}
}

func TestShellsCompleteFlagsAndTheirWords(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if script := mustPeerd(t, "completion", shell); !strings.Contains(script, "peerd") {
			t.Errorf("the script for %s is %q", shell, script)
		}
	}
	for _, test := range []struct{ line, want string }{
		{"run --dura", "--durability"},
		{"run --durability ", "always\ninterval\nnone\n:4\n"},
		{"config --log-level ", "debug\ninfo\nwarn\nerror\n:4\n"},
		{"run --dir ", ":16\n"},                 // directories
		{"run --config ", ":0\n"},               // files
		{"status --http ", ":4\n"},              // neither
		{"ru", "run\tRun a peer until SIGTERM"}, // commands
	} {
		args := append([]string{"__complete"}, strings.Split(test.line, " ")...)
		if got := mustPeerd(t, args...); !strings.HasPrefix(got, test.want) {
			t.Errorf("%q is completed with %q, want %q", test.line, got, test.want)
		}
	}
}
