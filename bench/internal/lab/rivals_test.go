package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A service that a package starts while it is installed would outlive the run.
func TestNoServiceIsStartedWhileAPackageIsInstalled(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy-rc.d")
	asked := func() error {
		var exit *exec.ExitError
		if err := exec.Command(policy, "redis-server", "start").Run(); !errors.As(err, &exit) ||
			exit.ExitCode() != 101 {
			t.Errorf("the policy says %v", err)
		}
		return errors.New("no such package")
	}
	if err := startsNothing(policy, asked); err == nil || err.Error() != "no such package" {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(policy); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the policy is still there: %v", err)
	}
	// One that was killed in between has left its own.
	if err := os.WriteFile(policy, []byte(ourPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(policy, 0o700); err != nil {
		t.Fatal(err)
	}
	_ = startsNothing(policy, asked)
	if _, err := os.Stat(policy); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left is still there: %v", err)
	}
	const theirs = "#!/bin/sh\nexit 104\n"
	if err := os.WriteFile(policy, []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_ = startsNothing(policy, func() error { return nil })
		if text, err := os.ReadFile(policy); err != nil || string(text) != theirs {
			t.Errorf("the policy that was there is %q (%v)", text, err)
		}
	}
}

// An interrupt is for all processes of the terminal's group.
func TestWhatIsInstalledIsInstalledToItsEnd(t *testing.T) {
	l := &Lab{Repo: t.TempDir()}
	group, err := l.whole("sh", "-c", "cut -d ' ' -f 5 /proc/$$/stat")
	if ours := fmt.Sprintln(syscall.Getpgrp()); err != nil || group == ours || group == "" {
		t.Errorf("it is in group %q, and the harness in %q: %v", group, ours, err)
	}
	dir, installed := interrupted(t, l, "case $* in *--download-only) exit; esac; echo >begun; read x <end; touch end.ed")
	if err := os.WriteFile(filepath.Join(dir, "end"), []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := <-installed; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "end.ed")); err != nil {
		t.Errorf("it was ended: %v", err)
	}
	if l.Prepared == 0 {
		t.Error("installing took no time")
	}
}

func TestADownloadEndsWithTheHarness(t *testing.T) {
	l := &Lab{Repo: t.TempDir()}
	_, installed := interrupted(t, l, "echo >begun; case $* in *--download-only) exec tail -f /dev/null; esac")
	if err := <-installed; err == nil {
		t.Error("it is downloaded to its end")
	}
}

// interrupted begins to install a package, and interrupts that once apt-get, which is a script here,
// has written to a file.
func interrupted(t *testing.T, l *Lab, install string) (dir string, installed <-chan error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root installs")
	}
	dir = t.TempDir()
	t.Setenv("DIR", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, fifo := range []string{"begun", "end"} {
		if err := syscall.Mkfifo(filepath.Join(dir, fifo), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	apt := "#!/bin/sh\n[ $2 = update ] && exit; cd $DIR; " + install + "\n"
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(apt), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- l.Install(ctx, "a-package") }()
	if _, err := os.ReadFile(filepath.Join(dir, "begun")); err != nil {
		t.Fatal(err)
	}
	return dir, ended
}
