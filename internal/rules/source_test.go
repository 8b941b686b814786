package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/peerd/peerd"

// positions are those of all files, as go/types wants those of files that belong together.
var positions = token.NewFileSet()

// source is one parsed Go file of the module.
type source struct {
	path   string // from the module's root, with slashes
	text   string
	syntax *ast.File
	fset   *token.FileSet
}

// pkg returns the directory of the file from the module's root; "." is the root.
func (s *source) pkg() string { return path.Dir(s.path) }

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// at returns the place of a position as "path:line".
func (s *source) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.line(pos))
}

func (s *source) line(pos token.Pos) int { return s.fset.Position(pos).Line }

// imports returns the paths that the file imports, each with its place.
func (s *source) imports() map[string]string {
	found := map[string]string{}
	for _, spec := range s.syntax.Imports {
		name, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		found[name] = s.at(spec.Pos())
	}
	return found
}

// uses calls visit wherever the file names something of another package, as in time.Now, whatever
// name the file imports that package under.
func (s *source) uses(pkgPath string, visit func(name string, at token.Pos)) {
	local := ""
	for _, spec := range s.syntax.Imports {
		if name, _ := strconv.Unquote(spec.Path.Value); name == pkgPath {
			local = localName(spec, pkgPath)
		}
	}
	if local == "" {
		return
	}
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := selector.X.(*ast.Ident); ok && id.Name == local {
			visit(selector.Sel.Name, selector.Pos())
		}
		return true
	})
}

func localName(spec *ast.ImportSpec, pkgPath string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	base := path.Base(pkgPath)
	if strings.HasPrefix(base, "v") && len(base) == 2 {
		base = path.Base(path.Dir(pkgPath)) // math/rand/v2
	}
	return base
}

func parse(name, text string) (*source, error) {
	s := &source{path: name, text: text, fset: positions}
	var err error
	const mode = parser.ParseComments | parser.SkipObjectResolution
	s.syntax, err = parser.ParseFile(s.fset, name, text, mode)
	return s, err
}

// moduleSources parses the module once for all tests. Build constraints are not looked at: the
// rules hold on every platform.
var moduleSources = sync.OnceValues(func() ([]*source, error) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return nil, err
	}
	var all []*source
	err = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			foreign := strings.HasPrefix(name, ".") || name == "testdata" || name == "vendor"
			if foreign && file != root {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(relative), string(text))
		all = append(all, s)
		return err
	})
	return all, err
})

// each calls check with every file of the module and fails the test for what it reports.
func each(t *testing.T, check func(*source) []string) {
	t.Helper()
	all, err := moduleSources()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found only %d Go files: is this the module's root?", len(all))
	}
	for _, s := range all {
		for _, problem := range check(s) {
			t.Error(problem)
		}
	}
}

// breaks tests a check itself: it must report each of the sources, and accept the fixed one.
func breaks(t *testing.T, check func(*source) []string, file, accepted string, broken ...string) {
	t.Helper()
	problems := func(text string) []string {
		s, err := parse(file, text)
		if err != nil {
			t.Fatal(err)
		}
		return check(s)
	}
	if found := problems(accepted); len(found) > 0 {
		t.Errorf("the check reports %q in:\n%s", found, accepted)
	}
	for _, text := range broken {
		if len(problems(text)) == 0 {
			t.Errorf("the check sees nothing wrong in %s:\n%s", file, text)
		}
	}
}
