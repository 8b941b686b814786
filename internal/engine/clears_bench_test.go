package engine

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/delta"
)

// BenchmarkManySets measures what sets of 20 cost that are added, all of them, and then deleted
// and swept: at the replica that is written to, and at one that is sent its deltas. Each has the
// memory of a daemon. What a set costs does not grow with their number where the work is linear;
// but it takes some 25,000 until all is written to the tree that is to be.
func BenchmarkManySets(b *testing.B) {
	for _, sets := range []int{12_500, 25_000, 50_000, 100_000} {
		b.Run(fmt.Sprint("sets=", sets), func(b *testing.B) {
			if testing.Short() && sets > 25_000 {
				b.Skip()
			}
			defer debug.SetMemoryLimit(debug.SetMemoryLimit(640 << 20))
			for range b.N {
				sent := newDeltaFile(b)
				m := manySets{b: b, sets: sets}
				m.here(sent)
				m.there(sent.reader())
			}
		})
	}
}

type manySets struct {
	b    *testing.B
	sets int
	live uint64 // bytes of the heap, at most
}

// here writes, and keeps what is sent.
func (m *manySets) here(sent *deltaFile) {
	b := m.b
	r, close := openIn(b, b.TempDir())
	r.SetMemory(MaxDirty, 128<<20) // as a daemon
	defer close()
	write := func(op func(tx *Tx, key string) error) {
		for i := 0; i < m.sets; {
			g := r.newGroup(time.Now())
			for ; i < m.sets && !g.full(); i++ {
				must(b, g.update(func(tx *Tx) error { return op(tx, setKey(i)) }))
			}
			done, err := g.Commit(false)
			must(b, err)
			sent.write(done.Deltas)
			m.goOn(r)
		}
	}
	m.measure("add-here", r, func() {
		write(func(tx *Tx, key string) error { return fillSet(Fields(tx), key, 20) })
	})
	m.measure("del-here", r, func() {
		write(func(tx *Tx, key string) error { _, err := Fields(tx).Remove(key); return err })
	})
	checkEmpty(b, r)
}

// there gets what was sent.
func (m *manySets) there(sent *deltaFile) {
	b := m.b
	r, close := openIn(b, b.TempDir())
	r.SetMemory(MaxDirty, 128<<20) // as a daemon
	defer close()
	apply := func() {
		for n := 0; n < m.sets; {
			g := r.newGroup(time.Now())
			for ; n < m.sets && !g.full(); n++ {
				if _, err := g.apply(sent.next()); err != nil {
					b.Fatal(err)
				}
			}
			_, err := g.Commit(false)
			must(b, err)
			m.goOn(r)
		}
	}
	m.measure("add-there", r, apply)
	m.measure("del-there", r, apply)
	checkEmpty(b, r)
}

// measure reports the processors' time that something takes for each set, all that follows from
// it included, and how large the heap becomes: if that comes near to what it is collected
// towards, most of the time is the collector's.
func (m *manySets) measure(what string, r *replica, do func()) {
	runtime.GC()
	m.live = 0
	began := cpu(m.b)
	do()
	for m.goOn(r) {
	}
	took := cpu(m.b) - began
	m.b.ReportMetric(float64(took.Microseconds())/float64(m.sets), what+"-µs/set")
	m.b.ReportMetric(float64(m.live>>20), what+"-MB-live")
}

// goOn takes a step of what goes on beside writing, and reports whether there is more.
func (m *manySets) goOn(r *replica) (more bool) {
	b := m.b
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	m.live = max(m.live, live[0].Value.Uint64())
	more, err := r.Sweep()
	must(b, err)
	_, err = r.Maintain(time.Now())
	must(b, err)
	return more
}

func checkEmpty(b *testing.B, r *replica) {
	b.Helper()
	if keys, cells := r.Counts(); keys != 0 || cells != 0 || r.Clears() != 0 {
		b.Fatalf("%d keys in %d cells and %d clears are left", keys, cells, r.Clears())
	}
}

// deltaFile is deltas one after the other, outside of the heap that is measured.
type deltaFile struct {
	b    *testing.B
	file *os.File
	out  *bufio.Writer
	in   *bufio.Reader
}

func newDeltaFile(b *testing.B) *deltaFile {
	f, err := os.Create(filepath.Join(b.TempDir(), "deltas"))
	must(b, err)
	b.Cleanup(func() { f.Close() })
	return &deltaFile{b: b, file: f, out: bufio.NewWriter(f)}
}

func (f *deltaFile) write(deltas []*delta.Delta) {
	for _, d := range deltas {
		data := d.Encode()
		_, err := f.out.Write(binary.AppendUvarint(nil, uint64(len(data))))
		must(f.b, err)
		_, err = f.out.Write(data)
		must(f.b, err)
	}
}

func (f *deltaFile) reader() *deltaFile {
	must(f.b, f.out.Flush())
	_, err := f.file.Seek(0, io.SeekStart)
	must(f.b, err)
	f.in = bufio.NewReader(f.file)
	return f
}

func (f *deltaFile) next() *delta.Delta {
	n, err := binary.ReadUvarint(f.in)
	must(f.b, err)
	data := make([]byte, n)
	_, err = io.ReadFull(f.in, data)
	must(f.b, err)
	d, err := delta.Decode(data)
	must(f.b, err)
	return d
}
