package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEachMutantCompiles tests that a mutant is still Go: else a hunt, which takes long, would be the first to notice.
// As many as can stand in the sources at once are type-checked together. Where there is an error each is alone, and what
// has one then is built.
func TestEachMutantCompiles(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("mutants", "*.mutant"))
	if err != nil {
		t.Fatal(err)
	}
	var crowds []*crowd
	for _, file := range files {
		m, err := readMutant(file)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(crowds, func(c *crowd) bool { return c.join(root, m) == nil }) {
			crowds = append(crowds, &crowd{texts: map[string]string{}})
			if err := crowds[len(crowds)-1].join(root, m); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
	}
	sources, err := listSources(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range crowds {
		if sources.check(c.texts) == nil {
			continue
		}
		for _, m := range c.mutants {
			alone := crowd{texts: map[string]string{}}
			if errors.Join(alone.join(root, m), sources.check(alone.texts)) == nil {
				continue
			}
			dir := t.TempDir()
			overlay, err := m.overlay(root, dir)
			if err == nil {
				err = build(root, overlay, filepath.Join(dir, "peersim"))
			}
			if err != nil {
				t.Errorf("%s does not compile: %v", m.name, err)
			}
		}
	}
}

// crowd is some mutants that are planted at once.
type crowd struct {
	mutants []mutant
	texts   map[string]string // of files that they change, by path
}

// join plants one more, if what it replaces is still there once.
func (c *crowd) join(root string, m mutant) error {
	texts := maps.Clone(c.texts)
	for i, e := range m.edits {
		path := filepath.Join(root, e.file)
		text, ok := texts[path]
		if !ok {
			read, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(read)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return fmt.Errorf("%s has %d places for edit %d, want 1", e.file, n, i+1)
		}
		texts[path] = strings.Replace(text, e.old, e.new, 1)
	}
	c.texts, c.mutants = texts, append(c.mutants, m)
	return nil
}

// sources are the packages that the simulator is built of.
type sources struct {
	byDir    map[string]source
	exported map[string]string // files with what a package exports, by import path
}

type source struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

func listSources(root string) (s sources, err error) {
	list := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles", "./cmd/peersim")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		return s, err
	}
	s.byDir, s.exported = map[string]source{}, map[string]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var one source
		if err := d.Decode(&one); err != nil {
			return s, err
		}
		s.byDir[one.Dir], s.exported[one.ImportPath] = one, one.Export
	}
	return s, nil
}

// check checks the types of all packages of which files have other texts. It returns the first error.
func (s sources) check(texts map[string]string) error {
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(s.exported[path]) })
	checked := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		of, ok := s.byDir[filepath.Dir(path)]
		switch {
		case !ok:
			return fmt.Errorf("%s is not in the simulator", path)
		case checked[of.Dir]:
			continue
		}
		checked[of.Dir] = true
		var files []*ast.File
		for _, name := range of.GoFiles {
			name = filepath.Join(of.Dir, name)
			var text any
			if changed, ok := texts[name]; ok {
				text = changed
			}
			file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			files = append(files, file)
		}
		if _, err := (&types.Config{Importer: imports}).Check(of.ImportPath, fset, files, nil); err != nil {
			return err
		}
	}
	return nil
}
