package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Process is one that the lab has started.
type Process struct {
	Name  string
	cmd   *exec.Cmd
	log   string        // file with what it prints as errors
	lines chan string   // of its standard output, closed at its end; what nobody takes is dropped
	Ended chan struct{} // closed when it has ended
}

// Patience is how long a process may take to do at once what it was asked.
const Patience = time.Minute

// Start starts a process. It ends with the section, if not before.
func (l *Lab) Start(name, program string, args ...string) (*Process, error) {
	return l.begin(name, exec.Command(program, args...), (*exec.Cmd).Start)
}

// begin starts a process as start does.
func (l *Lab) begin(name string, cmd *exec.Cmd, start func(*exec.Cmd) error) (*Process, error) {
	p := &Process{
		Name: name, cmd: cmd, log: l.Path(name + ".log"),
		lines: make(chan string, 64), Ended: make(chan struct{}),
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(p.cmd); err != nil {
		return nil, err
	}
	l.Running = append(l.Running, p)
	go func() {
		defer close(p.Ended)
		in := bufio.NewScanner(out)
		for in.Scan() {
			select {
			case p.lines <- in.Text():
			default:
			}
		}
		close(p.lines)
		_ = p.cmd.Wait() // however it ended
	}()
	return p, nil
}

// Stop has the process end by itself, and waits until it has.
func (p *Process) Stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error says that it has ended
	select {
	case <-p.Ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(Patience):
		return fmt.Errorf("%s has not ended after %v", p.Name, Patience)
	}
}

// PID returns the process' number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process at once.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.Ended
}

// Failure is the error of a process that has ended too early.
func (p *Process) Failure() error {
	text, _ := os.ReadFile(p.log)
	return fmt.Errorf("%s has ended: %s", p.Name, lastLines(string(text), 3))
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// CPU returns how long the process has kept processors busy, to 10 ms.
func (p *Process) CPU() (time.Duration, error) {
	stat, err := p.proc("stat")
	if err != nil {
		return 0, err
	}
	return cpuOf(stat)
}

// cpuOf reads the time of user and system from /proc/PID/stat.
func cpuOf(stat string) (time.Duration, error) {
	const tick = time.Second / 100 // USER_HZ, on every Linux
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("no times in %q", stat)
	}
	var user, system time.Duration
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, err
	}
	return (user + system) * tick, nil
}

// Resident returns how many bytes the process holds, and how many of them are not pages of files,
// which the system takes back when it needs them.
func (p *Process) Resident() (all, anonymous int64, err error) {
	status, err := p.proc("status")
	if err != nil {
		return 0, 0, err
	}
	return residentOf(status)
}

func residentOf(status string) (all, anonymous int64, err error) {
	for line := range strings.Lines(status) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &all)
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &anonymous)
	}
	if all == 0 {
		return 0, 0, errors.New("no VmRSS in /proc/PID/status")
	}
	return all << 10, anonymous << 10, nil
}

func (p *Process) proc(name string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
	return string(text), err
}

// Used returns the processor time that something took a process.
func (p *Process) Used(do func() error) (time.Duration, error) {
	before, err := p.CPU()
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := p.CPU()
	return after - before, err
}

// forks reports whether the process has children: redis-server, say, rewrites its log in one.
func (p *Process) forks() bool {
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID())) // one that has ended has none
	return slices.ContainsFunc(threads, func(thread os.DirEntry) bool {
		children, _ := p.proc(filepath.Join("task", thread.Name(), "children"))
		return children != ""
	})
}

// Calm waits until processes have had little to do for half a second: less than a twentieth of a
// processor each, and no children. What follows a load, as checkpoints, is over then.
func Calm(ctx context.Context, processes ...*Process) error {
	const quiet = time.Second / 2
	for began := time.Now(); time.Since(began) < 2*Patience; {
		busy := false
		before := map[*Process]time.Duration{}
		for _, p := range processes {
			before[p], _ = p.CPU()
		}
		if err := Pause(ctx, quiet); err != nil {
			return err
		}
		for _, p := range processes {
			after, err := p.CPU()
			if err != nil {
				return p.Failure()
			}
			busy = busy || after-before[p] > quiet/20 || p.forks()
		}
		if !busy {
			return nil
		}
	}
	return nil // it is never idle: then that is what is measured
}

// Pause waits for a time: for what happens with time alone.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Await waits until a condition holds, and looks each 10 ms.
func Await(ctx context.Context, limit time.Duration, what string, holds func() bool) error {
	return AwaitWithin(ctx, 10*time.Millisecond, limit, what, holds)
}

// AwaitWithin is Await for what is timed more exactly: it looks each step of time.
func AwaitWithin(ctx context.Context, step, limit time.Duration, what string, holds func() bool) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(step)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("not after %v: %s", limit, what)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
