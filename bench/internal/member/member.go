// Package member is one member of a rival's cluster in a process of its own: the harness starts
// itself again for each. So members can be cut from each other, and their memory seen, and none of
// them needs to be installed.
package member

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Command is the harness' first argument when it is to be a member. The second is a Member.
const Command = "member"

// Member is one member. It listens where it says, and lasts until its process is ended.
type Member struct {
	System  string // "etcd" or "raft"
	Name    string
	Dir     string
	Peers   string // the address for the other members
	Clients string // the address for clients
	// Advertised is under which address the others reach Peers; empty is Peers itself.
	Advertised string
	// Cluster has the names of all members, and under which address the others reach them.
	Cluster map[string]string
	Joins   bool // a cluster that is there, which has been told of it
}

// Process returns what starts the member as a process.
func (m Member) Process() (program string, args []string, err error) {
	if program, err = os.Executable(); err != nil {
		return "", nil, err
	}
	order, err := json.Marshal(m)
	return program, []string{Command, string(order)}, err
}

// Run is the member, until it is told to end.
func Run(order string) error {
	var m Member
	if err := json.Unmarshal([]byte(order), &m); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch m.System {
	case "etcd":
		return m.etcd(ctx)
	case "raft":
		return m.raft(ctx)
	}
	return fmt.Errorf("no member is of %q", m.System)
}
