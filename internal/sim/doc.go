// Package sim runs the production replica core through faults, in worlds that replay from a seed.
//
// A world is a few machines on virtual time, with a host for each space that a machine holds. What package peer carries
// out for the core with goroutines, libp2p and Badger, a host carries out here with events. The core itself (package
// internal/engine, with all decisions: turns, timers, syncs, repairs, the care for damage and forks), dissemination,
// the joining of spaces, repair sessions, the types and the log are the code that ships. Only the network, the disk, the
// clock and the membership are simulated, and they are hostile: see Fault.
//
// Everything is decided by one random source in the order of virtual time, in one goroutine: the
// same seed gives the same trace, byte for byte, for as long as neither this package nor the core
// changes.
//
// # What is checked
//
// Each world records what every client asked for and what its replica had seen then. From that
// alone, an oracle says what must be read, for each type (oracle.go); it is compared after writes,
// at random moments, in views that were left open, and in the end, when the faults have ceased and
// all must agree within a bound. Beside values: that nothing is lost but what no one promised to
// keep; that what a host holds is closed under what it had seen, transactions whole; that no dot
// names two deltas; that the root kept in place is that of the cells on the disk; that an opened
// store is what was closed; that clocks infect nobody; that nothing is kept but what is live and
// the log.
//
// # Caveats
//
// What carries out here is not package peer: what that does with real goroutines is tested
// there. Packets are lost below streams that put them in order again, as QUIC and TCP do, except
// in unordered worlds.
//
// docs/testing.md tells how to run and replay it, and how to add a type or a fault. Mutants,
// mistakes that it must find, are in the directory of that name.
package sim
