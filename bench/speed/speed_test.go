package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

// tiny is enough to see that a row runs.
var tiny = sizes{
	rounds: 1, requests: 400, warm: 100, cells: 500, many: 1000, watch: 100 * time.Millisecond,
	deleted: []int{10, 20}, sets: 100, bench: "1x", patience: time.Minute,
}

func newTestLab(t *testing.T, binary string) *lab {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	l, err := newLab(context.Background(), tiny, binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func TestARowIsMeasuredAndItsDaemonsEnd(t *testing.T) {
	l := newTestLab(t, os.Getenv("PEERD_E2E_BINARY"))
	chosen, err := choose([]string{"memory", "del"})
	if err != nil {
		t.Fatal(err)
	}
	var started []*process
	for i, r := range chosen {
		chosen[i].measure = func(ctx context.Context, l *lab) ([]figure, error) {
			found, err := r.measure(ctx, l)
			started = append(started, l.running...)
			return found, err
		}
	}
	var out strings.Builder
	if err := l.measure(context.Background(), chosen, &out); err != nil {
		t.Fatalf("%v in:\n%s", err, out.String())
	}
	for _, want := range []string{
		"\n| memory | memory after 500 SETs", "\n| del | 20 sets of 20: DEL answered, × 10 sets",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if len(started) == 0 {
		t.Error("nothing was started")
	}
	ended(t, started)

	t.Run("interrupted", func(t *testing.T) { interrupt(t, l.peerd) })
}

// interrupt ends a load that would take an hour, as Ctrl-C does.
func interrupt(t *testing.T, binary string) {
	l := newTestLab(t, binary)
	l.many = 1 << 40
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var d *daemon
	write := row{"write", "", func(ctx context.Context, l *lab) (found []figure, err error) {
		if d, err = l.daemon(ctx, "peerd"); err != nil {
			return nil, err
		}
		all := keyed(2, l.many)
		next := all.command
		all.command = func(b []byte, i int) []byte {
			if i == 1000 {
				stop()
			}
			return next(b, i)
		}
		_, err = all.run(ctx, d.redis)
		return nil, err
	}}
	err := l.measure(ctx, []row{write}, new(strings.Builder))
	if err == nil || err.Error() != "interrupted" {
		t.Errorf("the error is %v", err)
	}
	ended(t, []*process{d.process})
	l.close()
	if _, err := os.Stat(l.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("files are left over: %v", err)
	}
}

func ended(t *testing.T, all []*process) {
	t.Helper()
	for _, p := range all {
		select {
		case <-p.ended:
		default:
			t.Errorf("%s still runs", p.name)
		}
		if _, err := p.cpu(); err == nil {
			t.Errorf("%s is still in /proc", p.name)
		}
	}
}

func TestARowThatCannotBeMeasuredSaysSoAndTheOthersAre(t *testing.T) {
	l := newTestLab(t, "/bin/true")
	broken := row{"broken", "", func(context.Context, *lab) ([]figure, error) {
		return nil, errors.New("no | such\nthing")
	}}
	well := row{"well", "", func(context.Context, *lab) ([]figure, error) {
		return []figure{{what: "one", value: 1}}, nil
	}}
	dead := row{"dead", "", func(ctx context.Context, l *lab) ([]figure, error) {
		_, err := l.daemon(ctx, "peerd") // which ends at once
		return nil, err
	}}
	var out strings.Builder
	err := l.measure(context.Background(), []row{broken, dead, well}, &out)
	if err == nil || err.Error() != "not measured: broken, dead" {
		t.Errorf("the error is %v", err)
	}
	for _, want := range []string{
		"| broken | NOT MEASURED: no ¦ such / thing |", "| dead | NOT MEASURED: peerd has ended",
		"| well | one | 1 |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestRowsAreChosenByName(t *testing.T) {
	names := map[string]bool{}
	for _, r := range rows {
		if names[r.name] || r.about == "" {
			t.Errorf("row %q repeats a name, or says nothing", r.name)
		}
		names[r.name] = true
	}
	if all, err := choose(nil); err != nil || len(all) != len(rows) {
		t.Errorf("%d rows are chosen by no name, %v", len(all), err)
	}
	some, err := choose([]string{"open", "idle"})
	if err != nil || len(some) != 2 || some[0].name != "open" || some[1].name != "idle" {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := choose([]string{"opne"}); err == nil {
		t.Error("an unknown row is chosen")
	}
}

func TestWhatOthersPrintIsRead(t *testing.T) {
	m, err := parseRedisBenchmark(`"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",` +
		`"p95_latency_ms","p99_latency_ms","max_latency_ms"` + "\n" +
		`"SET","8818.34","3.232","0.184","0.951","4.255","56.703","738.303"` + "\n")
	if want := (measured{8818.34, 56.703}); err != nil || m != want {
		t.Errorf("redis-benchmark: %v, %v, want %v", m, err, want)
	}
	if _, err := parseRedisBenchmark("WARNING\n"); err == nil {
		t.Error("a warning is read as figures")
	}
	found := parseGoBenchmark("goos: linux\n" +
		"BenchmarkCommit/always/64/peerd-2   \t 100\t 105 ns/op\t 34300 op/s\t 5.5 times-badger\nPASS\n")
	got := found["BenchmarkCommit/always/64/peerd"]
	if got["op/s"] != 34300 || got["times-badger"] != 5.5 {
		t.Errorf("go test -bench: %v", found)
	}
	cpu, err := cpuOf("77 (a (b) c) S 1 77 77 0 -1 4194560 1 0 0 0 120 30 0 0 20 0 9 0 1 2 3")
	if want := 1500 * time.Millisecond; err != nil || cpu != want {
		t.Errorf("/proc/PID/stat: %v, %v, want %v", cpu, err, want)
	}
	said := trouble("goos: linux\npanic: no such thing\n\ngoroutine 24 [running]:\n/x.go:1\n/y.go:2\n")
	if said != "panic: no such thing" {
		t.Errorf("of a panic it is said that %q", said)
	}
	if said := trouble("a\nb\nc\nd\n"); said != "b\nc\nd" {
		t.Errorf("of a failure it is said that %q", said)
	}
	all, anonymous, err := residentOf("Name:\tpeerd\nVmRSS:\t   2048 kB\nRssAnon:\t 1024 kB\n")
	if all != 2<<20 || anonymous != 1<<20 || err != nil {
		t.Errorf("/proc/PID/status: %d, %d, %v", all, anonymous, err)
	}
}
