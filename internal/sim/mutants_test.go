package sim

import (
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

// mutantSeeds is in how many worlds, from the first, each mutant must be found.
const mutantSeeds = 10000

// mutant is a realistic mistake in the code that ships, which the worlds must find.
type mutant struct {
	name, what string
	world      int // that found it last: it is tried first. 0 for one that is not hunted
	edits      []edit
}

// edit replaces a text that a file has once.
type edit struct{ file, old, new string }

func readMutant(path string, hunted bool) (m mutant, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	m.name = strings.TrimSuffix(filepath.Base(path), ".mutant")
	what, rest, _ := strings.Cut(string(data), "\n")
	m.what = what
	if hunted {
		var world string
		world, rest, _ = strings.Cut(rest, "\n")
		_, err := fmt.Sscanf(world, "world %d", &m.world)
		if err != nil || m.world < 1 || m.world > mutantSeeds {
			return m, fmt.Errorf("%s: its second line is %q, want \"world N\", with N up to %d: "+
				"which finds it", path, world, mutantSeeds)
		}
	}
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

// texts returns what files are with the mutant in them, by path.
func (m mutant) texts(root string) (map[string]string, error) {
	texts := map[string]string{}
	for i, e := range m.edits {
		path := filepath.Join(root, e.file)
		text, ok := texts[path]
		if !ok {
			read, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			text = string(read)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s has %d places for edit %d, want 1:\n%s", e.file, n, i+1, e.old)
		}
		texts[path] = strings.Replace(text, e.old, e.new, 1)
	}
	return texts, nil
}

var firstSeed = regexp.MustCompile(`(?m)^seed (\d+): (.*)$`)

// hunt runs worlds of a program until the mutant is found: the one that found it last, then all from the first. It
// returns which one it was, or 0.
func (m mutant) hunt(program string) (world int, found string, err error) {
	if world, found, err = m.try(program, m.world, 1); world != 0 || err != nil {
		return world, found, err
	}
	return m.try(program, 1, mutantSeeds)
}

// try runs so many worlds until the mutant is found.
func (m mutant) try(program string, from, seeds int) (world int, found string, err error) {
	run := exec.Command(program, "-seeds", strconv.Itoa(seeds), "-from", strconv.Itoa(from), "-first")
	run.Env = append(os.Environ(), plantedEnv+"="+m.name)
	out, err := run.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, "", err
	}
	match := firstSeed.FindStringSubmatch(string(out))
	if match == nil {
		return 0, "", nil
	}
	world, err = strconv.Atoi(match[1])
	return world, match[2], err
}

// plantAll plants the mutants of a directory.
func (g *garden) plantAll(t *testing.T, dir string, hunted bool) (all []mutant) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.mutant"))
	if err != nil || len(files) < 12 {
		t.Fatalf("%d mutants in %s, want at least 12 (%v)", len(files), dir, err)
	}
	slices.Sort(files)
	for _, file := range files {
		m, err := readMutant(file, hunted)
		if err == nil {
			err = g.plant(m)
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		all = append(all, m)
	}
	return all
}

// TestTheWorldsFindEachMutant tests that the mutants can be planted and are still Go, those that
// are not hunted too, and with -mutants that each other is found.
func TestTheWorldsFindEachMutant(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := regexp.Compile(*mutants)
	if err != nil {
		t.Fatal(err)
	}
	g := garden{root: root, beds: map[string]*bed{}}
	all := g.plantAll(t, "mutants", true)
	g.plantAll(t, filepath.Join("mutants", "unhunted"), false)
	program, err := g.build(t.TempDir())
	if err != nil {
		t.Fatalf("a mutant does not compile: %v", err)
	}
	if *mutants != "" {
		if out, err := exec.Command(program, "-seeds", "40", "-from", "1").Output(); err != nil {
			t.Fatalf("with no mutant at work: %v\n%s", err, out)
		}
	}
	for _, m := range all {
		if *mutants == "" || !wanted.MatchString(m.name) {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			world, found, err := m.hunt(program)
			switch {
			case err != nil:
				t.Fatal(err)
			case world == 0:
				t.Errorf("%d worlds do not find it: %s", mutantSeeds, m.what)
			case world != m.world:
				t.Logf("world %d no longer finds it: say this one in its file", m.world)
				fallthrough
			default:
				t.Logf("found by world %d: %s", world, found)
			}
		})
	}
}
