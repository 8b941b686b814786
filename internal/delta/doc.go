// Package delta holds what replicas of a database say to each other: deltas, each what one transaction did.
//
// A Delta is a run of dots of one replica, with an Op for each: put an entry into a cell in place of those it
// replaces, remove entries, or clear all cells under a prefix of what the transaction saw there (a ClearSet, which
// costs the same whatever it removes). It is applied whole, and when everything is there that it may have seen: see
// Ready. So a replica's context needs no exceptions, and is a version vector.
//
// Deltas of a replica are chained: each has the hash of the one before it, and a replica keeps for each vector entry
// the hash that it ends with (Heads). Two histories under one replica id have two heads, and are noticed.
//
// Vectors leave out replicas that write no more, by replicated facts of how far these had come: see Bases, which also
// says how such a vector is read.
//
// # The contract
//
// What a transaction may hold and what a decoder accepts are the same limits, so that whatever was committed somewhere
// can be read and applied everywhere: MaxOps, MaxCost, MaxSize, MaxReplicas, and Op.Check. An encoding is canonical,
// is made once, and is what hashes are of: a delta that was read is passed on as the bytes that came, with fields of a
// newer version in them.
//
// Many deltas at once are packed (Packer, Unpacker): what they share is said once. That is a matter of frames alone; a
// delta unpacks to its own bytes.
//
// Describe says what an operation did in the words of the types, for a person who is to do it again.
//
// # Caveats
//
//   - A decoded delta points into its bytes. They must not change, and live as long as it does.
//   - A hash chain is no defence against a member that lies.
//
// # Tests
//
// bases_test.go compares by random histories what short vectors are taken for with what they stand for. delta_test.go
// has what is refused and what is carried along, codec_test.go the golden bytes and FuzzDecode; pack_test.go
// the same of packings, by random lists of deltas, with what they take in bytes, memory and CPU. What
// deltas do to a store is tested by internal/engine.
package delta
