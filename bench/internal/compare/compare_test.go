package compare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// results is what a benchmark gave.
type results struct{ ns, rate, bytes, allocs, steps float64 }

// write writes ten of them.
func write(t *testing.T, dir, side string, r results) {
	t.Helper()
	var text strings.Builder
	for i := range runs {
		noise := 1 + 0.01*float64(i%3)
		fmt.Fprintf(&text, "BenchmarkA-2 100 %.1f ns/op %.1f op/s %.0f B/op %.0f allocs/op %.1f operations/step\n",
			r.ns*noise, r.rate*noise, r.bytes, r.allocs, r.steps*noise)
	}
	if err := os.WriteFile(filepath.Join(dir, side+".txt"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWorseByMoreThanATwentiethFails(t *testing.T) {
	repo, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	base := results{ns: 100, rate: 50, bytes: 10, steps: 200}
	for _, c := range []struct {
		what string
		now  results
		want []string
	}{
		{"nothing", base, nil},
		{"4%", results{104, 50, 10, 0, 200}, nil},
		{"slower by a fifth", results{120, 50, 10, 0, 200}, []string{"sec/op"}},
		{"faster by a fifth", results{80, 60, 10, 0, 240}, nil},
		{"fewer a second, and more memory", results{100, 40, 12, 0, 200}, []string{"op/s", "B/op"}},
		{"an allocation where there was none", results{100, 50, 10, 1, 200}, []string{"allocs/op"}},
		{"fewer operations within a step", results{100, 50, 10, 0, 160}, []string{"operations/step"}},
	} {
		dir := t.TempDir()
		write(t, dir, "base", base)
		write(t, dir, "now", c.now)
		var out strings.Builder
		err := benchstat(context.Background(), repo, dir, &out)
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.what, err)
		}
		for _, unit := range c.want {
			if err != nil && !strings.Contains(err.Error(), " "+unit+" ") {
				t.Errorf("%s: %q is not in %v", c.what, unit, err)
			}
		}
		if !strings.Contains(out.String(), "now") {
			t.Errorf("%s: the tables do not name the sides:\n%s", c.what, out.String())
		}
	}
}

// Each alternative of a pattern is the name of a benchmark, and of what within it.
func TestTheSuiteComparesBenchmarksThatThereAre(t *testing.T) {
	repo, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	compared := map[string]bool{}
	for _, s := range suite {
		files, err := filepath.Glob(filepath.Join(repo, s.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range regexp.MustCompile(`(?m)^func (Benchmark\w+)\(`).FindAllStringSubmatch(string(text), -1) {
				names = append(names, found[1])
			}
		}
		for alternative := range strings.SplitSeq(s.pattern, "|^") {
			top, _, _ := strings.Cut(alternative, "/")
			pattern, err := regexp.Compile(top)
			if err != nil || !slices.ContainsFunc(names, pattern.MatchString) {
				t.Errorf("of %s, %s is no benchmark: %v", s.pkg, top, err)
				continue
			}
			for _, name := range names {
				compared[s.pkg+"."+name] = compared[s.pkg+"."+name] || pattern.MatchString(name)
			}
		}
	}
	for _, want := range []string{"peer.BenchmarkCommit", "store/badger.BenchmarkCommit", "antientropy.BenchmarkPull"} {
		if !compared[want] {
			t.Errorf("%s is not compared", want)
		}
	}
}

func TestABaseIsCheckedOutWithoutATraceInTheRepository(t *testing.T) {
	repo, ctx := t.TempDir(), context.Background()
	git := func(args ...string) string {
		var out strings.Builder
		args = append([]string{"-c", "user.name=a", "-c", "user.email=a@example.org"}, args...)
		if err := tool(ctx, repo, &out, "git", args...); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	git("init", "-q")
	for _, text := range []string{"old", "new"} {
		if err := os.WriteFile(filepath.Join(repo, "file"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		git("add", ".")
		git("commit", "-q", "-m", text)
	}
	dir := filepath.Join(t.TempDir(), "tree")
	if err := checkOut(ctx, repo, "HEAD~1", dir); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != "old" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if trees := git("worktree", "list"); strings.Count(trees, "\n") != 1 {
		t.Errorf("the repository knows of\n%s", trees)
	}
	if err := checkOut(ctx, repo, "none", dir+"2"); err == nil {
		t.Error("a commit that is not there is checked out")
	}
}

func TestWhatIsNotSignificantIsNoRegression(t *testing.T) {
	found, err := regressions(",a,,b,,,\n,sec/op,CI,sec/op,CI,vs base,P\nA-2,1,1%,2,1%,~,p=0.3 " +
		"n=10\n" +
		"B-2,1,1%,2,1%,+6.00%,p=0.001 n=10\nC-2,1,1%,1.05,1%,+5.00%,p=0.001 " +
		"n=10\ngeomean,1,,2,,+50.00%,\n")
	if err != nil || !slices.Equal(found, []string{"B-2: +6.00% sec/op (p=0.001 n=10)"}) {
		t.Errorf("%q, %v", found, err)
	}
}
