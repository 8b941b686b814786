package peer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/store"
)

var rewrite = flag.Bool("update", false, "make the store of testdata/format1 again: only before a release")

// The store of format 1: its directory, and what a peer says of it. It was written by format1Script.
const (
	format1Store  = "testdata/format1.tar.gz"
	format1Status = "testdata/format1.json"
)

// said is the part of a status that the store determines.
type said struct {
	ContextHash   string            `json:"context_hash"`
	Root          string            `json:"root"`
	Keys          int               `json:"keys"`
	Cells         int               `json:"cells"`
	VersionVector map[string]uint64 `json:"version_vector"`
}

func saidOf(t *testing.T, p *Peer) said {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	return said{s.ContextHash, s.Root, s.Keys, s.Cells, s.VersionVector}
}

var (
	longKey    = strings.Repeat("long ", 100)
	largeValue = bytes.Repeat([]byte("large"), 100_000) // which Badger holds in parts
)

// format1Script writes something of everything into a directory, as two replicas.
func format1Script(t *testing.T, dir string) said {
	p := reopen(t, dir)
	mustUpdate(t, p, func(tx *Tx) error {
		for i := range 200 {
			if _, err := tx.Set("numbers").Add(fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return errors.Join(tx.String("greeting").Set([]byte("hello")), tx.String("large").Set(largeValue),
			tx.String("gone").Set([]byte("x")), tx.Map("user").Map("address").String("city").Set([]byte("Oslo")))
	})
	count(t, p, 40)
	crash(t, p)
	p = reopen(t, dir)
	mustUpdate(t, p, func(tx *Tx) error {
		_, err := tx.Remove("gone")
		if err == nil {
			_, err = tx.Map("user").Counter("visits").Add(3)
		}
		if err == nil {
			_, err = tx.Set("numbers").Remove("7")
		}
		return errors.Join(err, tx.String(longKey).Set([]byte("under a long key")))
	})
	count(t, p, 2)
	out := saidOf(t, p)
	mustClose(t, p)
	return out
}

// checkFormat1 reads what format1Script wrote.
func checkFormat1(t *testing.T, p *Peer) {
	t.Helper()
	wantCount(t, p, 42)
	err := p.View(context.Background(), func(tx *Tx) error {
		for key, want := range map[string]string{
			"greeting": "hello", "large": string(largeValue), longKey: "under a long key", "gone": "",
		} {
			if got, _ := tx.String(key).Get(); string(got) != want {
				t.Errorf("%.20q is %.20q (%v)", key, got, tx.Err())
			}
		}
		user := tx.Map("user")
		if city, _ := user.Map("address").String("city").Get(); string(city) != "Oslo" {
			t.Errorf("the city is %q (%v)", city, tx.Err())
		}
		if n := user.Counter("visits").Get(); n != 3 {
			t.Errorf("%d visits (%v)", n, tx.Err())
		}
		for i := range 200 {
			if has := tx.Set("numbers").Has(fmt.Sprint(i)); has != (i != 7) {
				t.Errorf("%d is in the set: %v (%v)", i, has, tx.Err())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAStoreOfFormatOneOpensForEver opens the store that the first version wrote, reads it all, and goes on with
// it. A change that breaks this test breaks every store that there is.
func TestAStoreOfFormatOneOpensForEver(t *testing.T) {
	if *rewrite {
		makeFormat1(t)
	}
	dir := t.TempDir()
	unpackFormat1(t, dir)
	var want said
	text, err := os.ReadFile(format1Status)
	if err = errors.Join(err, json.Unmarshal(text, &want)); err != nil {
		t.Fatal(err)
	}
	p := reopen(t, dir)
	if diff := cmp.Diff(want, saidOf(t, p)); diff != "" {
		t.Errorf("its status (-want +got): %s", diff)
	}
	checkFormat1(t, p)
	mustUpdate(t, p, func(tx *Tx) error { return tx.String("since").Set([]byte("then")) })
	mustClose(t, p)
	p = reopen(t, dir)
	checkFormat1(t, p)
	if s := saidOf(t, p); s.Keys != want.Keys+1 || len(s.VersionVector) != len(want.VersionVector)+1 {
		t.Errorf("after a write: %+v", s)
	}
	mustClose(t, p)
}

// TestAStoreOfANewerFormatIsRefusedInOneLine changes the format that the manifest names.
func TestAStoreOfANewerFormatIsRefusedInOneLine(t *testing.T) {
	dir := t.TempDir()
	unpackFormat1(t, dir)
	f, err := os.OpenFile(filepath.Join(dir, storeDir, "MANIFEST"), os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{0, 2}, 4)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), Config{Dir: dir, Offline: true})
	const why = "it has format 2, this program knows 1: use the newer one that wrote it"
	if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "\n") {
		t.Errorf("opened with %v", err)
	}
	if errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a newer format is taken for damage: %v", err)
	}
}

func makeFormat1(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	status, err := json.MarshalIndent(format1Script(t, dir), "", "  ")
	if err == nil {
		err = os.WriteFile(format1Status, append(status, '\n'), 0o644)
	}
	var out bytes.Buffer
	zip, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	w := tar.NewWriter(zip)
	store := os.DirFS(filepath.Join(dir, storeDir))
	if err = errors.Join(err, w.AddFS(store), w.Close(), zip.Close()); err == nil {
		err = os.WriteFile(format1Store, out.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// unpackFormat1 makes a copy of the store in a data directory.
func unpackFormat1(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(format1Store)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, storeDir), 0o700)
	}
	for r := tar.NewReader(zip); err == nil; {
		var h *tar.Header
		if h, err = r.Next(); err != nil {
			break
		}
		var content []byte
		if content, err = io.ReadAll(r); err == nil && h.FileInfo().Mode().IsRegular() {
			err = os.WriteFile(filepath.Join(dir, storeDir, filepath.Base(h.Name)), content, 0o600)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}
