package peer

import (
	"slices"
	"time"

	"github.com/peerd/peerd/gossip/members"
)

// Told is what a member tells of how it is, every few seconds. It is its word, and not checked.
type Told struct {
	Version    string   `json:"version"`
	Ready      bool     `json:"ready"`
	Reason     string   `json:"reason,omitempty"` // why it is not ready
	StoreBytes uint64   `json:"store_bytes"`
	FreeBytes  uint64   `json:"free_bytes"` // 0 for a peer in memory
	Replica    string   `json:"replica"`    // the id under which it writes in the space "default"
	Problems   []string `json:"problems"`   // the ids of what is wrong there, as Problem.ID
}

func told(report *members.Report) *Told {
	if report == nil {
		return nil
	}
	t := Told(*report)
	return &t
}

// kindsOf returns the ids of problems, each once.
func kindsOf(all []Problem) (ids []string) {
	for _, p := range all {
		ids = append(ids, p.ID)
	}
	return slices.Compact(ids) // they are in the order of their kinds
}

// reportEvery is how often this host looks at how it is, to tell the others. They hear it with
// the next of their probes.
const reportEvery = 2 * time.Second

// keepReport keeps up to date what the others are told.
func (n *network) keepReport() {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		if s, err := n.p.Status(); err == nil {
			n.report.Store(&members.Report{
				Version: s.Version, Ready: s.Ready, Reason: s.Reason, StoreBytes: uint64(max(s.StoreBytes, 0)),
				FreeBytes: s.FreeBytes, Replica: s.Replica, Problems: kindsOf(s.Problems),
			})
		}
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
