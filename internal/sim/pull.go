package sim

import (
	"errors"
	"slices"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// pull carries a repair of one host from another, over a stream of its own.
type pull struct {
	*engine.Pull
	w                 *realm
	to, from          *host
	toEpoch, frmEpoch int
	pinned            *engine.Pinned // at the source
	asked             int
	over              bool
}

// goOn begins a repair, carries it on after the engine was asked, or takes note of its end.
func (h *host) goOn(of *engine.Pull) {
	p := h.pulls[of]
	switch {
	case of.Over:
		delete(h.pulls, of)
		h.noteRepair(of)
		if p != nil {
			p.end()
		}
	case of.Spoiled:
		if p != nil {
			p.failed()
		}
	case p != nil:
		p.takes(p.Resume(h.stage))
	default:
		source := h.linked(of.From)
		if source == nil {
			h.engine.Fail(of, errStream)
			h.wake()
			return
		}
		h.say("repairs from %s", of.From)
		p := &pull{Pull: of, w: h.w, to: h, from: source, toEpoch: h.epoch, frmEpoch: source.epoch}
		h.pulls[of] = p
		p.ask(of.Start())
	}
}

// stage writes what a repair found to the tree.
func (h *host) stage(b *store.Batch) error {
	if b == nil {
		return nil
	}
	return h.tree.Commit(b, false)
}

// noteRepair takes note of how a repair ended.
func (h *host) noteRepair(p *engine.Pull) {
	if p.Err == nil {
		h.w.totals.Repairs++
		h.noteContext()
		h.say("is repaired from %s: %d added, %d removed", p.From, p.Result.Added, p.Result.Removed)
		return
	}
	h.say("is not repaired from %s: %v", p.From, p.Err)
	bad := errors.Is(p.Err, antientropy.ErrBadSource) || errors.Is(p.Err, antientropy.ErrDiverged)
	if bad && !h.w.rotten {
		h.w.fail("%s repairs from %s: %v", h.name, p.From, p.Err)
	}
	if engine.IsDamage(p.Err) && !h.w.rotten {
		h.w.fail("%s is damaged, and nothing damaged it: %v", h.name, p.Err)
	}
}

// ask sends a request to the source.
func (p *pull) ask(q antientropy.Request) {
	data := antientropy.EncodeRequest(q)
	p.asked++
	asked := p.asked
	p.w.after(engine.PullTimeout, func() {
		if p.asked == asked {
			p.failed()
		}
	})
	p.w.carry(p.to.machine, p.from.machine, func() {
		if p.from.epoch != p.frmEpoch || !p.from.up() {
			p.failed()
			return
		}
		p.from.later(0, func() error {
			p.serve(data)
			return nil
		})
	}, p.failed)
}

// serve answers a request at the source.
func (p *pull) serve(data []byte) {
	from := p.from
	switch {
	case p.over:
		return
	case p.pinned != nil:
		p.answer(data)
		return
	}
	if err := from.sources.Begin(); err != nil {
		p.refuse(err)
		return
	}
	from.serves = append(from.serves, p)
	from.engine.Serve(p.to.id, func(pinned *engine.Pinned, err error) {
		switch {
		case err != nil:
			p.refuse(err)
		case p.over:
			pinned.Close()
		default:
			p.pinned = pinned
			p.answer(data)
		}
	})
}

// refuse ends a repair at its source.
func (p *pull) refuse(why error) {
	p.from.say("does not serve %s: %v", p.to.id, why)
	p.from.suspectRead(why)
	p.w.after(p.w.delay(), p.failed)
}

func (p *pull) answer(data []byte) {
	q, err := antientropy.DecodeRequest(data)
	if err != nil {
		p.w.fail("%s sent a bad request: %v", p.to.id, err)
	}
	resp, err := antientropy.ServeIn(p.w.plan.pieces, p.pinned, q)
	if err != nil {
		p.refuse(err)
		return
	}
	out := antientropy.EncodeResponse(resp)
	p.w.carry(p.from.machine, p.to.machine, func() { p.answered(out) }, p.failed)
}

// answered takes a response at the host that is repaired.
func (p *pull) answered(data []byte) {
	if p.over {
		return
	}
	if p.to.epoch != p.toEpoch {
		p.end()
		return
	}
	p.to.later(0, func() error {
		if p.over {
			return nil
		}
		resp, err := antientropy.DecodeResponse(data)
		if err != nil {
			p.w.fail("%s sent a bad response: %v", p.from.id, err)
		}
		p.takes(p.Go(resp, p.to.stage))
		return nil
	})
}

// takes goes on with what came of an answer.
func (p *pull) takes(q antientropy.Request, asks bool, err error) {
	switch {
	case p.to.volume.dead:
		p.to.broken = errDied
	case err != nil:
		p.asked++
		p.to.engine.Fail(p.Pull, err)
	case asks:
		p.ask(q)
		return
	default:
		p.asked++ // nobody is waited for
		p.to.engine.Take(p.Pull)
	}
	p.to.wake()
}

// failed ends the repair because its stream broke.
func (p *pull) failed() {
	if p.over {
		return
	}
	if p.to.epoch != p.toEpoch || !p.to.up() {
		p.end()
		return
	}
	p.to.later(0, func() error {
		if !p.over {
			p.to.engine.Fail(p.Pull, errStream)
		}
		return nil
	})
}

var errStream = errors.New("the stream broke")

// end releases the source.
func (p *pull) end() {
	if p.over {
		return
	}
	p.over = true
	if p.pinned != nil {
		p.pinned.Close()
	}
	if p.from.epoch == p.frmEpoch && slices.Contains(p.from.serves, p) {
		p.from.sources.End()
		p.from.serves = slices.DeleteFunc(p.from.serves, func(o *pull) bool { return o == p })
	}
}
