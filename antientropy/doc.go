// Package antientropy finds and ships what one replica has and another lacks. It does no I/O: a
// session is two functions that exchange messages, and the caller carries them.
//
// # From cheap to thorough
//
// Two replicas that want to be equal climb a ladder, and stop at the first rung that suffices:
//
//  1. The digest: ContextDigest and the root of the Tree, 32 bytes. Both equal: nothing to do.
//  2. Version vectors: each side learns which dots the other lacks and streams the deltas from its
//     log. The cost is what is missing, whatever the size of the store. The replica core does it.
//  3. The Merkle tree, here: when no log reaches back far enough, compare the states themselves.
//
// Merkle trees entered this field with Dynamo (DeCandia et al., SOSP 2007), where each write
// costs a rebuild of hashes up the tree. The Tree here is summed instead of hashed: an entry's
// Fingerprint is 128 bits of SHA-256, a node is the sum modulo 2¹²⁸ of the entries below it, so
// that a write adds and subtracts at five nodes and reads nothing. (Bellare and Micciancio,
// Eurocrypt 1997, call such sums incremental hashes. They are for members that do not lie.
// Whoever chooses all that is hashed can find sums that collide (Wagner, Crypto 2002); a client
// chooses payloads but not dots or who lacks them, and the most that it could win is that a
// repair overlooks its own writes.) The tree has 1.1 MB at most, at any number of entries, and is
// pinned by a copy of 7 KB.
//
// # A repair session
//
// A session is a pull. The Puller compares its own pinned Snapshot with a pinned snapshot of a
// source, which answers through Serve and keeps no state:
//
//	puller                                     source
//	Bases    what I have, in the short form →  (until there are no more: see Gather)
//	                                       ←   the bases that the puller lacks
//	Pin                                    →
//	                                       ←   context in its short form, heads, root
//	Nodes    level, nodes that differ      →   (once a level: four times)
//	                                       ←   short fingerprints of their children
//	Leaves   leaves that differ, what I lack,
//	         short fingerprints of my cells → (until all are compared)
//	                                       ←   cells that are not among these: a dot of each entry, and the
//	                                           payload if unseen; and which of these are not here
//
// Both being dotted cells under a causal context, what to do with an entry needs no tombstones: a
// dot that the puller's context lacks is staged to be added; an entry of the puller's whose dot
// the source has seen, but no longer holds, is staged to be removed; the rest stays. That is
// dotted.Join, cell by cell. A second session in the other direction makes both equal.
//
// A puller whose context is empty has nothing to compare: it sends Scan instead of Nodes and
// Leaves and receives every cell in the order of places, which stores load fastest. If that
// breaks off another session goes on behind the last cell, with any source. In the end it
// compares all that came with that source (see Puller.Continue): what came is of several moments,
// so no context stands for it before.
//
// # Costs
//
// Ten differences among 100,000 entries take six round trips and about 470 bytes a difference,
// most of it short fingerprints on the way down: 130 bytes a node (BenchmarkPull). They travel in
// 8 bytes, salted with the root, which those who choose what is hashed do not know: two that
// differ are taken for equal by a chance of 2⁻⁶³, whoever wrote them. Requests name up to 1,024
// nodes or leaves, so many differences take few more trips. Responses with cells end near 512
// KiB; an entry larger than that travels alone; no message exceeds MaxMessage.
//
// # What makes it sound
//
//   - Both sides compare one moment each: context, cells and tree from one snapshot. A context
//     that is newer or older than its cells turns unseen writes into removed ones.
//   - Between its pin and the flip, the caller applies no delta whose dots are in the source's
//     pinned context (it parks or drops them): else an entry that arrived meanwhile would count as
//     seen without having been compared. Deltas beyond the pinned context may go on.
//   - What is staged becomes visible in one flip, with the pinned context joined into the local
//     one, and only after the session is done. A session cut short at any message leaves nothing
//     but a stage to throw away.
//   - Another pin is another session. Differences to one moment mean nothing at another.
//   - Equal contexts with different contents mean damage or a dot issued twice. Merging would
//     spread it, so the session stops with ErrDiverged before anything is compared. For the same
//     reason Serve sums each leaf that it reads and refuses, with ErrDamaged, to send one that is
//     not what its tree says: a record lost on a disk must not become a removal everywhere.
//
// # Tests
//
// puller_test.go joins random histories and compares every cell with dotted.Join. hostile_test.go
// plays sources that lie. message_test.go pins the format with testdata/messages.golden, and
// fuzzes both decoders.
package antientropy
