package main

import (
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// raw is what no person is to read: Go types, texts of libraries, and several lines.
var raw = regexp.MustCompile(`\bEOF\b|Go struct|json:|x509:|/ip4/|/ip6/|errors? occurred|context |all dials failed|\bdial tcp|` +
	`\bhttp: |httpapi\.|peer\.[A-Z]`)

// answering returns the address of something that answers a connection with a text, and ends it.
func answering(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, text)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// TestAFailureIsToldInWords runs commands into failures that libraries word for programmers.
func TestAFailureIsToldInWords(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "junk"), "junk")
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	half := "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
	html := "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
	start := func(args ...string) []string {
		return append(append([]string{"run", "--dir", filepath.Join(dir, "data")}, anywhere...), args...)
	}
	d := run(t, filepath.Join(dir, "there"))
	for name, c := range map[string]struct {
		args []string
		says string // part of it
	}{
		"data port in use":     {start("--p2p", tcp.Addr().String()), "for data (--p2p): " + tcp.Addr().String() + " is in use: stop what"},
		"data port, UDP":       {start("--p2p", udp.LocalAddr().String()), udp.LocalAddr().String() + " is in use: stop what"},
		"data address":         {start("--p2p", "192.0.2.1:7000"), "192.0.2.1:7000 is no address of this host: choose one that is"},
		"a file for directory": {[]string{"run", "--dir", filepath.Join(dir, "junk")}, "a part of its path is a file"},
		"junk for certificate": {start("--tls-cert", filepath.Join(dir, "junk"), "--tls-key", filepath.Join(dir, "junk")), "there is no certificate in PEM"},

		"a silent end":      {[]string{"status", "--http", answering(t, "")}, "no answer from"},
		"no HTTP":           {[]string{"status", "--http", answering(t, "SSH-2.0\r\n")}, "what answers there does not speak HTTP"},
		"half a status":     {[]string{"status", "--http", answering(t, half)}, "no whole answer from"},
		"half a value":      {[]string{"get", "x", "--http", answering(t, half)}, "no whole answer from"},
		"half a list":       {[]string{"space", "list", "--http", answering(t, half)}, "no whole answer from"},
		"half a rotation":   {[]string{"key", "rotate", "--http", answering(t, half)}, "no whole answer from"},
		"half a backup":     {[]string{"backup", filepath.Join(dir, "b"), "--http", answering(t, half)}, "did not come whole"},
		"a page":            {[]string{"get", "x", "--http", answering(t, html)}, "is no peerd"},
		"a page, to rotate": {[]string{"key", "rotate", "--http", answering(t, html)}, "is no peerd"},
		"another error": {[]string{"get", "x", "--http", answering(t, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")},
			"is no peerd: it says 502 Bad Gateway"},
		"TLS to HTTP":  {[]string{"status", "--http", "https://" + d.http}, "speaks HTTP without TLS: ask without https://"},
		"no such name": {[]string{"status", "--http", "nobody.invalid:1"}, "nobody.invalid"},
		"nobody":       {[]string{"status", "--http", "127.0.0.1:1"}, "nothing listens there: is peerd running there with this --http?"},

		"a number for an operation": {[]string{"tx", "[1]", "--http", d.http}, "ops must be an object, and is the number"},
		"a text for a number":       {[]string{"tx", `[{"op": "string.add", "path": ["x"], "by": "a"}]`, "--http", d.http}, "ops.by must be a whole number, and is a text"},
		"a list for a value":        {[]string{"set", "x", "[]", "--json", "--http", d.http}, "it must be an object, and is a list"},
		"a text for a list":         {[]string{"set", "x", `{"type": "set", "elements": ""}`, "--json", "--http", d.http}, "elements must be a list, and is a text"},
		"an unknown member":         {[]string{"tx", `[{"opp": 1}]`, "--http", d.http}, `there is no member "opp"`},
		"a long key":                {[]string{"set", strings.Repeat("k", 70_000), "x", "--http", d.http}, "its names are longer than the 32KiB that HTTP takes"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := peerd(t, c.args...)
			if status == exitOK || stdout != "" || !strings.Contains(stderr, c.says) {
				t.Errorf("status %d, %q, error %swithout %s", status, stdout, stderr, c.says)
			}
			if found := raw.FindString(stderr); found != "" || strings.Count(stderr, "\n") != 1 || len(stderr) > 1000 {
				t.Errorf("a person reads %q: %s", found, stderr)
			}
		})
	}
}

func TestTheLogIsInWordsFromInfoOn(t *testing.T) {
	dir := t.TempDir()
	mustPeerd(t, "init", "--dir", dir)
	d := run(t, dir, "--join", "127.0.0.1:1")
	d.stderr.waitFor(t, `error="nothing listens on 127.0.0.1:1"`, d.ended)
	d.end()
	addresses := regexp.MustCompile(`p2p=\S+`)
	if found := raw.FindString(addresses.ReplaceAllString(d.stderr.String(), "")); found != "" {
		t.Errorf("the log has %q: %s", found, d.stderr)
	}
	var lines strings.Builder
	newLogger(&lines, slog.LevelDebug, "text").Debug("x", "error", os.ErrNotExist)
	if !strings.Contains(lines.String(), os.ErrNotExist.Error()) {
		t.Errorf("at debug the log has %s", &lines)
	}
}
