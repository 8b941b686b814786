package peer

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/secret"
)

// streamVersion is the version of the protocol that this peer speaks: that of all its streams, and what its
// metadata says. A member that speaks another one is no neighbour: no stream is opened to it, it is named in the
// log and in the Status, and whatever it has is reached when one of the two is upgraded.
const streamVersion = 2

const (
	// versionWarnEvery is how often a member that speaks another version is logged.
	versionWarnEvery = time.Hour
	// versionPatience is how long the streams of a member that told another version by them alone are left in
	// peace, unless it comes back before.
	versionPatience = time.Minute
)

// versionError is the version that another peer speaks.
type versionError uint64

func (v versionError) Error() string {
	who := "it"
	if v > streamVersion {
		who = "this one"
	}
	return fmt.Sprintf("speaks version %d of the protocol, and this peer version %d: upgrade %s", uint64(v),
		streamVersion, who)
}

// stranger is a member that speaks another version.
type stranger struct {
	version versionError
	since   time.Time // since when the member is alive
	until   time.Time // when its streams are looked at again; zero if its metadata names the version
	warned  time.Time
}

// versionOf returns the version that a member's metadata names if that is another one; else 0.
func versionOf(m members.Member) versionError {
	switch v := m.Versions; {
	case v == (members.Versions{}): // not seen since the start
		return 0
	case v.Max < streamVersion:
		return versionError(v.Max)
	case v.Min > streamVersion:
		return versionError(v.Min)
	}
	return 0
}

// speaking returns the members with which this peer shares a version, and names those that are alive beside them.
func (n *network) speaking(all []members.Member, now time.Time) (out []members.Member) {
	for _, m := range all {
		v, warn := n.judgeVersion(m, now)
		if v == 0 {
			out = append(out, m)
		}
		if warn {
			n.p.log.Warn("no data is exchanged with a member that speaks another version of the protocol",
				"name", m.Label, "peer_id", m.ID, "problem", v.Error())
		}
	}
	return out
}

// judgeVersion returns the version that a member speaks if it is another one, and whether to log it.
func (n *network) judgeVersion(m members.Member, now time.Time) (v versionError, warn bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.strangers[m.ID]
	if v = versionOf(m); v == 0 && s.speaksOther(m, now) {
		v = s.version
	}
	if v == 0 {
		if s.version != 0 && s.until.IsZero() {
			delete(n.strangers, m.ID) // it was upgraded; else it is known when it was logged
		}
		return 0, false
	}
	if !m.Alive || v == s.version && now.Sub(s.warned) < versionWarnEvery {
		return v, false
	}
	s.version, s.warned = v, now
	n.remember(m.ID, s)
	return v, true
}

// speaksOther reports whether the streams of a member have told that it speaks another version, not long ago.
func (s stranger) speaksOther(m members.Member, now time.Time) bool {
	return s.version != 0 && now.Before(s.until) && m.Since.Equal(s.since)
}

// noteVersion takes down what a failed stream has told of the version that a peer speaks.
func (n *network) noteVersion(id libpeer.ID, err error) {
	var v versionError
	m, known := n.members.Get(id.String())
	if !known || !errors.As(err, &v) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.strangers[m.ID]
	if s.version != v {
		s = stranger{version: v}
	}
	s.since, s.until = m.Since, time.Now().Add(versionPatience)
	n.remember(m.ID, s)
}

// remember notes a stranger. No more are kept than there are members: the rest is found out again. n.mu is held.
func (n *network) remember(id string, s stranger) {
	if len(n.strangers) >= members.MaxKnown {
		clear(n.strangers)
	}
	n.strangers[id] = s
}

// problemOf says what keeps a member from being a neighbour; empty if nothing does that is known.
func (n *network) problemOf(m members.Member, now time.Time) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.strangers[m.ID]
	switch v := versionOf(m); {
	case v != 0:
		return v.Error()
	case s.speaksOther(m, now):
		return s.version.Error()
	}
	return ""
}

// otherVersion returns a versionError if a connected peer serves streams of a kind in other versions alone, and
// err, with which opening one failed, if not.
func (n *network) otherVersion(id libpeer.ID, kind string, keys []secret.Key, err error) error {
	if !errors.Is(err, multistream.ErrNotSupported[protocol.ID]{}) {
		return err
	}
	served, _ := n.host.Peerstore().GetProtocols(id)
	var versions []versionError
	for _, of := range served {
		for _, key := range keys {
			text, ok := strings.CutPrefix(string(of), streamPrefix(kind, key))
			v, bad := strconv.ParseUint(text, 10, 32)
			if ok && bad == nil {
				versions = append(versions, versionError(v))
			}
		}
	}
	if len(versions) == 0 || slices.Contains(versions, streamVersion) {
		return err
	}
	return slices.Max(versions)
}
