// Package httpapi serves a peer over HTTP: its data, what changes, and how it is.
//
//	POST   /v1/tx            operations on every type, as one transaction
//	GET    /v1/keys/{key}    what a key holds, as JSON; PUT and DELETE it
//	GET    /v1/keys          keys in order
//	GET    /v1/watch         which keys change, as server-sent events
//	GET    /v1/status        peer.Status as JSON
//	GET    /v1/history       the last hour of this host, and how far others are behind it
//	GET    /v1/clients       clients of the Redis protocol, and slow commands
//	GET    /metrics          figures for Prometheus: see api/metrics
//	GET    /v1/backup        a backup of all spaces, as peerd backup takes it
//	GET    /v1/openapi.yaml  all of this, described
//	GET    /healthz          200 and "ok" as long as the process serves
//	GET    /readyz           200 and "ready" if it has caught up and takes writes, else 503 and why not
//	GET    /                 the console: hosts, keys and changes, for people
//
// docs/http.md is the manual.
//
// # The contract
//
// A request is one transaction or one view of the peer. Bytes come back as they were sent (octets).
// Each answer about data has a token, and waits for the one that the request brings (await). A
// watch is a peer.Watch: it holds nothing for a slow client. Errors are problems (problem.go),
// whose codes are listed in openapi.yaml.
//
// Connections, headers, bodies, answers and times are bounded by the constants in server.go,
// request.go and watch.go. A new route is a line in routes.go and a path in openapi.yaml: a test
// compares them, and all tests of data check what they send and get against the document.
//
// # Caveats
//
// With Config.Auth all but health is answered to those alone who send the password, as a bearer
// token or in the way of Basic; each request is looked at, so connections carry no trust, and only
// keep their slots (slots.go). Without it, anybody who reaches the port may ask. Browsers on the
// same machine are kept out of other sites' hands (guard.go): a request without a password must
// name this host in its Host header, as a page of another site that points its own name at
// 127.0.0.1 does not; it must not come from another site's page; and the page runs no script but
// its own.
package httpapi
