package resp

import (
	"fmt"
	"go/ast"
	"go/constant"
	goparser "go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
)

const page = "../../docs/redis.md"

// TestThePageForRedis: its tables of commands, refusals and limits are those of the program. "go
// test -run ThePageForRedis -update" writes them.
func TestThePageForRedis(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := inserted(t, string(text), "<!-- commands", tableOfCommands())
	want = inserted(t, want, "<!-- refusals", tableOfRefusals())
	want = inserted(t, want, "<!-- limits", tableOfLimits(t))
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s: %s\nto write it: go test ./api/resp -run TestThePageForRedis -update", page,
			firstDifference(want, string(text)))
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// inserted returns a text with a table in the place of what stands between a mark's line and the
// next end.
func inserted(t *testing.T, text, mark, table string) string {
	const end = "<!-- end -->"
	_, rest, begun := strings.Cut(text, mark)
	_, rest, line := strings.Cut(rest, "\n")
	old, _, ended := strings.Cut(rest, end)
	if !begun || !line || !ended {
		t.Fatalf("%s has no %s", page, mark)
	}
	from := len(text) - len(rest)
	return text[:from] + table + text[from+len(old):]
}

func tableOfCommands() string {
	var b strings.Builder
	b.WriteString("| command | | |\n|---|---|---|\n")
	for _, c := range table() {
		if c.subs == nil {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.ToUpper(c.name), c.group, shown(c.summary))
			continue
		}
		var names []string
		for _, name := range c.subNames() {
			names = append(names, strings.ToUpper(name))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s %s |\n", strings.ToUpper(c.name), c.group, shown(c.summary), strings.Join(names, ", "))
	}
	return b.String()
}

// shown returns a summary as a table takes it.
func shown(summary string) string { return strings.NewReplacer("|", `\|`, "_", `\_`).Replace(summary) }

func tableOfRefusals() string {
	var b strings.Builder
	b.WriteString("| command | |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(refusals)) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ToUpper(name), refusals[name])
	}
	fmt.Fprintf(&b, "| `%s` | as in Redis without cluster mode |\n", strings.ToUpper(strings.Join(notClustered, "`, `")))
	return b.String()
}

// tableOfLimits is what stands in limits.go of those that are exported.
func tableOfLimits(t *testing.T) string {
	fset := token.NewFileSet()
	file, err := goparser.ParseFile(fset, "limits.go", nil, goparser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	checked, err := (&types.Config{Importer: onlyTime{}}).Check("resp", fset, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| limit | | |\n|---|---|---|\n")
	names, values, doc := "", "", ""
	end := func() {
		if names != "" {
			doc = strings.TrimPrefix(doc, strings.Trim(names, "`")+" is ")
			fmt.Fprintf(&b, "| %s | %s | %s |\n", names, values, shown(doc))
		}
		names, values = "", ""
	}
	for _, d := range file.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		for _, spec := range block.Specs {
			one := spec.(*ast.ValueSpec)
			if one.Doc != nil {
				end()
				doc = strings.Join(strings.Fields(one.Doc.Text()), " ")
			}
			if name := one.Names[0].Name; one.Names[0].IsExported() {
				between := map[bool]string{true: ", "}[names != ""]
				names += between + "`" + name + "`"
				values += between + limitText(name, checked.Scope().Lookup(name).(*types.Const))
			}
		}
		end()
	}
	return b.String()
}

// inBytes are the names of limits that are sizes.
var inBytes = regexp.MustCompile("Bytes|Value|Command$|Skip|Inline|Output|Reply$|Queue|" +
	"Hold|Held|Pattern$|Mail|Memory|Cost|Name$")

func limitText(name string, c *types.Const) string {
	n, _ := constant.Int64Val(c.Val())
	switch {
	case strings.HasSuffix(c.Type().String(), "Duration"):
		return time.Duration(n).String()
	case !inBytes.MatchString(name):
		return humanize.Comma(n)
	case n%(1<<20) == 0:
		return fmt.Sprint(n>>20, " MiB")
	case n%(1<<10) == 0:
		return fmt.Sprint(n>>10, " KiB")
	}
	return fmt.Sprint(n, " bytes")
}

// onlyTime is package time, as far as limits.go needs it.
type onlyTime struct{}

func (onlyTime) Import(path string) (*types.Package, error) {
	if path != "time" {
		return nil, fmt.Errorf("%s is not known here", path)
	}
	p := types.NewPackage("time", "time")
	name := types.NewTypeName(token.NoPos, p, "Duration", nil)
	duration := types.NewNamed(name, types.Typ[types.Int64], nil)
	units := map[string]time.Duration{"Second": time.Second, "Millisecond": time.Millisecond}
	for name, d := range units {
		p.Scope().Insert(types.NewConst(token.NoPos, p, name, duration, constant.MakeInt64(int64(d))))
	}
	p.MarkComplete()
	return p, nil
}
