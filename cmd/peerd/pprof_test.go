package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// askSocket asks for a path by HTTP over a unix socket.
func askSocket(path, what string) (string, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", path)
		},
	}}
	answer, err := client.Get("http://pprof" + what)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

// shortDir returns a directory with a path that is short enough for a socket, as a test's own may not be.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "peerd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestASocketWhosePathIsTooLongIsRefused(t *testing.T) {
	_, err := openProfiler(filepath.Join(t.TempDir(), strings.Repeat("long", 30), "s"))
	if err == nil || !strings.Contains(err.Error(), "limit 87") {
		t.Errorf("got %v", err)
	}
}

func TestProfilesAreServedOnASocketOfTheOwnerAndNowhereElse(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "pprof")
	d := run(t, filepath.Join(dir, "data"), "--pprof-socket", socket)
	info, err := os.Stat(socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	text, err := askSocket(socket, "/debug/pprof/goroutine?debug=1")
	if err != nil || !strings.Contains(text, "goroutine profile: total") {
		t.Errorf("the profile is %.100q, %v", text, err)
	}
	answer, err := http.Get("http://" + d.http + "/debug/pprof/")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("by TCP it is answered with %d", answer.StatusCode)
	}
	other := filepath.Join(dir, "other")
	status, _, stderr := peerd(t, append([]string{"run", "--dir", other, "--pprof-socket", socket},
		anywhere...)...)
	const want = "(another process serves it): name another file with --pprof-socket\n"
	if status != exitFailure || !strings.HasSuffix(stderr, want) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("a second one ends with %d: %s", status, stderr)
	}
	d.end()
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left over")
	}
}

func TestASocketThatIsLeftOverIsReplacedAndAnotherFileIsNot(t *testing.T) {
	dir := shortDir(t)
	left := filepath.Join(dir, "left")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as a process that was killed
	p, err := openProfiler(left)
	if err != nil {
		t.Fatal(err)
	}
	p.close()
	if p, err = openProfiler(left); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := errors.Join(os.Remove(left), p.serve(ended)); err != nil {
		t.Errorf("when somebody had cleaned the socket away it ended with %v", err)
	}
	file := filepath.Join(dir, "file")
	write(t, file, "precious")
	if _, err := openProfiler(file); err == nil || !strings.Contains(err.Error(), "another file") {
		t.Errorf("in place of a file: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file is now %q, %v", text, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
