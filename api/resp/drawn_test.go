package resp

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// replyTo returns the string that a command is answered with.
func replyTo(t *testing.T, p *peer, command string) string {
	t.Helper()
	text, err := strconv.Unquote(strings.TrimSpace(p.ask(command)))
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return text
}

func addNumbers(p *peer, command, key, prefix string, n int) {
	for i := 0; i < n; i += 100 {
		add := []string{command, key}
		for j := i; j < min(n, i+100); j++ {
			add = append(add, fmt.Sprint(prefix, j))
			if command == "HSET" {
				add = append(add, "v")
			}
		}
		p.send(add)
		p.reply()
	}
}

// TestWhatWasDrawnBeforeIsLookedAtAgain: a name that an earlier command drew and left is not given
// once it is gone, nor in another database.
func TestWhatWasDrawnBeforeIsLookedAtAgain(t *testing.T) { eachWay(t, testWhatWasDrawnBefore) }

func testWhatWasDrawnBefore(t *testing.T) {
	const n = 4 * leastWindow
	for _, draw := range []string{"SPOP k", "SRANDMEMBER k", "HRANDFIELD k", "EVAL script"} {
		_, address := startServer(t, Config{db: newMemory(t)})
		p := dial(t, address)
		add, remove := "SADD", "SREM"
		if strings.HasPrefix(draw, "H") {
			add, remove = "HSET", "HDEL"
		}
		ask := func() string {
			if draw != "EVAL script" {
				return replyTo(t, p, draw)
			}
			p.send([]string{"EVAL", "return redis.call('spop', KEYS[1])", "1", "k"})
			text, _ := strconv.Unquote(strings.TrimSpace(p.reply()))
			return text
		}
		addNumbers(p, add, "k", "old", n)
		ask()
		// As many others are there now: how many there are does not tell.
		addNumbers(p, add, "k", "new", n)
		for i := range n {
			p.ask(fmt.Sprintf("%s k old%d", remove, i))
		}
		for range n / 2 {
			if got := ask(); !strings.HasPrefix(got, "new") {
				t.Fatalf("%s gives %q, which was removed", draw, got)
			}
		}
	}
}

// TestEachDatabaseHasItsDraws as two keys of one name have nothing to do with each other.
func TestEachDatabaseHasItsDraws(t *testing.T) {
	_, ask := withSpaces(t)
	ask("SADD k a b\r\nSELECT 1\r\nSADD k c d\r\n", ":2\r\n+OK\r\n:2\r\n")
	ask("SPOP k 0\r\nSREM k d\r\nSPOP k\r\n", "*0\r\n:1\r\n$1\r\nc\r\n")
	ask("SPOP k\r\nSELECT 0\r\nSREM k b\r\nSPOP k\r\n", "$-1\r\n+OK\r\n:1\r\n$1\r\na\r\n")
}

// TestManyClientsPopEachMemberOnce while others add and remove.
func TestManyClientsPopEachMemberOnce(t *testing.T) { eachWay(t, testManyPop) }

func testManyPop(t *testing.T) {
	const n, clients = 2000, 4
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	addNumbers(p, "SADD", "s", "", n)
	popped := make(chan []string)
	for i := range clients {
		p := dial(t, address)
		go func() {
			var mine []string
			for j := range n / clients {
				if j%10 == 0 {
					p.send([]string{"SREM", "s", fmt.Sprint(j + i)})
					if p.reply() == ":1" {
						mine = append(mine, fmt.Sprint(j+i))
					}
					continue
				}
				p.send([]string{"SPOP", "s"})
				text, _ := strconv.Unquote(strings.TrimSpace(p.reply()))
				mine = append(mine, text)
			}
			popped <- mine
		}()
	}
	seen := map[string]bool{}
	for range clients {
		for _, name := range <-popped {
			if seen[name] {
				t.Errorf("%s was given twice", name)
			}
			seen[name] = true
		}
	}
	if got, want := p.ask("SCARD s"), fmt.Sprint(":", n-len(seen)); got != want {
		t.Errorf("%d were taken of %d, and %s are left", len(seen), n, got)
	}
}

// TestManyDrawsReachAllOfALargeKey alike: each tenth of the names has its share.
func TestManyDrawsReachAllOfALargeKey(t *testing.T) {
	const n, draws = 1000, 5000
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	addNumbers(p, "SADD", "s", "", n)
	addNumbers(p, "HSET", "h", "", n)
	for _, command := range []string{"SRANDMEMBER s", "HRANDFIELD h"} {
		var tenths [10]int
		for range draws {
			i, err := strconv.Atoi(replyTo(t, p, command))
			if err != nil {
				t.Fatal(err)
			}
			tenths[10*i/n]++
		}
		for i, count := range tenths { // 500 are expected, with a deviation of 21
			if count < 350 || count > 650 {
				t.Errorf("%s gives the tenth %d %d times of %d", command, i, count, draws)
			}
		}
	}
}

// TestANewMemberIsDrawnOfAFew although others were drawn before it came.
func TestANewMemberIsDrawnOfAFew(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	times := map[string]int{}
	const rounds = 400
	for range rounds {
		p.ask("SADD s a b c d")
		p.ask("SPOP s")
		p.ask("SADD s x")
		times[replyTo(t, p, "SPOP s")]++
		p.ask("DEL s")
	}
	if times["x"] < rounds/10 || times["x"] > rounds/2 { // a quarter is expected
		t.Errorf("of four members the new one was popped %d times of %d", times["x"], rounds)
	}
}

// TestALargeSetIsPoppedWhole, by so many draws in a row that those follow each other.
func TestALargeSetIsPoppedWhole(t *testing.T) {
	const windows = drainedBy + 3
	const n, each = windows * mostPassed, leastWindow - 1
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	for from := 0; from < n; from += mostPassed {
		line := []string{"SADD", "s"}
		for i := range mostPassed {
			line = append(line, strconv.Itoa(from+i))
		}
		p.send(line)
		if got, want := p.reply(), fmt.Sprint(":", mostPassed); got != want {
			t.Fatalf("SADD answers %s, want %s", got, want)
		}
	}
	seen := map[string]bool{}
	for len(seen) < n {
		before := len(seen)
		for _, line := range strings.Split(p.ask(fmt.Sprintf("SPOP s %d", each)), "\n")[1:] {
			seen[strings.Trim(line, ` "`)] = true
		}
		if got := min(n-before, each); len(seen) != before+got {
			t.Fatalf("after %d of %d members %d came that were not there before, want %d", before, n, len(seen)-before, got)
		}
	}
	if got := p.ask("EXISTS s"); got != ":0" {
		t.Errorf("after all members were popped EXISTS is %s", got)
	}
}

func TestWhatIsKeptOfDrawsIsBounded(t *testing.T) {
	var kept keptDraws
	long := strings.Repeat("x", mostDrawnBytes/4)
	for i := range 2 * mostDraws {
		kept.keep(drawSource{key: fmt.Sprint(i)}, []string{long, long, long, long, long}, 5, 0, "")
	}
	names := 0
	for i := range 2 * mostDraws {
		for range 5 {
			if _, ok := kept.take(drawSource{key: fmt.Sprint(i)}, 5, false); ok {
				names++
			}
		}
	}
	if names != 3*mostDraws { // a key has some bytes too
		t.Errorf("%d names are kept of %d keys", names, 2*mostDraws)
	}
}
