package clients

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestAClientGoesOnAtAnotherPeer has a client that knows two peers write to one until that is killed, and then to the
// other. All that was acknowledged is there once the first is back, at both.
func TestAClientGoesOnAtAnotherPeer(t *testing.T) {
	oslo, lima := pair(t)
	peers := []string{oslo.resp, lima.resp}
	client := redis.NewClient(&redis.Options{
		MaxRetries: -1, // whether a write that failed was done is not known: the test counts those that were acknowledged
		Dialer: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
			for _, address := range peers {
				if conn, err = net.DialTimeout("tcp", address, time.Second); err == nil {
					return conn, nil
				}
			}
			return nil, err
		},
	})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	counted, unsure := 0, 0
	acknowledged := map[string]string{}
	for i := range 600 {
		if i == 200 {
			oslo.kill(syscall.SIGKILL)
		}
		if i == 400 {
			oslo.run()
		}
		job, value := fmt.Sprintf("job:%d", i), fmt.Sprint(i)
		_, err := client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Incr(ctx, "count")
			pipe.HSet(ctx, "jobs", job, value)
			pipe.RPush(ctx, "queue", job)
			pipe.ZAdd(ctx, "due", redis.Z{Score: float64(i), Member: job})
			return nil
		})
		if err != nil {
			unsure++
			continue
		}
		counted++
		acknowledged[job] = value
	}
	if counted < 590 {
		t.Errorf("only %d of 600 writes were acknowledged: the client did not go on", counted)
	}
	for _, address := range peers {
		own := redis.NewClient(&redis.Options{Addr: address})
		defer own.Close()
		lima.eventually("has what "+address+" is to have", func() bool {
			n, err := own.Get(ctx, "count").Int()
			if err != nil || n < counted || n > counted+unsure {
				return false
			}
			jobs, err := own.HGetAll(ctx, "jobs").Result()
			if err != nil {
				return false
			}
			for job, value := range acknowledged {
				if jobs[job] != value {
					return false
				}
			}
			list, err := own.LLen(ctx, "queue").Result()
			due, err2 := own.ZCard(ctx, "due").Result()
			return err == nil && err2 == nil && int(list) == n && int(due) == n && len(jobs) == n
		})
	}
}
