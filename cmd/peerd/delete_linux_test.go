package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// usage is what a process has used: time of the processor, and bytes that go to the disk.
type usage struct {
	cpu     time.Duration
	written int64
}

func (p *process) usage(t testing.TB) (u usage) {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for line := range strings.Lines(read("io")) {
		_, _ = fmt.Sscanf(line, "write_bytes: %d", &u.written)
	}
	stat := read("stat")
	var ticks [2]time.Duration // after the name in parentheses and eleven more fields
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	for i := range ticks {
		if _, err := fmt.Sscan(fields[11+i], &ticks[i]); err != nil {
			t.Fatal(err)
		}
	}
	const tick = time.Second / 100 // USER_HZ, on every Linux
	u.cpu = (ticks[0] + ticks[1]) * tick
	return u
}

// pipeline sends n commands at once and reads their replies, which must be numbers.
func pipeline(addr string, n int, command func(i int) []string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	var both errgroup.Group
	both.Go(func() error {
		out := bufio.NewWriterSize(conn, 64<<10)
		for i := range n {
			words := command(i)
			fmt.Fprintf(out, "*%d\r\n", len(words))
			for _, word := range words {
				fmt.Fprintf(out, "$%d\r\n%s\r\n", len(word), word)
			}
		}
		return out.Flush()
	})
	both.Go(func() error {
		in := bufio.NewReader(conn)
		for i := range n {
			line, err := in.ReadString('\n')
			if err == nil && line[0] != ':' {
				err = fmt.Errorf("reply %d is %q", i, line)
			}
			if err != nil {
				conn.Close()
				return err
			}
		}
		return nil
	})
	return both.Wait()
}

// BenchmarkDeletingSets deletes as many sets of 20 at one of two linked peers as it is told, in one
// pipeline:
//
//	go test ./cmd/peerd -run '^$' -bench DeletingSets -benchtime 10000x
//
// It reports, for each set, the time until both have swept it from the disk, and what each of the
// two has used for that. With ten times the sets these must stay as they are, but for what Badger's
// deeper levels cost.
func BenchmarkDeletingSets(b *testing.B) {
	dir := b.TempDir()
	here := start(b, "--dir", filepath.Join(dir, "here")).serving(b)
	there := start(b, "--dir", filepath.Join(dir, "there"), "--join", here.gossip,
		"--cluster-key", filepath.Join(dir, "here", "cluster.key")).serving(b)
	w := &web{client: http.DefaultClient, scheme: "http://"}
	agree := func() {
		const limit = 10 * time.Minute
		addrs := []string{here.http, there.http}
		if _, err := w.waitForAgreement(context.Background(), addrs, limit); err != nil {
			b.Fatal(err)
		}
	}
	err := pipeline(here.redis, b.N, func(i int) []string {
		add := []string{"SADD", fmt.Sprint("set:", i)}
		for m := range 20 {
			add = append(add, fmt.Sprint("member:", m))
		}
		return add
	})
	if err != nil {
		b.Fatal(err)
	}
	agree()
	before := [2]usage{here.usage(b), there.usage(b)}
	b.ResetTimer()
	err = pipeline(here.redis, b.N, func(i int) []string { return []string{"DEL", fmt.Sprint("set:", i)} })
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "µs-answered/set")
	agree()
	b.StopTimer()
	for i, p := range []*process{here, there} {
		name, after := [2]string{"here", "there"}[i], p.usage(b)
		each := func(used int64) float64 { return float64(used) / float64(b.N) }
		b.ReportMetric(each((after.cpu - before[i].cpu).Microseconds()), "µs-cpu-"+name+"/set")
		b.ReportMetric(each(after.written-before[i].written), "B-written-"+name+"/set")
		if keys := p.ask(b, "DBSIZE"); keys != "0" {
			b.Errorf("%s has %s keys", name, keys)
		}
	}
}
