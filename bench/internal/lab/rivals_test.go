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
	if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 104\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_ = startsNothing(policy, func() error {
		if err := os.WriteFile(policy+".copy", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return asked()
	})
	// One that was killed in between has left both.
	if err := errors.Join(os.Rename(policy, policy+".peerd-bench"), os.Rename(policy+".copy",
		policy)); err != nil {
		t.Fatal(err)
	}
	_ = startsNothing(policy, asked)
	info, err := os.Stat(policy)
	if text, readErr := os.ReadFile(policy); err != nil || readErr != nil ||
		string(text) != "#!/bin/sh\nexit 104\n" || info.Mode() != 0o700 {
		t.Errorf("the policy that was there is %q (%v)", text, err)
	}
	if all, _ := os.ReadDir(filepath.Dir(policy)); len(all) != 1 {
		t.Errorf("there is more than the policy: %v", all)
	}
}
