package badger

import (
	"log/slog"

	dgraph "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	// formatVersion is written into Badger's manifest. It changes when this package lays out its keys
	// or records in another way.
	formatVersion = 1

	// memTableSize is in bytes. Badger takes 15% of it in one transaction, and counts 13 bytes for
	// each write beside its key and value: 68 MiB would just do for a batch at both limits of
	// package store. Two memtables are in memory while the older one is written out.
	memTableSize = 72 << 20

	// partSize is the largest value, in bytes, that is stored in one piece. Badger would move values
	// of 1 MiB to its value log; well below that, parts also keep tables from being lumpy.
	partSize = 256 << 10
)

// settings returns Badger's options, each with its reason where it is not the default.
func settings(dir string, logger *slog.Logger) dgraph.Options {
	opts := dgraph.DefaultOptions(dir).
		WithLogger(badgerLog{logger}).
		WithExternalMagic(formatVersion).
		WithMemTableSize(memTableSize).
		WithBypassLockGuard(ownLock) // lockDir did it, before the tables were verified.

	opts.NumMemtables = 1           // Waiting to be written out. The default of 5 takes 0.5 GB.
	opts.NumCompactors = 2          // The least that Badger works with: a daemon is a guest.
	opts.SyncWrites = false         // wal.go syncs, once for many commits.
	opts.DetectConflicts = false    // Commits are serialized.
	opts.MetricsEnabled = false     // Nobody reads them, and each call would count.
	opts.ValueLogFileSize = 1 << 20 // It stays empty, and is mapped at twice this size.

	// Without compression a block is read in place, from the mapped table: reads took 0.6 of the time
	// that they took with Snappy, and no cache doubles what the kernel's holds. And a flipped bit
	// damages one record, whose own checksum tells, where a block that does not decompress makes
	// Badger answer that none of its keys exist.
	opts.Compression = options.None
	opts.BlockCacheSize = 0
	opts.ChecksumVerificationMode = options.NoVerification // verifyTables did it.
	return opts
}
