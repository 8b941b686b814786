package badger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	dgraph "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"

	"github.com/peerd/peerd/internal/wire"
)

// verifyTables reads every table of the store in dir and compares it with its checksums. Badger
// can do that itself, but ends the process over many a flipped bit: its tables are opened by
// goroutines of its own, in which out-of-range offsets panic and failed assertions call log.Fatal.
//
// Only tables that the manifest lists count: others are left over from a crash, and Badger removes
// them. If tables may be rotten, rot says what of them is; else the error names the first.
func verifyTables(dir string, mayRot bool) (rot rot, err error) {
	f, err := os.Open(filepath.Join(dir, dgraph.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return rot, verifyNew(dir)
	}
	if err != nil {
		return rot, err
	}
	defer f.Close()
	if err := verifyFormat(f); err != nil {
		return rot, err
	}
	manifest, err := replay(f)
	if err == nil && manifest.Creations == 0 {
		err = verifyUnlisted(dir)
	}
	if err != nil {
		return rot, err
	}
	v := verifier{mayRot: mayRot}
	for _, id := range slices.Sorted(maps.Keys(manifest.Tables)) {
		name := table.IDToFilename(id)
		if manifest.Tables[id].Compression != options.None {
			return rot, fmt.Errorf("%s is compressed: this is not a store of ours", name)
		}
		err := v.file(filepath.Join(dir, name))
		switch {
		case err == nil:
			rot.blocks(id, v.rotten)
		case isRefusal(err):
			return rot, err
		case mayRot:
			rot.table(id, err)
		default:
			return rot, corrupt("%s: %v", name, err)
		}
	}
	return rot, nil
}

// verifyNew refuses a directory that has tables and no manifest: Badger would remove them.
func verifyNew(dir string) error {
	tables, err := filesOf(dir, ".sst")
	if err == nil && len(tables) > 0 {
		err = corrupt("%d tables and no manifest", len(tables))
	}
	return err
}

// verifyUnlisted refuses a directory whose manifest has lost what it said of tables: Badger would
// remove them. The first memtable becomes a table before that is listed, and has its log until
// then, with the first of its entries.
func verifyUnlisted(dir string) error {
	tables, err := filesOf(dir, ".sst")
	if err != nil {
		return err
	}
	logs, err := filesOf(dir, ".mem")
	if err != nil || len(tables) == 0 {
		return err
	}
	made := len(tables) == 1 && len(logs) > 0
	if made {
		made, err = isMadeOf(filepath.Join(dir, tables[0].Name()), filepath.Join(dir, logs[0].Name()))
	}
	if err == nil && !made {
		err = corrupt("%d tables and a manifest that lists none", len(tables))
	}
	return err
}

// isMadeOf reports whether what a table has may be what the log of a memtable has: it is not older.
// Of one without an index it is taken for so: a crash has left it in the making.
func isMadeOf(path, log string) (made bool, err error) {
	defer caught(&err, faultsPanic())
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	index, err := readIndex(f, info.Size())
	var at fb.BlockOffset
	switch {
	case err != nil && isRefusal(err):
		return false, err
	case err != nil || !index.Offsets(&at, 0):
		return true, nil
	}
	first, err := firstVersion(log)
	return first > 0 && y.ParseTs(at.KeyBytes()) >= first, err
}

// firstVersion returns when the first entry in the log of a memtable was written; 0 if it has none
// that can be read.
func firstVersion(path string) (uint64, error) {
	const header, marks = 8 + 12, 1 + 1 // of the file, and of an entry
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReader(io.NewSectionReader(f, header+marks, math.MaxInt64-header-marks))
	size, err := binary.ReadUvarint(r)
	for range 2 { // how long its value is, and when it expires
		if err == nil {
			_, err = binary.ReadUvarint(r)
		}
	}
	var key [math.MaxUint16]byte
	if err == nil && keyTime <= size && size <= uint64(len(key)) {
		_, err = io.ReadFull(r, key[:size])
		return y.ParseTs(key[:size]), err
	}
	return 0, nil
}

// filesOf returns what lies in dir and ends with ext. It is not filepath.Glob: the name of a user's
// directory may have brackets or stars in it, which that takes for a pattern.
func filesOf(dir, ext string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return filepath.Ext(e.Name()) != ext
	}), err
}

// verifyFormat reads the versions at the start of a manifest: another format is not damage.
func verifyFormat(f *os.File) error {
	var header [8]byte // Magic text, our version, Badger's version.
	if _, err := f.ReadAt(header[:], 0); err != nil {
		return corrupt("manifest: %v", err)
	}
	switch got := uint64(binary.BigEndian.Uint16(header[4:])); {
	case got > formatVersion:
		return fmt.Errorf("%w; if none did, %s", wire.CheckFormat(got, formatVersion, ""), rottenManifest)
	case got == 0: // which no program wrote, and a single bit's flip makes of ours
		return fmt.Errorf("%w: it has format 0: %s", wire.ErrFormat, rottenManifest)
	default:
		return wire.CheckFormat(got, formatVersion, olderStore)
	}
}

// What to do about another format.
const (
	olderStore = "start with an empty directory and let it fill from its peers, or run the older program to copy " +
		"its data; nothing was changed"
	rottenManifest = "its manifest is damaged: move the directory \"store\" away if other peers have the data"
)

func replay(f *os.File) (m dgraph.Manifest, err error) {
	defer caught(&err, faultsPanic())
	m, end, err := dgraph.ReplayManifestFile(f, formatVersion, dgraph.Options{})
	if err != nil {
		return m, corrupt("manifest: %v", clip(err.Error()))
	}
	tail, err := io.ReadAll(io.NewSectionReader(f, end, math.MaxInt64-end))
	if err == nil && wholeButForLength(tail) {
		err = corrupt("manifest: the length of the change at %d is wrong", end)
	}
	return m, err
}

// wholeButForLength tells a change of which a crash left the beginning from one whose length is
// damaged. Badger takes the second for the first as well, cuts the manifest there, and removes the
// tables that it no longer lists.
func wholeButForLength(tail []byte) bool {
	const header = 4 + 4 // The change's length and checksum.
	if len(tail) < header {
		return false
	}
	want, sum := binary.BigEndian.Uint32(tail[4:]), uint32(0)
	for i := header; i < len(tail) && sum != want; i++ {
		sum = crc32.Update(sum, y.CastagnoliCrcTable, tail[i:i+1])
	}
	return sum == want
}

// verifier checks one table after the other and keeps its buffer. A table is its blocks, an index
// of them, and a footer:
//
//	block: entries, offsets of the entries and their number, checksum, its length (4 bytes)
//	index: flatbuffer, its length (4 bytes), checksum, its length (4 bytes)
//
// A checksum is a small protobuf. Everything but the footer's two lengths is covered by one.
type verifier struct {
	buf    []byte
	mayRot bool          // blocks may
	rotten []rottenBlock // of the latest table
}

var errTruncated = errors.New("a length points outside of the table")

func (v *verifier) file(path string) (err error) {
	defer caught(&err, faultsPanic())
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return v.table(f, info.Size())
}

func (v *verifier) table(f io.ReaderAt, size int64) error {
	index, err := readIndex(f, size)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return v.blocks(f, index)
}

// readIndex reads the index of a table and compares it with its checksum.
func readIndex(f io.ReaderAt, size int64) (*fb.TableIndex, error) {
	footer := section{f, size}
	sum, err := footer.takeSized()
	if err != nil {
		return nil, err
	}
	data, err := footer.takeSized()
	if err != nil {
		return nil, err
	}
	if err := compare(data, sum); err != nil {
		return nil, err
	}
	return fb.GetRootAsTableIndex(data, 0), nil
}

// blocks checks the blocks of an index that is sound.
func (v *verifier) blocks(f io.ReaderAt, index *fb.TableIndex) error {
	v.rotten = nil
	var at, next fb.BlockOffset
	for i := range index.OffsetsLength() {
		if !index.Offsets(&at, i) {
			return errTruncated
		}
		if need := int(at.Len()); cap(v.buf) < need {
			v.buf = make([]byte, need)
		}
		block := v.buf[:at.Len()]
		_, err := f.ReadAt(block, int64(at.Offset()))
		lost := err != nil
		if err == nil {
			err = verifyBlock(block)
		}
		if err == nil {
			continue
		}
		if err = fmt.Errorf("block %d: %w", i, err); !v.mayRot || isRefusal(err) {
			return err
		}
		var end []byte
		if i+1 < index.OffsetsLength() && index.Offsets(&next, i+1) {
			end = next.KeyBytes()
		}
		v.rotten = append(v.rotten, rottenBlock{
			at: int64(at.Offset()), size: int(at.Len()), first: slices.Clone(at.KeyBytes()), why: err,
			lost: lost || !isOrdered(block, at.KeyBytes(), end),
		})
	}
	return nil
}

func verifyBlock(block []byte) error {
	end := len(block) - 4
	if end < 0 {
		return errTruncated
	}
	size := int(binary.BigEndian.Uint32(block[end:]))
	if size > end {
		return errTruncated
	}
	return compare(block[:end-size], block[end-size:end])
}

// compare checks data against a marshaled checksum.
func compare(data, sum []byte) error {
	want := &pb.Checksum{}
	if err := proto.Unmarshal(sum, want); err != nil {
		return y.ErrChecksumMismatch // The message would say no more.
	}
	if want.Algo != pb.Checksum_CRC32C || y.CalculateChecksum(data, want.Algo) != want.Sum {
		return y.ErrChecksumMismatch
	}
	return nil
}

// section is the part of a file before end, which is read backwards.
type section struct {
	f   io.ReaderAt
	end int64
}

// takeSized reads what ends with its own length in four bytes.
func (s *section) takeSized() ([]byte, error) {
	var length [4]byte
	if s.end < 4 {
		return nil, errTruncated
	}
	if _, err := s.f.ReadAt(length[:], s.end-4); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(length[:]))
	if size > s.end-4 {
		return nil, errTruncated
	}
	s.end -= 4 + size
	out := make([]byte, size)
	_, err := s.f.ReadAt(out, s.end)
	return out, err
}
