package e2e

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var soak = flag.Duration("soak", 0, "run TestNothingLeaks for so long, an hour for a figure to quote; 0 leaves it out")

const (
	soakPause   = 20 * time.Millisecond // of each writer, after each batch
	soakBatches = 100                   // after which a writer takes another connection
	soakLog     = "16MiB"               // of deltas, so that the log is full long before the end
	soakCache   = "8MiB"                // so that it is full as well
	sampleEvery = time.Second
	// shortestSoak has quarters that are longer than the store takes from one great merge of tables to the
	// next, in which memory rises and falls.
	shortestSoak = 10 * time.Minute
	soakLines    = 60 // lines of figures that are printed for each peer, at most
	// restartEvery is how often one peer is restarted: ended in order and killed by turns.
	restartEvery = 30 * time.Second
)

// figure is one that must not grow, and by how much it may all the same.
type figure struct {
	metric string
	share  float64 // of what it was
	slack  float64 // in its own unit
}

// ownMemory is a peer's resident memory without that of mapped files, which the system takes back as it
// likes: not from the peer's metrics, but from Linux, and 0 elsewhere.
const ownMemory = "RssAnon"

// openFiles is how many files and connections a peer has open, without the store's tables, which come and go
// as it merges them.
const openFiles = "files"

var figures = []figure{
	{"go_goroutines", 0.1, 15},
	{openFiles, 0.1, 10},
	{"go_memstats_heap_alloc_bytes", 0.1, 8 << 20},
	{ownMemory, 0.1, 24 << 20},
}

// TestNothingLeaks runs a cluster under mixed load for as long as -soak says: writers and readers that
// come and go, watches, and one peer that is restarted again and again. What it holds stays of one
// size, so the other two peers must take no more at the end than before. The least of each figure over
// the last quarter of the time, when collectors have just run, must not be above the least over the second
// quarter, but for a tenth and some slack; the first quarter is for warming up. When all clients have gone, so must
// their goroutines and files have.
func TestNothingLeaks(t *testing.T) {
	if *soak == 0 {
		t.Skip("it takes long: go test ./internal/e2e -run TestNothingLeaks -timeout 2h -soak 1h")
	}
	if *soak < shortestSoak {
		t.Fatalf("-soak %v says nothing about growth: give it %v at least", *soak, shortestSoak)
	}
	t.Setenv("PEERD_DELTA_LOG_SIZE", soakLog)
	t.Setenv("PEERD_CACHE_SIZE", soakCache)
	c := newCluster(t, openLoopback(t, hosts))
	steady, restarted := c.peers[:2], c.peers[2]
	idle := []map[string]float64{steady[0].figures(), steady[1].figures()}
	ws := newWriters(rand.Uint64(), c.peers...).slowly(soakPause)
	for _, w := range ws.all {
		w.batches = soakBatches
	}
	ws.start()
	watching, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	var watches sync.WaitGroup
	for _, p := range c.peers {
		watches.Go(func() { p.watchAgainAndAgain(watching) })
	}
	s := &samples{t: t, length: *soak, began: time.Now(), of: steady}
	s.run(restarted)
	stopWatching()
	watches.Wait()
	ws.pause()
	c.awaitAgreement(c.traffic(), c.peers...)
	ws.check(t, c.peers...)
	c.checkHealth()
	s.judge()
	for i, p := range steady {
		p.awaitIdle(idle[i])
	}
	t.Logf("%d writes acknowledged in %v", acknowledged(ws.all), *soak)
}

// figures returns what a peer tells of itself.
func (d *daemon) figures() map[string]float64 {
	d.t.Helper()
	all := map[string]float64{}
	answer, err := d.web.Get("http://" + d.net.addresses(d.host).http + "/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = n
		}
	}
	if err := lines.Err(); err != nil || answer.StatusCode != http.StatusOK {
		d.t.Fatalf("metrics of %s: %s, %v", d.name, answer.Status, err)
	}
	all[ownMemory], all[openFiles] = d.ownMemory(), d.openFiles()
	return all
}

// ownMemory returns how much of a process's memory is its own, in bytes.
func (d *daemon) ownMemory() float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == ownMemory+":" {
			kilobytes, _ := strconv.ParseFloat(fields[1], 64)
			return kilobytes * 1024
		}
	}
	return 0
}

// openFiles counts what a process has open but for tables of a store.
func (d *daemon) openFiles() (n float64) {
	fds := fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid)
	entries, _ := os.ReadDir(fds)
	for _, entry := range entries {
		if file, _ := os.Readlink(filepath.Join(fds, entry.Name())); !strings.HasSuffix(file, ".sst") {
			n++
		}
	}
	return n
}

// watchAgainAndAgain watches all keys for a second, reads what comes, and starts anew.
func (d *daemon) watchAgainAndAgain(ctx context.Context) {
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, time.Second)
		url := "http://" + d.net.addresses(d.host).http + "/v1/watch"
		if request, err := http.NewRequestWithContext(once, http.MethodGet, url, nil); err == nil {
			if answer, err := d.web.Do(request); err == nil {
				_, _ = io.Copy(io.Discard, answer.Body) // until the second is over, or its peer
				answer.Body.Close()
			}
		}
		<-once.Done()
		cancel()
	}
}

// awaitIdle waits until a peer without clients has no more goroutines and files than before them.
func (d *daemon) awaitIdle(before map[string]float64) {
	d.t.Helper()
	d.web.CloseIdleConnections()
	d.eventually("is idle", func() error {
		now := d.figures()
		for _, f := range figures[:2] {
			if now[f.metric] > before[f.metric]+f.slack {
				return fmt.Errorf("%s is %v, before the load %v", f.metric, now[f.metric], before[f.metric])
			}
		}
		return nil
	})
}

// samples are the least figures of some peers in each quarter of the time.
type samples struct {
	t      *testing.T
	length time.Duration
	began  time.Time
	of     []*daemon
	least  [4]map[string]float64 // by peer and metric
}

// run samples until the time is over, and restarts a peer meanwhile.
func (s *samples) run(restarted *daemon) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	lastRestart, restarts := s.began, 0
	lastLine := time.Time{}
	for range tick.C {
		passed := time.Since(s.began)
		if passed >= s.length {
			return
		}
		quarter := int(4 * passed / s.length)
		line := time.Since(lastLine) > s.length/soakLines
		for _, p := range s.of {
			s.take(quarter, p, line)
		}
		if line {
			lastLine = time.Now()
		}
		if time.Since(lastRestart) > restartEvery {
			if restarts++; restarts%2 == 0 {
				restarted.kill()
			} else {
				restarted.stop()
			}
			restarted.start()
			lastRestart = time.Now()
		}
	}
}

func (s *samples) take(quarter int, p *daemon, print bool) {
	s.t.Helper()
	now := p.figures()
	if s.least[quarter] == nil {
		s.least[quarter] = map[string]float64{}
	}
	least := s.least[quarter]
	for _, f := range figures {
		key := p.name + " " + f.metric
		if was, ok := least[key]; !ok || now[f.metric] < was {
			least[key] = now[f.metric]
		}
	}
	if print {
		s.t.Logf("%6.0f s %-6s %4.0f goroutines, %3.0f files, heap %5.1f MB, own memory %5.1f MB, resident %5.1f MB, "+
			"disk %5.1f MB",
			time.Since(s.began).Seconds(), p.name, now[figures[0].metric], now[figures[1].metric],
			now[figures[2].metric]/1e6, now[ownMemory]/1e6, now["process_resident_memory_bytes"]/1e6,
			now["peerd_store_bytes"]/1e6)
	}
}

// judge fails the test if a figure grew.
func (s *samples) judge() {
	s.t.Helper()
	for _, p := range s.of {
		for _, f := range figures {
			key := p.name + " " + f.metric
			second, last := s.least[1][key], s.least[3][key]
			s.t.Logf("%s: least in the second quarter %.0f, in the last %.0f", key, second, last)
			if last > second+math.Max(f.share*second, f.slack) {
				s.t.Errorf("%s grew from %.0f to %.0f", key, second, last)
			}
		}
	}
}
