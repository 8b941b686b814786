package lab

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatOthersPrintIsRead(t *testing.T) {
	for printed, want := range map[string]string{
		"peerd v1.2.3\ncommit 0043765e1bd5c58fc9\ngo1.26.8 linux/amd64\n": "v1.2.3 (0043765e1bd5)",
		"true 9.1\n": "true 9.1",
	} {
		if got := versionOf(printed); got != want {
			t.Errorf("the version in %q is %q", printed, got)
		}
	}
	m, err := parseRedisBenchmark(`"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",` +
		`"p95_latency_ms","p99_latency_ms","max_latency_ms"` + "\n" +
		`"SET","8818.34","3.232","0.184","0.951","4.255","56.703","738.303"` + "\n")
	if want := (Measured{8818.34, 56.703}); err != nil || m != want {
		t.Errorf("redis-benchmark: %v, %v, want %v", m, err, want)
	}
	if _, err := parseRedisBenchmark("WARNING\n"); err == nil {
		t.Error("a warning is read as figures")
	}
	const benchmarked = "goos: linux\n" +
		"BenchmarkCommit/always/64/peerd-2   \t 100\t 105 ns/op\t 34300 op/s\t 5.5 messages\nPASS\n"
	found, err := parseGoBenchmark(benchmarked, []string{"op/s", "messages"})
	got := found["BenchmarkCommit/always/64/peerd"]
	if err != nil || got["op/s"] != 34300 || got["messages"] != 5.5 {
		t.Errorf("go test -bench: %v, %v", found, err)
	}
	found, err = parseGoBenchmark(benchmarked, []string{"op/s", "p99-ms"})
	if err == nil || err.Error() != "BenchmarkCommit/always/64/peerd prints no p99-ms" {
		t.Errorf("without a unit that is wanted: %v, %v", found, err)
	}
	cpu, err := cpuOf("77 (a (b) c) S 1 77 77 0 -1 4194560 1 0 0 0 120 30 0 0 20 0 9 0 1 2 3")
	if want := 1500 * time.Millisecond; err != nil || cpu != want {
		t.Errorf("/proc/PID/stat: %v, %v, want %v", cpu, err, want)
	}
	said := trouble("goos: linux\npanic: no such thing\n\ngoroutine 24 " +
		"[running]:\n/x.go:1\n/y.go:2\n")
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

func TestWhatIsAwaitedIsTimedToAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := AwaitWithin(t.Context(), time.Millisecond, time.Minute, "it answers", func() bool {
			return time.Since(began) >= 5500*time.Microsecond
		})
		if took := time.Since(began); err != nil || took != 6*time.Millisecond {
			t.Errorf("it took %v, %v", took, err)
		}
	})
}

// What a section within another started ends with it, and its files go; what was there before goes on.
func TestASectionWithinAnotherEndsAlone(t *testing.T) {
	l := &Lab{Dir: t.TempDir()}
	l.next()
	defer l.End()
	start := func() (p *Process, dir string) {
		p, err := l.Start("sleeper", "sleep", "600")
		if err != nil {
			t.Fatal(err)
		}
		return p, l.Path("")
	}
	outer, kept := start()
	var inner *Process
	var gone string
	if err := l.Within(func() error { inner, gone = start(); return nil }); err != nil {
		t.Fatal(err)
	}
	<-inner.Ended
	if _, err := os.Stat(gone); !os.IsNotExist(err) {
		t.Errorf("the files of what has ended: %v", err)
	}
	if _, err := os.Stat(kept); err != nil || l.Path("") != kept {
		t.Errorf("the files of what goes on, in %s: %v, in %s", kept, err, l.Path(""))
	}
	select {
	case <-outer.Ended:
		t.Error("what was there before has ended")
	default:
	}
	l.End()
	<-outer.Ended
}
