package main

import (
	"os"
	"strings"
	"testing"
)

func TestTheDemoTellsItsStoryInUnderFortyLines(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	status, stdout, stderr := peerd(t, "demo", "--exit")
	if status != exitOK || stderr != "" {
		t.Fatalf("status %d, errors %q: %s", status, stderr, stdout)
	}
	// The last line but one and two, of staying up, are not told with --exit.
	if lines := strings.Count(stdout, "\n") + 2; lines >= 40 {
		t.Errorf("the story has %d lines, want under 40", lines)
	}
	for line := range strings.Lines(stdout) {
		if len(line) > 100 && !strings.Contains(line, temp) {
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
	for _, s := range shown {
		if !strings.Contains(stdout, s.why) {
			t.Errorf("the story does not say that %s is %s", s.key, s.why)
		}
	}
	if !strings.Contains(stdout, "hei and konnichiwa") {
		t.Errorf("the story does not show the write that lost: %s", stdout)
	}
	nothingIn(t, temp)
}

func TestTheDemoStaysUpUntilItIsInterrupted(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	c := begin(t, "demo")
	c.stdout.waitFor(t, "Ctrl-C", c.ended)
	port := c.stdout.String()
	port = port[strings.LastIndex(port, "redis-cli -p ")+len("redis-cli -p "):]
	port, _, _ = strings.Cut(port, " ")
	if got, err := askRedis("127.0.0.1:"+port, "GET visits"); err != nil || got != "16" {
		t.Errorf("after the story visits is %q, %v", got, err)
	}
	if status := c.end(); status != exitOK || c.stderr.String() != "" {
		t.Errorf("status %d, errors %q", status, c.stderr)
	}
	nothingIn(t, temp)
}

func nothingIn(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
