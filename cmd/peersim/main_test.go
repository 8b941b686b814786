package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func runWith(t *testing.T, args ...string) (out string, ok bool) {
	t.Helper()
	o, err := parse(args, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	ok, err = run(o, &buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf.String(), ok
}

func TestTheLastLineIsTheTotalsHoweverManyWorkersThereAre(t *testing.T) {
	one, ok1 := runWith(t, "--seeds", "6", "--from", "7", "--workers", "1")
	three, ok3 := runWith(t, "--seeds", "6", "--from", "7", "--workers", "3")
	if one != three || !ok1 || !ok3 {
		t.Errorf("one worker:\n%s\nthree:\n%s", one, three)
	}
	lines := strings.Split(strings.TrimSpace(one), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "worlds=6 ") ||
		!strings.HasSuffix(last, " violations=0") {
		t.Errorf("the last line is %q", last)
	}
}

func TestADrawnSeedIsPrinted(t *testing.T) {
	if out, _ := runWith(t, "--seeds", "1"); !strings.HasPrefix(out, "from seed ") {
		t.Errorf("the output is %q", out)
	}
}

func TestOneSeedIsReplayedIntoATrace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	if _, ok := runWith(t, "--seed", "0", "--trace", file); !ok {
		t.Error("seed 0 fails")
	}
	trace, err := os.ReadFile(file)
	if err != nil || bytes.Count(trace, []byte("\n")) < 10 || !bytes.Contains(trace, []byte("seed 0:")) {
		t.Errorf("the trace has %d bytes (%v)", len(trace), err)
	}
}

func TestAHashNamesATrace(t *testing.T) {
	one, _ := runWith(t, "--seeds", "2", "--from", "7", "--hash")
	again, _ := runWith(t, "--seeds", "2", "--from", "7", "--hash")
	lines := strings.Split(one, "\n")
	if one != again || len(lines) != 4 || !strings.HasPrefix(lines[0], "7 ") || lines[0][2:] == lines[1][2:] {
		t.Errorf("once:\n%s\nand again:\n%s", one, again)
	}
}

func TestMistakesInTheArgumentsAreNamed(t *testing.T) {
	for args, want := range map[string]string{
		"--trace f":        "name its -seed",
		"--workers 0":      "it takes a worker",
		"--seed 1 another": `unknown argument "another"`,
		"--seeds many":     "invalid value",
	} {
		var out bytes.Buffer
		if _, err := parse(strings.Fields(args), &out); err == nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v: %s", args, err, out.String())
		}
	}
}

func TestAViolationNamesItsSeedAndHowToReplayIt(t *testing.T) {
	var out bytes.Buffer
	report(&out, 42, os.ErrInvalid)
	want := "seed 42: invalid argument\nreplay: go run ./cmd/peersim --seed 42 --trace trace.txt\n"
	if out.String() != want {
		t.Errorf("it prints %q", out.String())
	}
}
