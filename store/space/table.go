package space

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

const (
	// MaxName is how long a space's name may be, in bytes.
	MaxName = 64
	// maxNumber is the last number that is given away.
	maxNumber = 1<<16 - 1

	formatVersion = 2
	olderStore    = "move the directory away, or name another, and start empty"

	// reclaimKeys and reclaimBytes bound what one Reclaim deletes.
	reclaimKeys  = 1024
	reclaimBytes = 256 << 10
)

var (
	// ErrNoNumber is returned when all numbers were given away.
	ErrNoNumber = errors.New("this host has had 65,535 spaces, and takes no more")
	// ErrUnknown is returned for a space that the table does not have.
	ErrUnknown = errors.New("this host does not hold the space")
	// ErrExists is returned for a space that it has already.
	ErrExists = errors.New("this host holds the space already")
)

// Space is one that the host holds.
type Space struct {
	Number Number
	Name   string
	From   store.Position // none of its records of the log stands before
}

// state is what became of a space.
type state uint64

const (
	held     state = 1
	dropping state = 2 // its records are being deleted
	dropped  state = 3 // it has none. The name is remembered, until there is a space of that name again
)

// entry is a space's record.
type entry struct {
	Space
	state state
}

// Table says which spaces a store has, and which were dropped. It is kept in the part of number 0.
// All methods may be called by many goroutines at once.
type Table struct {
	st  store.Store
	own *Tree

	mu      sync.Mutex // guards what follows
	next    uint64     // number that is given away next
	entries map[Number]entry
	newest  map[string]Number // number of the newest space of a name
	at      []byte            // how far Reclaim has come in the space it is at
	kept    map[Number]bool   // what Reclaim leaves alone
}

// Keys of the host's own records.
const prefixSpace = 's' // number: a space

var keyNext = []byte("mnext") // the number that is given away next

func keyOf(n Number) []byte { return n.append([]byte{prefixSpace}) }

// OpenTable reads the table of a store, and makes that of an empty one. The error wraps
// wire.ErrFormat if another version of the program wrote the store, and store.ErrCorrupt if the
// table is damaged.
func OpenTable(st store.Store) (*Table, error) {
	t := &Table{
		st: st, own: NewTree(st, 0), next: 1,
		entries: map[Number]entry{}, newest: map[string]Number{}, kept: map[Number]bool{},
	}
	if err := t.open(); err != nil {
		return nil, fmt.Errorf("table of spaces: %w", err)
	}
	return t, nil
}

func (t *Table) open() error {
	if err := t.st.Sync(); err != nil { // who was killed may have left the newest entries unsynced
		return err
	}
	whole := t.st.Snapshot()
	defer whole.Close()
	view := &snapshot{t.own, whole}
	record, ok, err := view.Get(keyNext)
	if err != nil {
		return err
	}
	if !ok {
		return t.begin(whole)
	}
	if t.next, err = decodeNext(record); err != nil {
		return err
	}
	var failed error
	err = view.Scan([]byte{prefixSpace}, []byte{prefixSpace + 1}, func(key, value []byte) bool {
		var e entry
		if e, failed = decodeEntry(key, value); failed == nil && uint64(e.Number) >= t.next {
			failed = fmt.Errorf("number %d was not given away: %w", e.Number, store.ErrCorrupt)
		}
		t.put(e)
		return failed == nil
	})
	return errors.Join(err, failed)
}

// olderKinds is below the first bytes of all keys of stores without spaces, which are letters,
// and above those of the first 8,192 numbers.
const olderKinds = 0x20

// begin makes the table of a store that has none. If it has something else, its table was lost,
// or it is older than spaces.
func (t *Table) begin(whole store.Snapshot) error {
	var first []byte
	err := whole.ScanKeys(nil, nil, func(key []byte) bool {
		first = append(first, key...)
		return false
	})
	switch {
	case err != nil:
		return err
	case len(first) > 0 && first[0] < olderKinds:
		return fmt.Errorf("the store has records and no table: %w", store.ErrCorrupt)
	case len(first) > 0:
		return fmt.Errorf("%w: the store has records and no table, as before peerd 0.1.0: %s", wire.ErrFormat,
			olderStore)
	}
	return t.commit(t.next)
}

// Spaces returns those that the host holds, by number.
func (t *Table) Spaces() (all []Space) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(t.entries)) {
		if e := t.entries[n]; e.state == held {
			all = append(all, e.Space)
		}
	}
	return all
}

// Dropped reports whether the host had a space of a name and dropped it, and none of the name was
// added since.
func (t *Table) Dropped(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.find(name)
	return ok && e.state != held
}

// Lacks reports whether Dropped is true of any name.
func (t *Table) Lacks() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.newest {
		if t.entries[n].state != held {
			return true
		}
	}
	return false
}

// find returns the newest space of a name. It is called with mu held.
func (t *Table) find(name string) (found entry, ok bool) {
	found, ok = t.entries[t.newest[name]]
	return found, ok
}

// put adds an entry, or changes it. It is called with mu held, or before anybody else has the
// table.
func (t *Table) put(e entry) {
	t.entries[e.Number] = e
	t.newest[e.Name] = max(t.newest[e.Name], e.Number)
}

// Add gives a space a number, which no other had before. That is durable when Add returns. No
// record of the space may stand in the log before a position: see Committer.Begin.
func (t *Table) Add(name string, from store.Position) (Number, error) {
	if name == "" || len(name) > MaxName {
		return 0, fmt.Errorf("the name of a space has 1 to %d bytes, and %q has %d", MaxName, name, len(name))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.find(name)
	switch {
	case known && old.state == held:
		return 0, fmt.Errorf("%w: %s", ErrExists, name)
	case t.next > maxNumber:
		return 0, ErrNoNumber
	}
	e := entry{Space{Number(t.next), name, from}, held}
	changed := []entry{e}
	if known && old.state == dropped {
		changed = append(changed, entry{Space: Space{Number: old.Number}})
	}
	return e.Number, t.commit(t.next+1, changed...)
}

// Keep has Reclaim leave a space alone until Release, also when it is dropped meanwhile: its Tree
// is still in use. After a crash that is not so any more.
func (t *Table) Keep(n Number) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept[n] = true
}

// Release ends a Keep. Nobody may use the space's Tree any more if it was dropped.
func (t *Table) Release(n Number) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.kept, n)
}

// Drop notes durably that a space is given up, and returns the number that it had. Nobody may write
// to its Tree any more, unless Keep says so; Reclaim deletes what it has.
func (t *Table) Drop(name string) (Number, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.find(name)
	if !ok || e.state != held {
		return 0, fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	e.state = dropping
	return e.Number, t.commit(t.next, e)
}

// Reclaim deletes some records of a space that was dropped, and reports whether there is more to be
// done: then it is to be called again. What a crash interrupts goes on at the next opening.
func (t *Table) Reclaim() (more bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(t.entries)) {
		if e := t.entries[n]; e.state == dropping && !t.kept[n] {
			return true, t.reclaim(e)
		}
	}
	return false, nil
}

// reclaim is called with mu held.
func (t *Table) reclaim(e entry) error {
	tree := NewTree(t.st, e.Number)
	view := tree.Snapshot()
	defer view.Close()
	batch := &store.Batch{}
	from := t.at
	err := view.ScanKeys(from, nil, func(key []byte) bool {
		key = append([]byte(nil), key...)
		t.at = append(key, 0) // what is deleted takes time to pass over
		batch.Delete(key)
		return batch.Len() < reclaimKeys && batch.Bytes() < reclaimBytes
	})
	switch {
	case err != nil:
		return err
	case batch.Len() > 0:
		return tree.Commit(batch, false)
	case from != nil: // once more, in case that somebody still wrote
		t.at = nil
		return nil
	}
	// The mark goes when nothing can come back.
	if err := t.st.Sync(); err != nil {
		return err
	}
	if e.state = dropped; t.newest[e.Name] != e.Number { // there was a space of the name again
		e.state = 0
	}
	return t.commit(t.next, e)
}

// commit makes changes durable; an entry without a state goes. It is called with mu held.
func (t *Table) commit(next uint64, changed ...entry) error {
	batch := &store.Batch{}
	batch.Set(keyNext, encodeNext(next))
	for _, e := range changed {
		if key := keyOf(e.Number); e.state == 0 {
			batch.Delete(key)
		} else {
			batch.Set(key, e.encode())
		}
	}
	if err := t.own.Commit(batch, true); err != nil {
		return err
	}
	t.next = next
	for _, e := range changed {
		if e.state == 0 {
			delete(t.entries, e.Number)
		} else {
			t.put(e)
		}
	}
	return nil
}

func encodeNext(next uint64) []byte {
	return wire.Seal(formatVersion, keyNext, wire.Encode(func(w *wire.Writer) {
		w.Array(1)
		w.Uint(next)
	}))
}

func decodeNext(record []byte) (next uint64, err error) {
	err = decode(keyNext, record, 1, func(r *wire.Reader) {
		if next = r.Uint(); next == 0 || next > maxNumber+1 {
			r.Fail("number %d comes next", next)
		}
	})
	return next, err
}

func (e entry) encode() []byte {
	return wire.Seal(formatVersion, keyOf(e.Number), wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		w.String(e.Name)
		w.Uint(uint64(e.From))
		w.Uint(uint64(e.state))
	}))
}

func decodeEntry(key, record []byte) (e entry, err error) {
	n, ok := numberOf(key[1:])
	if !ok || len(key) != 1+numberSize || n == 0 {
		return e, fmt.Errorf("a record under the key %q: %w", key, store.ErrCorrupt)
	}
	e.Number = n
	err = decode(key, record, 3, func(r *wire.Reader) {
		e.Name = r.String(MaxName)
		e.From = store.Position(r.Uint())
		if e.state = state(r.Uint()); e.Name == "" || e.state < held || e.state > dropped {
			r.Fail("a space named %q in state %d", e.Name, e.state)
		}
	})
	return e, err
}

func decode(key, record []byte, fields int, fn func(*wire.Reader)) error {
	version, body, err := wire.Unseal(key, record)
	if err == nil {
		if err := wire.CheckFormat(uint64(version), formatVersion, olderStore); err != nil {
			return err
		}
		err = wire.Decode(body, func(r *wire.Reader) {
			if n := r.Array(fields); n != fields {
				r.Fail("%d fields", n)
			}
			fn(r)
		})
	}
	if err != nil {
		return fmt.Errorf("record %q: %w: %w", key, store.ErrCorrupt, err)
	}
	return nil
}
