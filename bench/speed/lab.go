package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sizes is how much is measured.
type sizes struct {
	rounds   int           // of what is compared in turn
	requests int           // of each plain redis-benchmark; with -P 16 four times as many
	warm     int           // keys that operations work on
	cells    int           // what stands for 10⁶
	many     int           // what stands for 10⁷
	watch    time.Duration // how long what is idle is watched
	settle   time.Duration // how long it is left alone before that
	deleted  []int         // how many sets of 20 elements are deleted
	sets     int           // SETs of the replica alone
	bench    string        // -test.benchtime of transactions
	patience time.Duration // how long a load, a repair or a sweep may take
}

var full = sizes{
	rounds: 5, requests: 200_000, warm: 10_000, cells: 1_000_000, many: 10_000_000,
	watch: time.Minute, settle: 90 * time.Second, deleted: []int{12_500, 25_000, 50_000, 100_000},
	sets: 200_000, bench: "2s", patience: time.Hour,
}

var small = sizes{
	rounds: 3, requests: 10_000, warm: 10_000, cells: 50_000, many: 100_000,
	watch: 20 * time.Second, settle: 90 * time.Second, deleted: []int{1_500, 3_000, 6_000},
	sets: 20_000, bench: "300ms", patience: 5 * time.Minute,
}

// quick reports whether there is too little to judge figures by that depend on how much there is.
func (s sizes) quick() bool { return s.many < full.many }

// lab is where a row is measured: a directory, and what was started in it.
type lab struct {
	sizes
	repo    string // the module's root
	dir     string // of all that is written
	peerd   string // the daemon's binary
	cached  []string
	running []*process
	web     http.Client
	usual   bool // the daemons that are started are as users have them: without --fast-gossip

	profile   string // directory for profiles of the daemons; none are taken if it is empty
	profiling sync.WaitGroup
	row       string // that is measured
	rows      int    // that have ended
}

// newLab makes a lab, and builds the daemon unless a binary is named.
func newLab(ctx context.Context, s sizes, binary string) (*lab, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMOD: %w", err)
	}
	dir, err := os.MkdirTemp("", "peerd-speed-")
	if err != nil {
		return nil, err
	}
	l := &lab{sizes: s, dir: dir, peerd: binary, repo: filepath.Dir(string(root)),
		web: http.Client{Timeout: patience}}
	if err := os.Mkdir(l.path(""), 0o700); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if binary == "" {
		l.peerd = filepath.Join(dir, "peerd")
		if _, err := l.tool(ctx, "go", "build", "-o", l.peerd, "./cmd/peerd"); err != nil {
			l.close()
			return nil, err
		}
	}
	flags, err := l.tool(ctx, l.peerd, "run", "--help")
	if err != nil {
		l.close()
		return nil, err
	}
	if strings.Contains(flags, "--cache-size") {
		l.cached = []string{"--cache-size", "128MiB"}
	}
	return l, nil
}

// path returns the name of a file of the row that is measured.
func (l *lab) path(name string) string {
	return filepath.Join(l.dir, fmt.Sprint("row", l.rows), name)
}

// end ends what the row has started, and removes its files.
func (l *lab) end() {
	for _, p := range l.running {
		p.kill()
	}
	l.running = nil
	l.profiling.Wait()
	l.web.CloseIdleConnections()
	_ = os.RemoveAll(l.path("")) // what is left goes with the lab
	l.rows++
	_ = os.Mkdir(l.path(""), 0o700) // else the next process says so
}

// close ends and removes everything.
func (l *lab) close() {
	l.end()
	_ = os.RemoveAll(l.dir)
}

// tool runs a program to its end, in the module's root, and returns what it prints.
func (l *lab) tool(ctx context.Context, program string, args ...string) (string, error) {
	return l.toolIn(ctx, l.repo, program, args...)
}

func (l *lab) toolIn(ctx context.Context, dir, program string, args ...string) (string, error) {
	var out, problem strings.Builder
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &problem
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		said := trouble(problem.String() + out.String())
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(program), err, said)
	}
	return out.String(), nil
}

// trouble returns what a program said of its failure: its panic, else its last lines.
func trouble(text string) string {
	if i := strings.Index(text, "panic: "); i >= 0 {
		line, _, _ := strings.Cut(text[i:], "\n")
		return line
	}
	return lastLines(text, 3)
}

// daemon is a peerd.
type daemon struct {
	*process
	lab                 *lab
	dir                 string
	args                []string
	redis, http, gossip string // addresses
}

// daemon starts a peerd with data of its own, and waits until it serves.
func (l *lab) daemon(ctx context.Context, name string, args ...string) (*daemon, error) {
	d := &daemon{lab: l, dir: l.path(name)}
	d.args = []string{"run", "--dir", d.dir, "--name", name, "--log-level", "error",
		"--gossip", "127.0.0.1:0", "--p2p", "127.0.0.1:0",
		"--resp", "127.0.0.1:0", "--http", "127.0.0.1:0"}
	if !l.usual {
		d.args = append(d.args, "--fast-gossip")
	}
	d.args = append(d.args, args...)
	if l.profile != "" {
		d.args = append(d.args, "--pprof-socket", l.path(name+".pprof"))
	}
	return d, d.begin(ctx, name)
}

// neighbour starts a peerd that joins another's cluster.
func (l *lab) neighbour(ctx context.Context, name string, of *daemon) (*daemon, error) {
	key := filepath.Join(of.dir, "cluster.key")
	return l.daemon(ctx, name, "--join", of.gossip, "--cluster-key", key)
}

// cluster starts some daemons and waits until the first is linked with all others.
func (l *lab) cluster(ctx context.Context, names ...string) ([]*daemon, error) {
	first, err := l.daemon(ctx, names[0])
	if err != nil {
		return nil, err
	}
	all := []*daemon{first}
	for _, name := range names[1:] {
		d, err := l.neighbour(ctx, name, first)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	err = await(ctx, patience, "the daemons are linked", func() bool {
		s, err := first.status(ctx)
		return err == nil && s.linked() == len(all)-1
	})
	return all, err
}

// begin starts the daemon, again if it has ended, and waits until it answers Redis clients.
func (d *daemon) begin(ctx context.Context, name string) (err error) {
	if d.process, err = d.lab.start(name, d.lab.peerd, d.args...); err != nil {
		return err
	}
	if d.lab.profile != "" {
		p, of := d.process, d.lab.row+"-"+name
		d.lab.profiling.Go(func() { d.lab.keepProfiles(ctx, p, d.lab.path(name+".pprof"), of) })
	}
	deadline := time.After(d.lab.patience)
	for {
		select {
		case line, more := <-d.lines:
			if !more {
				return d.failure()
			}
			fields := strings.Fields(line)
			switch {
			case len(fields) < 2:
			case fields[0] == "redis":
				d.redis = fields[1]
			case fields[0] == "http":
				d.http = fields[1]
			case fields[0] == "gossip":
				d.gossip = fields[1]
			case strings.Contains(line, "--join"):
				_, err = ask(ctx, d.redis, "PING")
				return err
			}
		case <-deadline:
			return fmt.Errorf("%s does not serve after %v", name, d.lab.patience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// status is what is looked at of /v1/status.
type status struct {
	ContextHash   string `json:"context_hash"`
	Root          string `json:"root"`
	Settled       bool   `json:"settled"`
	Keys          int    `json:"keys"`
	BytesSent     int64  `json:"bytes_sent"`
	BytesReceived int64  `json:"bytes_received"`
	Repairs       int    `json:"repairs"`
	Members       []struct {
		Linked bool `json:"linked"`
	} `json:"members"`
}

func (s status) linked() (n int) {
	for _, m := range s.Members {
		if m.Linked {
			n++
		}
	}
	return n
}

func (d *daemon) status(ctx context.Context) (s status, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.http+"v1/status", nil)
	if err != nil {
		return s, err
	}
	answer, err := d.lab.web.Do(request)
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	return s, json.NewDecoder(answer.Body).Decode(&s)
}

// agree waits until daemons hold the same data, with nothing left to be swept.
func (l *lab) agree(ctx context.Context, daemons ...*daemon) error {
	return await(ctx, l.patience, "the daemons agree", func() bool {
		var first status
		for i, d := range daemons {
			s, err := d.status(ctx)
			if err != nil || !s.Settled {
				return false
			}
			if i == 0 {
				first = s
			}
			if s.ContextHash != first.ContextHash || s.Root != first.Root {
				return false
			}
		}
		return true
	})
}

// redis starts a redis-server as its users do who want to keep their data, and returns its address.
func (l *lab) redis(ctx context.Context) (p *process, addr string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	addr = listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(addr)
	p, err = l.start("redis", "redis-server", "--port", port, "--bind", "127.0.0.1",
		"--dir", l.path(""), "--appendonly", "yes", "--save", "")
	if err != nil {
		return nil, "", fmt.Errorf("%w: apt-get install redis-server redis-tools", err)
	}
	err = await(ctx, patience, "redis-server answers", func() bool {
		_, err := ask(ctx, addr, "PING")
		return err == nil
	})
	return p, addr, err
}

// measured is what redis-benchmark says of a command.
type measured struct {
	rate float64 // commands a second
	p99  float64 // ms
}

// redisBenchmark runs redis-benchmark with 50 clients and values of 64 bytes.
func (l *lab) redisBenchmark(ctx context.Context, addr, test string, pipeline, requests, keys int) (
	measured, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return measured{}, err
	}
	out, err := l.tool(ctx, "redis-benchmark", "-p", port, "-c", "50", "-P", fmt.Sprint(pipeline),
		"-n", fmt.Sprint(requests), "-t", test, "-r", fmt.Sprint(keys), "-d", "64", "--csv")
	if err != nil {
		return measured{}, err
	}
	return parseRedisBenchmark(out)
}

func parseRedisBenchmark(out string) (m measured, err error) {
	table, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(table) != 2 {
		return m, fmt.Errorf("redis-benchmark printed %q (%v)", out, err)
	}
	for i, name := range table[0] {
		switch name {
		case "rps":
			m.rate, err = strconv.ParseFloat(table[1][i], 64)
		case "p99_latency_ms":
			m.p99, err = strconv.ParseFloat(table[1][i], 64)
		}
		if err != nil {
			return m, fmt.Errorf("redis-benchmark printed %q: %w", out, err)
		}
	}
	if m.rate == 0 {
		return m, fmt.Errorf("redis-benchmark printed no rate in %q", out)
	}
	return m, nil
}

// goBenchmark runs benchmarks of a package of the module, and returns their figures by unit, by
// name without the number of processors. It runs the test's binary itself: "go test", when it is
// ended, leaves that running.
func (l *lab) goBenchmark(ctx context.Context, pkg, pattern string, args ...string) (
	map[string]map[string]float64, error) {
	binary := filepath.Join(l.dir, strings.ReplaceAll(pkg, "/", "-")+".test")
	if _, err := os.Stat(binary); err != nil {
		if _, err := l.tool(ctx, "go", "test", "-c", "-o", binary, "./"+pkg); err != nil {
			return nil, err
		}
	}
	args = append([]string{"-test.run", "^$", "-test.bench", pattern}, args...)
	out, err := l.toolIn(ctx, filepath.Join(l.repo, pkg), binary, args...)
	if err != nil {
		return nil, err
	}
	found := parseGoBenchmark(out)
	if len(found) == 0 {
		return nil, fmt.Errorf("no benchmark of %s matches %s", pkg, pattern)
	}
	return found, nil
}

func parseGoBenchmark(out string) map[string]map[string]float64 {
	found := map[string]map[string]float64{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		units := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			if x, err := strconv.ParseFloat(fields[i], 64); err == nil {
				units[fields[i+1]] = x
			}
		}
		found[name] = units
	}
	return found
}

// machine says what the table was measured on, and when.
func machine(ctx context.Context, l *lab) string {
	model := runtime.GOARCH
	text, _ := os.ReadFile("/proc/cpuinfo") // without it the architecture has to do
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	busy := "unknown"
	text, _ = os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(text)); len(fields) > 0 {
		busy = fields[0]
	}
	commit, err := l.tool(ctx, "git", "describe", "--always", "--dirty")
	if err != nil {
		commit = "unknown"
	}
	size := ""
	if l.quick() {
		size = ", QUICK: small sizes; what depends on them is in parentheses"
	}
	return fmt.Sprintf("%s, %d × %s, load %s at the start, commit %s%s\n",
		time.Now().UTC().Format("2006-01-02 15:04 MST"), runtime.NumCPU(), model, busy,
		strings.TrimSpace(commit), size)
}
