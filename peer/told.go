package peer

import "github.com/peerd/peerd/gossip/members"

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
