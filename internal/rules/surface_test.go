package rules

import (
	"go/ast"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// checkSurface reports exported signatures of the libraries that name a package which their users cannot import: what
// nobody else can write down is no interface. An alias gives such a type a name, and is the one way to have it there.
func checkSurface(s *source) (problems []string) {
	if s.isTest() || !slices.Contains(shown, s.pkg()) {
		return nil
	}
	internal := map[string]string{}
	for _, spec := range s.syntax.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		if strings.HasPrefix(name, module+"/internal/") {
			internal[localName(spec, name)] = name
		}
	}
	var look func(of string, n ast.Node)
	look = func(of string, n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.StructType:
				for _, field := range n.Fields.List {
					if isShown(field) {
						look(of, field.Type)
					}
				}
				return false
			case *ast.SelectorExpr:
				if id, ok := n.X.(*ast.Ident); ok && internal[id.Name] != "" {
					problems = append(problems, s.at(n.Pos())+": "+of+" shows "+id.Name+"."+n.Sel.Name+
						": users of "+s.pkg()+" cannot import "+internal[id.Name])
				}
			}
			return true
		})
	}
	for _, d := range s.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && receiverIsExported(d) {
				look(d.Name.Name, d.Type)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok && t.Name.IsExported() && !t.Assign.IsValid() {
					look(t.Name.Name, t.Type)
				}
			}
		}
	}
	return problems
}

// isShown reports whether a field of an exported struct is embedded or exported.
func isShown(f *ast.Field) bool {
	return len(f.Names) == 0 || slices.ContainsFunc(f.Names, (*ast.Ident).IsExported)
}

func TestALibraryShowsNothingInternal(t *testing.T) {
	each(t, checkSurface)
	const imports = "package crdt\nimport (\"github.com/peerd/peerd/internal/dotted\"; " +
		"\"github.com/peerd/peerd/internal/wire\")\n"
	breaks(t, checkSurface, "crdt/state.go",
		imports+"type Dot = dotted.Dot\ntype State struct { cell dotted.Cell }\n"+
			"func (s *State) write(w *wire.Writer) {}\nfunc F() { var c dotted.Cell; _ = c }",
		imports+"func Root(tx dotted.Tx) {}",
		imports+"func (s *State) Cell() dotted.Cell { return nil }",
		imports+"type State struct { Cell dotted.Cell }",
		imports+"type State struct { dotted.Cell }",
		imports+"type Tx interface { Read(r *wire.Reader) }")
}
