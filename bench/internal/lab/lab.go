package lab

import (
	"bufio"
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
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Lab is where something is measured: a directory, and what was started in it. Its methods are for
// one goroutine, but for those that only ask.
type Lab struct {
	Repo     string // the main module's root
	Dir      string // of all that is written
	Peerd    string // the daemon's binary
	Version  string // of it: ThisTree, or what it says
	Patience time.Duration
	Cached   []string   // arguments of a daemon for a large cache
	Running  []*Process // what was started in this section
	Profile  Profile
	Prepared time.Duration // what installing and building took

	networks  []*Network // of this section
	web       http.Client
	profiling sync.WaitGroup
	section   int // the one that is measured
	sections  int // that were begun after the first
}

// ThisTree is the version of what was built from the tree that the harness is in.
const ThisTree = "this tree"

// versionOf makes a line of what "peerd --version" prints: its version and commit.
func versionOf(printed string) string {
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	version := strings.TrimPrefix(lines[0], "peerd ")
	if len(lines) > 1 {
		if id, ok := strings.CutPrefix(lines[1], "commit "); ok {
			version += " (" + id[:min(12, len(id))] + ")"
		}
	}
	return version
}

// ModuleVersion returns the version of a module that the harness is built with.
func ModuleVersion(module string) string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == module {
			if m.Replace != nil {
				return ThisTree
			}
			return m.Version
		}
	}
	return "unknown"
}

// New makes a lab, and builds the daemon unless a binary is named. Loads, repairs and sweeps may
// take as long as patience says.
func New(ctx context.Context, patience time.Duration, binary string) (*Lab, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/peerd/peerd").Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	dir, err := os.MkdirTemp("", "peerd-bench-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, Peerd: binary, Repo: strings.TrimSpace(string(root)), Patience: patience,
		Version: ThisTree,
		web:     http.Client{Timeout: Patience}}
	if err := os.Mkdir(l.Path(""), 0o700); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if binary == "" {
		l.Peerd = filepath.Join(dir, "peerd")
		if _, err := l.Tool(ctx, "go", "build", "-o", l.Peerd, "./cmd/peerd"); err != nil {
			l.Close()
			return nil, err
		}
	}
	if binary != "" {
		printed, err := l.Tool(ctx, l.Peerd, "--version")
		if err != nil {
			l.Close()
			return nil, err
		}
		l.Version = versionOf(printed)
	}
	flags, err := l.Tool(ctx, l.Peerd, "run", "--help")
	if err != nil {
		l.Close()
		return nil, err
	}
	if strings.Contains(flags, "--cache-size") {
		l.Cached = []string{"--cache-size", "128MiB"}
	}
	return l, nil
}

// Path returns the name of a file of the section that is measured.
func (l *Lab) Path(name string) string {
	return filepath.Join(l.Dir, fmt.Sprint("section", l.section), name)
}

// End ends what was started in this section, removes its files, and begins the next one.
func (l *Lab) End() {
	l.clear()
	l.profiling.Wait()
	l.web.CloseIdleConnections()
	l.next()
}

// Within ends what do started and removes its files, as of a section within this one; what was started
// before goes on.
func (l *Lab) Within(do func() error) error {
	running, networks, outer := l.Running, l.networks, l.section
	l.Running, l.networks = nil, nil
	l.next()
	defer func() {
		l.clear()
		l.Running, l.networks, l.section = running, networks, outer
	}()
	return do()
}

func (l *Lab) clear() {
	for _, p := range l.Running {
		p.Kill()
	}
	l.Running = nil
	for _, n := range l.networks {
		n.close()
	}
	l.networks = nil
	_ = os.RemoveAll(l.Path("")) // what is left goes with the lab
}

func (l *Lab) next() {
	l.sections++
	l.section = l.sections
	_ = os.Mkdir(l.Path(""), 0o700) // else the next process says so
}

// Close ends and removes everything.
func (l *Lab) Close() {
	l.End()
	_ = os.RemoveAll(l.Dir)
}

// Preparing counts the time until what it returns is called as that of installing and building.
func (l *Lab) Preparing() (done func()) {
	began := time.Now()
	return func() { l.Prepared += time.Since(began) }
}

// Tool runs a program to its end, in the module's root, and returns what it prints.
func (l *Lab) Tool(ctx context.Context, program string, args ...string) (string, error) {
	return l.ToolIn(ctx, l.Repo, program, args...)
}

// ToolIn runs a program in a directory.
func (l *Lab) ToolIn(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	return output(cmd)
}

// whole runs a program to its end, also if the harness is interrupted meanwhile.
func (l *Lab) whole(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.SysProcAttr = l.Repo, &syscall.SysProcAttr{Setpgid: true} // Ctrl-C goes to the terminal's group
	return output(cmd)
}

// output runs a command and returns what it prints.
func output(cmd *exec.Cmd) (string, error) {
	var out, problem strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problem
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		said := trouble(problem.String() + out.String())
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, said)
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

// Daemon is a peerd.
type Daemon struct {
	*Process
	Dir                 string
	Redis, HTTP, Gossip string // addresses

	lab  *Lab
	args []string
}

// Daemon starts a peerd with data of its own, and waits until it serves.
func (l *Lab) Daemon(ctx context.Context, name string, args ...string) (*Daemon, error) {
	d := &Daemon{lab: l, Dir: l.Path(name)}
	d.args = []string{"run", "--dir", d.Dir, "--name", name, "--log-level", "error",
		"--gossip", "127.0.0.1:0", "--p2p", "127.0.0.1:0",
		"--resp", "127.0.0.1:0", "--http", "127.0.0.1:0"}
	d.args = append(append(d.args, args...), l.ProfileArgs(l.Path(name+".pprof"))...)
	return d, d.Begin(ctx, name)
}

// Neighbour starts a peerd that joins another's cluster.
func (l *Lab) Neighbour(ctx context.Context, name string, of *Daemon, args ...string) (*Daemon, error) {
	key := filepath.Join(of.Dir, "cluster.key")
	return l.Daemon(ctx, name, append([]string{"--join", of.Gossip, "--cluster-key", key}, args...)...)
}

// Cluster starts some daemons and waits until the first is linked with all others.
func (l *Lab) Cluster(ctx context.Context, names ...string) ([]*Daemon, error) {
	first, err := l.Daemon(ctx, names[0])
	if err != nil {
		return nil, err
	}
	all := []*Daemon{first}
	for _, name := range names[1:] {
		d, err := l.Neighbour(ctx, name, first)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	err = Await(ctx, Patience, "the daemons are linked", func() bool {
		s, err := first.Status(ctx)
		return err == nil && s.Linked() == len(all)-1
	})
	return all, err
}

// Begin starts the daemon, again if it has ended, and waits until it answers Redis clients: where it did before.
func (d *Daemon) Begin(ctx context.Context, name string) (err error) {
	if d.Process, err = d.lab.Start(name, d.lab.Peerd, d.args...); err != nil {
		return err
	}
	d.lab.KeepProfiles(ctx, d.Ended, d.lab.Path(name+".pprof"), name)
	deadline := time.After(d.lab.Patience)
	for {
		select {
		case line, more := <-d.lines:
			if !more {
				return d.Failure()
			}
			fields := strings.Fields(line)
			switch {
			case len(fields) < 2:
			case fields[0] == "redis":
				d.Redis = fields[1]
				d.stays("--resp", d.Redis)
			case fields[0] == "http":
				d.HTTP = fields[1]
			case fields[0] == "gossip":
				d.Gossip = fields[1]
				d.stays("--gossip", d.Gossip)
			case strings.Contains(line, "--join"):
				_, err = Ask(ctx, d.Redis, "PING")
				return err
			}
		case <-deadline:
			return fmt.Errorf("%s does not serve after %v", name, d.lab.Patience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Again stops the daemon and begins it again with more arguments.
func (d *Daemon) Again(ctx context.Context, args ...string) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	d.args = append(d.args, args...)
	return d.Begin(ctx, d.Name)
}

// stays has the daemon serve at an address when it begins again, as its clients and members look for it there.
func (d *Daemon) stays(flag, address string) { d.args[slices.Index(d.args, flag)+1] = address }

// Status is what is looked at of /v1/status.
type Status struct {
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

// Linked returns how many members the daemon is linked with.
func (s Status) Linked() (n int) {
	for _, m := range s.Members {
		if m.Linked {
			n++
		}
	}
	return n
}

// Status asks the daemon for its status.
func (d *Daemon) Status(ctx context.Context) (s Status, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.HTTP+"v1/status", nil)
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

// Metrics asks the daemon for its metrics, and returns those without labels.
func (d *Daemon) Metrics(ctx context.Context) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.HTTP+"metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := d.lab.web.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	found := map[string]float64{}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if x, err := strconv.ParseFloat(value, 64); err == nil {
			found[name] = x
		}
	}
	return found, lines.Err()
}

// Agree waits until daemons hold the same data, with nothing left to be swept.
func (l *Lab) Agree(ctx context.Context, daemons ...*Daemon) error {
	return Await(ctx, l.Patience, "the daemons agree", func() bool {
		var first Status
		for i, d := range daemons {
			s, err := d.Status(ctx)
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

// Measured is what redis-benchmark says of a command.
type Measured struct {
	Rate float64 // commands a second
	P99  float64 // ms
}

// RedisBenchmark runs redis-benchmark with 50 clients and values of 64 bytes: one of its tests, or a
// command that is given whole.
func (l *Lab) RedisBenchmark(ctx context.Context, addr string, pipeline, requests, keys int, test ...string) (
	Measured, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Measured{}, err
	}
	if len(test) == 1 {
		test = []string{"-t", test[0]}
	}
	out, err := l.Tool(ctx, "redis-benchmark", append([]string{"-p", port, "-c", "50", "-P", fmt.Sprint(pipeline),
		"-n", fmt.Sprint(requests), "-r", fmt.Sprint(keys), "-d", "64", "--csv"}, test...)...)
	if err != nil {
		return Measured{}, err
	}
	return parseRedisBenchmark(out)
}

func parseRedisBenchmark(out string) (m Measured, err error) {
	table, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(table) < 2 {
		return m, fmt.Errorf("redis-benchmark printed %q (%v)", out, err)
	}
	last := table[len(table)-1] // before it is what fills a list that is read
	for i, name := range table[0] {
		switch name {
		case "rps":
			m.Rate, err = strconv.ParseFloat(last[i], 64)
		case "p99_latency_ms":
			m.P99, err = strconv.ParseFloat(last[i], 64)
		}
		if err != nil {
			return m, fmt.Errorf("redis-benchmark printed %q: %w", out, err)
		}
	}
	if m.Rate == 0 {
		return m, fmt.Errorf("redis-benchmark printed no rate in %q", out)
	}
	return m, nil
}

// GoBenchmark runs benchmarks of a package of the module, and returns their figures by unit, by
// name without the number of processors; each has the units that are named. It runs the test's binary
// itself: "go test", when it is ended, leaves that running.
func (l *Lab) GoBenchmark(ctx context.Context, pkg, pattern string, units []string, args ...string) (
	map[string]map[string]float64, error) {
	binary := filepath.Join(l.Dir, strings.ReplaceAll(pkg, "/", "-")+".test")
	if _, err := os.Stat(binary); err != nil {
		done := l.Preparing()
		_, err := l.Tool(ctx, "go", "test", "-c", "-o", binary, "./"+pkg)
		done()
		if err != nil {
			return nil, err
		}
	}
	args = append([]string{"-test.run", "^$", "-test.bench", pattern}, args...)
	if flag := profileFlags[l.Profile.Kind]; flag != "" {
		file, err := filepath.Abs(filepath.Join(l.Profile.Dir, fmt.Sprintf("%s-%s.%s.%s", l.Profile.Of,
			filepath.Base(binary), l.Profile.Kind, time.Now().UTC().Format("150405.000"))))
		if err != nil {
			return nil, err
		}
		args = append(args, flag, file)
	}
	out, err := l.ToolIn(ctx, filepath.Join(l.Repo, pkg), binary, args...)
	if err != nil {
		return nil, err
	}
	found, err := parseGoBenchmark(out, units)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no benchmark of %s matches %s", pkg, pattern)
	}
	return found, err
}

func parseGoBenchmark(out string, wanted []string) (map[string]map[string]float64, error) {
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
		for _, unit := range wanted {
			if _, ok := units[unit]; !ok {
				return nil, fmt.Errorf("%s prints no %s", name, unit)
			}
		}
		found[name] = units
	}
	return found, nil
}
