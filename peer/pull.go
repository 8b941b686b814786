package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/internal/secret"
	"github.com/peerd/peerd/store"
)

// sayEvery is how often the log tells how far a repair is.
const sayEvery = 10 * time.Second

// pulling is a repair under way.
type pulling struct {
	began   time.Time
	turn    chan struct{} // gets one when it may go on, and is closed at its end
	spoiled chan struct{} // is closed when its stream is to be ended
}

// goOn begins a repair, lets it go on after the engine was asked, or takes note of its end.
func (l *loop) goOn(p *engine.Pull) {
	under := l.pulls[p]
	switch {
	case p.Over:
		delete(l.pulls, p)
		l.noteRepair(p)
		if under != nil {
			close(under.turn)
		}
	case p.Spoiled:
		close(under.spoiled)
	case under != nil:
		under.turn <- struct{}{}
	default:
		lane := l.links[p.From]
		if lane == nil {
			l.engine.Fail(p, errLinkReplaced)
			return
		}
		l.pulls[p] = &pulling{time.Now(), make(chan struct{}, 1), make(chan struct{})}
		l.startRepair(p, lane.link, l.pulls[p])
	}
}

func (l *loop) startRepair(p *engine.Pull, from *link, under *pulling) {
	s, n := l.s, from.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return
	}
	s.background.Add(1) // it stages, and reads a moment
	n.spawn(func() {
		defer s.background.Done()
		began := time.Now()
		err := busy(n.pull(s, p, from.peer, under))
		if err != nil {
			if s.call(func(l *loop) { l.engine.Fail(p, err) }) != nil {
				p.Abandon()
			}
			return
		}
		s.log.Info("repaired from a peer whose log did not reach far enough",
			"peer_id", string(p.From), "added", p.Result.Added, "removed", p.Result.Removed,
			"bytes", p.Result.Bytes, "seconds", time.Since(began).Seconds())
	})
}

// noteRepair takes note of how a repair ended.
func (l *loop) noteRepair(p *engine.Pull) {
	c := &l.s.counters
	switch {
	case p.Err == nil:
		c.entriesIn.Add(uint64(p.Result.Added))
		c.entriesOut.Add(uint64(p.Result.Removed))
	case errors.Is(p.Err, engine.ErrBusy) || errors.Is(p.Err, engine.ErrForked) || l.s.stopping():
	default:
		l.s.log.Warn("repair failed and will be tried again", "peer_id", string(p.From), "error", p.Err)
	}
}

// Repairing is how far a repair of this peer has come: its data is compared with another peer's,
// or all of it fetched.
type Repairing struct {
	From string `json:"from"` // peer id
	// Cells are here of the Cells that the other peer has; 0 and 0 if only those are fetched that
	// differ.
	Cells int `json:"cells"`
	Of    int `json:"of"`
	// Bytes came, of names and values, and so many cells a second since the repair began.
	// SecondsLeft is an estimate from these; 0 if there is none.
	Bytes          int64   `json:"bytes"`
	CellsPerSecond float64 `json:"cells_per_second"`
	SecondsLeft    float64 `json:"seconds_left"`
}

// at returns how far a repair has come.
func (u *pulling) at(p *engine.Pull) *Repairing {
	at := p.Progress()
	r := &Repairing{From: string(p.From), Cells: at.Cells, Of: at.Of, Bytes: at.Bytes}
	r.CellsPerSecond = float64(at.Cells-at.Had) / max(time.Since(u.began).Seconds(), 1e-3)
	if r.CellsPerSecond > 0 {
		r.SecondsLeft = float64(at.Of-at.Cells) / r.CellsPerSecond
	}
	return r
}

// say tells it in the log.
func (r *Repairing) say(log *slog.Logger) {
	log.Info("being repaired from a peer", "peer_id", r.From, "cells", r.Cells, "of", r.Of, "bytes", r.Bytes,
		"cells_per_second", int(r.CellsPerSecond), "seconds_left", int(r.SecondsLeft))
}

// pull runs a repair until it is over: see engine.Pull.
func (n *network) pull(of *space, p *engine.Pull, from libpeer.ID, under *pulling) (err error) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	defer cancel()
	s, err := n.openProven(ctx, from, pullStream, n.keys.ring().Keys())
	if err != nil {
		return err
	}
	defer func() { _ = s.Reset() }()
	if _, err := s.Write(of.id[:]); err != nil {
		return err
	}
	over := make(chan struct{})
	defer close(over)
	n.spawn(func() {
		select {
		case <-of.stop: // who ends the space waits for this
			_ = s.Reset()
		case <-under.spoiled:
			_ = s.Reset()
		case <-over:
		}
	})
	staging := &stagehand{stopping: of.stopping, commit: of.store.Commit}
	defer func() {
		if failed := staging.wait(); failed != nil {
			p.Unwritten()
			err = errors.Join(err, failed)
		}
	}()
	stage := staging.stage
	source, said := newTalk(of, s), under.began
	for question, asks := p.Start(), true; ; {
		if asks {
			if err := n.p.disk.refusal(); err != nil { // before the disk is full
				return err
			}
			answer, err := source.ask(question)
			if err != nil {
				return err
			}
			if question, asks, err = p.Go(answer, stage); err != nil {
				return err
			}
			if time.Since(said) >= sayEvery {
				said = time.Now()
				under.at(p).say(of.log)
			}
			continue
		}
		if goesOn, err := n.takeOn(of, p, under); !goesOn {
			return err
		}
		if question, asks, err = p.Resume(stage); err != nil {
			return err
		}
	}
}

// takeOn has the engine take a pull on, and waits until it goes on or is over.
func (n *network) takeOn(of *space, p *engine.Pull, under *pulling) (goesOn bool, err error) {
	if at := p.Progress(); at.Of == 0 { // what is staged is written once more; what fills is there
		giveBack, err := n.p.disk.claim(at.Bytes)
		if err != nil {
			return false, err
		}
		defer giveBack()
	}
	if err := of.call(func(l *loop) { l.engine.Take(p) }); err != nil {
		return false, err
	}
	select {
	case _, goesOn = <-under.turn:
		if !goesOn {
			err = p.Err
		}
		return goesOn, err
	case <-of.stopped:
		return false, ErrClosed
	}
}

// stagehand writes what a repair found, beside who finds it.
type stagehand struct {
	stopping func() bool
	commit   func(b *store.Batch, sync bool) error
	batches  chan *store.Batch // to be written; nil if nobody writes
	err      error             // of the first that failed
	ended    chan struct{}
}

// staged is how many batches may wait to be written, each of one or two MiB at most.
const staged = 16

// stage is an engine.Stage.
func (h *stagehand) stage(b *store.Batch) error {
	switch {
	case b == nil:
		return h.wait()
	case h.stopping():
		return ErrClosed
	case h.batches == nil && h.err != nil:
		return h.err
	case h.batches == nil:
		h.batches, h.ended = make(chan *store.Batch, staged), make(chan struct{})
		go h.write(h.batches)
	}
	select {
	case h.batches <- b:
		return nil
	case <-h.ended:
		return h.err
	}
}

// write writes batches until there are no more, or one fails.
func (h *stagehand) write(batches <-chan *store.Batch) {
	defer close(h.ended)
	for b := range batches {
		if h.err = h.commit(b, false); h.err != nil {
			return
		}
	}
}

// wait returns when all batches are written.
func (h *stagehand) wait() error {
	if h.batches != nil {
		close(h.batches)
		<-h.ended
		h.batches = nil
	}
	return h.err
}

// talk is one end of a repair's stream.
type talk struct {
	of *space
	patient
	in    *bufio.Reader
	ahead bool // the next request is sent
}

func newTalk(of *space, s libnet.Stream) *talk {
	both := patient{s, engine.PullTimeout}
	return &talk{of: of, patient: both, in: bufio.NewReaderSize(both, 64<<10)}
}

func (t *talk) say(data []byte) error {
	t.of.counters.sent.add(repairLayer, len(data)+frameHeader)
	return writeFrame(t.patient, data)
}

func (t *talk) hear(limit int) ([]byte, error) {
	data, err := readFrame(t.in, limit)
	if err == nil {
		t.of.counters.received.add(repairLayer, len(data)+frameHeader)
	}
	return data, err
}

// ask sends a request and waits for its response. If that tells the next request it is sent at
// once: the other side reads a piece of a bootstrap while the one before is written here.
func (t *talk) ask(q antientropy.Request) (resp antientropy.Response, err error) {
	if !t.ahead {
		if err := t.say(antientropy.EncodeRequest(q)); err != nil {
			return resp, err
		}
	}
	data, err := t.hear(antientropy.MaxMessage)
	if err != nil {
		return resp, err
	}
	if resp, err = antientropy.DecodeResponse(data); err != nil {
		return resp, err
	}
	if q, t.ahead = antientropy.Ahead(resp); t.ahead {
		err = t.say(antientropy.EncodeRequest(q))
	}
	return resp, err
}

// busy returns engine.ErrBusy in the place of an error by which a source says that it serves no
// more repairs now: where many spaces or hosts are filled that is so for most of them, each
// second, and nothing that people should look into.
func busy(err error) error {
	var reset *libnet.StreamError
	if errors.As(err, &reset) && reset.Remote && reset.ErrorCode == libnet.StreamResourceLimitExceeded {
		return engine.ErrBusy
	}
	return err
}

// acceptPull serves a repair to another peer.
func (n *network) acceptPull(s libnet.Stream, key secret.Key) {
	n.spawnFor(s, func() {
		err := n.servePull(s, key)
		code := libnet.StreamNoError
		if errors.Is(err, engine.ErrBusy) {
			code = libnet.StreamResourceLimitExceeded
		}
		_ = s.ResetWithError(code)
		if err != nil {
			n.p.log.Debug("served a repair", "peer_id", s.Conn().RemotePeer().String(), "end", err)
		}
	})
}

func (n *network) servePull(s libnet.Stream, key secret.Key) error {
	if err := n.prove(s, key); err != nil {
		return err
	}
	var id gossip.SpaceID
	if _, err := io.ReadFull(s, id[:]); err != nil {
		return err
	}
	of := n.p.spaceOf(id)
	if of == nil {
		return fmt.Errorf("the space %x is not held here", id)
	}
	if err := n.sources.Begin(); err != nil {
		return err
	}
	defer n.sources.End()
	pinned, err := of.pin(neighbourID(s.Conn().RemotePeer()))
	if err != nil {
		return err
	}
	defer pinned.Close()
	moment := &gentle{Snapshot: pinned, clock: time.Now, rest: of.rest}
	for to := newTalk(of, s); ; {
		data, err := to.hear(antientropy.MaxRequest)
		if err != nil {
			return err
		}
		q, err := antientropy.DecodeRequest(data)
		if err == nil && !n.accepts(key) {
			err = errFormerKey
		}
		if err != nil {
			return err
		}
		resp, err := moment.serve(q)
		if err != nil {
			of.suspectRead(err)
			return err
		}
		if err := to.say(antientropy.EncodeResponse(resp)); err != nil {
			return err
		}
	}
}

// pin pins a moment that another peer is repaired from.
func (s *space) pin(to gossip.NeighbourID) (pinned *engine.Pinned, err error) {
	done := make(chan struct{})
	if err := s.call(func(l *loop) {
		l.engine.Serve(to, func(p *engine.Pinned, why error) {
			pinned, err = p, why
			close(done)
		})
	}); err != nil {
		return nil, err
	}
	select {
	case <-done:
		return pinned, err
	case <-s.stopped:
	}
	select {
	case <-done:
		return pinned, err
	default:
		return nil, ErrClosed
	}
}
