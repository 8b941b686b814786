package scenario

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/report"
)

// What is below it has packed what stands for what nobody can pack.
func TestNoCatchUpIsBelowItsPayload(t *testing.T) {
	b := &bench{Scenario: &report.Scenario{}, Lab: &lab.Lab{Dir: t.TempDir(), Patience: time.Minute}}
	b.End() // makes the first section's directory
	const n = 300
	if err := b.ownCatchup(context.Background(), n); err != nil {
		t.Fatal(err)
	}
	if bytes := b.Median(catchupName(n), "peerd"); bytes < catchupKey+catchupValue {
		t.Errorf("%v bytes a write, of which keys and values are %d", bytes, catchupKey+catchupValue)
	}
}

func TestAllSystemsCatchUpOnTheSameKeys(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node")
	}
	text, err := os.ReadFile("../../node/rivals.mjs")
	if err != nil {
		t.Fatal(err)
	}
	theirs := regexp.MustCompile(`(?m)^(import .*"node:crypto";|const keyOf .*)$`).FindAllString(string(text), -1)
	out, err := exec.Command(node, "--input-type=module", "-e",
		fmt.Sprint(theirs[0], theirs[1], "console.log(keyOf(7), keyOf(1000))")).Output()
	if want := keyOf(7) + " " + keyOf(1000) + "\n"; err != nil || string(out) != want || len(keyOf(7)) != catchupKey {
		t.Errorf("they are %q, %v, and not %q", out, err, want)
	}
}
