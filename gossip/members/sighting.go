package members

import (
	"net"
	"slices"
	"sync"
	"time"
)

// SightingKind is what was seen that no member tells of itself.
type SightingKind string

const (
	// OtherKeyHere is a host that tried to reach this one with another cluster key.
	OtherKeyHere SightingKind = "came"
	// OtherKeyThere is a host to join that has another cluster key.
	OtherKeyThere SightingKind = "joined"
	// SameID is a host that runs with the id of this one or of a member, beside it: see same.go.
	SameID SightingKind = "id"
)

// Sighting is something that was seen at an address.
type Sighting struct {
	Kind  SightingKind
	Addr  string // where: "ip:port", or of OtherKeyHere the IP address alone if the port is not known
	ID    string // of SameID: whose
	Asked string // of OtherKeyThere: the host to join, as it was named
	Since time.Time
	Last  time.Time
}

const (
	maxSightings = 64 // the rest is not noted: strangers must not take memory
	// sightingLasts is for how long one that is not seen again is told of. Absent hosts are tried
	// more often.
	sightingLasts = 3 * time.Minute
)

// sightings are those of the last minutes.
type sightings struct {
	mu  sync.Mutex
	all []Sighting
}

// note notes what is seen now.
func (s *sightings) note(seen Sighting) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	for i := range s.all {
		if o := &s.all[i]; o.Kind == seen.Kind && o.Addr == seen.Addr && o.ID == seen.ID {
			o.Asked, o.Last = seen.Asked, now
			return
		}
	}
	if len(s.all) < maxSightings {
		seen.Since, seen.Last = now, now
		s.all = append(s.all, seen)
	}
}

func (s *sightings) forget(now time.Time) {
	s.all = slices.DeleteFunc(s.all, func(o Sighting) bool { return now.Sub(o.Last) > sightingLasts })
}

// Sightings returns what was seen in the last minutes of hosts that are no members, or that claim
// to be one. Where a member has come since then, it is left out.
func (m *Members) Sightings() []Sighting {
	s := &m.journal.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	came := map[string]time.Time{} // when a member at an address, or a host, was last taken for alive
	for _, r := range m.table.list() {
		if r.Alive {
			for _, at := range []string{r.Addr, hostOf(r.Addr)} {
				if r.Since.After(came[at]) {
					came[at] = r.Since
				}
			}
		}
	}
	var out []Sighting
	for _, o := range s.all {
		if o.Kind == SameID || !came[o.Addr].After(o.Last) {
			out = append(out, o)
		}
	}
	return out
}

// hostOf returns an address without its port, which is another one for each connection.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
