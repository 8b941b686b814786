package crdt

import "github.com/peerd/peerd/internal/dotted"

// ReplicaID names one writer: one copy of a State, or one incarnation of a store. It is 64 random
// bits, as of crypto/rand, so that no two ever share one; zero means none. Its text, and its JSON,
// is 16 hexadecimal digits.
type ReplicaID = dotted.ReplicaID

// ParseReplicaID reads what ReplicaID.String wrote.
func ParseReplicaID(s string) (ReplicaID, error) { return dotted.ParseReplicaID(s) }

// Dot names one mutation: the Counter-th of a replica, from 1 on without gaps. What a dot stands for
// never changes. Its text, and its JSON, is "replica:counter". Compare orders dots by replica, then
// counter; IsZero tells that one is none.
type Dot = dotted.Dot

// ParseDot reads what Dot.String wrote.
func ParseDot(s string) (Dot, error) { return dotted.ParseDot(s) }

// VersionVector holds, for each replica, its dots from 1 to the given counter. The nil vector is
// empty and may be read. An entry is never zero.
//
// Has tells of one dot whether it is in the vector, Contains and Equal compare two, Missing counts
// what one lacks of another. Merge and Raise add dots. Clone copies it. Replicas lists them in
// order.
type VersionVector = dotted.VersionVector
