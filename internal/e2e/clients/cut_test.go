package clients

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// queue adds numbered jobs to a queue of a name, or works on one until so many different jobs were
// done. Each number that was added, or done, is told.
type queue struct {
	add  func(ctx context.Context, address, name string, from, to int, told func(n int)) error
	work func(ctx context.Context, address, name string, jobs int, told func(n int)) error
}

var queues = map[string]queue{
	"BullMQ":  queueOf("node", "node/queue.mjs"),
	"RQ":      queueOf("/usr/bin/python3", "python/rq_queue.py"),
	"Sidekiq": queueOf("ruby", "ruby/sidekiq_queue.rb"),
	"asynq":   {add: addTasks, work: workOnTasks},
}

// queueOf returns a queue whose jobs a program adds, and does.
func queueOf(command ...string) queue {
	run := func(ctx context.Context, told func(int), args ...any) error {
		all := slices.Clone(command[1:])
		for _, arg := range args {
			all = append(all, fmt.Sprint(arg))
		}
		cmd := exec.CommandContext(ctx, command[0], all...)
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "RUBYOPT=-W0")
		var failed bytes.Buffer
		cmd.Stderr = &failed
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				return errors.Join(fmt.Errorf("printed %q", lines.Text()), cmd.Wait())
			}
			told(n)
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%w\n%s", err, failed.String())
		}
		return nil
	}
	return queue{
		add: func(ctx context.Context, address, name string, from, to int, told func(int)) error {
			return run(ctx, told, address, name, "add", from, to)
		},
		work: func(ctx context.Context, address, name string, jobs int, told func(int)) error {
			return run(ctx, told, address, name, "work", jobs)
		},
	}
}

func addTasks(ctx context.Context, address, name string, from, to int, told func(int)) error {
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: address})
	defer client.Close()
	for n := from; n < to; {
		task := asynq.NewTask("job", []byte(strconv.Itoa(n)), asynq.Queue(name), asynq.TaskID(fmt.Sprint(name, n)))
		switch _, err := client.EnqueueContext(ctx, task); {
		case err == nil, errors.Is(err, asynq.ErrTaskIDConflict): // it was added, and the answer lost
			told(n)
			n++
		case ctx.Err() != nil:
			return err
		}
	}
	return nil
}

func workOnTasks(ctx context.Context, address, name string, jobs int, told func(int)) error {
	server := asynq.NewServer(asynq.RedisClientOpt{Addr: address}, asynq.Config{
		Concurrency: 4, Queues: map[string]int{name: 1}, LogLevel: asynq.FatalLevel,
		TaskCheckInterval: 50 * time.Millisecond, DelayedTaskCheckInterval: 50 * time.Millisecond,
	})
	done := make(chan int, 10*jobs)
	if err := server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		n, err := strconv.Atoi(string(task.Payload()))
		done <- n
		return err
	})); err != nil {
		return err
	}
	seen := map[int]bool{}
	for len(seen) < jobs {
		select {
		case n := <-done:
			seen[n] = true
			told(n)
		case <-ctx.Done():
			server.Shutdown()
			return ctx.Err()
		}
	}
	server.Shutdown()
	for len(done) > 0 {
		told(<-done)
	}
	return nil
}

// apart cuts two daemons from each other, and returns what heals them.
func apart(oslo, lima *daemon) (heal func()) {
	block := func(d *daemon, whom string) {
		next := d.cutFile() + ".next" // replaced whole, as it is read at any moment
		if err := errors.Join(os.WriteFile(next, []byte(whom), 0o600), os.Rename(next, d.cutFile())); err != nil {
			d.t.Fatal(err)
		}
	}
	linked := func(d *daemon, want bool) {
		d.eventually(fmt.Sprintf("is linked: %t", want), func() bool {
			return strings.Contains(d.get("/v1/status"), `"linked": true`) == want
		})
	}
	block(oslo, lima.gossip)
	block(lima, oslo.gossip)
	linked(oslo, false)
	linked(lima, false)
	return func() {
		block(oslo, "")
		block(lima, "")
		linked(oslo, true)
		linked(lima, true)
	}
}

// TestWhatIsQueuedOnBothSidesOfACutIsDone has jobs added to one queue at two peers that are cut
// from each other, and done at one of them after they are healed: each, and once. Sessions and
// limits of rates are of both sides, too.
func TestWhatIsQueuedOnBothSidesOfACutIsDone(t *testing.T) {
	const each = 25 // jobs
	oslo, lima := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	bothSides := func(what string) {
		cmd := exec.CommandContext(ctx, "node", "node/both-sides.mjs", oslo.resp, lima.resp, what)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sessions and limits: %v\n%s", err, out)
		}
	}
	heal := apart(oslo, lima)
	for name, q := range queues {
		for i, d := range []*daemon{oslo, lima} {
			added := 0
			if err := q.add(ctx, d.resp, "cut-"+name, i*each, (i+1)*each, func(int) { added++ }); err != nil || added != each {
				t.Fatalf("%s: %d added at %s: %v", name, added, d.name, err)
			}
		}
	}
	bothSides("apart")
	heal()
	bothSides("together")
	for name, q := range queues {
		t.Run(name, func(t *testing.T) {
			times := map[int]int{}
			if err := q.work(ctx, lima.resp, "cut-"+name, 2*each, func(n int) { times[n]++ }); err != nil {
				t.Fatalf("%v: done are %v", err, times)
			}
			for n := range 2 * each {
				if times[n] != 1 {
					t.Errorf("job %d was done %d times", n, times[n])
				}
			}
		})
	}
}

// TestQueuesGoOnAtAnotherPeer has jobs added and done through one address behind which there are two
// peers, as a proxy would have it. The first is killed as they go and comes back in the end: each job
// that was added is done.
func TestQueuesGoOnAtAnotherPeer(t *testing.T) {
	const jobs = 200
	for _, name := range []string{"BullMQ", "asynq"} {
		t.Run(name, func(t *testing.T) {
			oslo, lima := pair(t)
			address := inFrontOf(t, oslo.resp, lima.resp)
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			defer cancel()
			done, worked := map[int]bool{}, make(chan error, 1)
			go func() { worked <- queues[name].work(ctx, address, "failover", jobs, func(n int) { done[n] = true }) }()
			added := 0
			if err := queues[name].add(ctx, address, "failover", 0, jobs, func(int) {
				switch added++; added {
				case jobs / 3:
					oslo.kill(syscall.SIGKILL)
				case 2 * jobs / 3:
					oslo.run()
				}
			}); err != nil || added != jobs {
				t.Errorf("%d of %d were added: %v", added, jobs, err)
			}
			if err := <-worked; err != nil || len(done) != jobs {
				t.Errorf("%d of %d were done: %v", len(done), jobs, err)
			}
		})
	}
}
