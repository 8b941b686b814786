package resp

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

const page = "../../docs/redis.md"

// TestThePageForRedis: its tables of commands and refusals are those of the program. "go test -run
// ThePageForRedis -update" writes them.
func TestThePageForRedis(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := inserted(t, string(text), "<!-- commands", tableOfCommands())
	want = inserted(t, want, "<!-- refusals", tableOfRefusals())
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
