package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
)

// told runs a command about the data of a daemon, and fails unless it prints what is wanted.
func (d *daemonProcess) told(want string, args ...string) {
	d.t.Helper()
	if got := mustPeerd(d.t, append(args, "--http", d.http)...); got != want {
		d.t.Errorf("peerd %s printed %q, want %q", strings.Join(args, " "), got, want)
	}
}

func TestTheCommandsReadAndWriteEachType(t *testing.T) {
	d := run(t, t.TempDir())
	d.told("OK\n", "set", "greeting", "hello")
	d.told("hello\n", "get", "greeting")
	d.told("hello", "get", "greeting", "--raw")
	d.told("1\n", "incr", "visits")
	d.told("-4\n", "incr", "visits", "--by", "-5")
	d.told("set.add     2\nstring.set  done\nset.remove  0\nmap.clear   nothing to change\n", "tx", `[
		{"op": "set.add", "path": ["ann", "groups"], "elements": ["staff", "a\nb"]},
		{"op": "string.set", "path": ["ann", "mail"], "value": "ann@example.com"},
		{"op": "set.remove", "path": ["ann", "groups"], "elements": ["nobody"]},
		{"op": "map.clear", "path": ["none"]}]`)
	d.told("groups\t\"a\\nb\"\ngroups\tstaff\nmail\tann@example.com\n", "get", "ann")
	d.told("groups\tset\t\"a\\nb\"\ngroups\tset\tstaff\nmail\tstring\tann@example.com\n", "get",
		"ann", "--conflicts")
	d.told("ann@example.com\n", "get", "ann", "--path", "mail")
	d.told("bitmap.set       2\nhyperloglog.add  done\n", "tx", `[
		{"op": "bitmap.set", "path": ["days"], "bits": [1, 15]}, {"op": "hyperloglog.add", "path": ["seen"], "elements": ["a", "b"]}]`)
	d.told("\"@\\x01\"\n", "get", "days")
	d.told("@\x01", "get", "days", "--raw")
	d.told("2\n", "get", "seen")
	d.told("2\n", "del", "days", "seen")
	d.told("list.append     3\nsorted-set.set  2\nsorted-set.add  a 3, b 1\n", "tx", `[
		{"op": "list.append", "path": ["jobs"], "elements": ["b", "a", "b\tc"]},
		{"op": "sorted-set.set", "path": ["points"],
			"scores": [{"element": "a", "score": 1.5}, {"element": "z", "score": "-inf"}]},
		{"op": "sorted-set.add", "path": ["points"],
			"scores": [{"element": "a", "score": 1.5}, {"element": "b", "score": 1}]}]`)
	mustPeerd(t, "set", "log", `{"type": "stream", "entries": [{"id": "1-0", "fields": ["f", "x y"]},
		{"id": "2-7", "fields": ["g", ""]}]}`, "--json", "--http", d.http)
	d.told("b\na\n\"b\\tc\"\n", "get", "jobs")
	d.told("a\t3\nb\t1\nz\t-inf\n", "get", "points")
	d.told("1-0\tf\tx y\n2-7\tg\t\"\"\n", "get", "log")
	d.told("3\n", "del", "jobs", "points", "log")
	d.told("2\n", "incr", "ann", "--path", "age", "--path", "years", "--by", "2")
	d.told("2\n", "get", "ann", "--path", "age", "--path", "years")
	d.told("OK\n", "set", "on/../off", `{"type": "flag", "enabled": true}`, "--space", "others")
	if !json.Valid([]byte(mustPeerd(t, "set", ".", `{"type": "flag", "enabled": true}`, "--json", "--http", d.http))) {
		t.Error("set --json prints no JSON")
	}
	d.told("true\n", "get", ".")
	d.told("on/../off\n", "keys", "--space", "others")
	d.told(".\nann\ngreeting\nvisits\n", "keys")
	d.told(".\nann\n", "keys", "--limit", "2")
	d.told("{\"key\":\"greeting\",\"types\":[\"string\"]}\n", "keys", "gr", "--json")
	d.told("1\n", "del", "ann", "--path", "groups")
	d.told("2\n", "del", "ann", "greeting", "none")
	d.told("1\n", "del", "--prefix", "vis")
	d.told(".\n", "keys")
	d.told("delete  1\n", "tx", `[{"op": "delete", "prefix": ""}]`)
	status, _, stderr := peerd(t, "get", "greeting", "--http", d.http)
	if want := "peerd: nothing is stored under greeting\n"; status != exitFailure || stderr != want {
		t.Errorf("get of what is not there ended with %d, %q, want 1, %q", status, stderr, want)
	}
}

func TestWhatGetPrintsAsJSONCanBeSetAgain(t *testing.T) {
	d := run(t, t.TempDir())
	const odd = "a\x00b\xff\n"
	mustPeerd(t, "set", odd, odd, "--http", d.http)
	d.told(odd, "get", odd, "--raw")
	d.told(strconv.Quote(odd)+"\n", "get", odd)
	mustPeerd(t, "tx", `{"ops": [{"op": "set.add", "path": ["m", "s"], "elements": ["x", {"base64": "/w=="}]},
		{"op": "flag.enable", "path": ["m", "f"]},
		{"op": "list.append", "path": ["m", "l"], "elements": ["y", "x", {"base64": "/w=="}]},
		{"op": "sorted-set.set", "path": ["z"], "scores": [{"element": "a", "score": 0.1}, {"element": "b", "score": "inf"}]},
		{"op": "list.append", "path": ["l"], "elements": ["y", "x", "y"]},
		{"op": "expire", "path": ["l"], "until": "2126-12-24T18:00:00Z"}]}`, "--http", d.http)
	mustPeerd(t, "set", "x", `{"type": "stream", "entries": [{"id": "1-0", "fields": ["f", "v"]}]}`, "--json",
		"--http", d.http)
	for _, key := range []string{odd, "m", "z", "l", "x"} {
		before := mustPeerd(t, "get", key, "--json", "--http", d.http)
		mustPeerd(t, "del", key, "--http", d.http)
		mustPeerd(t, "set", key, before, "--json", "--http", d.http)
		var a, b map[string]any
		after := mustPeerd(t, "get", key, "--json", "--http", d.http)
		if json.Unmarshal([]byte(before), &a) != nil || json.Unmarshal([]byte(after), &b) != nil {
			t.Fatalf("no JSON: %s, %s", before, after)
		}
		if _, expires := a["expires"]; expires != (key == "l") {
			t.Errorf("get --json of %q says when it expires: %t", key, expires)
		}
		delete(a, "token")
		delete(b, "token")
		if x, y := marshal(t, a), marshal(t, b); x != y {
			t.Errorf("set again, %s is %s", x, y)
		}
	}
}

func marshal(t *testing.T, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestASetOfManyPagesIsPrintedWhole(t *testing.T) {
	d := run(t, t.TempDir())
	var elements []string
	for i := range 10_500 {
		elements = append(elements, strconv.Itoa(i))
	}
	set := marshal(t, map[string]any{"type": "set", "elements": elements})
	mustPeerd(t, "set", "big", set, "--json", "--http", d.http)
	if n := strings.Count(mustPeerd(t, "get", "big", "--http", d.http), "\n"); n != len(elements) {
		t.Errorf("get printed %d of %d elements", n, len(elements))
	}
}

func TestManyKeysOfAPrefixAreDeletedInSteps(t *testing.T) {
	d := run(t, t.TempDir())
	const each = 4096 // operations of a transaction, and keys of a step
	for part := range 3 {
		var ops []map[string]any
		for i := range each {
			ops = append(ops, map[string]any{"op": "flag.enable",
				"path": []string{"k" + strconv.Itoa(part*each+i)}})
		}
		mustPeerd(t, "tx", marshal(t, ops), "--json", "--http", d.http)
	}
	mustPeerd(t, "set", "other", "x", "--http", d.http)
	d.told(strconv.Itoa(3*each)+"\n", "del", "--prefix", "k")
	d.told("other\n", "keys")
	if n := strings.Count(mustPeerd(t, "del", "--prefix", "o", "--json", "--http", d.http), "\n"); n != 1 {
		t.Errorf("one key was deleted in %d steps", n)
	}
	d.told("", "keys")
	if status, _, stderr := peerd(t, "del", "--prefix", "", "--http", d.http); status != exitUsage {
		t.Errorf("an empty prefix, of a variable that is not set perhaps, is answered with %d: %s", status, stderr)
	}
}

// TestWhoDropsASpaceIsToldWhatFailsThen, and of the space default whom that concerns.
func TestWhoDropsASpaceIsToldWhatFailsThen(t *testing.T) {
	d := run(t, filepath.Join(t.TempDir(), "data"))
	mustPeerd(t, "tx", `[{"op": "set.add", "path": ["k"], "elements": ["x"]}]`, "--space", "orders", "--http", d.http)
	d.told("OK\n", "set", "k", "v")
	for space, all := range map[string]bool{"orders": false, "default": true} {
		said := mustPeerd(t, "space", "drop", space, "--force", "--http", d.http)
		if !strings.Contains(said, "reads of it fail there until something is written") || strings.Contains(said, "database 0") != all {
			t.Errorf("of the space %s that was dropped it says: %s", space, said)
		}
	}
	if status, _, stderr := peerd(t, "get", "k", "--http", d.http); status == 0 || !strings.Contains(stderr, "a write takes it up again") {
		t.Errorf("a read ends with %d and says: %s", status, stderr)
	}
	d.told("OK\n", "set", "k", "again")
	d.told("again\n", "get", "k")
}

func TestConflictsShowsEveryConcurrentValueAndSetSettlesIt(t *testing.T) {
	dir := t.TempDir()
	a := run(t, filepath.Join(dir, "a"), "--cut-file", filepath.Join(dir, "cut-a"))
	b := run(t, filepath.Join(dir, "b"), "--cluster-key", filepath.Join(dir, "a", "cluster.key"),
		"--join", a.gossip,
		"--cut-file", filepath.Join(dir, "cut-b"))
	wait := []string{"wait", "--http", a.http, "--http", b.http}
	mustPeerd(t, "set", "first", "x", "--http", a.http)
	mustPeerd(t, wait...)
	write(t, filepath.Join(dir, "cut-a"), b.gossip+"\n")
	write(t, filepath.Join(dir, "cut-b"), a.gossip+"\n")
	a.stderr.waitFor(t, "link closed", a.ended)
	b.stderr.waitFor(t, "link closed", b.ended)
	a.told("OK\n", "set", "k", "one")
	b.told("OK\n", "set", "k", "two")
	mustPeerd(t, "tx", `[{"op": "set.add", "path": ["other"], "elements": ["x"]}]`, "--http", a.http)
	b.told("OK\n", "set", "other", "y")
	write(t, filepath.Join(dir, "cut-a"), "")
	write(t, filepath.Join(dir, "cut-b"), "")
	mustPeerd(t, wait...)
	shown := mustPeerd(t, "get", "k", "--conflicts", "--http", a.http)
	if shown != "string\tone\nstring\ttwo\n" && shown != "string\ttwo\nstring\tone\n" {
		t.Errorf("--conflicts shows %q", shown)
	}
	a.told("set\tx\nstring\ty\n", "get", "other", "--conflicts")
	a.told("OK\n", "set", "k", "three")
	a.told("string\tthree\n", "get", "k", "--conflicts")
}

func TestAWatchPrintsKeysAsTheyChangeAndGoesOnAfterItsToken(t *testing.T) {
	d := run(t, t.TempDir())
	mustPeerd(t, "set", "user:0", "x", "--http", d.http)
	w := begin(t, "watch", "user:", "--json", "--http", d.http)
	w.stdout.waitFor(t, `"event":"open"`, w.ended)
	mustPeerd(t, "set", "user:\x1b[1m", "x", "--http", d.http)
	w.stdout.waitFor(t, `"event":"change"`, w.ended)
	if status := w.end(); status != exitOK || w.stderr.String() != "" {
		t.Errorf("Ctrl-C ended the watch with %d: %s", status, w.stderr)
	}
	var open struct{ Token string }
	if err := json.NewDecoder(strings.NewReader(w.stdout.String())).Decode(&open); err != nil {
		t.Fatal(err)
	}
	again := begin(t, "watch", "--since", open.Token, "--http", d.http)
	again.stdout.waitFor(t, "\"user:\\x1b[1m\"\n", again.ended)
	d.end()
	<-again.ended
	if again.status != exitFailure || !strings.Contains(again.stderr.String(), "ended the watch: "+
		"go on with --since ") {
		t.Errorf("the end of the peer ended the watch with %d: %s", again.status, again.stderr)
	}
}

func TestAWatchThatEndsWithAProblemSaysHowToGoOn(t *testing.T) {
	w := watching{dataClient: &dataClient{addr: "h:1", flags: &dataFlags{}}, out: io.Discard}
	err := w.follow(strings.NewReader("event: open\ndata: {\"keys\":[]}\nid: ApLP\n\nevent: problem\ndata: {\"detail\":\"busy\"}\n\n"))
	if want := "h:1 ended the watch (busy): go on with --since ApLP"; err == nil || err.Error() != want {
		t.Errorf("it says %v, want %s", err, want)
	}
}

func TestAValueComesFromTheStandardInput(t *testing.T) {
	d := start(t, "--dir", t.TempDir()).serving(t)
	source, err := os.ReadFile("data_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a file":                string(source),
		"of control characters": strings.Repeat("\x00", crdt.MaxValue),
	} {
		root := rootCommand(newScreen(), newScreen())
		root.SetIn(strings.NewReader(want))
		root.SetArgs([]string{"set", "source", "-", "--http", d.http})
		if err := root.Execute(); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := mustPeerd(t, "get", "source", "--raw", "--http", d.http); got != want {
			t.Errorf("%s: the peer has %d bytes of %d", name, len(got), len(want))
		}
	}
}

func TestWritesThatCannotBeAreToldInOneLine(t *testing.T) {
	d := run(t, t.TempDir())
	d.told("OK\n", "set", "greeting", "hello")
	checkMistakes(t, t.TempDir(), []mistake{
		{"adding to a text", []string{"incr", "greeting", "--http", d.http}, 1,
			d.http + " refused to add to greeting: nothing was done, because of ops[0], string.add: " +
				"value is not an integer or out of range"},
		{"no JSON", []string{"tx", "{", "--http", d.http}, 2,
			"this is no JSON: {: docs/http.md has the forms of values and operations"},
		{"nothing to delete", []string{"del", "--http", d.http}, 2,
			"name the keys to delete, or --prefix (see peerd del --help)"},
	})
}

// TestKeysAreListedInTheOrderThatHelpNames, which is of the bytes but for what long ones have
// behind the first 128.
func TestKeysAreListedInTheOrderThatHelpNames(t *testing.T) {
	d := run(t, t.TempDir())
	long := strings.Repeat("k", 200)
	var keys []string
	for n := range 9 {
		keys = append(keys, long+strconv.Itoa(n), long+strings.Repeat(strconv.Itoa(n), 100), strconv.Itoa(n))
	}
	for _, key := range keys {
		d.ask("SET " + key + " v")
	}
	counts := func(key string) string {
		if len(key) > 256 {
			return key[:128]
		}
		return key
	}
	said := strings.Fields(mustPeerd(t, "keys", "--http", d.http))
	if !slices.IsSortedFunc(said, func(a, b string) int { return strings.Compare(counts(a), counts(b)) }) {
		t.Errorf("they are listed as %q", said)
	}
	slices.Sort(said)
	if slices.Sort(keys); !slices.Equal(said, keys) {
		t.Errorf("%q are listed, want %q", said, keys)
	}
}
