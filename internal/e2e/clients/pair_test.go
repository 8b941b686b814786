package clients

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = time.Minute

func TestMain(m *testing.M) {
	status := m.Run()
	removeProgram()
	os.Exit(status)
}

var removeProgram = func() {}

// program returns the daemon, built once.
var program = sync.OnceValues(func() (string, error) {
	if file := os.Getenv("PEERD_E2E_BINARY"); file != "" {
		return file, nil
	}
	dir, err := os.MkdirTemp("", "peerd-clients-")
	if err != nil {
		return "", err
	}
	removeProgram = func() { os.RemoveAll(dir) }
	file := filepath.Join(dir, "peerd")
	build := exec.Command("go", "build", "-C", filepath.Join("..", "..", ".."), "-o", file, "./cmd/peerd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the daemon: %w\n%s", err, out)
	}
	return file, nil
})

// daemon is a peerd process on loopback.
type daemon struct {
	t                       *testing.T
	name, gossip, resp, web string // addresses
	args                    []string
	dir                     string
	process                 *exec.Cmd
	printed                 bytes.Buffer
}

var given sync.Map // addresses that freePort returned

// freePort returns an address on loopback with a port that nobody has, TCP or UDP. None is given
// twice, nor by another process before the test ends: each claims the port of a second loopback
// address.
func freePort(t *testing.T) string {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		claim, err := net.Listen("tcp", strings.Replace(address, "127.0.0.1", "127.0.0.2", 1))
		switch {
		case err == nil:
			t.Cleanup(func() { claim.Close() })
		case errors.Is(err, syscall.EADDRINUSE):
			continue
		} // else the system has no such address
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		tcp.Close()
		if udp, err := net.ListenPacket("udp", address); err == nil {
			udp.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// start starts a daemon that joins another, if there is one, and waits until it is ready.
func start(t *testing.T, name string, joins *daemon) *daemon {
	t.Helper()
	d := &daemon{t: t, name: name, gossip: freePort(t), resp: freePort(t), web: freePort(t), dir: t.TempDir()}
	d.args = []string{"run", "--dir", filepath.Join(d.dir, "data"), "--name", name, "--fast-gossip", "--gossip", d.gossip,
		"--p2p", freePort(t), "--resp", d.resp, "--http", d.web, "--cut-file", d.cutFile()}
	if joins != nil {
		d.args = append(d.args, "--join", joins.gossip, "--cluster-key", filepath.Join(joins.dir, "data", "cluster.key"))
	}
	t.Cleanup(func() {
		d.kill(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("%s: %s", name, d.printed.String())
		}
	})
	d.run()
	return d
}

// cutFile is where the daemon reads whom it does not reach.
func (d *daemon) cutFile() string { return filepath.Join(d.dir, "cut") }

// run starts the daemon's process.
func (d *daemon) run() {
	d.t.Helper()
	file, err := program()
	if err != nil {
		d.t.Fatal(err)
	}
	d.process = exec.Command(file, d.args...)
	d.process.Stdout, d.process.Stderr = &d.printed, &d.printed
	if err := d.process.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.eventually("is ready", func() bool { return strings.HasPrefix(d.get("/readyz"), "200 ") })
}

// kill ends the process with a signal.
func (d *daemon) kill(signal syscall.Signal) {
	if d.process != nil && d.process.Process != nil {
		_ = d.process.Process.Signal(signal)
		_ = d.process.Wait()
		d.process = nil
	}
}

// pair starts two daemons that are linked.
func pair(t *testing.T) (oslo, lima *daemon) {
	t.Helper()
	oslo = start(t, "oslo", nil)
	lima = start(t, "lima", oslo)
	for _, d := range []*daemon{oslo, lima} {
		d.eventually("is linked", func() bool { return strings.Contains(d.get("/v1/status"), `"linked": true`) })
	}
	return oslo, lima
}

func (d *daemon) eventually(what string, ok func() bool) {
	d.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			d.t.Fatalf("not within %v: %s %s", patience, d.name, what)
		}
	}
}

// hashes are those of what a space has seen and holds, in a status.
var hashes = regexp.MustCompile(`"(context_hash|root)": "[^"]*"`)

// holds tells what the daemon's spaces have seen and hold: as much as another's if that says the same.
func (d *daemon) holds() []string { return hashes.FindAllString(d.get("/v1/status"), -1) }

// get returns the status and the body of an answer over HTTP; empty if there is none.
func (d *daemon) get(path string) string {
	answer, err := http.Get("http://" + d.web + path)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return fmt.Sprintf("%d %s", answer.StatusCode, body)
}
