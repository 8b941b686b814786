package badger_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
)

// childDir names the directory in which the test binary, started again by a test, commits for
// ever.
const childDir = "PEERD_TEST_STORE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Println(commitForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Each commit of the child writes its number under crashKeys keys, with values of which some are
// in parts: 115 commits fill a memtable.
const (
	crashKeys    = 5
	crashCommits = 150 // in each round, before the kill
	crashRounds  = 2
)

func crashKey(i int) []byte { return fmt.Appendf(nil, "key %d", i) }

// commitForEver goes on from what the store holds, and prints each number once its commit is
// acknowledged.
func commitForEver(dir string) error {
	s, err := badger.Open(dir, badger.Options{})
	if err != nil {
		return err
	}
	n, err := lastCommit(s)
	if err != nil {
		return err
	}
	var b store.Batch
	for {
		n++
		b.Reset()
		for i := range crashKeys {
			size := 8 + 64<<10*i // The last is split, for 256 KiB is the most in one piece.
			b.Set(crashKey(i), binary.BigEndian.AppendUint64(make([]byte, 0, size), n)[:size])
		}
		if err := s.Commit(&b, false); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// lastCommit returns the number that all keys hold, and an error if they differ.
func lastCommit(s store.Store) (uint64, error) {
	view := s.Snapshot()
	defer view.Close()
	var last uint64
	for i := range crashKeys {
		value, ok, err := view.Get(crashKey(i))
		if err != nil {
			return 0, err
		}
		var n uint64
		if ok {
			n = binary.BigEndian.Uint64(value)
		}
		if i > 0 && n != last {
			return 0, fmt.Errorf("half a batch: key %d holds %d, the keys before it %d", i, n, last)
		}
		last = n
	}
	return last, nil
}

func TestAKilledProcessLosesNothingThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	for round := range crashRounds {
		acknowledged := killAfter(t, dir, crashCommits)
		s := open(t, dir)
		found, err := lastCommit(s)
		if err != nil || found < acknowledged || found > acknowledged+1 {
			t.Errorf("round %d: found commit %d (%v), the last acknowledged was %d",
				round, found, err, acknowledged)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter starts the child, kills it after some commits, and returns the last that it
// acknowledged.
func killAfter(t *testing.T, dir string, commits int) (acknowledged uint64) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ { // To the end: what it wrote before it died is acknowledged.
		if n == commits {
			child.Process.Kill()
		}
		if acknowledged, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			t.Fatalf("the child says %q: %s", lines.Text(), stderr.Bytes())
		}
	}
	child.Wait()
	return acknowledged
}

// TestAKilledProcessLeavesNothingThatAFilterDenies: one that is built of what it left has all of it.
func TestAKilledProcessLeavesNothingThatAFilterDenies(t *testing.T) {
	dir := t.TempDir()
	for round := range crashRounds {
		acknowledged := killAfter(t, dir, crashCommits)
		s := badger.OpenBuilding(t, dir)
		s.BuildPresence(t)
		found, err := lastCommit(s)
		if err != nil || found < acknowledged {
			t.Errorf("round %d: found commit %d (%v), the last acknowledged was %d", round, found, err, acknowledged)
		}
		if n := s.CheckPresence(t); n != crashKeys {
			t.Errorf("round %d: %d keys, want %d", round, n, crashKeys)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
