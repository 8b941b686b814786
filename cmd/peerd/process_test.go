package main

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// process is a daemon in a process of its own.
type process struct {
	cmd                 *exec.Cmd
	stdout, stderr      *screen
	ended               chan struct{}
	failure             error  // after ended
	redis, http, gossip string // addresses
}

// start starts a daemon that listens anywhere, and does not wait for it.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	stderr := newScreen()
	p := startLogging(t, stderr, args...)
	p.stderr = stderr
	return p
}

// startLogging is start, with the standard error somewhere else.
func startLogging(t testing.TB, stderr io.Writer, args ...string) *process {
	t.Helper()
	return startCommand(t, stderr, exec.Command(os.Args[0], append(append([]string{"run"}, anywhere...), args...)...))
}

// startCommand is startLogging of a command that becomes peerd.
func startCommand(t testing.TB, stderr io.Writer, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, stdout: newScreen(), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asPeerd+"=1", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.failure = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// serving waits until the daemon serves.
func (p *process) serving(t testing.TB) *process {
	t.Helper()
	p.stdout.waitFor(t, "--join", p.ended)
	p.redis, p.http, p.gossip = addresses(t, p.stdout.String())
	return p
}

// ask asks the daemon by the Redis protocol.
func (p *process) ask(t testing.TB, command string) string {
	t.Helper()
	answer, err := askRedis(p.redis, command)
	if err != nil {
		return err.Error()
	}
	return answer
}

func (p *process) terminate(t testing.TB) error {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	return p.failure
}
