package members

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerd/peerd/internal/wire"
)

// delegate is what memberlist calls. It does so from many goroutines, mostly with its own lock
// held: no method may call memberlist or block.
//
// There is no MergeDelegate on purpose: it can only refuse a whole join, so that one bad record
// among a thousand would keep everybody out. NotifyAlive refuses that record alone.
type delegate struct {
	self     string // own id
	cfg      *Config
	metadata atomic.Pointer[[]byte] // own, signed
	spread   atomic.Pointer[[]byte] // own, as memberlist tells it to others
	table    *table
	journal  *journal
	over     atomic.Bool // what it belonged to was shut down, though its timers go on
	disputed func()      // called when someone else is taken for this host

	conflicts chan<- conflict // those of Members
	inquiries chan<- []byte
}

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
	_ memberlist.PingDelegate     = (*delegate)(nil)
)

// NotifyAlive refuses members whose name, address, key and signature do not agree, and those of
// newer versions of which this one cannot read that.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	addr, err := addrOf(n)
	if n.Name != d.self && d.table.isRemoved(n.Name) {
		d.journal.warn("refused a host that was removed from the cluster: peerd member add takes it back",
			"id", cutLine(n.Name), "addr", addr)
		return errRemoved
	}
	if err == nil && d.table.verified(n.Name, addr, n.Meta) {
		return nil
	}
	if err == nil {
		_, err = openMetadata(n.Meta, n.Name, addr, d.cfg.IDOf)
	}
	switch {
	case errors.Is(err, wire.ErrFormat):
		d.journal.warn("a host of this cluster runs a newer peerd than this one can talk to: upgrade this one",
			"id", cutLine(n.Name), "addr", addr, "error", err)
	case err != nil:
		d.journal.warn("refused a member whose metadata is not its own",
			"id", cutLine(n.Name), "addr", addr, "error", err)
	}
	return err
}

// NotifyJoin notes a member that came, or came back.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.NotifyUpdate(n) }

// NotifyUpdate notes a member that tells something new about itself. NotifyAlive let it pass.
func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	if d.over.Load() {
		return
	}
	if n.Name == d.self {
		spread := bytes.Clone(n.Meta)
		d.spread.Store(&spread)
		return
	}
	addr, err := addrOf(n)
	if err != nil {
		return
	}
	if m, _, _, err := decodeMetadata(n.Meta); err == nil {
		d.table.alive(n.Name, addr, m, n.Meta, time.Now())
	}
}

// NotifyLeave notes a member that left, or that no longer answers.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	if !d.over.Load() {
		d.table.gone(n.Name, time.Now())
	}
}

// NotifyConflict is called when a member is said to be at two addresses. If it is this host, then
// either others have not noticed yet that it was restarted at a new address, or its key was copied.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	if d.over.Load() {
		return
	}
	addr, _ := addrOf(other)
	was, _ := addrOf(existing)
	select {
	case d.conflicts <- conflict{existing.Name, was, addr}:
	default: // it is said again
	}
	if existing.Name != d.self {
		return
	}
	d.disputed()
	d.journal.warn("others know this host under another address: "+
		"it was restarted there a moment ago, or another host runs with a copy of its host key",
		"addr", addr)
}

// NotifyPingComplete notes a round trip time, and what the other's clock showed on the way.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	now, shown := time.Now(), d.cfg.Now()
	d.table.measured(n.Name, rtt)
	if theirs, ok := decodeClock(payload); ok {
		offset, bound := offsetOf(theirs, shown, rtt)
		d.table.compared(n.Name, offset, bound, now, shown)
	}
	d.table.reported(n.Name, decodeReport(payload))
}

// AckPayload adds the time and the report to answers.
func (d *delegate) AckPayload() []byte { return encodeAnswer(d.cfg.Now(), d.cfg.Report()) }

// taken reports whether memberlist has taken over what this host tells about itself.
func (d *delegate) taken() bool {
	spread := d.spread.Load()
	return spread != nil && bytes.Equal(*spread, *d.metadata.Load())
}

// NodeMeta returns what this host tells about itself.
func (d *delegate) NodeMeta(int) []byte { return *d.metadata.Load() }

// NotifyMsg takes an inquiry. No other messages travel here.
func (d *delegate) NotifyMsg(data []byte) {
	select {
	case d.inquiries <- bytes.Clone(data):
	default: // it is as good as lost on the way
	}
}

// GetBroadcasts has none.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// addrOf returns a node's gossip address in the one form that is signed.
func addrOf(n *memberlist.Node) (string, error) {
	ip, ok := netip.AddrFromSlice(n.Addr)
	if !ok || n.Port == 0 || len(n.Name) > MaxID {
		return "", fmt.Errorf("a gossip address of %d bytes, port %d", len(n.Addr), n.Port)
	}
	return netip.AddrPortFrom(ip.Unmap(), n.Port).String(), nil
}

// Clocks are compared by the probes of the failure detector. An answer to a probe carries the time
// at which it was sent; it was on the way for at most the round trip, so half of that on either
// side bounds the error (as in NTP, RFC 5905, of which this is one exchange). Each of two members
// probes the other, so both see the difference, with opposite signs.

// decodeClock returns the time that an answer to a probe carries, and false if there is none.
func decodeClock(payload []byte) (time.Time, bool) {
	var nanoseconds uint64
	err := wire.Decode(payload, func(r *wire.Reader) {
		extra := r.Fields(1)
		nanoseconds = r.Uint()
		r.Skip(extra)
	})
	if err != nil || nanoseconds > math.MaxInt64 {
		return time.Time{}, false
	}
	return time.Unix(0, int64(nanoseconds)), true
}

// offsetOf returns how far the clock that showed theirs is ahead of ours, which showed now when the
// answer came. The round trip is at least a nanosecond, so that an error of 0 means unmeasured.
func offsetOf(theirs, now time.Time, rtt time.Duration) (offset, bound time.Duration) {
	half := max(rtt/2, 1)
	return theirs.Sub(now.Add(-half)), half
}

// compared notes the offset of a member's clock, measured now, as this host's clock showed a time.
func (t *table) compared(id string, offset, bound time.Duration, now, shown time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.known[id]; r != nil && r.Alive {
		r.ClockOffset, r.ClockError, r.Compared, r.Shown = offset, bound, now, shown
	}
}
