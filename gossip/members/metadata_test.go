package members

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/wire"
)

const testAddr = "127.0.0.1:7946"

// sample returns what the n-th host tells about itself, and its name.
func sample(n byte) (metadata, string) {
	cfg := config(n)
	return metadata{
		format: metadataFormat, label: cfg.Label, p2p: cfg.P2P, versions: cfg.Versions,
		key: cfg.PrivateKey.Public().(ed25519.PublicKey),
	}, cfg.ID
}

var fields = cmp.AllowUnexported(metadata{})

func TestSignedMetadataIsReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, name := sample(0)
		m.label = Printable(rapid.StringN(0, 8, MaxLabel).Draw(t, "label"))
		m.p2p = rapid.SliceOfN(rapid.StringN(1, 16, 16), 0, MaxP2P).Draw(t, "p2p")
		m.versions = Versions{rapid.Uint64().Draw(t, "min"), rapid.Uint64().Draw(t, "max")}
		if rapid.Bool().Draw(t, "not all") {
			m.spaces = rapid.SliceOfN(rapid.Uint32(), 1, 8).Draw(t, "spaces")
		}
		encoded, kept := m.sign(privateKey(0), name, testAddr)
		if kept != len(m.p2p) {
			t.Fatalf("kept %d of %d short addresses", kept, len(m.p2p))
		}
		got, err := openMetadata(encoded, name, testAddr, idOf)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got, fields); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestAddressesThatDoNotFitAreLeftOutFromTheEnd(t *testing.T) {
	m, name := sample(0)
	m.label = strings.Repeat("x", 1000)
	m.p2p = nil
	for i := range MaxP2P {
		m.p2p = append(m.p2p, fmt.Sprintf("%03d%s", i, strings.Repeat("y", MaxP2PBytes-3)))
	}
	m.versions = Versions{1 << 60, 1 << 63}
	for i := range MaxSpaces {
		m.spaces = append(m.spaces, 1<<31+uint32(i))
	}
	encoded, kept := m.sign(privateKey(0), name, testAddr)
	if len(encoded) > memberlist.MetaMaxSize || kept < 1 {
		t.Fatalf("%d bytes with %d addresses", len(encoded), kept)
	}
	got, err := openMetadata(encoded, name, testAddr, idOf)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m.p2p[:kept], got.p2p); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnyChangeOfMetadataNameOrAddressIsRefused(t *testing.T) {
	m, name := sample(0)
	encoded, _ := m.sign(privateKey(0), name, testAddr)
	for i := range encoded {
		for bit := range 8 {
			changed := bytes.Clone(encoded)
			changed[i] ^= 1 << bit
			if _, err := openMetadata(changed, name, testAddr, idOf); err == nil {
				t.Errorf("bit %d of byte %d changed, and nobody noticed", bit, i)
			}
		}
	}
	_, other := sample(1)
	if _, err := openMetadata(encoded, other, testAddr, idOf); !errors.Is(err, errForged) {
		t.Errorf("under another name: %v", err)
	}
	if _, err := openMetadata(encoded, name, "127.0.0.1:7947", idOf); !errors.Is(err, errForged) {
		t.Errorf("at another address: %v", err)
	}
}

// withExtra returns metadata of a newer host: n more fields at the end, under a valid signature.
func withExtra(n int, format uint64) (encoded []byte, name string) {
	m, name := sample(0)
	body := wire.Encode(func(w *wire.Writer) {
		w.Array(metadataFields + 1 + n)
		w.Uint(format)
		w.String(m.label)
		w.Bytes(m.key)
		w.Array(1)
		w.String(m.p2p[0])
		w.Uint(m.versions.Min)
		w.Uint(m.versions.Max)
		w.Array(0) // of spaces: all
		for range n {
			w.Array(2)
			w.Bool(true)
			w.String("new")
		}
	})
	return wire.Encode(func(w *wire.Writer) {
		w.Array(2)
		w.Bytes(body)
		w.Bytes(ed25519.Sign(privateKey(0), signed(format, name, testAddr, body)))
	}), name
}

func TestFieldsOfNewerHostsArePassedOver(t *testing.T) {
	encoded, name := withExtra(3, metadataFormat)
	got, err := openMetadata(encoded, name, testAddr, idOf)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := sample(0)
	if diff := cmp.Diff(want, got, fields); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	encoded, name = withExtra(0, metadataFormat+1)
	if _, err = openMetadata(encoded, name, testAddr, idOf); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("a newer format: %v", err)
	}
}

// TestMetadataOfTheOlderFormatIsRead as a host writes it that is too old, and is to be named for that.
func TestMetadataOfTheOlderFormatIsRead(t *testing.T) {
	want, name := sample(0)
	want.format = olderFormat
	encoded, err := hex.DecodeString(olderMetadata)
	if err != nil {
		t.Fatal(err)
	}
	got, err := openMetadata(encoded, name, testAddr, idOf)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, fields); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	encoded[len(encoded)-1] ^= 1
	if _, err := openMetadata(encoded, name, testAddr, idOf); !errors.Is(err, errForged) {
		t.Errorf("with another signature: %v", err)
	}
}

// goldenMetadata is the encoding of host 0 of these tests. Ed25519 signatures are deterministic.
const goldenMetadata = "" +
	"92c4499702c406686f73742030c420db995fe25169d141cab9bbba92baa01f9f2e1ece7df4cb2ac05190" +
	"f37fcc1f9d91c4172f6970342f3132372e302e302e312f7463702f34303030010290c44032ec22ac8b3c" +
	"de46103617edf3a6ec5c71fe71886825898b4999244bf981ebe60031d26c088bcbf36b3471a4c10cf53f" +
	"483fe02f9a2d6db997e33bc9317c2603"

// olderMetadata is what a peerd from before 0.1.0 made of the same.
const olderMetadata = "" +
	"92c4489601c406686f73742030c420db995fe25169d141cab9bbba92baa01f9f2e1ece7df4cb2ac05190" +
	"f37fcc1f9d91c4172f6970342f3132372e302e302e312f7463702f343030300102c440fb9baee9377040" +
	"dea1b1cb66e2fb31ad968123ebc31ba012fe1e2b5267a721451cce7b8cefb142fd4a95526dee624e55b6" +
	"e91fdaceab5f4666c561cc0eb5e90f"

func TestEncodedMetadataNeverChanges(t *testing.T) {
	m, name := sample(0)
	encoded, _ := m.sign(privateKey(0), name, testAddr)
	if got := hex.EncodeToString(encoded); got != goldenMetadata {
		t.Errorf("encoded as\n%s, want\n%s", got, goldenMetadata)
	}
}

func TestLongLabelIsCutBetweenCharacters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		label := rapid.String().Draw(t, "label")
		cut := cutLabel(label)
		switch {
		case !strings.HasPrefix(label, cut) || len(cut) > MaxLabel || !utf8.ValidString(cut):
			t.Fatalf("%q is cut to %q", label, cut)
		case len(label) <= MaxLabel && cut != label, len(label) > MaxLabel && len(cut) < MaxLabel-3:
			t.Fatalf("%q loses too much: %q", label, cut)
		}
	})
	if got := cutLabel(strings.Repeat("\x80", 100)); len(got) > MaxLabel {
		t.Errorf("no text at all is cut to %d bytes", len(got))
	}
}

func FuzzMetadata(f *testing.F) {
	m, name := sample(0)
	encoded, _ := m.sign(privateKey(0), name, testAddr)
	f.Add(encoded)
	newer, _ := withExtra(3, metadataFormat)
	f.Add(newer)
	f.Fuzz(func(t *testing.T, encoded []byte) {
		m, body, signature, err := decodeMetadata(encoded)
		if err != nil {
			return
		}
		if len(m.key) != ed25519.PublicKeySize || len(m.label) > MaxLabel || len(m.p2p) > MaxP2P ||
			len(body)+len(signature) > memberlist.MetaMaxSize {
			t.Fatalf("limits passed: %+v", m)
		}
		again := m.body(len(m.p2p))
		var back metadata
		if err := wire.Decode(again, back.read); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, back, fields); diff != "" {
			t.Fatalf("not read again (-want +got):\n%s", diff)
		}
	})
}

// TestAHostOfAnotherFormatIsAMemberOrRefusedByItsName hands memberlist's news of hosts to the delegate.
func TestAHostOfAnotherFormatIsAMemberOrRefusedByItsName(t *testing.T) {
	var text memory
	older, err := hex.DecodeString(olderMetadata)
	if err != nil {
		t.Fatal(err)
	}
	newer, name := withExtra(3, metadataFormat+1)
	cfg := config(1)
	d := &delegate{self: cfg.ID, cfg: &cfg, table: newTable(nil),
		journal: &journal{to: text.logger(), limit: limiter{now: func() time.Time { return noon }}}}
	at := netip.MustParseAddrPort(testAddr)
	node := &memberlist.Node{Name: name, Addr: at.Addr().AsSlice(), Port: at.Port(), Meta: newer}
	for range 3 {
		if err := d.NotifyAlive(node); !errors.Is(err, wire.ErrFormat) {
			t.Errorf("a newer host: %v", err)
		}
	}
	if n := text.count("runs a newer peerd than this one can talk to: upgrade this one"); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
	node.Meta = older
	if err := d.NotifyAlive(node); err != nil {
		t.Errorf("an older host: %v", err)
	}
	d.NotifyJoin(node)
	want, _ := sample(0)
	if m, known := d.table.get(name); !known || !m.Alive || m.Versions != want.versions || m.Label != want.label {
		t.Errorf("an older host is listed as %+v", m)
	}
}
