package rules

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// symptoms are the texts in code type in the first column of a table in a section of a document.
func symptoms(document, section string) (texts []string) {
	_, text, _ := strings.Cut(document, "\n"+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	code := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, found := range code.FindAllStringSubmatch(cells[1], -1) {
			texts = append(texts, found[1])
		}
	}
	return texts
}

// literals calls fn with the strings of a file, those that are put together by + as one.
func literals(s *source, fn func(text string)) {
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, ok := constant(e)
		if ok {
			fn(text)
		}
		return !ok
	})
}

func constant(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, isText := constant(e.X)
		right, alsoText := constant(e.Y)
		return left + right, isText && alsoText && e.Op == token.ADD
	}
	return "", false
}

// TestWhatOperatorsLookForIsWhatPeerdSays holds the symptoms of docs/operations.md against the source: a
// message that was reworded must be found again there.
func TestWhatOperatorsLookForIsWhatPeerdSays(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	texts := symptoms(string(document), "## Symptoms")
	if len(texts) < 10 {
		t.Fatalf("docs/operations.md names only %d texts as symptoms", len(texts))
	}
	said := map[string]bool{}
	each(t, func(s *source) []string {
		if !s.isTest() {
			literals(s, func(literal string) {
				for _, text := range texts {
					said[text] = said[text] || strings.Contains(literal, text)
				}
			})
		}
		return nil
	})
	for _, text := range texts {
		if !said[text] {
			t.Errorf("docs/operations.md names %q as a symptom, and nothing says that", text)
		}
	}
}
