package main

import (
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"time"

	"github.com/peerd/peerd/internal/sim"
)

// outcome is what became of one world.
type outcome struct {
	seed      uint64
	totals    sim.Totals
	violation error
	trace     hash.Hash64 // of its trace; nil if nobody asks for it
}

// runOf runs the world of a seed.
func runOf(seed uint64, hashes bool) outcome {
	got := outcome{seed: seed}
	var trace io.Writer
	if hashes {
		got.trace = fnv.New64a()
		trace = got.trace
	}
	got.totals, got.violation = sim.Run(seed, trace)
	return got
}

// runMany runs worlds, several at once, each in one goroutine. Violations are printed in the order
// of seeds, whichever world ended first.
func runMany(o options, out io.Writer) sim.Totals {
	began := time.Now()
	seeds := make(chan uint64)
	outcomes := make(chan outcome)
	stop := make(chan struct{})
	for range o.workers {
		go func() {
			for seed := range seeds {
				outcomes <- runOf(seed, o.hashes)
			}
		}()
	}
	handed := make(chan uint64, 1) // how many seeds were handed out, in the end
	go func() {
		n := uint64(0)
		defer func() { close(seeds); handed <- n }()
		for o.lasts == 0 && n < o.seeds || o.lasts > 0 && time.Since(began) < o.lasts {
			select {
			case seeds <- o.from + n:
				n++
			case <-stop:
				return
			}
		}
	}()
	return collect(o, out, outcomes, handed, stop)
}

// collect adds up outcomes until all that were begun have come.
func collect(o options, out io.Writer, outcomes <-chan outcome, handed <-chan uint64,
	stop chan<- struct{}) (total sim.Totals) {
	early := map[uint64]outcome{} // those that ended before an earlier seed's
	next, left, known, stopped := o.from, uint64(0), false, false
	for !known || next-o.from < left {
		select {
		case left = <-handed:
			known = true
		case got := <-outcomes:
			early[got.seed] = got
		}
		for got, ok := early[next]; ok; got, ok = early[next] {
			delete(early, next)
			next++
			if stopped {
				continue
			}
			total.Add(got.totals)
			report(out, got.seed, got.violation)
			if got.trace != nil {
				_, _ = fmt.Fprintf(out, "%d %016x\n", got.seed, got.trace.Sum64())
			}
			if got.violation != nil && o.first {
				stopped = true
				close(stop)
			}
		}
	}
	return total
}
