// Package auth decides whether a client of a front-end is let in: by a password, by a TLS
// certificate, or by both.
//
// # The idea
//
// A Guard holds the passwords of a file, and nothing but a keyed hash of each: a guess is hashed
// and compared with all of them in constant time, so that neither the time nor memory tells how
// near it was. The file may hold several passwords, a line each, so that one can be replaced while
// clients still use the other.
//
// Who fails is slowed down. After a few failures an address has to wait, each time twice as long,
// and what it tries meanwhile is refused unseen. Nobody waits inside: there is no sleeping
// goroutine and no lock held for others, only a table of addresses of bounded size.
//
// TLS holds a server's certificate, and the authority whose certificates clients must show, if
// there is one.
//
// # The contract
//
// All methods may be called by many goroutines at once. Reload reads the files again, and leaves
// it to its caller when they are used: so passwords and TLS change together, or not at all.
//
// # Caveats
//
// All passwords are of one rank: who is in may do everything. The wait is for an address (for IPv6
// a /64), so one client behind a shared address can make the others there wait, 10 seconds at
// most. Without TLS a password crosses the network in the clear.
package auth
