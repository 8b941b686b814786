package engine

import (
	"encoding/binary"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// The store's key space. Every record is sealed with the version of its format and a checksum.
const (
	prefixCell    = 'c' // c <place> : the live entries of a cell
	prefixPart    = 'p' // p <place> <generation> <number> : more entries of a cell that has very many
	prefixSummary = 'k' // k <place of the key> : what is visible under a key
	prefixCount   = 'n' // n <place of a string> : what was counted on it
	prefixLeaf    = 't' // t <leaf hash> <place> : which cells a leaf of the tree holds
	prefixBlob    = 'b' // b <dot> <n> : a piece of a payload too large for its cell's record
	prefixStage   = 's' // s <session> <number> : a change that a repair staged
	prefixClear   = 'y' // y <number> : a clear that is not swept yet
	prefixSeen    = 'z' // z <number> : what clears saw
	prefixBase    = 'e' // e <number> : a table of bases, in the order in which they were applied
)

// The single records.
var (
	keyCheckpoint = []byte("mcheckpoint") // context, heads, clock and the log's index as of a record of the log
	keyRebuild    = []byte("mrebuild")    // this replica found itself damaged
	keyEra        = []byte("mera")        // how often everything was cleared
)

// place returns where the store keeps what is at address a. The place of a prefix is a prefix.
func place(kind byte, a dotted.Address) []byte {
	at := a.Place()
	out := make([]byte, 0, len(at)+1)
	return append(append(out, kind), at...)
}

// isShortened reports whether key is not the address itself, so that the record must name it.
func isShortened(key []byte, a dotted.Address) bool { return string(key[1:]) != string(a) }

// after returns the first key that does not begin with prefix; nil if there is none.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func numbered(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

func numberOf(key []byte) uint64 {
	if len(key) != 9 {
		return 0
	}
	return binary.BigEndian.Uint64(key[1:])
}

// blobKey returns where the n-th piece of a dot's payload is.
func blobKey(d crdt.Dot, n int) []byte {
	key := binary.BigEndian.AppendUint64(numbered(prefixBlob, uint64(d.Replica)), d.Counter)
	return binary.BigEndian.AppendUint32(key, uint32(n))
}

// partKey returns where the n-th part of the cell stored at key is. No place holds the bytes in the middle.
func partKey(key []byte, generation uint64, n int) []byte {
	part := append([]byte{prefixPart}, key[1:]...)
	part = binary.BigEndian.AppendUint64(append(part, 0, 4), generation)
	return binary.BigEndian.AppendUint32(part, uint32(n))
}

// leafKey returns the index entry of the cell stored at key.
func leafKey(leaf uint64, key []byte) []byte {
	return append(numbered(prefixLeaf, leaf), key[1:]...)
}
