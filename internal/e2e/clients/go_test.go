package clients

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// expect returns an error unless got is want.
func expect[T comparable](what string, got T, err error, want T) error {
	if err != nil || got != want {
		return fmt.Errorf("%s: %v, %w; want %v", what, got, err, want)
	}
	return nil
}

// goRedis is of pipelines, transactions with WATCH, scripts, blocking pops, messages, streams and scans.
func goRedis(ctx context.Context, address, p string) error {
	r := redis.NewClient(&redis.Options{Addr: address})
	defer r.Close()
	var n *redis.IntCmd
	if _, err := r.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, p+"a", 1, time.Minute)
		n = pipe.Incr(ctx, p+"a")
		return nil
	}); err != nil {
		return err
	}
	add := func() error {
		return r.Watch(ctx, func(tx *redis.Tx) error {
			v, err := tx.Get(ctx, p+"a").Int()
			if err != nil {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Set(ctx, p+"a", v+1, 0).Err() })
			return err
		}, p+"a")
	}
	failed := make(chan error, 4)
	for range 4 {
		go func() {
			for i := 0; i < 10; {
				switch err := add(); {
				case err == nil:
					i++
				case !errors.Is(err, redis.TxFailedErr):
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	var err error
	for range 4 {
		err = errors.Join(err, <-failed)
	}
	sum, e := r.Get(ctx, p+"a").Int64()
	script := redis.NewScript(`return redis.call('RPUSH', KEYS[1], unpack(ARGV))`)
	pushed, e2 := script.Run(ctx, r, []string{p + "l"}, "x", "y").Int64()
	popped, e3 := r.BLPop(ctx, 5*time.Second, p+"l").Result()
	sub := r.Subscribe(ctx, p+"news")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		return err
	}
	e4 := r.Publish(ctx, p+"news", "hello").Err()
	message, e5 := sub.ReceiveMessage(ctx)
	if err := errors.Join(err, e, e2, e3, e4, e5); err != nil {
		return err
	}
	ranked, e := r.ZAddArgsIncr(ctx, p+"z", redis.ZAddArgs{Members: []redis.Z{{Score: 2.5, Member: "m"}}}).Result()
	id, e2 := r.XAdd(ctx, &redis.XAddArgs{Stream: p + "x", Values: []string{"f", "v"}}).Result()
	read, e3 := r.XRead(ctx, &redis.XReadArgs{Streams: []string{p + "x", "0"}}).Result()
	if err := errors.Join(e, e2, e3); err != nil {
		return err
	}
	var keys []string
	for it := r.Scan(ctx, 0, p+"*", 2).Iterator(); it.Next(ctx); {
		keys = append(keys, it.Val())
	}
	return errors.Join(expect("INCR", n.Val(), nil, 2), expect("WATCH", sum, nil, 42), expect("RPUSH", pushed, nil, 2),
		expect("BLPOP", fmt.Sprint(popped), nil, fmt.Sprint([]string{p + "l", "x"})),
		expect("a message", message.Payload, nil, "hello"), expect("ZADD INCR", ranked, nil, 2.5),
		expect("XREAD", read[0].Messages[0].ID, nil, id), expect("SCAN", len(keys), nil, 4))
}

// locks is of a lock that one holds at a time, extends and loses.
func locks(ctx context.Context, address, p string) error {
	r := redis.NewClient(&redis.Options{Addr: address})
	defer r.Close()
	rs := redsync.New(goredis.NewPool(r))
	var held atomic.Int32
	failed := make(chan error, 5)
	for range 5 {
		go func() {
			m := rs.NewMutex(p+"lock", redsync.WithExpiry(5*time.Second), redsync.WithTries(500),
				redsync.WithRetryDelay(10*time.Millisecond))
			if err := m.LockContext(ctx); err != nil {
				failed <- err
				return
			}
			if held.Add(1) != 1 {
				failed <- errors.New("two hold the lock")
				return
			}
			ok, err := m.ExtendContext(ctx)
			held.Add(-1)
			if err == nil && !ok {
				err = errors.New("not extended")
			}
			if ok, e := m.UnlockContext(ctx); e != nil || !ok {
				err = errors.Join(err, e, errors.New("not unlocked"))
			}
			failed <- err
		}()
	}
	var err error
	for range 5 {
		err = errors.Join(err, <-failed)
	}
	short := rs.NewMutex(p+"short", redsync.WithExpiry(50*time.Millisecond))
	if e := short.LockContext(ctx); e != nil {
		return errors.Join(err, e)
	}
	next := rs.NewMutex(p+"short", redsync.WithTries(200), redsync.WithRetryDelay(10*time.Millisecond))
	return errors.Join(err, next.LockContext(ctx)) // once the first has expired
}

// tasks is of tasks: at once, later, tried again, unique.
func tasks(ctx context.Context, address, p string) error {
	option := asynq.RedisClientOpt{Addr: address, DB: 3}
	client := asynq.NewClient(option)
	defer client.Close()
	queue := asynq.Queue("q" + p[:len(p)-1])
	done := make(chan string, 100)
	var tries atomic.Int32
	server := asynq.NewServer(option, asynq.Config{
		Concurrency: 4, Queues: map[string]int{"q" + p[:len(p)-1]: 1}, LogLevel: asynq.FatalLevel,
		TaskCheckInterval: 50 * time.Millisecond, DelayedTaskCheckInterval: 50 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 50 * time.Millisecond },
	})
	if err := server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		if task.Type() == "flaky" && tries.Add(1) == 1 {
			return errors.New("at first")
		}
		done <- task.Type()
		return nil
	})); err != nil {
		return err
	}
	defer server.Shutdown()
	unique := asynq.Unique(time.Minute)
	for _, t := range []struct {
		name    string
		options []asynq.Option
	}{
		{"now", []asynq.Option{queue}}, {"later", []asynq.Option{queue, asynq.ProcessIn(300 * time.Millisecond)}},
		{"flaky", []asynq.Option{queue}}, {"once", []asynq.Option{queue, unique, asynq.ProcessIn(200 * time.Millisecond)}},
	} {
		if _, err := client.EnqueueContext(ctx, asynq.NewTask(t.name, nil), t.options...); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	if _, err := client.EnqueueContext(ctx, asynq.NewTask("once", nil), queue, unique); !errors.Is(err, asynq.ErrDuplicateTask) {
		return fmt.Errorf("a task that is to be once: %w", err)
	}
	seen := map[string]int{}
	for range 4 {
		select {
		case name := <-done:
			seen[name]++
		case <-ctx.Done():
			return fmt.Errorf("ran: %v: %w", seen, ctx.Err())
		}
	}
	if len(seen) != 4 {
		return fmt.Errorf("ran: %v", seen)
	}
	return nil
}
