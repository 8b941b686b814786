package bounds

import (
	"context"
	"fmt"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/report"
)

// deletion is what adding and deleting some sets on two linked peers took, in time and in time of
// their processors.
type deletion struct {
	sets                         int
	added, answered, gone, swept time.Duration
	addHere, addThere            time.Duration // until both have them
	deleteHere, deleteThere      time.Duration // until both have swept them
}

// deleting deletes more and more sets of 20 in one pipeline. Twice as many may take twice as long,
// in time and work, on both peers; the bound leaves room for noise.
func deleting(ctx context.Context, l *bench) (found []figure, err error) {
	var last deletion
	for _, sets := range l.deleted {
		d, err := deleteSets(ctx, l, sets)
		l.End() // each size begins with empty peers
		if err != nil {
			return found, fmt.Errorf("%d sets: %w", sets, err)
		}
		found = append(found, d.figures(last)...)
		last = d
	}
	return found, nil
}

func (d deletion) figures(last deletion) (found []figure) {
	for _, part := range []struct {
		what      string
		now, then time.Duration
	}{
		{"added at one", d.added, last.added},
		{"DEL answered", d.answered, last.answered},
		{"gone at the other", d.gone, last.gone},
		{"swept at both", d.swept, last.swept},
		{"CPU of adding, here", d.addHere, last.addHere},
		{"CPU of adding, there", d.addThere, last.addThere},
		{"CPU of DEL, here", d.deleteHere, last.deleteHere},
		{"CPU of DEL, there", d.deleteThere, last.deleteThere},
	} {
		f := figure{
			what: fmt.Sprintf("%s sets of 20: %s", report.Count(d.sets), part.what),
			note: fmt.Sprintf("%s s, %s µs a set", report.Number(part.now.Seconds()),
				report.Number(float64(part.now.Microseconds())/float64(d.sets))),
		}
		if last.sets > 0 && part.then > 0 {
			times := float64(d.sets) / float64(last.sets)
			f.what += fmt.Sprintf(", × %s sets", report.Count(last.sets))
			f.value, f.bound = part.now.Seconds()/part.then.Seconds(), atMost(1.25*times, 0)
			f.note += fmt.Sprintf("; %s is linear", report.Number(times))
		} else {
			f.value, f.unit = part.now.Seconds(), " s"
		}
		found = append(found, f)
	}
	return found
}

func deleteSets(ctx context.Context, l *bench, sets int) (d deletion, err error) {
	ctx, stop := context.WithTimeout(ctx, l.Patience)
	defer stop()
	d.sets = sets
	both, err := l.Cluster(ctx, "here", "there")
	if err != nil {
		return d, err
	}
	here, there := both[0], both[1]
	// timed has something done, and both agree; it measures how much that took each.
	timed := func(ofHere, ofThere, took *time.Duration, do func() error) (err error) {
		began := time.Now()
		*ofHere, err = here.Used(func() error {
			*ofThere, err = there.Used(func() error {
				if err := do(); err != nil {
					return err
				}
				return l.Agree(ctx, both...)
			})
			return err
		})
		*took = time.Since(began)
		return err
	}
	var agreed time.Duration
	err = timed(&d.addHere, &d.addThere, &agreed, func() error {
		began := time.Now()
		err := lab.Stream(ctx, here.Redis, sets, addSet)
		d.added = time.Since(began)
		return err
	})
	if err != nil {
		return d, err
	}
	err = timed(&d.deleteHere, &d.deleteThere, &d.swept, func() error {
		began := time.Now()
		err := lab.Stream(ctx, here.Redis, sets, func(b []byte, i int) []byte {
			return lab.AppendCommand(b, "DEL", fmt.Sprint("set:", i))
		})
		d.answered = time.Since(began)
		if err != nil {
			return err
		}
		err = lab.Await(ctx, l.Patience, "the other has no keys", func() bool {
			size, err := lab.Ask(ctx, there.Redis, "DBSIZE")
			return err == nil && size == "0"
		})
		d.gone = time.Since(began)
		return err
	})
	return d, err
}

// addSet appends the command that makes the i-th set of 20.
func addSet(b []byte, i int) []byte {
	words := []string{"SADD", fmt.Sprint("set:", i)}
	for m := range 20 {
		words = append(words, fmt.Sprint("member:", m))
	}
	return lab.AppendCommand(b, words...)
}
