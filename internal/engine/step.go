package engine

import "github.com/peerd/peerd/internal/delta"

// A host takes the replica's work in steps, and looks at its timers, its links and whether it is to stop between two
// of them. A step ends when its budget is spent, or there is nothing left to do. It goes over its budget by what it
// did last, since a transaction is never split: so the largest one that is allowed is the worst step.

// stepWork is the budget of a step, in units of about a microsecond: some 5 ms on the machines that peerd is measured
// on (BenchmarkStep). Larger groups write a little more a second; smaller ones keep neighbours and fsyncs waiting for
// less long (BenchmarkPipelines in package peer).
const stepWork = 5000

// What things cost. An operation's share of the commit is part of its price: its writes, log record and fingerprints.
const (
	workTransaction = 4  // a transaction, or a delta that was looked at
	workOp          = 12 // an operation
	workCell        = 1  // a cell or summary that was looked at
	workMiss        = 8  // and had to be read from the store
	workRecord      = 4  // a record of the log that was read
	workCut         = 8  // or cut off
	bytesPerWork    = 256
)

// step is what the step under way has done.
type step struct {
	began   int // Replica.work at its beginning
	largest int // the work of its largest transaction
}

// spend counts work.
func (r *Replica) spend(work int) { r.work += work }

func workOf(bytes int) int { return bytes / bytesPerWork }

func workOfOp(o *delta.Op) int {
	return workOp + len(o.Removes) + workOf(len(o.Address)+len(o.Payload))
}

// BeginStep begins a step.
func (r *Replica) BeginStep() { r.turn = step{began: r.work} }

// Spent reports whether the step's budget is spent.
func (r *Replica) Spent() bool { return r.spentSince(r.turn.began) }

func (r *Replica) spentSince(began int) bool { return r.work-began >= r.cfg.StepWork }

// StepWork returns the work of the step so far, how much of it the largest transaction was, and the budget. A step
// never goes beyond the budget by more than that.
func (r *Replica) StepWork() (done, largest, budget int) {
	return r.work - r.turn.began, r.turn.largest, r.cfg.StepWork
}

// transacted notes a transaction, or something else that cannot be split, that began at a count of work.
func (r *Replica) transacted(began int) { r.turn.largest = max(r.turn.largest, r.work-began) }
