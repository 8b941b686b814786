package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// fill takes all that is left of a disk, in a file of that name.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
}

// putString writes a string over HTTP, and returns how that is answered.
func putString(t *testing.T, addr string) (status int, body string) {
	t.Helper()
	put, err := http.NewRequest("PUT", "http://"+addr+"/v1/keys/k",
		strings.NewReader(`{"type": "string", "value": "v"}`))
	if err != nil {
		t.Fatal(err)
	}
	put.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(put)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestADaemonOnAFullDiskReadsAndEndsInOrderAndStartsWithRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk takes root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", 512<<20)); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	dir, filler := filepath.Join(disk, "data"), filepath.Join(disk, "filler")
	first := start(t, "--dir", dir).serving(t)
	for range 1000 {
		first.ask(t, "INCR visits")
	}
	fill(t, filler)
	first.stderr.waitFor(t, "the disk is full", first.ended)
	if got := first.ask(t, "INCR visits"); !strings.Contains(got, ": MISCONF the disk is nearly full") {
		t.Errorf("a write on a full disk is answered %q", got)
	}
	if status, body := putString(t, first.http); status != http.StatusInsufficientStorage ||
		!strings.Contains(body, "disk-full") {
		t.Errorf("a write over HTTP is answered %d %s", status, body)
	}
	if got := first.ask(t, "GET visits"); got != "1000" {
		t.Errorf("a read on a full disk is answered %q", got)
	}
	if err := first.terminate(t); err != nil {
		t.Errorf("it ended with %v: %s", err, first.stderr)
	}

	second := start(t, "--dir", dir)
	<-second.ended
	text := second.stderr.String()
	if second.failure == nil || strings.Count(text, "\n") != 1 ||
		!strings.Contains(text, "there is no room on the disk") || !strings.Contains(text, "make room") {
		t.Errorf("starting on a full disk ends with %v: %s", second.failure, text)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	third := start(t, "--dir", dir).serving(t)
	if got := third.ask(t, "INCR visits"); got != "1001" {
		t.Errorf("with room again a write is answered %q", got)
	}
}
