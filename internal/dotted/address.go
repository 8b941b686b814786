package dotted

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Address names a cell, or a range of cells that share it as a prefix. It is made of names (a key,
// the fields of maps, a set's elements), each escaped and ended so that addresses sort as their
// names do, and of one Type byte after each name that is a container or a leaf:
//
//	key v                   a register or string
//	key v c id              what the replica id counted on that string
//	key s elem              an element of a set
//	key m field v           a string in a map
//	key m field m field s elem
//
// The same name under two types is two addresses, so what two replicas create at once under one
// name never mixes, and what they create with the same type always merges.
type Address string

// typeShare stands between a string's address and the replicas that counted on it.
const typeShare Type = 'c'

// ShareBytes is how much longer than its string's the address of a share can be.
const ShareBytes = 1 + 2*8 + 2

// Limits of addresses, in bytes. A longer name or address is refused with ErrTooLong.
const (
	MaxName    = 64 << 10  // a key, a field, an element of a set
	MaxAddress = 256 << 10 // the whole address, escaped
	MaxDepth   = 32        // names in one address

	// MaxShapes is how many shapes the cells of one key can have: maps and one other type, or what is
	// below it.
	MaxShapes = MaxDepth * 256 * 2
)

// ErrTooLong is returned for a key, field or element beyond MaxName and for a path beyond MaxDepth
// or MaxAddress.
var ErrTooLong = errors.New("too long")

const (
	escape     = 0x00
	escapedNul = 0xff
	endOfName  = 0x01
)

// Name returns the address of name under a: a key if a is empty, else an element or field. With a type it is that of
// what is stored with it there.
func (a Address) Name(name string, stored ...Type) Address {
	var room [128]byte
	return Address(AppendName(append(room[:0], a...), name, stored...))
}

// AppendName appends a name to an address, as Address.Name does.
func AppendName(b []byte, name string, stored ...Type) []byte {
	for {
		i := strings.IndexByte(name, escape)
		if i < 0 {
			break
		}
		b = append(append(b, name[:i]...), escape, escapedNul)
		name = name[i+1:]
	}
	b = append(append(b, name...), escape, endOfName)
	for _, t := range stored {
		b = append(b, byte(t))
	}
	return b
}

// Type returns the address of what is stored with type t under the name that a ends with.
func (a Address) Type(t Type) Address { return a + Address([]byte{byte(t)}) }

// Shares returns the prefix of the cells that hold what was counted on the string at a.
func (a Address) Shares() Address { return a.Type(typeShare) }

// Share returns the address of the cell that holds what a replica counted on the string at a, and baselines for that.
func (a Address) Share(id ReplicaID) Address {
	var b strings.Builder
	b.Grow(len(a) + ShareBytes)
	b.WriteString(string(a))
	b.WriteByte(byte(typeShare))
	for shift := 56; shift >= 0; shift -= 8 {
		if b.WriteByte(byte(id >> shift)); byte(id>>shift) == escape {
			b.WriteByte(escapedNul)
		}
	}
	b.Write([]byte{escape, endOfName})
	return Address(b.String())
}

// CutShare returns the string and the replica of whose share a is the address. ok is false if it is none.
func (a Address) CutShare() (counter Address, id ReplicaID, ok bool) {
	rest, ok := a.belowString()
	if !ok || rest == "" || Type(rest[0]) != typeShare {
		return "", 0, false
	}
	counter = a[:len(a)-len(rest)]
	name, rest, ok := rest[1:].CutName()
	if !ok || rest != "" || len(name) != 8 {
		return "", 0, false
	}
	return counter, ReplicaID(binary.BigEndian.Uint64([]byte(name))), true
}

// IsString reports whether a is the address of a string's own cell.
func (a Address) IsString() bool {
	rest, ok := a.belowString()
	return ok && rest == ""
}

// belowString returns what follows the address of a string in a. ok is false if it does not begin with one.
func (a Address) belowString() (rest Address, ok bool) {
	var t Type
	for holds := HoldsFields; holds == HoldsFields; holds = kinds[t].Holds {
		if _, a, ok = a.CutName(); !ok {
			return "", false
		}
		if t, a, ok = a.CutType(); !ok {
			return "", false
		}
	}
	return a, kinds[t].Holds == HoldsShares
}

// KeyAddress returns the prefix of every cell of a key.
func KeyAddress(key string) Address { return Address("").Name(key) }

// CutName returns the first name of the address and what follows it. ok is false if a does not
// begin with a whole name.
func (a Address) CutName() (name string, rest Address, ok bool) {
	end := 0
	escaped := false
	for {
		i := strings.IndexByte(string(a[end:]), escape)
		if i < 0 || end+i+1 >= len(a) {
			return "", a, false
		}
		end += i
		switch a[end+1] {
		case endOfName:
			name = string(a[:end])
			if escaped {
				name = strings.ReplaceAll(name, "\x00\xff", "\x00")
			}
			return name, a[end+2:], true
		case escapedNul:
			escaped = true
			end += 2
		default:
			return "", a, false
		}
	}
}

// CutType returns the type byte that a begins with, and what follows it.
func (a Address) CutType() (t Type, rest Address, ok bool) {
	if a == "" {
		return 0, "", false
	}
	return Type(a[0]), a[1:], true
}

// KeyAddress returns the part of a that names the key.
func (a Address) KeyAddress() Address {
	_, rest, _ := a.CutName()
	return a[:len(a)-len(rest)]
}

// Names returns the part of a that ends with its n-th name, if all before that hold fields; else "".
func (a Address) Names(n int) Address {
	for rest := a; n > 0; n-- {
		_, next, ok := rest.CutName()
		if !ok {
			return ""
		}
		if n == 1 {
			return a[:len(a)-len(next)]
		}
		t, next, ok := next.CutType()
		if !ok || kinds[t].Holds != HoldsFields {
			return ""
		}
		rest = next
	}
	return ""
}

// Key returns the key that the address belongs to.
func (a Address) Key() string {
	key, _, _ := a.CutName()
	return key
}

// Shape returns the types along the address: "v" for a string, "s" for an element, "mv" for a
// string in a map. It is "" for a bare key. Where a type's own names end nothing is known: of
// shares, and of what a newer version keeps beyond it, it has a zero byte, so that a key has at most MaxShapes.
func (a Address) Shape() string {
	var room [8]byte
	shape := room[:0]
	for {
		_, rest, ok := a.CutName()
		if !ok {
			return string(shape)
		}
		t, rest, ok := rest.CutType()
		if !ok {
			return string(shape)
		}
		shape = append(shape, byte(t))
		switch kinds[t].Holds {
		case HoldsFields:
			a = rest
			continue
		case HoldsElements:
			_, rest, _ = rest.CutName()
		}
		if rest != "" {
			shape = append(shape, 0)
		}
		return string(shape)
	}
}

// Check returns an error unless a is a key's name, or begins with one and keeps to the limits. What
// follows a type that this version does not know is left alone.
func (a Address) Check() error {
	if len(a) > MaxAddress {
		return fmt.Errorf("%w: an address of %d bytes (limit %d)", ErrTooLong, len(a), MaxAddress)
	}
	for depth := 1; ; depth++ {
		name, rest, ok := a.CutName()
		switch {
		case !ok:
			return errors.New("not an address: a name does not end")
		case len(name) > MaxName:
			return fmt.Errorf("%w: a name of %d bytes (limit %d)", ErrTooLong, len(name), MaxName)
		case depth > MaxDepth:
			return fmt.Errorf("%w: more than %d names in one address", ErrTooLong, MaxDepth)
		}
		t, rest, ok := rest.CutType()
		if !ok || rest == "" || !kinds[t].Holds.Names() {
			return nil
		}
		a = rest
	}
}

// CheckCell returns an error unless a can be the address of a cell: Check's, or that it has no
// type.
func (a Address) CheckCell() error {
	if err := a.Check(); err != nil {
		return err
	}
	if _, rest, _ := a.CutName(); rest == "" {
		return fmt.Errorf("not a cell: %q has no type", string(a[:min(len(a), 40)]))
	}
	return nil
}

// Names longer than longName bytes keep namePrefix of them in a place.
const (
	longName   = 256
	namePrefix = 128
	// maxPlace is how long a place may be, in bytes. No path of MaxDepth names comes close.
	maxPlace = 20 << 10
)

// InOrder is from how many bytes on a name may come elsewhere in the order of places than in that of
// names. All shorter ones come among all others where their names do.
const InOrder = namePrefix

// Places are the addresses themselves unless those are longer than this.
const MaxPlain = longName

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
