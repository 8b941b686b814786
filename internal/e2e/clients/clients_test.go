package clients

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// jobs are programs that end with 0 when they have done what they are for, given an address, and that of
// another peer.
var jobs = map[string][]string{
	"ioredis":               {"node", "node/ioredis.mjs"},
	"node-redis":            {"node", "node/node-redis.mjs"},
	"connect-redis":         {"node", "node/sessions.mjs"},
	"rate-limiter-flexible": {"node", "node/rate-limiter.mjs"},
	"socket.io":             {"node", "node/socket.io.mjs"},
	"BullMQ":                {"node", "node/bullmq.mjs"},
	"redis-py":              {"/usr/bin/python3", "python/redis_job.py"},
	"Celery":                {"/usr/bin/python3", "python/celery_job.py"},
	"RQ":                    {"/usr/bin/python3", "python/rq_job.py"},
	"django-redis":          {"/usr/bin/python3", "python/django_job.py"},
	"Sidekiq":               {"ruby", "ruby/sidekiq_job.rb"},
}

// goJobs are those of Go's clients.
var goJobs = map[string]func(ctx context.Context, address, prefix string) error{
	"go-redis": goRedis, "redsync": locks, "asynq": tasks,
}

func TestClientsDoTheirJobs(t *testing.T) {
	address := os.Getenv("PEERD_CLIENTS_REDIS")
	another := address
	if address == "" {
		oslo, lima := pair(t)
		address, another = oslo.resp, lima.resp
	}
	for name, command := range jobs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, command[0], append(slices.Clone(command[1:]), address, another)...)
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "RUBYOPT=-W0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
	for name, job := range goJobs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := job(ctx, address, fmt.Sprintf("job-go-%d:", time.Now().UnixNano())); err != nil {
				t.Fatal(err)
			}
		})
	}
}
