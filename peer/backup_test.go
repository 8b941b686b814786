package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/internal/backup"
	"github.com/peerd/peerd/internal/secret"
)

// backUp returns a backup of a peer.
func backUp(t *testing.T, p *Peer) []byte {
	t.Helper()
	var out bytes.Buffer
	info, err := p.Backup(context.Background(), &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := VerifyBackup(context.Background(), bytes.NewReader(out.Bytes()), nil)
	if err != nil {
		t.Fatal(err)
	}
	read.Made = info.Made // which the file has to the millisecond
	if diff := cmp.Diff(info, read); diff != "" {
		t.Errorf("what Backup returned and what the file says differ: %s", diff)
	}
	if read.Bytes != uint64(out.Len()) {
		t.Errorf("the backup says it has %d bytes, it has %d", read.Bytes, out.Len())
	}
	return out.Bytes()
}

func restore(t *testing.T, from []byte, dir string) {
	t.Helper()
	if _, err := Restore(context.Background(), bytes.NewReader(from), RestoreConfig{Dir: dir}); err != nil {
		t.Fatal(err)
	}
}

// someData has all kinds of records: long keys, large values, sets, counters, and a clear that is
// not swept.
func someData(t *testing.T, p *Peer) {
	t.Helper()
	mustUpdate(t, p, func(tx *Tx) error {
		for i := range 100 {
			if _, err := tx.Set("s").Add(fmt.Sprint(i)); err != nil {
				return err
			}
		}
		if err := tx.String("large").Set(make([]byte, MaxValue)); err != nil {
			return err
		}
		return tx.String(string(make([]byte, 1000))).Set([]byte("under a long key"))
	})
	count(t, p, 5)
}

func TestARestoredPeerHoldsWhatWasBackedUpAndWritesUnderAnIDOfItsOwn(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	someData(t, p)
	kept := backUp(t, p)
	before, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	count(t, p, 7)
	dir := filepath.Join(t.TempDir(), "new")
	restore(t, kept, dir)
	q := reopen(t, dir)
	defer mustClose(t, q)
	after, err := q.Status()
	if err != nil {
		t.Fatal(err)
	}
	if after.ContextHash != before.ContextHash || after.Root != before.Root || after.Keys != before.Keys {
		t.Errorf("restored: %+v, want %+v", after, before)
	}
	wantCount(t, q, 5)
	count(t, q, 1)
	wantCount(t, q, 6)
	if now := replicaOf(t, q); now == before.Replica {
		t.Error("the restored peer writes under the id of the one that was backed up")
	}
}

func TestABackupHoldsOneMomentWhileWritesGoOn(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	someData(t, p)
	var out bytes.Buffer
	blocks := 0
	info, err := p.Backup(context.Background(), &out, func(now BackupProgress) {
		blocks++
		count(t, p, 100)
		if now.Records == 0 || now.Expected == 0 || now.Bytes == 0 {
			t.Errorf("progress %+v", now)
		}
		if _, err := p.Backup(context.Background(), io.Discard, nil); !errors.Is(err, ErrBackupRuns) {
			t.Errorf("a second backup meanwhile: %v", err)
		}
	})
	if err != nil || blocks == 0 || info.Keys != 4 {
		t.Fatalf("%+v, %d blocks, error %v", info, blocks, err)
	}
	dir := t.TempDir()
	restore(t, out.Bytes(), dir)
	q := reopen(t, dir)
	defer mustClose(t, q)
	wantCount(t, q, 5)
}

// TestABackupOfAPeerHasAllItsSpaces restores it, and cuts it off between two of them.
func TestABackupOfAPeerHasAllItsSpaces(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	spaces := []string{DefaultSpace, "orders", "stock"}
	for _, space := range spaces {
		setIn(t, p, space, "k", "in "+space)
	}
	file := backUp(t, p)
	dir := t.TempDir()
	restore(t, file, dir)
	q := reopen(t, dir)
	for _, space := range spaces {
		if got, err := getIn(q, space, "k"); got != "in "+space || err != nil {
			t.Errorf("space %s has %q (%v)", space, got, err)
		}
	}
	eventually(t, "the directory lists them", func() bool {
		names, err := q.directory(t.Context())
		slices.Sort(names)
		return err == nil && slices.Equal(names, spaces[1:])
	})
	if again := backUp(t, q); len(again) == 0 {
		t.Error("what was restored cannot be backed up")
	}
	mustClose(t, q)

	begin := []byte("peerd backup\n")
	second := len(begin) + bytes.Index(file[len(begin):], begin)
	for what, bad := range map[string][]byte{
		"cut off behind the first space": file[:second],
		"with the first space twice":     append(bytes.Clone(file[:second]), file[:second]...),
		"with something behind it":       append(bytes.Clone(file), begin...),
	} {
		dir := t.TempDir()
		_, err := Restore(t.Context(), bytes.NewReader(bad), RestoreConfig{Dir: dir})
		if !errors.Is(err, ErrBackupDamaged) {
			t.Errorf("a backup %s: %v", what, err)
		}
		if _, err := os.Stat(filepath.Join(dir, storeDir)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a backup %s left a store (%v)", what, err)
		}
	}
}

// TestABackupEndsWithItsPeerItsContextAndItsReader has each of them go away in the middle; the
// peer closes all the same, and takes another backup if it can.
func TestABackupEndsWithItsPeerItsContextAndItsReader(t *testing.T) {
	p := reopen(t, t.TempDir())
	someData(t, p)
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := p.Backup(ctx, io.Discard, func(BackupProgress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("its context ended: %v", err)
	}
	if _, err := p.Backup(context.Background(), failingWriter{}, nil); !errors.Is(err, errCrashed) {
		t.Errorf("its reader went away: %v", err)
	}
	backUp(t, p)
	closed := make(chan error)
	_, err := p.Backup(context.Background(), io.Discard, func(BackupProgress) {
		if closed != nil {
			go func(c chan<- error) { c <- p.Close() }(closed)
			<-p.Done()
		}
	})
	if !errors.Is(err, ErrClosed) {
		t.Errorf("its peer was closed: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := p.Backup(context.Background(), io.Discard, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed peer: %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errCrashed }

func TestADamagedBackupIsNotRestored(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	count(t, p, 5)
	whole := backUp(t, p)
	flipped := func(at int) []byte {
		out := bytes.Clone(whole)
		out[at] ^= 1
		return out
	}
	for name, bad := range map[string][]byte{
		"cut short": whole[:len(whole)-1], "cut in the middle": whole[:len(whole)/2], "empty": nil,
		"with more behind it": append(bytes.Clone(whole), 0), "with a bit flipped": flipped(len(whole) / 2),
		"with another bit flipped": flipped(len(whole) - 1), "of something else": []byte("hello, world, hello"),
	} {
		there := t.TempDir()
		for _, dir := range []string{there, filepath.Join(there, "new", "data")} {
			_, err := Restore(context.Background(), bytes.NewReader(bad), RestoreConfig{Dir: dir})
			if !errors.Is(err, ErrBackupDamaged) && !errors.Is(err, ErrNoBackup) {
				t.Errorf("%s: restored with %v", name, err)
			}
			if left, err := os.ReadDir(there); err != nil || len(left) > 0 {
				t.Errorf("%s: left behind: %v, %v", name, left, err)
			}
		}
	}
}

// TestABackupWithoutOneOfItsCellsIsNotRestored, though it is whole as a file: its maker's memory
// failed, say.
func TestABackupWithoutOneOfItsCellsIsNotRestored(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	someData(t, p)
	whole := backUp(t, p)
	restore(t, without(t, whole, 0), t.TempDir())
	for n := 1; n <= 3; n++ {
		_, err := Restore(t.Context(), bytes.NewReader(without(t, whole, n)), RestoreConfig{Dir: t.TempDir()})
		if !errors.Is(err, ErrBackupDamaged) {
			t.Errorf("without its cell %d: restored with %v", n, err)
		}
	}
}

// without returns the backup of a space, without its n-th cell.
func without(t *testing.T, whole []byte, n int) []byte {
	t.Helper()
	r, err := backup.NewReader(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, r.Header())
	for cells := 0; err == nil; {
		var records []backup.Record
		records, err = r.Next()
		for _, rec := range records {
			if rec.Key[0] == 'c' {
				cells++
			}
			if rec.Key[0] != 'c' || cells != n {
				err = errors.Join(err, w.Add(rec.Key, rec.Value))
			}
		}
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestABackupOfSpacesThatCannotBeIsNotRestored(t *testing.T) {
	for name, of := range map[string]struct {
		space   string
		records bool
	}{
		"of a space without a name": {"", true}, "of a space with a wrong name": {"../bad", true}, "of a space without records": {"orders", false},
	} {
		var out bytes.Buffer
		w, err := backup.NewWriter(&out, backup.Header{Space: of.space})
		if err != nil {
			t.Fatal(err)
		}
		if of.records {
			err = w.Add([]byte("mcheckpoint"), []byte("x"))
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		_, err = Restore(t.Context(), &out, RestoreConfig{Dir: t.TempDir()})
		if !errors.Is(err, ErrBackupDamaged) && !errors.Is(err, ErrNoBackup) {
			t.Errorf("%s: restored with %v", name, err)
		}
	}
}

func TestABackupIsRestoredIntoANewDirectoryOnly(t *testing.T) {
	dir := t.TempDir()
	p := reopen(t, dir)
	count(t, p, 5)
	whole := backUp(t, p)
	mustClose(t, p)
	try := func(dir string) error {
		_, err := Restore(context.Background(), bytes.NewReader(whole), RestoreConfig{Dir: dir})
		return err
	}
	if err := try(dir); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over another store: %v", err)
	}
	p = reopen(t, dir)
	wantCount(t, p, 5)
	mustClose(t, p)

	interrupted := t.TempDir()
	if err := os.Mkdir(filepath.Join(interrupted, restoringDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := try(interrupted); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over an interrupted restore: %v", err)
	}
	if _, err := Open(context.Background(), Config{Dir: interrupted, Offline: true}); err == nil {
		t.Error("a directory with an interrupted restore was opened")
	}

	prepared := t.TempDir()
	c := newCluster(t)
	keys, err := Init(Config{Dir: prepared, ClusterKey: c.key})
	if err != nil {
		t.Fatal(err)
	}
	crashed := []string{"members.json.tmp", "clock.json.tmp", ".host.key.123", ".cluster.key.123"}
	for _, left := range crashed {
		if err := os.WriteFile(filepath.Join(prepared, left), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Restore(context.Background(), bytes.NewReader(whole), RestoreConfig{Dir: prepared, ClusterKey: c.key})
	if err != nil {
		t.Fatalf("beside a host's key: %v", err)
	}
	again, err := Init(Config{Dir: prepared})
	if err != nil || again.PeerID != keys.PeerID || again.Created {
		t.Errorf("keys %+v (%v), were %+v", again, err, keys)
	}
	p = reopen(t, prepared)
	wantCount(t, p, 5)
	mustClose(t, p)
}

// TestARestoreLeavesTheNewerClusterKey in the directory, and does without a file that is gone, as
// a start does.
func TestARestoreLeavesTheNewerClusterKey(t *testing.T) {
	p := alone(t, Config{})
	mustUpdate(t, p, setting("k", "v"))
	whole := backUp(t, p)
	files := t.TempDir()
	older, newer := filepath.Join(files, "older"), filepath.Join(files, "newer")
	key, err := secret.Create(older)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := secret.NewRing(key).Hold(secret.New())
	if err == nil {
		err = ring.Create(newer)
	}
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct{ there, named, want string }{
		"the file is gone":          {older, filepath.Join(files, "gone"), older},
		"the file is newer":         {older, newer, newer},
		"the directory's is newer":  {newer, older, newer},
		"the directory has no file": {"", newer, newer},
	} {
		t.Run(what, func(t *testing.T) {
			cfg := RestoreConfig{Dir: t.TempDir(), ClusterKey: test.named}
			path := filepath.Join(cfg.Dir, clusterKeyFile)
			if test.there != "" {
				copyFile(t, test.there, path)
			}
			if _, err := Restore(t.Context(), bytes.NewReader(whole), cfg); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			want, failed := os.ReadFile(test.want)
			if err := errors.Join(err, failed); err != nil || !bytes.Equal(got, want) {
				t.Errorf("its cluster key is not that of %s (%v)", test.want, err)
			}
			restored, err := Open(t.Context(), Config{Dir: cfg.Dir, Offline: true})
			if err != nil {
				t.Fatal(err)
			}
			defer mustClose(t, restored)
			if got, err := getIn(restored, DefaultSpace, "k"); got != "v" || err != nil {
				t.Errorf("it has %q (%v)", got, err)
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAnOldBackupMeetsALiveCluster restores a host that was wiped from a backup that is older
// than what the others have: of its writes, of what was removed and counted since. It does so
// twice, with and without a log that reaches back to the backup.
func TestAnOldBackupMeetsALiveCluster(t *testing.T) {
	for name, logBytes := range map[string]int64{"with the log": 0, "by comparing cells": 2000} {
		t.Run(name, func(t *testing.T) { meetWithABackup(t, logBytes) })
	}
}

func meetWithABackup(t *testing.T, logBytes int64) {
	c := newCluster(t)
	add := func(dir string) *Peer {
		cfg := c.config(dir)
		cfg.LogBytes = logBytes
		return c.start(cfg)
	}
	a, b := add(t.TempDir()), add(t.TempDir())
	mustUpdate(t, a, func(tx *Tx) error {
		for i := range 100 {
			if err := tx.String(fmt.Sprint("old", i)).Set([]byte("here")); err != nil {
				return err
			}
		}
		return nil
	})
	count(t, a, 10)
	count(t, b, 1)
	c.converge(a, b)
	old := replicaOf(t, a)
	kept := backUp(t, a)

	// What happens after the backup: writes of the same replica, removals, and counting.
	mustUpdate(t, a, func(tx *Tx) error { _, err := tx.Remove("old1"); return err })
	mustUpdate(t, b, func(tx *Tx) error { _, err := tx.Remove("old2"); return err })
	for i := range 50 {
		mustUpdate(t, a, func(tx *Tx) error { return tx.String(fmt.Sprint("new", i)).Set([]byte("since")) })
	}
	count(t, a, 100)
	count(t, b, 1000)
	c.converge(a, b)
	if logBytes > 0 {
		eventually(t, "the log is cut", func() bool { s, _ := b.Status(); return s.LogBytes < 2*logBytes })
	}
	issued, err := b.Status()
	if err != nil {
		t.Fatal(err)
	}
	leave(t, a)
	mustClose(t, a)

	dir := t.TempDir()
	restore(t, kept, dir)
	cfg := c.config(dir)
	cfg.LogBytes = logBytes
	cfg.Offline = true
	again := c.start(cfg) // alone at first: what it writes meets the others' writes of its past
	count(t, again, 10_000)
	mustUpdate(t, again, func(tx *Tx) error { return tx.String("old3").Set([]byte("rewritten")) })
	mustClose(t, again)
	cfg.Offline = false
	again = c.start(cfg)
	mustUpdate(t, b, func(tx *Tx) error { return tx.String("old4").Set([]byte("meanwhile")) })
	count(t, again, 100_000)
	eventually(t, "the writes of the restored peer arrive", func() bool {
		s, err := b.Status()
		return err == nil && s.VersionVector[replicaOf(t, again)] > 0
	})
	c.converge(again, b)

	for _, p := range []*Peer{again, b} {
		wantCount(t, p, 111_111)
		wantStrings(t, p)
		s, err := p.Status()
		if err != nil || len(s.Forks) > 0 || s.Mismatches > 0 {
			t.Errorf("forks %v, %d mismatches (%v)", s.Forks, s.Mismatches, err)
		}
		if s.VersionVector[old] != issued.VersionVector[old]+1 { // its end
			t.Errorf("replica %s has issued %d dots, it had %d when it ended", old, s.VersionVector[old],
				issued.VersionVector[old])
		}
	}
	if now := replicaOf(t, again); now == old || now == "" {
		t.Errorf("the restored peer writes as %q, the one that was backed up as %q", now, old)
	}
	if s, _ := again.Status(); (s.Repairs > 0) != (logBytes > 0) {
		t.Errorf("%d repairs with a log of %d bytes", s.Repairs, logBytes)
	}
}

// wantStrings checks what meetWithABackup wrote and removed.
func wantStrings(t *testing.T, p *Peer) {
	t.Helper()
	want := map[string]string{}
	for i := range 100 {
		want[fmt.Sprint("old", i)] = "here"
	}
	delete(want, "old1")
	delete(want, "old2")
	want["old3"], want["old4"] = "rewritten", "meanwhile"
	for i := range 50 {
		want[fmt.Sprint("new", i)] = "since"
	}
	got := map[string]string{}
	err := p.View(context.Background(), func(tx *Tx) error {
		for _, prefix := range []string{"new", "old"} {
			for key := range tx.Keys(prefix, "") {
				value, _ := tx.String(key).Get()
				got[key] = string(value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the strings (-want +got): %s", diff)
	}
}

func TestARestoreEndsBeforeTheDiskIsFull(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	count(t, p, 5)
	whole := backUp(t, p)
	dir := t.TempDir()
	mountSmall(t, dir, 48<<20)
	_, err := Restore(context.Background(), bytes.NewReader(whole), RestoreConfig{Dir: dir})
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("restored with %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
