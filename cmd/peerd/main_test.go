package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// asPeerd makes this test binary be peerd, for tests that need a real process.
const asPeerd = "PEERD_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPeerd) != "" {
		os.Exit(realMain())
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// screen is what a command prints, as it comes.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed at the next change
}

func newScreen() *screen { return &screen{changed: make(chan struct{})} }

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// waitFor waits until the screen shows a text, or the command has ended.
func (s *screen) waitFor(t testing.TB, text string, ended <-chan struct{}) {
	t.Helper()
	s.waitForAfter(t, 0, text, ended)
}

// waitForAfter is waitFor without what the screen showed first, in bytes.
func (s *screen) waitForAfter(t testing.TB, first int, text string, ended <-chan struct{}) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		s.mu.Lock()
		found, changed := strings.Contains(s.text.String()[first:], text), s.changed
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-ended:
			if !strings.Contains(s.String()[first:], text) {
				t.Fatalf("ended without %q: %s", text, s)
			}
			return
		case <-limit.C:
			t.Fatalf("no %q after %v: %s", text, patience, s)
		}
	}
}

// peerd runs a command line to its end.
func peerd(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	status = execute(ctx, args, &out, &errs)
	return status, out.String(), errs.String()
}

// mustPeerd runs a command line that succeeds and returns what it printed.
func mustPeerd(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := peerd(t, args...)
	if status != exitOK {
		t.Fatalf("peerd %s: status %d: %s", strings.Join(args, " "), status, stderr)
	}
	return stdout
}

// command is a command line that runs beside the test.
type command struct {
	t              *testing.T
	stdout, stderr *screen
	interrupt      context.CancelFunc
	ended          chan struct{}
	status         int // once ended
}

func begin(t *testing.T, args ...string) *command {
	ctx, cancel := context.WithCancel(context.Background())
	c := &command{
		t: t, stdout: newScreen(), stderr: newScreen(),
		interrupt: cancel, ended: make(chan struct{}),
	}
	go func() {
		defer close(c.ended)
		c.status = execute(ctx, args, c.stdout, c.stderr)
	}()
	t.Cleanup(func() {
		cancel()
		<-c.ended
	})
	return c
}

// end asks the command to end, as the first signal does, and returns its exit status.
func (c *command) end() int {
	c.interrupt()
	<-c.ended
	return c.status
}

// anywhere are the flags that keep a peer to loopback and free ports.
var anywhere = []string{
	"--gossip", "127.0.0.1:0", "--p2p", "127.0.0.1:0",
	"--resp", "127.0.0.1:0", "--http", "127.0.0.1:0",
}

// daemonProcess is a "peerd run" beside the test.
type daemonProcess struct {
	*command
	dir                 string
	redis, http, gossip string // addresses
}

// run starts a peer in dir and waits until it serves.
func run(t *testing.T, dir string, args ...string) *daemonProcess {
	t.Helper()
	line := append([]string{"run", "--dir", dir, "--fast-gossip"}, anywhere...)
	c := begin(t, append(line, args...)...)
	d := &daemonProcess{command: c, dir: dir}
	c.stdout.waitFor(t, "--join", c.ended)
	d.redis, d.http, d.gossip = addresses(t, c.stdout.String())
	return d
}

// addresses reads them from what "peerd run" prints.
func addresses(t testing.TB, greeting string) (redis, http, gossip string) {
	t.Helper()
	find := func(pattern string) string {
		found := regexp.MustCompile(`(?m)^  ` + pattern).FindStringSubmatch(greeting)
		if found == nil {
			t.Fatalf("no %q in %s", pattern, greeting)
		}
		return found[1]
	}
	return find(`redis +(\S+)`), find(`http +https?://(\S+)/`), find(`gossip +(\S+)`)
}

// ask sends a Redis command to the peer and returns the parts of the reply, with spaces between
// them.
func (d *daemonProcess) ask(command string) string {
	d.t.Helper()
	reply, err := askRedis(d.redis, command)
	if err != nil {
		d.t.Fatal(err)
	}
	return reply
}

func askRedis(addr, command string) (string, error) {
	c, err := dialRedis(context.Background(), addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	reply, err := c.do(command)
	return strings.Join(reply, " "), err
}
