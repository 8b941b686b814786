package clients

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// queue adds numbered jobs to a queue of a name, or works on one until so many different jobs were
// done. Each number that was added, or done, is told: a job that is done twice, twice.
type queue struct {
	add  func(ctx context.Context, address, name string, numbers <-chan int, told func(n int)) error
	work func(ctx context.Context, address, name string, jobs int, told func(n int)) error

	// atMostOnce: a worker takes a job off before it begins it, so that one is lost with Redis, too,
	// if the connection ends just then.
	atMostOnce bool
}

var queues = map[string]queue{
	"BullMQ":               queueOf(false, "plain", "node", "node/queue.mjs"),
	"BullMQ's delayed":     queueOf(false, "delayed", "node", "node/queue.mjs"),
	"BullMQ's prioritized": queueOf(false, "prioritized", "node", "node/queue.mjs"),
	"Celery":               queueOf(true, "", "/usr/bin/python3", "python/celery_queue.py"),
	"RQ":                   queueOf(true, "", "/usr/bin/python3", "python/rq_queue.py"),
	"Sidekiq":              queueOf(true, "", "ruby", "ruby/sidekiq_queue.rb"),
	"asynq":                {add: addTasks, work: workOnTasks},
}

// queueOf returns a queue whose jobs a program adds, and does. It may be told for which client, or of which kind.
func queueOf(atMostOnce bool, client string, command ...string) queue {
	run := func(ctx context.Context, numbers <-chan int, told func(int), args ...any) error {
		all := slices.Clone(command[1:])
		for _, arg := range args {
			if text := fmt.Sprint(arg); text != "" {
				all = append(all, text)
			}
		}
		cmd := exec.CommandContext(ctx, command[0], all...)
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "RUBYOPT=-W0")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it ends with the workers that it has started
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		var failed bytes.Buffer
		cmd.Stderr = &failed
		in, err := cmd.StdinPipe()
		out, err2 := cmd.StdoutPipe()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { // ends with the program, or with what it is to add
			defer in.Close()
			for n := range numbers {
				if _, err := fmt.Fprintln(in, n); err != nil {
					return
				}
			}
		}()
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
	none := make(chan int)
	close(none)
	return queue{
		add: func(ctx context.Context, address, name string, numbers <-chan int, told func(int)) error {
			return run(ctx, numbers, told, address, name, "add", client)
		},
		work: func(ctx context.Context, address, name string, jobs int, told func(int)) error {
			return run(ctx, none, told, address, name, "work", client, jobs)
		},
		atMostOnce: atMostOnce,
	}
}

// numbers returns a channel that gives the numbers from one to before another, and ends.
func numbers(from, to int) <-chan int {
	all := make(chan int, to-from)
	for n := from; n < to; n++ {
		all <- n
	}
	close(all)
	return all
}

func addTasks(ctx context.Context, address, name string, numbers <-chan int, told func(int)) error {
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: address})
	defer client.Close()
	for n := range numbers {
		task := asynq.NewTask("job", []byte(strconv.Itoa(n)), asynq.Queue(name), asynq.TaskID(fmt.Sprint(name, n)))
		for {
			_, err := client.EnqueueContext(ctx, task)
			if err == nil || errors.Is(err, asynq.ErrTaskIDConflict) { // it was added, and the answer lost
				break
			}
			if !rests(ctx) {
				return err
			}
		}
		told(n)
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
// from each other, the first of which is killed, and done at the other after they are healed: each,
// and once; those with priorities by these, whichever side they are of. What clients keep is at both
// then, and sessions and limits of rates are of both sides, too.
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
	var adding sync.WaitGroup
	all := maps.Clone(stores)
	maps.Copy(all, queues)
	for name, q := range all {
		for i, d := range []*daemon{oslo, lima} {
			adding.Go(func() {
				added := 0
				err := q.add(ctx, d.resp, "cut-"+name, numbers(i*each, (i+1)*each), func(int) { added++ })
				if err != nil || added != each {
					t.Errorf("%s: %d added at %s: %v", name, added, d.name, err)
				}
			})
		}
	}
	adding.Wait()
	bothSides("apart")
	oslo.kill(syscall.SIGKILL) // which alone has what was written to it
	oslo.run()
	heal()
	bothSides("together")
	var want []int
	for n := range numbers(0, 2*each) {
		want = append(want, n)
	}
	lima.eventually("has what oslo has", func() bool {
		has := lima.holds()
		return len(has) > 0 && slices.Equal(has, oslo.holds())
	})
	for name, q := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			at := []*daemon{lima}
			if _, keeps := stores[name]; keeps {
				at = append(at, oslo)
			}
			for _, d := range at {
				var done []int
				if err := q.work(ctx, d.resp, "cut-"+name, 2*each, func(n int) { done = append(done, n) }); err != nil {
					t.Fatalf("%v: done at %s are %v", err, d.name, done)
				}
				if name == "BullMQ's prioritized" {
					slices.Reverse(done)
				} else {
					slices.Sort(done)
				}
				if !slices.Equal(done, want) {
					t.Errorf("done at %s are %v", d.name, done)
				}
			}
		})
	}
}
