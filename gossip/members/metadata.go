package members

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/peerd/peerd/internal/wire"
)

// MaxLabel is the size of a label in bytes; a longer one is cut off.
const MaxLabel = 64

const (
	metadataFormat = 2  // raised when older hosts must not try to read it
	metadataFields = 6  // those that the format began with; later ones may follow
	maxFields      = 32 // that a newer host may send

	// olderFormat is read as well, so that hosts from before peerd 0.1.0 are members that can be named: it differs
	// by its number alone, and says that they speak Versions{1, 1}.
	olderFormat = 1

	// signatureDomain, and the format behind it, keep a signature from meaning anything elsewhere that the host
	// key signs.
	signatureDomain = "peerd member metadata "
)

// errForged is wrapped when name, address, key and signature do not belong together.
var errForged = errors.New("forged metadata")

// metadata is what a member tells about itself, in at most 512 bytes, signed together with its
// name and gossip address: a holder of the cluster key cannot take another member's name, or lure
// its traffic.
//
// Encoded it is an array of two byte strings: the body and the signature. The body is an array of
// its own, at whose end newer hosts may put fields that this one passes over.
type metadata struct {
	format   uint64 // metadataFormat, or olderFormat
	label    string
	key      ed25519.PublicKey
	p2p      []string
	versions Versions
	spaces   []uint32 // nil: all
}

// sign returns the encoded metadata of the member name at the gossip address addr. As many
// addresses as fit are put in; kept says how many.
func (m *metadata) sign(private ed25519.PrivateKey, name, addr string) (encoded []byte, kept int) {
	for kept = len(m.p2p); ; kept-- {
		body := m.body(kept)
		signature := ed25519.Sign(private, signed(m.format, name, addr, body))
		encoded = wire.Encode(func(w *wire.Writer) {
			w.Array(2)
			w.Bytes(body)
			w.Bytes(signature)
		})
		if len(encoded) <= memberlist.MetaMaxSize || kept == 0 {
			return encoded, kept
		}
	}
}

func (m *metadata) body(addresses int) []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(metadataFields + 1)
		w.Uint(m.format)
		w.String(cutLabel(m.label))
		w.Bytes(m.key)
		w.Array(addresses)
		for _, addr := range m.p2p[:addresses] {
			w.String(addr)
		}
		w.Uint(m.versions.Min)
		w.Uint(m.versions.Max)
		w.Array(len(m.spaces))
		for _, id := range m.spaces {
			w.Uint(uint64(id))
		}
	})
}

// signed returns the bytes that the signature covers. Each part has its length before it.
func signed(format uint64, name, addr string, body []byte) []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.String(signatureDomain + strconv.FormatUint(format, 10))
		w.String(name)
		w.String(addr)
		w.Bytes(body)
	})
}

// openMetadata decodes what the member name at addr is said to have told about itself, and checks
// that it did: its name is idOf its key, and the key signed name, address and body.
func openMetadata(
	encoded []byte, name, addr string, idOf func(ed25519.PublicKey) (string, error),
) (metadata, error) {
	m, body, signature, err := decodeMetadata(encoded)
	if err != nil {
		return metadata{}, err
	}
	id, err := idOf(m.key)
	switch {
	case err != nil:
		return metadata{}, fmt.Errorf("%w: %w", errForged, err)
	case id != name:
		return metadata{}, fmt.Errorf("%w: the key is that of %s", errForged, id)
	case !ed25519.Verify(m.key, signed(m.format, name, addr, body), signature):
		return metadata{}, fmt.Errorf("%w: wrong signature", errForged)
	}
	return m, nil
}

// decodeMetadata decodes without believing: see openMetadata. The error wraps wire.ErrFormat if a newer peerd
// wrote it. What it returns shares nothing with
// encoded but body and signature.
func decodeMetadata(encoded []byte) (m metadata, body, signature []byte, err error) {
	if len(encoded) > memberlist.MetaMaxSize {
		return m, nil, nil, fmt.Errorf("%w: %d bytes of metadata", wire.ErrMalformed, len(encoded))
	}
	err = wire.Decode(encoded, func(r *wire.Reader) {
		if n := r.Array(2); n != 2 {
			r.Fail("%d parts, not 2", n)
		}
		body = r.Bytes(len(encoded))
		signature = r.Bytes(ed25519.SignatureSize)
	})
	if err == nil {
		err = wire.Decode(body, m.read)
	}
	if err == nil && m.format > metadataFormat {
		err = wire.CheckFormat(m.format, metadataFormat, "")
	}
	return m, body, signature, err
}

func (m *metadata) read(r *wire.Reader) {
	n := r.Array(maxFields)
	m.format = r.Uint()
	if m.format > metadataFormat {
		r.Skip(n - 1) // decodeMetadata refuses it
		return
	}
	if m.format < olderFormat || n < metadataFields {
		r.Fail("metadata format %d with %d fields", m.format, n)
		return
	}
	m.label = Printable(r.String(MaxLabel))
	m.key = append(ed25519.PublicKey(nil), r.Bytes(ed25519.PublicKeySize)...)
	m.p2p = make([]string, 0, MaxP2P)
	for range r.Array(MaxP2P) {
		m.p2p = append(m.p2p, r.String(MaxP2PBytes))
	}
	m.versions = Versions{Min: r.Uint(), Max: r.Uint()}
	if n > metadataFields {
		for range r.Array(MaxSpaces) {
			m.spaces = append(m.spaces, uint32(r.Uint()))
		}
		n--
	}
	r.Skip(n - metadataFields)
	if len(m.key) != ed25519.PublicKeySize {
		r.Fail("a key of %d bytes", len(m.key))
	}
}

// Printable returns a text of another host's without what a terminal would obey: a question mark stands for each
// character that is not printed.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
}

// cutLabel returns the label's first MaxLabel bytes, without a torn character at the end.
func cutLabel(label string) string {
	if len(label) <= MaxLabel {
		return label
	}
	end := MaxLabel
	for end > MaxLabel-utf8.UTFMax && !utf8.RuneStart(label[end]) {
		end--
	}
	return label[:end]
}
