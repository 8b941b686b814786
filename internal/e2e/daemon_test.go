package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binary returns the daemon, built once for the test.
func binary(t *testing.T) string {
	t.Helper()
	if file := os.Getenv("PEERD_E2E_BINARY"); file != "" {
		return file
	}
	file := filepath.Join(t.TempDir(), "peerd")
	build := exec.Command("go", "build", "-o", file, "github.com/peerd/peerd/cmd/peerd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the daemon: %v\n%s", err, out)
	}
	return file
}

// daemon is a peerd process on one host, through all its lives.
type daemon struct {
	t       *testing.T
	net     network
	host    int
	name    string
	program string
	args    []string
	dir     string // its data
	log     string // its standard error, of all lives

	cmd    *exec.Cmd
	exited chan error
	web    *http.Client
}

func newDaemon(t *testing.T, n network, host int, program, name string, args ...string) *daemon {
	base := t.TempDir()
	d := &daemon{
		t: t, net: n, host: host, name: name, program: program,
		dir: filepath.Join(base, "data"), log: filepath.Join(base, "log"),
	}
	d.args = append([]string{"run", "--dir", d.dir, "--name", name, "--fast-gossip"}, args...)
	d.args = append(d.args, n.flags(host)...)
	d.web = &http.Client{Timeout: patience(), Transport: &http.Transport{
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			return n.dial(host, address)
		},
	}}
	t.Cleanup(func() {
		d.kill()
		d.web.CloseIdleConnections()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, d.logTail())
		}
	})
	return d
}

// moveTo has the daemon keep its data in another directory.
func (d *daemon) moveTo(dir string) {
	d.dir = dir
	d.args = append(d.args, "--dir", dir)
}

// start starts the daemon and waits until it serves.
func (d *daemon) start() {
	d.t.Helper()
	d.launch()
	d.eventually("serves", func() error {
		if ended, err := d.ended(); ended {
			d.t.Fatalf("%s ended: %v", d.name, err)
		}
		return d.get("/healthz", nil)
	})
}

// launch starts the daemon.
func (d *daemon) launch() {
	d.t.Helper()
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command(d.program, d.args...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.net.start(d.host, d.cmd); err != nil {
		d.t.Fatalf("start %s: %v", d.name, err)
	}
	exited := make(chan error, 1)
	d.exited = exited
	go func(cmd *exec.Cmd) { exited <- cmd.Wait() }(d.cmd)
}

// ended reports whether the daemon has ended since it was started, and how.
func (d *daemon) ended() (ended bool, err error) {
	select {
	case err := <-d.exited:
		d.exited <- err
		return true, err
	default:
		return false, nil
	}
}

// command runs another command of the program on the daemon's host, and returns what it prints.
func (d *daemon) command(args ...string) (output string, err error) {
	var out strings.Builder
	cmd := exec.Command(d.program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := d.net.start(d.host, cmd); err != nil {
		return "", err
	}
	err = cmd.Wait()
	return out.String(), err
}

// kill ends the daemon at once, as kill -9 does, and waits for its end.
func (d *daemon) kill() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill() // an error says that it has ended
	<-d.exited
	d.cmd = nil
	d.web.CloseIdleConnections()
}

// stop asks the daemon to end, and fails the test unless it does so properly.
func (d *daemon) stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	select {
	case err := <-d.exited:
		d.cmd = nil
		if err != nil {
			d.t.Errorf("%s ended after SIGTERM with %v", d.name, err)
		}
	case <-time.After(patience()):
		d.t.Errorf("%s did not end after SIGTERM", d.name)
	}
}

// status is what the test looks at of /v1/status.
type status struct {
	Name        string `json:"name"`
	Replica     string `json:"replica"`
	PeerID      string `json:"peer_id"`
	GossipAddr  string `json:"gossip_addr"`
	ContextHash string `json:"context_hash"`
	Root        string `json:"root"`
	Settled     bool   `json:"settled"`
	Ready       bool   `json:"ready"`
	Removed     bool   `json:"removed"`
	Reason      string `json:"reason"`
	Keys        int    `json:"keys"`
	Repairs     uint64 `json:"repairs"`
	Mismatches  uint64 `json:"mismatches"`
	Mutations   uint64 `json:"mutations"`
	MinFree     uint64 `json:"min_free_bytes"`

	VersionVector map[string]uint64 `json:"version_vector"`

	Forks         []any  `json:"forks"`
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`

	Members []struct {
		Name   string    `json:"name"`
		PeerID string    `json:"peer_id"`
		Addr   string    `json:"addr"`
		Alive  bool      `json:"alive"`
		Since  time.Time `json:"since"`
		Linked bool      `json:"linked"`

		RTTms    *float64 `json:"rtt_ms"`
		TheyLack *uint64  `json:"they_lack"`
		WeLack   *uint64  `json:"we_lack"`
	} `json:"members"`

	Problems []struct {
		ID   string `json:"id"`
		What string `json:"what"`
	} `json:"problems"`
}

func (d *daemon) status() (s status, err error) {
	err = d.get("/v1/status", &s)
	return s, err
}

// get asks for a path over HTTP and decodes the answer into out, if it is not nil.
func (d *daemon) get(path string, out any) error {
	answer, err := d.web.Get("http://" + d.net.addresses(d.host).http + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %s: %s", path, d.name, answer.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(out)
}

// connect opens a client connection.
func (d *daemon) connect() (*client, error) {
	conn, err := d.net.dial(d.host, d.net.addresses(d.host).resp)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.name, err)
	}
	return newClient(conn), nil
}

// run sends commands in pipelines and fails the test unless all are done.
func (d *daemon) run(commands ...command) []any {
	d.t.Helper()
	c, err := d.connect()
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.close()
	replies, err := c.must(commands)
	if err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
	return replies
}

// logTail returns the last lines of the daemon's log.
func (d *daemon) logTail() string {
	const tail = 40
	lines := strings.Split(strings.TrimSpace(d.logged()), "\n")
	return strings.Join(lines[max(0, len(lines)-tail):], "\n")
}

// lastLine returns the last line that the daemon printed.
func (d *daemon) lastLine() string {
	lines := strings.Split(strings.TrimSpace(d.logged()), "\n")
	return lines[len(lines)-1]
}

func (d *daemon) logged() string {
	data, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// settleTime bounds how long anything that the test waits for may take.
const settleTime = time.Minute

// eventually waits until ready returns nil, and fails the test with its last error.
func (d *daemon) eventually(what string, ready func() error) {
	d.t.Helper()
	eventually(d.t, d.name+" "+what, ready)
}

func eventually(t *testing.T, what string, ready func() error) {
	t.Helper()
	deadline := time.Now().Add(settleTime)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s: %v", settleTime, what, err)
		}
		<-tick.C
	}
}

// exitCode returns the exit status of a command that has ended with err.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}
