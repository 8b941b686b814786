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
var raw = regexp.MustCompile(`\bEOF\b|Go struct|json:|x509:|/ip4/|/ip6/|errors? occurred|context ` +
	`|all dials failed|\bdial tcp|\bhttp: |httpapi\.|peer\.[A-Z]`)

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
			go func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, text)
				_ = c.(*net.TCPConn).CloseWrite() // what is left of the request would reset it
				_, _ = io.Copy(io.Discard, c)
			}()
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
	const (
		half   = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
		html   = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\n<html>"
		failed = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
	)
	names := strings.NewReplacer("DIR", dir, "TCP", tcp.Addr().String(), "UDP", udp.LocalAddr().String(),
		"START", "run --dir "+dir+"/data "+strings.Join(anywhere, " "), "LONG", strings.Repeat("k", 140_000),
		"SILENT", answering(t, ""), "SSH", answering(t, "SSH-2.0\r\n"), "HALF", answering(t, half),
		"HTML", answering(t, html), "FAILED", answering(t, failed), "PEER", run(t, dir+"/there").http)
	for _, c := range []struct{ line, says string }{
		{"START --p2p TCP", "for data (--p2p): TCP is in use: stop what"},
		{"START --p2p UDP", "(--p2p): UDP is in use: stop what"},
		{"START --p2p 192.0.2.1:7000", "192.0.2.1:7000 is no address of this host: choose one that is"},
		{"run --dir DIR/junk", "a part of its path is a file"},
		{"START --tls-cert DIR/junk --tls-key DIR/junk", "there is no certificate in PEM"},

		{"status --http SILENT", "no answer from SILENT"},
		{"status --http SSH", "what answers there does not speak HTTP"},
		{"status --http HALF", "no whole answer from HALF"},
		{"get x --http HALF", "no whole answer from HALF"},
		{"space list --http HALF", "no whole answer from HALF"},
		{"key rotate --http HALF", "no whole answer from HALF"},
		{"backup DIR/b --http HALF", "did not come whole"},
		{"get x --http HTML", "what answers on HTML is no peerd"},
		{"key rotate --http HTML", "what answers on HTML is no peerd"},
		{"get x --http FAILED", "what answers on FAILED is no peerd: it says 502 Bad Gateway"},
		{"status --http https://PEER", "speaks HTTP without TLS: ask without https://"},
		{"status --http nobody.invalid:1", "nobody.invalid"},
		{"status --http 127.0.0.1", `--http "127.0.0.1": must be ip:port, as 127.0.0.1:7948`},
		{"restore NONE", "there is no NONE"},
		{"status --http 127.0.0.1:1", "nothing listens there: is peerd running there with this --http?"},

		{"tx [1] --http PEER", "ops must be an object, and is a number"},
		{`tx [{"op":"string.add","path":["x"],"by":"a"}] --http PEER`,
			"ops.by must be a whole number, and is a text"},
		{"set x [] --json --http PEER", "it must be an object, and is a list"},
		{`set x {"type":"set","elements":""} --json --http PEER`, "elements must be a list, and is a text"},
		{`tx [{"opp":1}] --http PEER`, `there is no member "opp"`},
		{"set LONG x --http PEER", "its names are longer than the 128KiB that HTTP takes"},
	} {
		t.Run(c.line, func(t *testing.T) {
			status, stdout, stderr := peerd(t, strings.Fields(names.Replace(c.line))...)
			if says := names.Replace(c.says); status == exitOK || stdout != "" || !strings.Contains(stderr, says) {
				t.Errorf("status %d, %q, error %swithout %s", status, stdout, stderr, says)
			}
			found := raw.FindString(stderr)
			if found != "" || strings.Count(stderr, "\n") != 1 || len(stderr) > 1000 {
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
