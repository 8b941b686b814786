package resp

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// Client is a connected client, as a person is shown it.
type Client struct {
	ID      int64
	Address string
	Name    string // that it gave itself
	Since   time.Time
	Held    int64 // bytes, what is below FreeHold not counted
}

// SlowCommand is an entry of the slow log, as a person is shown it.
type SlowCommand struct {
	At         time.Time
	Took       time.Duration
	Command    string
	Key        []byte // its beginning; nil if the command has none
	Client     string // address
	ClientName string
}

// clientName is the name that a client gave itself. Its owner sets it; others show it.
type clientName struct{ text atomic.Pointer[string] }

func (n *clientName) set(name string) { n.text.Store(&name) }

func (n *clientName) get() string {
	if name := n.text.Load(); name != nil {
		return *name
	}
	return ""
}

// Clients returns up to n of the connected clients, those that came last first, and how many
// there are.
func (s *Server) Clients(n int) (latest []Client, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		latest = append(latest, Client{
			ID: c.id, Address: c.address.String(), Name: c.name.get(), Since: c.came, Held: max(c.held.Load(), 0),
		})
	}
	slices.SortFunc(latest, func(a, b Client) int { return cmp.Compare(b.ID, a.ID) })
	return latest[:min(len(latest), n)], len(latest)
}

// SlowCommands returns up to n entries of the slow log, the newest first.
func (s *Server) SlowCommands(n int) (latest []SlowCommand) {
	for _, e := range s.slow.latest(n) {
		latest = append(latest, SlowCommand{
			At: e.at, Took: e.took, Command: e.command, Key: e.key, Client: e.client, ClientName: e.clientName,
		})
	}
	return latest
}
