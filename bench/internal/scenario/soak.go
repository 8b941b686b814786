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

// soaked is what one look at the daemons saw.
type soaked struct {
	at        float64 // part of the whole
	rate      float64 // operations a second, at all of them together
	all, kept holding // of all of them together, and of the one that is never killed
}

// holding is what a daemon holds.
type holding struct{ held, heap, goroutines, files, disk float64 }

func (h *holding) add(o holding) {
	h.held, h.heap, h.goroutines = h.held+o.held, h.heap+o.heap, h.goroutines+o.goroutines
	h.files, h.disk = h.files+o.files, h.disk+o.disk
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
		"peers; in each twelfth a peer is killed and started again, or stands still for a second, under this load; %s is never killed",
		lasts, soakKept)
	b.Note("The ratio is the last quarter to the first: what is not 1 grows or wears out. Each " +
		"look is a round, and as they are of one run their intervals say less than those of runs.")
	b.Note("A peer that is started again holds little, and has forgotten what grew slowly: rows of %s, which is never "+
		"killed, are those in which it shows.", soakKept)
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

// soakKept is how rows name the peer that is never killed, the first.
const soakKept = "peer one"

// soakVictim chooses the peer that has a fault.
func soakVictim(chance *rand.Rand, peers int, kill bool) int {
	if kill {
		return 1 + chance.IntN(peers-1)
	}
	return chance.IntN(peers)
}

func (s *soaking) run(ctx context.Context) error {
	chance := rand.New(rand.NewPCG(1, 3))
	var last int64
	s.resume(ctx)
	began := time.Now()
	for i := range soakLooks {
		ends := time.Now().Add(s.lasts / soakLooks)
		if i%2 == 1 { // of a quarter's three faults the one in the middle is that a peer stands still
			kill := i%6 != 3
			if err := s.fault(ctx, s.all[soakVictim(chance, len(s.all), kill)], kill); err != nil {
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
	for i, d := range s.all {
		h, err := lookAt(ctx, d)
		if err != nil {
			return err
		}
		if i == 0 {
			l.kept = h
		}
		l.all.add(h)
	}
	return nil
}

func lookAt(ctx context.Context, d *lab.Daemon) (h holding, err error) {
	_, anonymous, err := d.Resident()
	if err != nil {
		return h, err
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	if err != nil {
		return h, err
	}
	metrics, err := d.Metrics(ctx)
	if err != nil {
		return h, err
	}
	bytes, err := sizeOf(d.Dir)
	return holding{held: float64(anonymous) / 1e6, heap: metrics["go_memstats_heap_inuse_bytes"] / 1e6,
		goroutines: metrics["go_goroutines"], files: float64(len(entries)), disk: float64(bytes) / 1e6}, err
}

// record records the looks of the first quarter and of the last, and draws all.
func (s *soaking) record() {
	for _, q := range []struct {
		what, unit string
		of         func(holding) float64
	}{
		{"operations a second", "", nil},
		{"memory", "MB", func(h holding) float64 { return h.held }},
		{"heap", "MB", func(h holding) float64 { return h.heap }},
		{"goroutines", "", func(h holding) float64 { return h.goroutines }},
		{"open files", "", func(h holding) float64 { return h.files }},
		{"disk", "MB", func(h holding) float64 { return h.disk }},
	} {
		name := q.what
		if q.unit != "" {
			name += ", " + q.unit
		}
		all, kept := report.Line{System: "all peers"}, report.Line{System: soakKept}
		for i, l := range s.looks {
			x := l.at * s.lasts.Seconds()
			quarter := quarterOf(i)
			s.b.Round(i%(soakLooks/4)+1, soakLooks/4)
			if q.of == nil {
				all.X, all.Y = append(all.X, x), append(all.Y, l.rate)
				if quarter != "" {
					s.b.More(q.what, "all peers", quarter, l.rate)
				}
				continue
			}
			all.X, all.Y = append(all.X, x), append(all.Y, q.of(l.all))
			kept.X, kept.Y = append(kept.X, x), append(kept.Y, q.of(l.kept))
			if quarter != "" {
				s.b.Less(q.what, strings.TrimSpace(q.unit+" of all peers"), quarter, q.of(l.all))
				s.b.Less(q.what, strings.TrimSpace(q.unit+" of "+soakKept), quarter, q.of(l.kept))
			}
		}
		chart := report.Chart{Name: strings.Fields(q.what)[0], Title: name, XLabel: "seconds", YLabel: name,
			Lines: []report.Line{all}}
		if q.of != nil {
			chart.Lines = append(chart.Lines, kept)
		}
		s.b.Charts = append(s.b.Charts, chart)
	}
}

// quarterOf is the quarter that a look is compared in, "" if it is in none.
func quarterOf(look int) string {
	switch {
	case look < soakLooks/4:
		return "first quarter"
	case look >= soakLooks-soakLooks/4:
		return "last quarter"
	}
	return ""
}
