package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/bench/internal/bounds"
	"github.com/peerd/peerd/bench/internal/scenario"
	"github.com/peerd/peerd/bench/internal/theory"
)

// papers are those of the project that name the harness' commands or show its charts.
func papers(t *testing.T) map[string]string {
	names, err := filepath.Glob("../docs/*.md")
	decisions, errOf := filepath.Glob("../docs/decisions/*.md")
	if err := errors.Join(err, errOf); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, name := range append(append(names, decisions...), "README.md", "../README.md", "../CONTRIBUTING.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	return texts
}

func TestThePapersChartsAreThoseThatTheSeedsGive(t *testing.T) {
	for _, c := range theory.Charts() {
		want, err := c.SVG()
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(papersCharts, theory.Prefix+c.Name+".svg")
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s is not what \"go -C bench run . theory\" makes (%v)", name, err)
		}
	}
}

func TestThePapersShowTheChartsThatThereAre(t *testing.T) {
	shown := map[string]bool{}
	for paper, text := range papers(t) {
		for _, found := range regexp.MustCompile(`\]\(([^)]*charts/[^)]*\.svg)\)`).FindAllStringSubmatch(text, -1) {
			name := filepath.Join(filepath.Dir(paper), found[1])
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s shows a chart that is not there: %v", paper, err)
			}
			shown[filepath.Base(name)] = true
		}
	}
	all, err := filepath.Glob(filepath.Join(papersCharts, "*.svg"))
	if err != nil || len(all) == 0 {
		t.Fatalf("there are no charts (%v)", err)
	}
	for _, name := range all {
		if !shown[filepath.Base(name)] {
			t.Errorf("%s is in no paper", name)
		}
	}
}

func TestThePapersNameCommandsThatThereAre(t *testing.T) {
	known := []string{"all", "SCENARIO", "SCENARIO...", "bounds", "compare", "help", "theory"}
	for _, s := range scenario.All {
		known = append(known, s.Name)
	}
	var rows []string
	for _, r := range bounds.Rows() {
		rows = append(rows, r[0])
	}
	count := 0
	for paper, text := range papers(t) {
		for _, found := range regexp.MustCompile("go -C bench run \\.([^`\n]*)").FindAllStringSubmatch(text, -1) {
			words := strings.Fields(strings.SplitN(found[1], "   ", 2)[0]) // what follows explains it
			of := known
			for _, word := range words {
				switch {
				case strings.HasPrefix(word, "--"):
				case !slices.Contains(of, word):
					t.Errorf("%s names go -C bench run .%s: there is no %q", paper, found[1], word)
				case word == "bounds":
					of = append(rows, "ROW...")
				case word == "compare":
					of = append(of, "COMMIT")
				}
				count++
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d words of commands are in the papers", count)
	}
}

// A figure that was measured says by what.
func TestThePapersNameBenchmarksThatThereAre(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir("..", func(name string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(name)
		for _, found := range regexp.MustCompile(`(?m)^func (Benchmark\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			there[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for paper, text := range papers(t) {
		for _, name := range regexp.MustCompile(`\bBenchmark[A-Z]\w+`).FindAllString(text, -1) {
			if !there[name] {
				t.Errorf("%s names %s: there is none", paper, name)
			}
			named++
		}
	}
	if named < 5 {
		t.Errorf("only %d benchmarks are in the papers", named)
	}
}

// What it names of ./cmd is asked for its help, which lists the flags that there are.
func TestThePaperOnChoosingNamesProgramsThatThereAre(t *testing.T) {
	named := map[string]bool{}
	for _, found := range regexp.MustCompile("`go run (\\./cmd/[^`]*)`").FindAllStringSubmatch(papers(t)["../docs/choosing.md"], -1) {
		named[found[1]] = true
	}
	if len(named) < 2 {
		t.Errorf("it names only %v", named)
	}
	for command := range named {
		args, flags := []string{"run"}, []string(nil)
		for word := range strings.FieldsSeq(command) {
			switch {
			case strings.HasPrefix(word, "--"):
				flags = append(flags, strings.TrimLeft(word, "-"))
			case len(flags) == 0:
				args = append(args, word)
			}
		}
		cmd := exec.Command("go", append(args, "--help")...)
		cmd.Dir = ".."
		help, err := cmd.CombinedOutput() // package flag's help is an exit with an error
		if name := args[len(args)-1]; !strings.Contains(string(help), filepath.Base(name)) {
			t.Errorf("go run %s: there is no %s: %s (%v)", command, name, help, err)
		}
		for _, flag := range flags {
			if !regexp.MustCompile(`(?m)^\s+--?` + flag + `\b`).Match(help) {
				t.Errorf("go run %s: there is no --%s in %s", command, flag, help)
			}
		}
	}
}

// A line without a command says that papers alone have it.
func TestEachLineOnChoosingSaysWhatShowsIt(t *testing.T) {
	lines := 0
	for line := range strings.Lines(papers(t)["../docs/choosing.md"]) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 7 || strings.HasPrefix(cells[1], "--") ||
			strings.TrimSpace(cells[len(cells)-2]) == "shown by" {
			continue
		}
		lines++
		shown := cells[len(cells)-2]
		if !strings.Contains(shown, "`go ") && !strings.Contains(shown, "papers") &&
			!strings.Contains(shown, "as the counter") {
			t.Errorf("%s is shown by %q", cells[1], shown)
		}
	}
	if lines < 30 {
		t.Errorf("only %d lines are in its tables", lines)
	}
}

func TestThePaperOnChoosingNamesTestsThatThereAre(t *testing.T) {
	named := regexp.MustCompile("`go test ./([a-z/]+) -run (Test[A-Za-z]+)`").FindAllStringSubmatch(papers(t)["../docs/choosing.md"], -1)
	if len(named) == 0 {
		t.Fatal("it names none")
	}
	for _, found := range named {
		files, err := filepath.Glob(filepath.Join("..", found[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(files, func(name string) bool {
			text, err := os.ReadFile(name)
			return err == nil && strings.Contains(string(text), "func "+found[2]+"(")
		}) {
			t.Errorf("there is no %s in %s", found[2], found[1])
		}
	}
}
