package replica

import (
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/wire"
)

// keyBranches is the list of branches that are known to be abandoned.
var keyBranches = []byte("mbranches")

// maxBranches is how many abandoned branches are remembered. The oldest healed ones are forgotten first: a
// host that is on one of those is only alarmed.
const maxBranches = 64

// maxBranchBytes is how large their list may grow before that, in bytes.
const maxBranchBytes = 2 << 20

// abandoned reports whether the delta of a replica that ends at a counter with this hash is one of those
// that were abandoned.
func (r *Replica) abandoned(id crdt.ReplicaID, last uint64, hash crdt.Hash) bool {
	for i := range r.branches {
		if r.branches[i].Has(id, last, hash) {
			return true
		}
	}
	return false
}

// Lacks reports whether the replica lacks something of a context.
func (r *Replica) Lacks(known crdt.VersionVector) bool { return !r.seen.Contains(known) }

// Branches returns the branches that are known to be abandoned, oldest first. They must not be changed.
func (r *Replica) Branches() []gossip.Branch { return r.branches }

// Abandon is told of abandoned branches by a neighbour, and reports whether this replica is on one that it
// did not know. They are stored with the next commit; if none comes, they are told again after a restart.
func (r *Replica) Abandon(all []gossip.Branch) (stranded bool) {
	for _, b := range all {
		if len(b.Healed) == 0 || len(b.Links) == 0 {
			continue
		}
		i := slices.IndexFunc(r.branches, func(o gossip.Branch) bool { return o.Name() == b.Name() })
		if i >= 0 {
			r.healedAnew(&r.branches[i], b)
			continue
		}
		r.addBranch(b)
		r.tried, r.unsaved = nil, true
		if !r.mayBeAbandoned(b.Replica, r.seen[b.Replica]) {
			delete(r.forks, b.Replica)
		}
		r.findBranch(&b)
		stranded = stranded || r.isOn(&b)
	}
	return stranded
}

// healedAnew is told of a branch that it knows. If this store is still to issue it again, it was put back to a
// moment before it did: what it issued then is fetched instead, if it is not lost. If another store issued it a
// second time, what it became the first time is.
func (r *Replica) healedAnew(mine *gossip.Branch, b gossip.Branch) {
	switch {
	case len(mine.Healed) == 0 && b.Tries < mine.Tries:
		return // that is what was lost
	case len(mine.Healed) == 0:
		r.adopted = append(r.adopted, b.Name())
		if !slices.Contains(r.left, b.Name()) {
			r.left = append(r.left, b.Name())
		}
	case b.Tries <= mine.Tries || r.seen.Contains(mine.Healed):
		return
	}
	*mine, r.tried, r.unsaved = b, nil, true
}

// misses reports whether something is not here that this store issued again before it was put back.
func (r *Replica) misses() bool {
	return slices.ContainsFunc(r.branches, func(b gossip.Branch) bool {
		return slices.Contains(r.adopted, b.Name()) && !r.seen.Contains(b.Healed)
	})
}

// reclaim takes that for lost, and has this store issue it again: all that it issued then at once, also
// branches that it had not found out at the moment to which it was put back.
func (r *Replica) reclaim() error {
	var lost []crdt.VersionVector
	for _, b := range r.branches {
		if slices.Contains(r.adopted, b.Name()) && !r.seen.Contains(b.Healed) {
			lost = append(lost, b.Healed)
		}
	}
	for i := range r.branches {
		b := &r.branches[i]
		if !slices.ContainsFunc(lost, b.Healed.Equal) {
			continue
		}
		ours := func(n gossip.BranchName) bool { return n == b.Name() }
		r.left, r.adopted = slices.DeleteFunc(r.left, ours), slices.DeleteFunc(r.adopted, ours)
		b.Healed, b.Moves = nil, nil
		b.Tries++
	}
	return r.markRebuild(r.phase)
}

// isOn reports whether this replica took a branch.
func (r *Replica) isOn(b *gossip.Branch) bool {
	return r.on[b.Name()] || b.Has(b.Replica, r.seen[b.Replica], r.heads[b.Replica])
}

// findBranch looks for the end of a branch in the log: its store may have lost a tail that is here.
func (r *Replica) findBranch(b *gossip.Branch) {
	if r.seen[b.Replica] <= b.Last() {
		return
	}
	head := b.Name().Head
	err := r.chain(b.Replica, head.Last, func(d *crdt.Delta) bool {
		r.on[b.Name()] = d.Last() == head.Last && d.Hash() == head.Hash
		return d.Last() < head.Last
	})
	if err != nil {
		delete(r.on, b.Name())
	}
}

func (r *Replica) findBranches() error {
	for i := range r.branches {
		r.findBranch(&r.branches[i])
	}
	return nil
}

// addBranch adds a branch, and makes room for it.
func (r *Replica) addBranch(b gossip.Branch) {
	size := b.Size()
	for _, o := range r.branches {
		size += o.Size()
	}
	for len(r.branches) >= maxBranches || size > maxBranchBytes {
		i := slices.IndexFunc(r.branches, func(o gossip.Branch) bool { return len(o.Healed) > 0 })
		if i < 0 {
			break
		}
		size -= r.branches[i].Size()
		r.branches = slices.Delete(r.branches, i, i+1)
	}
	r.branches = append(r.branches, b)
}

// Leaves returns the branches that this replica is on and must leave with Node.Discard, and what
// somebody must have for that: a fork of this store's own, and those that others abandoned.
func (r *Replica) Leaves() (left []gossip.BranchName, healed crdt.VersionVector) {
	if r.fork.Replica != 0 {
		left = append(left, r.fork)
	}
	for i := range r.branches {
		b := &r.branches[i]
		if len(b.Healed) > 0 && r.isOn(b) {
			if left = append(left, b.Name()); healed == nil {
				healed = crdt.VersionVector{}
			}
			healed.Merge(b.Healed)
		}
	}
	return left, healed
}

func (r *Replica) stranded() bool {
	left, _ := r.Leaves()
	return len(left) > 0
}

// leave notes, for a rebuild, which branches it leaves.
func (r *Replica) leave() error {
	left, _ := r.Leaves()
	for _, name := range left {
		if name == r.fork {
			b := gossip.Branch{Replica: name.Replica, Common: name.Common}
			err := r.chain(b.Replica, b.Common+1, func(d *crdt.Delta) bool {
				addLink(&b, d)
				return true
			})
			if err != nil {
				return err
			}
			r.addBranch(b)
			r.fork, name = gossip.BranchName{}, b.Name()
		}
		if !slices.Contains(r.left, name) {
			r.left = append(r.left, name)
		}
	}
	return nil
}

func addLink(b *gossip.Branch, d *crdt.Delta) {
	if d.Last() <= b.Last() {
		return
	}
	if len(b.Links) == gossip.MaxChain {
		b.Links = b.Links[1:]
	}
	b.Links = append(b.Links, gossip.ChainLink{Last: d.Last(), Hash: d.Hash()})
}

// abandons reports whether a delta is in a branch that this store must issue again. That of a branch so long
// that its older deltas are not remembered is taken for one of them; of the others the hash tells.
func (r *Replica) abandons(d *crdt.Delta) bool {
	return slices.ContainsFunc(r.branches, func(b gossip.Branch) bool {
		return len(b.Healed) == 0 && (b.Has(d.Replica, d.Last(), d.Hash()) ||
			b.Replica == d.Replica && b.Forgot(d.Last()))
	})
}

// leaves reports whether a delta of the log that was put aside is in a branch that another store issues
// again.
func (r *Replica) leaves(d *crdt.Delta) bool {
	return r.abandoned(d.Replica, d.Last(), d.Hash()) ||
		slices.ContainsFunc(r.left, func(f gossip.BranchName) bool {
			return f.Replica == d.Replica && f.Common < d.First && !slices.Contains(r.own, d.Replica)
		})
}

// settle finds out what becomes of the deltas in the log that was put aside and that no peer has, where they
// may have seen what is left behind, or follow on one that was lost: they cannot stay as they are. This
// store issues its own again, and if it is the one that forked, those of others too. Otherwise those are
// left to the others.
func (r *Replica) settle() error {
	s := settling{Replica: r, has: map[crdt.ReplicaID]gossip.ChainLink{}, saw: map[crdt.ReplicaID]bool{}}
	for _, b := range r.branches {
		s.forker = s.forker || len(b.Healed) == 0
	}
	snap := r.st.Snapshot()
	defer snap.Close()
	return readLog(snap, prefixOldLog, 0, func(rec logged) bool {
		for _, d := range rec.deltas {
			s.delta(d)
		}
		return true
	})
}

// Entrusted returns the replicas of which the last rebuild had deltas that followed on an abandoned branch: it left
// them out for their own stores to issue again. If one of those is gone for good, its deltas are lost.
func (r *Replica) Entrusted() []crdt.ReplicaID { return sortedKeys(r.entrusted) }

// settling is settle at work.
type settling struct {
	*Replica
	forker bool                                // this store forked
	has    map[crdt.ReplicaID]gossip.ChainLink // where the chain ends that peers have, and what follows on it
	saw    map[crdt.ReplicaID]bool             // replicas that may have seen what is left
}

func (s *settling) delta(d *crdt.Delta) {
	id := d.Replica
	end, met := s.has[id]
	if !met {
		end = s.end(id)
		s.saw[id] = d.First > end.Last+1 && len(s.left) > 0 // in what was cut off the log
	}
	s.saw[id] = s.saw[id] || s.sawBranch(d)
	if s.abandons(d) || s.extends(d) {
		return
	}
	own := slices.Contains(s.own, id)
	switch {
	case d.Last() <= end.Last:
	case s.leaves(d):
		s.leave(d)
		s.saw[id] = true
		s.has[id] = gossip.ChainLink{Last: d.Last(), Hash: d.Hash()}
	case s.saw[id] && (own || s.forker) || own && s.orphaned(d):
		b := gossip.Branch{Replica: id, Common: d.First - 1}
		addLink(&b, d)
		s.addBranch(b)
	case s.saw[id]:
		s.left = append(s.left, gossip.BranchName{Replica: id, Common: d.First - 1})
		s.entrusted[id] = true
	case s.follows(d):
		s.has[id] = gossip.ChainLink{Last: d.Last(), Hash: d.Hash()}
	}
}

// extends adds a delta to the branch that it follows on, if this store is to issue that again.
func (s *settling) extends(d *crdt.Delta) bool {
	for i := range s.branches {
		b := &s.branches[i]
		follows := gossip.ChainLink{Last: d.First - 1, Hash: d.Prev} == b.Name().Head
		if follows && len(b.Links) > 0 && len(b.Healed) == 0 && b.Replica == d.Replica {
			addLink(b, d)
			return true
		}
	}
	return false
}

// end returns where a replica's chain ends, of what came from peers and of what follows on it.
func (s *settling) end(id crdt.ReplicaID) gossip.ChainLink {
	if _, met := s.has[id]; !met {
		s.has[id] = gossip.ChainLink{Last: s.seen[id], Hash: s.heads[id]}
	}
	return s.has[id]
}

func (s *settling) follows(d *crdt.Delta) bool {
	end := s.end(d.Replica)
	return d.First == end.Last+1 && d.Prev == end.Hash
}

// orphaned reports whether a delta of this store's own follows on another one that is nowhere.
func (s *settling) orphaned(d *crdt.Delta) bool {
	return !s.follows(d) || slices.ContainsFunc(s.own, func(id crdt.ReplicaID) bool {
		return d.Deps[id] > s.end(id).Last
	})
}

// leave notes whose branch a delta is in: what it became is needed for what follows.
func (s *settling) leave(d *crdt.Delta) {
	for i := range s.branches {
		b := &s.branches[i]
		if b.Has(d.Replica, d.Last(), d.Hash()) && !slices.Contains(s.left, b.Name()) {
			s.left = append(s.left, b.Name())
		}
	}
}

// sawBranch reports whether a delta may have seen what is left.
func (r *Replica) sawBranch(d *crdt.Delta) bool {
	saw := func(id crdt.ReplicaID, common uint64) bool {
		return id != d.Replica && (d.Deps[id] > common || d.Seen[id] > common)
	}
	return slices.ContainsFunc(r.left, func(f gossip.BranchName) bool { return saw(f.Replica, f.Common) }) ||
		slices.ContainsFunc(r.branches, func(b gossip.Branch) bool {
			return len(b.Healed) == 0 && saw(b.Replica, b.Common)
		})
}

// again returns what issues the abandoned deltas again, or goes on with it.
func (r *Replica) again() (*crdt.Reissue, error) {
	again := &crdt.Reissue{Common: crdt.VersionVector{}}
	for _, b := range r.branches {
		if len(b.Healed) > 0 && !slices.Contains(r.left, b.Name()) {
			continue
		}
		if common, there := again.Common[b.Replica]; !there || b.Common < common {
			again.Common[b.Replica] = b.Common
		}
		for _, m := range b.Moves {
			for i := range m.N {
				again.Move(crdt.Dot{Replica: b.Replica, Counter: m.Was + i},
					crdt.Dot{Replica: m.Now.Replica, Counter: m.Now.Counter + i})
			}
		}
	}
	return again, r.loadMoved(again)
}

// heal notes that this store's branches are issued again.
func (r *Replica) heal(again *crdt.Reissue) {
	healed := crdt.VersionVector{}
	for _, id := range r.own {
		if n := r.seen[id]; n > 0 {
			healed[id] = n
		}
	}
	if len(healed) == 0 {
		healed = r.seen.Clone()
	}
	moves := movesOf(again)
	for i := range r.branches {
		b := &r.branches[i]
		if len(b.Healed) > 0 {
			continue
		}
		b.Healed = healed
		left := uint64(gossip.MaxMoved)
		for _, m := range moves[b.Replica] {
			if m.Was > b.Common && len(b.Moves) < gossip.MaxChain && m.N <= left {
				b.Moves = append(b.Moves, m)
				left -= m.N
			}
		}
		delete(r.forks, b.Replica)
	}
}

// movesOf returns what was issued again as runs, in order.
func movesOf(again *crdt.Reissue) map[crdt.ReplicaID][]gossip.Move {
	now := map[crdt.Dot]crdt.Dot{}
	var dots []crdt.Dot
	again.Moves(func(was, is crdt.Dot) {
		now[was] = is
		dots = append(dots, was)
	})
	slices.SortFunc(dots, crdt.Dot.Compare)
	moves := map[crdt.ReplicaID][]gossip.Move{}
	for _, was := range dots {
		is, all := now[was], moves[was.Replica]
		if n := len(all); n > 0 {
			end := &all[n-1]
			if end.Was+end.N == was.Counter && end.Now.Replica == is.Replica &&
				end.Now.Counter+end.N == is.Counter {
				end.N++
				continue
			}
		}
		moves[was.Replica] = append(all, gossip.Move{Was: was.Counter, N: 1, Now: is})
	}
	return moves
}

func (r *Replica) encodeBranches() []byte {
	return wire.Seal(formatVersion, keyBranches, wire.Encode(func(w *wire.Writer) {
		w.Array(len(r.branches))
		for _, b := range r.branches {
			gossip.WriteBranch(w, b)
		}
	}))
}

func (r *Replica) loadBranches() error {
	_, err := r.load(keyBranches, func(rd *wire.Reader) {
		n := rd.Array(maxListed) // there may be more than maxBranches that are not healed
		for i := 0; i < n && rd.Err() == nil; i++ {
			r.branches = append(r.branches, gossip.ReadBranch(rd))
		}
	})
	return err
}
