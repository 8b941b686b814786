package sim

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

//go:embed seeds.txt
var failedOnce string

func hold(t *testing.T, seed uint64) {
	t.Helper()
	if _, violation := Run(seed, nil); violation != nil {
		t.Errorf("seed %d: %v\nreplay: go run ./cmd/peersim --seed %d --trace trace.txt",
			seed, violation, seed)
	}
}

func TestSeedsThatOnceFailedHold(t *testing.T) {
	lines := bufio.NewScanner(strings.NewReader(failedOnce))
	for lines.Scan() {
		text, why, _ := strings.Cut(lines.Text(), " ")
		if text == "#" || text == "" {
			continue
		}
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil || why == "" {
			t.Fatalf("seeds.txt: %q: want a seed and what was wrong", lines.Text())
		}
		hold(t, seed)
	}
}

func TestWorldsHold(t *testing.T) {
	for seed := range uint64(40) {
		hold(t, seed)
	}
}

func TestAWorldReplaysByteForByte(t *testing.T) {
	for seed := uint64(100); seed < 112; seed++ {
		var first, second bytes.Buffer
		one, _ := Run(seed, &first)
		two, _ := Run(seed, &second)
		silent, _ := Run(seed, nil)
		if one != two || one != silent {
			t.Errorf("seed %d ran differently the second time:\n%v\n%v\n%v", seed, one, two, silent)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("seed %d: %s", seed, firstDifference(first.String(), second.String()))
		}
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d was\n%s\nand then\n%s", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d lines, and then %d", len(x), len(y))
}
