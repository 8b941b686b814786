// Package httpapi tells over HTTP how a peer is: to load balancers, to programs, and to people.
//
//	GET /healthz    200 and "ok" as long as the process serves
//	GET /readyz     200 and "ready" if it has caught up and takes writes, else 503 and why not
//	GET /metrics    figures for Prometheus: see api/metrics
//	GET /v1/status  peer.Status as JSON
//	GET /v1/backup  a backup of this moment, as peer.Restore reads it; one at a time
//	GET /           a page that shows the status and keeps itself up to date
//
// What is missing or not allowed is answered as JSON: {"error": "..."}.
//
// # The contract
//
// Everything is read-only and, but for a backup, answered from memory. The status is taken on the peer's commit
// loop, between two groups, so that its fields belong together. Connections, headers and times
// are bounded by the constants in server.go.
//
// # Caveats
//
// With Config.Auth all but health is answered to those alone who send the password, as a bearer
// token or in the way of Basic; each request is looked at, so connections carry no trust. Without
// it, anybody who reaches the port may ask. Browsers on the same machine are kept out of other
// sites' hands: a request without a password must name this host in its Host header, as a page of
// another site that points its own name at 127.0.0.1 does not; and the page runs no script but its
// own.
package httpapi
