package badger

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/storetest"
)

// hasty has filters built at the first Get in vain, in pieces of one key, and grow at every turn.
var hasty = presenceLimits{after: 1, bytes: 16 << 20, first: blockBytes, piece: 1}

func openHasty(t testing.TB, dir string, limits presenceLimits) *Store {
	t.Helper()
	s, err := Open(dir, Options{presence: limits})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// restless is a store whose filter is built anew all the time.
type restless struct {
	*Store
	done  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

func openRestless(t testing.TB, dir string) *restless {
	r := &restless{Store: openHasty(t, dir, hasty), done: make(chan struct{})}
	r.ended.Go(func() {
		for range time.Tick(100 * time.Microsecond) { // also while nothing is asked
			select {
			case <-r.done:
				return
			default:
				r.build()
			}
		}
	})
	return r
}

func (r *restless) Close() error {
	r.once.Do(func() { close(r.done) })
	r.ended.Wait()
	return r.Store.Close()
}

// awaitBuild waits until no filter is being built.
func (s *Store) awaitBuild(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for now := range time.Tick(100 * time.Microsecond) {
		if s.presence.builder.Load() != builderBuilds {
			return
		}
		if now.After(deadline) {
			t.Fatal("a filter is built for ever")
		}
	}
}

// BuildPresence has a filter built by one Get in vain.
func (s *Store) BuildPresence(t testing.TB) {
	t.Helper()
	inVain(t, s, "\x00", 1)
	s.awaitBuild(t)
	if s.presence.whole.Load() == nil {
		t.Fatal("no filter was built")
	}
}

// CheckPresence fails unless a snapshot of now has a filter that has each of its keys. It returns how many.
func (s *Store) CheckPresence(t testing.TB) (keys int) {
	t.Helper()
	view := s.Snapshot().(*snapshot)
	defer view.Close()
	if view.known == nil {
		t.Fatal("there is no filter")
	}
	err := view.ScanKeys(nil, nil, func(key []byte) bool {
		if keys++; !view.known.has(s.presence.hash(key)) {
			t.Errorf("the filter denies %.40q", key)
		}
		return !t.Failed()
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// OpenBuilding is Open for a store that builds its filter at the first Get in vain.
func OpenBuilding(t testing.TB, dir string) *Store { return openHasty(t, dir, hasty) }

func TestAStoreWhoseFilterIsBuiltAllTheTimeKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openRestless(t, t.TempDir()) })
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store { return openRestless(t, dir) })
}

func TestAStoreThatBeginsEmptyHasAFilterAtOnce(t *testing.T) {
	s := openTemp(t)
	set(t, s, "a", nil)
	set(t, s, "large", make([]byte, 3*partSize))
	if n := s.CheckPresence(t); n != 2 {
		t.Errorf("it has %d keys", n)
	}
	inVain(t, s, "b", 1000)
	if n := s.presence.missed.Load(); n > 1 { // the filter may claim it
		t.Errorf("%d of 1000 Gets went to the tables", n)
	}
	if n := s.presence.whole.Load().bytes; n != usualLimits.first {
		t.Errorf("two keys take %d bytes", n)
	}
}

// inVain makes Gets of keys that are not there: so many of each.
func inVain(t testing.TB, s *Store, prefix string, n int) {
	t.Helper()
	view := s.Snapshot()
	defer view.Close()
	for i := range n {
		if _, ok, err := view.Get(fmt.Appendf(nil, "%s is absent %d", prefix, i)); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
}

// closedWithKeys returns the directory of a closed store with 10,000 keys.
func closedWithKeys(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := openHasty(t, dir, usualLimits)
	for i := range 10_000 {
		set(t, s, fmt.Sprint(i), nil)
	}
	s.Close()
	return dir
}

func TestAFilterIsBuiltOnceEnoughWasLookedForInVain(t *testing.T) {
	dir := closedWithKeys(t)
	limits := usualLimits
	limits.after, limits.piece, limits.rest = 100, 1000, 0
	s := openHasty(t, dir, limits)
	defer s.Close()
	inVain(t, s, "a", 99)
	s.awaitBuild(t)
	if s.presence.whole.Load() != nil {
		t.Fatal("there is a filter before it was worth one")
	}
	inVain(t, s, "b", 1)
	s.awaitBuild(t)
	if n := s.CheckPresence(t); n != 10_000 {
		t.Errorf("%d keys", n)
	}
	inVain(t, s, "c", 1000)
	if n := s.presence.skipped.Load(); n < 950 {
		t.Errorf("the filter answered %d of 1000", n)
	}
}

func TestWhatWasDeletedBeforeAFilterWasBuiltIsInOlderSnapshots(t *testing.T) {
	s := openHasty(t, t.TempDir(), hasty)
	defer s.Close()
	set(t, s, "a", []byte("1"))
	older := s.Snapshot()
	defer older.Close()
	var b store.Batch
	b.Delete([]byte("a"))
	if err := s.Commit(&b, false); err != nil {
		t.Fatal(err)
	}
	s.build()
	s.awaitBuild(t)
	if s.presence.whole.Load().has(s.presence.hash([]byte("a"))) {
		t.Fatal("the filter that was built has what was deleted before")
	}
	if value, ok, err := older.Get([]byte("a")); !ok || err != nil || string(value) != "1" {
		t.Errorf("an older snapshot has %q, %v, %v", value, ok, err)
	}
}

// TestASnapshotThatIsOpenedWhileTheFilterChangesHasNone: the old one lacks what was written to the new one alone.
func TestASnapshotThatIsOpenedWhileTheFilterChangesHasNone(t *testing.T) {
	s := openHasty(t, t.TempDir(), hasty)
	defer s.Close()
	set(t, s, "a", nil)
	s.presence.opening = func() {
		s.build()
		s.awaitBuild(t)
		set(t, s, "b", nil)
	}
	view := s.Snapshot()
	defer view.Close()
	s.presence.opening = nil
	for _, key := range []string{"a", "b"} {
		if _, ok, err := view.Get([]byte(key)); !ok || err != nil {
			t.Errorf("%s: %v, %v", key, ok, err)
		}
	}
}

// TestAKeyIsInTheFilterBeforeItCanBeRead: who sees the first key of a batch finds the last.
func TestAKeyIsInTheFilterBeforeItCanBeRead(t *testing.T) {
	s := openTemp(t)
	const keys, rounds = 5000, 20
	key := func(round, i int) []byte { return fmt.Appendf(nil, "%d %04d", round, i) }
	var writer sync.WaitGroup
	for round := range rounds {
		writer.Go(func() {
			var b store.Batch
			for i := range keys {
				b.Set(key(round, i), nil)
			}
			if err := s.Commit(&b, false); err != nil {
				t.Error(err)
			}
		})
		for seen := false; !seen && !t.Failed(); {
			view := s.Snapshot()
			first, last := key(round, 0), key(round, keys-1)
			if err := view.ScanKeys(first, last, func([]byte) bool { seen = true; return false }); err != nil {
				t.Error(err)
			}
			if _, ok, err := view.Get(last); ok != seen || err != nil {
				t.Errorf("the first is seen: %v, the last: %v, %v", seen, ok, err)
			}
			view.Close()
		}
		writer.Wait()
	}
}

// TestFiltersDenyNothingWhileManyReadAndWriteAndTheyAreBuilt: random writes and deletes, beside readers who each find in
// a snapshot by Get what is there by a scan; opened again now and then.
func TestFiltersDenyNothingWhileManyReadAndWriteAndTheyAreBuilt(t *testing.T) {
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	want := map[string]string{}
	for round := range uint64(3) {
		s := openRestless(t, dir)
		if round > 0 {
			s.BuildPresence(t)
		}
		var readers sync.WaitGroup
		done := make(chan struct{})
		for range 2 {
			readers.Go(func() { findAll(t, s, done) })
		}
		random := rand.New(rand.NewPCG(seed, round))
		for range 600 {
			writeSome(t, s, random, want)
		}
		close(done)
		readers.Wait()
		s.BuildPresence(t)
		if n := s.CheckPresence(t); n != len(want) {
			t.Errorf("round %d: %d keys, want %d", round, n, len(want))
		}
		view := s.Snapshot()
		for key, value := range want {
			if got, ok, err := view.Get([]byte(key)); err != nil || !ok || string(got) != value {
				t.Fatalf("round %d: %q is %q, %v, %v", round, key, got, ok, err)
			}
		}
		view.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeSome commits a few random writes, and makes them in the model.
func writeSome(t *testing.T, s store.Store, random *rand.Rand, want map[string]string) {
	var b store.Batch
	for range 1 + random.IntN(8) {
		key, value := fmt.Sprint("key ", random.IntN(1000)), fmt.Sprint(random.Uint64())
		if random.IntN(3) == 0 {
			b.Delete([]byte(key))
			delete(want, key)
		} else {
			b.Set([]byte(key), []byte(value))
			want[key] = value
		}
	}
	if err := s.Commit(&b, false); err != nil {
		t.Error(err)
	}
}

// findAll opens snapshots until done, and finds by Get, a while later, what each has.
func findAll(t *testing.T, s store.Store, done chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		view := s.Snapshot()
		all := map[string]string{}
		err := view.Scan(nil, nil, func(key, value []byte) bool { all[string(key)] = string(value); return true })
		if err != nil {
			t.Error(err)
		}
		for key, value := range all {
			if got, ok, err := view.Get([]byte(key)); err != nil || !ok || string(got) != value {
				t.Errorf("a scan has %q with %q, a Get %q, %v, %v", key, value, got, ok, err)
			}
		}
		view.Close()
	}
}

func TestCloseEndsABuild(t *testing.T) {
	dir := t.TempDir()
	s := openHasty(t, dir, hasty)
	for i := range 100 {
		set(t, s, fmt.Sprint(i), nil)
	}
	s.Close()
	limits := hasty
	limits.rest = 1 << 30 // It would end in hours.
	s = openHasty(t, dir, limits)
	inVain(t, s, "a", 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s.presence.whole.Load() != nil {
		t.Error("the filter is whole")
	}
	s = openHasty(t, dir, hasty)
	defer s.Close()
	s.BuildPresence(t)
	if n := s.CheckPresence(t); n != 100 {
		t.Errorf("%d keys", n)
	}
}

func TestFiltersAreGivenUpBeyondTheirBound(t *testing.T) {
	limits := hasty
	limits.bytes = 4 << 10 // for some 3,000 keys
	s := openHasty(t, t.TempDir(), limits)
	defer s.Close()
	most := 0
	for i := range 10_000 {
		set(t, s, fmt.Sprint(i), nil)
		if f := s.presence.whole.Load(); f != nil {
			most = max(most, f.bytes)
		}
	}
	if s.presence.whole.Load() != nil || most > limits.bytes || most < limits.bytes/2 {
		t.Errorf("filters took %d bytes, of %d", most, limits.bytes)
	}
	inVain(t, s, "a", 100)
	s.awaitBuild(t)
	if s.presence.whole.Load() != nil || s.presence.building != nil {
		t.Error("there is a filter again")
	}
	view := s.Snapshot()
	defer view.Close()
	if _, ok, err := view.Get([]byte("9999")); !ok || err != nil {
		t.Error(ok, err)
	}
}

func TestAFilterThatIsBuiltBeyondItsBoundIsGivenUp(t *testing.T) {
	dir := closedWithKeys(t)
	limits := hasty
	limits.bytes = 4 << 10
	s := openHasty(t, dir, limits)
	defer s.Close()
	for range 3 {
		inVain(t, s, "a", 10)
		s.awaitBuild(t)
	}
	if s.presence.whole.Load() != nil || s.presence.building != nil {
		t.Error("there is a filter")
	}
}

// TestAFilterOfWhatWasDeletedIsBuiltAnew: one that grows for keys that come and go stays small.
func TestAFilterOfWhatWasDeletedIsBuiltAnew(t *testing.T) {
	limits := hasty
	limits.piece = 1000
	s := openHasty(t, t.TempDir(), limits)
	defer s.Close()
	const live = 100
	var b store.Batch
	for i := range 30_000 {
		b.Reset()
		b.Set(fmt.Append(nil, i), nil)
		b.Delete(fmt.Append(nil, i-live))
		if err := s.Commit(&b, false); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			s.awaitBuild(t)
		}
	}
	s.awaitBuild(t)
	if f := s.presence.whole.Load(); f == nil || f.keys > 10_000 {
		t.Errorf("a filter for %d keys: %+v", live, f)
	}
	if n := s.CheckPresence(t); n != live {
		t.Errorf("%d keys", n)
	}
}

// TestAFilterThatLetsMuchPassIsBuiltAnew: of keys that were deleted and are asked for.
func TestAFilterThatLetsMuchPassIsBuiltAnew(t *testing.T) {
	limits := usualLimits
	limits.after, limits.piece, limits.rest = 10, 1000, 0
	s := openHasty(t, t.TempDir(), limits)
	defer s.Close()
	var b store.Batch
	for i := range 500 {
		b.Set(fmt.Append(nil, "absent is absent ", i), bytes.Repeat([]byte{1}, 10))
	}
	if err := s.Commit(&b, false); err != nil {
		t.Fatal(err)
	}
	for i := range b.Ops {
		b.Ops[i] = store.Op{Key: b.Ops[i].Key, Delete: true}
	}
	if err := s.Commit(&b, false); err != nil {
		t.Fatal(err)
	}
	inVain(t, s, "absent", 500)
	inVain(t, s, "absent", 20)
	s.awaitBuild(t)
	if f := s.presence.whole.Load(); f == nil || f.keys != 0 {
		t.Errorf("the filter has %+v", f)
	}
	before := s.presence.skipped.Load()
	inVain(t, s, "absent", 500)
	if n := s.presence.skipped.Load() - before; n != 500 {
		t.Errorf("the new filter answered %d of 500", n)
	}
}

// BenchmarkGetOfWhatIsNotThere measures a Get of an absent key in a snapshot, of a store of 300,000 in a memtable and in tables.
func BenchmarkGetOfWhatIsNotThere(b *testing.B) {
	const keys = 300_000
	dir := b.TempDir()
	for _, place := range []string{"memtable", "tables"} {
		s := openHasty(b, dir, usualLimits)
		var batch store.Batch
		for i := range keys {
			batch.Set(fmt.Appendf(nil, "%s user:%08d/field", place, i*2_654_435_761%100_000_000), make([]byte, 64))
			if batch.Len() == 1000 || i == keys-1 {
				if err := s.Commit(&batch, false); err != nil {
					b.Fatal(err)
				}
				batch.Reset()
			}
		}
		if place == "tables" {
			s.Close()
			limits := usualLimits
			limits.after, limits.rest = 1, 0
			s = openHasty(b, dir, limits)
			s.BuildPresence(b)
		}
		for _, known := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/filter=%v", place, known), func(b *testing.B) {
				view := s.Snapshot().(*snapshot)
				defer view.Close()
				if !known {
					view.known = nil
					s.presence.builder.Store(builderGaveUp)
				}
				key := make([]byte, 0, 64)
				for n := 0; b.Loop(); n++ {
					key = fmt.Appendf(key[:0], "%s user:%08d/fielx", place, n*2_654_435_761%100_000_000)
					if _, ok, err := view.Get(key); ok || err != nil {
						b.Fatal(ok, err)
					}
				}
			})
		}
		s.Close()
	}
}
