package resp

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// TestReadersOfStreamsWait: XREAD and XREADGROUP with BLOCK are answered by what is written
// meanwhile.
func TestReadersOfStreamsWait(t *testing.T) {
	for _, c := range []struct{ waits, did, want string }{
		{"XREAD BLOCK 0 STREAMS s $", "XADD s 2-1 f v", "*2 s *1 *2 2-1 *2 f v"},
		{"XREAD COUNT 1 BLOCK 0 STREAMS none s 0 1-1", "XADD s 2-1 f v", "*2 s *1 *2 2-1 *2 f v"},
		{"XREAD BLOCK 0 STREAMS other s 5-0 $", "XADD other 6-0 f v", "*2 other *1 *2 6-0 *2 f v"},
		{"XREADGROUP GROUP g ann BLOCK 0 STREAMS s >", "XADD s 2-1 f v", "*2 s *1 *2 2-1 *2 f v"},
		{"XREADGROUP GROUP g ann BLOCK 0 STREAMS s >", "XGROUP DESTROY s g",
			"-NOGROUP the consumer group this client was blocked on no longer exists"},
		{"XREADGROUP GROUP g ann BLOCK 0 STREAMS s >", "DEL s", "-UNBLOCKED the stream key no longer exists"},
		{"XREADGROUP GROUP g ann BLOCK 0 STREAMS s >", "SET s x", "-UNBLOCKED the stream key no longer exists"},
	} {
		server, address := startServer(t, Config{db: newMemory(t)})
		reader, writer := dial(t, address), dial(t, address)
		writer.ask("XADD s 1-1 f v")
		writer.ask("XGROUP CREATE s g $")
		reader.send(strings.Fields(c.waits))
		untilWaiting(t, server, 1)
		if got := writer.ask(c.did); strings.HasPrefix(got, "-") {
			t.Fatalf("%s: %s", c.did, got)
		}
		if got := strings.TrimSpace(values(reader.reply())); got != c.want {
			t.Errorf("%s; %s: %q, want %q", c.waits, c.did, got, c.want)
		}
	}
}

// TestAGroupIsGivenWhatArrivesLate: an entry of a peer that was cut off has a smaller id than those
// that were delivered meanwhile, and is delivered all the same, once. XREAD behind the greatest id
// passes it.
func TestAGroupIsGivenWhatArrivesLate(t *testing.T) {
	h := newHosts(t, 2)
	here, there := h.clients[0], h.clients[1]
	here.ask("XGROUP CREATE s g $ MKSTREAM")
	h.heal()
	h.cut()
	there.expect("XADD s 5-0 of there", `"5-0"`)
	here.expect("XADD s 7-0 of here", `"7-0"`)
	const read = "XREADGROUP GROUP g ann STREAMS s >"
	if got := values(here.ask(read)); got != "*2 s *1 *2 7-0 *2 of here" {
		t.Fatalf("given before: %s", got)
	}
	h.heal()
	here.expect("XREAD STREAMS s 7-0", "*-1")
	h.heal()
	if got := values(here.ask(read)); got != "*2 s *1 *2 5-0 *2 of there" {
		t.Errorf("given then: %s", got)
	}
	here.expect(read, "*-1")
	h.heal()
	if got := values(there.ask("XPENDING s g")); got != "2 5-0 7-0 *1 *2 ann 2" {
		t.Errorf("pending there: %s", got)
	}
	there.expect("XACK s g 5-0 7-0", ":2")
	there.expect(read, "*-1")
}

// TestEntriesOfOneIDAreGivenTogether, also when they are given again: they are acknowledged together.
func TestEntriesOfOneIDAreGivenTogether(t *testing.T) {
	h := newHosts(t, 2)
	here, there := h.clients[0], h.clients[1]
	here.ask("XGROUP CREATE s g $ MKSTREAM")
	h.heal()
	h.cut()
	here.expect("XADD s 2-0 of here", `"2-0"`)
	there.expect("XADD s 2-0 of there", `"2-0"`)
	h.heal()
	for _, command := range []string{
		"XREADGROUP GROUP g ann STREAMS s >", "XREADGROUP GROUP g ann STREAMS s 0", "XREADGROUP GROUP g ann COUNT 1 STREAMS s 0",
		"XCLAIM s g bob 0 2-0", "XAUTOCLAIM s g cid 0 -",
	} {
		if got := values(here.ask(command)); strings.Count(got, "of here") != 1 || strings.Count(got, "of there") != 1 {
			t.Errorf("%s: %s", command, got)
		}
	}
	here.expect("XCLAIM s g ann 0 2-0 JUSTID", "*1\n  \"2-0\"")
}

// TestXReadReturnsAllHoweverMuch: few entries in the loop, many apart, and in MULTI.
func TestXReadReturnsAllHoweverMuch(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		_, address := startServer(t, Config{db: newMemory(t)})
		p := dial(t, address)
		p.send([]string{"EVAL", "for i = 1, 1000 do redis.call('xadd', KEYS[1], i .. '-1', 'f', 'v') end", "1", "s"})
		p.reply()
		large := strings.Repeat("x", 2*maxQuickBytes)
		for i := range 3 {
			p.send([]string{"XADD", "large", fmt.Sprintf("%d-1", i+1), "f", large})
			p.reply()
		}
		p.ask("MULTI")
		p.ask("XREAD STREAMS s 0")
		p.ask("XREAD STREAMS large 0")
		for command, want := range map[string]int{
			"XREAD COUNT 256 STREAMS s 0": 256, "XREAD COUNT 257 STREAMS s 0": 257, "XREAD STREAMS s 0": 1000,
			"XREAD STREAMS s 900": 101, "XREAD STREAMS large 0": 3, "XREAD STREAMS large s 1 998": 6,
		} {
			if got := strings.Count(dial(t, address).ask(command), `-1"`); got != want {
				t.Errorf("%s returns %d entries, want %d", command, got, want)
			}
		}
		if got := strings.Count(p.ask("EXEC"), `-1"`); got != 1003 {
			t.Errorf("EXEC returns %d entries", got)
		}
	})
}

// fillStream adds entries with the ids 1-1 to n-1.
func fillStream(p *peer, key string, n int) {
	p.t.Helper()
	const add = "for i = ARGV[1], ARGV[2] do redis.call('xadd', KEYS[1], i .. '-1', 'f', 'v') end"
	for from := 1; from <= n; from += 20_000 {
		p.send([]string{"EVAL", add, "1", key, fmt.Sprint(from), fmt.Sprint(min(n, from+19_999))})
		p.reply()
	}
	p.expect("XLEN "+key, fmt.Sprint(":", n))
}

// addGroups adds entries with the ids 1-0 to n-0, and two groups of them: all are pending in g, for a, and
// none was delivered to new.
func addGroups(tx *embedded.Tx, key string, n int, value string) error {
	s := tx.Stream(key)
	var errs []error
	for i := range n {
		errs = append(errs, s.AddAs(crdt.StreamID{Ms: uint64(i + 1)}, "f", value))
	}
	for _, group := range []string{"g", "new"} {
		_, err := s.Group(group).Create(crdt.GroupInfo{})
		errs = append(errs, err)
	}
	_, err := s.Group("g").Read("a", tx.Now(), 0, false)
	return errors.Join(append(errs, err)...)
}

// TestTrimmingMoreThanOneXAddRemoves: what others added while they were cut off may be more than
// one removes. None is refused, nor a MULTI of many.
func TestTrimmingMoreThanOneXAddRemoves(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	const n = 35_000
	fillStream(p, "s", n)
	p.expect("XADD s MAXLEN 5 100000-1 f v", `"100000-1"`)
	p.expect("XLEN s", fmt.Sprint(":", n+1-MaxTrimmed))
	p.expect("XADD s MINID 90000 100001-1 f v", `"100001-1"`)
	p.expect("XLEN s", fmt.Sprint(":", n+2-2*MaxTrimmed))
	p.expect("MULTI", "+OK")
	for i := range 20 {
		p.expect(fmt.Sprintf("XADD s MAXLEN 5 %d-1 f v", 100002+i), "+QUEUED")
	}
	if got := p.ask("EXEC"); strings.Count(got, `-1"`) != 20 {
		t.Errorf("EXEC: %s", got)
	}
	p.expect("XLEN s", fmt.Sprint(":", n+22-3*MaxTrimmed-19))
	p.expect("XADD s MAXLEN 5 100100-1 f v", `"100100-1"`)
	p.expect("XLEN s", ":5")
}

// TestTrimmingMoreThanATransactionHas is refused with the limit named, and can be done in parts.
func TestTrimmingMoreThanATransactionHas(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	const n = embedded.MaxOps/2 + 10
	fillStream(p, "s", n)
	const refused = "-ERR more than 65536 entries to remove (half of MaxOps): use ~ with a LIMIT, again and again"
	p.expect("XTRIM s MAXLEN 5", refused)
	p.expect("XTRIM s MINID 65545", refused)
	p.expect("XTRIM s MAXLEN 0", refused)
	p.expect("XTRIM s MAXLEN ~ 0 LIMIT 1000", ":1000")
	p.expect("XTRIM s MAXLEN 0", fmt.Sprint(":", n-1000))
	p.expect("XLEN s", ":0")
}

// TestTrimmingByIDAboutRemovesWholeNodes, as Redis does, however many and however large they are, also
// from the loop.
func TestTrimmingByIDAboutRemovesWholeNodes(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		for _, c := range []struct {
			node, n  int
			trim     string
			left     int
			add      string // and then
			leftThen int
		}{
			{100, 5000, "XTRIM s MINID ~ 4000-1", 1100, "XADD s MINID ~ 4950-1 9000-1 f v", 101},
			{1000, 5000, "XTRIM s MINID ~ 4000-1", 2000, "XADD s MINID ~ 4002-1 9000-1 f v", 1001},
			{9_000, 18_000, "XTRIM s MINID ~ 9000-1", 18_000, "XADD s MINID ~ 9001-1 90000-1 f v", 9_001},
			{100, 5000, "XTRIM s MINID ~ 4000-1 LIMIT 250", 4800, "XADD s MINID ~ 4000-1 LIMIT 1000 9000-1 f v", 3801},
			{100, 5000, "XTRIM s MINID 250-1", 4751, "XADD s MINID ~ 350-1 9000-1 f v", 4701},
			{100, 250, "XTRIM s MINID ~ 1000-1", 0, "XADD s MINID ~ 1000-1 9000-1 f v", 1},
		} {
			_, address := startServer(t, Config{db: newMemory(t)})
			p := dial(t, address)
			p.expect(fmt.Sprint("CONFIG SET stream-node-max-entries ", c.node), "+OK")
			fillStream(p, "s", c.n)
			p.expect(c.trim, fmt.Sprint(":", c.n-c.left))
			if got := p.ask(c.add); !strings.HasSuffix(got, `000-1"`) {
				t.Errorf("%s: %s", c.add, got)
			}
			if got, want := p.ask("XLEN s"), fmt.Sprint(":", c.leftThen); got != want {
				t.Errorf("after %s, and %s: %s are left, want %s", c.trim, c.add, got, want)
			}
		}
	})
}

// TestALongHistoryComesInParts: a consumer that has much pending asks for the rest behind the last id.
func TestALongHistoryComesInParts(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	const n, size = 10, 3_000_000
	for i := range n {
		p.send([]string{"XADD", "s", fmt.Sprint(i+1, "-1"), "f", strings.Repeat("v", size)})
		p.reply()
	}
	p.expect("XGROUP CREATE s g 0", "+OK")
	for range n {
		p.ask("XREADGROUP GROUP g c COUNT 1 STREAMS s >")
	}
	parts, last := 0, 0
	for ; last < n && parts < n; parts++ {
		got := p.ask(fmt.Sprintf("XREADGROUP GROUP g c STREAMS s %d-1", last))
		if strings.HasPrefix(got, "-") {
			t.Fatal(got)
		}
		if len(got) > 8<<20+2*size {
			t.Fatalf("%d bytes at once", len(got))
		}
		last += strings.Count(got, "-1\"")
	}
	if last != n || parts < 3 {
		t.Errorf("%d entries in %d parts, want %d", last, parts, n)
	}
}

// TestWhatIsClaimedAtOnceIsBounded: XAUTOCLAIM goes on where it has ended, and XCLAIM of what is longer than
// a reply may be changes nothing.
func TestWhatIsClaimedAtOnceIsBounded(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		_, address := startServer(t, Config{db: newMemory(t)})
		p := dial(t, address)
		const n, size = 3, 5_000_000
		p.expect("XGROUP CREATE s g 0 MKSTREAM", "+OK")
		for i := range n {
			p.send([]string{"XADD", "s", fmt.Sprint(i+1, "-0"), "f", strings.Repeat("v", size)})
			p.reply()
		}
		for range n {
			p.ask("XREADGROUP GROUP g ann COUNT 1 STREAMS s >")
		}
		got := p.ask("XCLAIM s g bob 0 " + strings.Repeat(" 1-0", MaxReply/size+1))
		if !strings.Contains(got[:min(len(got), 200)], "MaxReply") {
			t.Errorf("claimed %d bytes: %.200s", len(got), got)
		}
		if got := values(p.ask("XPENDING s g")); !strings.HasSuffix(got, "ann 3") {
			t.Errorf("pending after it: %s", got)
		}
		for next, want := range map[string]string{"0-0": "3-0", "3-0": "0-0"} {
			got := p.ask("XAUTOCLAIM s g bob 0 " + next)
			if fields := strings.Fields(got); fields[1] != strconv.Quote(want) || len(got) > crdt.MaxDelivery+size {
				t.Errorf("from %s %d bytes, to be gone on with from %s, want %s", next, len(got), fields[1], want)
			}
		}
		if got := values(p.ask("XPENDING s g")); !strings.HasSuffix(got, "bob 3") {
			t.Errorf("pending then: %s", got)
		}
	})
}

// TestTheWorkOfAGroupIsWhatItHolds: a MULTI that writes may look at groups of a long stream again and again.
func TestTheWorkOfAGroupIsWhatItHolds(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		_, address := startServer(t, Config{db: newMemory(t)})
		p := dial(t, address)
		const n = 3000
		fillStream(p, "s", n)
		p.ask("XGROUP CREATE s g 0")
		for _, refused := range []bool{false, true} {
			for _, command := range []string{"XPENDING s g", "XINFO CONSUMERS s g", "XINFO GROUPS s", "XINFO STREAM s"} {
				commands := slices.Repeat([][]string{strings.Fields(command)}, MaxWork/n*3/2)
				p.send(append(append([][]string{{"MULTI"}, {"INCR", "n"}}, commands...), []string{"EXEC"})...)
				for range len(commands) + 2 {
					p.reply()
				}
				if got := p.reply(); strings.HasPrefix(got, "-") != refused {
					t.Errorf("%s again and again, with much pending %v: %.100s", command, refused, got)
				}
			}
			p.ask("XREADGROUP GROUP g ann STREAMS s >")
		}
	})
}

// TestWhatAStreamHoldsIsCountedNoFurtherThanMatters: others wait for it.
func TestWhatAStreamHoldsIsCountedNoFurtherThanMatters(t *testing.T) {
	db := newMemory(t)
	const n = 2 * quickWork
	err := db.Update(t.Context(), func(tx *embedded.Tx) error { return addGroups(tx, "s", n, "v") })
	if err != nil {
		t.Fatal(err)
	}
	err = db.Peer.View(t.Context(), func(tx *embedded.Tx) error {
		for most, want := range map[int]int{10: n, n + 100: n + 100, 10 * n: 2 * n} {
			if got := countParts(tx, "s", most); got < want || got > want+10 {
				t.Errorf("%d parts are counted of those up to %d, want %d", got, most, want)
			}
		}
		if allocs := testing.AllocsPerRun(1, func() { countParts(tx, "s", n) }); allocs > n/10 {
			t.Errorf("%v allocations", allocs)
		}
		own := &call{tx: tx, args: bytes.Fields([]byte("XREADGROUP GROUP g a COUNT 3 STREAMS s 0"))}
		if work := workOfHistories(own, nil); work != 3 {
			t.Errorf("the work of three entries is %d", work)
		}
		for _, line := range []string{"XPENDING s g", "XINFO CONSUMERS s g", "XINFO GROUPS s", "XGROUP DELCONSUMER s g a",
			"XAUTOCLAIM s g b 0 - COUNT 1000", "XREADGROUP GROUP g a STREAMS s s 0 >"} {
			var args [][]byte
			for _, word := range strings.Fields(line) {
				args = append(args, []byte(word))
			}
			cmd, err := resolve(args)
			if err != nil {
				return err
			}
			c := &call{tx: tx, args: args, looped: true}
			if work := c.work(cmd); work <= quickWork || work > quickWork+10 {
				t.Errorf("the work of %s is %d, want little more than %d", line, work, quickWork)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestIdleTimesOfStreamsAreOfTheClockByWhichKeysExpire: not this host's, which may be wrong.
func TestIdleTimesOfStreamsAreOfTheClockByWhichKeysExpire(t *testing.T) {
	db := newMemory(t)
	_, address := startServer(t, Config{db: db})
	inAnHour := func() time.Time { return time.Now().Add(time.Hour) }
	_, ahead := startServer(t, Config{db: db, clock: inAnHour})
	right, wrong := dial(t, address), dial(t, ahead)
	right.expect("XADD s 1-1 f v", `"1-1"`)
	right.expect("XGROUP CREATE s g 0", "+OK")
	if got := values(right.ask("XREADGROUP GROUP g ann STREAMS s >")); got != "*2 s *1 *2 1-1 *2 f v" {
		t.Fatal(got)
	}
	if got := values(wrong.ask("XAUTOCLAIM s g bob 600000 -")); got != "0-0 *0 *0" {
		t.Errorf("claimed of what was delivered just now: %s", got)
	}
	wrong.expect("XCLAIM s g bob 600000 1-1", "*0")
	wrong.expect("XPENDING s g IDLE 600000 - + 10", "*0")
	short := regexp.MustCompile(`(idle|bob) \d{1,5}( 1)?$`) // of a minute at most
	if got := values(wrong.ask("XINFO CONSUMERS s g")); !short.MatchString(got) {
		t.Errorf("the consumer was idle: %s", got)
	}
	latest := strconv.Quote(fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
	if got := wrong.ask("XADD s * f v"); got > latest {
		t.Errorf("an id of the wrong clock: %s", got)
	}
	if got := values(wrong.ask("XREADGROUP GROUP g bob STREAMS s >")); !strings.HasSuffix(got, "f v") {
		t.Fatal(got)
	}
	if got := values(right.ask("XPENDING s g - + 10 bob")); !short.MatchString(got) {
		t.Errorf("pending of bob: %s", got)
	}
	if got := values(right.ask("XAUTOCLAIM s g ann 0 - COUNT 1")); !strings.Contains(got, "1-1") {
		t.Errorf("claimed with no time: %s", got)
	}
}

// TestTheHistoryOfAConsumerIsBounded in what is looked at and in what is given at once: other
// writers wait for it.
func TestTheHistoryOfAConsumerIsBounded(t *testing.T) {
	looks := 0
	pending := func(yield func(crdt.Pending) bool) {
		for i := range 1000 {
			looks++
			p := crdt.Pending{ID: crdt.StreamID{Ms: uint64(i)}, Consumer: "ann"}
			if i >= 500 {
				p.Consumer = "bob"
			}
			if !yield(p) {
				return
			}
		}
	}
	for _, c := range []struct {
		consumer                  string
		most                      int64
		looks, wantOwn, wantLooks int
	}{{"ann", 10, 100, 10, 10}, {"ann", 1000, 1000, 500, 1000}, {"bob", 10, 100, 0, 101}, {"bob", 10, 600, 10, 510}} {
		looks = 0
		own, looked := (streamRead{consumer: c.consumer, count: c.most}).ownPending(pending, c.looks)
		if len(own) != c.wantOwn || looks != c.wantLooks || looked != looks {
			t.Errorf("%+v: %d, after %d looks: %v", c, len(own), looks, looked)
		}
	}
}

// TestAConsumerHasItsHistory also where more is pending than the loop looks at, and COUNT says how
// much at once.
func TestAConsumerHasItsHistory(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		_, address := startServer(t, Config{db: newMemory(t)})
		p := dial(t, address)
		fillStream(p, "s", 1000)
		p.ask("XGROUP CREATE s g 0")
		p.ask("XREADGROUP GROUP g ann COUNT 600 STREAMS s >")
		p.ask("XREADGROUP GROUP g bob STREAMS s >")
		for command, want := range map[string]int{
			"XREADGROUP GROUP g bob STREAMS s 0":         400,
			"XREADGROUP GROUP g bob COUNT 3 STREAMS s 0": 3,
			"XREADGROUP GROUP g ann STREAMS s 500-1":     100,
		} {
			if got := strings.Count(p.ask(command), `-1"`); got != want {
				t.Errorf("%s gives %d entries, want %d", command, got, want)
			}
		}
	})
}
