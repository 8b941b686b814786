// Package clients proves that clients and frameworks of Redis do their jobs with peerd as they are: each against one
// peer of two that are linked; queues, and what keeps something, written to on both sides of a cut; and all that go on at
// the other peer when their own has been killed, with nothing lost. There is no code here, only the tests, and the jobs in
// node, python and ruby that they run. It is a module of its own, so that they are no dependencies of the product.
//
//	cd internal/e2e/clients && bash install.sh && go test
//
// install.sh installs what Debian and npm have. PEERD_E2E_BINARY=FILE names the daemon, instead of building one; it runs
// on 127.0.0.1 alone. PEERD_CLIENTS_REDIS=ADDRESS has the jobs done with a real Redis, to see whether they are right.
package clients
