package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAPeerEndsInTimeWhileItIsOpened has a file not answer, as on a file system that hangs.
func TestAPeerEndsInTimeWhileItIsOpened(t *testing.T) {
	dir := t.TempDir()
	hangs := filepath.Join(dir, "members.json")
	if err := syscall.Mkfifo(hangs, 0o600); err != nil {
		t.Skip(err)
	}
	p := start(t, "--dir", dir)
	// It waits for us to open the other end, which shows that it has come as far.
	w, err := os.OpenFile(hangs, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	began := time.Now()
	if err := p.terminate(t); err == nil {
		t.Error("it ends as if all was well")
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	if said := p.stderr.String(); !strings.Contains(said, "did not end in time") {
		t.Errorf("it says\n%s", said)
	}
}
