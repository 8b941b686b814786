package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// piped runs a command line with a standard input to its end.
func piped(stdin string, args ...string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out bytes.Buffer
	root := rootCommand(&out, newScreen())
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(args)
	err = root.ExecuteContext(ctx)
	return out.String(), err
}

// TestOneInterruptEndsWhoReadsTheStandardInput, though nothing comes on it: the second is for what
// does not end.
func TestOneInterruptEndsWhoReadsTheStandardInput(t *testing.T) {
	stdin, typing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	defer func(was *os.File) { os.Stdin = was }(os.Stdin)
	os.Stdin = stdin
	for _, line := range []string{"set x -", "tx -", "backup --verify -", "restore - --dir " + filepath.Join(t.TempDir(), "new")} {
		c := begin(t, strings.Fields(line)...)
		c.interrupt()
		select {
		case <-c.ended:
			if c.status != exitFailure || !strings.Contains(c.stderr.String(), "it was interrupted") {
				t.Errorf("peerd %s ended with %d: %s", line, c.status, c.stderr)
			}
		case <-time.After(patience):
			typing.Close() // so that it ends
			t.Fatalf("peerd %s goes on waiting", line)
		}
	}
	typing.Close()
}

func TestABackupGoesThroughAPipe(t *testing.T) {
	d := run(t, t.TempDir())
	d.ask("SET greeting hello")
	backup, err := piped("", "backup", "-", "--http", d.http)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := piped(backup, "backup", "--verify", "-"); err != nil || !strings.HasPrefix(said, "- is whole: ") {
		t.Errorf("verify says %q, %v", said, err)
	}
	if _, err := piped(backup[:len(backup)-1], "backup", "--verify", "-"); err == nil {
		t.Error("a backup without its last byte is whole")
	}
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := piped(backup, "restore", "-", "--dir", dir, "--cluster-key", filepath.Join(d.dir, "cluster.key")); err != nil {
		t.Fatal(err)
	}
	if got := run(t, dir).ask("GET greeting"); got != "hello" {
		t.Errorf("the restored peer has %q", got)
	}
	d.end()
	if backup, err := piped("", "backup", "-", "--http", d.http); err == nil || backup != "" {
		t.Errorf("a backup of nobody is %q, %v", backup, err)
	}
}

func TestAFrontEndThatIsOffIsNotServed(t *testing.T) {
	noRedis := runOff(t, "--resp", "off")
	for _, args := range [][]string{{"set", "k", "v"}, {"status"}} {
		mustPeerd(t, append(args, "--http", noRedis.http)...)
	}
	if answer, err := http.Get("http://" + noRedis.http + "/metrics"); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("the metrics are %v, %v", answer, err)
	} else {
		answer.Body.Close()
	}
	noHTTP := runOff(t, "--http", "off")
	if got := noHTTP.ask("INCR visits"); got != "1" {
		t.Errorf("INCR answered %q", got)
	}
	neither := runOff(t, "--http", "off", "--resp", "off")
	for _, d := range []*daemonProcess{noRedis, noHTTP, neither} {
		if status := d.end(); status != exitOK {
			t.Errorf("it ended with %d: %s", status, d.stderr)
		}
	}
	t.Setenv("PEERD_HTTP", "off")
	status, _, stderr := peerd(t, "status")
	if want := "peerd: http is off in the settings: name the peer that is to answer with --http\n"; status != exitUsage || stderr != want {
		t.Errorf("status of nobody ended with %d: %s", status, stderr)
	}
}

// TestAHostThatServesNoHTTPWaitsForOthers by its own settings.
func TestAHostThatServesNoHTTPWaitsForOthers(t *testing.T) {
	d := run(t, t.TempDir())
	t.Setenv("PEERD_HTTP", "off")
	mustPeerd(t, "wait", "--http", d.http)
}

// runOff starts a peer, and learns the addresses of those front-ends that are served.
func runOff(t *testing.T, args ...string) *daemonProcess {
	t.Helper()
	line := append([]string{"run", "--dir", t.TempDir(), "--fast-gossip"}, anywhere...)
	d := &daemonProcess{command: begin(t, append(line, args...)...)}
	d.stdout.waitFor(t, "--join", d.ended)
	for line := range strings.Lines(d.stdout.String()) {
		switch words := strings.Fields(line); words[0] {
		case "redis":
			d.redis = words[1]
		case "http":
			d.http = strings.TrimSuffix(strings.TrimPrefix(words[1], "http://"), "/")
		}
	}
	return d
}

func TestTheStatusIsShownAgainUntilCtrlC(t *testing.T) {
	d := run(t, t.TempDir(), "--name", "oslo")
	c := begin(t, "status", "--watch", "--http", d.http)
	c.stdout.waitFor(t, "oslo", c.ended)
	first := len(c.stdout.String())
	c.stdout.waitForAfter(t, first, "oslo", c.ended)
	d.end()
	c.stdout.waitForAfter(t, first, "is peerd running there", c.ended)
	if status := c.end(); status != exitOK || c.stderr.String() != "" {
		t.Errorf("Ctrl-C ended it with %d: %s", status, c.stderr)
	}
}

func TestVersionIsAFlagToo(t *testing.T) {
	if flag, command := mustPeerd(t, "--version"), mustPeerd(t, "version"); flag != command {
		t.Errorf("--version prints %q, version %q", flag, command)
	}
}

// A directory is looked into as it is named, never as a pattern: data[1] would match data1 alone.
func TestADirectoryMayHaveAnyName(t *testing.T) {
	for _, name := range []string{"data[1]", "[", "a*b?", `back\slash`, "two words", "%41", "-", "~", "é\nü"} {
		dir := filepath.Join(t.TempDir(), name)
		first := run(t, dir, "--durability", "always")
		first.ask("SET greeting hello")
		file := filepath.Join(filepath.Dir(dir), name+".peerd")
		mustPeerd(t, "backup", file, "--http", first.http)
		first.end()
		again := run(t, dir)
		if got := again.ask("GET greeting"); got != "hello" {
			t.Errorf("%q: after a restart it has %q", name, got)
		}
		again.end()
		mustPeerd(t, "restore", file, "--dir", dir+" [2]", "--cluster-key", filepath.Join(dir, "cluster.key"))
		if got := run(t, dir+" [2]").ask("GET greeting"); got != "hello" {
			t.Errorf("%q: restored it has %q", name, got)
		}
	}
}

// TestABackupIsTriedWithoutKeepingIt: what nobody reads is no terminal.
func TestABackupIsTriedWithoutKeepingIt(t *testing.T) {
	d := run(t, t.TempDir())
	nobody, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	said := newScreen()
	if status := execute(t.Context(), []string{"backup", "-", "--http", d.http}, nobody, said); status != exitOK {
		t.Errorf("status %d: %s", status, said)
	}
}
