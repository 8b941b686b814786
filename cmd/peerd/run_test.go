package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/peer"
)

func TestAPeerKeepsItsDataOverARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := run(t, dir, "--name", "oslo", "--durability", "always")
	for command, want := range map[string]string{
		"PING": "PONG", "SET greeting hello": "OK", "INCRBY visits 41": "41", "SADD tags a b": "2",
		"HSET ann mail x city y": "2", "CONFIG GET appendfsync": "appendfsync always",
	} {
		if got := first.ask(command); got != want {
			t.Errorf("%s answered %q, want %q", command, got, want)
		}
	}
	if status := first.end(); status != exitOK {
		t.Fatalf("ended with status %d: %s", status, first.stderr)
	}
	if _, err := askRedis(first.redis, "PING"); err == nil {
		t.Error("still serving after the end")
	}

	second := run(t, dir)
	for command, want := range map[string]string{
		"GET greeting": "hello", "GET visits": "41", "SMEMBERS tags": "a b", "HGET ann city": "y",
		"DBSIZE": "4",
	} {
		if got := second.ask(command); got != want {
			t.Errorf("after a restart %s answered %q, want %q", command, got, want)
		}
	}
	for _, name := range []string{"host.key", "cluster.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info, err)
		}
	}
}

func TestTheStatusIsTheSameByCommandAndByHTTP(t *testing.T) {
	d := run(t, t.TempDir(), "--name", "oslo")
	d.ask("INCR visits")
	d.becomesReady()
	answer, err := http.Get("http://" + d.http + "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	byHTTP, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	// What is free on the disk, and much else, is another at the next moment: so the command is told
	// of the same one.
	moment := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(byHTTP) }))
	defer moment.Close()
	byCommand := mustPeerd(t, "status", "--http", moment.Listener.Addr().String(), "--json")
	if string(byHTTP) != byCommand {
		t.Errorf("by HTTP:\n%s\nby command:\n%s", byHTTP, byCommand)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(mustPeerd(t, "status", "--http", d.http, "--json")), &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"name", "replica", "peer_id", "version_vector", "context_hash", "root", "keys", "cells",
		"members",
	} {
		if fields[name] == nil {
			t.Errorf("no %q in the status", name)
		}
	}
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		answer, err := http.Get("http://" + d.http + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != 200 || string(body) != want {
			t.Errorf("%s answered %d %q", path, answer.StatusCode, body)
		}
	}
	answer, err = http.Get("http://" + d.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	figures, _ := io.ReadAll(answer.Body)
	for _, line := range []string{"peerd_ready 1", "peerd_keys 1", "peerd_transactions_total 1",
		`peerd_redis_command_seconds_count{command="incr"} 1`,
		`peerd_http_request_seconds_count{route="GET /healthz"} 1`} {
		if !strings.Contains(string(figures), "\n"+line+"\n") {
			t.Errorf("no %s in the metrics", line)
		}
	}
	text := mustPeerd(t, "status", "--http", "http://"+d.http+"/")
	if !strings.Contains(text, "1 key in 1 cell") {
		t.Errorf("the status reads %s", text)
	}
}

func TestASecondHostJoinsWithACopyOfTheKey(t *testing.T) {
	dir := t.TempDir()
	a := run(t, filepath.Join(dir, "a"), "--name", "oslo", "--cut-file", filepath.Join(dir, "cut-a"))
	key, err := os.ReadFile(filepath.Join(a.dir, "cluster.key"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "copy.key"), string(key))
	b := run(t, filepath.Join(dir, "b"), "--name", "lima", "--cut-file", filepath.Join(dir, "cut-b"),
		"--cluster-key", filepath.Join(dir, "copy.key"), "--join", a.gossip)
	a.ask("SADD tags one")
	wait := []string{"wait", "--http", a.http, "--http", b.http}
	if text := mustPeerd(t, wait...); !strings.HasPrefix(text, "2 peers in agreement after ") {
		t.Errorf("wait says %q", text)
	}
	if got := b.ask("SMEMBERS tags"); got != "one" {
		t.Errorf("the set is %q at the second host", got)
	}

	write(t, filepath.Join(dir, "cut-a"), b.gossip+"\n")
	write(t, filepath.Join(dir, "cut-b"), a.gossip+"\n")
	a.stderr.waitFor(t, "link closed", a.ended)
	b.stderr.waitFor(t, "link closed", b.ended)
	a.ask("SADD tags two three")
	b.ask("SADD tags four")
	status, _, stderr := peerd(t, append(wait, "--timeout", "300ms")...)
	lima, oslo := "lima ("+b.http+")", "oslo ("+a.http+")"
	want := "peerd: no agreement after 300ms: " + oslo + " lacks 1 write that " + lima + " has; " +
		lima + " lacks 2 writes that " + oslo + " has\n"
	if status != exitFailure || stderr != want {
		t.Errorf("wait ended with %d:\n%swant 1:\n%s", status, stderr, want)
	}

	write(t, filepath.Join(dir, "cut-a"), "")
	if err := os.Remove(filepath.Join(dir, "cut-b")); err != nil {
		t.Fatal(err)
	}
	mustPeerd(t, wait...)
	for _, d := range []*daemonProcess{a, b} {
		if got := d.ask("SMEMBERS tags"); got != "four one three two" {
			t.Errorf("after healing the set is %q", got)
		}
	}
}

func TestHostsThatDoNotAnswerDelayNothing(t *testing.T) {
	dir := t.TempDir()
	mustPeerd(t, "init", "--dir", dir)
	d := run(t, dir, "--join", "127.0.0.1:1,127.0.0.1:2", "--join", "127.0.0.1:3")
	if got := d.ask("INCR visits"); got != "1" {
		t.Errorf("INCR answered %q", got)
	}
	d.becomesReady()
}

// becomesReady waits until /readyz says so.
func (d *daemonProcess) becomesReady() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ready := false; !ready; <-tick.C {
		r, err := http.NewRequestWithContext(ctx, "GET", "http://"+d.http+"/readyz", nil)
		if err != nil {
			d.t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			d.t.Fatal(err)
		}
		answer.Body.Close()
		ready = answer.StatusCode == http.StatusOK
	}
}

func TestAHostWithAnotherSecretGetsNowhereAndTheLogSaysWhy(t *testing.T) {
	dir := t.TempDir()
	a := run(t, filepath.Join(dir, "a"))
	a.ask("SET secret x")
	mustPeerd(t, "init", "--dir", filepath.Join(dir, "stranger"))
	b := run(t, filepath.Join(dir, "stranger"), "--join", a.gossip)
	a.stderr.waitFor(t, "a host with another cluster key", a.ended)
	if got := b.ask("DBSIZE"); got != "0" {
		t.Errorf("the stranger has %s keys", got)
	}
	for _, d := range []*daemonProcess{a, b} {
		text := mustPeerd(t, "status", "--http", d.http)
		if !strings.Contains(text, "This peer knows no other yet.") {
			t.Errorf("a member: %s", text)
		}
	}
}

// write replaces a file at once, so that nobody reads a part of it.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAProcessEndsInOrderOnSIGTERM(t *testing.T) {
	p := start(t, "--dir", t.TempDir()).serving(t)
	if got := p.ask(t, "INCR visits"); got != "1" {
		t.Errorf("INCR answered %q", got)
	}
	if err := p.terminate(t); err != nil {
		t.Errorf("SIGTERM ended the process with %v: %s", err, p.stderr)
	}
}

// TestADaemonGoesOnWithoutWhoReadsItsLog, as tee behind a pipe, which the same Ctrl-C ends, or a
// journal that is restarted.
func TestADaemonGoesOnWithoutWhoReadsItsLog(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := startLogging(t, writer, "--dir", t.TempDir())
	writer.Close()
	p.serving(t)
	reader.Close()
	if err := p.terminate(t); err != nil { // it logs how it ends
		t.Errorf("it ended with: %v", err)
	}
}

func TestADaemonEndsWhenItsPeerDoes(t *testing.T) {
	d, err := openDaemon(context.Background(), settings{
		peer: peer.Config{Dir: t.TempDir(), Offline: true}, resp: "127.0.0.1:0", http: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.peer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.serve(context.Background()); !errors.Is(err, errPeerEnded) {
		t.Errorf("serve returned %v, want %v", err, errPeerEnded)
	}
	if c, err := net.Dial("tcp", d.redis.Addr().String()); err == nil {
		c.Close()
		t.Error("still accepting Redis clients")
	}
}

func TestJSONLogsLeaveTheStandardOutputAlone(t *testing.T) {
	line := append([]string{"run", "--dir", t.TempDir(), "--log-format", "json"}, anywhere...)
	c := begin(t, line...)
	c.stderr.waitFor(t, `"msg":"serving"`, c.ended)
	if status := c.end(); status != exitOK || c.stdout.String() != "" {
		t.Errorf("status %d, standard output %q", status, c.stdout)
	}
	for line := range strings.Lines(c.stderr.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

// TestASmallHeapMayGrowFurther, but for that of an idle daemon, and a large one by no more than ever.
func TestASmallHeapMayGrowFurther(t *testing.T) {
	for used, want := range map[uint64]uint64{8 << 20: 12 << 20, 30 << 20: 90 << 20, 80 << 20: 240 << 20, 200 << 20: 384 << 20, 400 << 20: 600 << 20} {
		if got := used + used*uint64(growthOf(used))/100; got < want-1<<20 || got > want+1<<20 {
			t.Errorf("of a heap with %d bytes in use %d are collected, want %d", used, got, want)
		}
	}
}

// TestTheHeapMayBeLargerThanTheCache, also if that was made large: else the collector would never
// rest.
func TestTheHeapMayBeLargerThanTheCache(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	for _, cache := range []int64{minCache, peer.DefaultCacheBytes, 4 << 30} {
		boundMemory(cache)
		if goal := debug.SetMemoryLimit(-1); goal < 2*cache {
			t.Errorf("with a cache of %d bytes the heap is collected towards %d", cache, goal)
		}
	}
	if growth := debug.SetGCPercent(70); growth != heapGrowth {
		t.Errorf("the heap grows by %d %%", growth)
	}
	t.Setenv("GOGC", "70")
	t.Setenv("GOMEMLIMIT", "1GiB")
	was := debug.SetMemoryLimit(-1)
	if boundMemory(1 << 20); debug.SetMemoryLimit(-1) != was {
		t.Error("GOMEMLIMIT does not count")
	}
	if debug.SetGCPercent(70) != 70 {
		t.Error("GOGC does not count")
	}
}

// TestAReloadLeavesHowFarTheHeapGrows to who follows it, and takes over a larger cache.
func TestAReloadLeavesHowFarTheHeapGrows(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	next := settings{peer: peer.Config{Memory: true, Offline: true, CacheBytes: 4 << 30}}
	p, err := peer.Open(t.Context(), next.peer)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	growth := 0
	for tries := 3; growth != -1 && tries > 0; tries-- { // who follows it may still do so after the last collection
		debug.SetGCPercent(-1)
		if err := (&daemon{peer: p}).reload(next); err != nil {
			t.Fatal(err)
		}
		growth = debug.SetGCPercent(-1)
	}
	if goal := debug.SetMemoryLimit(-1); growth != -1 || goal != memoryBeside+2*next.peer.CacheBytes {
		t.Errorf("the heap grows by %d %%, towards %d", growth, goal)
	}
}
