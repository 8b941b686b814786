package measure

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// server serves one request at a time, each for a time that it is told, and stands still for a
// while.
type server struct {
	turn         chan struct{} // no mutex: synctest's clock does not go on while one is waited for
	each         func() time.Duration
	from, stalls time.Duration // after it was begun; for how long
	began        time.Time
}

func (s *server) serve() {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if at := time.Since(s.began); s.stalls > 0 && at >= s.from && at < s.from+s.stalls {
		pause(s.from + s.stalls - at)
	}
	pause(s.each())
}

// pause waits in the time of synctest.
func pause(d time.Duration) { <-time.After(d) }

func always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

func TestAServerThatStandsStillForASecondShowsInTheSlowestThousandth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{turn: make(chan struct{}, 1), each: always(100 * time.Microsecond), from: 3 * time.Second, stalls: time.Second, began: time.Now()}
		var closed Latencies // what one client sees that waits for each answer
		o, err := Open{Rate: 200, For: 20 * time.Second, Clients: 4, sleep: pause,
			Do: func(context.Context, int, int) error { s.serve(); return nil },
		}.Run(context.Background())
		if err != nil || o.Failed+o.Left != 0 || o.Latency.Count() != 4000 {
			t.Fatalf("%d counted, %d failed, %d left, %v", o.Latency.Count(), o.Failed, o.Left, err)
		}
		if got := o.Latency.Quantile(0.999); got < 950*time.Millisecond || got > 1050*time.Millisecond {
			t.Errorf("p99.9 is %v: the second is not there", got)
		}
		if got := o.Latency.Quantile(0.96); got < 100*time.Millisecond {
			t.Errorf("p96 is %v: a twentieth of all waited", got)
		}
		if got := o.Latency.Quantile(0.5); got > time.Millisecond {
			t.Errorf("the median is %v", got)
		}
		s.began = time.Now()
		for range 4000 {
			sent := time.Now()
			s.serve()
			closed.Observe(time.Since(sent))
			pause(5 * time.Millisecond)
		}
		if got := closed.Quantile(0.999); got > 10*time.Millisecond {
			t.Errorf("a closed loop sees %v: then an open one would not be needed", got)
		}
	})
}

func TestWhatAServerCannotTakeIsNotLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{turn: make(chan struct{}, 1), each: always(time.Second), began: time.Now()}
		o, err := Open{Rate: 100, For: time.Second, Clients: 2, sleep: pause,
			Do: func(context.Context, int, int) error { s.serve(); return nil },
		}.Run(context.Background())
		if err != nil || o.Latency.Count() != 100 || o.Left < 80 {
			t.Fatalf("%d counted, %d left, %v", o.Latency.Count(), o.Left, err)
		}
		if got := o.Latency.Quantile(0.5); got < 9*time.Second {
			t.Errorf("the median is %v", got)
		}
	})
}

func TestFailuresAreCountedAndNotTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		o, err := Open{Rate: 100, For: time.Second, Clients: 2, sleep: pause,
			Do: func(_ context.Context, _, n int) error {
				if n%10 == 0 {
					return broken
				}
				return nil
			},
		}.Run(context.Background())
		if err != nil || o.Failed != 10 || !errors.Is(o.First, broken) || o.Latency.Count() != 90 {
			t.Errorf("%d failed (%v), %d timed, %v", o.Failed, o.First, o.Latency.Count(), err)
		}
	})
}

// One client is not enough for operations that wait until they are given up: those that no client is
// free for are given up as early as the others.
func TestAnOperationThatIsNotAnsweredIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, clients := range []int{50, 1} {
			began := time.Now()
			var late atomic.Int64
			o, err := Open{Rate: 100, For: time.Second, Clients: clients, Deadline: 300 * time.Millisecond, sleep: pause,
				Do: func(ctx context.Context, _, n int) error {
					if clients > 1 && n%2 == 0 {
						return nil
					}
					<-ctx.Done()
					if time.Since(began) != time.Duration(n)*10*time.Millisecond+300*time.Millisecond {
						late.Add(1)
					}
					return ctx.Err()
				}}.Run(context.Background())
			want := int64(100)
			if clients > 1 {
				want = 50
			}
			if err != nil || o.Failed != want || o.Left != 0 || late.Load() != 0 || o.Latency.Count() != 100-want {
				t.Errorf("%d clients: %d were given up, %d of them late, %v", clients, o.Failed, late.Load(), err)
			}
		}
	})
}

func TestAnOpenLoopEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Open{Rate: 1, For: 24 * time.Hour, Clients: 1,
		Do: func(context.Context, int, int) error { cancel(); return nil },
	}.Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

// What a join is measured by ends with it. A server that has stood still since half a second before
// then is seen by all that wait.
func TestWhatStillWaitsAtTheEndIsNotLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		o, err := Open{Rate: 500, For: time.Hour, Clients: 1, sleep: func(d time.Duration) { pause(min(d, 10*time.Millisecond)) },
			Do: func(ctx context.Context, _, _ int) error {
				if time.Since(began) < 500*time.Millisecond {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}}.Run(ctx)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if got := o.Latency.Quantile(0.99); got < 450*time.Millisecond {
			t.Errorf("p99 is %v: half of all waited", got)
		}
	})
}

// twoServers measures the rates of two servers in turn, on a machine that slows down and speeds up.
func twoServers(t *testing.T, rounds int, one, other time.Duration, seed uint64) (
	rates [2][]float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		chance := rand.New(rand.NewPCG(seed, 2))
		load := 1.0
		err := InTurn(rounds, 2, func(_, system int) error {
			if load *= 0.8 + 0.5*chance.Float64(); load > 4 || load < 0.5 {
				load = 1
			}
			noise := func() time.Duration {
				d := [2]time.Duration{one, other}[system]
				return time.Duration(float64(d) * (0.9 + 0.2*chance.Float64()) * (1 + (load-1)/20))
			}
			s := &server{turn: make(chan struct{}, 1), each: noise, began: time.Now()}
			began := time.Now()
			for range 200 {
				s.serve()
			}
			rates[system] = append(rates[system], 200/time.Since(began).Seconds())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	return rates
}

func TestAnIdenticalPairHasARatioOfOneWithinItsSpread(t *testing.T) {
	outside := 0
	for seed := range uint64(40) {
		rates := twoServers(t, 10, time.Millisecond, time.Millisecond, seed)
		r := Ratio(rates[0], rates[1])
		if math.Abs(r.Value-1) > 0.03 {
			t.Errorf("seed %d: %+v", seed, r)
		}
		if !r.Holds(1) {
			outside++
		}
	}
	if outside > 6 { // 2 of 40 are expected
		t.Errorf("%d of 40 identical pairs are said to differ", outside)
	}
}

// Three rounds are what most scenarios have.
func TestFewRoundsOfAnIdenticalPairAreAsRarelySaidToDiffer(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 1))
	for _, rounds := range []int{3, 5, 10} {
		const pairs = 4000
		outside := 0
		for range pairs {
			ours, theirs := make([]float64, rounds), make([]float64, rounds)
			for i := range rounds {
				ours[i], theirs[i] = math.Exp(0.1*chance.NormFloat64()), math.Exp(0.1*chance.NormFloat64())
			}
			if r := Ratio(ours, theirs); !r.Holds(1) {
				outside++
			}
		}
		if outside > pairs*7/100 { // 5 of 100 are expected
			t.Errorf("of %d rounds: %d of %d identical pairs are said to differ", rounds, outside, pairs)
		}
	}
}

func TestASlowdownOfAFifthIsFound(t *testing.T) {
	for seed := range uint64(40) {
		rates := twoServers(t, 10, time.Millisecond, 1200*time.Microsecond, seed)
		r := Ratio(rates[1], rates[0])
		if r.High >= 0.95 || math.Abs(r.Value-1/1.2) > 0.03 {
			t.Errorf("seed %d: %+v", seed, r)
		}
	}
}

// Student's interval of three rounds, as scenarios have, is wide: 2.5 standard deviations to
// either side. So they find a fifth while the quotients of rounds differ by a twentieth or so,
// and seldom once they differ by a fifth themselves.
func TestWhatThreeRoundsCanSee(t *testing.T) {
	chance := rand.New(rand.NewPCG(2, 2))
	for _, c := range []struct{ noise, least, most float64 }{{0.02, 0.99, 1}, {0.05, 0.7, 0.95},
		{0.2, 0, 0.2}} {
		const pairs = 4000
		found := 0.0
		for range pairs {
			ours, theirs := make([]float64, 3), make([]float64, 3)
			for i := range ours {
				ours[i], theirs[i] = math.Exp(c.noise*chance.NormFloat64())/1.2, 1
			}
			if r := Ratio(ours, theirs); r.High < 1 {
				found += 1.0 / pairs
			}
		}
		t.Logf("quotients that differ by %v: found in %.0f%%", c.noise, 100*found)
		if found < c.least || found > c.most {
			t.Errorf("quotients that differ by %v: found in %.2f, want %v to %v", c.noise, found, c.least,
				c.most)
		}
	}
}

func TestThreeRoundsFindASlowdownOfAFifth(t *testing.T) {
	found := 0
	for seed := range uint64(40) {
		rates := twoServers(t, 3, time.Millisecond, 1200*time.Microsecond, seed)
		if r := Ratio(rates[1], rates[0]); r.High < 1 {
			found++
		}
	}
	if found < 38 {
		t.Errorf("only %d of 40 slowdowns are found", found)
	}
}

func TestEachIsFirstInSomeRound(t *testing.T) {
	var order []int
	_ = InTurn(3, 3, func(_, system int) error { order = append(order, system); return nil })
	if want := []int{0, 1, 2, 1, 2, 0, 2, 0, 1}; !slices.Equal(order, want) {
		t.Errorf("the order is %v", order)
	}
}

func TestTheMedianIsInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 100, 2}, 3},
	} {
		before := slices.Clone(c.values)
		if got := Median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("Median has put %v in another order", before)
		}
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
}

// A machine that is slow for a round is so for both: the quotient of the medians would be 1 here.
func TestQuotientsAreOfTheSameRound(t *testing.T) {
	ours, theirs := []float64{10, 40, 50}, []float64{20, 80, 40}
	if got := Quotient(ours, theirs); got != 0.5 {
		t.Errorf("quotient is %v, want 0.5", got)
	}
	if got := Quotient([]float64{1, 6}, []float64{0, 2}); got != 3 {
		t.Errorf("with a round in which nothing was measured it is %v, want 3", got)
	}
}

func TestTheSpreadIsThatOfTheRounds(t *testing.T) {
	if got := Spread([]float64{2, 1, 3}); got.Value != 2 || got.Low > 1 || got.High < 3 {
		t.Errorf("of three it is %v", got)
	}
	if got := Spread([]float64{3, 3, 3}); got != (Interval{3, 3, 3}) {
		t.Errorf("of three that are the same it is %v", got)
	}
	many := make([]float64, 101)
	for i := range many {
		many[i] = float64(i)
	}
	if got := Spread(many); got.Low < 30 || got.High > 70 || !got.Holds(50) {
		t.Errorf("of a hundred it is %v", got)
	}
}
