package crdt

import "github.com/peerd/peerd/internal/dotted"

// Limits of names, in bytes. What is beyond them is refused with ErrTooLong.
const (
	MaxName    = dotted.MaxName    // a key, a field, an element: 64 KiB
	MaxAddress = dotted.MaxAddress // all names on the way to a value, escaped: 256 KiB, with room for a share
	MaxDepth   = dotted.MaxDepth   // how many names that may be: 32
)

// ErrTooLong is returned for a key, field or element beyond MaxName, for a path beyond MaxDepth or
// MaxAddress, and for a value beyond MaxValue.
var ErrTooLong = dotted.ErrTooLong

// ErrReadOnly is returned by the writing methods of a transaction that only reads.
var ErrReadOnly = dotted.ErrReadOnly
