package hot

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/peerd/peerd/store"
	"pgregory.net/rapid"
)

// record is a version that counts what it took over.
type record struct {
	Version
	key   string
	value int
	size  int
	took  int // versions that the tree never had
	due   int64
	none  bool // nothing is there
}

// maxDue is the greatest time of a record that has one.
const maxDue = 3

func (r *record) Key() string  { return r.key }
func (r *record) Size() int    { return r.size }
func (r *record) Due() int64   { return r.due }
func (r *record) Vacant() bool { return r.none }
func (r *record) Pack(b []byte) []byte {
	return append(fmt.Appendf(b, "%d %d ", r.value, r.size), make([]byte, r.size/5)...)
}
func unpack(key, packed []byte) Record {
	r := &record{key: string(key)}
	fmt.Sscanf(string(packed), "%d %d", &r.value, &r.size)
	return r
}
func (r *record) Supersede(old Record) { r.took += 1 + old.(*record).took }

// tree is a snapshot of a tree of which only the closing is looked at.
type tree struct {
	store.Snapshot
	has    map[string]int
	closed bool
}

func (t *tree) Close() { t.closed = true }

// world is a table with a model of it.
type world struct {
	*Table
	newest  map[string]int // what there is
	tree    map[string]int // what the tree has
	sealed  *Sealed
	shots   []*Snapshot
	were    []map[string]int // what there was at each
	trees   []*tree
	written int
	found   []*record // some that were found or put
}

func (w *world) snapshot() *tree {
	w.trees = append(w.trees, &tree{has: maps.Clone(w.tree)})
	return w.trees[len(w.trees)-1]
}

// check compares a snapshot with what there was.
func (w *world) check(t *rapid.T, i int) {
	s, was := w.shots[i], w.were[i]
	got := maps.Clone(s.Tree().(*tree).has)
	last := ""
	for c := s.Seek(""); c.Record != nil; c.Next() {
		if c.Record.Key() <= last {
			t.Fatalf("the key %q after %q", c.Record.Key(), last)
		}
		last = c.Record.Key()
		got[last] = c.Record.(*record).value
		if r := s.Get(last); r != c.Record {
			t.Fatalf("at %q stands %v, and %v is found", last, c.Record, r)
		}
	}
	for now := range int64(maxDue + 1) {
		due, all := map[string]bool{}, map[string]bool{}
		for c := s.Seek(""); c.Record != nil; c.Next() {
			if c.Record.Due() <= now {
				due[c.Record.Key()] = true
			}
		}
		s.Due(now, func(r Record) bool {
			if all[r.Key()] {
				t.Fatalf("%q is due twice", r.Key())
			}
			all[r.Key()] = true
			return true
		})
		if !maps.Equal(all, due) || s.Timed(now) < len(due) {
			t.Fatalf("%v are due by %d, of %d; want %v", all, now, s.Timed(now), due)
		}
	}
	if !maps.Equal(got, was) {
		t.Fatalf("a snapshot has %v, and there was %v", got, was)
	}
}

// limits are of what is kept: of nothing, of little more than one record, and of many.
var limits = rapid.SampledFrom([]int64{0, 1000, 10_000})

// step does one thing.
func (w *world) step(t *rapid.T) {
	key, look := fmt.Sprint("k", rapid.IntRange(0, 12).Draw(t, "key")), rapid.Bool().Draw(t, "look")
	switch rapid.IntRange(0, 13).Draw(t, "step") {
	default:
		w.written++
		w.newest[key] = w.written
		size := rapid.SampledFrom([]int{10, 100, maxPacked + 1}).Draw(t, "size")
		var last Record
		switch found := w.found; rapid.IntRange(0, 3).Draw(t, "found") {
		case 0:
			last = w.Find([]byte(key))
		case 1: // some time ago
			if i := slices.IndexFunc(found, func(r *record) bool { return r.key == key }); i >= 0 {
				last = found[i]
			}
		}
		put := &record{key: key, value: w.written, size: size, due: math.MaxInt64}
		if rapid.Bool().Draw(t, "timed") {
			put.due = rapid.Int64Range(0, maxDue).Draw(t, "due")
		}
		if w.Put(put, last, rapid.Bool().Draw(t, "keep")); !w.Current(put) {
			t.Fatalf("what was put at %q is to be looked for", key)
		}
		w.found = append(w.found, put)
	case 4:
		if w.Find([]byte(key)) == nil {
			if value, has := w.tree[key]; has {
				w.Keep(&record{key: key, value: value, size: 10})
			}
		}
	case 5:
		w.shots, w.were = append(w.shots, w.Snapshot()), append(w.were, maps.Clone(w.newest))
	case 6:
		if n := len(w.shots); n > 0 {
			i := rapid.IntRange(0, n-1).Draw(t, "which")
			w.check(t, i)
			w.shots[i].Release()
			w.shots, w.were = slices.Delete(w.shots, i, i+1), slices.Delete(w.were, i, i+1)
		}
	case 7:
		if w.sealed == nil {
			s := w.Seal()
			w.sealed = &s
		}
	case 8:
		w.store(t, key, rapid.IntRange(1, 12).Draw(t, "some"))
	case 11:
		w.checkpoint()
	case 9:
		w.Rebase(w.snapshot())
	case 10:
		w.SetLimit(limits.Draw(t, "limit"))
	case 12:
		if r := w.Find([]byte(key)); r != nil {
			w.Forget(r)
		}
	case 13:
		w.Tidy()
	}
	for i := range w.shots {
		w.check(t, i)
	}
	for key, value := range w.newest {
		w.places(t, key, value)
		if !look { // what is packed stays so
			continue
		}
		switch r, _ := w.Find([]byte(key)).(*record); {
		case r != nil && r.value != value, r == nil && w.tree[key] != value:
			t.Fatalf("%q is %d, and %v is found, and %d in the tree", key, value, r, w.tree[key])
		case r != nil:
			w.found = append(w.found, r)
		}
	}
	seen := map[string]bool{}
	for v := range w.kept.decoded.all() {
		key := v.of.Key()
		if _, written := w.newest[key]; !written || seen[key] {
			t.Fatalf("%q is in the index twice, or was never put", key)
		}
		if seen[key] = true; !w.Current(v.of) && (!v.stored || !v.leaves && !slices.Contains(w.forgotten(), v)) {
			t.Fatalf("%v is in the index for ever", v.of)
		}
	}
	w.found = slices.DeleteFunc(w.found, func(r *record) bool {
		if w.Current(r) && r.value != w.newest[r.key] {
			t.Fatalf("%q is %d, and %v is taken for it", r.key, w.newest[r.key], r)
		}
		return !w.Current(r) && r.value < w.written-10
	})
}

// places checks where a record is: in a layer until the tree has it, or else kept, as it is or packed, or
// in both if the checkpoint that wrote it goes on. Wherever it is, it is the newest.
func (w *world) places(t *rapid.T, key string, newest int) {
	var unwritten, written, kept []Record
	for _, l := range w.layers[:] {
		if l == nil || len(unwritten) > 0 { // what is below is older
			continue
		}
		if v := l.get(key).last(); v != nil && v.stored {
			written = append(written, v.of)
		} else if v != nil {
			unwritten = append(unwritten, v.of)
		}
	}
	hash := w.kept.hash(key)
	indexed := w.kept.find(hash, key)
	if v := indexed; v != nil && v.in == w.kept.home {
		kept = append(kept, v.of)
		if g := w.kept.generationOf(v); g.order[v.nth-g.first].v != v || !v.stored {
			t.Fatalf("%q is kept at %d, where others are, or as what the tree has not", key, v.nth)
		}
	}
	for _, p := range w.kept.packed {
		if at := find(p, hash, key); at != 0 {
			_, body := p.record(at)
			kept = append(kept, unpack([]byte(key), body))
		}
	}
	if len(unwritten)+len(kept) > 1 {
		t.Fatalf("%q is in a layer as %v, and kept as %v", key, unwritten, kept)
	}
	for _, r := range w.found {
		if r.key == key && w.Current(r) && !slices.Contains(slices.Concat(unwritten, kept), Record(r)) {
			t.Fatalf("%v is current, and nowhere", r)
		}
	}
	if len(unwritten)+len(written) > 0 && indexed == nil {
		t.Fatalf("%q is in a layer, and not in the index", key)
	} else if indexed != nil {
		kept = append(kept, indexed.of)
	}
	for _, r := range slices.Concat(unwritten, written, kept) {
		if r.(*record).value != newest {
			t.Fatalf("%q is %d, and %v is in one place", key, newest, r)
		}
	}
}

// forgotten returns what is kept no longer, because of a lower limit.
func (w *world) forgotten() (out []*Version) {
	for _, p := range w.kept.forgotten {
		out = append(out, p.v)
	}
	return out
}

// store has the tree take some of what is sealed, from a key on, and not the end of it.
func (w *world) store(t *rapid.T, from string, most int) {
	if w.sealed == nil {
		return
	}
	last := ""
	w.sealed.From(from, func(r Record) bool {
		if r.Key() < max(from, last+"\x00") || w.layers[1].get(r.Key()).last().of != r {
			t.Fatalf("from %q on, behind %q, comes %v", from, last, r)
		}
		last = r.Key()
		w.tree[r.Key()] = r.(*record).value
		w.Stored(r)
		most--
		return most > 0
	})
}

// checkpoint has the tree take what is sealed.
func (w *world) checkpoint() {
	if w.sealed == nil {
		return
	}
	w.sealed.From("", func(r Record) bool {
		w.tree[r.Key()] = r.(*record).value
		w.Stored(r)
		return true
	})
	w.sealed = nil
	w.Unseal(w.snapshot())
}

func TestEachSnapshotHasWhatThereWasThen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{newest: map[string]int{}, tree: map[string]int{}}
		w.Table = NewTable(w.snapshot(), limits.Draw(t, "limit"), unpack)
		w.kept.young.first = rapid.SampledFrom([]uint32{0, math.MaxUint32 - 5}).Draw(t, "first")
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			w.step(t)
		}
		for i, s := range w.shots {
			w.check(t, i)
			s.Release()
		}
		w.checkpoint()
		sealed := w.Seal()
		w.sealed = &sealed
		w.checkpoint()
		for w.Tidy() {
		}
		for v := range w.kept.decoded.all() {
			if v.in != w.kept.home {
				t.Fatalf("%v is in the index, and nowhere else", v.of)
			}
		}
		if w.Bytes() != 0 || w.Len() != 0 || !maps.Equal(w.tree, w.newest) {
			t.Fatalf("%d bytes, %d records are left; the tree has %v of %v",
				w.Bytes(), w.Len(), w.tree, w.newest)
		}
		w.Close()
		for i, tree := range w.trees {
			if !tree.closed {
				t.Fatalf("the tree's snapshot %d of %d is not closed", i+1, len(w.trees))
			}
		}
	})
}

func TestAHotRecordHasNoMoreVersionsThanAreSeen(t *testing.T) {
	w := NewTable(&tree{}, 1000, unpack)
	held := w.Snapshot()
	var last *Snapshot
	for i := range 1000 {
		w.Put(&record{key: "k", value: i}, nil, true)
		s := w.Snapshot()
		if last != nil {
			last.Release()
		}
		last = s
		versions := 0
		for v := w.layers[0].get("k").last(); v != nil; v = v.older.Load() {
			versions++
		}
		if versions > 3 { // the newest, what was published before it, and what is held
			t.Fatalf("%d versions after %d", versions, i)
		}
	}
	if r := held.Get("k"); r != nil {
		t.Errorf("a snapshot that was taken before has %v", r)
	}
}

// keptOf500 returns how many bytes of memory are taken by what is kept, which are records of 500 bytes.
func keptOf500(c *cache) int {
	return c.packed[0].held + c.packed[1].held + packedBytes*(c.packed[0].at.len+c.packed[1].at.len) +
		(500+keptBytes)*(len(c.young.order)+len(c.old.order))
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	w := NewTable(&tree{}, 1<<20, unpack)
	defer w.Close()
	w.kept.young.first = math.MaxUint32 - 50_000
	key := func(i int) []byte { return fmt.Append(nil, i) }
	for i := range 100_000 {
		c := &w.kept
		before := c.packed[0].at.len + c.packed[1].at.len
		w.Keep(&record{key: string(key(i)), value: i, size: 500})
		w.Find(key(7))
		if more := c.packed[0].at.len + c.packed[1].at.len - before; more > 4 {
			t.Fatalf("%d are packed for one that is kept", more)
		}
		if bytes := keptOf500(c); bytes > 5<<20/4 {
			t.Fatalf("%d bytes are held after %d records", bytes, i+1)
		}
	}
	found := 0
	for i := range 100_000 {
		if r, _ := w.Find(key(i)).(*record); r != nil {
			if found++; r.value != i || r.key != string(key(i)) || !r.stored {
				t.Fatalf("the record %d is found as %+v", i, r)
			}
		}
	}
	if found < 3000 { // 1 MiB would hold 1,900 that are not packed
		t.Errorf("only %d records are found", found)
	}
	if w.Find(key(7)) == nil || w.Find(key(99_999)) == nil || w.Find(key(0)) != nil {
		t.Error("what was found again and again is not kept, or the last is not, or the first is")
	}
}

// TestWhatIsGonePushesOutNothing: of many records that were looked for in vain or are deleted, none takes the place
// of one that is there.
func TestWhatIsGonePushesOutNothing(t *testing.T) {
	w := NewTable(&tree{}, 1<<20, unpack)
	defer w.Close()
	w.Keep(&record{key: "there", value: 1, size: 500})
	for i := range 50_000 {
		w.Keep(&record{key: fmt.Sprint(i), size: 500, none: true})
	}
	if w.Find([]byte("49999")) == nil {
		t.Error("what was just looked for is forgotten")
	}
	if r, _ := w.Find([]byte("there")).(*record); r == nil || r.value != 1 {
		t.Errorf("what is there is found as %v", r)
	}
}

// TestALargeRecordIsKeptAsItIs, if there is room, and goes before those that can be packed.
func TestALargeRecordIsKeptAsItIs(t *testing.T) {
	w := NewTable(&tree{}, 4<<20, unpack)
	defer w.Close()
	w.Keep(&record{key: "large", value: 1, size: 2 * maxPacked})
	w.Keep(&record{key: "too large", value: 2, size: 4<<20/keptShare + 1})
	if w.Find([]byte("large")) == nil || w.Find([]byte("too large")) != nil {
		t.Error("a large record is not kept, or one that is too large is")
	}
	w.Put(&record{key: "large", value: 3, size: 2 * maxPacked}, nil, true)
	sealed := w.Seal()
	sealed.From("", func(r Record) bool { w.Stored(r); return true })
	w.Unseal(&tree{})
	w.Tidy()
	if r, _ := w.Find([]byte("large")).(*record); r == nil || r.value != 3 {
		t.Errorf("what was written and stored is found as %v", r)
	}
	for i := range 4000 {
		w.Keep(&record{key: fmt.Sprint(i), size: 200})
	}
	if w.Find([]byte("large")) != nil || w.Find([]byte("0")) == nil {
		t.Error("the large one is there, or the first of the small ones is not")
	}
}

func TestAnotherLimitForgetsNothingThatFits(t *testing.T) {
	w := NewTable(&tree{}, 10_000, unpack)
	w.Keep(&record{key: "k", size: 50})
	if w.SetLimit(5_000); w.Find([]byte("k")) == nil {
		t.Error("what was kept is forgotten")
	}
}

// TestALowerLimitForgetsWhatIsBeyond at once: a table that rests gets no records that would push it out. What is
// forgotten while somebody has it is not taken for the newest version.
func TestALowerLimitForgetsWhatIsBeyond(t *testing.T) {
	w := NewTable(&tree{}, 8<<20, unpack)
	defer w.Close()
	for i := range 100_000 {
		w.Keep(&record{key: fmt.Sprint(i), value: i, size: 500})
	}
	before, key := keptOf500(&w.kept), "99999"
	w.SetLimit(1 << 20)
	if bytes := keptOf500(&w.kept); before < 4<<20 || bytes > 5<<20/4 {
		t.Errorf("with a limit of 8 MiB %d bytes are held, and with 1 MiB %d", before, bytes)
	}
	held := w.Find([]byte(key))
	if held == nil || held.(*record).value != 99_999 || !w.Current(held) {
		t.Fatalf("what was kept last is found as %v", held)
	}
	w.SetLimit(100)
	for w.Tidy() {
	}
	if bytes := keptOf500(&w.kept); bytes > 100 || w.Find([]byte(key)) != nil || w.Current(held) {
		t.Errorf("%d bytes are held, %v is found, and what was there is current: %v", bytes, w.Find([]byte(key)),
			w.Current(held))
	}
	w.SetLimit(1 << 20)
	again, put := &record{key: key, value: 99_999, size: 500}, &record{key: key, value: -1, size: 500}
	if w.Keep(again); w.Find([]byte(key)) != Record(again) || !w.Current(again) || w.Current(held) {
		t.Error("what was read again is not what is found, or not alone current")
	}
	if w.Put(put, held, false); w.Find([]byte(key)) != Record(put) || !w.Current(put) || w.Current(again) {
		t.Error("what was put in place of it is not what is found, or not alone current")
	}
}

// TestReadersGoOnWhileTheOwnerWrites tests that a reader sees all that was put between two
// snapshots, or nothing of it.
func TestReadersGoOnWhileTheOwnerWrites(t *testing.T) {
	const keys, rounds = 40, 2000
	w := NewTable(&tree{}, 1000, unpack)
	var published atomic.Pointer[Snapshot]
	published.Store(w.Snapshot())
	var readers sync.WaitGroup
	var over atomic.Bool
	for range 3 {
		readers.Go(func() {
			for !over.Load() {
				s := published.Load()
				if !s.Acquire() {
					continue
				}
				seen := map[int]int{}
				for c := s.Seek(""); c.Record != nil; c.Next() {
					seen[c.Record.(*record).value]++
				}
				if len(seen) > 1 {
					t.Errorf("a snapshot has parts of %d rounds: %v", len(seen), seen)
					over.Store(true)
				}
				s.Release()
			}
		})
	}
	for round := 0; round < rounds && !over.Load(); round++ {
		for i := range keys {
			w.Put(&record{key: fmt.Sprint("k", (i*7)%keys), value: round}, nil, i%2 == 0)
		}
		switch round % 8 {
		case 3:
			w.Seal()
		case 6:
			Sealed{w.layers[1]}.From("", func(r Record) bool { w.Stored(r); return true })
			// What the tree has now is put again before it is read.
			for i := range keys {
				w.Put(&record{key: fmt.Sprint("k", i), value: round}, nil, false)
			}
			w.Unseal(&tree{})
		}
		published.Swap(w.Snapshot()).Release()
	}
	over.Store(true)
	readers.Wait()
}

// TestPlacesInALayerCountUntilTheTreeHasIt: they stay in memory when what stands there is stored.
func TestPlacesInALayerCountUntilTheTreeHasIt(t *testing.T) {
	table := NewTable(&tree{}, 1000, unpack)
	defer table.Close()
	first, second := &record{key: "a", size: 10}, &record{key: "b", size: 10}
	table.Put(first, nil, false)
	table.Put(second, nil, false)
	all := table.Bytes()
	if all <= 20 {
		t.Errorf("two records of 10 bytes take %d", all)
	}
	table.Seal()
	table.Stored(first)
	table.Stored(second)
	if got := table.Bytes(); got != all-20 {
		t.Errorf("%d bytes are left of %d", got, all)
	}
	if table.Unseal(&tree{}); table.Bytes() != 0 {
		t.Errorf("%d bytes are left", table.Bytes())
	}
}

// TestAPlaceTakesNoAllocationOfItsOwn: the collector would go through each.
func TestAPlaceTakesNoAllocationOfItsOwn(t *testing.T) {
	const n = 4000
	table := NewTable(&tree{}, 1000, unpack)
	defer table.Close()
	records := make([]record, 2*n) // AllocsPerRun runs it once more
	for i := range records {
		records[i].key = fmt.Sprint(i)
	}
	allocs := testing.AllocsPerRun(1, func() {
		for i := range records[:n] {
			table.Put(&records[i], nil, true)
		}
		records = records[n:]
	})
	if allocs > n/8 {
		t.Errorf("%v allocations for %d places", allocs, n)
	}
}

// TestWhatIsSealedComesInOrder from wherever it is gone on with, each once.
func TestWhatIsSealedComesInOrder(t *testing.T) {
	const n = 1000
	table := NewTable(&tree{}, 1000, unpack)
	defer table.Close()
	for i := range n {
		table.Put(&record{key: fmt.Sprintf("%03d", i*7%n), value: i * 7 % n}, nil, false)
	}
	sealed := table.Seal()
	for step := 1; step <= n; step += 37 {
		came := 0
		for from := ""; came < n; {
			some, before := step, came
			sealed.From(from, func(r Record) bool {
				if r.(*record).value != came {
					t.Fatalf("%v comes in the place of %d", r, came)
				}
				came, from, some = came+1, r.Key()+"\x00", some-1
				return some > 0
			})
			if came == before {
				t.Fatalf("nothing comes from %q on", from)
			}
		}
	}
}

// all goes through what is in an index.
func (x *index[V]) all() iter.Seq[V] {
	var none V
	return func(yield func(V) bool) {
		for i, s := range x.segments {
			if i > 0 && s == x.segments[i-1] {
				continue
			}
			for _, p := range s.places {
				if p.value != none && !yield(p.value) {
					return
				}
			}
		}
	}
}

// TestAnIndexHasWhatIsPutUntilItIsRemoved, however it grew, and counts it.
func TestAnIndexHasWhatIsPutUntilItIsRemoved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, has := index[int]{}, map[uint64]int{} // by their hashes
		keys := rapid.SampledFrom([]int{10, 300, 3000}).Draw(t, "keys")
		draw := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		hashes := make([]uint64, keys)
		for i := range hashes {
			if hashes[i] = draw.Uint64(); i%3 > 0 { // next to others
				hashes[i] = hashes[i-1]&^0xff | draw.Uint64N(0x100)
			}
		}
		find := func(hash uint64) int {
			return x.find(hash, func(value int) bool { return value == has[hash] })
		}
		for value := 1; value < 4*keys; value++ {
			hash := hashes[draw.IntN(keys)]
			if draw.IntN(3) == 0 {
				x.remove(hash, cmp.Or(has[hash], -1))
				delete(has, hash)
				continue
			}
			x.put(hash, value, has[hash])
			has[hash] = value
		}
		count := 0
		for range x.all() {
			count++
		}
		for _, hash := range hashes {
			if value := find(hash); value != has[hash] {
				t.Fatalf("at %x %d is found, and %d was put", hash, value, has[hash])
			}
		}
		if count != len(has) || x.len != count {
			t.Fatalf("%d are in the index, which counts %d, and %d were put", count, x.len, len(has))
		}
	})
}

// TestWhatIsPutOverTheStoredStaysFound while what the last checkpoint wrote is let go.
func TestWhatIsPutOverTheStoredStaysFound(t *testing.T) {
	const n = 2 * tidied
	table := NewTable(&tree{}, 1000, unpack)
	defer table.Close()
	for i := range n {
		table.Put(&record{key: fmt.Sprint(i), value: i}, nil, false)
	}
	table.Seal().From("", func(r Record) bool { table.Stored(r); return true })
	table.Unseal(&tree{})
	if !table.Tidy() {
		t.Error("all is let go at once")
	}
	for i := range n / 4 {
		table.Put(&record{key: fmt.Sprint(4 * i), value: -i}, nil, false)
	}
	for table.Tidy() {
	}
	for i := range n {
		switch r, _ := table.Find([]byte(fmt.Sprint(i))).(*record); {
		case i%4 == 0 && (r == nil || r.value != -i/4), i%4 != 0 && r != nil:
			t.Fatalf("%d is found as %v", i, r)
		}
	}
}

// TestWhatIsStoredIsFoundUntilTheTreeIsNewer, though it is kept no longer: who asks the tree that
// is below would be told what was there before.
func TestWhatIsStoredIsFoundUntilTheTreeIsNewer(t *testing.T) {
	for _, how := range []string{"pushed out", "forgotten"} {
		table := NewTable(&tree{}, 4<<20, unpack)
		table.Put(&record{key: "large", size: 2 * maxPacked}, nil, true)
		table.Seal().From("", func(r Record) bool { table.Stored(r); return true })
		if how == "forgotten" {
			table.SetLimit(100)
		}
		for i := range 4000 {
			table.Keep(&record{key: fmt.Sprint(i), size: 200})
		}
		for table.Tidy() {
		}
		if r := table.Find([]byte("large")); r == nil || table.Current(r) {
			t.Errorf("%s: it is not found, or said to be kept", how)
		}
		table.Unseal(&tree{})
		for table.Tidy() {
		}
		if table.Find([]byte("large")) != nil {
			t.Errorf("%s: it is found for ever", how)
		}
		table.Close()
	}
}

// TestARecordWithALongKeyIsWhole also if it says that it is small.
func TestARecordWithALongKeyIsWhole(t *testing.T) {
	table := NewTable(&tree{}, 1<<20, unpack)
	defer table.Close()
	for i, size := range []int{10, 4000, 8000, 65_530, 65_536, 70_000, 300_000} {
		key := strings.Repeat("k", size)
		table.Put(&record{key: key, value: i, size: 100}, nil, true)
		table.Seal().From("", func(r Record) bool { table.Stored(r); return true })
		table.Unseal(&tree{})
		for table.Tidy() {
		}
		r, _ := table.Find([]byte(key)).(*record)
		if r == nil && size <= maxPacked || r != nil && (r.key != key || r.value != i) {
			t.Errorf("with a key of %d bytes it is found: %v", size, r != nil)
		}
	}
}

// TestNoMoreIsLeftOfCheckpointsThanOneHas though nobody has time to tidy up.
func TestNoMoreIsLeftOfCheckpointsThanOneHas(t *testing.T) {
	const n = 500
	table := NewTable(&tree{}, 1000, unpack)
	defer table.Close()
	for round := range 10 {
		for i := range n {
			table.Put(&record{key: fmt.Sprint(round, " ", i), size: 10}, nil, false)
		}
		table.Seal().From("", func(r Record) bool { table.Stored(r); return true })
		table.Unseal(&tree{})
		if left := table.kept.decoded.len; left > n {
			t.Fatalf("%d are left after %d checkpoints of %d", left, round+1, n)
		}
	}
}
