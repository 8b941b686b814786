package bounds

import (
	"context"
	"fmt"

	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

// limiter is a limit of rates, as applications write it.
const limiter = "local n=redis.call('incr',KEYS[1]) if n==1 then redis.call('expire',KEYS[1],ARGV[2]) end " +
	"return n<=tonumber(ARGV[1]) and 1 or 0"

// typed are what redis-benchmark runs for the types that plain and pipelined leave out. Of several
// tests the last is measured: it takes what the one before gave.
var typed = []struct {
	what string
	test []string
}{
	{"ZADD", []string{"zadd"}},
	{"LPUSH", []string{"lpush"}},
	{"RPOP", []string{"lpush,rpop"}},
	{"LRANGE of 100", []string{"lrange_100"}},
	{"MSET of 10", []string{"mset"}},
	{"SPOP", []string{"sadd,spop"}},
	{"EVAL of a rate limiter", []string{"eval", limiter, "1", "rate:__rand_int__", "100", "60"}},
}

func types(ctx context.Context, l *bench) ([]figure, error) {
	return typesBeside(ctx, l, 1, atLeast(0.64, 0.9))
}

func typesPipelined(ctx context.Context, l *bench) ([]figure, error) {
	return typesBeside(ctx, l, 16, atLeast(0.4, 0.6))
}

// typesBeside measures rates, and the slowest hundredth.
func typesBeside(ctx context.Context, l *bench, pipeline int, limit bound) (found []figure, err error) {
	p, err := newPair(ctx, l)
	if err != nil {
		return nil, err
	}
	for _, t := range typed {
		keys := l.warm
		if t.what == "SPOP" {
			keys = 100 * l.requests // else nearly all members come twice, and most pops find nothing
		}
		ours, theirs, err := p.compare(ctx, pipeline, l.requests, keys, t.test...)
		if err != nil {
			return found, err
		}
		what := fmt.Sprintf("%s -P %d", t.what, pipeline)
		found = append(found, figure{
			what: what + " × redis-server", rounds: measure.Ratio(rates(ours), rates(theirs)),
			bound: limit, note: bothRates(ours, theirs),
		}, figure{
			what:   closedP99 + " of " + what + " × redis-server",
			rounds: measure.Ratio(p99s(ours), p99s(theirs)), bound: atMost(3, 2),
			note: fmt.Sprintf("%s and %s ms", report.Number(measure.Median(p99s(ours))), report.Number(measure.Median(p99s(theirs)))),
		})
	}
	return found, nil
}
