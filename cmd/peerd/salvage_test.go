package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestWhatOnlyAStoppedPeerHasIsSalvagedAndEnteredWhereTheOthersAre gives a store up as docs/operations.md says.
func TestWhatOnlyAStoppedPeerHasIsSalvagedAndEnteredWhereTheOthersAre(t *testing.T) {
	dir := t.TempDir()
	a := run(t, filepath.Join(dir, "a"), "--name", "oslo")
	key := filepath.Join(a.dir, "cluster.key")
	lima := []string{"--name", "lima", "--cluster-key", key, "--join"}
	b := run(t, filepath.Join(dir, "b"), append(lima, a.gossip)...)
	b.ask("SET shared both-have-it")
	b.ask("SADD fruit apple")
	b.ask("INCRBY visits 10")
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)
	a.ask("SET told yes") // with it goes to the other what is here
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)
	a.end()

	b.ask("SET greeting <hello>")
	b.ask("HSET ann mail ann@example.com")
	b.ask("SADD fruit pear")
	b.ask("SREM fruit apple")
	b.ask("INCRBY visits 5")
	b.ask("SET bytes \xff\xfe")
	if status, stdout, stderr := peerd(t, "salvage", b.dir); status != exitFailure || stdout != "" ||
		!strings.Contains(stderr, b.dir) {
		t.Errorf("salvage of a running peer: status %d, %s%s", status, stdout, stderr)
	}
	if status := b.end(); status != exitOK {
		t.Fatalf("ended with status %d", status)
	}
	said := mustPeerd(t, "salvage", b.dir)
	want := []string{
		`"greeting" [string] set "<hello>"`,
		`"ann" [map "mail" string] set "ann@example.com"`,
		`"fruit" [set "pear"] insert`,
		`"fruit" [set "apple"] remove`,
		`"visits" [string] add 5, 15 in all`,
		`"bytes" [string] set {"base64":"//4="}`,
	}
	if diff := cmp.Diff(want, salvaged(t, said)); diff != "" {
		t.Errorf("salvaged (-want +got):\n%s\nof %s", diff, said)
	}
	if again := mustPeerd(t, "salvage", b.dir); again != said {
		t.Errorf("salvaged again it prints %s", again)
	}
	if one := mustPeerd(t, "salvage", b.dir, "--space", "default"); one != said {
		t.Errorf("of its only space it prints %s", one)
	}
	status, stdout, stderr := peerd(t, "salvage", b.dir, "--space", "defualt")
	if status != exitFailure || stdout != "" || !strings.Contains(stderr, `does not hold the space "defualt"`) {
		t.Errorf("salvage of a space that is not there: status %d, %s%s", status, stdout, stderr)
	}

	if err := os.Rename(filepath.Join(b.dir, "store"), filepath.Join(b.dir, "store.old")); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := peerd(t, "salvage", b.dir); status != exitFailure ||
		!strings.Contains(stderr, b.dir+" has no store") {
		t.Errorf("salvage of nothing: status %d, %s", status, stderr)
	}
	a = run(t, a.dir, "--name", "oslo")
	b = run(t, b.dir, append(lima, a.gossip)...)
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)
	for command, want := range map[string]string{
		"GET shared": "both-have-it", "SMEMBERS fruit": "apple", "INCRBY visits 5": "15",
	} {
		if got := b.ask(command); got != want {
			t.Errorf("filled up again, %s answers %q, want %q", command, got, want)
		}
	}
	mustPeerd(t, "wait", "--http", a.http, "--http", b.http)
	if got := a.ask("GET visits"); got != "15" {
		t.Errorf("the other has %s visits", got)
	}
}

// TestAStoreThatDoesNotOpenForARottenTableIsSalvaged is what the problem damaged advises.
func TestAStoreThatDoesNotOpenForARottenTableIsSalvaged(t *testing.T) {
	a := run(t, filepath.Join(t.TempDir(), "a"))
	for i := range 50 {
		a.ask(fmt.Sprintf("SET key%d %s", i, strings.Repeat("x", 1000)))
	}
	if status := a.end(); status != exitOK {
		t.Fatalf("ended with status %d", status)
	}
	tables, err := filepath.Glob(filepath.Join(a.dir, "store", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	data, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, []byte("xxxx"))] ^= 4
	if err := os.WriteFile(tables[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := peerd(t, append([]string{"run", "--dir", a.dir}, anywhere...)...)
	if status != exitFailure || !strings.Contains(stderr, filepath.Base(tables[0])) {
		t.Fatalf("starting on a rotten store ends with %d: %s%s", status, stdout, stderr)
	}
	status, stdout, stderr = peerd(t, "salvage", a.dir)
	if got := len(salvaged(t, stdout)); got != 50 || status != exitFailure ||
		!strings.Contains(stderr, filepath.Base(tables[0])) {
		t.Errorf("salvage prints %d writes, want 50, status %d: %s", got, status, stderr)
	}
	temporary := t.TempDir()
	cut := exec.Command(os.Args[0], "salvage", a.dir)
	cut.Env = append(os.Environ(), asPeerd+"=1", "TMPDIR="+temporary)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cut.Stdout = writer
	reader.Close() // as head does once it has its lines
	err = cut.Run()
	writer.Close()
	if left, _ := os.ReadDir(temporary); err == nil || len(left) > 0 {
		t.Errorf("salvage that nobody reads ends with %v and leaves %v", err, left)
	}
	_, _, stderr = peerd(t, "salvage", a.dir, "--space", "other")
	if !strings.Contains(stderr, `does not hold the space "other"`) || !strings.Contains(stderr, filepath.Base(tables[0])) {
		t.Errorf("salvage of a space that is not found in a rotten store says %s", stderr)
	}
}

// TestWhatIsSalvagedSaysWhatIsToBeDoneAgain where one command does more than one thing, or what has
// no value.
func TestWhatIsSalvagedSaysWhatIsToBeDoneAgain(t *testing.T) {
	a := run(t, filepath.Join(t.TempDir(), "a"))
	for _, command := range []string{
		"INCR n", "SET n 5", "INCR n", "DEL n", "HINCRBY h f 3", "HSET h f 7",
		"SET e 1", "EXPIREAT e 4102444800", "PERSIST e", "EXPIREAT e 4102444800", "DEL e",
		"HSET m f 1", "HEXPIREAT m 4102444800 FIELDS 1 f", "HPERSIST m FIELDS 1 f", "FLUSHDB",
	} {
		a.ask(command)
	}
	if status := a.end(); status != exitOK {
		t.Fatalf("ended with status %d", status)
	}
	want := []string{
		`"n" [string] add 1, 1 in all`,
		`"n" [string] set "5"`,
		`"n" [string] reset`,
		`"n" [string] add 1, 1 in all`,
		`"n" [string] remove`,
		`"n" [string] reset`,
		`"h" [map "f" string] add 3, 3 in all`,
		`"h" [map "f" string] set "7"`,
		`"h" [map "f" string] reset`,
		`"e" [string] set "1"`,
		`"e" [] expire 4102444800000, 0 in all`,
		`"e" [] persist`,
		`"e" [] expire 4102444800000, 0 in all`,
		`"e" [string] remove`,
		`"e" [] persist`,
		`"m" [map "f" string] set "1"`,
		`"m" [map "f"] expire 4102444800000, 0 in all`,
		`"m" [map "f"] persist`,
		`"" [] flush`,
	}
	if diff := cmp.Diff(want, salvaged(t, mustPeerd(t, "salvage", a.dir))); diff != "" {
		t.Errorf("salvaged (-want +got):\n%s", diff)
	}
}

// salvaged returns the lines of "peerd salvage" in short: which key, the path, and what was done.
func salvaged(t *testing.T, said string) (short []string) {
	t.Helper()
	for line := range strings.Lines(said) {
		var w struct {
			Space   string          `json:"space"`
			Replica string          `json:"replica"`
			Dot     uint64          `json:"dot"`
			Time    time.Time       `json:"time"`
			Key     json.RawMessage `json:"key"`
			Path    []struct {
				Type string          `json:"type"`
				Name json.RawMessage `json:"name"`
			} `json:"path"`
			Operation string          `json:"operation"`
			Value     json.RawMessage `json:"value"`
			Amount    int64           `json:"amount"`
			Total     int64           `json:"total"`
		}
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&w); err != nil || len(w.Replica) != 16 || w.Dot == 0 || w.Time.IsZero() {
			t.Fatalf("a line that names no write (%v): %s", err, line)
		}
		var path []string
		for _, step := range w.Path {
			path = append(path, step.Type)
			if len(step.Name) > 0 && string(step.Name) != `""` {
				path = append(path, string(step.Name))
			}
		}
		did := w.Operation
		if len(w.Value) > 0 {
			did += " " + string(w.Value)
		}
		if w.Amount != 0 {
			did += fmt.Sprintf(" %d, %d in all", w.Amount, w.Total)
		}
		short = append(short, fmt.Sprintf("%s [%s] %s", w.Key, strings.Join(path, " "), did))
	}
	return short
}
