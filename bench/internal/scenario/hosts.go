package scenario

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/peer"
)

// host is a peer in this process, whose network can be cut.
type host struct {
	*peer.Peer
	cut    *peer.Cut
	gossip string
}

// openHosts opens a cluster on loopback, and waits until all know each other. What it returns is to
// be closed, also with an error.
func openHosts(ctx context.Context, b *bench, n int, durability peer.Durability) (hosts, error) {
	var all hosts
	for i := range n {
		h := host{cut: new(peer.Cut)}
		cfg := peer.Config{
			Dir: b.Path(fmt.Sprint("host", i)), Name: fmt.Sprint("host", i), Gossip: "127.0.0.1:0",
			P2P: "127.0.0.1:0", Durability: durability, Cut: h.cut,
		}
		if i > 0 {
			cfg.Join = []string{all[0].gossip}
			cfg.ClusterKey = filepath.Join(b.Path("host0"), "cluster.key")
		}
		var err error
		if h.Peer, err = peer.Open(ctx, cfg); err != nil {
			return all, err
		}
		all = append(all, h)
		s, err := h.Status()
		if err != nil {
			return all, err
		}
		all[i].gossip = s.GossipAddr
	}
	return all, lab.Await(ctx, lab.Patience, "the hosts are linked", all.linked)
}

type hosts []host

func (all hosts) close() {
	for _, h := range all {
		_ = h.Close()
	}
}

// linked reports whether each has a stream to some others: all, if they are few.
func (all hosts) linked() bool {
	for _, h := range all {
		s, err := h.Status()
		if err != nil {
			return false
		}
		links := 0
		for _, m := range s.Members {
			if m.Linked {
				links++
			}
		}
		if links < min(len(all)-1, 4) {
			return false
		}
	}
	return true
}

// split cuts the links between groups of hosts. One group heals everything.
func (all hosts) split(groups ...[]int) {
	for _, mine := range groups {
		var others []string
		for _, theirs := range groups {
			if &theirs[0] != &mine[0] {
				for _, i := range theirs {
					others = append(others, all[i].gossip)
				}
			}
		}
		for _, i := range mine {
			all[i].cut.Block(others...)
		}
	}
}

// agree waits until all hold the same.
func (all hosts) agree(ctx context.Context, limit time.Duration) error {
	return lab.Await(ctx, limit, "the hosts agree", func() bool {
		var first peer.Status
		for i, h := range all {
			s, err := h.Status()
			if err != nil {
				return false
			}
			if i == 0 {
				first = s
			}
			if s.ContextHash != first.ContextHash || s.Root != first.Root {
				return false
			}
		}
		return true
	})
}
