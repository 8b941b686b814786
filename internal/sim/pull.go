package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/replica"
)

// pullTimeout ends a repair whose other side is silent.
const pullTimeout = 60 * time.Second

// pull is a repair of one host from another, over a stream of its own.
type pull struct {
	w                 *world
	to, from          *host
	toEpoch, frmEpoch int
	gathering         *antientropy.Gathering
	puller            *antientropy.Puller
	repair            *replica.Repair
	pinned            *replica.Pinned // at the source
	asked             int
	over              bool
}

// startRepair begins to repair the host from a neighbour whose log does not reach what is missing
// here.
func (h *host) startRepair(from gossip.NeighbourID) {
	source := h.linked(from)
	if h.repairing || source == nil {
		return
	}
	h.repairing = true
	h.say("repairs from %s", from)
	p := &pull{w: h.w, to: h, from: source, toEpoch: h.epoch, frmEpoch: source.epoch}
	p.gathering = antientropy.Gather(h.node.Vector())
	p.ask(p.gathering.Start())
}

// ask sends a request to the source.
func (p *pull) ask(q antientropy.Request) {
	data := antientropy.EncodeRequest(q)
	p.asked++
	asked := p.asked
	p.w.after(pullTimeout, func() {
		if p.asked == asked {
			p.failed()
		}
	})
	p.w.carry(p.to, p.from, func() {
		if p.from.epoch != p.frmEpoch || !p.from.up() {
			p.failed()
			return
		}
		p.from.later(0, func() error {
			resp, err := p.serve(data)
			if err != nil {
				p.from.say("does not serve %s: %v", p.to.id, err)
				p.from.suspectRead(err)
				p.w.after(p.w.delay(), p.failed)
				return nil
			}
			p.w.carry(p.from, p.to, func() { p.answered(resp) }, p.failed)
			return nil
		})
	}, p.failed)
}

var errBusySource = errors.New("enough repairs are served already")

// serve answers a request at the source.
func (p *pull) serve(data []byte) ([]byte, error) {
	if p.pinned == nil {
		if p.from.sources >= maxSources {
			return nil, errBusySource
		}
		pinned, err := p.from.node.PinFor(p.to.id)
		if err != nil {
			return nil, err
		}
		p.pinned = pinned
		p.from.sources++
		p.from.serves = append(p.from.serves, p)
	}
	q, err := antientropy.DecodeRequest(data)
	if err != nil {
		p.w.fail("%s sent a bad request: %v", p.to.id, err)
	}
	resp, err := antientropy.Serve(p.pinned, q)
	if err != nil {
		return nil, err
	}
	return antientropy.EncodeResponse(resp), nil
}

// answered takes a response at the puller.
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
		return p.take(resp)
	})
}

func (p *pull) take(resp antientropy.Response) error {
	h := p.to
	if p.repair == nil {
		q, done, err := p.gathering.Handle(resp)
		if err == nil && !done {
			p.ask(q)
			return nil
		}
		if err == nil {
			p.repair, err = h.node.BeginGathered(p.from.id, p.gathering, resp.Context, resp.Heads)
		}
		if err != nil {
			return p.ends(err)
		}
		resp.Context, resp.Heads = p.repair.Target()
		p.puller = antientropy.NewPuller(p.repair.Local, p.repair)
		p.puller.Start()
	}
	q, done, err := p.puller.Handle(resp)
	if err != nil {
		return p.ends(err)
	}
	if !done {
		p.ask(q)
		return nil
	}
	err = h.node.FinishRepair(p.repair)
	h.repairing = false
	p.end()
	if err != nil && !errors.Is(err, replica.ErrBusy) && !errors.Is(err, replica.ErrForked) {
		return err
	}
	if err == nil {
		h.w.totals.Repairs++
		h.dirty = true
		h.noteContext()
		h.say("is repaired from %s: %d added, %d removed", p.from.id, p.puller.Result().Added,
			p.puller.Result().Removed)
	}
	return nil
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
	p.to.later(0, func() error { return p.ends(errStream) })
}

var errStream = errors.New("the stream broke")

// ends ends the repair without effect.
func (p *pull) ends(err error) error {
	h := p.to
	if p.over {
		return nil
	}
	p.end()
	h.repairing = false
	h.say("is not repaired from %s: %v", p.from.id, err)
	if p.repair != nil {
		abort := h.node.AbortRepair(p.repair)
		if h.volume.dead {
			return abort
		}
	}
	if h.volume.dead {
		return errDied
	}
	bad := errors.Is(err, antientropy.ErrBadSource) || errors.Is(err, antientropy.ErrDiverged)
	if bad && !h.w.rotten {
		h.w.fail("%s repairs from %s: %v", h.id, p.from.id, err)
	}
	h.suspectRead(err)
	return nil
}

// end releases the source.
func (p *pull) end() {
	if p.over {
		return
	}
	p.over = true
	if p.pinned != nil {
		p.pinned.Close()
		if p.from.epoch == p.frmEpoch {
			p.from.sources--
			p.from.serves = slices.DeleteFunc(p.from.serves, func(o *pull) bool { return o == p })
		}
	}
}
