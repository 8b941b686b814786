package resp

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false, "write the replies into the scripts")
	redis  = flag.String("redis", "",
		"address of a Redis server to ask instead: go test -run Redis -redis 127.0.0.1:6379")
)

// TestScripts runs the conversations in testdata. A line with a '>' is a command, with the name of
// the connection in front; what stands below it is the reply. Lines with a '>>' are sent at once.
// "go test -run Scripts -update" writes the replies.
func TestScripts(t *testing.T) { runScripts(t, "testdata/*.txt") }

// TestRedisScripts runs those that a real Redis answers in the same way: see -redis.
func TestRedisScripts(t *testing.T) { runScripts(t, "testdata/redis/*.txt") }

func runScripts(t *testing.T, pattern string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := string(data)
			got := runScript(t, want)
			if got == want {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s: %s\nto accept: go test -run Scripts -update",
				file, firstDifference(want, got))
		})
	}
}

// TestTheRecipesDoWhatTheyShow runs what the page shows in its recipes.
func TestTheRecipesDoWhatTheyShow(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, recipes, _ := strings.Cut(string(text), "\n## Recipes\n")
	recipes, _, _ = strings.Cut(recipes, "\n## ")
	shown := strings.Split(recipes, "```\n")
	if len(shown) != 2*strings.Count(recipes, "\n**")+1 {
		t.Fatalf("%d pieces, which is not two for each recipe and one", len(shown))
	}
	for i := 1; i < len(shown); i += 2 {
		if got := runScript(t, shown[i]); got != shown[i] {
			t.Errorf("in %s: %s", page, firstDifference(shown[i], got))
		}
	}
}

var commandLine = regexp.MustCompile(`^(\w*)(>>?) (.*)$`)

// runScript returns the script with the replies that it got.
func runScript(t *testing.T, script string) string {
	address := *redis
	if address == "" {
		_, address = startServer(t, Config{db: newMemory(t), Version: "test"})
	}
	connections := map[string]*peer{}
	var out strings.Builder
	lines := strings.Split(strings.TrimSuffix(script, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		m := commandLine.FindStringSubmatch(lines[i])
		if m == nil {
			if lines[i] == "" || lines[i][0] == '#' {
				out.WriteString(lines[i] + "\n")
			}
			continue
		}
		out.WriteString(lines[i] + "\n")
		pipeline := [][]string{words(t, m[3])}
		for m[2] == ">>" && i+1 < len(lines) && strings.HasPrefix(lines[i+1], m[1]+">> ") {
			i++
			out.WriteString(lines[i] + "\n")
			pipeline = append(pipeline, words(t, lines[i][len(m[1])+3:]))
		}
		p := connections[m[1]]
		if p == nil {
			p = dial(t, address)
			connections[m[1]] = p
		}
		p.send(pipeline...)
		for range pipeline {
			text, err := readReply(p.in, "")
			if err != nil {
				text = "closed\n"
			}
			out.WriteString(text)
		}
	}
	return out.String()
}

func words(t *testing.T, line string) []string {
	unescaped := []byte(line)
	spans, ok := splitLine(unescaped, nil)
	if !ok {
		t.Fatalf("unbalanced quotes: %s", line)
	}
	args := make([]string, len(spans))
	for i, s := range spans {
		args[i] = string(unescaped[s.from:s.to])
	}
	return args
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1,
				strings.Join(g[min(i, len(g)):min(i+3, len(g))], "\n     "), w[i])
		}
	}
	return fmt.Sprintf("more at the end: %s", g[len(w)])
}
