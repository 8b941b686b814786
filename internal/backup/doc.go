// Package backup is the file format of a backup: the records of one moment of a store, in blocks that are
// compressed and checked one by one, between a header that says what it is and an end that says that it is
// whole.
//
//	file    = magic frame…                 the first frame is the header, the last one the end
//	frame   = length kind sealed           length: 4 bytes, big-endian, of kind and sealed
//	sealed  = version body crc             CRC-32C over kind, the frame's number (8 bytes, big-endian), version, body
//	header  = msgpack [made, name, space, replica, version vector, keys, cells, records, more]
//	block   = zstd of msgpack [key, value, key, value, …]
//	end     = msgpack [records, bytes, sha256]       of all that is before this frame
//
// A backup of several spaces is one such file behind the other, each of which says how many follow.
//
// # Contract
//
// Writer and Reader hold one block at a time: about 1 MiB, or one record if that is larger. Nothing in a
// backup is believed before it was checked: each length is bounded before anything is allocated, a block that
// was changed, moved or taken from another place fails its checksum, and one who reads to the end without an
// error has read all that was written. Fields that a newer program adds behind the known ones are passed over;
// another version of the format is refused, by its name.
//
// # Caveats
//
// A backup is not encrypted: who can read it can read the data. The sums find damage, they do not prove who
// wrote the file. What the records mean, and which of them belong into a backup, is the business of
// internal/engine. Golden files, a fuzzer and the round trip are tested in this directory.
package backup

import "errors"

// ErrDamaged is wrapped when a backup is not what was written: it was changed, or cut short.
var ErrDamaged = errors.New("the backup is damaged or cut short")

// ErrFormat is wrapped when a file is no backup, or one that another version of the program made.
var ErrFormat = errors.New("not a backup that this program can read")

// magic begins a file.
const magic = "peerd backup\n"

// formatVersion is that of all frames.
const formatVersion = 2

// Kinds of frames.
const (
	kindHeader = 'h'
	kindBlock  = 'b'
	kindEnd    = 'e'
)
