package badger

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// unreadable is a file of which the disk does not give some bytes back.
type unreadable struct {
	io.ReaderAt
	from, to int64
}

func (u unreadable) ReadAt(p []byte, at int64) (int, error) {
	if at < u.to && at+int64(len(p)) > u.from {
		return 0, syscall.EIO
	}
	return u.ReaderAt.ReadAt(p, at)
}

// tableOf returns the only table of a store in dir that has some values and is closed.
func tableOf(t *testing.T, dir string, values map[string][]byte) (path string, data []byte) {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range values {
		set(t, s, key, value)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filesOf(dir, ".sst")
	if err != nil || len(tables) != 1 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	path = filepath.Join(dir, tables[0].Name())
	if data, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return path, data
}

func TestASectorThatTheDiskDoesNotGiveBackCostsItsBlockOnly(t *testing.T) {
	values := map[string][]byte{}
	for c := 'a'; c <= 'z'; c++ {
		values[string(c)] = bytes.Repeat([]byte{byte(c)}, 3000)
	}
	_, data := tableOf(t, t.TempDir(), values)
	from := int64(bytes.Index(data, values["m"]))
	f := unreadable{bytes.NewReader(data), from, from + 512}

	v := verifier{mayRot: true}
	if err := v.table(f, int64(len(data))); err != nil {
		t.Fatal(err)
	}
	if len(v.rotten) != 1 || !strings.Contains(v.rotten[0].why.Error(), syscall.EIO.Error()) {
		t.Fatalf("what is rotten: %v", v.rotten)
	}
	var out bytes.Buffer
	if err := copyAround(&out, f, int64(len(data)), v.rotten); err != nil {
		t.Fatal(err)
	}
	for key, value := range values {
		if got := bytes.Contains(out.Bytes(), value); got != (key != "m") {
			t.Errorf("the copy has the value of %s: %v", key, got)
		}
	}
	v = verifier{}
	if err := v.table(f, int64(len(data))); err == nil {
		t.Error("a store is opened as if nothing were rotten")
	}
}

// TestWhatIsRottenOfALargeValueCostsThatValueOnly: its parts, where they are, and whose they are.
func TestWhatIsRottenOfALargeValueCostsThatValueOnly(t *testing.T) {
	value := bytes.Repeat([]byte("large"), partSize/2)
	values := map[string][]byte{"a": []byte("small"), "b": value, "c": bytes.Repeat([]byte("c"), 5000)} // a block for c
	intact := t.TempDir()
	path, data := tableOf(t, intact, values)
	l, key := large{id: 1, parts: 3}, prefixData.key([]byte("b"))
	of := func(part []byte) int {
		t.Helper()
		at := bytes.Index(data, part)
		if at < 0 {
			t.Fatalf("%q is not in the table", part)
		}
		return at
	}
	for _, test := range []struct {
		what, found string
		at          int
	}{
		{"a part", "a c", of(l.partKey(0)) - 1}, // the length of its key
		{"whose they are", "a b c", of(l.seal(l.ownerKey(), []byte("b")))},
		{"where they are", "a c", of(l.seal(key, nil))},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(intact)); err != nil {
			t.Fatal(err)
		}
		rotten := bytes.Clone(data)
		rotten[test.at] ^= 4
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), rotten, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, Options{Rotten: true})
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		view := s.Snapshot()
		var found []string
		err = view.Scan(nil, nil, func(key, value []byte) bool {
			if !bytes.Equal(value, values[string(key)]) {
				t.Errorf("%s: %s has another value", test.what, key)
			}
			found = append(found, string(key))
			return true
		})
		if got := strings.Join(found, " "); got != test.found || err != nil || s.Damage() == nil {
			t.Errorf("%s is rotten (%v): there are %s, want %s, and %v", test.what, s.Damage(), got, test.found, err)
		}
		view.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
