package wire

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

// value is one thing that a Writer writes.
type value struct {
	kind  int
	u     uint64
	i     int64
	flag  bool
	bytes []byte
	items int // how many of the values that follow an array holds
}

const kinds = 5

func drawValue(t *rapid.T) value {
	return value{
		kind:  rapid.IntRange(0, kinds-1).Draw(t, "kind"),
		u:     rapid.Uint64().Draw(t, "uint"),
		i:     rapid.Int64().Draw(t, "int"),
		flag:  rapid.Bool().Draw(t, "bool"),
		bytes: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes"),
		items: rapid.IntRange(0, 3).Draw(t, "items"),
	}
}

func (v value) write(w *Writer) {
	switch v.kind {
	case 0:
		w.Uint(v.u)
	case 1:
		w.Int(v.i)
	case 2:
		w.Bool(v.flag)
	case 3:
		w.Bytes(v.bytes)
	case 4:
		w.String(string(v.bytes))
	}
}

func (v value) read(t *rapid.T, r *Reader) {
	ok := true
	switch v.kind {
	case 0:
		ok = r.Uint() == v.u
	case 1:
		ok = r.Int() == v.i
	case 2:
		ok = r.Bool() == v.flag
	case 3:
		ok = bytes.Equal(r.Bytes(300), v.bytes)
	case 4:
		ok = r.String(300) == string(v.bytes)
	}
	if !ok || r.Err() != nil {
		t.Fatalf("%+v does not come back: %v", v, r.Err())
	}
}

func TestValuesComeBackAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Custom(drawValue), 0, 20).Draw(t, "values")
		data := Encode(func(w *Writer) {
			w.Array(len(values))
			for _, v := range values {
				v.write(w)
			}
		})
		err := Decode(data, func(r *Reader) {
			if n := r.Array(len(values)); n != len(values) {
				t.Fatalf("array of %d, want %d", n, len(values))
			}
			for _, v := range values {
				v.read(t, r)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		err = Decode(data, func(r *Reader) { r.Skip(1) })
		if err != nil {
			t.Fatalf("skip: %v", err)
		}
	})
}

func TestReaderRefusesWhatIsBeyondItsLimits(t *testing.T) {
	for name, read := range map[string]func(r *Reader){
		"longer than allowed":   func(r *Reader) { r.Bytes(3) },
		"string cut short":      func(r *Reader) { r.Skip(1); r.Skip(1) },
		"an array for a string": func(r *Reader) { r.Array(10) },
		"bytes left over":       func(*Reader) {},
		"the caller's own":      func(r *Reader) { r.Bytes(4); r.Fail("out of order") },
	} {
		data := Encode(func(w *Writer) { w.String("four") })
		if err := Decode(data, read); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	for name, data := range map[string]string{
		"2 GiB of array":   "\xdd\x7f\xff\xff\xff",
		"4 GiB of string":  "\xc6\xff\xff\xff\xff",
		"nil for an array": "\xc0",
		"nothing":          "",
	} {
		err := Decode([]byte(data), func(r *Reader) { r.Array(math.MaxInt32) })
		if err == nil {
			t.Errorf("array from %s: no error", name)
		}
		err = Decode([]byte(data), func(r *Reader) { r.Bytes(math.MaxInt32) })
		if err == nil {
			t.Errorf("bytes from %s: no error", name)
		}
	}
}

func TestReaderStaysAtItsFirstError(t *testing.T) {
	var first error
	err := Decode([]byte{0xc1, 1, 2}, func(r *Reader) {
		r.Uint()
		first = r.Err()
		r.Fail("second")
		if r.Uint() != 0 || r.Int() != 0 || r.Bool() || r.Bytes(9) != nil || r.Array(9) != 0 {
			t.Error("a value after an error")
		}
	})
	if first == nil || !errors.Is(err, first) {
		t.Errorf("first %v, returned %v", first, err)
	}
}

func TestSkipDoesNotRecurse(t *testing.T) {
	nested := strings.Repeat("\x91", 1<<20) + "\xc0"
	if err := Decode([]byte(nested), func(r *Reader) { r.Skip(1) }); err != nil {
		t.Error(err)
	}
}

func TestSealNoticesAFlippedBitAndAnotherKey(t *testing.T) {
	key := []byte("key")
	record := Seal(3, key, []byte("body"))
	version, body, err := Unseal(key, record)
	if version != 3 || string(body) != "body" || err != nil {
		t.Fatalf("%d %q %v", version, body, err)
	}
	for i := range 8 * len(record) {
		flipped := bytes.Clone(record)
		flipped[i/8] ^= 1 << (i % 8)
		if _, _, err := Unseal(key, flipped); !errors.Is(err, ErrChecksum) {
			t.Errorf("bit %d flipped: %v", i, err)
		}
	}
	if _, _, err := Unseal([]byte("other"), record); !errors.Is(err, ErrChecksum) {
		t.Errorf("another key: %v", err)
	}
	if _, _, err := Unseal(key, record[:4]); !errors.Is(err, ErrChecksum) {
		t.Errorf("cut short: %v", err)
	}
}

// FuzzReader reads data by a script of calls: none may panic, recurse or allocate by a declared length.
func FuzzReader(f *testing.F) {
	sample := Encode(func(w *Writer) {
		w.Array(5)
		w.Uint(1 << 40)
		w.Int(-3)
		w.Bool(true)
		w.Bytes([]byte("bytes"))
		w.String("string")
	})
	f.Add([]byte{0, 1, 2, 3, 4, 4}, sample)
	f.Add([]byte{5}, sample)
	f.Add([]byte{5, 5, 5}, []byte("\xdf\xff\xff\xff\xff\xc9\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, script, data []byte) {
		read := func() { _ = Decode(data, func(r *Reader) { follow(t, script, r) }) }
		if allocs := testing.AllocsPerRun(1, read); allocs > float64(16+2*len(script)) {
			t.Fatalf("%v allocations for %d calls", allocs, len(script))
		}
	})
}

func follow(t *testing.T, script []byte, r *Reader) {
	for _, call := range script {
		before := r.Left()
		switch call % 6 {
		case 0:
			if n := r.Array(1 << 20); n > before {
				t.Fatalf("array of %d in %d bytes", n, before)
			}
		case 1:
			r.Uint()
		case 2:
			r.Int()
		case 3:
			r.Bool()
		case 4:
			if b := r.Bytes(1 << 20); len(b) > before {
				t.Fatalf("%d bytes from %d", len(b), before)
			}
		case 5:
			r.Skip(1)
		}
		if r.Err() == nil && r.Left() >= before {
			t.Fatalf("call %d read nothing", call%6)
		}
	}
}

func TestAWriterWritesWhatTheLibraryWrites(t *testing.T) {
	numbers := []uint64{0, 31, 32, 33}
	for _, bits := range []int{4, 7, 8, 15, 16, 31, 32, 63} {
		numbers = append(numbers, 1<<bits-1, 1<<bits, 1<<bits+1)
	}
	for _, n := range append(numbers, math.MaxUint64) {
		var want bytes.Buffer
		library := msgpack.NewEncoder(&want)
		got := Encode(func(w *Writer) {
			w.Uint(n)
			w.Int(int64(n))
			w.Int(-int64(n))
			w.Bool(n%2 == 0)
			length := int(min(n, 1<<17))
			w.Array(length)
			w.Bytes(make([]byte, length))
			w.String(string(make([]byte, length)))
		})
		length := int(min(n, 1<<17))
		for _, err := range []error{
			library.EncodeUint(n), library.EncodeInt(int64(n)), library.EncodeInt(-int64(n)),
			library.EncodeBool(n%2 == 0), library.EncodeArrayLen(length),
			library.EncodeBytes(make([]byte, length)), library.EncodeBytes(make([]byte, length)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("with %d a writer writes %d bytes, and the library %d others", n, len(got), want.Len())
		}
	}
}
