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
	"github.com/peerd/peerd/bench/internal/measure"
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
	lasts /= time.Duration(b.rounds)
	b.Setting("%d rounds of %v, each of three new peers and 12 clients that read and write strings, counters, sets and hashes of "+
		"2,000 keys; in each twelfth a peer is killed and started again, or stands still for a second, under this load; %s is never "+
		"killed", b.rounds, lasts, soakKept)
	b.Note("The ratio is the last quarter of a round to its first, of each the median of %d looks: what is not 1 grows or wears out.",
		soakLooks/4)
	b.Note("A peer that is started again holds little, and has forgotten what grew slowly: rows of %s, which is never "+
		"killed, are those in which it shows.", soakKept)
	var rounds [][]soaked
	err := b.inTurn(0, 1, "mixed load and faults", 1, func(round, _ int) error {
		defer b.End()
		all, err := b.Cluster(ctx, "one", "two", "three")
		if err != nil {
			return err
		}
		s := &soaking{b: b, all: all, lasts: lasts, round: round}
		defer s.pause()
		if err := s.run(ctx); err != nil {
			return err
		}
		rounds = append(rounds, s.looks)
		return nil
	})
	if err != nil {
		return err
	}
	b.soaked(lasts, rounds)
	return nil
}

// soaking is a round of a soak that runs.
type soaking struct {
	b     *bench
	all   []*lab.Daemon
	lasts time.Duration
	round int
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
	chance := rand.New(rand.NewPCG(uint64(s.round), 3))
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
		s.b.show((float64(s.round)+look.at)/float64(s.b.rounds), fmt.Sprintf("round %d of %d, look %d of %d", s.round+1, s.b.rounds,
			i+1, soakLooks))
	}
	s.pause()
	if err := s.b.Agree(ctx, s.all...); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
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

// soakFigures are what is recorded of looks: of all peers together, and, but for the operations, of the one
// that is never killed.
var soakFigures = []struct {
	what, unit string
	of         func(holding) float64 // nil: operations a second
}{
	{"operations a second", "", nil},
	{"memory", "MB", func(h holding) float64 { return h.held }},
	{"heap", "MB", func(h holding) float64 { return h.heap }},
	{"goroutines", "", func(h holding) float64 { return h.goroutines }},
	{"open files", "", func(h holding) float64 { return h.files }},
	{"disk", "MB", func(h holding) float64 { return h.disk }},
}

// soaked records the first quarter and the last of each round's looks, and draws all.
func (b *bench) soaked(lasts time.Duration, rounds [][]soaked) {
	defer b.Round(0, 0)
	for _, f := range soakFigures {
		name := f.what
		if f.unit != "" {
			name += ", " + f.unit
		}
		chart := report.Chart{Name: strings.Fields(f.what)[0], Title: name, XLabel: "seconds", YLabel: name}
		if f.of == nil {
			rate := func(l soaked) float64 { return l.rate }
			b.quarters(rounds, rate, func(quarter string, value float64) { b.More(f.what, "all peers", quarter, value) })
			chart.Lines = []report.Line{soakLine("all peers", lasts, rounds, rate)}
		} else {
			for _, of := range []struct {
				whose string
				pick  func(soaked) float64
			}{{"all peers", func(l soaked) float64 { return f.of(l.all) }}, {soakKept, func(l soaked) float64 { return f.of(l.kept) }}} {
				b.quarters(rounds, of.pick, func(quarter string, value float64) {
					b.Less(f.what, strings.TrimSpace(f.unit+" of "+of.whose), quarter, value)
				})
				chart.Lines = append(chart.Lines, soakLine(of.whose, lasts, rounds, of.pick))
			}
		}
		b.Charts = append(b.Charts, chart)
	}
}

// quarters gives the median of the last quarter and of the first, of each round.
func (b *bench) quarters(rounds [][]soaked, of func(soaked) float64, found func(quarter string, value float64)) {
	for i, looks := range rounds {
		values := make([]float64, len(looks))
		for j, l := range looks {
			values[j] = of(l)
		}
		b.Round(i+1, len(rounds))
		found("last quarter", measure.Median(values[soakLooks-soakLooks/4:]))
		found("first quarter", measure.Median(values[:soakLooks/4]))
	}
}

// soakLine has a point for each look, of all rounds.
func soakLine(name string, lasts time.Duration, rounds [][]soaked, of func(soaked) float64) report.Line {
	line := report.Line{System: name}
	for i := range soakLooks {
		var values []float64
		for _, looks := range rounds {
			values = append(values, of(looks[i]))
		}
		line.Point(rounds[0][i].at*lasts.Seconds(), measure.Spread(values))
	}
	return line
}
