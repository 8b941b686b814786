package peer

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// format1Store is a store as the last version wrote it that had the number 1.
const format1Store = "testdata/format1.tar.gz"

// olderWayOut is what the error about an older store has to say.
const olderWayOut = "it has format 1, from before peerd 0.1.0, and this program reads format 2: start with an empty " +
	"directory and let it fill from its peers, or run the older program to copy its data; nothing was changed"

// TestAStoreOfFormatOneIsRefusedUntouched opens the store in each way that there is.
func TestAStoreOfFormatOneIsRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	unpackFormat1(t, dir)
	before := contentOf(t, dir)
	for name, open := range map[string]func() error{
		"offline": func() error { return opened(Config{Dir: dir, Offline: true}) },
		"online": func() error {
			return opened(Config{Dir: dir, Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0"})
		},
		"salvage": func() error { return Salvage(dir, "", func(Salvaged) error { return nil }) },
	} {
		refusedFor(t, name, open(), olderWayOut)
		if diff := cmp.Diff(before, contentOf(t, dir)); diff != "" {
			t.Errorf("%s: the directory has changed (-before +after): %s", name, diff)
		}
	}
}

// TestAStoreOfANewerFormatIsRefusedInOneLine changes the format that the manifest names.
func TestAStoreOfANewerFormatIsRefusedInOneLine(t *testing.T) {
	dir := t.TempDir()
	p := reopen(t, dir)
	count(t, p, 1)
	mustClose(t, p)
	f, err := os.OpenFile(filepath.Join(dir, storeDir, "MANIFEST"), os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{0, 3}, 4)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	before := contentOf(t, dir)
	refusedFor(t, "a newer store", opened(Config{Dir: dir, Offline: true}),
		"it has format 3, and this program reads format 2: use the newer peerd that wrote it")
	if diff := cmp.Diff(before, contentOf(t, dir)); diff != "" {
		t.Errorf("the directory has changed (-before +after): %s", diff)
	}
}

// opened opens a peer, and closes it if it opens.
func opened(cfg Config) error {
	p, err := Open(context.Background(), cfg)
	if err != nil {
		return err
	}
	return p.Close()
}

func refusedFor(t *testing.T, what string, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: opened with %v, want %q", what, err, why)
	}
	if !errors.Is(err, wire.ErrFormat) || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%s: another format is taken for something else: %v", what, err)
	}
}

// contentOf returns a hash of each file below dir, by its name.
func contentOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			out[name] = "directory"
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		out[name] = fmt.Sprintf("%x", sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unpackFormat1 makes a copy of the store of format 1 in a data directory.
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
