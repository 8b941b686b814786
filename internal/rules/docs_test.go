package rules

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// checkDocs reports what is exported and has no comment. Programs export nothing.
func checkDocs(s *source) (problems []string) {
	if s.isTest() || s.syntax.Name.Name == "main" {
		return nil
	}
	missing := func(n ast.Node, name string) {
		problems = append(problems, s.at(n.Pos())+": "+name+
			" is exported and has no comment: say what a caller needs to know")
	}
	for _, d := range s.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && receiverIsExported(d) {
				missing(d, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if name := undocumented(d, spec); name != "" {
					missing(spec, name)
				}
			}
		}
	}
	return problems
}

func receiverIsExported(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	t := f.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if index, ok := t.(*ast.IndexExpr); ok {
		t = index.X
	}
	id, ok := t.(*ast.Ident)
	return ok && id.IsExported()
}

// undocumented returns the exported name of a declaration without a comment, or nothing. The
// comment of a group stands for its constants and variables, and so does one at the end of the
// line.
func undocumented(d *ast.GenDecl, spec ast.Spec) string {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		documented := spec.Doc != nil || spec.Comment != nil || d.Doc != nil && !d.Lparen.IsValid()
		if spec.Name.IsExported() && !documented {
			return spec.Name.Name
		}
	case *ast.ValueSpec:
		i := slices.IndexFunc(spec.Names, (*ast.Ident).IsExported)
		if i >= 0 && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
			return spec.Names[i].Name
		}
	}
	return ""
}

func TestWhatIsExportedIsDocumented(t *testing.T) {
	each(t, checkDocs)
	breaks(t, checkDocs, "p/p.go",
		"package p\n// F does.\nfunc F() {}\nfunc (t u) G() {}\n// Limits.\nconst (\nA = 1\nB = 2\n)",
		"package p\nfunc F() {}",
		"package p\ntype T int",
		"package p\nvar V int",
		"package p\n// T is.\ntype T int\nfunc (t *T) M() {}")
}

func TestEachPackageTeaches(t *testing.T) {
	documented := map[string]bool{}
	each(t, func(s *source) []string {
		if !s.isTest() {
			doc := s.syntax.Doc.Text()
			documented[s.pkg()] = documented[s.pkg()] || strings.Count(doc, " ") >= 10
		}
		return nil
	})
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no doc that says what it is for", pkg)
		}
	}
}
