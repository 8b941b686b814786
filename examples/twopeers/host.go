package main

import (
	"context"
	"time"

	"github.com/peerd/peerd/peer"
)

// host is a peer with what its program knows of it.
type host struct {
	*peer.Peer
	name string
	keys peer.Keys
	cut  *peer.Cut // fault injection: blocks the traffic with some peers
}

// open opens a peer on free ports of loopback. Init only tells where the keys are: Open would make them too.
func open(ctx context.Context, cfg peer.Config) (*host, error) {
	cfg.Gossip, cfg.P2P, cfg.FastGossip = "127.0.0.1:0", "127.0.0.1:0", true
	keys, err := peer.Init(cfg)
	if err != nil {
		return nil, err
	}
	p, err := peer.Open(ctx, cfg)
	return &host{Peer: p, name: cfg.Name, keys: keys, cut: cfg.Cut}, err
}

// status returns what the peer says of itself; nothing if it has failed.
func (h *host) status() peer.Status {
	s, _ := h.Status()
	return s
}

func (h *host) address() string { return h.status().GossipAddr }

// linked reports whether a stream to the other peer is open.
func (h *host) linked() bool {
	members := h.status().Members
	return len(members) == 1 && members[0].Linked
}

// state is the same at two peers when they have seen the same writes and hold the same data.
func (h *host) state() string {
	s := h.status()
	return s.ContextHash + "/" + s.Root
}

// until waits for a condition, half a minute at most.
func until(ctx context.Context, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
