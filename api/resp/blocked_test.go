package resp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
	embedded "github.com/peerd/peerd/peer"
)

// tryTake takes a member of a set, for a command that waits for one: TAKE key [key ...] timeout.
func tryTake(c *call, key string) (bool, error) {
	for member := range c.tx.Set(key).All() {
		if _, err := c.tx.Set(key).Remove(member); err != nil {
			return false, err
		}
		c.out.array(2)
		c.out.text(key)
		c.out.text(member)
		return true, nil
	}
	return false, nil
}

func runTake(c *call) error {
	timeout, err := c.seconds(len(c.args) - 1)
	if err != nil {
		return err
	}
	var keys []string
	for i := range c.args[1 : len(c.args)-1] {
		keys = append(keys, c.arg(i+1))
		if done, err := tryTake(c, c.arg(i+1)); done || err != nil {
			return err
		}
	}
	return c.block(keys, timeout, attempt{try: tryTake, none: (*replies).null, takes: taking{typ: crdt.TypeSet}})
}

// tryPass moves a member of a set to another: PASS key other.
func tryPass(c *call, key string) (bool, error) {
	for member := range c.tx.Set(key).All() {
		if _, err := c.tx.Set(key).Remove(member); err != nil {
			return false, err
		}
		if _, err := c.tx.Set(c.arg(2)).Add(member); err != nil {
			return false, err
		}
		c.out.text(member)
		return true, nil
	}
	return false, nil
}

func runPass(c *call) error {
	if done, err := tryPass(c, c.arg(1)); done || err != nil {
		return err
	}
	return c.block([]string{c.arg(1)}, 0, attempt{try: tryPass, none: (*replies).null, takes: taking{typ: crdt.TypeSet}})
}

// runFail waits for a set, and fails then.
func runFail(c *call) error {
	return c.block([]string{c.arg(1)}, 0, attempt{none: (*replies).null, takes: taking{typ: crdt.TypeSet},
		try: func(c *call, key string) (bool, error) {
			if c.tx.Set(key).Len() > 0 {
				panic("as it must not")
			}
			return false, nil
		}})
}

// unreadable is a transaction of which nothing can be read.
type unreadable struct{ dotted.Tx }

var errUnreadable = errors.New("the disk is broken")

func (unreadable) Timed() bool { return false }

func (unreadable) Summary(string) (dotted.Summary, error) { return dotted.Summary{}, errUnreadable }

func (unreadable) Scan(_, _ dotted.Address, _ func(dotted.Address, dotted.Cell) bool) error {
	return errUnreadable
}

// runBroken waits for a set of a database that cannot be read.
func runBroken(c *call) error {
	engine.Bind(&c.tx.Fields, unreadable{})
	c.tx.Types("any")
	return c.block([]string{c.arg(1)}, 0, attempt{try: tryTake, none: (*replies).null, takes: taking{typ: crdt.TypeSet}})
}

// startWaiting serves a database with commands that wait.
func startWaiting(t *testing.T) (*memory, *Server, string) {
	commands["take"] = &command{name: "take", arity: -3, run: runTake, access: accessWrite}
	commands["pass"] = &command{name: "pass", arity: 3, run: runPass, access: accessWrite}
	commands["fail"] = &command{name: "fail", arity: 2, run: runFail, access: accessWrite}
	commands["broken"] = &command{name: "broken", arity: 2, run: runBroken, access: accessWrite}
	db := newMemory(t)
	s, address := startServer(t, Config{db: db})
	t.Cleanup(func() {
		s.Close()
		delete(commands, "broken")
		delete(commands, "take")
		delete(commands, "pass")
		delete(commands, "fail")
	})
	return db, s, address
}

// untilWaiting waits until so many commands wait for keys.
func untilWaiting(t *testing.T, s *Server, n int64) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " commands wait"), func() bool { return s.blockedCount() == n })
}

func taken(key, member string) string { return fmt.Sprintf("*2\n  %q\n  %q", key, member) }

func (p *peer) expectReply(want string) {
	p.t.Helper()
	if got := p.reply(); got != want {
		p.t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestACommandWaitsForKeys(t *testing.T) { eachWay(t, testACommandWaitsForKeys) }

func testACommandWaitsForKeys(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *memory, *Server, string){
		"what a client writes is taken before its reply": testTakenAtOnce,
		"in the order of arrival":                        testTakenInOrder,
		"what others write is told by a watch":           testTakenFromOthers,
		"its time is over":                               testWaitIsOver,
		"nothing waits within MULTI":                     testNothingWaitsInMulti,
		"CLIENT UNBLOCK and KILL":                        testWaitIsEnded,
		"a client that leaves takes nothing":             testWhoLeavesTakesNothing,
		"what it does may be what others wait for":       testChainOfWaiters,
		"later commands wait, those before are answered": testPipelineWaits,
		"a transaction that fails":                       testServingFails,
		"a read that fails":                              testReadingFails,
	} {
		t.Run(name, func(t *testing.T) {
			db, s, address := startWaiting(t)
			test(t, db, s, address)
			untilWaiting(t, s, 0)
		})
	}
}

func testTakenAtOnce(t *testing.T, _ *memory, s *Server, address string) {
	waits, writes := dial(t, address), dial(t, address)
	for range 100 {
		waits.send([]string{"TAKE", "a", "b", "0"})
		untilWaiting(t, s, 1)
		writes.expect("SADD b x", ":1")
		writes.expect("SCARD b", ":0")
		waits.expectReply(taken("b", "x"))
	}
	waits.send([]string{"TAKE", "a", "b", "0"})
	untilWaiting(t, s, 1)
	writes.send([]string{"MULTI"}, []string{"SADD", "b", "1"}, []string{"SADD", "a", "2"}, []string{"SCARD", "b"},
		[]string{"EXEC"}, []string{"SCARD", "b"})
	for _, want := range []string{"+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3\n  :1\n  :1\n  :1", ":0"} {
		writes.expectReply(want)
	}
	waits.expectReply(taken("b", "1")) // the key that was written first
	writes.expect("SADD c 1 2 3", ":3")
	waits.expect("TAKE a 0", taken("a", "2"))
	waits.send([]string{"TAKE", "a", "0"})
	untilWaiting(t, s, 1)
	writes.expect("RENAME c a", "+OK")
	writes.expect("SCARD a", ":2")
	waits.expectReply(taken("a", "1"))
}

func testTakenInOrder(t *testing.T, _ *memory, s *Server, address string) {
	const n = 3 * maxServed
	var waits []*peer
	for i := range n {
		waits = append(waits, dial(t, address))
		waits[i].send([]string{"TAKE", "a", "a", "b", "0"})
		untilWaiting(t, s, int64(i+1))
	}
	writes := dial(t, address)
	writes.expect("SADD b 0", ":1")
	waits[0].expectReply(taken("b", "0"))
	add := []string{"SADD", "a"}
	for i := 1; i < n; i++ {
		add = append(add, fmt.Sprintf("%03d", i))
	}
	writes.expect(strings.Join(add, " "), fmt.Sprintf(":%d", n-1))
	for i := 1; i < n; i++ {
		waits[i].expectReply(taken("a", fmt.Sprintf("%03d", i)))
	}
}

func testTakenFromOthers(t *testing.T, db *memory, s *Server, address string) {
	waits := dial(t, address)
	for range 3 {
		waits.send([]string{"TAKE", "a", "0"})
		untilWaiting(t, s, 1)
		err := db.Update(context.Background(), func(tx *embedded.Tx) error {
			_, err := tx.Set("a").Add("x")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		waits.expectReply(taken("a", "x"))
	}
}

func testWaitIsOver(t *testing.T, _ *memory, _ *Server, address string) {
	waits := dial(t, address)
	began := time.Now()
	waits.expect("TAKE a 0.05", "$-1")
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("waited for %v", took)
	}
	waits.expect("HELLO 3", waits.ask("HELLO 3"))
	waits.expect("TAKE a 0.001", "_")
	waits.expect("TAKE a -1", "-ERR timeout is negative")
	waits.expect("TAKE a 1e18", "-ERR timeout is negative")
	waits.expect("TAKE a x", "-ERR timeout is not a float or out of range")
	waits.expect("PING", "+PONG")
}

func testNothingWaitsInMulti(t *testing.T, _ *memory, _ *Server, address string) {
	p := dial(t, address)
	p.send([]string{"MULTI"}, []string{"TAKE", "a", "0"}, []string{"SADD", "a", "1"}, []string{"EXEC"})
	for _, want := range []string{"+OK", "+QUEUED", "+QUEUED", "*2\n  $-1\n  :1"} {
		p.expectReply(want)
	}
}

func testWaitIsEnded(t *testing.T, _ *memory, s *Server, address string) {
	waits, other := dial(t, address), dial(t, address)
	id := strings.TrimPrefix(waits.ask("CLIENT ID"), ":")
	other.expect("CLIENT UNBLOCK "+id, ":0")
	for how, want := range map[string]string{
		"": "$-1", " TIMEOUT": "$-1", " ERROR": "-UNBLOCKED client unblocked via CLIENT UNBLOCK",
	} {
		waits.send([]string{"TAKE", "a", "0"})
		untilWaiting(t, s, 1)
		if info := other.ask("INFO clients"); !strings.Contains(info, `blocked_clients:1\r\n`) {
			t.Errorf("INFO says %s", info)
		}
		if line := other.ask("CLIENT LIST ID " + id); !strings.Contains(line, " flags=b ") || !strings.Contains(line, " cmd=take ") {
			t.Errorf("CLIENT LIST says %s", line)
		}
		other.expect("CLIENT UNBLOCK "+id+how, ":1")
		waits.expectReply(want)
	}
	waits.send([]string{"TAKE", "a", "0"})
	untilWaiting(t, s, 1)
	other.expect("CLIENT KILL ID "+id, ":1")
	waits.expectEnd()
}

func testWhoLeavesTakesNothing(t *testing.T, _ *memory, s *Server, address string) {
	waits, other := dial(t, address), dial(t, address)
	waits.send([]string{"PING"}, []string{"TAKE", "a", "0"}, []string{"PING"})
	waits.expectReply("+PONG")
	untilWaiting(t, s, 1)
	waits.Close()
	untilWaiting(t, s, 0)
	half := dial(t, address)
	half.send([]string{"TAKE", "a", "0"})
	untilWaiting(t, s, 1)
	if err := half.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	half.expectEnd()
	other.expect("SADD a 1", ":1")
	other.expect("SCARD a", ":1")
}

func testChainOfWaiters(t *testing.T, _ *memory, s *Server, address string) {
	first, second, last, writes := dial(t, address), dial(t, address), dial(t, address), dial(t, address)
	second.send([]string{"PASS", "b", "c"})
	untilWaiting(t, s, 1)
	first.send([]string{"PASS", "a", "b"})
	untilWaiting(t, s, 2)
	last.send([]string{"TAKE", "c", "0"})
	untilWaiting(t, s, 3)
	writes.expect("SADD a x", ":1")
	for _, key := range []string{"a", "b", "c"} {
		writes.expect("EXISTS "+key, ":0")
	}
	first.expectReply(`"x"`)
	second.expectReply(`"x"`)
	last.expectReply(taken("c", "x"))
}

func testPipelineWaits(t *testing.T, _ *memory, s *Server, address string) {
	waits, other := dial(t, address), dial(t, address)
	waits.send([]string{"SET", "k", "1"}, []string{"TAKE", "a", "0"}, []string{"INCR", "k"}, []string{"TAKE", "a", "0"},
		[]string{"CLIENT", "REPLY", "SKIP"}, []string{"TAKE", "a", "0"}, []string{"GET", "k"})
	waits.expectReply("+OK")
	untilWaiting(t, s, 1)
	waits.send([]string{"INCR", "k"})
	other.expect("INCR k", ":2")
	other.expect("SADD a 1", ":1")
	waits.expectReply(taken("a", "1"))
	waits.expectReply(":3")
	untilWaiting(t, s, 1)
	other.expect("SADD a 2", ":1")
	waits.expectReply(taken("a", "2"))
	untilWaiting(t, s, 1)
	other.expect("SADD a 3", ":1")
	waits.expectReply(`"3"`)
	waits.expectReply(":4")
}

// testServingFails has one that waits fail, whom others must not suffer for.
func testServingFails(t *testing.T, _ *memory, s *Server, address string) {
	fails, waits, other := dial(t, address), dial(t, address), dial(t, address)
	fails.send([]string{"FAIL", "a"})
	untilWaiting(t, s, 1)
	waits.send([]string{"TAKE", "a", "0"})
	untilWaiting(t, s, 2)
	other.expect("SADD a 1", ":1")
	if got := fails.reply(); !strings.HasPrefix(got, "-ERR ") {
		t.Errorf("got %s", got)
	}
	waits.expectReply(taken("a", "1"))
}

func testReadingFails(t *testing.T, _ *memory, s *Server, address string) {
	p := dial(t, address)
	p.expect("BROKEN q", "-ERR the disk is broken")
	if n := s.blockedCount(); n != 0 {
		t.Errorf("%d commands wait, though that was refused", n)
	}
	p.expect("PING", "+PONG")
}

// saysBlocked reports whether INFO says that so many clients wait.
func saysBlocked(p *peer, clients int) bool {
	return strings.Contains(p.ask("INFO clients"), fmt.Sprintf(`blocked_clients:%d\r\n`, clients))
}

// TestNobodyWaitsForMoreKeysThanTheLimit which would keep all who write waiting.
func TestNobodyWaitsForMoreKeysThanTheLimit(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		_, address := startServer(t, Config{db: newMemory(t)})
		p := dial(t, address)
		var keys, ids []string
		for i := range MaxWaited + 1 {
			keys, ids = append(keys, fmt.Sprint("k", i)), append(ids, "$")
		}
		const refused = "-ERR more than 1024 keys of a command that waits (MaxWaited)"
		p.send(append(append([]string{"BLPOP"}, keys...), "0"))
		p.expectReply(refused)
		p.send(append(append([]string{"XREAD", "BLOCK", "0", "STREAMS"}, keys...), ids...))
		p.expectReply(refused)
		p.expect("RPUSH k7 x", ":1")
		p.send(append(append([]string{"BLPOP"}, keys...), "0"))
		p.expectReply(taken("k7", "x"))
		p.send(append(append([]string{"BLPOP"}, keys[1:]...), "0.01"))
		p.expectReply("*-1")
	})
}

// TestWhoWaitsIsToldThatItsDatabaseWasDropped, before or after it came: nothing tells it then of what others write once
// that is taken up again.
func TestWhoWaitsIsToldThatItsDatabaseWasDropped(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		peer, address := startPeer(t, embedded.Config{}, nil)
		waits, other := dial(t, address), dial(t, address)
		waits.expect("SELECT 3", "+OK")
		other.expect("SELECT 3", "+OK")
		other.expect("SET a 1", "+OK")
		waits.send([]string{"BLPOP", "q", "0"})
		eventually(t, "it waits", func() bool { return saysBlocked(other, 1) })
		if err := peer.DropSpace(t.Context(), "db3", true); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := waits.reply(); !strings.Contains(got, "was dropped") {
				t.Errorf("got %s", got)
			}
			waits.send([]string{"BLPOP", "q", "0"})
		}
	})
}

func TestAServerThatEndsWaitsForNoKeys(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		_, s, address := startWaiting(t)
		waits := dial(t, address)
		waits.send([]string{"TAKE", "a", "0"})
		untilWaiting(t, s, 1)
		if err := s.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		waits.expectEnd()
	})
}

// TestWhoIsUnblockedWhileItIsTriedWaitsNoMore: as CLIENT UNBLOCK then says.
func TestWhoIsUnblockedWhileItIsTriedWaitsNoMore(t *testing.T) {
	q := &waiting{}
	w := &waiter{of: q, done: make(chan struct{})}
	q.count.Add(1)
	if !q.claim(w) || !w.stop(unblocked) {
		t.Error("it is not unblocked")
	}
	if w.isDone() {
		t.Error("it is answered before it was tried")
	}
	q.release(w, false)
	if !w.isDone() || !strings.HasPrefix(string(w.out.buf), "-UNBLOCKED ") {
		t.Errorf("it is answered %q", w.out.buf)
	}
}

// TestAWriteOfManyKeysThatAreWaitedForTriesEachWaiterOnce for each of its keys, and again when the
// watch tells of it: others wait for it meanwhile.
func TestAWriteOfManyKeysThatAreWaitedForTriesEachWaiterOnce(t *testing.T) {
	const waiters, writes = 8, 3
	s, address := startServer(t, Config{db: newMemory(t)})
	set := []string{"MSET"}
	for i := range waiters {
		pop := []string{"BLPOP"}
		for j := range MaxWaited {
			key := fmt.Sprintf("key:%02d:%04d", i, j)
			pop, set = append(pop, key), append(set, key, "v")
		}
		dial(t, address).send(append(pop, "0"))
		untilWaiting(t, s, int64(i+1))
	}
	tried := countTries(&s.waiting[0])
	adds := dial(t, address)
	for range writes {
		adds.send(set)
		adds.expectReply("+OK")
	}
	// Once as the watch begins, with each write, and when it tells of that.
	if n := tried.Load(); n < waiters*MaxWaited*writes || n > waiters*MaxWaited*(1+2*writes) {
		t.Errorf("%d writes of %d keys had %d commands tried that wait", writes, waiters*MaxWaited, n)
	}
}

// TestAKeyIsFoundAmongThoseToBeTriedInOneStep where looking through all of them would take ten
// minutes.
func TestAKeyIsFoundAmongThoseToBeTriedInOneStep(t *testing.T) {
	const keys = 1 << 19
	var q keyQueue
	limit := time.Now().Add(2 * time.Minute)
	for i := range keys {
		q.add(fmt.Sprintf("key:%07d", i))
		if i%4096 == 0 && time.Now().After(limit) {
			t.Fatalf("after two minutes %d of %d keys are there", i, keys)
		}
	}
	if q.add("key:0000000"); len(q.keys) != keys {
		t.Errorf("of %d keys %d are to be tried", keys, len(q.keys))
	}
}

// countTries counts how often those who wait are tried.
func countTries(q *waiting) *atomic.Int64 {
	tried := new(atomic.Int64)
	q.mu.Lock()
	defer q.mu.Unlock()
	counted := map[*waiter]bool{}
	for _, queue := range q.queues {
		for _, w := range queue {
			if counted[w] {
				continue
			}
			counted[w] = true
			try := w.try
			w.try = func(c *call, key string) (bool, error) {
				tried.Add(1)
				return try(c, key)
			}
		}
	}
	return tried
}

// TestOfAGroupThatWaitsFewAreTried for each entry: others wait meanwhile who write.
func TestOfAGroupThatWaitsFewAreTried(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	adds := dial(t, address)
	const consumers, entries = 100, 10
	var waits []*peer
	for _, group := range []string{"g", "h"} {
		adds.expect("XGROUP CREATE s "+group+" 0 MKSTREAM", "+OK")
		for i := range consumers {
			p := dial(t, address)
			p.send(fields(fmt.Sprintf("XREADGROUP GROUP %s c%d BLOCK 0 STREAMS s >", group, i))[0])
			waits = append(waits, p)
			untilWaiting(t, s, int64(len(waits)))
		}
	}
	tried := countTries(&s.waiting[0])
	for i := range entries {
		id := fmt.Sprintf("%d-0", i+1)
		adds.expect("XADD s "+id+" f v", fmt.Sprintf("%q", id))
		for _, first := range []int{i, consumers + i} { // of each group who has waited longest
			if got := flat(waits[first].reply()); got != fmt.Sprintf(`*1 *2 "s" *1 *2 %q *2 "f" "v"`, id) {
				t.Errorf("client %d is given %s", first, got)
			}
		}
	}
	// Of each group one is given the entry, and the next finds none: then, and when the watch tells
	// of it.
	if n := tried.Load(); n > 6*entries {
		t.Errorf("%d entries had %d commands tried that wait", entries, n)
	}
}
