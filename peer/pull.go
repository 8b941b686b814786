package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/replica"
	"github.com/peerd/peerd/internal/secret"
)

const (
	// maxSources is how many repairs a peer serves at once. Each pins a snapshot, and
	// what changes of the tree meanwhile, 1.1 MB at most, is copied.
	maxSources = 2
	// pullTimeout ends a repair whose other side is silent.
	pullTimeout = 60 * time.Second
)

// startRepair begins to repair this replica from a neighbour whose log does not reach what is missing
// here. If one runs already, or this one fails, the neighbour says again that it is needed.
func (l *loop) startRepair(from gossip.NeighbourID) {
	lane := l.links[from]
	if l.repairing || lane == nil || l.p.disk.room() != roomy {
		return
	}
	l.repairing = true
	s, n := l.s, lane.link.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return
	}
	n.spawn(func() {
		began := time.Now()
		result, err := n.pull(s, lane.link.peer)
		_ = s.call(func(l *loop) { l.repairing = false })
		switch {
		case err == nil:
			n.p.log.Info("repaired from a peer whose log did not reach far enough",
				"peer_id", string(from), "added", result.Added, "removed", result.Removed,
				"bytes", result.Bytes, "seconds", time.Since(began).Seconds())
		case errors.Is(err, replica.ErrBusy) || errors.Is(err, replica.ErrForked) || n.ctx.Err() != nil:
		default:
			n.p.log.Warn("repair failed and will be tried again", "peer_id", string(from), "error", err)
			s.suspectRead(err) // a record here that cannot be compared would stop every repair
		}
	})
}

// pull runs a repair: see antientropy.Puller.
func (n *network) pull(of *space, from libpeer.ID) (result antientropy.Result, err error) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	defer cancel()
	s, key, err := n.openStream(ctx, from, pullStream, n.keys.ring().Keys())
	if err != nil {
		return result, err
	}
	defer func() { _ = s.Reset() }()
	if err := proveAsDialer(deadlined(s), key, n.id, from); err != nil {
		return result, err
	}
	if _, err := s.Write(of.id[:]); err != nil {
		return result, err
	}
	ask := of.asker(s)
	var gathering *antientropy.Gathering
	if err := of.call(func(l *loop) { gathering = antientropy.Gather(l.node.Vector()) }); err != nil {
		return result, err
	}
	pinned, err := gather(gathering, ask)
	if err != nil {
		return result, err
	}
	var repair *replica.Repair
	if callErr := of.call(func(l *loop) {
		repair, err = l.beginRepair(neighbourID(from), pinned, gathering)
	}); callErr != nil || err != nil {
		return result, errors.Join(callErr, err)
	}
	pinned.Context, pinned.Heads = repair.Target()
	p := antientropy.NewPuller(repair.Local, repair)
	p.Start()
	err = drive(p, pinned, n.whileRoom(ask))
	if err == nil {
		err = n.p.disk.refusalOf(p.Result().Bytes)
	}
	if err != nil {
		callErr := of.call(func(l *loop) { err = errors.Join(err, l.node.AbortRepair(repair)) })
		repair.Local.Close()
		return result, errors.Join(err, callErr)
	}
	if callErr := of.call(func(l *loop) { err = l.finishRepair(repair) }); callErr != nil {
		repair.Local.Close()
		return result, callErr
	}
	if result = p.Result(); err == nil {
		of.counters.entriesIn.Add(uint64(result.Added))
		of.counters.entriesOut.Add(uint64(result.Removed))
	}
	return result, err
}

// whileRoom has a repair end before the disk is full.
func (n *network) whileRoom(ask asking) asking {
	return func(q antientropy.Request) (resp antientropy.Response, err error) {
		if refusal := n.p.disk.refusal(); refusal != nil {
			return resp, refusal
		}
		return ask(q)
	}
}

// asking sends a request and waits for its response.
type asking func(antientropy.Request) (antientropy.Response, error)

// gather gets the source's context, and before that what it is read with.
func gather(g *antientropy.Gathering, ask asking) (response antientropy.Response, err error) {
	for q, done := g.Start(), false; !done; {
		if response, err = ask(q); err != nil {
			return response, err
		}
		if q, done, err = g.Handle(response); err != nil {
			return response, err
		}
	}
	return response, nil
}

// drive asks for what the puller needs until it has all.
func drive(p *antientropy.Puller, response antientropy.Response, ask asking) error {
	for {
		request, done, err := p.Handle(response)
		if err != nil || done {
			return err
		}
		if response, err = ask(request); err != nil {
			return err
		}
	}
}

// asker returns a function that sends a request and waits for its response.
func (of *space) asker(s libnet.Stream) asking {
	both := patient{s, pullTimeout}
	in := bufio.NewReaderSize(both, 64<<10)
	return func(q antientropy.Request) (resp antientropy.Response, err error) {
		out := antientropy.EncodeRequest(q)
		if err := writeFrame(both, out); err != nil {
			return resp, err
		}
		data, err := readFrame(in, antientropy.MaxMessage)
		if err != nil {
			return resp, err
		}
		of.counters.sent.add(repairLayer, len(out)+frameHeader)
		of.counters.received.add(repairLayer, len(data)+frameHeader)
		return antientropy.DecodeResponse(data)
	}
}

// finishRepair takes a repair over. A failure ends the peer: what the store holds is whole, but the
// replica in memory is not.
func (l *loop) finishRepair(repair *replica.Repair) error {
	err := l.node.FinishRepair(repair)
	switch {
	case errors.Is(err, replica.ErrBusy), errors.Is(err, replica.ErrForked):
		return err // nothing was taken over
	case err != nil:
		l.broken = err
		return err
	}
	l.dirty = true
	l.s.counters.repairs.Add(1)
	l.jump()
	return nil
}

// acceptPull serves a repair to another peer.
func (n *network) acceptPull(s libnet.Stream, key secret.Key) {
	n.spawnFor(s, func() {
		err := n.servePull(s, key)
		_ = s.Reset()
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
	of := n.board.space(id)
	if of == nil {
		return fmt.Errorf("the space %x is not held here", id)
	}
	if !n.takeSource() {
		return fmt.Errorf("%d repairs are served already", maxSources)
	}
	defer n.releaseSource()
	var pinned *replica.Pinned
	var err error
	to := neighbourID(s.Conn().RemotePeer())
	if callErr := of.call(func(l *loop) { pinned, err = l.pin(to) }); callErr != nil || err != nil {
		return errors.Join(callErr, err)
	}
	defer pinned.Close()
	both := patient{s, pullTimeout}
	in := bufio.NewReaderSize(both, 4<<10)
	for {
		data, err := readFrame(in, antientropy.MaxRequest)
		if err != nil {
			return err
		}
		q, err := antientropy.DecodeRequest(data)
		if err != nil {
			return err
		}
		resp, err := antientropy.Serve(pinned, q)
		if err != nil {
			of.suspectRead(err)
			return err
		}
		out := antientropy.EncodeResponse(resp)
		if err := writeFrame(both, out); err != nil {
			return err
		}
		of.counters.received.add(repairLayer, len(data)+frameHeader)
		of.counters.sent.add(repairLayer, len(out)+frameHeader)
	}
}

// pin pins a moment that another peer is repaired from.
func (l *loop) pin(to gossip.NeighbourID) (*replica.Pinned, error) {
	if !l.settled() {
		return nil, l.broken
	}
	return l.node.PinFor(to)
}

// beginRepair begins one of this peer from another's moment.
func (l *loop) beginRepair(from gossip.NeighbourID, pinned antientropy.Response, gathered *antientropy.Gathering) (
	*replica.Repair, error) {
	if !l.settled() {
		return nil, l.broken
	}
	return l.node.BeginGathered(from, gathered, pinned.Context, pinned.Heads)
}

func (n *network) takeSource() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sources >= maxSources {
		return false
	}
	n.sources++
	return true
}

func (n *network) releaseSource() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sources--
}
