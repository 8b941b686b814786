package resp

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	suite = flag.String("suite", "", "the unpacked source of Redis 7.0, whose own tests TestRedisSuite runs: see suite.sh")
	units = flag.String("units", strings.Join(suiteUnits, ","), "units of them, in a list with commas")
	peerd = flag.String("peerd", "", "the program with whose daemons it does")
)

// suiteUnits are those that are run if nobody asks for others.
var suiteUnits = []string{
	"unit/protocol", "unit/type/string", "unit/type/incr", "unit/keyspace", "unit/scan", "unit/expire", "unit/type/hash",
	"unit/type/set", "unit/type/zset", "unit/type/list", "unit/type/list-2", "unit/type/list-3", "unit/bitops",
	"unit/bitfield", "unit/hyperloglog", "unit/geo", "unit/sort", "unit/type/stream", "unit/type/stream-cgroups",
	"unit/multi", "unit/pubsub", "unit/scripting", "unit/auth", "unit/introspection", "unit/introspection-2",
	"unit/querybuf", "unit/quit", "unit/other",
}

// differences is the page on which every test stands that fails, with its reason.
const differences = "../../docs/redis-differences.md"

// suiteTags leave out what needs commands that only Redis can have: DEBUG, a replica, a file of its
// own.
const suiteTags = "-needs:debug -needs:repl -needs:save"

// TestRedisSuite runs Redis' own tests. What fails stands in docs/redis-differences.md, and what
// stands there fails.
func TestRedisSuite(t *testing.T) {
	if *suite == "" || *peerd == "" {
		t.Skip("needs -suite and -peerd: see suite.sh")
	}
	page, err := os.ReadFile(differences)
	if err != nil {
		t.Fatal(err)
	}
	listed := listedDifferences(string(page))
	passed := 0
	for _, unit := range strings.Split(*units, ",") {
		t.Run(unit, func(t *testing.T) {
			n, failed := runUnit(t, unit, listed[unit].left)
			passed += n
			ran, left := n+len(failed) > 0, listed[unit].all
			if ran == left {
				t.Errorf("tests of it run: %v; that none does stands in %s: %v", ran, differences, left)
			}
			t.Logf("%d passed, %d failed, %d left out", n, len(failed), len(listed[unit].left))
			for _, name := range slices.Sorted(maps.Keys(failed)) {
				if !listed[unit].fail[name] {
					t.Errorf("%q fails, and does not stand in %s:\n%s", name, differences, failed[name])
				}
			}
			for _, name := range slices.Sorted(maps.Keys(listed[unit].fail)) {
				if _, ok := failed[name]; !ok {
					t.Errorf("%q stands in %s, and does not fail", name, differences)
				}
			}
		})
	}
	t.Logf("%d tests of Redis pass", passed)
}

// unitDifferences is what stands on the page of a unit.
type unitDifferences struct {
	fail map[string]bool
	left []string // out, as they would end the unit or never end
	all  bool     // of them are not run
}

var differenceLine = regexp.MustCompile("^\\| `(.*)` \\| (fails|left out|not run) \\| ..* \\|$")

// listedDifferences reads the page: a heading for each unit, and a table of tests.
func listedDifferences(page string) map[string]unitDifferences {
	all := map[string]unitDifferences{}
	unit := ""
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "## "); ok {
			unit = name
			all[unit] = unitDifferences{fail: map[string]bool{}}
		}
		m := differenceLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name, d := strings.ReplaceAll(m[1], `\|`, "|"), all[unit]
		switch m[2] {
		case "fails":
			d.fail[name] = true
		case "left out":
			d.left = append(d.left, name)
		default:
			d.all = true
		}
		all[unit] = d
	}
	return all
}

var (
	colours   = regexp.MustCompile("\x1b\\[[0-9;]*m")
	suiteOK   = regexp.MustCompile(`(?m)^\[ok\]: `)
	suiteFail = regexp.MustCompile(`^\[err\]: (.*) in tests/unit/\S+\.tcl$`)
)

// startDaemon starts a daemon that listens for Redis clients at the address it returns.
func startDaemon(t *testing.T) (address string) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = free.Addr().String()
	free.Close()
	said := &bytes.Buffer{}
	daemon := exec.Command(*peerd, "run", "--dir", t.TempDir(), "--resp", address,
		"--gossip", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--http", "127.0.0.1:0")
	daemon.Stdout, daemon.Stderr = said, said
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if t.Failed() {
			t.Logf("the daemon said:\n%s", said.Bytes()[max(0, said.Len()-4000):])
		}
	})
	eventually(t, "the daemon serves", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return address
}

// runUnit runs a unit against a daemon of its own, and returns how many of its tests passed and
// what was said of those that failed.
func runUnit(t *testing.T, unit string, leave []string) (passed int, failed map[string]string) {
	host, port, _ := net.SplitHostPort(startDaemon(t))
	args := []string{"tests/test_helper.tcl", "--host", host, "--port", port, "--singledb", "--ignore-encoding",
		"--ignore-digest", "--durable", "--tags", suiteTags, "--single", unit}
	if len(leave) > 0 {
		file := filepath.Join(t.TempDir(), "left")
		if err := os.WriteFile(file, []byte(strings.Join(leave, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--skipfile", file)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	tcl := exec.CommandContext(ctx, "tclsh", args...)
	tcl.Dir = *suite
	out, err := tcl.CombinedOutput() // an error, as soon as one of its tests fails
	out = colours.ReplaceAll(out, nil)
	if !bytes.Contains(out, []byte(" done]: "+unit)) {
		t.Errorf("the unit did not end: %v\n%s", err, out[max(0, len(out)-4000):])
	}
	failed = map[string]string{}
	name := ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if m := suiteFail.FindStringSubmatch(line); m != nil {
			name = m[1]
			failed[name] = ""
		} else if strings.HasPrefix(line, "[") {
			name = ""
		} else if name != "" && len(failed[name]) < 400 {
			failed[name] += fmt.Sprintf("    %s\n", line)
		}
	}
	return len(suiteOK.FindAll(out, -1)), failed
}
