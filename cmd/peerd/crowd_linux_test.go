//go:build !race

package main

import (
	"bytes"
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

// resident returns how much memory the process holds, in bytes, and how much of that is no page of a
// file, which the system takes back when it needs it.
func (p *process) resident(t testing.TB) (all, anonymous int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &all)
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &anonymous)
	}
	if all == 0 || anonymous == 0 {
		t.Fatalf("no memory in:\n%s", status)
	}
	return all << 10, anonymous << 10
}

func TestAnIdleDaemonTakesLessThan60MB(t *testing.T) {
	const limit = 60 << 20
	daemon := start(t, "--dir", t.TempDir()).serving(t)
	if used, _ := daemon.resident(t); used > limit {
		t.Errorf("an idle daemon takes %d MB, limit %d", used>>20, limit>>20)
	}
}

// The race detector would take several times the memory.
func TestTenThousandIdleClientsTakeLessThan200MB(t *testing.T) {
	const clients, limit = 10_000, 200 << 20
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if roomForClients(files.Max) < clients || files.Max < clients+500 {
		t.Skipf("a process may open %d files here, and %d clients need more", files.Max, clients)
	}
	daemon := start(t, "--dir", t.TempDir()).serving(t)
	before, _ := daemon.resident(t)
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
	after, _ := daemon.resident(t)
	used := after - before
	t.Logf("%d idle clients take %d MB, on top of %d MB", clients, used>>20, before>>20)
	if used > limit {
		t.Errorf("%d idle clients take %d MB, limit %d", clients, used>>20, limit>>20)
	}
	if reply, err := askRedis(daemon.redis, "PING"); err == nil {
		t.Errorf("one client more is answered %q", reply)
	}
}

// BenchmarkMemory reports how many MB a daemon holds: idle and empty, after a million SETs of 64 bytes,
// and idle with them after a restart. With -short it is a tenth of them.
func BenchmarkMemory(b *testing.B) {
	cells := 1_000_000
	if testing.Short() {
		cells /= 10
	}
	for b.Loop() {
		dir := b.TempDir()
		daemon := start(b, "--dir", dir).serving(b)
		report := func(when string) {
			all, anonymous := daemon.resident(b)
			b.ReportMetric(float64(all)/1e6, when+"-MB")
			b.ReportMetric(float64(anonymous)/1e6, when+"-anonymous-MB")
		}
		report("idle")
		load(b, daemon.redis, cells)
		report("loaded")
		if err := daemon.terminate(b); err != nil {
			b.Fatal(err)
		}
		daemon = start(b, "--dir", dir).serving(b)
		report("reopened")
	}
}

// load writes keys in pipelines.
func load(b *testing.B, redis string, keys int) {
	b.Helper()
	conn, err := net.Dial("tcp", redis)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	const pipeline, answer = 1000, "+OK\r\n"
	for first := 0; first < keys; first += pipeline {
		var commands bytes.Buffer
		for i := range pipeline {
			fmt.Fprintf(&commands, "SET user:%08d %064d\r\n", first+i, i)
		}
		if _, err := conn.Write(commands.Bytes()); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, pipeline*len(answer))); err != nil {
			b.Fatal(err)
		}
	}
}
