package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/peerd/peerd/store"
)

// TestAStoreThatRottedIsNamedInOneLineAndPutAsideForTheOthersToFillAgain follows
// docs/operations.md.
func TestAStoreThatRottedIsNamedInOneLineAndPutAsideForTheOthersToFillAgain(t *testing.T) {
	dir := t.TempDir()
	a := run(t, filepath.Join(dir, "a"), "--name", "oslo")
	key := filepath.Join(a.dir, "cluster.key")
	again := []string{"--name", "lima", "--cluster-key", key, "--join", a.gossip}
	b := run(t, filepath.Join(dir, "b"), again...)
	a.ask("SADD tags one two three")
	b.ask("SET only here")
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)
	if status := b.end(); status != exitOK {
		t.Fatalf("ended with status %d", status)
	}

	quarantined := filepath.Join(b.dir, "store")
	tables, err := fs.Glob(os.DirFS(quarantined), "*.sst")
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	rotten := filepath.Join(quarantined, tables[0])
	data, err := os.ReadFile(rotten)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/3] ^= 4
	if err := os.WriteFile(rotten, data, 0o600); err != nil {
		t.Fatal(err)
	}
	line := append(append([]string{"run", "--dir", b.dir}, anywhere...), again...)
	status, _, stderr := peerd(t, line...)
	if status != exitFailure || strings.Count(stderr, "\n") != 1 ||
		!strings.Contains(stderr, tables[0]) ||
		!strings.HasSuffix(stderr, "move the directory \"store\" away and start again\n") {
		t.Fatalf("starting on a rotten store ends with %d: %s", status, stderr)
	}

	if err := os.Rename(quarantined, quarantined+".broken"); err != nil {
		t.Fatal(err)
	}
	b = run(t, b.dir, again...)
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)
	if got := b.ask("SMEMBERS tags") + ", " + b.ask("GET only"); got != "one three two, here" {
		t.Errorf("filled up again it has %s", got)
	}
}

func TestAFailedDiskIsReportedWithWhatToDo(t *testing.T) {
	for failed, advice := range map[error]string{
		store.ErrFailed: "start again", store.ErrUnreadable: "if it cannot be read and other peers have the data",
	} {
		err := fmt.Errorf("the peer ended by itself: %w: input/output error", failed)
		got := explain(err, pflag.NewFlagSet("", pflag.ContinueOnError))
		if !strings.HasPrefix(got, err.Error()) || !strings.HasSuffix(got, advice) {
			t.Errorf("it reads %s", got)
		}
	}
}
