// Package dotted holds what both a value and a database are made of: dots, and cells under addresses.
//
// It is the part of the algebra that knows no data type. A mutation has a Dot, and dots make sets: a VersionVector,
// and whatever else is a DotSet. A Cell is the live entries at an Address, and Join merges what two replicas have of
// one. A Tx is a transaction on a sorted set of cells, and all that a data type asks of what is below it: package
// crdt reads and writes through it, over memory in its State, over a store in internal/engine. Package crdt's doc
// tells the idea.
//
// # Why it is a package
//
// Addresses, cells and transactions are how values are kept, and not what users of crdt are to build on: they may
// change with the formats. So they are internal, and as crdt, deltas and the database all need them, they are below
// all of them. Dots, vectors and types are in their signatures and belong here too; crdt gives them to its users
// under the same names, by aliases, as both must mean one type. A name that crdt has is written crdt.Dot elsewhere.
//
// Lent leads the other way: what only crdt can make, and only the database may have.
//
// # Caveats
//
//   - A Place is how a store names a cell: long names are shortened, so that it gives no address back, and the order
//     of places is that of addresses for names of up to 256 bytes only.
//   - A Clock never reads the time: it is told.
//   - Reading what WriteVector and WriteDots wrote is bounded by the bytes that are there, whatever they declare.
//
// # Tests
//
// address_test.go and dot_test.go check addresses, places, vectors and the clock with rapid, and FuzzAddress reads any
// bytes as an address. Join and cells are tested by the laws and histories of package crdt.
package dotted
