// Package e2e proves peerd from outside: real daemons, built by the test, on a real network, loaded
// with real data, cut apart, killed and wiped. There is no code here, only the test:
//
//	go test -v ./internal/e2e
//
// # The network
//
// Each daemon runs in a network namespace of its own; a bridge in another one joins them, and a
// host is cut off by taking its cable out of the bridge: packets are then lost in silence, as on a
// broken network. This needs Linux, root and ip(8). The namespaces have no names: they end with the
// test, however it ends. Clients are in their daemon's namespace, as RESP and HTTP listen on
// loopback.
//
// Without all that the daemons run on loopback ports and are cut by the daemon's own fault
// injection (--cut-file). The test prints which of the two it was.
//
//	PEERD_E2E_NAMESPACES=require   fail if there are no namespaces, instead of using loopback
//	PEERD_E2E_BINARY=FILE          use this daemon instead of building one
//
// # The model
//
// model_test.go says what every client must read in the end. It knows no dots, contexts or clocks,
// but only who had seen which write: each side of a cut network is a view that keeps the writes it
// sees, a write or removal ends those that its side saw, and views that meet keep what neither has
// ended. Every acknowledged command of the test goes into it; those of a killed daemon that were
// not acknowledged may have happened or not, but whole, and the same on all peers.
//
// # The data
//
// testdata/UnicodeData.txt.gz: a hash for each code point, a set and a counter for each general
// category. See testdata/README.md for its licence. A tenth of it is loaded, or with "-every 1" all of it.
package e2e
