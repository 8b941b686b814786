package members

import (
	"crypto/ed25519"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// goneRecord returns the record of a member with a key of its own, last seen n seconds after noon.
func goneRecord(n int) record {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(seed, uint64(n))
	key := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	id, err := idOf(key)
	if err != nil {
		panic(err)
	}
	seen := noon.Add(time.Duration(n) * time.Second)
	return record{seen: seen, Member: Member{
		ID: id, Label: "gone", PublicKey: key, Addr: testAddr, P2P: []string{"/ip4/127.0.0.1"},
		Since: seen,
	}}
}

func TestKnownMembersAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known.json")
	later := noon.Add(time.Hour)
	want := []record{goneRecord(2), goneRecord(1)}
	if err := saveKnown(path, want, nil); err != nil {
		t.Fatal(err)
	}
	got, invalid, err := loadKnown(path, idOf, later)
	if err != nil || invalid != 0 {
		t.Fatal(invalid, err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, want 600", info.Mode().Perm())
	}
	if got, _, _ = loadKnown(path, idOf, noon); got[0].seen.After(noon) {
		t.Errorf("seen in the future: %s", got[0].seen)
	}
	if got, _, err = loadKnown(path+"none", idOf, later); got != nil || err != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
}

func TestInvalidEntriesOfTheKnownFileAreLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known.json")
	good, name, addr, key := goneRecord(1), goneRecord(2), goneRecord(3), goneRecord(4)
	name.ID = good.ID + "x"
	addr.Addr = "nowhere"
	key.PublicKey = good.PublicKey
	long, many := goneRecord(5), goneRecord(6)
	long.P2P = []string{strings.Repeat("x", MaxP2PBytes+1)}
	many.P2P = make([]string, MaxP2P+1)
	if err := saveKnown(path, []record{name, addr, good, key, long, many}, nil); err != nil {
		t.Fatal(err)
	}
	got, invalid, err := loadKnown(path, idOf, noon)
	if err != nil || invalid != 5 || len(got) != 1 || got[0].ID != good.ID {
		t.Errorf("%d invalid, %v, loaded %v", invalid, err, got)
	}
}

func TestAKnownFileOfAnotherFormatIsRefusedUntouched(t *testing.T) {
	for content, why := range map[string]string{
		`{"version":1,"members":[]}`: "format 1, from before peerd 0.1.0, and this program reads format 2: move it away",
		`{"version":3,"peers":[]}`:   "format 3, and this program reads format 2: use the newer peerd",
	} {
		cfg := config(0)
		dir := t.TempDir()
		cfg.KnownFile = filepath.Join(dir, "known.json")
		if err := os.WriteFile(cfg.KnownFile, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := Open(cfg)
		if err == nil {
			_ = m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: opened with %v, want %q", content, err, why)
		}
		files, _ := os.ReadDir(dir)
		if after, _ := os.ReadFile(cfg.KnownFile); string(after) != content || len(files) != 1 {
			t.Errorf("%s: there are %d files, and it is %q", content, len(files), after)
		}
	}
}

func TestDamagedKnownFileIsPutAside(t *testing.T) {
	for _, content := range []string{"", "{", "[]", `{}`, strings.Repeat("[", 1<<16)} {
		var text memory
		cfg := config(0)
		cfg.Log = text.logger()
		cfg.KnownFile = filepath.Join(t.TempDir(), "known.json")
		if err := os.WriteFile(cfg.KnownFile, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		open(t, cfg)
		if text.count("cannot read the file of known members") != 1 {
			t.Errorf("%.9q: no warning", content)
		}
		aside, err := os.ReadFile(cfg.KnownFile + ".damaged")
		if err != nil || string(aside) != content {
			t.Errorf("%.9q: not kept aside: %v", content, err)
		}
	}
}
