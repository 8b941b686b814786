package measure

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Open is an open loop: operations are due at a rate, whether or not those before them were
// answered, as those of many independent users are. Each is timed from the moment it was due. So a
// server that stands still for a second is seen by all that would have asked it in that second. A
// closed loop, which waits for the answer, sees it once for each client: the coordinated omission
// that Tene described.
type Open struct {
	Rate    float64       // operations a second
	For     time.Duration // how long operations are due
	Clients int           // how many may be under way at once; those beyond wait, and their time counts
	// Do does the n-th operation as one of the clients. It is called by one goroutine for each
	// client.
	Do func(ctx context.Context, client, n int) error

	// Deadline is when an operation is given up, counted from when it was due: Do's context ends
	// then, perhaps before Do is called. 0 is never.
	Deadline time.Duration

	sleep func(time.Duration) // in tests
}

// grace is how long operations that were due may take after the last one was. What has not been
// begun by then counts as having taken until then: too little, but it is not left out.
const grace = 10 * time.Second

// Offered is how an open loop went.
type Offered struct {
	Latency Latencies
	Failed  int64 // operations that failed; they are not in Latency
	Left    int64 // that were not begun before the grace had passed
	First   error // why the first one failed
}

// maxQueue is how many operations wait for a client before who says what is due waits as well.
// Their times count all the same from when they were due.
const maxQueue = 1 << 18

type due struct {
	n  int
	at time.Time
}

// Run runs the loop. If ctx ends it returns its error, with what was measured until then: what was due
// and not answered counts as having taken until then, too little, but it is not left out.
func (o Open) Run(ctx context.Context) (Offered, error) {
	total := int(o.Rate * o.For.Seconds())
	if total < 1 || o.Clients < 1 {
		return Offered{}, fmt.Errorf("an open loop of %d operations and %d clients", total, o.Clients)
	}
	if o.sleep == nil {
		o.sleep = sleepExactly
	}
	queue := make(chan due, min(total, maxQueue))
	began := time.Now()
	end := began.Add(o.For + grace)
	results := make([]Offered, o.Clients)
	var all sync.WaitGroup
	for client := range o.Clients {
		all.Go(func() { o.serve(ctx, client, queue, end, &results[client]) })
	}
	for n := range total {
		at := began.Add(time.Duration(float64(n) / o.Rate * float64(time.Second)))
		for wait := time.Until(at); wait > 0 && ctx.Err() == nil; wait = time.Until(at) {
			o.sleep(wait)
		}
		if ctx.Err() != nil {
			break
		}
		select {
		case queue <- due{n, at}:
		case <-ctx.Done():
		}
	}
	close(queue)
	all.Wait()
	sum := Offered{}
	for i := range results {
		r := &results[i]
		sum.Latency.Add(&r.Latency)
		sum.Failed, sum.Left = sum.Failed+r.Failed, sum.Left+r.Left
		if sum.First == nil {
			sum.First = r.First
		}
	}
	return sum, ctx.Err()
}

func (o Open) serve(ctx context.Context, client int, queue <-chan due, end time.Time, r *Offered) {
	for next := range queue {
		if ctx.Err() != nil {
			r.Left++
			r.Latency.Observe(time.Since(next.at))
			continue
		}
		if !time.Now().Before(end) {
			r.Left++
			r.Latency.Observe(end.Sub(next.at))
			continue
		}
		if err := o.do(ctx, client, next); err != nil {
			if ctx.Err() != nil {
				r.Left++
				r.Latency.Observe(time.Since(next.at))
				continue
			}
			r.Failed++
			if r.First == nil {
				r.First = err
			}
			continue
		}
		r.Latency.Observe(time.Since(next.at))
	}
}

func (o Open) do(ctx context.Context, client int, next due) error {
	if o.Deadline > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, next.at.Add(o.Deadline))
		defer stop()
	}
	return o.Do(ctx, client, next.n)
}

// sleepExactly sleeps to some 60 µs: the runtime's own timers are as coarse as a millisecond when
// nothing else runs.
func sleepExactly(d time.Duration) {
	if d > 10*time.Millisecond {
		<-time.After(min(d-5*time.Millisecond, time.Second/10)) // the caller goes on with what is left
		return
	}
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // interrupted by a signal, it is a little early
}
