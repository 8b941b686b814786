//go:build !race

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// resident returns how much memory the process holds, in bytes.
func (p *process) resident(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	t.Fatalf("no VmRSS in:\n%s", status)
	return 0
}

// The race detector would take several times the memory.
func TestTenThousandIdleClientsTakeLessThan200MB(t *testing.T) {
	const clients, limit = 10_000, 200 << 20
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Max < clients+500 {
		t.Skipf("a process may open %d files here, and %d clients need more", files.Max, clients)
	}
	daemon := start(t, "--dir", t.TempDir()).serving(t)
	before := daemon.resident(t)
	greet := func() error {
		conn, err := net.DialTimeout("tcp", daemon.redis, patience)
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = io.WriteString(conn, "SET greeting hello\r\nGET greeting\r\n")
		if err != nil {
			return err
		}
		reply := make([]byte, len("+OK\r\n$5\r\nhello\r\n"))
		_, err = io.ReadFull(conn, reply)
		return err
	}
	var all errgroup.Group
	all.SetLimit(64)
	for range clients {
		all.Go(greet)
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	used := daemon.resident(t) - before
	t.Logf("%d idle clients take %d MB, on top of %d MB", clients, used>>20, before>>20)
	if used > limit {
		t.Errorf("%d idle clients take %d MB, limit %d", clients, used>>20, limit>>20)
	}
	if reply, err := askRedis(daemon.redis, "PING"); err == nil {
		t.Errorf("one client more is answered %q", reply)
	}
}
