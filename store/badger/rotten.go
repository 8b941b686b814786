package badger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
)

// Badger's iterators end a table at a block that they cannot read, and take what they can for what
// was written: a damaged key is found in the wrong place, and those behind it not at all. So a
// store of which something is rotten is read in a copy, in a directory of its own: with links to
// the tables that are sound, with a stand-in for each block or table that cannot be read, and with
// its logs, which Badger cuts.

// rot is what of a store's tables is rotten.
type rot struct {
	tables map[uint64][]rottenBlock // by the table's id; no blocks if none of it can be read
	count  int                      // of them and of the tables without
	first  error
}

// rottenBlock is a block that does not have its checksum, or that the disk does not give back.
type rottenBlock struct {
	at    int64
	size  int
	first []byte // its first key, of which the index knows
	why   error
	lost  bool // Badger cannot go through it
}

func (r *rot) blocks(id uint64, rotten []rottenBlock) {
	if len(rotten) > 0 {
		r.add(id, rotten, len(rotten), rotten[0].why)
	}
}

// table adds one of which nothing can be read.
func (r *rot) table(id uint64, why error) { r.add(id, nil, 1, why) }

func (r *rot) add(id uint64, rotten []rottenBlock, count int, why error) {
	if r.tables == nil {
		r.tables = map[uint64][]rottenBlock{}
		r.first = corrupt("%s: %v", table.IDToFilename(id), why)
	}
	r.tables[id] = rotten
	r.count += count
}

// err names what is rotten; nil if nothing is.
func (r *rot) err() error {
	if r.count > 1 {
		return fmt.Errorf("%w; and %d more are rotten", r.first, r.count-1)
	}
	return r.first
}

// copyBeside makes a copy of the store in dir without what is rotten and returns its directory. The
// blocks that are sound stay what they are, so that as much is copied as rotten tables and logs
// have.
func (r *rot) copyBeside(dir string) (copied string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if copied, err = os.MkdirTemp("", "peerd-rotten-"); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(copied))
		}
	}()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		id, isTable := table.ParseFileID(entry.Name())
		_, rotten := r.tables[id]
		from, to := filepath.Join(dir, entry.Name()), filepath.Join(copied, entry.Name())
		switch {
		case !entry.Type().IsRegular() || isTable && rotten:
		case isTable:
			err = os.Symlink(from, to)
		default:
			err = copyFile(to, from, nil)
		}
		if err != nil {
			return "", err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.tables)) {
		blocks, name := r.tables[id], table.IDToFilename(id)
		if to := filepath.Join(copied, name); blocks == nil {
			err = os.WriteFile(to, standInTable(id), 0o600)
		} else {
			err = copyFile(to, filepath.Join(dir, name), blocks)
		}
		if err != nil {
			return "", err
		}
	}
	return copied, nil
}

// copyFile copies a file, with stand-ins for the blocks of it that are rotten.
func copyFile(to, from string, rotten []rottenBlock) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(copyAround(out, in, info.Size(), rotten), out.Close())
}

func copyAround(out io.Writer, in io.ReaderAt, size int64, rotten []rottenBlock) error {
	at := int64(0)
	for _, b := range rotten {
		if !b.lost {
			continue
		}
		if _, err := io.Copy(out, io.NewSectionReader(in, at, b.at-at)); err != nil {
			return err
		}
		if _, err := out.Write(b.standIn()); err != nil {
			return err
		}
		at = b.at + int64(b.size)
	}
	_, err := io.Copy(out, io.NewSectionReader(in, at, size-at))
	return err
}

// Sizes in a block, in bytes.
const (
	entryHeader = 2 + 2 // how much of its key an entry shares with the first one's, and how much not
	entryMarks  = 1 + 1 // behind the key
	keyTime     = 8     // of a key: when it was written
)

// isOrdered reports whether Badger can go through a rotten block, from its first key to before that
// of the next, if there is one: what is damaged then is a record, whose checksum tells.
func isOrdered(block, first, next []byte) bool {
	end := len(block) - 4
	if end -= int(binary.BigEndian.Uint32(block[end:])) + 4; end < 0 {
		return false
	}
	n := int(binary.BigEndian.Uint32(block[end:]))
	starts := end - 4*n
	if n == 0 || starts < 0 {
		return false
	}
	start := func(i int) int { // of an entry; of the one behind the last, where they all end
		if i == n {
			return starts
		}
		return int(binary.NativeEndian.Uint32(block[starts+4*i:]))
	}
	var last []byte
	for i := range n {
		from, to := start(i), start(i+1)
		if from > to || to > starts || to-from < entryHeader || i == 0 && from != 0 {
			return false
		}
		entry := block[from:to]
		shared, own := int(binary.NativeEndian.Uint16(entry)), int(binary.NativeEndian.Uint16(entry[2:]))
		if shared > len(first) || len(entry) < entryHeader+own+entryMarks || shared+own < keyTime {
			return false
		}
		if _, n := binary.Uvarint(entry[entryHeader+own+entryMarks:]); n <= 0 { // when it expires
			return false
		}
		key := slices.Concat(first[:shared], entry[entryHeader:entryHeader+own])
		if i == 0 && (shared > 0 || !bytes.Equal(key, first)) || i > 0 && y.CompareKeys(last, key) >= 0 {
			return false
		}
		last = key
	}
	return next == nil || y.CompareKeys(last, next) < 0
}

// metaDeleted is Badger's mark of an entry that says that a key is deleted.
const metaDeleted = 1

// standIn returns a block of the same size, by which the first key of this one is deleted: no other
// of its keys is known, and Badger takes no empty block. Its entry has the rest of the block for a
// value.
func (b rottenBlock) standIn() []byte {
	out := make([]byte, b.size)
	binary.NativeEndian.PutUint16(out[2:], uint16(len(b.first)))
	copy(out[entryHeader:], b.first)
	out[entryHeader+len(b.first)] = metaDeleted
	const footer = 4 + 4 // How many entries there are, and the length of the checksum, which is not looked at.
	binary.BigEndian.PutUint32(out[b.size-footer:], 1)
	return out
}

// standInTable returns a table that has a key of nobody, before all others: those of a level must
// not overlap.
func standInTable(id uint64) []byte {
	b := table.NewTableBuilder(table.Options{BlockSize: 4 << 10, BloomFalsePositive: 0.01, Compression: options.None})
	defer b.Close()
	key := binary.BigEndian.AppendUint64([]byte{0}, id)
	b.Add(y.KeyWithTs(key, 1), y.ValueStruct{Meta: metaDeleted}, 0)
	return b.Finish()
}
