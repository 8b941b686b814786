package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/gossip/members"
)

// The space "peerd" has the members that were removed, beside the directory: a set of their ids,
// each with its name behind a space, so that they can be shown. Where a removal and its end are
// concurrent, the removal stays.

// removedKey is the key of the set.
const removedKey = "removed"

// MaxRemoved is how many members may be removed.
const MaxRemoved = MaxMembers

var (
	// ErrSeveralMembers is wrapped by the error for a text that fits more than one member.
	ErrSeveralMembers = errors.New("several members fit: name one by its id")
	// ErrRemoveSelf is returned for a peer that is to remove itself, or to take itself back.
	ErrRemoveSelf = errors.New("a host is removed, and taken back, by another one of the cluster")
	// ErrRemoved is what keeps a peer from being ready that the others have removed.
	ErrRemoved = errors.New("this host was removed from the cluster: nothing is exchanged with it until peerd member " +
		"add is run for it on another host")
)

// RemovedMember is a member that was removed.
type RemovedMember struct {
	Name   string `json:"name"`
	PeerID string `json:"peer_id"`
}

// RemoveMember takes a member out of the cluster, on all hosts: it is not listed, looked for,
// waited for nor let in any more, until AddMember. which is its id, or six characters or more at
// either end of that, which no other has, its name, or its gossip address; of one that is not known
// here, the id. It keeps its data and the cluster's key: RotateKey is against one that is not to be
// trusted. The error wraps ErrUnknownMember, ErrSeveralMembers or, beyond MaxRemoved, ErrTooLarge,
// is ErrRemoveSelf, or one of Update. Backups do not have it: where a whole cluster is restored it
// is to be said again.
func (p *Peer) RemoveMember(ctx context.Context, which string) (RemovedMember, error) {
	m, err := p.findMember(ctx, which)
	if err != nil {
		return m, err
	}
	return m, p.changeRemoved(ctx, m.PeerID, func(tx *Tx) error {
		all := tx.Set(removedKey)
		if all.Len() >= MaxRemoved {
			return fmt.Errorf("%d members are removed already: %w", MaxRemoved, ErrTooLarge)
		}
		_, err := all.Add(m.PeerID + " " + m.Name)
		return err
	})
}

// AddMember ends what RemoveMember began. A member that was not removed stays what it is.
func (p *Peer) AddMember(ctx context.Context, which string) (RemovedMember, error) {
	m, err := p.findMember(ctx, which)
	if err != nil {
		return m, err
	}
	return m, p.changeRemoved(ctx, m.PeerID, func(tx *Tx) error {
		all := tx.Set(removedKey)
		for _, elem := range slices.Collect(all.All()) {
			if id, _, _ := strings.Cut(elem, " "); id != m.PeerID {
				continue
			}
			if _, err := all.Remove(elem); err != nil {
				return err
			}
		}
		return nil
	})
}

// changeRemoved changes the set, has this host heed it before it returns, and has the member hear
// of it.
func (p *Peer) changeRemoved(ctx context.Context, id string, fn func(*Tx) error) error {
	errs := p.space(directorySpace).UpdateAll(ctx, []func(*Tx) error{fn})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := p.heedRemovals(ctx); err != nil {
		return err
	}
	p.net.tellRemoval(id)
	return nil
}

// tellRemoval tells a member whether it is removed. The delta that says so may reach it as well,
// unless the link is closed before. One that is not reached hears it when it is back.
func (n *network) tellRemoval(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return
	}
	n.spawn(func() {
		if err := n.members.Tell(id); err != nil {
			n.p.log.Debug("a member was not told now whether it is removed", "peer_id", id, "error", err)
		}
	})
}

// RemovedMembers returns the members that were removed, by their ids.
func (p *Peer) RemovedMembers(ctx context.Context) ([]RemovedMember, error) {
	named, err := p.removals(ctx)
	out := []RemovedMember{}
	for _, id := range slices.Sorted(maps.Keys(named)) {
		out = append(out, RemovedMember{named[id], id})
	}
	return out, err
}

// removals returns the names of removed members, by their ids.
func (p *Peer) removals(ctx context.Context) (named map[string]string, err error) {
	named = map[string]string{}
	err = (&Space{p, directorySpace}).View(ctx, func(tx *Tx) error {
		for elem := range tx.Set(removedKey).All() {
			id, name, _ := strings.Cut(elem, " ")
			if _, err := libpeer.Decode(id); err == nil && len(named) < MaxRemoved {
				named[id] = members.Printable(name) // another host may have written it
			}
		}
		return nil
	})
	return named, err
}

// findMember returns the member that a person means, removed or not.
func (p *Peer) findMember(ctx context.Context, which string) (RemovedMember, error) {
	if p.net == nil {
		return RemovedMember{}, errors.New("this peer is offline: it has no cluster")
	}
	found, err := p.net.find(ctx, which)
	if err == nil && found.PeerID == p.net.id.String() {
		err = ErrRemoveSelf
	}
	return found, err
}

// named returns the id of the only member whose id or name is exactly this; "" if there is none, or several are.
func named(fitting map[string]string, which string) (only string) {
	for id, name := range fitting {
		switch {
		case id == which:
			return id
		case name == which && only != "":
			return ""
		case name == which:
			only = id
		}
	}
	return only
}

// leastPart is how many characters of a peer id stand for it at least.
const leastPart = 6

func (n *network) find(ctx context.Context, which string) (RemovedMember, error) {
	removed, err := n.p.removals(ctx)
	if err != nil {
		return RemovedMember{}, err
	}
	part := strings.Trim(which, "….")
	long := len(part) >= leastPart // else a mistyped name would be the end of somebody's id
	fitting := map[string]string{} // names by ids
	fits := func(id, name, addr string) {
		if part != "" && (name == which || addr == which || long && (strings.HasPrefix(id, part) || strings.HasSuffix(id, part))) {
			fitting[id] = name
		}
	}
	fits(n.id.String(), n.p.cfg.Name, n.members.Addr())
	for _, m := range n.members.List() {
		fits(m.ID, m.Label, m.Addr)
	}
	for id, name := range removed {
		fits(id, name, "")
	}
	if _, err := libpeer.Decode(which); err == nil && len(fitting) == 0 {
		fitting[which] = "?"
	}
	if exact := named(fitting, which); exact != "" {
		fitting = map[string]string{exact: fitting[exact]}
	}
	ids := slices.Sorted(maps.Keys(fitting))
	switch len(ids) {
	case 0:
		return RemovedMember{}, fmt.Errorf("%q: %w", which, ErrUnknownMember)
	case 1:
		return RemovedMember{fitting[ids[0]], ids[0]}, nil
	}
	return RemovedMember{}, fmt.Errorf("%q: %w: %s", which, ErrSeveralMembers, strings.Join(ids, ", "))
}

// heedRemovals has the network act by what the set says.
func (p *Peer) heedRemovals(ctx context.Context) error {
	named, err := p.removals(ctx)
	if err != nil || p.net == nil {
		return err
	}
	p.net.gater.removed.Store(&named)
	p.net.members.SetRemoved(slices.Collect(maps.Keys(named)))
	return nil
}

// removalRetry is after how long the set is read again where it could not be.
const removalRetry = 5 * time.Second

// followRemovals heeds removals, here and elsewhere, until the peer is closed.
func (p *Peer) followRemovals() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := (&Space{p, directorySpace}).Watch(removedKey)
	defer w.Close()
	for {
		if err := p.heedRemovals(ctx); !p.nextChange(ctx, w, err != nil, removalRetry) {
			return
		}
	}
}

// isRemoved reports whether a peer was removed.
func (g *gater) isRemoved(id string) bool {
	removed := g.removed.Load()
	if removed == nil {
		return false
	}
	_, is := (*removed)[id]
	return is
}

// removedIDs returns who was removed.
func (g *gater) removedIDs() []string {
	removed := g.removed.Load()
	if removed == nil {
		return nil
	}
	return slices.Collect(maps.Keys(*removed))
}

// removed returns ErrRemoved if the other hosts have removed this one, as far as it has heard.
func (p *Peer) removed() error {
	if n := p.net; n != nil && (n.gater.isRemoved(n.id.String()) || n.members.Removed()) {
		return ErrRemoved
	}
	return nil
}

// sayRemoved logs it, once a minute, where this host is removed.
func (n *network) sayRemoved() {
	why := n.p.removed()
	if now := time.Now(); why != nil && now.Sub(n.removedSaid) >= warnEvery {
		n.removedSaid = now
		n.p.log.Error(why.Error(), "name", n.p.cfg.Name, "command", "peerd member add "+n.id.String())
	}
}

// meant replaces what a person calls members by their ids.
func (n *network) meant(ctx context.Context, which []string) (ids []string, err error) {
	for _, one := range which {
		found, err := n.find(ctx, one)
		if err != nil && !errors.Is(err, ErrUnknownMember) {
			return nil, err
		}
		ids = append(ids, cmp.Or(found.PeerID, one)) // the other members may know it
	}
	return ids, nil
}
