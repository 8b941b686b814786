package sim

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var mutants = flag.String("mutants", "", "hunt for the mutants whose names match this expression")

// Where mutants are looked for, and how long.
const (
	mutantSeeds = 1500
	mutantFrom  = 1
)

// mutant is a realistic mistake in the code that ships, which the worlds must find.
type mutant struct {
	name, what string
	edits      []edit
}

// edit replaces a text that a file has once.
type edit struct{ file, old, new string }

func readMutant(path string) (m mutant, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	m.name = strings.TrimSuffix(filepath.Base(path), ".mutant")
	what, rest, _ := strings.Cut(string(data), "\n")
	m.what = what
	for rest != "" {
		var e edit
		var ok1, ok2, ok3 bool
		e.file, rest, ok1 = strings.Cut(rest, "\n<<<<\n")
		e.old, rest, ok2 = strings.Cut(rest, "====\n")
		e.new, rest, ok3 = strings.Cut(rest, ">>>>\n")
		if !ok1 || !ok2 || !ok3 {
			return m, fmt.Errorf("%s: not a mutant", path)
		}
		e.old = strings.TrimSuffix(e.old, "\n")
		e.new = strings.TrimSuffix(e.new, "\n")
		m.edits = append(m.edits, e)
	}
	return m, nil
}

// overlay writes the mutated files and what "go build -overlay" needs to know of them.
func (m mutant) overlay(root, dir string) (string, error) {
	replace := map[string]string{}
	for i, e := range m.edits {
		path := filepath.Join(root, e.file)
		from := path
		if replace[path] != "" {
			from = replace[path]
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), e.old); n != 1 {
			return "", fmt.Errorf("%s has %d places for edit %d, want 1:\n%s", e.file, n, i+1, e.old)
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
		mutated := strings.Replace(string(text), e.old, e.new, 1)
		if err := os.WriteFile(replace[path], []byte(mutated), 0o600); err != nil {
			return "", err
		}
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, data, 0o600)
}

// build builds the simulator.
func build(root, overlay, program string) error {
	compile := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./cmd/peersim")
	compile.Dir = root
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

var firstSeed = regexp.MustCompile(`(?m)^seed (\d+): (.*)$`)

// hunt builds the simulator with the mutant in it and returns after how many worlds it was found.
func (m mutant) hunt(root, overlay, dir string) (seeds int, found string, err error) {
	program := filepath.Join(dir, "peersim")
	if err := build(root, overlay, program); err != nil {
		return 0, "", err
	}
	run := exec.Command(program, "-seeds", strconv.Itoa(mutantSeeds), "-from", strconv.Itoa(mutantFrom),
		"-first")
	out, err := run.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, "", err
	}
	match := firstSeed.FindStringSubmatch(string(out))
	if match == nil {
		return 0, "", nil
	}
	seed, err := strconv.Atoi(match[1])
	return seed - mutantFrom + 1, match[2], err
}

// TestTheWorldsFindEachMutant tests that each of the mutants can be planted, and with -mutants
// that it is found.
func TestTheWorldsFindEachMutant(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("mutants", "*.mutant"))
	if err != nil || len(files) < 12 {
		t.Fatalf("%d mutants, want at least 12 (%v)", len(files), err)
	}
	wanted, err := regexp.Compile(*mutants)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	for _, file := range files {
		m, err := readMutant(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			overlay, err := m.overlay(root, dir)
			if err != nil {
				t.Fatal(err)
			}
			if *mutants == "" || !wanted.MatchString(m.name) {
				return
			}
			seeds, found, err := m.hunt(root, overlay, dir)
			switch {
			case err != nil:
				t.Fatal(err)
			case seeds == 0:
				t.Errorf("%d worlds do not find it: %s", mutantSeeds, m.what)
			default:
				t.Logf("found by world %d: %s", seeds, found)
			}
		})
	}
}
