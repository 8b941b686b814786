package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program returns the daemon, built once.
var program = sync.OnceValues(func() (string, error) {
	if file := os.Getenv("PEERD_E2E_BINARY"); file != "" {
		return file, nil
	}
	dir, err := os.MkdirTemp("", "peerd-console-")
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

var removeProgram = func() {}

// daemon is a peerd process on loopback.
type daemon struct {
	t                       *testing.T
	name, gossip, resp, web string // addresses
	cutFile                 string
	password                string
	process                 *os.Process
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
func start(t *testing.T, name string, joins *daemon, more ...string) *daemon {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := &daemon{t: t, name: name, gossip: freePort(t), resp: freePort(t), web: freePort(t),
		cutFile: filepath.Join(dir, "cut")}
	if err := os.WriteFile(d.cutFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--dir", filepath.Join(dir, "data"), "--name", name, "--fast-gossip", "--gossip", d.gossip,
		"--p2p", freePort(t), "--resp", d.resp, "--http", d.web, "--cut-file", d.cutFile}
	if joins != nil {
		args = append(args, "--join", joins.gossip, "--cluster-key", filepath.Join(filepath.Dir(joins.cutFile), "data", "cluster.key"))
	}
	cmd := exec.Command(file, append(args, more...)...)
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.process = cmd.Process
	t.Cleanup(func() {
		_ = d.process.Signal(syscall.SIGTERM)
		_ = d.process.Signal(syscall.SIGCONT) // if the test stopped it
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("%s ended: %v\n%s", name, err, printed.String())
		}
	})
	d.eventually("is ready", func() bool {
		code, _ := d.ask("GET", "/readyz", nil)
		return code == http.StatusOK
	})
	return d
}

// pair starts two daemons that are linked.
func pair(t *testing.T) (oslo, lima *daemon) {
	t.Helper()
	oslo = start(t, "oslo", nil, "--slow-log", "1us")
	lima = start(t, "lima", oslo)
	oslo.untilLinked(true)
	lima.untilLinked(true)
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

func (d *daemon) base() string { return "http://" + d.web }

// ask sends a request and returns the answer's status and body; 0 if there is none.
func (d *daemon) ask(method, path string, body any) (int, string) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		sent = bytes.NewReader(text)
	}
	r, err := http.NewRequest(method, d.base()+path, sent)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if d.password != "" {
		r.Header.Set("Authorization", "Bearer "+d.password)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(got)
}

// object is JSON.
type object map[string]any

// put makes a key hold a value.
func (d *daemon) put(key string, value object) {
	d.t.Helper()
	if code, answer := d.ask("PUT", "/v1/keys/"+url.PathEscape(key), value); code != http.StatusOK {
		d.t.Fatalf("put %q: %d %s", key, code, answer)
	}
}

func (d *daemon) set(key, value string) {
	d.t.Helper()
	d.put(key, object{"type": "string", "value": value})
}

// expires has a key expire at a time.
func (d *daemon) expires(key, until string) {
	d.t.Helper()
	op := object{"op": "expire", "path": []string{key}, "until": until}
	if code, answer := d.ask("POST", "/v1/tx", object{"ops": []object{op}}); code != http.StatusOK {
		d.t.Fatalf("%d %s", code, answer)
	}
}

// holds waits until a key holds what has all the texts.
func (d *daemon) holds(key string, texts ...string) {
	d.t.Helper()
	d.eventually(fmt.Sprintf("holds %q under %q", texts, key), func() bool {
		_, answer := d.ask("GET", "/v1/keys/"+url.PathEscape(key)+"?conflicts=true", nil)
		for _, text := range texts {
			if !strings.Contains(answer, text) {
				return false
			}
		}
		return true
	})
}

func (d *daemon) untilLinked(linked bool) {
	d.t.Helper()
	d.eventually(fmt.Sprintf("is linked: %v", linked), func() bool {
		_, answer := d.ask("GET", "/v1/status", nil)
		return strings.Contains(answer, fmt.Sprintf(`"linked": %v`, linked))
	})
}

// cut cuts two daemons apart, or puts them together again.
func cut(a, b *daemon, apart bool) {
	a.t.Helper()
	for _, d := range []*daemon{a, b} {
		text := ""
		if apart {
			text = a.gossip + "\n" + b.gossip + "\n"
		}
		next := d.cutFile + ".next"
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
		if err := os.Rename(next, d.cutFile); err != nil {
			d.t.Fatal(err)
		}
	}
	a.untilLinked(!apart)
	b.untilLinked(!apart)
}

// behindStub returns a server that answers as the daemon does, but for what change does to its
// status.
func (d *daemon) behindStub(change func(status object)) string {
	target, err := url.Parse(d.base())
	if err != nil {
		d.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // which its pages name as their origin
		},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // a page that is left cuts its watch
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path != "/v1/status" {
				return nil
			}
			var status object
			if err := json.NewDecoder(r.Body).Decode(&status); err != nil {
				return err
			}
			change(status)
			body, err := json.Marshal(status)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", fmt.Sprint(len(body)))
			return err
		},
	}
	server := httptest.NewServer(proxy)
	d.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// client is a client of the Redis protocol.
type client struct {
	net.Conn
	t *testing.T
}

func (d *daemon) connect() *client {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.resp)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	return &client{conn, d.t}
}

// run sends a command and waits for its reply.
func (c *client) run(command string) {
	c.t.Helper()
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	reply := make([]byte, 512)
	if n, err := c.Read(reply); err != nil || reply[0] == '-' {
		c.t.Fatalf("%s: %s %v", command, reply[:n], err)
	}
}
