package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/report"
)

// soaked is what one look at the daemons saw, of all of them together.
type soaked struct {
	at                                        float64 // part of the whole
	rate, held, heap, goroutines, files, disk float64
}

func soak(ctx context.Context, b *bench) error {
	b.System("last quarter", b.Version, "three daemons", everySecond)
	b.System("first quarter", b.Version, "the same daemons, before", everySecond)
	lasts := size(b, 16*time.Second, 5*time.Minute)
	if b.lasts > 0 {
		lasts = b.lasts
	}
	b.Setting("%v of 12 clients that read and write strings, counters, sets and hashes of 2,000 "+
		"keys at three "+
		"peers; in each twelfth a peer is killed and started again, or stands still for a second, under this load", lasts)
	b.Note("The ratio is the last quarter to the first: what is not 1 grows or wears out. Each " +
		"look is a round, and as they are of one run their intervals say less than those of runs.")
	all, err := b.Cluster(ctx, "one", "two", "three")
	if err != nil {
		return err
	}
	s := &soaking{b: b, all: all, lasts: lasts}
	defer s.pause()
	return s.run(ctx)
}

// soaking is a soak that runs.
type soaking struct {
	b     *bench
	all   []*lab.Daemon
	lasts time.Duration
	done  atomic.Int64
	looks []soaked

	stop    context.CancelFunc
	clients sync.WaitGroup
}

const soakLooks = 24

func (s *soaking) run(ctx context.Context) error {
	chance := rand.New(rand.NewPCG(1, 3))
	var last int64
	s.resume(ctx)
	began := time.Now()
	for i := range soakLooks {
		ends := time.Now().Add(s.lasts / soakLooks)
		if i%2 == 1 { // of a quarter's three faults the one in the middle is that a peer stands still
			if err := s.fault(ctx, s.all[chance.IntN(len(s.all))], i%6 != 3); err != nil {
				return err
			}
		}
		if err := lab.Pause(ctx, time.Until(ends)); err != nil {
			return err
		}
		done, now := s.done.Load(), time.Now()
		look := soaked{at: float64(i+1) / soakLooks, rate: float64(done-last) / now.Sub(began).Seconds()}
		last, began = done, now
		if err := s.look(ctx, &look); err != nil {
			return err
		}
		s.looks = append(s.looks, look)
		s.b.show(look.at, fmt.Sprintf("look %d of %d", i+1, soakLooks))
	}
	s.pause()
	if err := s.b.Agree(ctx, s.all...); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	s.record()
	return nil
}

// resume has clients work until they are paused. Who loses its connection makes another, as soon as it can.
func (s *soaking) resume(ctx context.Context) {
	working, stop := context.WithCancel(ctx)
	s.stop = stop
	for i := range 12 {
		addr := s.all[i%len(s.all)].Redis
		s.clients.Go(func() {
			chance := rand.New(rand.NewPCG(uint64(i), 0))
			for working.Err() == nil {
				s.client(working, addr, chance)
				_ = lab.Pause(working, 10*time.Millisecond) // what ends it ends the loop
			}
		})
	}
}

// client works until its connection ends.
func (s *soaking) client(ctx context.Context, addr string, chance *rand.Rand) {
	c, err := lab.Dial(ctx, addr)
	if err != nil {
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		if _, err := c.Do(soakCommand(chance)...); err != nil {
			return
		}
		s.done.Add(1)
	}
}

func soakCommand(chance *rand.Rand) []string {
	n := fmt.Sprint(chance.IntN(2000))
	switch chance.IntN(6) {
	case 0:
		return []string{"SET", "string:" + n, strings.Repeat("v", 64)}
	case 1:
		return []string{"INCR", "counter:" + n}
	case 2:
		return []string{"SADD", "set:" + n, fmt.Sprint(chance.IntN(20))}
	case 3:
		return []string{"HSET", "hash:" + n, fmt.Sprint(chance.IntN(20)), "value"}
	case 4:
		return []string{"DEL", "string:" + n}
	}
	return []string{"GET", "string:" + n}
}

func (s *soaking) pause() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.clients.Wait()
	s.stop = nil
}

func (s *soaking) fault(ctx context.Context, d *lab.Daemon, kill bool) error {
	if kill {
		d.Kill()
		return d.Begin(ctx, d.Name)
	}
	if err := d.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := lab.Pause(ctx, time.Second)
	_ = d.Signal(syscall.SIGCONT)
	return err
}

func (s *soaking) look(ctx context.Context, l *soaked) error {
	for _, d := range s.all {
		_, anonymous, err := d.Resident()
		if err != nil {
			return err
		}
		l.held += float64(anonymous) / 1e6
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
		if err != nil {
			return err
		}
		l.files += float64(len(entries))
		metrics, err := d.Metrics(ctx)
		if err != nil {
			return err
		}
		l.heap += metrics["go_memstats_heap_inuse_bytes"] / 1e6
		l.goroutines += metrics["go_goroutines"]
		bytes, err := sizeOf(d.Dir)
		if err != nil {
			return err
		}
		l.disk += float64(bytes) / 1e6
	}
	return nil
}

func (s *soaking) record() {
	line := map[string]*report.Line{}
	names := []string{"operations a second", "memory, MB", "heap, MB", "goroutines", "open files", "disk, MB"}
	for _, name := range names {
		line[name] = &report.Line{System: name}
	}
	for i, l := range s.looks {
		values := []float64{l.rate, l.held, l.heap, l.goroutines, l.files, l.disk}
		quarter := ""
		switch {
		case i < soakLooks/4:
			quarter = "first quarter"
		case i >= soakLooks-soakLooks/4:
			quarter = "last quarter"
		}
		s.b.Round(i%(soakLooks/4)+1, soakLooks/4)
		for j, name := range names {
			line[name].X, line[name].Y = append(line[name].X, l.at*s.lasts.Seconds()), append(line[name].Y, values[j])
			if quarter == "" {
				continue
			}
			what, unit, _ := strings.Cut(name, ", ")
			if j == 0 {
				s.b.More(what, "all peers", quarter, values[j])
			} else {
				s.b.Less(what, strings.TrimSpace(unit+" of all peers"), quarter, values[j])
			}
		}
	}
	for _, name := range names {
		s.b.Charts = append(s.b.Charts, report.Chart{Name: strings.Fields(strings.ReplaceAll(name, ",", ""))[0],
			Title: name, XLabel: "seconds", YLabel: name, Lines: []report.Line{*line[name]}})
	}
}
