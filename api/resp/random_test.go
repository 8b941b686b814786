package resp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestEachElementIsDrawnAlike counts draws: of n equally likely elements one that is drawn less
// than half or more than twice as often as expected would be one time in 10^60.
func TestEachElementIsDrawnAlike(t *testing.T) {
	const n, draws = 20, 20_000
	names := func() []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprint(i))
		}
		return out
	}()
	for _, count := range []int{1, 5, -1, -7} {
		times := map[string]int{}
		total := 0
		for total < draws {
			drawn := draw(n, count, MaxReply, slices.Values(names))
			if want := max(count, -count); len(drawn) != want {
				t.Fatalf("count %d draws %d", count, len(drawn))
			}
			if sorted := slices.Sorted(slices.Values(drawn)); count > 0 && len(slices.Compact(sorted)) != count {
				t.Fatalf("count %d draws one twice: %q", count, drawn)
			}
			for _, name := range drawn {
				times[name]++
			}
			total += len(drawn)
		}
		for _, name := range names {
			if got := times[name]; got < total/n/2 || got > 2*total/n {
				t.Errorf("count %d: %s was drawn %d times of %d", count, name, got, total)
			}
		}
	}
	if drawn := draw(n, 3*n, MaxReply, slices.Values(names)); len(drawn) != n {
		t.Errorf("%d of %d drawn", len(drawn), n)
	}
	drawn := draw(n, n, 4, slices.Values(names))
	if held := len(strings.Join(drawn, "")); len(drawn) != n || held != 5 {
		t.Errorf("of %d there are %d bytes, want one more than 4", len(drawn), held)
	}
}

func TestScansWithinAKeyPassEachElementOnce(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	const n = 100
	for i := range n {
		p.ask(fmt.Sprintf("SADD s m%d", i))
		p.ask(fmt.Sprintf("HSET h m%d v%d", i, i))
	}
	p.send([]string{"SADD", "s", ""}, []string{"HSET", "h", "", "v"})
	p.reply()
	p.reply()
	for _, scan := range []struct {
		command, key string
		each         int // strings
	}{{"SSCAN", "s", 1}, {"HSCAN", "h", 2}} {
		seen := map[string]int{}
		cursor := "0"
		for round := 0; round == 0 || cursor != "0"; round++ {
			lines := strings.Split(strings.TrimSpace(p.ask(fmt.Sprintf("%s %s %s COUNT 7", scan.command, scan.key, cursor))), "\n")
			cursor, _ = strconv.Unquote(strings.TrimSpace(lines[1]))
			for i := 3; i < len(lines); i += scan.each {
				name, _ := strconv.Unquote(strings.TrimSpace(lines[i]))
				seen[name]++
				if want := strings.Replace(name, "m", "v", 1); scan.each == 2 && name != "" && !strings.Contains(lines[i+1], want) {
					t.Errorf("%s has %s beside %s", scan.command, lines[i+1], name)
				}
			}
		}
		if len(seen) != n+1 {
			t.Errorf("%s passes %d of %d", scan.command, len(seen), n+1)
		}
		for name, times := range seen {
			if times != 1 {
				t.Errorf("%s passes %q %d times", scan.command, name, times)
			}
		}
	}
}

func TestPoppingEmptiesALargeSet(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	const n = 3 * leastWindow
	add := []string{"SADD", "s"}
	for i := range n {
		add = append(add, fmt.Sprint(i))
	}
	p.send(add)
	p.reply()
	popped := map[string]bool{}
	for _, count := range []int{1, 10, leastWindow, n} {
		lines := strings.Split(strings.TrimSpace(p.ask(fmt.Sprintf("SPOP s %d", count))), "\n")
		for _, line := range lines[1:] {
			if popped[line] {
				t.Errorf("%s was popped twice", line)
			}
			popped[line] = true
		}
	}
	if len(popped) != n {
		t.Errorf("%d of %d were popped", len(popped), n)
	}
	if got := strings.TrimSpace(p.ask("EXISTS s")); got != ":0" {
		t.Errorf("the set is still there: %s", got)
	}
}

// TestRandomKeysAreFromAnywhere though one is empty.
func TestRandomKeysAreFromAnywhere(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	const n, draws = 2000, 1000
	set := []string{"MSET", "", "x"}
	for i := range n {
		set = append(set, fmt.Sprintf("key:%08d", i), "x")
	}
	p.send(set)
	p.reply()
	drawn := map[string]bool{}
	for range draws {
		drawn[p.ask("RANDOMKEY")] = true
	}
	if len(drawn) < draws/4 { // windows are of neighbours, and meet
		t.Errorf("%d draws gave %d keys of %d", draws, len(drawn), n)
	}
}

// TestLimitsOfCommandsAreSaid by name, and nothing is changed beyond them.
func TestLimitsOfCommandsAreSaid(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	for half := range 2 {
		add := []string{"SADD", fmt.Sprint("half", half)}
		for i := range embedded.MaxOps/2 + 1 {
			add = append(add, fmt.Sprint(half, ":", i))
		}
		p.send(add, slices.Concat([]string{"SADD", "both"}, add[2:]))
		p.reply()
		p.reply()
	}
	long := strings.Repeat("x", 1<<13)
	p.expect("SETBIT bits 100000000 1", ":0")
	month := "BITOP OR combined" + strings.Repeat(" bits", 30)
	p.send([]string{"SET", "long", long}, []string{"SADD", "few", "a", "b"})
	p.reply()
	p.reply()
	get := []string{"MGET"}
	for range MaxReply/len(long) + 1 {
		get = append(get, "long")
	}
	p.send(get)
	if got := p.reply(); !strings.HasPrefix(got, "-") || !strings.Contains(got, "MaxReply") {
		t.Errorf("MGET of %d strings: %.200s", len(get)-1, got)
	}
	for _, c := range []struct{ command, name string }{
		{"SUNIONSTORE few" + strings.Repeat(" half0", 9), "MaxLooks"},
		{"ZUNIONSTORE few 9" + strings.Repeat(" half0", 9), "MaxLooks"},
		{"SINTERSTORE few both" + strings.Repeat(" half0", 16), "MaxLooks"},
		{"ZINTERSTORE few 17 both" + strings.Repeat(" half0", 16), "MaxLooks"},
		{"SDIFFSTORE few half0" + strings.Repeat(" both", 16), "MaxLooks"},
		{"ZDIFFSTORE few 17 half0" + strings.Repeat(" both", 16), "MaxLooks"},
		{"BITOP OR few" + strings.Repeat(" bits", 100), "MaxLooks"},
		{"PFMERGE few" + strings.Repeat(" none", MaxLooks/hyllCells), "MaxLooks"},
		{"INCRBYFLOAT tiny 1e-100000", "float"},
		{"INCRBYFLOAT tiny 1p5", "float"},
		{"SUNIONSTORE few half0 half1", "MaxOps"},
		{"ZUNIONSTORE few 2 half0 half1", "MaxOps"},
		{"SINTERSTORE few both both", "MaxOps"},
		{"ZDIFFSTORE few 1 both", "MaxOps"},
		{"SRANDMEMBER few -2000000", "MaxRandom"},
		{"LCS long long", "MaxProduct"},
		{"SETRANGE long 16777216 x", "MaxValue"},
		{"SETRANGE long 9000000000000000000 x", "MaxValue"},
	} {
		if got := p.ask(c.command); !strings.HasPrefix(got, "-") || !strings.Contains(got, c.name) {
			t.Errorf("%s: %.200s", c.command, got)
		}
	}
	p.expect("SCARD few", ":2")
	p.expect("SADD few 0:7", ":1")
	for command, want := range map[string]string{ // they look at few, or make few, of many
		"SINTERSTORE made both few": ":1", "ZINTERSTORE made 3 both few both": ":1", "SDIFFSTORE made few both": ":2",
		"ZDIFFSTORE made 2 few both": ":2", "SDIFFSTORE made both half0 half1": ":0", "SUNIONSTORE made few half0": ":65539",
		month: ":12500001", "PFMERGE merged" + strings.Repeat(" none", 1000): "+OK",
	} {
		p.expect(command, want)
	}
	combine := strings.Fields(month)
	p.send([]string{"MULTI"}, combine, combine, combine, []string{"EXEC"})
	for range 4 {
		p.reply()
	}
	p.expectReply(fmt.Sprint("-ERR ", errTooMuchWork))
	if got := p.ask("STRLEN long"); got != fmt.Sprintf(":%d", len(long)) {
		t.Errorf("long has %s", got)
	}
}
