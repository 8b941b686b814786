// Package measure is the harness' arithmetic: open loops whose latencies are corrected for
// coordinated omission, rounds in turn, and ratios pair by pair with their spread.
//
// A figure is the median of its rounds, with Student's interval. Two systems are compared by the
// quotients of rounds that were measured one right after the other. If that interval has 1 in it,
// the run does not say which is faster.
//
// The tests plant what must be found: a server that stands still for a second shows in p99.9, an
// identical pair has a ratio of 1 within its spread, and one that is slower by a fifth is found.
package measure
