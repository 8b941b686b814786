// Package gossip spreads deltas between neighbours, without I/O.
//
// A Mesh keeps, for each neighbour, what the neighbour is known to have and how far into the local log it
// has been served. There are no queues: what a neighbour gets next is worked out when its link is ready
// for more, by reading the log on from there and leaving out what it has. A slow neighbour
// therefore costs no memory and slows nobody, and pushing a write at once and catching up after a
// week are the same code.
//
// Which links carry whose deltas follows Plumtree (Leitão, Pereira, Rodrigues: Epidemic Broadcast Trees,
// 2007), with a tree for each origin and version vectors in place of message ids: every link begins
// eager; a neighbour that sent a replica's delta when it was known already is asked to leave
// that replica's out (Prune); neighbours tell what they have along with deltas, or by itself (Have); and
// whoever sees there what nobody has sent for a while asks for it (a Hello that grafts). In a stable mesh
// each delta reaches each peer once, from its origin directly where there is a link. Own deltas may be
// held back for a while, so that many travel in few frames (Hold), where they are packed (delta.Packer).
//
// A delta that overtakes one that it depends on waits, within bounds; beyond them it is dropped and asked
// for again.
//
// What a neighbour is known to have is replaced by each Hello, never only raised by it: the neighbour may
// have lost what it had. It has the context in its short form (delta.Bases), and the bases that the neighbour lacks
// follow it: until then it is not read, nothing is sent, and nothing compared. Now and then a digest goes to a random
// neighbour: equal contexts over unequal cells mean damage and are reported.
//
// If the log does not reach what a neighbour lacks, it is told so (Behind), and repairs itself by comparing
// cells (package antientropy); its next Hello begins the stream again.
//
// Where a replica's dots stand for two things (fork.go says how that comes about), the two neighbours are in
// quarantine: both name the fork, and exchange nothing until an operator has ended one side, and each knows that their
// chains do not fork any more.
//
// Discovery and liveness are in package gossip/members. Tests: mesh_test.go here, and the seeded driver
// of whole replicas in internal/engine.
package gossip
