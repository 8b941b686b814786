package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var testHeader = Header{
	Made: time.UnixMilli(1_700_000_000_123), Name: "oslo", Space: "orders", Replica: 0xaa, Keys: 2, Cells: 3, Records: 4,
	Seen: crdt.VersionVector{0xaa: 7, 0xbb: math.MaxUint32},
}

func write(t testing.TB, h Header, records []Record) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, h)
	for _, r := range records {
		if err == nil {
			err = w.Add(r.Key, r.Value)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read returns all that is in a backup; the records are copies.
func read(file []byte) (h Header, records []Record, err error) {
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return h, nil, err
	}
	defer r.Close()
	for {
		block, err := r.Next()
		if errors.Is(err, io.EOF) {
			if r.Records() != uint64(len(records)) || r.Bytes() != uint64(len(file)) {
				err = fmt.Errorf("counted %d records in %d bytes, there are %d in %d", r.Records(), r.Bytes(),
					len(records), len(file))
				return h, records, err
			}
			return r.Header(), records, nil
		}
		if err != nil {
			return h, records, err
		}
		for _, rec := range block {
			records = append(records, Record{bytes.Clone(rec.Key), bytes.Clone(rec.Value)})
		}
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		record := rapid.Custom(func(rt *rapid.T) Record {
			value := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(rt, "value")
			if rapid.IntRange(0, 9).Draw(rt, "large") == 0 {
				value = bytes.Repeat(append(value, 1), blockSize/3)
				value = value[:min(len(value), store.MaxValue)]
			}
			return Record{rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(rt, "key"), value}
		})
		records := rapid.SliceOfN(record, 0, 20).Draw(rt, "records")
		h, got, err := read(write(t, testHeader, records))
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(testHeader, h); diff != "" {
			rt.Fatal(diff)
		}
		if len(got) != len(records) {
			rt.Fatalf("%d records, want %d", len(got), len(records))
		}
		for i := range got {
			if !bytes.Equal(got[i].Key, records[i].Key) || !bytes.Equal(got[i].Value, records[i].Value) {
				rt.Fatalf("record %d is another one", i)
			}
		}
	})
}

func TestTheLargestRecordFitsIntoABlockThatIsNearlyFull(t *testing.T) {
	noise := make([]byte, store.MaxValue)
	x := uint32(1)
	for i := range noise { // which zstd cannot compress
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	records := []Record{{[]byte("a"), noise[:blockSize-2]}, {noise[:store.MaxKey], noise}}
	if _, got, err := read(write(t, testHeader, records)); err != nil || len(got) != 2 {
		t.Errorf("%d records, error %v", len(got), err)
	}
	small := make([]Record, 3*maxRecords)
	for i := range small {
		small[i].Key = []byte{'k'}
	}
	if _, got, err := read(write(t, testHeader, small)); err != nil || len(got) != len(small) {
		t.Errorf("%d small records, error %v", len(got), err)
	}
}

// sampleRecords and their file. What zstd makes of a block may change with its library, so
// writing the same bytes is not asked for.
var sampleRecords = []Record{
	{[]byte("c\x00key"), []byte("value")}, {[]byte("t\x01"), nil}, {[]byte("z"), bytes.Repeat([]byte("z"), 2000)},
}

func TestABackupOfThisFormatIsRead(t *testing.T) {
	path := filepath.Join("testdata", "format2.backup")
	if *update {
		if err := os.WriteFile(path, write(t, testHeader, sampleRecords), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, got, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(testHeader, h); diff != "" {
		t.Error(diff)
	}
	for i := range got {
		if !bytes.Equal(got[i].Key, sampleRecords[i].Key) || !bytes.Equal(got[i].Value, sampleRecords[i].Value) {
			t.Errorf("record %d is %q", i, got[i])
		}
	}
	if len(got) != len(sampleRecords) {
		t.Errorf("%d records, want %d", len(got), len(sampleRecords))
	}
}

func TestEveryFlippedBitAndEveryCutIsNoticed(t *testing.T) {
	file := write(t, testHeader, sampleRecords)
	for at := range file {
		for bit := range 8 {
			bad := bytes.Clone(file)
			bad[at] ^= 1 << bit
			if _, _, err := read(bad); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
				t.Fatalf("bit %d of byte %d is flipped, and read with %v", bit, at, err)
			}
		}
		if _, _, err := read(file[:at]); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
			t.Fatalf("cut after %d bytes, and read with %v", at, err)
		}
	}
}

func TestBlocksInAnotherOrderOrOfAnotherBackupAreNoticed(t *testing.T) {
	many := make([]Record, 2*maxRecords)
	for i := range many {
		many[i].Key = fmt.Append(nil, i)
	}
	frames := framesOf(t, write(t, testHeader, many))
	if len(frames) != 4 {
		t.Fatalf("%d frames", len(frames))
	}
	join := func(order ...int) []byte {
		out := []byte(magic)
		for _, i := range order {
			out = append(out, frames[i]...)
		}
		return out
	}
	if _, _, err := read(join(0, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]int{{0, 2, 1, 3}, {0, 1, 3}, {0, 3}, {0, 1, 1, 3}, {1, 2, 3}, {0, 0, 1, 2, 3}} {
		if _, _, err := read(join(order...)); !errors.Is(err, ErrDamaged) {
			t.Errorf("frames in the order %v: %v", order, err)
		}
	}
	other := framesOf(t, write(t, testHeader, many[1:]))
	frames[1] = other[1]
	if _, _, err := read(join(0, 1, 2, 3)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a block of another backup: %v", err)
	}
}

func framesOf(t *testing.T, file []byte) (frames [][]byte) {
	t.Helper()
	in := bytes.NewReader(file[len(magic):])
	for in.Len() > 0 {
		var frame bytes.Buffer
		if err := readFrame(in, &frame); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame.Bytes())
	}
	return frames
}

func TestABackupOfAnotherFormatIsRefusedByItsNumber(t *testing.T) {
	older, err := os.ReadFile(filepath.Join("testdata", "format1.backup")) // which the last such version wrote
	if err != nil {
		t.Fatal(err)
	}
	sealed := wire.Seal(formatVersion+1, place(kindHeader, 1), testHeader.encode())
	newer := binary.BigEndian.AppendUint32([]byte(magic), uint32(1+len(sealed)))
	newer = append(append(newer, kindHeader), sealed...)
	for why, file := range map[string][]byte{
		"it has format 1, from before peerd 0.1.0, and this program reads format 2: restore it with the program that " +
			"made it": older,
		"it has format 3, and this program reads format 2: use the newer peerd that wrote it": newer,
	} {
		_, _, err := read(file)
		if !errors.Is(err, ErrFormat) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), why) {
			t.Errorf("refused with %v, want %q", err, why)
		}
	}
}

func TestReadingAndWritingTakeLittleMemory(t *testing.T) {
	const records, limit = 4000, 64 << 20
	value := make([]byte, 64<<10) // 256 MiB in all
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	in, out := io.Pipe()
	go func() {
		w, err := NewWriter(out, testHeader)
		for i := 0; i < records && err == nil; i++ {
			err = w.Add(fmt.Append(nil, i), value)
		}
		if err == nil {
			err = w.Close()
		}
		out.CloseWithError(err)
	}()
	r, err := NewReader(in)
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	r.Close()
	if grown := after.HeapSys - before.HeapSys; after.HeapSys > before.HeapSys && grown > limit {
		t.Errorf("the heap grew by %d MiB, limit %d", grown>>20, limit>>20)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(write(f, testHeader, sampleRecords))
	f.Add(write(f, Header{}, nil))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		h, records, err := read(file)
		switch {
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrFormat):
		case err != nil:
			t.Fatal(err)
		default:
			again, same, err := read(write(t, h, records))
			if err != nil || !cmp.Equal(h, again) || len(same) != len(records) {
				t.Fatalf("%+v is written and read back as %+v (%v)", h, again, err)
			}
		}
	})
}

// FuzzFrames goes past the checksums, which random bytes do not.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{kindHeader}, testHeader.encode(), []byte{kindEnd}, (&Totals{}).encode())
	f.Add([]byte{kindHeader}, testHeader.encode(), []byte{kindBlock}, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, kind1, body1, kind2, body2 []byte) {
		if len(kind1) != 1 || len(kind2) != 1 {
			return
		}
		file := append([]byte(magic), encodeFrame(kind1[0], 1, body1)...)
		file = append(file, encodeFrame(kind2[0], 2, body2)...)
		if _, _, err := read(file); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	})
}
