package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/spread"
)

// peerdNetwork is a daemon. A message is a key's value, and seen when an event tells of it.
type peerdNetwork struct {
	address string
	daemon  *exec.Cmd
	writer  *lab.Client
	stop    context.CancelFunc
}

// Where the daemon serves within the member's namespace.
const (
	daemonRedis = "127.0.0.1:6379"
	daemonHTTP  = "127.0.0.1:7948"
)

func openPeerd(ctx context.Context, m spread.Member) (spread.Network, error) {
	ctx, stop := context.WithCancel(ctx)
	p := &peerdNetwork{address: spread.IP(m.Index) + ":7946", stop: stop}
	args := []string{"run", "--dir", m.Path(), "--name", fmt.Sprint(m.Index), "--log-level", "error",
		"--durability", "none", "--gossip", p.address, "--p2p", spread.IP(m.Index) + ":7947",
		"--resp", daemonRedis, "--http", daemonHTTP}
	if m.Index > 0 {
		args = append(args, "--join", spread.IP(0)+":7946", "--cluster-key", filepath.Join(m.Dir, "0", "cluster.key"))
	}
	if m.Profiled {
		args = append(args, "--pprof-socket", m.Socket(m.Index))
	}
	p.daemon = exec.Command(m.Peerd, args...)
	p.daemon.Stderr = os.Stderr
	p.daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.daemon.Start(); err != nil {
		p.daemon = nil
		return p, err
	}
	err := lab.Await(ctx, lab.Patience, "the daemon serves", func() bool {
		_, err := lab.Ask(ctx, daemonRedis, "PING")
		return err == nil
	})
	if err != nil {
		return p, err
	}
	if p.writer, err = lab.Dial(ctx, daemonRedis); err != nil {
		return p, err
	}
	events, err := lab.Dial(ctx, daemonRedis)
	if err != nil {
		return p, err
	}
	if _, err := events.Do("PSUBSCRIBE", "__keyspace@0__:message:*"); err != nil {
		return p, err
	}
	go func() {
		for {
			event, err := events.Reply() // what it is, the pattern, the channel, what happened to the key
			if err != nil {
				return
			}
			_, key, _ := strings.Cut(event, ":message:*\n__keyspace@0__:message:")
			number, _, _ := strings.Cut(key, "\n")
			if n, err := strconv.Atoi(number); err == nil {
				m.Seen(n, -1)
			}
		}
	}()
	return p, nil
}

func (p *peerdNetwork) Address() string { return p.address }

// Join does nothing: the daemons find each other.
func (p *peerdNetwork) Join(context.Context, []string) error { return nil }

func (p *peerdNetwork) Publish(_ context.Context, n int) error {
	_, err := p.writer.Do("SET", fmt.Sprint("message:", n), message(n, 0))
	return err
}

// Copies are deltas that others sent, whatever became of them.
func (p *peerdNetwork) Copies(ctx context.Context) (copies int, err error) {
	ctx, stop := context.WithTimeout(ctx, lab.Patience)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+daemonHTTP+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	found := false
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		if strings.HasPrefix(name, "peerd_deltas_received_total{") {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			copies, found = copies+int(n), true
		}
	}
	if !found {
		return 0, errors.New("the daemon does not count deltas")
	}
	return copies, nil
}

func (p *peerdNetwork) Close() {
	p.stop()
	if p.daemon == nil {
		return
	}
	_ = p.daemon.Process.Signal(syscall.SIGTERM)
	ended := time.AfterFunc(5*time.Second, func() { _ = p.daemon.Process.Kill() })
	_ = p.daemon.Wait()
	ended.Stop()
}
