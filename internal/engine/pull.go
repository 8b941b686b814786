package engine

import (
	"errors"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/store"
)

// Pull is a repair of this replica from a neighbour whose log does not reach what is missing here. Its host opens a
// stream to the neighbour and carries questions and answers: the work in between is done by Go, beside the engine.
// Where the engine must be asked Go says so, and Take is called: the Pull is in a Ready again once it may go on, or is
// over.
type Pull struct {
	From   gossip.NeighbourID
	Over   bool               // it is
	Err    error              // why it had no effect; nil if it had
	Result antientropy.Result // what it did, once it is over

	gathering *antientropy.Gathering
	source    antientropy.Response // the answer with which that ended
	repair    *Repair
	puller    *antientropy.Puller
	fetched   bool // all that is missing is staged
}

// startPull begins a repair, unless one runs. The neighbour says again that it is needed.
func (e *Engine) startPull(from gossip.NeighbourID) {
	if e.pull != nil || e.Repairing() || !e.linked(from) || e.room != Roomy || e.damage != nil {
		return
	}
	e.pull = &Pull{From: from, gathering: antientropy.Gather(e.Vector())}
	e.ready.Pulls = append(e.ready.Pulls, e.pull)
}

// Start returns the first question.
func (p *Pull) Start() antientropy.Request { return p.gathering.Start() }

// Go takes an answer and returns the next question; asks is false if the engine is to be asked first, with Take. commit
// writes to the tree. After an error the engine must be told by Fail. It may be called by any goroutine.
func (p *Pull) Go(answer antientropy.Response, commit func(*store.Batch) error) (
	question antientropy.Request, asks bool, err error) {
	done := false
	if p.repair == nil {
		question, done, err = p.gathering.Handle(answer)
		p.source = answer
		return question, !done, err
	}
	p.repair.StageWith(commit)
	question, done, err = p.puller.Handle(answer)
	p.fetched = done
	return question, !done, err
}

// Resume is Go after Take.
func (p *Pull) Resume(commit func(*store.Batch) error) (question antientropy.Request, asks bool, err error) {
	answer := p.source
	answer.Context, answer.Heads = p.repair.Target()
	return p.Go(answer, commit)
}

// Progress returns what the repair has done so far. It may be called by whoever calls Go.
func (p *Pull) Progress() antientropy.Result {
	if p.puller == nil {
		return p.Result
	}
	return p.puller.Result()
}

// Take takes a pull on: the comparison begins, or what was fetched takes effect.
func (e *Engine) Take(p *Pull) {
	if e.pull != p {
		return
	}
	if p.fetched {
		e.Replica.begin(func() (done bool, err error) {
			if err := e.finish(p); err != nil {
				e.endPull(p, err)
			}
			return true, nil
		})
		return
	}
	if e.repaired > 0 { // a repair that was aborted may have gone on to stage something
		e.Replica.begin(e.dropStaged(e.repaired))
	}
	e.whenSettled(func(settled bool) {
		if e.pull != p {
			return
		}
		err := ErrBusy
		if settled {
			p.repair, err = e.BeginGathered(p.From, p.gathering, p.source.Context, p.source.Heads)
		}
		if err != nil {
			e.endPull(p, err)
			return
		}
		p.puller = antientropy.NewPuller(p.repair.Local, p.repair)
		p.puller.Start()
		e.ready.Pulls = append(e.ready.Pulls, p)
	})
}

// Fail ends a pull without effect, because of an error of Go or of its stream.
func (e *Engine) Fail(p *Pull, err error) {
	if e.pull != p {
		return
	}
	if p.repair != nil {
		e.abortRepair(p.repair)
	}
	e.endPull(p, err)
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, antientropy.ErrDamaged) {
		e.verify(ProofEvery) // a record here that cannot be compared would stop every repair
	}
}

// finish begins a task that takes a repair over; neighbours are told, and what they lack is looked up anew. If the
// source has come into quarantine since, the repair ends without effect: what is here would be taken for removed there.
func (e *Engine) finish(p *Pull) error {
	if e.Quarantined(p.From) {
		e.abortRepair(p.repair)
		return ErrForked
	}
	parts, err := e.takeRepair(p.repair)
	if err != nil {
		return err
	}
	e.Replica.then(append(parts, func() (done bool, err error) {
		e.Rebase()
		e.dirty, e.ready.Jumped = true, true
		e.tell(Notice{Kind: Repaired, From: p.From})
		e.endPull(p, nil)
		return true, nil
	})...)
	return nil
}

func (e *Engine) endPull(p *Pull, err error) {
	e.pull = nil
	p.Over, p.Err = true, err
	p.Result = p.Progress()
	e.ready.Pulls = append(e.ready.Pulls, p)
}

// Pulling reports whether a repair was started and has not ended.
func (e *Engine) Pulling() bool { return e.pull != nil }

// Serve calls fn with the present moment for the repair of a neighbour, as soon as nothing is to be swept; or with
// ErrBusy if that takes too long, and ErrForked if the neighbour is in quarantine.
func (e *Engine) Serve(to gossip.NeighbourID, fn func(*Pinned, error)) {
	e.whenSettled(func(settled bool) {
		switch {
		case e.Quarantined(to):
			fn(nil, ErrForked)
		case !settled:
			fn(nil, ErrBusy)
		default:
			fn(e.Pin())
		}
	})
}

// settleTime is how long something waits for a moment with nothing left to be swept. What is left then is swept
// without rests.
const settleTime = 250 * time.Millisecond

// settling is something that waits for such a moment.
type settling struct {
	until time.Time
	fn    func(settled bool)
}

// whenSettled calls fn at such a moment, or after a while without one.
func (e *Engine) whenSettled(fn func(settled bool)) {
	e.settling = append(e.settling, settling{e.now.Add(settleTime), fn})
}

// settle does what waited for nothing to be swept.
func (e *Engine) settle() {
	e.sweeps.hurried = (e.sweeps.hurried || len(e.settling) > 0) && e.Clears() > 0
	settled := e.Clears() == 0 && !e.Busy()
	all := e.settling
	e.settling = nil
	for _, s := range all {
		if settled || !e.now.Before(s.until) {
			s.fn(settled)
		} else {
			e.settling = append(e.settling, s)
		}
	}
}

// BeginGathered is BeginRepairFrom with what was gathered. It returns ErrBusy if the replica was discarded meanwhile: it has
// no longer what the source left out.
func (e *Engine) BeginGathered(id gossip.NeighbourID, g *antientropy.Gathering, target crdt.VersionVector,
	heads delta.Heads) (*Repair, error) {
	if e.Lacks(g.Held()) {
		return nil, ErrBusy
	}
	return e.BeginRepairFrom(id, target, heads, g.Tables()...)
}

// BeginRepairFrom is Replica.BeginRepair with a neighbour's context. If it returns ErrForked the neighbour is in
// quarantine.
func (e *Engine) BeginRepairFrom(id gossip.NeighbourID, target crdt.VersionVector, heads delta.Heads,
	bases ...delta.Table) (*Repair, error) {
	if e.Quarantined(id) {
		return nil, ErrForked
	}
	p, err := e.BeginRepair(target, heads, bases...)
	switch {
	case err == nil:
		p.source = id
	case errors.Is(err, ErrForked):
		e.Estrange(id, e.Replica.Heard(target, heads).Forked...)
	}
	return p, err
}
