package lab

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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
