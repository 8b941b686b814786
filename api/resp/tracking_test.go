package resp

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"weak"

	embedded "github.com/peerd/peerd/peer"
)

// trackingTalk is what clients say, and what they are told: a Redis 7.0 says and tells the same.
// Each line is of one client, which sends what stands before the arrow, or nothing, and reads what
// stands behind it.
const trackingTalk = `
t HELLO 3
t CLIENT TRACKING ON -> +OK
t GET a -> _
o SET a 1 -> +OK
t -> >2 "invalidate" *1 "a"
# Once told, and not again until it is read again.
o SET a 2 -> +OK
t GET a -> "2"
t MGET a b c -> *3 "2" _ _
o MSET b 1 c 1 -> +OK
t -> >2 "invalidate" *1 "b"
t -> >2 "invalidate" *1 "c"
o DEL a none -> :1
t -> >2 "invalidate" *1 "a"
# What does not read is not tracked; what reads in MULTI and in scripts is.
t SADD s m -> :1
o SADD s n -> :1
t MULTI -> +OK
t SCARD s -> +QUEUED
t EXEC -> *1 :2
o SREM s n -> :1
t -> >2 "invalidate" *1 "s"
t EVAL "return redis.call('get', KEYS[1])" 1 e -> _
o SET e 1 -> +OK
t -> >2 "invalidate" *1 "e"
# The client's own writes are told as well, after their reply.
t GET e -> "1"
t SET e 2 -> +OK
t -> >2 "invalidate" *1 "e"
t CLIENT TRACKING ON NOLOOP -> +OK
t GET e -> "2"
t SET e 3 -> +OK
t GET a -> _
o RENAME e a -> +OK
t -> >2 "invalidate" *1 "a"
o EXPIRE a 100 -> :1
t GET a -> "3"
o PERSIST a -> :1
t -> >2 "invalidate" *1 "a"
# What it has read behind its own write it is told of, also if one transaction, script or pipeline has both.
t MULTI -> +OK
t SET e 4 -> +QUEUED
t GET e -> +QUEUED
t EXEC -> *2 +OK "4"
o SET e 5 -> +OK
t -> >2 "invalidate" *1 "e"
t EVAL "redis.call('set', KEYS[1], 6) return redis.call('get', KEYS[1])" 1 e -> "6"
o SET e 7 -> +OK
t -> >2 "invalidate" *1 "e"
t MULTI -> +OK
t GET e -> +QUEUED
t SET e 8 -> +QUEUED
t GET a -> +QUEUED
t EXEC -> *3 "7" +OK "3"
o MSET e 9 a 3 -> +OK
t -> >2 "invalidate" *1 "a"
# Two clients that have read a key are told, one that tracks nothing is not.
t GET a -> "3"
u HELLO 3
u CLIENT TRACKING ON -> +OK
u GET a -> "3"
o SET a 4 -> +OK
t -> >2 "invalidate" *1 "a"
u -> >2 "invalidate" *1 "a"
u GET a -> "4"
u CLIENT TRACKING OFF -> +OK
o SET a 5 -> +OK
u CLIENT TRACKING ON -> +OK
u GET a -> "5"
# What expires.
u GET x -> _
o SET x v PX 1000 -> +OK
u -> >2 "invalidate" *1 "x"
u GET x -> "v"
u -> >2 "invalidate" *1 "x"
# Everything.
o FLUSHALL -> +OK
t -> >2 "invalidate" _
u -> >2 "invalidate" _
u GET a -> _
o FLUSHDB -> +OK
t -> >2 "invalidate" _
u -> >2 "invalidate" _
u RESET -> +RESET
u CLIENT TRACKINGINFO -> *6 "flags" *1 "off" "redirect" :-1 "prefixes" *0
# OPTIN and OPTOUT.
v HELLO 3
v CLIENT TRACKING ON OPTIN -> +OK
v GET a -> _
v CLIENT CACHING YES -> +OK
v GET b -> _
v GET c -> _
o MSET a 1 b 1 c 1 -> +OK
v -> >2 "invalidate" *1 "b"
v CLIENT CACHING YES -> +OK
v MULTI -> +OK
v GET a -> +QUEUED
v GET b -> +QUEUED
v EXEC -> *2 "1" "1"
v GET c -> "1"
o MSET c 2 a 2 -> +OK
v -> >2 "invalidate" *1 "a"
v CLIENT TRACKING OFF -> +OK
v CLIENT TRACKING ON OPTOUT -> +OK
v CLIENT CACHING NO -> +OK
v GET a -> "2"
v GET b -> "1"
o MSET a 3 b 3 -> +OK
v -> >2 "invalidate" *1 "b"
# BCAST: what begins with a prefix, read or not.
b HELLO 3
b CLIENT TRACKING ON BCAST PREFIX user: PREFIX item: NOLOOP -> +OK
b SET user:1 x -> +OK
o MSET user:2 x other x user:1 x -> +OK
b -> >2 "invalidate" *2 "user:1" "user:2"
o DEL other user:2 -> :2
b -> >2 "invalidate" *1 "user:2"
o SET item:1 x -> +OK
b -> >2 "invalidate" *1 "item:1"
b CLIENT TRACKING OFF -> +OK
o SET item:1 x -> +OK
b CLIENT TRACKING ON BCAST -> +OK
o SET whatever x -> +OK
b -> >2 "invalidate" *1 "whatever"
# REDIRECT to a subscriber over RESP2.
r CLIENT ID
r SUBSCRIBE __redis__:invalidate -> *3 "subscribe" "__redis__:invalidate" :1
w CLIENT TRACKING ON REDIRECT $r -> +OK
w CLIENT GETREDIR -> $r
w GET k -> $-1
o SET k 1 -> +OK
r -> *3 "message" "__redis__:invalidate" *1 "k"
w GET k -> "1"
w SET k 2 -> +OK
r -> *3 "message" "__redis__:invalidate" *1 "k"
o FLUSHDB -> +OK
r -> *3 "message" "__redis__:invalidate" $-1
w GET k -> $-1
r QUIT -> +OK
o SET k 3 -> +OK
w GET k -> "3"
# A client over RESP3 learns that who was to be told is gone.
q CLIENT ID
y HELLO 3
y CLIENT TRACKING ON REDIRECT $q -> +OK
y GET k -> "3"
q QUIT -> +OK
o SET k 4 -> +OK
y -> >2 "tracking-redir-broken" $q
y CLIENT TRACKINGINFO -> %3 "flags" ~2 "on" "broken_redirect" "redirect" $q "prefixes" *0
`

// TestClientsAreToldOfWhatTheyMayHaveKept as Redis tells them.
func TestClientsAreToldOfWhatTheyMayHaveKept(t *testing.T) {
	t.Run("by Redis", func(t *testing.T) { testTracking(t, startRedis(t)) })
	eachWay(t, func(t *testing.T) {
		_, address := startServer(t, Config{db: newMemory(t)})
		testTracking(t, address)
	})
}

func testTracking(t *testing.T, address string) {
	clients, ids := map[string]*peer{}, []string{}
	for _, line := range strings.Split(strings.TrimSpace(trackingTalk), "\n") {
		if line[0] == '#' {
			continue
		}
		line = strings.NewReplacer(ids...).Replace(line)
		name, rest, _ := strings.Cut(line, " ")
		asked, want, _ := strings.Cut(rest, "->")
		p := clients[name]
		if p == nil {
			p = dial(t, address)
			clients[name] = p
		}
		if asked = strings.TrimSpace(asked); asked != "" {
			p.send(words(t, asked))
		}
		switch got := flat(p.reply()); {
		case asked == "CLIENT ID":
			ids = append(ids, "REDIRECT $"+name, "REDIRECT "+got[1:], "$"+name, got)
		case want == "":
		case got != strings.TrimSpace(want):
			t.Fatalf("%s\n got %s", line, got)
		}
	}
}

// TestWhatOtherPeersChangeIsTold, of what was read and of what begins with a prefix; and of another
// database than the one that the client has selected it is told only what it has read there.
func TestWhatOtherPeersChangeIsTold(t *testing.T) { eachWay(t, testWhatOtherPeersChangeIsTold) }

func testWhatOtherPeersChangeIsTold(t *testing.T) {
	h := newHosts(t, 2)
	here, there := h.clients[0], h.clients[1]
	there.expect("MSET k 1 sum 1", "+OK")
	there.expect("SELECT 2", "+OK")
	there.expect("SET k 2", "+OK")
	h.heal()
	here.expect("SELECT 2", "+OK")
	h.until("the other's write is here", func() bool { return here.ask("GET k") == `"2"` })
	here.expect("SELECT 0", "+OK")
	here.ask("HELLO 3")
	here.expect("CLIENT TRACKING ON", "+OK")
	here.expect("GET k", `"1"`)
	here.expect("SELECT 2", "+OK")
	here.expect("GET k", `"2"`)
	there.expect("SET other x", "+OK")
	there.expect("SET k 3", "+OK")
	here.expectMessages(`>2 "invalidate" *1 "k"`)
	there.expect("SELECT 0", "+OK")
	there.expect("DEL k", ":1")
	here.expectMessages(`>2 "invalidate" *1 "k"`)
	here.expect("CLIENT TRACKING OFF", "+OK")
	here.expect("SELECT 0", "+OK")
	here.expect("CLIENT TRACKING ON BCAST PREFIX s", "+OK")
	there.expect("MSET a 1 sum 2", "+OK")
	here.expectMessages(`>2 "invalidate" *1 "sum"`)
}

// TestWhatAGroupIsGivenIsToldToWhoHasReadOfIt, though subscribers to keyspace events are not.
func TestWhatAGroupIsGivenIsToldToWhoHasReadOfIt(t *testing.T) {
	eachWay(t, testWhatAGroupIsGivenIsToldToWhoHasReadOfIt)
}

func testWhatAGroupIsGivenIsToldToWhoHasReadOfIt(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p, other := dial(t, address), dial(t, address)
	other.expect("XADD s 1-1 f v", `"1-1"`)
	other.expect("XGROUP CREATE s g 0", "+OK")
	for _, consumer := range []string{"ann", "bob", "eve"} { // of one that a command makes subscribers are told
		other.expect("XGROUP CREATECONSUMER s g "+consumer, ":1")
	}
	p.ask("HELLO 3")
	p.expect("CLIENT TRACKING ON", "+OK")
	for _, command := range []string{
		"XREADGROUP GROUP g ann STREAMS s >", "XCLAIM s g bob 0 1-1", "XAUTOCLAIM s g eve 0 0", "XACK s g 1-1",
	} {
		p.ask("XPENDING s g")
		p.ask("GET end")
		other.ask(command)
		other.ask("INCR end")
		p.expectMessages(`>2 "invalidate" *1 "s"`, `>2 "invalidate" *1 "end"`)
	}
}

// TestWhatIsTrackedIsBounded: beyond the limit clients are told of other keys, and of no key
// nothing.
func TestWhatIsTrackedIsBounded(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	p, other := dial(t, address), dial(t, address)
	p.ask("HELLO 3")
	p.expect("CLIENT TRACKING ON", "+OK")
	large := strings.Repeat("k", 60_000)
	told := map[string]bool{}
	for i := 0; len(told) < 10; i++ {
		if i > 2*MaxTrackedBytes/len(large) {
			t.Fatalf("%d keys of %d bytes are tracked", i, len(large))
		}
		p.send([]string{"GET", large + fmt.Sprint(i)})
		for reply := p.reply(); reply != "_"; reply = p.reply() {
			told[reply] = true
		}
	}
	s.tracking.mu.Lock()
	if s.tracking.bytes > MaxTrackedBytes || len(s.tracking.keys) > MaxTracked {
		t.Errorf("%d keys of %d bytes are tracked", len(s.tracking.keys), s.tracking.bytes)
	}
	s.tracking.mu.Unlock()
	p.Close()
	eventually(t, "nothing is kept for who has left", func() bool {
		s.tracking.mu.Lock()
		defer s.tracking.mu.Unlock()
		return len(s.tracking.keys) == 0 && s.tracking.bytes == 0 && s.followers.Load() == 0
	})
	other.expect("SET k v", "+OK")
}

// TestWhoTracksADatabaseThatIsDroppedIsClosed, and nobody else.
func TestWhoTracksADatabaseThatIsDroppedIsClosed(t *testing.T) {
	eachWay(t, testWhoTracksADatabaseThatIsDroppedIsClosed)
}

func testWhoTracksADatabaseThatIsDroppedIsClosed(t *testing.T) {
	host, address := startPeer(t, embedded.Config{}, nil)
	there, was, here, other := dial(t, address), dial(t, address), dial(t, address), dial(t, address)
	for _, p := range []*peer{there, was} {
		p.ask("HELLO 3")
		p.expect("SELECT 3", "+OK")
		p.expect("SET k 1", "+OK")
		p.expect("CLIENT TRACKING ON", "+OK")
	}
	was.expect("GET k", `"1"`)
	was.expect("SELECT 0", "+OK")
	here.ask("HELLO 3")
	here.expect("CLIENT TRACKING ON", "+OK")
	if err := host.DropSpace(t.Context(), "db3", true); err != nil {
		t.Fatal(err)
	}
	there.expectEnd()
	was.expectEnd()
	here.expect("GET k", "_")
	other.expect("SET k 2", "+OK")
	here.expectMessages(`>2 "invalidate" *1 "k"`)
}

// TestACopyIsNeverStale has clients keep what they read until they are told, while others write:
// what one keeps once all is told is what is there.
func TestACopyIsNeverStale(t *testing.T) { eachWay(t, testACopyIsNeverStale) }

func testACopyIsNeverStale(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	const keys, writes = 5, 2000
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := dial(t, address)
		for i := range writes {
			w.send([]string{"SET", fmt.Sprint("k", i%keys), fmt.Sprint(i)})
			w.reply()
		}
	}()
	p := dial(t, address)
	p.ask("HELLO 3")
	p.expect("CLIENT TRACKING ON", "+OK")
	kept := map[string]string{}
	read := func(key string) {
		p.send([]string{"GET", key})
		for {
			reply := flat(p.reply())
			name, gone := strings.CutPrefix(reply, `>2 "invalidate" *1 `)
			if !gone {
				kept[key] = reply
				return
			}
			delete(kept, strings.Trim(name, `"`))
		}
	}
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		for i := range keys {
			if key := fmt.Sprint("k", i); kept[key] == "" {
				read(key)
			}
		}
		read("nothing") // which brings what was told
	}
	for i := range keys {
		key, want := fmt.Sprint("k", i), fmt.Sprintf("%q", fmt.Sprint(writes-keys+i))
		for end := 0; kept[key] != want; end++ {
			if kept[key] == "" {
				read(key)
				continue
			}
			name, _ := strings.CutPrefix(flat(p.reply()), `>2 "invalidate" *1 `) // else it waits for ever
			delete(kept, strings.Trim(name, `"`))
		}
	}
}

// TestWhatWasReadBeforeAChangeThatWasToldIsToldAtOnce: a view may be older than the last change
// that clients were told of.
func TestWhatWasReadBeforeAChangeThatWasToldIsToldAtOnce(t *testing.T) {
	db := newMemory(t)
	s, address := startServer(t, Config{db: db})
	p, other := dial(t, address), dial(t, address)
	p.ask("HELLO 3")
	p.expect("CLIENT TRACKING ON", "+OK")
	at, err := momentOf(db)
	if err != nil {
		t.Fatal(err)
	}
	p.expect("GET seen", "_")
	other.expect("SET k v", "+OK")
	other.expect("SET seen v", "+OK")
	p.expectMessages(`>2 "invalidate" *1 "seen"`)
	s.tracking.mu.Lock()
	all := slices.Collect(maps.Keys(s.tracking.trackers))
	s.tracking.mu.Unlock()
	for _, k := range all {
		s.tracking.remember(k, 0, "k", readAt{moment: at})
	}
	p.expectMessages(`>2 "invalidate" *1 "k"`)
}

// TestWhoTakesInNoChangesOfItsOwnIsToldOfThoseOfOthers that are made in one transaction with its own: two commands that
// waited are answered in one.
func TestWhoTakesInNoChangesOfItsOwnIsToldOfThoseOfOthers(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	a, b, c := dial(t, address), dial(t, address), dial(t, address)
	a.ask("HELLO 3")
	a.expect("CLIENT TRACKING ON NOLOOP", "+OK")
	a.expect("LLEN k3", ":0")
	a.send([]string{"BLPOP", "k1", "0"})
	waiting := func(n int) {
		eventually(t, "they wait", func() bool { return strings.Contains(c.ask("INFO clients"), fmt.Sprintf(`blocked_clients:%d\r\n`, n)) })
	}
	waiting(1)
	b.send([]string{"BLMOVE", "k2", "k3", "LEFT", "LEFT", "0"})
	waiting(2)
	c.send([]string{"MULTI"}, []string{"RPUSH", "k1", "x"}, []string{"RPUSH", "k2", "y"}, []string{"EXEC"})
	got := []string{flat(a.reply()), flat(a.reply())}
	if slices.Sort(got); !strings.Contains(got[1], "invalidate") || !strings.Contains(got[1], "k3") {
		t.Errorf("it is told %q", got)
	}
}

// TestWhoReadsBehindItsOwnWriteInAPipelineIsToldOfWhatOthersDoThen though it is not told of the
// write.
func TestWhoReadsBehindItsOwnWriteInAPipelineIsToldOfWhatOthersDoThen(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	p, other := dial(t, address), dial(t, address)
	p.ask("HELLO 3")
	p.expect("CLIENT TRACKING ON NOLOOP", "+OK")
	p.send([]string{"SET", "k", "1"}, []string{"GET", "k"})
	p.expectReply("+OK")
	p.expectReply(`"1"`)
	other.expect("SET k 2", "+OK")
	p.expectMessages(`>2 "invalidate" *1 "k"`)
}

// TestNothingIsKeptOfTrackersThatHaveLeft but that they had read a key: others have, and it does
// not change.
func TestNothingIsKeptOfTrackersThatHaveLeft(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	stays := dial(t, address)
	stays.ask("HELLO 3")
	stays.expect("CLIENT TRACKING ON", "+OK")
	stays.expect("GET k", "_")
	leaves, told := dial(t, address), dial(t, address)
	leaves.ask("HELLO 3")
	id := strings.TrimPrefix(told.ask("CLIENT ID"), ":")
	leaves.expect("CLIENT TRACKING ON REDIRECT "+id, "+OK")
	leaves.expect("GET k", "_")
	var kept []weak.Pointer[client]
	s.mu.Lock()
	for c := range s.clients {
		if c.address.String() != stays.LocalAddr().String() {
			kept = append(kept, weak.Make(c))
		}
	}
	s.mu.Unlock()
	leaves.Close()
	told.Close()
	eventually(t, "the clients that have left are let go of", func() bool {
		runtime.GC()
		return !slices.ContainsFunc(kept, func(p weak.Pointer[client]) bool { return p.Value() != nil })
	})
	dial(t, address).expect("SET k v", "+OK")
	stays.expectMessages(`>2 "invalidate" *1 "k"`)
}

// TestPrefixesCountAsHeld by the client that is told of what begins so.
func TestPrefixesCountAsHeld(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p, other := dial(t, address), dial(t, address)
	id := strings.TrimPrefix(p.ask("CLIENT ID"), ":")
	holds := func() (n int) {
		_, rest, _ := strings.Cut(other.ask("CLIENT LIST ID "+id), " tot-mem=")
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	p.send([]string{"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a" + strings.Repeat("x", 1<<20)})
	p.expectReply("+OK")
	p.send([]string{"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "b" + strings.Repeat("x", 1<<20)})
	p.expectReply("+OK")
	p.expect("PING", "+PONG")
	if n := holds(); n < 2<<20 {
		t.Errorf("of two prefixes of 1 MiB it counts %d bytes", n)
	}
	p.expect("CLIENT TRACKING OFF", "+OK")
	p.expect("PING", "+PONG")
	if n := holds(); n > 3<<19 { // the buffer in which the last came may be there
		t.Errorf("without prefixes it counts %d bytes", n)
	}
}
