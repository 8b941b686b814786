package segment_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/segment"
)

const benchRecord = 128 // bytes: about a delta of one small write

func open(b *testing.B) *segment.Log {
	b.Helper()
	l, err := segment.Open(b.TempDir(), segment.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// batch returns n records.
func batch(n int) (records [][]byte) {
	for i := range n {
		records = append(records, bytes.Repeat([]byte{byte(i)}, benchRecord))
	}
	return records
}

// BenchmarkAppend reports the time for a record. What was synced is dropped, to spare the disk.
func BenchmarkAppend(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, n := range []int{1, 50, 800} {
			b.Run(fmt.Sprintf("sync=%v/records=%d", sync, n), func(b *testing.B) {
				l := open(b)
				defer l.Close()
				records := batch(n)
				b.ReportAllocs()
				b.SetBytes(int64(n * (benchRecord + store.RecordFrame)))
				calls := 0
				for b.Loop() {
					_, next, err := l.Append(records...)
					if err == nil && sync {
						err = l.Sync()
					}
					if calls++; err == nil && calls%1000 == 0 {
						err = l.DropBefore(next)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(calls*n), "ns/record")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	l := open(b)
	defer l.Close()
	for range 100 {
		if _, _, err := l.Append(batch(1000)...); err != nil {
			b.Fatal(err)
		}
	}
	var r store.LogReader
	b.ReportAllocs()
	b.SetBytes(benchRecord + store.RecordFrame)
	for b.Loop() {
		if r == nil {
			var err error
			if r, err = l.Read(0, nil); err != nil {
				b.Fatal(err)
			}
		}
		_, err := r.Next()
		if err == io.EOF {
			r.Close()
			r = nil
		} else if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSearch reads past a segment of 64 MiB in which nothing is a record: the longest that a
// reader is occupied with damage.
func BenchmarkSearch(b *testing.B) {
	for _, filled := range []string{"zeroes", "noise"} {
		b.Run(filled, func(b *testing.B) { benchSearch(b, filled == "noise") })
	}
}

func benchSearch(b *testing.B, noise bool) {
	dir := b.TempDir()
	content := make([]byte, 64<<20)
	if noise {
		rand.NewChaCha8([32]byte{1}).Read(content)
	}
	l, err := segment.Open(dir, segment.Options{})
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%020d.log", 0)), os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.Write(content)
	}
	if err != nil {
		b.Fatal(err)
	}
	f.Close()
	l, err = segment.Open(dir, segment.Options{Synced: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for b.Loop() {
		r, err := l.Read(0, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err = r.Next(); !errors.Is(err, store.ErrCorrupt) {
			b.Fatal(err)
		}
		r.Close()
	}
}
