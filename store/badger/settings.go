package badger

import (
	"context"
	"fmt"
	"log/slog"

	dgraph "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/peerd/peerd/store"
)

const (
	// formatVersion is written into Badger's manifest. It changes when this package lays out its
	// keys or records in another way.
	formatVersion = 2

	// memTableSize is in bytes. Badger takes a transaction of 15% of it, which has to hold the
	// largest batch without the parts of its large values: these have transactions of their own. While
	// memtables are full and being written out, there are two or three of them.
	memTableSize = 16 << 20

	// l0Tables is how many written memtables Badger merges with the next level at once, and at l0Stall
	// commits wait.
	l0Tables = 12
	l0Stall  = 2 * l0Tables

	// partSize is the largest value, in bytes, that is stored in one piece. Badger would move
	// values of 1 MiB to its value log; well below that, parts also keep tables from being lumpy.
	partSize = store.LargeValue

	// partsAtOnce is how many parts one transaction has.
	partsAtOnce = 8

	// Bytes that Badger counts in a transaction beside a batch's keys and values, at most: for
	// each write, and for each value in parts the record that says where they are.
	overheadPerWrite = 13 + store.MaxPrefix
	overheadPerLarge = 256

	largestBatch = store.MaxBatchBytes + store.MaxBatchOps*overheadPerWrite +
		store.MaxBatchLarge/partSize*overheadPerLarge

	// With the parts goes whose they are.
	largestParts = partsAtOnce*(partSize+overheadPerLarge) + store.MaxPrefix + store.MaxKey + overheadPerLarge
)

// A batch at the limits of package store fits, and so do parts: if they do not, this constant is
// negative.
const _ = uint(memTableSize*15/100 - max(largestBatch, largestParts))

// settings returns Badger's options, each with its reason where it is not the default.
func settings(dir string, logger *slog.Logger, merges *pace) dgraph.Options {
	opts := dgraph.DefaultOptions(dir).
		WithLogger(badgerLog{logger, merges}).
		WithExternalMagic(formatVersion).
		WithMemTableSize(memTableSize).
		WithBypassLockGuard(ownLock) // lockDir did it, before the tables were verified.

	opts.NumMemtables = 1  // Waiting to be written out: each takes memory.
	opts.NumCompactors = 2 // The least that Badger works with: a daemon is a guest.
	// The next level is rewritten each time. With the default of 5 births took 1.7 times the CPU.
	opts.NumLevelZeroTables = l0Tables
	opts.NumLevelZeroTablesStall = l0Stall
	// A level that is smaller than what is merged into it at once is only rewritten on the way to the
	// next. With the default of 10 MiB ten million births took 1.4 times as long.
	opts.BaseLevelSize = l0Tables * memTableSize

	opts.SyncWrites = false         // wal.go syncs, once for many commits.
	opts.DetectConflicts = false    // Commits are serialized.
	opts.MetricsEnabled = false     // Nobody reads them, and each call would count.
	opts.ValueLogFileSize = 1 << 20 // It stays empty, and is mapped at twice this size.

	// Without compression a block is read in place, from the mapped table: reads took 0.6 of the
	// time that they took with Snappy, and no cache doubles what the kernel's holds. And a flipped
	// bit damages one record, whose own checksum tells, where a block that does not decompress
	// makes Badger answer that none of its keys exist.
	opts.Compression = options.None
	opts.BlockCacheSize = 0
	opts.ChecksumVerificationMode = options.NoVerification // verifyTables did it.
	return opts
}

// badgerLog passes Badger's messages on to a slog.Logger, clipped: they can hold keys and values.
type badgerLog struct {
	to     *slog.Logger
	merges *pace
}

var _ dgraph.Logger = badgerLog{}

func (l badgerLog) Errorf(format string, args ...any)   { l.log(slog.LevelWarn, format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.log(slog.LevelWarn, format, args) }
func (l badgerLog) Infof(format string, args ...any)    { l.log(slog.LevelDebug, format, args) }
func (l badgerLog) Debugf(format string, args ...any) {
	l.log(slog.LevelDebug, format, args)
	l.merges.said(format, args)
}

func (l badgerLog) log(level slog.Level, format string, args []any) {
	// Badger says much on every write: nothing is formatted that nobody reads.
	if l.to == nil || !l.to.Enabled(context.Background(), level) {
		return
	}
	text := clip(fmt.Sprintf(format, args...))
	l.to.Log(context.Background(), level, "message of the storage engine", "text", text)
}
