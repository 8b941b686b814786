package dotted

import (
	"cmp"
	"crypto/sha256"
	"strings"
)

// Names longer than longName bytes keep namePrefix of them in a place.
const (
	longName   = 256
	namePrefix = 128
	// maxPlace is how long a place may be, in bytes. No path of MaxDepth names comes close.
	maxPlace = 20 << 10
)

// Place returns the address with its long names shortened to their first 128 bytes and their SHA-256:
// where stores keep it, since their keys are bounded. The place of a prefix, as Clear takes it, is a prefix of
// the places of what it covers. Stores and repairs go through cells in the order of their places; for
// names of up to 256 bytes that is the order of addresses.
func (a Address) Place() Address {
	if len(a) <= longName {
		return a
	}
	place := a.shortNames()
	if len(place) <= maxPlace {
		return place
	}
	// Of a type that this version does not know.
	sum := sha256.Sum256([]byte(a))
	return place[:maxPlace/2] + "\x00\x03" + Address(sum[:])
}

func (a Address) shortNames() Address {
	var out strings.Builder
	for rest := a; ; {
		name, after, ok := rest.CutName()
		if !ok {
			out.WriteString(string(rest))
			return Address(out.String())
		}
		if len(name) <= longName {
			out.WriteString(string(rest[:len(rest)-len(after)]))
		} else {
			out.WriteString(shortened(name))
		}
		t, after, ok := after.CutType()
		if !ok {
			return Address(out.String())
		}
		out.WriteByte(byte(t))
		rest = after
	}
}

// shortened ends unlike a whole name does, so that it is nobody else's place.
func shortened(name string) string {
	head := KeyAddress(name[:namePrefix])
	sum := sha256.Sum256([]byte(name))
	return string(head[:len(head)-1]) + "\x02" + string(sum[:])
}

// ComparePlaces orders addresses by their places.
func ComparePlaces(a, b Address) int { return cmp.Compare(a.Place(), b.Place()) }
