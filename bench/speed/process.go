package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is one that the lab has started.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string        // file with what it prints as errors
	lines chan string   // of its standard output, closed at its end; what nobody takes is dropped
	ended chan struct{} // closed when it has ended
}

// patience is how long a process may take to do at once what it was asked.
const patience = time.Minute

// start starts a process. It ends with the row, if not before.
func (l *lab) start(name, program string, args ...string) (*process, error) {
	p := &process{
		name: name, cmd: exec.Command(program, args...), log: l.path(name + ".log"),
		lines: make(chan string, 64), ended: make(chan struct{}),
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
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	l.running = append(l.running, p)
	go func() {
		defer close(p.ended)
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

// stop has the process end by itself, and waits until it has.
func (p *process) stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error says that it has ended
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("%s has not ended after %v", p.name, patience)
	}
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// failure is the error of a process that has ended too early.
func (p *process) failure() error {
	text, _ := os.ReadFile(p.log)
	return fmt.Errorf("%s has ended: %s", p.name, lastLines(string(text), 3))
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// cpu returns how long the process has kept processors busy, to 10 ms.
func (p *process) cpu() (time.Duration, error) {
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

// resident returns how many bytes the process holds, and how many of them are not pages of files,
// which the system takes back when it needs them.
func (p *process) resident() (all, anonymous int64, err error) {
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

func (p *process) proc(name string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
	return string(text), err
}

// used returns the processor time that something took a process.
func (p *process) used(do func() error) (time.Duration, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := p.cpu()
	return after - before, err
}

// calm waits until processes have had little to do for a second: less than a twentieth of a
// processor each. What follows a load, as checkpoints, is over then.
func calm(ctx context.Context, processes ...*process) error {
	for began := time.Now(); time.Since(began) < 2*patience; {
		busy := false
		before := map[*process]time.Duration{}
		for _, p := range processes {
			before[p], _ = p.cpu()
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		for _, p := range processes {
			after, err := p.cpu()
			if err != nil {
				return p.failure()
			}
			busy = busy || after-before[p] > time.Second/20
		}
		if !busy {
			return nil
		}
	}
	return nil // it is never idle: then that is what is measured
}

// pause waits for a time: for what happens with time alone.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await waits until a condition holds.
func await(ctx context.Context, limit time.Duration, what string, holds func() bool) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
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
