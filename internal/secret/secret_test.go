package secret

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// fixed returns the key 00 01 02 … 1f, for golden values.
func fixed() Key {
	var k Key
	for i := range k.root {
		k.root[i] = byte(i)
	}
	return k
}

// bareLine is how the fixed key was stored before lines had a checksum.
const bareLine = "peerd-cluster-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n"

func TestCreatedKeyIsLoadedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	created, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.InUse() != created || loaded.InUse().IsZero() || len(loaded.Keys()) != 1 {
		t.Fatal("loaded another key than was created")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %o, want 600", info.Mode().Perm())
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Fatalf("files left behind: %v", left)
	}
}

func TestExistingFileIsNeverOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("Create: %v, want fs.ErrExist", err)
	}
	if _, err := CreateHostKey(path); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("CreateHostKey: %v, want fs.ErrExist", err)
	}
	if err := copyNew(path, path); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("copyNew: %v, want fs.ErrExist", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "precious" {
		t.Fatalf("file now holds %q", got)
	}
}

func TestFileThatOthersCanReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	if _, err := Create(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o610, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if err == nil {
			t.Fatalf("mode %o was accepted", mode)
		}
		if !strings.Contains(err.Error(), "chmod 600 "+path) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("mode %o: the error does not say what to do in one line: %v", mode, err)
		}
	}
}

func TestWhatIsNoKeyIsRefusedWithoutShowingIt(t *testing.T) {
	valid := strings.TrimSpace(fixed().line())
	_, encoded, _ := strings.Cut(valid, ":")
	for _, text := range []string{
		"",
		encoded,
		"peerd-cluster-key-2",
		"peerd-cluster-key-3:" + encoded,
		"peerd-cluster-key-1:" + encoded,
		bareLine,
		strings.Replace(bareLine, "key-1", "key-2", 1),
		valid[:len(valid)-1],
		valid + "A",
		valid + "\n" + valid,
		valid[:30] + "\n" + valid[30:],
		strings.Replace(valid, "A", "!", 1),
	} {
		_, err := parse(text)
		if err == nil {
			t.Errorf("%q was accepted", text)
		} else if strings.Contains(err.Error(), encoded[4:12]) {
			t.Errorf("the error shows a part of the key: %v", err)
		}
	}
	for _, text := range []string{valid, valid + "\r\n", " " + valid + "\n\n"} {
		if k, err := parse(text); err != nil || k != fixed() {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAKeyOfAnotherFormatIsNamedAndNotTakenForDamage(t *testing.T) {
	for text, why := range map[string]string{
		bareLine: "copy the file from a host that runs this version",
		strings.Replace(fixed().line(), "key-2", "key-3", 1): "use the newer peerd that made it",
	} {
		_, err := parse(text)
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "damaged") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAKeyWithAFlippedBitIsNoOtherKey(t *testing.T) {
	line := strings.TrimSpace(fixed().line())
	for bit := range 8 * len(line) {
		flipped := []byte(line)
		flipped[bit/8] ^= 1 << (bit % 8)
		if _, err := parse(string(flipped)); err == nil {
			t.Errorf("with bit %d flipped the line is taken for a key: %q", bit, flipped)
		}
	}
}

func TestMissingLargeAndIrregularFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was accepted")
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("large file: %v", err)
	}
}

// The golden values pin the derivations and the file (computed with Python): changing one would
// split every cluster in two.
const (
	goldenGossip = "614814b872b8b431c7501fcc5f67773e161f01f5a292570d582d3e30a247ce93"
	goldenID     = "ca9075493e80f11b"
	goldenProof  = "de53670ad057fb23bf99938367cac3999f2810a0c05b4ec47f5137f44af248f1"
)

func TestDerivedValuesNeverChange(t *testing.T) {
	gossip := fixed().GossipKey()
	for _, c := range []struct{ name, got, want string }{
		{"line", fixed().line(), "peerd-cluster-key-2:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9G3XlO\n"},
		{"gossip key", hex.EncodeToString(gossip[:]), goldenGossip},
		{"cluster id", fixed().ClusterID(), goldenID},
		{"proof", hex.EncodeToString(fixed().Proof("hello", []byte("a"), []byte("bc"))), goldenProof},
	} {
		if c.got != c.want {
			t.Errorf("%s is %s, want %s", c.name, c.got, c.want)
		}
	}
}

func TestProofHoldsForItsOwnKeyLabelAndPartsOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 4), 0, 3)
		labels := rapid.SampledFrom([]string{"", "dial", "accept"})
		l1, l2 := labels.Draw(t, "label1"), labels.Draw(t, "label2")
		p1, p2 := parts.Draw(t, "parts1"), parts.Draw(t, "parts2")
		k := fixed()
		same := l1 == l2 && fmt.Sprintf("%q", p1) == fmt.Sprintf("%q", p2)
		if got := k.Verify(k.Proof(l1, p1...), l2, p2...); got != same {
			t.Fatalf("verified: %v, want %v", got, same)
		}
		if New().Verify(k.Proof(l1, p1...), l1, p1...) {
			t.Fatal("another key verified the proof")
		}
	})
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	for name, v := range map[string]any{"cluster key": fixed(), "host key": NewHostKey()} {
		var text strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			fmt.Fprintf(&text, verb+"\n", v)
			fmt.Fprintf(&text, verb+"\n", []any{v, struct{ K any }{v}})
		}
		slog.New(slog.NewTextHandler(&text, nil)).Info("secret", "key", v)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("secret", "key", v)
		encoded, err := json.Marshal(map[string]any{"key": v})
		if err != nil {
			t.Fatal(err)
		}
		text.Write(encoded)
		for line := range strings.Lines(text.String()) {
			if !strings.Contains(line, redactedText) {
				t.Errorf("%s printed as %s", name, line)
			}
		}
	}
}

func TestHostKeyIsMadeOnceAndLoadedAfterwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.key")
	const openers = 8
	keys := make([]HostKey, openers)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			k, err := OpenHostKey(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = k
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k.IsZero() || !k.Public().Equal(keys[0].Public()) {
			t.Fatal("two openers got different keys")
		}
	}
	if (HostKey{}).Public() != nil {
		t.Error("the zero key has a public half")
	}
}

func TestHostKeyFileIsCheckedAsTheClusterKeyIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.key")
	if _, err := CreateHostKey(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHostKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Fatalf("a readable host key: %v", err)
	}
	const damaged = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	for _, text := range []string{"", "hello", damaged} {
		if _, err := parseHostKey([]byte(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fixed().line())
	f.Add(bareLine)
	f.Add("peerd-cluster-key-1:")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parse(text)
		text = strings.TrimSpace(text)
		if err == nil && text != strings.TrimSpace(k.line()) {
			t.Fatalf("%q is accepted as the key of another line", text)
		}
	})
}
