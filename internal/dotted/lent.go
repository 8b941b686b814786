package dotted

// Lent is what package crdt lends to the database and to nobody else. crdt sets it when it is initialized;
// internal/engine and internal/delta, which import crdt, give it the types that it has not got here.
//
// The types' handles are built over a Tx, and programs that want values must be handed none: an exported constructor
// would have this package in its signature, and promise to keep the cells as they are. A package above crdt cannot
// reach an unexported one, and this one cannot import crdt to name its types. So the constructor goes through a
// variable, and is written once; golang.org/x/tools does the same in internal/packagesinternal.
var Lent struct {
	// Bind makes fields, which is a *crdt.Fields, the keys of tx. It uses their memory again.
	Bind func(fields any, tx Tx)
	// End has fields, and the handles that were taken of them, read of tx, and take no writes. It costs less than Bind.
	End func(fields any, tx Tx, why error)
	// Collect removes baselines that nothing needs any more from a cell. more says that it did not remove all of them.
	Collect func(tx Tx, a Address) (more bool, err error)
	// Expire removes what is left under the name that an address ends with, if that has expired.
	Expire func(tx Tx, name Address) error
	// Counted returns what the cell of a replica's share counts.
	Counted func(owner ReplicaID, share Cell) Int128
	// Effect tells what putting an entry with the payload into a cell did.
	Effect func(a Address, payload []byte) Effect
}

// Effect is what putting an entry did, in the words of the types.
type Effect struct {
	// Operation is "set", "add", "insert", "enable", "reset" or "expire"; or "unknown" for what nobody does by hand: what
	// a HyperLogLog has counted, what a stream has beside its entries, and what a later version writes.
	Operation string
	Value     []byte   // that was set; or to a score, added
	Fields    []string // of an entry of a stream, each with its value behind it
	Amount    int64    // that was added; when it ends, in milliseconds since 1970
	Total     int64    // that its replica has counted there, with Amount
}
