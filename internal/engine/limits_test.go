package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// No transaction within the limits fails at commit, or is stored and not read again. A script has
// a transaction in each three bytes, at and around one limit.

// limitSteps are the transactions, by the first byte; a and b are the others.
var limitSteps = []func(tx *Tx, a, b int) error{
	func(tx *Tx, a, b int) error { // a name
		name := strings.Repeat("n", crdt.MaxName-2+a%5)
		return Fields(tx).Map("names").String(name).Set([]byte{byte(b)})
	},
	func(tx *Tx, a, b int) error { // a path
		at := dotted.KeyAddress(strings.Repeat("\x00", b))
		for range crdt.MaxDepth - 3 + a%5 {
			at = at.Type(crdt.TypeMap).Name("\x00")
		}
		return putEntry(tx, at.Type(crdt.Type(b)), 1, nil)
	},
	func(tx *Tx, a, b int) error { // an address
		at := dotted.KeyAddress("long")
		for range 3 {
			at = at.Type(crdt.TypeMap).Name(strings.Repeat("n", crdt.MaxName))
		}
		left := crdt.MaxAddress - len(at) - 4 - 3 + a%7
		at = at.Type(crdt.TypeMap).Name(strings.Repeat("n", left%crdt.MaxName))
		return putEntry(tx, at.Type(crdt.TypeString)+dotted.Address(strings.Repeat("u", b*1024)), 1, nil)
	},
	func(tx *Tx, a, b int) error { // payloads
		for i := range b%8 + 1 {
			if err := putEntry(tx, cellAt(fmt.Sprint("p", i)), dotted.MaxPayload-2+a%4, nil); err != nil {
				return err
			}
		}
		return nil
	},
	func(tx *Tx, a, b int) error { // operations
		for i := range delta.MaxOps - 1 + a%3 - b%2*100_000 {
			if err := putEntry(tx, cellAt(fmt.Sprint("op", i%16384)), 1, nil); err != nil {
				return err
			}
		}
		return nil
	},
	func(tx *Tx, a, b int) error { // removals
		dots := make([]crdt.Dot, a*6656+1)
		for i := range dots {
			dots[i] = crdt.Dot{Replica: crdt.ReplicaID(1<<62 + b), Counter: 1<<61 + uint64(i)}
		}
		return putEntry(tx, cellAt("many"), 1, dots)
	},
	func(tx *Tx, a, b int) error { // shapes of one key
		for i := range 8192 {
			at := dotted.KeyAddress("shapes")
			for n := i<<8 | a; n > 0; n >>= 1 {
				at = at.Type([2]crdt.Type{crdt.TypeSet, crdt.TypeMap}[n&1]).Name("")
			}
			if err := putEntry(tx, at.Type(crdt.Type(b)), 1, nil); err != nil {
				return err
			}
		}
		return nil
	},
	func(tx *Tx, a, b int) error { // what is no cell, and no entry
		return putEntry(tx, dotted.KeyAddress("bare")+dotted.Address(strings.Repeat("v", a%2)), b%2, nil)
	},
	func(tx *Tx, a, b int) error { // a clear
		return tx.Clear([]dotted.Address{dotted.KeyAddress("shapes"), cellAt("many"), dotted.KeyAddress("none")}[a%3])
	},
	func(tx *Tx, a, b int) error { // everything in a cell is replaced, or a part
		c, err := tx.Cell(cellAt("many"))
		if err != nil {
			return err
		}
		return putEntry(tx, cellAt("many"), 1, c.Dots()[:len(c)/(1+b%3)])
	},
	func(tx *Tx, a, b int) error { // entries that are just not large, in one cell
		for range a {
			if err := putEntry(tx, cellAt("many"), maxInline+b%2, nil); err != nil {
				return err
			}
		}
		return nil
	},
	func(tx *Tx, a, b int) error { // shapes of types that this version does not know
		for i := range a % 8 {
			below := dotted.Address(strings.Repeat("\x00\x01"+string(rune('A'+i)), 80_000+b))
			if err := putEntry(tx, dotted.KeyAddress("shapes").Type('?')+below, 1, nil); err != nil {
				return err
			}
		}
		return nil
	},
	func(tx *Tx, a, b int) error { // bytes
		first, second := cellAt("first"), cellAt("second")
		if err := putEntry(tx, first, dotted.MaxPayload, nil); err != nil {
			return err
		}
		rest := delta.MaxCost - 20 - len(first) - dotted.MaxPayload - 20 - len(second)
		return putEntry(tx, second, rest-a, nil)
	},
}

func cellAt(name string) dotted.Address { return dotted.KeyAddress(name).Type(crdt.TypeString) }

func putEntry(tx *Tx, a dotted.Address, size int, removes []crdt.Dot) error {
	payload := make([]byte, size)
	if size > 0 {
		payload[0] = 1
	}
	_, err := tx.Put(a, payload, removes)
	return err
}

// runLimits runs a script at one replica, and checks that it, one that gets its deltas, one that
// is repaired, and one that is made from its backup hold the same, after they were opened again.
func runLimits(t *testing.T, script []byte) {
	t.Helper()
	w := newWorld(t, 1, worldConfig{hosts: 3})
	a, b, c := w.hosts[0], w.hosts[1], w.hosts[2]
	w.connect(0, 1)
	exchange := func() {
		for busy := true; busy; {
			busy = w.pump(t, 0, 1)
			busy = w.deliver(t, 0, 1) || busy
			busy = w.pump(t, 1, 0) || busy
			busy = w.deliver(t, 1, 0) || busy
		}
	}
	exchange()
	for len(script) >= 3 {
		kind, x, y := int(script[0])%len(limitSteps), int(script[1]), int(script[2])
		script = script[3:]
		g := a.engine.newGroup(w.now)
		before, _ := a.engine.Context()
		before = before.Clone()
		var inside error // what the transaction was told while it ran
		err := g.update(func(tx *Tx) error {
			defer func() { inside = tx.err }()
			return limitSteps[kind](tx, x, y)
		})
		if errors.Is(err, delta.ErrTooLarge) && inside == nil {
			t.Fatalf("step %d %d %d failed at commit: %v", kind, x, y, err)
		}
		if now, _ := a.engine.Context(); err != nil && !now.Equal(before) {
			t.Fatalf("step %d %d %d failed (%v), and left something", kind, x, y, err)
		}
		if err != nil && !errors.Is(err, delta.ErrTooLarge) && !errors.Is(err, crdt.ErrTooLong) &&
			!strings.HasPrefix(err.Error(), "not a") {
			t.Fatalf("step %d %d %d: %v", kind, x, y, err)
		}
		w.commit(t, a, g)
		exchange()
	}
	reopen := func(h *host) {
		w.open(t, h)
		if why := h.engine.Damaged(); why != nil {
			t.Fatalf("host %d: %v", h.i, why)
		}
		w.maintain(t, h)
	}
	for _, h := range w.hosts[:2] {
		w.maintain(t, h)
		reopen(h)
	}
	if err := repairAll(a.engine, c.engine); err != nil {
		t.Fatal(err)
	}
	reopen(c)
	d := &host{i: 3, disk: backedUp(t, w, a)}
	reopen(d)
	context, root, _ := a.engine.Digest()
	for _, h := range []*host{a, b, c, d} {
		if why := h.engine.Damaged(); why != nil {
			t.Fatalf("host %d: %v", h.i, why)
		}
		if theirs, cells, settled := h.engine.Digest(); theirs != context || cells != root || !settled {
			t.Fatalf("host %d has other contents", h.i)
		}
		pinned, err := h.engine.Pin()
		if err != nil {
			t.Fatal(err)
		}
		err = pinned.Verify(func() bool { return false })
		if pinned.Close(); err != nil {
			t.Fatalf("host %d: %v", h.i, err)
		}
	}
}

// backedUp returns what a backup of a host is restored to.
func backedUp(t *testing.T, w *world, h *host) *disk {
	t.Helper()
	moment, err := h.engine.takeMoment(w.now)
	if err != nil {
		t.Fatal(err)
	}
	defer moment.Close()
	restored, batch := newDisk(), &store.Batch{}
	flush := func() {
		err = errors.Join(err, restored.Commit(batch, true))
		batch.Reset()
	}
	failed := moment.Scan(func(key, value []byte) bool {
		batch.Set(slices.Clone(key), slices.Clone(value))
		if batch.Bytes() > 1<<20 || batch.Len() == store.MaxBatchOps {
			flush()
		}
		return err == nil
	})
	if flush(); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return restored
}

// limitScripts failed once.
var limitScripts = map[string][]byte{
	"a cell's record beyond the store's": {10, 200, 0, 10, 200, 0, 10, 200, 0, 10, 5, 1, 9, 0, 1, 9, 0, 0},
	"more shapes than are read":          {6, 1, 'v', 6, 2, 'v', 6, 3, 'v', 6, 4, 'v', 6, 5, 'v', 8, 0, 0},
	"shapes of long unknown addresses": {11, 7, 0, 11, 7, 1, 11, 7, 2, 11, 7, 3, 11, 7, 4, 11, 7, 5, 11, 7, 6, 11, 7, 7, 11, 7, 8,
		11, 7, 9, 11, 7, 10, 11, 7, 11, 11, 7, 12, 11, 7, 13, 11, 7, 14, 11, 7, 15, 11, 7, 16, 11, 7, 17},
	"as many bytes as a delta can have":      {0, 0, 1, 12, 0, 0, 12, 64, 0},
	"an entry of a bare key":                 {7, 0, 1, 7, 1, 1, 7, 1, 0},
	"all limits, and one more than each":     {0, 2, 1, 0, 3, 1, 1, 2, 'v', 1, 3, 'v', 1, 4, 'f', 2, 3, 0, 2, 4, 0, 3, 2, 1, 3, 3, 1, 3, 2, 7, 4, 2, 0},
	"as many removals as a delta can have":   {5, 40, 1, 5, 252, 1, 5, 253, 1},
	"as many changes as a delta can have":    {4, 1, 0, 4, 2, 0},
	"a cell of very many entries is cleared": {10, 200, 0, 10, 200, 0, 10, 200, 0, 8, 1, 0, 10, 3, 1},
}

func TestWhatTheLimitsAdmitIsStoredAndReadEverywhere(t *testing.T) {
	for name, script := range limitScripts {
		t.Run(name, func(t *testing.T) { runLimits(t, script) })
	}
	rng := rand.New(rand.NewPCG(9, 9))
	for range 3 {
		script := make([]byte, 3*(1+rng.IntN(6)))
		for i := range script {
			script[i] = byte(rng.UintN(256))
		}
		t.Run(fmt.Sprintf("%x", script), func(t *testing.T) { runLimits(t, script) })
	}
}

// TestACellOfAnyNumberOfEntriesIsReadAgain tests what more replicas than one record can hold
// wrote at once.
func TestACellOfAnyNumberOfEntriesIsReadAgain(t *testing.T) {
	r, at := openOn(t, newDisk(), 1), cellAt("k")
	key := place(prefixCell, at)
	var before dotted.Cell
	for _, n := range []int{1, 1<<16 + 1, 300_000, maxEntries, maxEntries + 1, 3, 0} {
		now := make(dotted.Cell, n)
		for i := range now {
			now[i] = dotted.Entry{Dot: crdt.Dot{Replica: 1<<63 + crdt.ReplicaID(i), Counter: 1 << 61}, Payload: []byte("\x01")}
		}
		g := &group{r: r}
		r.table.put(g.item(&cellState{address: at, key: string(key), stored: before, now: now}), nil)
		must(t, r.Save(testStart))
		before = now
		v := r.present()
		got, err := v.stored(at, key)
		if err != nil || len(got) != n || !got.Equal(now) || r.table.Len() > 0 {
			t.Errorf("of %d entries %d are read (%v)", n, len(got), err)
		}
		v.Close()
	}
	left := 0
	snap := r.st.Snapshot()
	defer snap.Close()
	must(t, snap.ScanKeys(nil, []byte{'m'}, func([]byte) bool { left++; return true }))
	must(t, snap.ScanKeys([]byte{prefixPart}, nil, func([]byte) bool { left++; return true }))
	if left > 0 {
		t.Errorf("%d records are left of nothing", left)
	}
}

func FuzzLimits(f *testing.F) {
	for _, script := range limitScripts {
		if len(script) < 12 {
			f.Add(script)
		}
	}
	f.Fuzz(func(t *testing.T, script []byte) { runLimits(t, script[:min(len(script), 30)]) })
}
