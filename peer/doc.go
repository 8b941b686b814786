// Package peer is peerd's embedded database: one peer of a leaderless cluster, in this process.
//
// A Peer reads and writes locally, whether or not it can reach others. Whenever it can, it
// exchanges deltas with them, and all peers that have seen the same writes hold the same state: see
// package crdt for what becomes of concurrent writes to the same thing.
//
//	p, err := peer.Open(ctx, peer.Config{Dir: "data", Offline: true}) // without Offline it opens ports
//	...
//	defer p.Close()
//	err = p.Update(ctx, func(tx *peer.Tx) error {
//		_, err := tx.Counter("visits").Add(1)
//		return err
//	})
//
// Peers of one cluster hold copies of one secret, cluster.key, which the first of them makes. One
// that is to join others is given a copy and the address of any of them:
//
//	peer.Config{Dir: "data", ClusterKey: "cluster.key", Join: []string{"10.0.0.1:7946"}}
//
// The programs in examples are one peer alone (embed) and two that meet (twopeers).
//
// # Promises
//
//   - An acknowledged write is not lost: it survives a crash of the process, and of the machine as
//     Config.Durability says; and no other peer's write silently takes its place, unless it saw it.
//   - A transaction becomes visible whole, here and everywhere, and after everything that it had seen.
//   - After an Update returned, every View of this peer sees it.
//   - Peers that have received the same writes hold the same state.
//
// # Not promised
//
// There is no order between transactions of different peers other than causality, and so no
// serializability: two peers may both take the last item of a stock. Use types whose concurrent
// changes both mean something, or one peer as the place for such writes.
//
// # Spaces
//
// A Space is a named set of keys that is replicated apart from others, by the hosts that take part
// in it (Config.Spaces): all promises are about one space, and a transaction is of one. The methods
// of Peer that read and write are those of the space "default", but for Backup, Status and Metrics,
// which are about all. A space is made by the first transaction that writes to it, on any host. The
// space "peerd" is the cluster's own: it has the directory of spaces, can be read and cannot be
// written.
//
// # Tokens and watches
//
// A Token names what a moment of a space has seen. A peer can be asked to Wait for one that another
// peer gave, so that a client who moves finds its own writes; and a Watch goes on from one, at any
// peer, and tells each change since exactly once. A log that was cut, and a repair, make it tell
// all keys anew: see Change.Reset.
//
// # Inside
//
// Each space has an engine (package internal/engine), which decides everything and does no I/O, and
// a loop, which hands in the transactions that wait and the frames that arrived, and carries out
// what the engine says, step by step. Who takes a step has the space's turn: a caller that finds it
// free, or else the loop's goroutine. All spaces share one store, one log and one stream to each
// neighbour. Views read snapshots beside the loops. docs/architecture.md has all
// goroutines and the life of a write. The tests are in this directory; those of the core, with a
// seeded driver of many replicas, in internal/engine.
package peer
