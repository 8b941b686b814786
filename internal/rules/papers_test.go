package rules

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The paper on security names a test for each thing that it says holds: "pkg: `TestX`, `TestY`;
// other: `TestZ`" in the last column of a table whose last heading is "test".
var (
	namedPackage = regexp.MustCompile("([a-z0-9/]+): ((?:`(?:Test|Fuzz)[A-Za-z0-9_]*`(?:, )?)+)")
	namedTest    = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]*)`")
)

// namedTests returns the tests that a column names, as "pkg.Test".
func namedTests(column string) (names []string) {
	for _, pkg := range namedPackage.FindAllStringSubmatch(column, -1) {
		for _, test := range namedTest.FindAllStringSubmatch(pkg[2], -1) {
			names = append(names, pkg[1]+"."+test[1])
		}
	}
	return names
}

func TestThePaperOnSecurityNamesATestForEachLine(t *testing.T) {
	tests := map[string]bool{}
	each(t, func(s *source) []string {
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.isTest() && f.Recv == nil {
				tests[s.pkg()+"."+f.Name.Name] = true
			}
		}
		return nil
	})
	paper, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines, inTable := 0, false
	for line := range strings.SplitSeq(string(paper), "\n") {
		columns := strings.Split(strings.Trim(line, "|"), "|")
		last := strings.TrimSpace(columns[len(columns)-1])
		switch {
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case last == "test":
			inTable = true
		case inTable && !strings.HasPrefix(last, "---"):
			lines++
			names := namedTests(last)
			if len(names) == 0 {
				t.Errorf("no test is named for: %s", columns[0])
			}
			names = slices.DeleteFunc(names, func(name string) bool { return tests[name] })
			if len(names) > 0 {
				t.Errorf("there is no %s, named for: %s", strings.Join(names, ", "), columns[0])
			}
		}
	}
	if lines < 20 {
		t.Errorf("found only %d lines with tests: has the form of the tables changed?", lines)
	}
}
