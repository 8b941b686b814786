package crdt

import (
	"bytes"
	"errors"
	"math/rand"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
)

// putsTx notes the sizes of the payloads that are put.
type putsTx struct {
	dotted.Tx
	sizes *[]int
}

func (p putsTx) Put(a dotted.Address, payload []byte, removes []Dot) (Dot, error) {
	*p.sizes = append(*p.sizes, len(payload))
	return p.Tx.Put(a, payload, removes)
}

func TestABitmapReadsAsTheBytesThatWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		var want []byte
		there := false
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			from := rapid.SampledFrom([]int{0, 1, ChunkSize - 1, ChunkSize, 3 * ChunkSize, 5*ChunkSize + 7}).Draw(t, "from")
			part := rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "part")
			if rapid.IntRange(0, 3).Draw(t, "long") == 0 {
				part = bytes.Repeat(append(part, 1), 2*ChunkSize)
			}
			there = true
			if n := from + len(part); n > len(want) {
				want = append(want, make([]byte, n-len(want))...)
			}
			copy(want[from:], part)
			_, err := s.Update(1, epochStart, func(f Fields) error {
				return f.Bitmap("k").Edit(from, from+len(part), func(p []byte) { copy(p, part) })
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		b := s.View().Bitmap("k")
		if got, ok := b.Get(); ok != there || !bytes.Equal(got, want) || b.Len() != len(want) {
			t.Fatalf("reads %d bytes, %v; wrote %d", len(got), ok, len(want))
		}
		from, to := rapid.IntRange(0, len(want)).Draw(t, "from"), rapid.IntRange(0, len(want)+9).Draw(t, "to")
		if got := b.Read(from, to); from < to && !bytes.Equal(got, want[from:min(to, len(want))]) {
			t.Fatalf("bytes %d to %d are %x", from, to, got)
		}
		chunks := 0
		for at, part := range b.All() {
			if chunks++; !bytes.Equal(part, want[at:min(at+len(part), len(want))]) {
				t.Fatalf("the chunk from %d on is %x", at, part)
			}
			clear(want[at : at+len(part)])
		}
		if chunks != b.Chunks() || len(bytes.Trim(want, "\x00")) > 0 {
			t.Fatalf("%d chunks are passed of %d, without %x", chunks, b.Chunks(), bytes.Trim(want, "\x00"))
		}
		want, _ = b.Get()
		bit := rapid.IntRange(0, 8*len(want)+9).Draw(t, "bit")
		if got := b.GetBit(bit); got != (bit/8 < len(want) && want[bit/8]&(0x80>>(bit%8)) != 0) {
			t.Fatalf("bit %d is %v", bit, got)
		}
	})
}

func TestToSetABitOfALongBitmapWritesOneChunk(t *testing.T) {
	s := NewState()
	noise := make([]byte, 8<<20)
	rand.New(rand.NewSource(1)).Read(noise)
	mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		return fieldsOf(tx).Bitmap("k").Edit(0, len(noise), func(p []byte) { copy(p, noise) })
	})
	set := func(bit int, on bool) (was bool, sizes []int) {
		mustUpdate(t, s, 1, func(tx dotted.Tx) (err error) {
			was, err = fieldsOf(putsTx{tx, &sizes}).Bitmap("k").SetBit(bit, on)
			return err
		})
		return was, sizes
	}
	bit := 8*(5<<20) + 3
	before := s.View().Bitmap("k").GetBit(bit)
	was, sizes := set(bit, !before)
	if was != before || len(sizes) != 1 || sizes[0] > ChunkSize+chunkHeader || s.View().Bitmap("k").GetBit(bit) == before {
		t.Errorf("the bit was %v, and is %v; put %v", was, before, sizes)
	}
	if _, sizes := set(bit, !before); len(sizes) != 0 {
		t.Errorf("a bit that was so already put %v", sizes)
	}
	if _, sizes := set(8*MaxValue-1, true); len(sizes) != 1 || sizes[0] > chunkHeader+1 {
		t.Errorf("one bit far behind the end put %v", sizes)
	}
	if n := s.View().Bitmap("k").Len(); n != MaxValue {
		t.Errorf("length %d", n)
	}
	_, err := s.Update(1, epochStart, func(f Fields) error { return second(f.Bitmap("k").SetBit(8*MaxValue, true)) })
	if !errors.Is(err, ErrTooLong) {
		t.Errorf("a bit beyond the limit: %v", err)
	}
}

// diverge has two replicas begin with the same, change it apart, the second a second later, and merge.
func diverge(t *testing.T, before, a, b func(f Fields) error) (merged Fields) {
	t.Helper()
	s := [2]*State{NewState(), NewState()}
	update := func(i int, later time.Duration, fn func(f Fields) error) {
		if _, err := s[i].Update(ReplicaID(i+1), epochStart.Add(later), fn); err != nil {
			t.Fatal(err)
		}
	}
	update(0, 0, before)
	s[1].Merge(s[0])
	update(0, time.Second, a)
	update(1, 2*time.Second, b)
	s[0].Merge(s[1])
	s[1].Merge(s[0])
	if !s[0].Equal(s[1]) {
		t.Fatal("they differ")
	}
	return s[0].View()
}

func setBits(bits ...int) func(f Fields) error {
	return func(f Fields) error {
		for _, bit := range bits {
			if _, err := f.Bitmap("k").SetBit(bit, true); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestBitsInDifferentChunksAllStayAndOfOneChunkTheLatest(t *testing.T) {
	const far = 8 * 3 * ChunkSize
	b := diverge(t, setBits(0), setBits(5, far), setBits(6, 2*far)).Bitmap("k")
	for bit, want := range map[int]bool{0: true, 5: false, 6: true, far: true, 2 * far: true} {
		if got := b.GetBit(bit); got != want {
			t.Errorf("bit %d is %v", bit, got)
		}
	}
}

func TestARemovalLeavesTheChunksThatItHadNotSeen(t *testing.T) {
	const far = 8 * 3 * ChunkSize
	f := diverge(t, setBits(0, far), setBits(far+1), func(f Fields) error { return second(f.Remove("k")) })
	b := f.Bitmap("k")
	if b.GetBit(0) || !b.GetBit(far) || !b.GetBit(far+1) || b.Len() != far/8+1 {
		t.Errorf("reads %v %v %v of %d", b.GetBit(0), b.GetBit(far), b.GetBit(far+1), b.Len())
	}
}

func TestTextsThatSeveralTakeAtOnceBecomeOneBitmap(t *testing.T) {
	text := bytes.Repeat([]byte("@"), 3*ChunkSize) // a bit of each byte
	take := func(bit int) func(f Fields) error {
		return func(f Fields) error {
			taken, err := f.Bitmap("k").Take()
			if err == nil && !taken {
				err = errors.New("there was nothing to take")
			}
			return errors.Join(err, setBits(bit)(f))
		}
	}
	f := diverge(t, func(f Fields) error { return f.String("k").Set(text) }, take(0), take(8*ChunkSize))
	want := bytes.Clone(text)
	want[0] |= 0x80
	want[ChunkSize] |= 0x80
	got, ok := f.Bitmap("k").Get()
	if !ok || !bytes.Equal(got, want) || !f.Types("k").Only(TypeBitmap) {
		t.Errorf("reads %d bytes, %x and %x; types %v", len(got), got[0], got[ChunkSize], f.Types("k"))
	}
}

func TestASumCanBecomeABitmapThatKeepsTheTimeOfTheKey(t *testing.T) {
	s := NewState()
	at := epochStart.Add(time.Hour)
	mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		f := fieldsOf(tx)
		return errors.Join(second(f.Counter("k").Add(12)), second(f.Expiry("k").Set(at)), f.String("e").Set(nil))
	})
	mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		return errors.Join(second(fieldsOf(tx).Bitmap("k").Take()), second(fieldsOf(tx).Bitmap("e").Take()))
	})
	got, _ := s.View().Bitmap("k").Get()
	until, ok := s.View().Expiry("k").Get()
	if string(got) != "12" || !ok || !until.Equal(at) {
		t.Errorf("reads %q until %v", got, until)
	}
	if got, ok := s.View().Bitmap("e").Get(); len(got) != 0 || !ok || !s.View().Has("e") {
		t.Errorf("an empty text became %q, %v", got, ok)
	}
}

func TestChunksThatAreNoneAreNotThere(t *testing.T) {
	good := chunk{time: 7, size: 9, data: []byte{0, 1, 2, 0}}.payload()
	if c, ok := parseChunk(dotted.Entry{Payload: good}); !ok || c.size != 9 || c.from != 1 || !bytes.Equal(c.data, []byte{1, 2}) {
		t.Errorf("%x is %+v, %v", good, c, ok)
	}
	long := chunk{size: ChunkSize + 1}.payload()
	beyond := append(chunk{size: 1}.payload(), 1, 2)
	for _, bad := range [][]byte{nil, good[:5], {byte(kindWrite)}, long, beyond} {
		if _, ok := parseChunk(dotted.Entry{Payload: bad}); ok {
			t.Errorf("%x is a chunk", bad)
		}
	}
}
