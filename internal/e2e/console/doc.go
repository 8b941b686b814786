// Package console proves the page at "/" as a person meets it: real daemons on loopback, and
// Chromium without a window, in which the test reads, clicks and types. There is no code here,
// only the test. It is a module of its own, so that what drives Chromium is no dependency of the
// product.
//
//	cd internal/e2e/console && go test            needs Debian's package chromium, or another one in the path
//	cd internal/e2e/console && go test -update    writes the screenshots in docs/console anew
//
// PEERD_E2E_BINARY=FILE names the daemon, instead of building one. It runs on 127.0.0.1 alone.
package console
