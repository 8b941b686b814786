package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestTheServiceComesBackAfterACrash has a daemon end as after a panic: SIGQUIT ends a Go program in the same way.
func TestTheServiceComesBackAfterACrash(t *testing.T) {
	unit, err := os.ReadFile("../../packaging/peerd.service")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOTRACEBACK", "")
	final := map[string]bool{"0": true} // statuses after which it is not started again
	for line := range strings.SplitSeq(string(unit), "\n") {
		if setting, ok := strings.CutPrefix(line, "Environment="); ok {
			name, value, _ := strings.Cut(setting, "=")
			t.Setenv(name, value)
		}
		if statuses, ok := strings.CutPrefix(line, "RestartPreventExitStatus="); ok {
			for _, status := range strings.Fields(statuses) {
				final[status] = true
			}
		}
	}
	if !final[strconv.Itoa(exitUsage)] {
		t.Error("after a mistake in its settings it is started again and again")
	}
	var core syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &core); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Max: core.Max}); err != nil { // as LimitCORE=0
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &core) })
	p := start(t, "--dir", t.TempDir()).serving(t)
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	var ended *exec.ExitError
	if !errors.As(p.failure, &ended) || ended.Exited() && final[strconv.Itoa(ended.ExitCode())] {
		t.Errorf("it is not started again after a crash: %v", p.failure)
	}
}
