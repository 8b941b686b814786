package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// FreePort returns a port of loopback that nobody listened on a moment ago.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// Redis starts a redis-server as its users do who want to keep their data, synced every second, and
// returns its address. Arguments are added to its command line.
func (l *Lab) Redis(ctx context.Context, args ...string) (p *Process, addr string, err error) {
	return l.redisLike(ctx, "redis-server", args)
}

// Valkey is Redis for valkey-server.
func (l *Lab) Valkey(ctx context.Context, args ...string) (p *Process, addr string, err error) {
	return l.redisLike(ctx, "valkey-server", args)
}

func (l *Lab) redisLike(ctx context.Context, program string, args []string) (p *Process, addr string, err error) {
	port, err := FreePort()
	if err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp(l.Path("."), program+"-") // a port may come again
	if err != nil {
		return nil, "", err
	}
	addr = fmt.Sprint("127.0.0.1:", port)
	p, err = l.Start(filepath.Base(dir), program, append([]string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1",
		"--dir", dir, "--appendonly", "yes", "--save", ""}, args...)...)
	if err != nil {
		return nil, "", err
	}
	err = Await(ctx, Patience, program+" answers", func() bool {
		_, err := Ask(ctx, addr, "PING")
		return err == nil
	})
	return p, addr, err
}

var aptUpdate sync.Once

// Debian makes sure that a program is there, and as root installs the packages that have it if it
// is not. The error says that they cannot be installed.
func (l *Lab) Debian(ctx context.Context, program string, packages ...string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	if err := l.Install(ctx, packages...); err != nil {
		return err
	}
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%s cannot be installed: it is not in %s: %w", program, strings.Join(packages, ", "), err)
	}
	return nil
}

// Install installs packages of Debian, for which this process must be root's. An interrupt ends what
// is downloaded, but not what is installed: dpkg would go on alone, and start services once nobody
// keeps it from that.
func (l *Lab) Install(ctx context.Context, packages ...string) error {
	all := strings.Join(packages, " ")
	if os.Getuid() != 0 {
		return fmt.Errorf("%s cannot be installed without root: apt-get install %s", strings.Join(packages, ", "), all)
	}
	defer l.Preparing()()
	aptUpdate.Do(func() { _, _ = l.Tool(ctx, "apt-get", "-qq", "update") }) // an old list may do
	args := append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "install", "-y",
		"--no-install-recommends"}, packages...)
	_, err := l.Tool(ctx, "env", append(args, "--download-only")...)
	if err == nil {
		err = startsNothing(policyFile, func() error {
			_, err := l.whole("env", args...)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("%s cannot be installed: %w", strings.Join(packages, ", "), err)
	}
	return nil
}

// policyFile is what Debian's packages ask whether they may start their services (policy-rc.d(8)).
const policyFile = "/usr/sbin/policy-rc.d"

// ourPolicy is that no service is started.
const ourPolicy = "#!/bin/sh\n# peerd's benchmarks: remove this file if none is running\nexit 101 # not allowed\n"

// startsNothing does something while the policy is that no service is started: a redis-server
// that its package started would outlive the run. A policy that somebody else has made stays, and
// decides; one that a run has left that was killed, or that runs beside this one, is taken for this one's.
func startsNothing(policy string, do func() error) (err error) {
	switch text, err := os.ReadFile(policy); {
	case err == nil && string(text) != ourPolicy:
		return do()
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.WriteFile(policy, []byte(ourPolicy), 0o755); err != nil {
		return err
	}
	defer func() {
		if gone := os.Remove(policy); !errors.Is(gone, fs.ErrNotExist) { // by a run beside this one
			err = errors.Join(err, gone)
		}
	}()
	return do()
}

// Node makes sure that npm's packages are in a directory's node_modules, where they are from run to
// run. Its package.json and package-lock.json name them with their versions.
func (l *Lab) Node(ctx context.Context, dir string) error {
	if err := errors.Join(l.Debian(ctx, "node", "nodejs"), l.Debian(ctx, "npm", "npm")); err != nil {
		return fmt.Errorf("npm's packages cannot be installed: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err == nil {
		return nil
	}
	defer l.Preparing()()
	if _, err := l.ToolIn(ctx, dir, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"); err != nil {
		return fmt.Errorf("npm's packages cannot be installed: %w", err)
	}
	return nil
}
