package compare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write writes ten results of a benchmark.
func write(t *testing.T, dir, side string, ns, rate, bytes float64) {
	t.Helper()
	var text strings.Builder
	for i := range runs {
		noise := 1 + 0.01*float64(i%3)
		fmt.Fprintf(&text, "BenchmarkA-2 100 %.1f ns/op %.1f op/s %.0f B/op\n", ns*noise, rate*noise, bytes)
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
	for _, c := range []struct {
		what            string
		ns, rate, bytes float64
		want            []string
	}{
		{"nothing", 100, 50, 10, nil},
		{"4%", 104, 50, 10, nil},
		{"slower by a fifth", 120, 50, 10, []string{"sec/op"}},
		{"faster by a fifth", 80, 60, 10, nil},
		{"fewer a second, and more memory", 100, 40, 12, []string{"op/s", "B/op"}},
	} {
		dir := t.TempDir()
		write(t, dir, "base", 100, 50, 10)
		write(t, dir, "now", c.ns, c.rate, c.bytes)
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

func TestWhatIsNotSignificantIsNoRegression(t *testing.T) {
	found, err := regressions(",a,,b,,,\n,sec/op,CI,sec/op,CI,vs base,P\nA-2,1,1%,2,1%,~,p=0.3 " +
		"n=10\n" +
		"B-2,1,1%,2,1%,+6.00%,p=0.001 n=10\nC-2,1,1%,1.05,1%,+5.00%,p=0.001 " +
		"n=10\ngeomean,1,,2,,+50.00%,\n")
	if err != nil || !slices.Equal(found, []string{"B-2: +6.00% sec/op (p=0.001 n=10)"}) {
		t.Errorf("%q, %v", found, err)
	}
}
