package badger_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
)

// Sizes of the store that the tests damage.
const (
	damageRecords = 2000
	damageFlips   = 60 // in tables, twice, and as many in the manifest
)

func damageRecord(i int) (key, value []byte) {
	return fmt.Appendf(nil, "key %06d", i), fmt.Appendf(nil, "secret %0200d", i)
}

// intactStore returns a directory with a closed store.
func intactStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for half := range 2 { // Two tables, and a manifest with more than one change.
		s := open(t, dir)
		var b store.Batch
		for i := half; i < damageRecords; i += 2 {
			b.Set(damageRecord(i))
		}
		if err := s.Commit(&b, false); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// verdict opens the store in dir and reads all of it. It returns the error of either, or one that
// is errSilent if the store came up with other contents than were written.
func verdict(dir string) error {
	s, err := badger.Open(dir, badger.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	view := s.Snapshot()
	defer view.Close()
	n := 0
	err = view.Scan(nil, nil, func(key, value []byte) bool {
		wantKey, wantValue := damageRecord(n)
		n++
		return string(key) == string(wantKey) && string(value) == string(wantValue)
	})
	if err == nil && n != damageRecords {
		err = fmt.Errorf("%w: wrong at record %d", errSilent, n)
	}
	return err
}

var errSilent = errors.New("the damage went unnoticed")

// flip changes one bit of a copy of dir and returns the copy.
func flip(t *testing.T, dir, name string, bit int) string {
	t.Helper()
	damaged := t.TempDir()
	if err := os.CopyFS(damaged, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(damaged, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[bit/8] ^= 1 << (bit % 8)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return damaged
}

// bits returns the names in dir that match a pattern, and how many bits they have.
func bits(t *testing.T, dir, pattern string) (names []string, sizes []int) {
	t.Helper()
	names, err := fs.Glob(os.DirFS(dir), pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in the store: %v", pattern, err)
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, int(info.Size())*8)
	}
	return names, sizes
}

func TestAFlippedBitInATableIsNamedWhenTheStoreOpens(t *testing.T) {
	dir := intactStore(t)
	if err := verdict(dir); err != nil {
		t.Fatalf("the intact store: %v", err)
	}
	names, sizes := bits(t, dir, "*.sst")
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range damageFlips {
		file := rng.IntN(len(names))
		bit := rng.IntN(sizes[file])
		err := verdict(flip(t, dir, names[file], bit))
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(fmt.Sprint(err), names[file]) ||
			strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("seed %d: bit %d of %s: %v", seed, bit, names[file], err)
		}
	}
}

// TestAStoreWithARottenBlockIsOpenedForWhoSavesTheRest also where Badger cannot read the block. All
// is there that does not stand in the block, or in the table of which it cannot be known where what
// stands.
func TestAStoreWithARottenBlockIsOpenedForWhoSavesTheRest(t *testing.T) {
	dir := intactStore(t)
	names, sizes := bits(t, dir, "*.sst")
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range damageFlips {
		file := rng.IntN(len(names))
		bit := rng.IntN(sizes[file])
		damaged := flip(t, dir, names[file], bit)
		before := hashes(t, damaged)
		found, rot := salvage(t, damaged)
		if !errors.Is(rot, store.ErrCorrupt) || !strings.Contains(rot.Error(), names[file]) {
			t.Errorf("seed %d: bit %d of %s: the damage is %v", seed, bit, names[file], rot)
		}
		least := damageRecords - 4096/200 // of a block
		if strings.Contains(rot.Error(), "index") {
			least = damageRecords / 2
		}
		if found < least {
			t.Errorf("seed %d: bit %d of %s: %d of %d records are left: %v", seed, bit, names[file], found, damageRecords, rot)
		}
		if diff := cmp.Diff(before, hashes(t, damaged)); diff != "" {
			t.Errorf("seed %d: bit %d of %s: it changed (-before +after):\n%s", seed, bit, names[file], diff)
		}
	}
}

func TestABitOfAValueCostsItsRecordOnly(t *testing.T) {
	dir := intactStore(t)
	names, _ := bits(t, dir, "*.sst")
	table, err := os.ReadFile(filepath.Join(dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	_, value := damageRecord(damageRecords / 2)
	if found, rot := salvage(t, flip(t, dir, names[0], 8*bytes.Index(table, value))); rot == nil || found != damageRecords-1 {
		t.Errorf("%d of %d records are left, %v", found, damageRecords, rot)
	}
}

// TestARottenStoreThatCrashedKeepsItsLogs, which are read and not cut.
func TestARottenStoreThatCrashedKeepsItsLogs(t *testing.T) {
	dir := intactStore(t)
	s := open(t, dir)
	defer s.Close()
	var b store.Batch
	key, _ := damageRecord(0)
	b.Set(key, []byte("in the log alone"))
	if err := s.Commit(&b, true); err != nil {
		t.Fatal(err)
	}
	names, _ := bits(t, dir, "*.sst")
	damaged := flip(t, dir, names[0], 8)
	before := hashes(t, damaged)
	r, err := badger.Open(damaged, badger.Options{Rotten: true})
	if err != nil {
		t.Fatal(err)
	}
	view := r.Snapshot()
	if value, ok, err := view.Get(key); string(value) != "in the log alone" {
		t.Errorf("the log's record is %q, %v, %v", value, ok, err)
	}
	view.Close()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, hashes(t, damaged)); diff != "" || r.Damage() == nil {
		t.Errorf("it changed (-before +after):\n%s\nand says %v", diff, r.Damage())
	}
}

// TestAStoreWithoutATableIsOpenedForWhoSavesTheRest.
func TestAStoreWithoutATableIsOpenedForWhoSavesTheRest(t *testing.T) {
	dir := intactStore(t)
	names, _ := bits(t, dir, "*.sst")
	if err := os.Remove(filepath.Join(dir, names[0])); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, names[1]), 0); err != nil {
		t.Fatal(err)
	}
	found, rot := salvage(t, dir)
	if !errors.Is(rot, store.ErrCorrupt) || !strings.Contains(rot.Error(), "1 more") || found != 0 {
		t.Errorf("%d records, the damage is %v", found, rot)
	}
}

// salvage opens a store that is rotten, and returns what it says of that, and how many whole
// records a scan finds. Reads find the same, but for what a rotten filter denies.
func salvage(t *testing.T, dir string) (found int, rot error) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	s, err := badger.Open(dir, badger.Options{Rotten: true})
	if err != nil {
		t.Fatal(err)
	}
	view, read := s.Snapshot(), 0
	last := ""
	err = view.Scan(nil, nil, func(key, value []byte) bool {
		var i int
		fmt.Sscanf(string(key), "key %06d", &i)
		wantKey, want := damageRecord(i)
		if string(key) <= last {
			t.Errorf("behind %q comes %q", last, key)
		}
		if last = string(key); last == string(wantKey) && string(value) == string(want) {
			found++
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
	for i := range damageRecords {
		key, want := damageRecord(i)
		value, _, err := view.Get(key)
		if err != nil && !errors.Is(err, store.ErrCorrupt) {
			t.Error(err)
		}
		if string(value) == string(want) {
			read++
		}
	}
	if read != found && read != found-1 { // a bit of a table's filter keeps a key from who asks for it
		t.Errorf("a scan finds %d records, and reads %d", found, read)
	}
	view.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
	return found, s.Damage()
}

// hashes returns the hash of each file in a directory.
func hashes(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = sha256.Sum256(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAFlippedBitInTheManifestIsNoticed(t *testing.T) {
	dir := intactStore(t)
	names, sizes := bits(t, dir, "MANIFEST")
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range damageFlips {
		bit := rng.IntN(sizes[0])
		if err := verdict(flip(t, dir, names[0], bit)); err == nil || errors.Is(err, errSilent) {
			t.Errorf("seed %d: bit %d: %v", seed, bit, err)
		}
	}
}

func TestAMissingTableIsNoticed(t *testing.T) {
	dir := intactStore(t)
	names, _ := bits(t, dir, "*.sst")
	if err := os.Remove(filepath.Join(dir, names[0])); err != nil {
		t.Fatal(err)
	}
	if err := verdict(dir); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%v, want %v", err, store.ErrCorrupt)
	}
}

func TestAMissingManifestDoesNotCostTheTablesWhateverTheDirectoryIsCalled(t *testing.T) {
	for _, name := range []string{"data", "data[1]", "data[", `d\ata`, "d?t*"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Rename(intactStore(t), dir); err != nil {
			t.Fatal(err)
		}
		before, _ := bits(t, dir, "*.sst")
		if err := os.Remove(filepath.Join(dir, "MANIFEST")); err != nil {
			t.Fatal(err)
		}
		if err := verdict(dir); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v, want %v", name, err, store.ErrCorrupt)
		}
		if after, _ := fs.Glob(os.DirFS(dir), "*.sst"); len(after) != len(before) {
			t.Errorf("%s: %d tables, then %d", name, len(before), len(after))
		}
	}
}

func TestAManifestThatIsCutInItsFirstChangeDoesNotCostTheTables(t *testing.T) {
	dir := intactStore(t)
	manifest, err := os.ReadFile(filepath.Join(dir, "MANIFEST"))
	if err != nil {
		t.Fatal(err)
	}
	tables, _ := bits(t, dir, "*.sst")
	const header = 8
	first := header + 8 + int(binary.BigEndian.Uint32(manifest[header:])) // where the first change ends
	for size := range first {
		if err := os.WriteFile(filepath.Join(dir, "MANIFEST"), manifest[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := verdict(dir); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v, want %v", size, err, store.ErrCorrupt)
		}
		if left, _ := fs.Glob(os.DirFS(dir), "*.sst"); len(left) != len(tables) {
			t.Fatalf("cut to %d bytes: %d tables, then %d", size, len(tables), len(left))
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "MANIFEST"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verdict(dir); err != nil {
		t.Errorf("with its manifest again: %v", err)
	}
}

// TestAManifestThatIsCutAfterACrashDoesNotCostTheTable where one memtable's log lies beside it, as
// beside the first table before that is listed.
func TestAManifestThatIsCutAfterACrashDoesNotCostTheTable(t *testing.T) {
	dir := t.TempDir()
	set := func(s *badger.Store, i int) {
		t.Helper()
		var b store.Batch
		b.Set(damageRecord(i))
		if err := s.Commit(&b, true); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	set(s, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	set(s, 1)
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(crashed, "MANIFEST"), 8); err != nil {
		t.Fatal(err)
	}
	if err := verdict(crashed); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%v, want %v", err, store.ErrCorrupt)
	}
	if tables, _ := fs.Glob(os.DirFS(crashed), "*.sst"); len(tables) != 1 {
		t.Errorf("%d tables are left, want 1", len(tables))
	}
}

// TestATableThatIsNotListedYetIsNoDamage is what a crash leaves that writes the first one out.
func TestATableThatIsNotListedYetIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var b store.Batch
	b.Set(damageRecord(0))
	if err := s.Commit(&b, true); err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(dir, "000001.sst"))
	if err == nil {
		err = os.WriteFile(filepath.Join(crashed, "000001.sst"), table, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s = open(t, crashed)
	defer s.Close()
	view := s.Snapshot()
	defer view.Close()
	key, want := damageRecord(0)
	if value, ok, err := view.Get(key); err != nil || !ok || string(value) != string(want) {
		t.Errorf("it has %q, %v, %v", value, ok, err)
	}
}

func TestATableThatIsCutShortWhileTheStoreIsOpenIsDamageAndNoCrash(t *testing.T) {
	dir := intactStore(t)
	s := open(t, dir)
	names, _ := bits(t, dir, "*.sst")
	for _, name := range names {
		if err := os.Truncate(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(); err != nil {
		t.Error(err) // it reads no table
	}
	view := s.Snapshot()
	defer view.Close()
	key, _ := damageRecord(damageRecords / 2)
	if value, ok, err := view.Get(key); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a read returned %q, %v, %v; want %v", value, ok, err, store.ErrCorrupt)
	}
	err := view.Scan(nil, nil, func([]byte, []byte) bool { return true })
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a scan returned %v, want %v", err, store.ErrCorrupt)
	}
}
