package engine

import (
	"math"
	"slices"

	"github.com/peerd/peerd/crdt"
)

// What a neighbour asks for, by gossip.Mesh.Secure, must survive a loss of power here before it is told so. That the log has it
// is not enough: with Config.Sync a sync has followed; with SyncEverySecond one is begun at once, as somebody waits; with
// neither nobody is told before the log is synced for a checkpoint.

// vouch looks what neighbours can be told, once all of the context is written. It reports whether that is to be done at once.
func (e *Engine) vouch() bool {
	if e.cfg.Volatile || !e.replica.Whole() || e.Busy() { // of what a task does not all may be written
		return false
	}
	told, waits := e.Mesh.Vouch(uint64(e.log.Next), uint64(e.logs.Synced()))
	e.awaited = waits && (e.cfg.Sync || e.cfg.SyncEverySecond)
	return told || e.awaited && !e.syncing
}

// Newest returns the last dot that was written here, under whatever id, also before the engine was
// opened; zero if there is none. Who has it has what was written before. Of earlier starts it is
// not known while the replica is damaged or rebuilds, which brings back what they wrote.
func (e *Engine) Newest() (d crdt.Dot, known bool) {
	if e.newest.Counter > 0 {
		return e.newest, true
	}
	d, _ = e.newestOwn()
	return d, e.replica.Whole()
}

// Secure has neighbours asked whether a dot that Newest returned survives there: see
// gossip.Mesh.Secure. Once this start has written under a later id they are asked for the first dot
// of that, which depends on all that was written before: so whoever waits asks for one replica,
// whenever that began. It returns what they are asked for.
func (e *Engine) Secure(d crdt.Dot) crdt.Dot {
	if d.Counter == 0 {
		return d
	}
	if id := e.newest.Replica; id != 0 && id != d.Replica {
		d = crdt.Dot{Replica: id, Counter: 1}
	}
	e.Mesh.Secure(d)
	return d
}

// newestOwn returns the last dot in the context that was written here, and where its id is among
// the store's own.
func (r *replica) newestOwn() (d crdt.Dot, at int) {
	for at, o := range slices.Backward(r.own) {
		if n := r.seen[o.id]; n > 0 && o.known != math.MaxUint64 { // that is another's, which has forked
			return crdt.Dot{Replica: o.id, Counter: n}, at
		}
	}
	return crdt.Dot{}, 0
}
