package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Limits of the house. Tests are held to those on lines and names.
const (
	maxFunction  = 70  // lines, from func to its brace: a screen
	maxFile      = 900 // lines: a whole concept reads better in one file than in five
	maxColumns   = 100 // a tab counts as one
	maxLongLines = 2   // percent of all lines
)

// longFunctions are the functions that may be longer, with the reason.
var longFunctions = map[string]string{}

func checkFunctions(s *source) (problems []string) {
	if s.isTest() {
		return nil
	}
	for _, d := range s.syntax.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		lines := s.line(f.End()) - s.line(f.Pos()) + 1
		if lines > maxFunction && longFunctions[s.pkg()+"."+f.Name.Name] == "" {
			problems = append(problems, fmt.Sprintf(
				"%s: %s has %d lines, limit %d: a function fits a screen",
				s.at(f.Pos()), f.Name.Name, lines, maxFunction))
		}
	}
	return problems
}

func TestAFunctionFitsAScreen(t *testing.T) {
	each(t, checkFunctions)
	body := func(lines int) string {
		return "package p\nfunc f() {\n" + strings.Repeat("_ = 1\n", lines-2) + "}"
	}
	breaks(t, checkFunctions, "p/p.go", body(maxFunction), body(maxFunction+1))
}

func checkFile(s *source) (problems []string) {
	if s.isTest() {
		return nil
	}
	if lines := strings.Count(s.text, "\n"); lines > maxFile {
		problems = append(problems, fmt.Sprintf("%s has %d lines, limit %d: one concept, one file",
			s.path, lines, maxFile))
	}
	return problems
}

func TestAFileIsOneConcept(t *testing.T) {
	each(t, checkFile)
	breaks(t, checkFile, "p/p.go", "package p", "package p\n"+strings.Repeat("\n", maxFile))
}

func TestLinesAreShort(t *testing.T) {
	total, long := 0, 0
	var worst []string
	each(t, func(s *source) []string {
		for i, line := range strings.Split(s.text, "\n") {
			total++
			if utf8.RuneCountInString(line) > maxColumns {
				long++
				worst = append(worst, fmt.Sprintf("%s:%d", s.path, i+1))
			}
		}
		return nil
	})
	if long*100 > total*maxLongLines {
		t.Errorf("%d of %d lines are longer than %d columns, limit %d in 100:\n%s",
			long, total, maxColumns, maxLongLines, strings.Join(worst, "\n"))
	}
}

// emptyNames say nothing about what is inside: name the concept instead.
var emptyNames = []string{
	"util", "utils", "common", "manager", "managers", "helper", "helpers", "misc", "base", "shared",
}

func checkNames(s *source) (problems []string) {
	file := strings.TrimSuffix(path.Base(s.path), ".go")
	for _, name := range []string{s.syntax.Name.Name, file} {
		if slices.Contains(emptyNames, strings.TrimSuffix(name, "_test")) {
			problems = append(problems, fmt.Sprintf("%s: %q says nothing of what is inside: "+
				"name the concept", s.path, name))
		}
	}
	return problems
}

func TestNamesNameAConcept(t *testing.T) {
	each(t, checkNames)
	breaks(t, checkNames, "p/p.go", "package p", "package util")
	if s, err := parse("p/helpers_test.go", "package p"); err != nil || len(checkNames(s)) == 0 {
		t.Errorf("a file named helpers_test.go is accepted (%v)", err)
	}
}

// checkPatterns finds file names that are taken for patterns. Tests may name files of their own so.
func checkPatterns(s *source) (problems []string) {
	if s.isTest() {
		return nil
	}
	s.uses("path/filepath", func(name string, at token.Pos) {
		if name == "Glob" {
			problems = append(problems, s.at(at)+": filepath.Glob takes the directory's name for a "+
				"pattern: a user may call it data[1]; read the directory and look at each name")
		}
	})
	return problems
}

func TestADirectorysNameIsNoPattern(t *testing.T) {
	each(t, checkPatterns)
	breaks(t, checkPatterns, "p/p.go",
		"package p\nimport \"path/filepath\"\nvar x = filepath.Join(\"a\", \"b\")",
		"package p\nimport \"path/filepath\"\nvar x, _ = filepath.Glob(\"a\")",
		"package p\nimport fp \"path/filepath\"\nvar x = fp.Glob")
}

// checkSleeps forbids time.Sleep everywhere: code waits for something, and so do tests, which would
// otherwise be slow, or fail on a slow machine.
func checkSleeps(s *source) (problems []string) {
	s.uses("time", func(name string, at token.Pos) {
		if name == "Sleep" {
			problems = append(problems, s.at(at)+": time.Sleep: wait for a condition, or use synctest")
		}
	})
	return problems
}

func TestNothingSleeps(t *testing.T) {
	each(t, checkSleeps)
	breaks(t, checkSleeps, "p/p_test.go",
		"package p\nimport \"time\"\nvar x = time.Second",
		"package p\nimport \"time\"\nfunc f() { time.Sleep(time.Second) }")
}

// heldContexts are the structs that may hold a context, with the reason.
var heldContexts = map[string]string{
	"peer.network": "the life of the goroutines that it starts, not of any call",
}

func checkContexts(s *source) (problems []string) {
	if s.isTest() {
		return nil
	}
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		fields, ok := spec.Type.(*ast.StructType)
		if !ok || heldContexts[s.pkg()+"."+spec.Name.Name] != "" {
			return true
		}
		for _, field := range fields.Fields.List {
			selector, ok := field.Type.(*ast.SelectorExpr)
			if ok && selector.Sel.Name == "Context" && fmt.Sprint(selector.X) == "context" {
				problems = append(problems, s.at(field.Pos())+": a context is a field of "+
					spec.Name.Name+": pass it as the first argument")
			}
		}
		return true
	})
	return problems
}

func TestAContextIsAnArgumentAndNoField(t *testing.T) {
	each(t, checkContexts)
	breaks(t, checkContexts, "p/p.go", "package p\nfunc f(ctx context.Context) {}",
		"package p\ntype t struct { ctx context.Context }")
}
