package rules

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// shown are the packages that other programs import.
var shown = []string{"crdt", "peer"}

// isShownElsewhere reports whether a name needs no example: a limit, whose doc says all, and the methods of
// the standard library's interfaces.
func isShownElsewhere(name string) bool {
	switch name {
	case "Error", "Unwrap", "String", "MarshalText", "UnmarshalText", "AppendBinary", "UnmarshalJSON":
		return true
	}
	return strings.HasPrefix(name, "Max") || strings.HasPrefix(name, "Default")
}

// exported returns the exported names of a file: functions, types, values, and methods of exported
// types as Type.Method.
func exported(s *source) (names []string) {
	add := func(prefix string, id *ast.Ident) {
		if id.IsExported() {
			names = append(names, prefix+id.Name)
		}
	}
	for _, d := range s.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			prefix := ""
			if d.Recv != nil {
				of := d.Recv.List[0].Type
				if star, ok := of.(*ast.StarExpr); ok {
					of = star.X
				}
				id, ok := of.(*ast.Ident)
				if !ok || !id.IsExported() {
					continue
				}
				prefix = id.Name + "."
			}
			add(prefix, d.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					add("", spec.Name)
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						add("", id)
					}
				}
			}
		}
	}
	return names
}

// usedNames returns all names that files use, and what their examples are named for.
func usedNames(files []*source) map[string]bool {
	used := map[string]bool{}
	for _, s := range files {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				used[id.Name] = true
				if name, ok := strings.CutPrefix(id.Name, "Example"); ok {
					for _, part := range strings.Split(name, "_") {
						used[part] = true
					}
				}
			}
			return true
		})
	}
	return used
}

// inResults are types of what the functions in examples return, which nobody has to name.
var inResults = []string{"Type", "BackupInfo", "Change", "KeyHost", "Member", "Times", "Traffic"}

// TestEachExportedNameOfALibraryIsInAnExample holds that nobody has to guess how something is used.
func TestEachExportedNameOfALibraryIsInAnExample(t *testing.T) {
	all, err := moduleSources()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range shown {
		var examples []*source
		var names []string
		for _, s := range all {
			switch {
			case s.path == pkg+"/example_test.go", strings.HasPrefix(s.path, "examples/"):
				examples = append(examples, s)
			case s.pkg() == pkg && !s.isTest():
				names = append(names, exported(s)...)
			}
		}
		if len(examples) == 0 || len(names) < 20 {
			t.Fatalf("%s: %d files of examples, %d exported names", pkg, len(examples), len(names))
		}
		used := usedNames(examples)
		for _, name := range names {
			of, last, method := strings.Cut(name, ".")
			if !method {
				last = of
			}
			if used[last] || slices.Contains(inResults, name) || isShownElsewhere(last) {
				continue
			}
			t.Errorf("%s.%s is in no example: show it in %s/example_test.go", pkg, name, pkg)
		}
	}
}
