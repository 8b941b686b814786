package rules

import (
	"go/ast"
	"go/parser"
	"go/types"
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
	case "Error", "Unwrap", "String", "MarshalText", "UnmarshalText", "AppendBinary",
		"MarshalJSON", "UnmarshalJSON":
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

// usedNames returns what files use of a package of the library, methods as Type.Method, and what
// their examples are named for.
func usedNames(of string, files []*source, all []*source) map[string]bool {
	used := map[string]bool{}
	seen := func(o types.Object) {
		if t, ok := o.Type().(*types.Named); ok && t.Obj().Pkg() != nil && t.Obj().Pkg().Path() == module+"/"+of {
			used[t.Obj().Name()] = true // what something shown is of is shown as well
		}
		if o.Pkg() == nil || o.Pkg().Path() != module+"/"+of {
			return
		}
		if v, ok := o.(*types.Var); ok && v.IsField() {
			return // which is no name of the package
		}
		name := o.Name()
		if fn, ok := o.(*types.Func); ok {
			if recv := fn.Signature().Recv(); recv != nil {
				name = typeName(recv.Type()) + "." + name
			}
		}
		used[name] = true
	}
	together := map[string][]*source{}
	for _, s := range files {
		together[s.pkg()] = append(together[s.pkg()], s)
		for _, d := range s.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				if name, ok := strings.CutPrefix(fn.Name.Name, "Example"); ok {
					used[strings.Replace(name, "_", ".", 1)] = true
				}
			}
		}
	}
	known := newKnown(all)
	for path, files := range together {
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
		known.check(path+" examples", files, info)
		for _, o := range info.Uses {
			seen(o)
		}
	}
	return used
}

func typeName(t types.Type) string {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if named, ok := t.(*types.Named); ok {
		return named.Obj().Name()
	}
	return ""
}

// known types the module's packages as far as this takes their own sources. What other modules
// declare has no type, but for what iterates: that is no more than errors, which nobody reads.
type known struct {
	sources map[string][]*source // by package, without tests
	done    map[string]*types.Package
}

func newKnown(all []*source) *known {
	k := &known{map[string][]*source{}, map[string]*types.Package{}}
	for _, s := range all {
		if !s.isTest() {
			k.sources[module+"/"+s.pkg()] = append(k.sources[module+"/"+s.pkg()], s)
		}
	}
	return k
}

const iterators = "package iter\ntype Seq[V any] func(yield func(V) bool)\n" +
	"type Seq2[K, V any] func(yield func(K, V) bool)"

// Import is called by go/types.
func (k *known) Import(path string) (*types.Package, error) {
	if p := k.done[path]; p != nil {
		return p, nil
	}
	files := k.sources[path]
	if path == "iter" {
		syntax, err := parser.ParseFile(positions, "iter.go", iterators, 0)
		if err != nil {
			return nil, err
		}
		files = []*source{{path: "iter/iter.go", syntax: syntax, fset: positions}}
	}
	p := types.NewPackage(path, path[strings.LastIndexByte(path, '/')+1:])
	if len(files) > 0 {
		p = k.check(path, files, nil)
	}
	p.MarkComplete()
	k.done[path] = p
	return p, nil
}

// check types files as one package: what functions hold only if info is to tell of it.
func (k *known) check(path string, files []*source, info *types.Info) *types.Package {
	var syntax []*ast.File
	for _, s := range files {
		syntax = append(syntax, s.syntax)
	}
	cfg := types.Config{Importer: k, IgnoreFuncBodies: info == nil, Error: func(error) {}}
	p, _ := cfg.Check(path, positions, syntax, info)
	return p
}

// inResults are types of what the functions in examples return, which nobody has to name.
var inResults = []string{"Type", "BackupInfo", "Change", "KeyHost", "Member", "Metrics",
	"Times", "Traffic", "Watch"}

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
			case s.pkg() == pkg && strings.HasPrefix(s.path, pkg+"/example"),
				strings.HasPrefix(s.path, "examples/"):
				examples = append(examples, s)
			case s.pkg() == pkg && !s.isTest():
				names = append(names, exported(s)...)
			}
		}
		if len(examples) == 0 || len(names) < 20 {
			t.Fatalf("%s: %d files of examples, %d exported names", pkg, len(examples), len(names))
		}
		used := usedNames(pkg, examples, all)
		for _, name := range names {
			last := name[strings.LastIndexByte(name, '.')+1:]
			if used[name] || slices.Contains(inResults, name) || isShownElsewhere(last) {
				continue
			}
			t.Errorf("%s.%s is in no example: show it in %s/example_test.go", pkg, name, pkg)
		}
	}
}
