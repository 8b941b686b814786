package badger

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// resident returns how many bytes of the tables in dir count as the process's memory.
func resident(t *testing.T, dir string) (bytes int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	ours := false
	for line := range strings.Lines(string(maps)) {
		if first, _, _ := strings.Cut(line, " "); strings.Contains(first, "-") {
			ours = strings.Contains(line, dir+"/") && strings.HasSuffix(line, ".sst\n")
		}
		var kB int
		if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kB); ours && n == 1 {
			bytes += kB << 10
		}
	}
	return bytes
}

// TestTablesThatWereWrittenAreNotHeld: not after a Sync; and all that is in them is read, while more of
// them are written.
func TestTablesThatWereWrittenAreNotHeld(t *testing.T) {
	s := openTemp(t)
	dir, err := filepath.EvalSymlinks(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	const values, all = 300, 300 * partSize
	want := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, partSize-i) }
	for i := range values {
		set(t, s, fmt.Sprint(i), want(i))
		if i%20 != 0 {
			continue
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		view := s.Snapshot()
		got, ok, err := view.Get(fmt.Append(nil, i/2))
		view.Close()
		if err != nil || !ok || !bytes.Equal(got, want(i/2)) {
			t.Fatalf("%d is %.20q, %v", i/2, got, err)
		}
	}
	// What is in the making when a Sync ends is the next one's.
	held, end := all, time.Now().Add(time.Minute)
	for ; held > all/4 && time.Now().Before(end); held = resident(t, dir) {
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if held > all/4 {
		t.Errorf("%d bytes are held of tables of some %d", held, all)
	}
}

// TestATableThatWasReadIsNotHeldOnceNobodyWrites, and is read again.
func TestATableThatWasReadIsNotHeldOnceNobodyWrites(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := openResting(t, dir, time.Second/4)
	defer s.Close()
	const values = 300
	read := func() {
		view := s.Snapshot()
		defer view.Close()
		for i := range values {
			got, ok, err := view.Get(fmt.Append(nil, i))
			if err != nil || !ok || !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, partSize)) {
				t.Fatalf("%d is %.20q, %v", i, got, err)
			}
		}
	}
	for i := range values {
		set(t, s, fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, partSize))
	}
	for _, wanted := range []bool{true, false, true, false} {
		var woken time.Time
		for end := time.Now().Add(20 * time.Second); (resident(t, dir) > 0) != wanted; {
			if time.Since(woken) > time.Second { // again for a table that was in the making
				set(t, s, "begins", nil)
				woken = time.Now()
			}
			if wanted {
				read()
			}
			if time.Now().After(end) {
				t.Fatalf("%d bytes are held of tables of some %d", resident(t, dir), values*partSize)
			}
		}
	}
}
