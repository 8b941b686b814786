package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/auth/authtest"
	"github.com/peerd/peerd/peer"
)

func TestADaemonWithAPasswordAsksEveryClientForIt(t *testing.T) {
	file := authtest.PasswordFile(t, "correct-horse-battery\n")
	d := run(t, t.TempDir(), "--password-file", file)
	if !strings.Contains(d.stdout.String(), " --askpass)") {
		t.Errorf("the greeting says nothing of the password: %s", d.stdout)
	}
	if _, err := askRedis(d.redis, "SET x 1"); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without the password Redis answers %v", err)
	}
	c, err := dialRedis(t.Context(), d.redis)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, command := range []string{"AUTH correct-horse-battery", "SET x 1"} {
		if reply, err := c.do(command); err != nil || strings.Join(reply, "") != "OK" {
			t.Errorf("%s: %v %v", command, reply, err)
		}
	}
	wrong := authtest.PasswordFile(t, "staple-and-more-of-it")
	backup := filepath.Join(t.TempDir(), "backup")
	for _, line := range [][]string{
		{"status"}, {"wait", "--timeout", "1s"}, {"backup", backup},
	} {
		line = append(line, "--http", d.http)
		const need = "(name it with --password-file)"
		if status, _, stderr := peerd(t, line...); status != exitFailure || !strings.Contains(stderr, need) {
			t.Errorf("%s: status %d, %s", line, status, stderr)
		}
		status, _, stderr := peerd(t, append(line, "--password-file", wrong)...)
		if status != exitFailure || !strings.Contains(stderr, "wrong password") {
			t.Errorf("%s with a wrong password: status %d, %s", line, status, stderr)
		}
		mustPeerd(t, append(line, "--password-file", file)...)
	}
}

// TestACommandAsksThePeerAndNoProxy, which would be shown the password, and would answer in the
// place of a peer.
func TestACommandAsksThePeerAndNoProxy(t *testing.T) {
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.Header.Get("Authorization"):
		default:
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer proxy.Close()
	const nobody = "192.0.2.1:7948" // an address for documents: no proxy is ever asked for one of loopback
	ask := exec.Command(os.Args[0], "wait", "--http", nobody, "--timeout", "1ms", "--password-file",
		authtest.PasswordFile(t, "correct-horse-battery\n"))
	ask.Env = append(os.Environ(), asPeerd+"=1", "HTTP_PROXY="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if said, err := ask.CombinedOutput(); err == nil || !strings.Contains(string(said), "no answer from "+nobody) {
		t.Errorf("it ended with %v: %s", err, said)
	}
	select {
	case told := <-asked:
		t.Errorf("the proxy was asked, and shown %q", told)
	default:
	}
}

// TestTheGreetingSaysWhatReachesThePeerFromHere, and not what listens at the same port of another
// address.
func TestTheGreetingSaysWhatReachesThePeerFromHere(t *testing.T) {
	password := []string{"--password-file", authtest.PasswordFile(t, "correct-horse-battery\n")}
	d := run(t, t.TempDir(), append(password, "--resp", "0.0.0.0:0", "--http", "0.0.0.0:0")...)
	if greeting := d.stdout.String(); !strings.Contains(greeting, "(redis-cli -p "+portOf(d.redis)+" --askpass)") {
		t.Errorf("the greeting of a peer that listens everywhere: %s", greeting)
	}
	_, url, _ := strings.Cut(d.stdout.String(), "  http         ")
	url, _, _ = strings.Cut(url, "/ (listening on ")
	mustPeerd(t, append(password, "status", "--http", url)...)
	var c config
	for addr, want := range map[string]string{
		"127.0.0.1:6379": "127.0.0.1:6379 (redis-cli -p 6379)",
		"127.0.0.2:6379": "127.0.0.2:6379 (redis-cli -h 127.0.0.2 -p 6379)",
		"[::1]:6379":     "[::1]:6379 (redis-cli -h ::1 -p 6379)",
		"[::]:6379":      "[::]:6379 (redis-cli -p 6379)",
		"off":            "off",
	} {
		if got := c.redisLine(addr); got != want {
			t.Errorf("of %s it says %q, want %q", addr, got, want)
		}
	}
	for addr, want := range map[string]string{
		"127.0.0.2:7948": "http://127.0.0.2:7948/",
		"[::1]:7948":     "http://[::1]:7948/",
		"[::]:7948":      "http://127.0.0.1:7948/ (listening on [::]:7948)",
		"off":            "off",
	} {
		if got := c.httpLine(addr); got != want {
			t.Errorf("of %s it says %q, want %q", addr, got, want)
		}
	}
}

// TestACommandWithTheSettingsOfAPeerFindsIt, also if that listens on all addresses, which no
// certificate names.
func TestACommandWithTheSettingsOfAPeerFindsIt(t *testing.T) {
	authority := authtest.NewAuthority(t)
	server, client := authority.Issue("server"), authority.Issue("client")
	d := run(t, t.TempDir(), "--tls-cert", server.Cert, "--tls-key", server.Key, "--tls-ca", server.CA, "--http", "0.0.0.0:0")
	mine := []string{"--tls-cert", client.Cert, "--tls-key", client.Key, "--tls-ca", client.CA}
	for _, everywhere := range []string{"0.0.0.0:", "[::]:", ":"} {
		mustPeerd(t, append(mine, "status", "--http", everywhere+portOf(d.http))...)
	}
}

func TestADaemonWithAnAuthorityServesOnlyClientsWithACertificate(t *testing.T) {
	authority := authtest.NewAuthority(t)
	server, client := authority.Issue("server"), authority.Issue("client")
	d := run(t, t.TempDir(), "--tls-cert", server.Cert, "--tls-key", server.Key, "--tls-ca", server.CA)
	if greeting := d.stdout.String(); !strings.Contains(greeting, " --tls --cert … --key …)") {
		t.Errorf("the greeting says nothing of certificates: %s", greeting)
	}
	mine := []string{"--http", d.http, "--tls-cert", client.Cert, "--tls-key", client.Key,
		"--tls-ca", client.CA}
	mustPeerd(t, append([]string{"status"}, mine...)...)
	mustPeerd(t, append([]string{"wait"}, mine...)...)
	for name, line := range map[string][]string{
		"plain HTTP":     {"status", "--http", d.http},
		"no certificate": {"status", "--http", d.http, "--tls-ca", client.CA},
	} {
		const need = "with the same --tls-cert, --tls-key and --tls-ca"
		if status, _, stderr := peerd(t, line...); status != exitFailure || !strings.Contains(stderr, need) {
			t.Errorf("%s: status %d, %s", name, status, stderr)
		}
	}
	config, err := client.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", d.redis, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "PING\r\n")
	if reply, err := bufio.NewReader(conn).ReadString('\n'); err != nil || reply != "+PONG\r\n" {
		t.Errorf("PING over TLS: %q, %v", reply, err)
	}
	if _, err := askRedis(d.redis, "PING"); err == nil {
		t.Error("Redis is served without TLS")
	}
}

func TestBeyondLoopbackClientsMustSayWhoTheyAre(t *testing.T) {
	const addr = "192.0.2.1:6379"
	guarded := trust{passwordFile: "passwords"}
	certified := trust{}
	certified.tls.CA = "ca.pem"
	secured := trust{}
	secured.tls.Cert, secured.tls.Key = "cert.pem", "key.pem"
	for _, test := range []struct {
		name string
		trust
		allowed bool
	}{{"nothing", trust{}, false}, {"a certificate of its own", secured, false},
		{"a password", guarded, true}, {"client certificates", certified, true}} {
		if at, err := test.checkAddr("resp", addr); (err == nil) != test.allowed {
			t.Errorf("with %s: %q, %v", test.name, at, err)
		}
	}
	if at, err := guarded.checkAddr("resp", ":6379"); err != nil || at != "[::]:6379" {
		t.Errorf("all interfaces: %q, %v", at, err)
	}
}

func TestSIGHUPTakesOverANewPasswordAndANewCertificate(t *testing.T) {
	authority := authtest.NewAuthority(t)
	server, file := authority.Issue("server"), authtest.PasswordFile(t, "correct-horse-battery\n")
	p := start(t, "--dir", t.TempDir(), "--password-file", file, "--tls-cert", server.Cert,
		"--tls-key", server.Key).serving(t)
	ask := func() int {
		status, _, _ := peerd(t, "status", "--http", p.http, "--password-file", file, "--tls-ca", server.CA)
		return status
	}
	hangUp := func(want string) {
		t.Helper()
		seen := len(p.stderr.String())
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.stderr.waitForAfter(t, seen, want, p.ended)
	}
	if ask() != exitOK {
		t.Fatal("the first password is refused")
	}
	authority.Issue("server") // in the same files
	write(t, file, "staple-and-more-of-it\n")
	if ask() == exitOK {
		t.Error("a new password is accepted before SIGHUP")
	}
	hangUp(`msg="settings reloaded"`)
	if ask() != exitOK {
		t.Errorf("a new password is refused after SIGHUP: %s", p.stderr)
	}
	write(t, file, "short\n")
	hangUp("a password has 16 to 512")

	write(t, file, "a-third-one-for-today\n") // which is good, and its certificate is not
	write(t, server.Cert, "no certificate\n")
	hangUp(`msg="settings, passwords and certificates are left as they were" error="tls: certificate`)
	if ask() == exitOK {
		t.Error("a new password is taken over though its certificate cannot be")
	}
	write(t, file, "staple-and-more-of-it\n")
	if ask() != exitOK {
		t.Errorf("the old password is refused after a reload that failed: %s", p.stderr)
	}
}

func TestTheKeyIsRotatedByOneCommand(t *testing.T) {
	base := t.TempDir()
	a := run(t, filepath.Join(base, "a"), "--name", "oslo")
	key := filepath.Join(base, "b.key")
	text, err := os.ReadFile(filepath.Join(a.dir, "cluster.key"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, key, string(text))
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	line := []string{"--name", "lima", "--cluster-key", key, "--join", a.gossip}
	b := run(t, filepath.Join(base, "b"), line...)
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)
	b.ask("INCR visits")
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)

	status := statusOf(t, b.http)
	said := mustPeerd(t, "key", "rotate", "--http", b.http)
	if !strings.Contains(said, "oslo") || strings.Count(said, "uses the new key") != 2 ||
		!strings.Contains(said, "accepted until: peerd key retire") {
		t.Errorf("rotated:\n%s", said)
	}
	if said := mustPeerd(t, "status", "--http", a.http); !strings.Contains(said, "KEYS") {
		t.Errorf("the status says nothing of a second key:\n%s", said)
	}
	said = mustPeerd(t, "key", "retire", "--http", a.http)
	renewed := statusOf(t, a.http).ClusterKey
	if renewed == status.ClusterKey || !strings.Contains(said, "accepts key "+renewed+" alone") {
		t.Errorf("retired:\n%s", said)
	}
	b.ask("INCR visits")
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)

	if status := b.end(); status != exitOK {
		t.Fatalf("status %d: %s", status, b.stderr)
	}
	eventuallyAlone(t, a)
	code, said, stderr := peerd(t, "key", "rotate", "--http", a.http)
	if code != exitFailure || !strings.Contains(said, "does not answer") ||
		!strings.Contains(stderr, "mend 1 host and run peerd key rotate again") {
		t.Errorf("with a host down: status %d, %s%s", code, said, stderr)
	}
	code, _, stderr = peerd(t, "key", "retire", "--http", a.http)
	if code != exitFailure || strings.Contains(stderr, "accepted everywhere") || !strings.Contains(stderr, "run peerd key retire again") {
		t.Errorf("that the old key, which nobody accepts, is not retired: status %d, %s", code, stderr)
	}
	said = mustPeerd(t, "key", "rotate", "--without", status.PeerID, "--http", a.http)
	if !strings.Contains(said, "accepted until: peerd key retire --without "+status.PeerID+"\n") {
		t.Errorf("rotated without a host:\n%s", said) // the other command would tell it the key
	}
	b = run(t, b.dir, line...) // with what its file holds
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)
	if got := b.ask("GET visits"); got != "2" {
		t.Errorf("after a restart with the new key visits is %s", got)
	}
}

func statusOf(t *testing.T, addr string) peer.Status {
	t.Helper()
	w, err := trust{}.web()
	if err != nil {
		t.Fatal(err)
	}
	_, status, err := w.status(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// eventuallyAlone waits until a peer misses all others.
func eventuallyAlone(t *testing.T, d *daemonProcess) {
	t.Helper()
	tick, limit := time.NewTicker(20*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for slices.ContainsFunc(statusOf(t, d.http).Members, func(m peer.Member) bool { return m.Alive }) {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("a host that left is not missed")
		}
	}
}
