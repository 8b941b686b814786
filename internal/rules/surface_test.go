package rules

import (
	"go/ast"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// aliased are packages of which types may have another name in one of the libraries: an alias gives
// such a type a name there, and is the one way to have it in a signature. All other types of the
// libraries are their own.
var aliased = map[string]string{"crdt": module + "/internal/dotted"}

// checkSurface reports exported types and signatures of the libraries that name another package of
// the module than a library: what is internal nobody else can write down, and what is not would
// bind what those packages may become.
func checkSurface(s *source) (problems []string) {
	if s.isTest() || !slices.Contains(shown, s.pkg()) {
		return nil
	}
	inner := map[string]string{}
	for _, spec := range s.syntax.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		if of, ours := strings.CutPrefix(name, module+"/"); ours && !slices.Contains(shown, of) {
			inner[localName(spec, name)] = name
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
				if id, ok := n.X.(*ast.Ident); ok && inner[id.Name] != "" {
					problems = append(problems, s.at(n.Pos())+": "+of+" shows "+id.Name+"."+n.Sel.Name+
						": users of "+s.pkg()+" are to know nothing of "+inner[id.Name])
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
				t, ok := spec.(*ast.TypeSpec)
				if !ok || !t.Name.IsExported() || t.Assign.IsValid() && isAliased(s, t, inner) {
					continue
				}
				look(t.Name.Name, t.Type)
			}
		}
	}
	return problems
}

// isAliased reports whether an alias is of a type that may have one.
func isAliased(s *source, t *ast.TypeSpec, inner map[string]string) bool {
	of, ok := t.Type.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := of.X.(*ast.Ident)
	return ok && aliased[s.pkg()] != "" && inner[id.Name] == aliased[s.pkg()]
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
	const others = "package peer\nimport (\"github.com/peerd/peerd/gossip\"; " +
		"\"github.com/peerd/peerd/crdt\"; \"github.com/peerd/peerd/internal/dotted\")\n"
	breaks(t, checkSurface, "peer/publish.go",
		others+"func F(k crdt.Type) { var m gossip.Message; _ = m }",
		others+"type Message = gossip.Message",
		others+"type Dot = dotted.Dot",
		others+"func F(m gossip.Message) {}",
		others+"type T struct { Of []gossip.Message }")
}
