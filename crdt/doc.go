// Package crdt holds peerd's data types and the algebra by which replicas that never ask each
// other first still come to agree. It is pure: no I/O, no goroutine, no clock, no randomness. The
// database runs it over its store; State runs it over a tree in memory, for programs that want
// mergeable values and no database.
//
// # In short
//
// Whoever wants values begins with State: two copies are changed apart, and merged.
//
//	id := crdt.ReplicaID(rand.Uint64()) // each copy that writes draws its own
//	here, there := crdt.NewState(), crdt.NewState()
//	delta, err := here.Update(id, time.Now(), func(keys crdt.Fields) error {
//		_, err := keys.Set("fruit").Add("apple")
//		return err
//	})
//	there.Merge(delta)
//	for elem := range there.View().Set("fruit").All() { ... }
//
// Fields is the keys, and each of the types is had from there by name. They have the same verbs:
//
//	Register  Get All  Set Clear          Set    Has Len All  Add Remove Clear
//	String    Get All  Set Add Clear      Map    Has Len All  Remove Clear, and the fields by type
//	Counter   Get      Add Clear
//	Flag      Get      Set
//	List         Get Len All From  Insert Set Remove Clear
//	SortedSet    Score Len Before All From Back ByName  Set Add Remove Clear
//	Bitmap       Get All GetBit Read   SetBit Edit Take Clear
//	HyperLogLog  Get Count             Add Merge Clear
//	Stream    Has Len Range Backward  Add AddAs Remove RemoveFirst Clear, and a Group's Read, Ack, Assign
//	Expiry    Get      Set Clear: when what is under a name ends
//
// Reads return no error. A write returns one if it is refused, and then has changed nothing. The
// database's transactions (peer.Tx) have the same Fields and types. What follows tells what is
// below, so that what they do can be understood. Cells and addresses have no exported names: how
// values are kept is peerd's own affair.
//
// # Dots and cells
//
// Every mutation has a dot: the n-th of its replica, unique for ever. What is stored is a sorted
// set of cells. A cell's address is a key, a type and a path; its content the live entries, each a
// dot and an immutable payload, and nearly always just one:
//
//	"greeting" v            4f…:17 → written at 12:00:00.000: "hello"
//	"fruit" s "apple"       4f…:18 → there
//	"fruit" s "pear"        4f…:19 → there
//
// A write puts an entry with a new dot and removes the entries that it saw there. Two replicas
// that write at once do not see each other's entries, so both stay, side by side, until a write
// that has seen them replaces them. This is all there is to concurrency: the types below only
// differ in how they read a cell, and in which cells they spread over.
//
// # The context is the tombstone
//
// Beside its cells a replica keeps a causal context: the set of all dots whose effects it has.
// Dots of a replica are seen in order, or nearly so, and the set is a version vector with few
// exceptions. When two replicas join, an entry stays if both have it, or if one has it and the
// other's context lacks its dot. If the other's context has the dot and its cell has not, it was
// removed there, and goes. So a removal leaves nothing behind in the cells: no marker, nothing to
// collect later, nothing that collected too early would let the dead return. Join is commutative,
// associative and idempotent: messages may come in any order, twice, and along any path.
//
// # Deltas
//
// Nobody sends whole states. What one transaction did is a delta. There are two kinds:
//
//   - The database's is a list of operations on named cells, removals included, each with a dot. It
//     is applied whole and only after everything that it may have seen, so that a store's context
//     needs no exceptions, and deleting a million elements is one operation ("what you see here,
//     up to this context").
//   - The State that State.Update returns is a value's: the cells touched and the dots concerned, with
//     one of no cell if it removed anything. It may be merged into any state at once, in any order.
//     See State for why that is sound.
//
// # The types, and what they do in a conflict
//
//	Register   concurrent values all stay; Get shows the latest by time, then dot; All shows all
//	Counter    increments all count; Clear takes away those that it has seen, and no others
//	String     a register and a counter under one name: increments count on top of a concurrent Set
//	Flag       setting it wins over concurrently unsetting it
//	Bitmap     each chunk of a KiB is a register, of which the latest shows
//	HyperLogLog  registers join by their maximum: what all have added is counted
//	Set        adding an element wins over a concurrent removal, element by element
//	SortedSet  of scores set at once the latest stays, and what is added at once all counts; else as Set
//	List       every insertion stays, runs together; a Set of an element wins over its removal
//	Map        fields of every type, nested; an update inside wins over a concurrent removal around it
//	Stream     entries of all, in the order of their ids; no group skips one that arrives late
//
// Removing a name, a field or a container removes what the remover has seen. What it has not seen
// survives, so no write that a replica accepted is lost to a removal that did not know of it. Two
// replicas that create one name with the same type have created one thing; with two types, two
// things that both stay (Fields.Types tells them).
//
// Time decides only between writes that are concurrent: a clock that is wrong can make the other
// of two concurrent writes win, and nothing else. Times of a database are hybrid logical ones.
//
// # Counters
//
// A counter whose replicas each keep one cumulative entry goes wrong when a reset (a Clear, or a
// Remove or Set of the whole) meets a concurrent increment: the increment's entry carries the sum
// that the reset has just removed, and brings it back. Keeping an entry for each increment is
// right, and grows without end. Here a replica's share is cumulative within an epoch, which begins
// with the first increment after its share was removed; and a reset leaves, for each share that it
// removes of another replica, a hidden baseline: of what that replica counted in that epoch, so
// much is gone. The value is the sum of
//
//	share's total − the greater of its own base and the live baselines of its epoch
//
// and the owner's next increment takes the baseline into its base and removes it. In a database a
// baseline goes as soon as no share of its epoch can come any more: its owner removes it, or
// whoever has seen that the owner's id has ended (Collect). Each share has a cell of its own, with the
// baselines for it, and the sum of all is kept beside them. Leaving a part
// out breaks, in random histories of 8 to 60 steps and 3 or 4 replicas (counter_test.go):
//
//	as described                         0 of  5,000 read a wrong value
//	resets leave no baseline           817 of  2,000
//	shares do not take baselines in    121 of  2,000
//
// A score of a sorted set is made of such shares as well, but in the cell of its element, where a baseline says for whom it
// is. Amounts are exact there, as sums of powers of two of any size, so that their sum does not depend on the order of
// merging; and what a replica computed itself by floating-point numbers is shown as long as nothing else has come.
//
// # Cost
//
// Reading or writing a register, counter, flag, element or field is O(log cells), whatever the
// size of what it is in. Set.Len and the Len of a flat map are O(1) for a key. A rank of a sorted set, and an element by
// it, is O(log cells) in the database, and O(log² cells) in a State. Deleting a key of a
// million elements is one small operation in the database, and O(elements) in a State, which has
// no log that could keep one. Merging a delta costs what the delta holds, and a look-up of each
// of its cells, which is O(log cells) (BenchmarkMergeOfAOneEntryDelta).
//
// # Caveats
//
//   - A replica id belongs to one writer. Two copies that issue dots under one id diverge silently
//     in a State (the database chains deltas by hashes, which shows it). A copy that writes draws
//     its own id.
//   - A counter holds a share for each replica id that has counted since it was last set or reset,
//     those of earlier incarnations of a store included. A baseline of an id that crashed stays: some
//     thirty bytes for each counter that it had counted on and others reset, which readers do not
//     see. In a State, which knows of no ends, each stays until its owner counts again.
//   - A context grows by an entry for each replica that ever wrote.
//   - Peers are trusted not to lie. What they send may be damaged or hostile as bytes: decoding
//     never panics, recurses or allocates by a declared length. But a well-formed lie, such as a
//     delta whose context holds dots of cells that it does not list, makes replicas differ.
//   - A State is not safe for concurrent use.
//
// # Papers
//
// Almeida, Shoker, Baquero: Delta State Replicated Data Types (J. Parallel Distrib. Comput. 2018),
// for dots, causal contexts and their join. Brown, Lakhani, Place: Big(ger) Sets (PaPoC 2016), for
// an element a cell under one context. Gonçalves, Almeida, Baquero, Fonte: DottedDB (SRDS 2017),
// for deletion without tombstones in a whole store. Kulkarni, Demirbas, Madappa, Avva, Leone:
// Logical Physical Clocks (OPODIS 2014), for the times of a database. The counter's epochs and
// baselines are peerd's own.
//
// # Tests
//
// history_test.go draws runs of replicas and knows what each must read from who had seen what,
// without dots; model_test.go and counter_test.go check every type against it. laws_test.go checks
// the algebra with rapid. golden_test.go and codec_test.go pin and fuzz the encodings.
package crdt
