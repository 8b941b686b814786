package resp

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

func TestClientListTellsOfEachConnection(t *testing.T) {
	eachWay(t, testClientListTellsOfEachConnection)
}

func testClientListTellsOfEachConnection(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	p, sub, queueing := dial(t, address), dial(t, address), dial(t, address)
	sub.ask("HELLO 3")
	sub.ask("CLIENT SETNAME listener")
	sub.ask("SUBSCRIBE __keyspace@0__:a")
	sub.ask("PSUBSCRIBE __keyspace@0__:b*")
	queueing.ask("SELECT 3")
	queueing.ask("MULTI")
	queueing.ask("PING")
	text, err := strconv.Unquote(p.ask("CLIENT LIST"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(text, "\n")
	if len(lines) != 4 {
		t.Fatalf("three clients are listed as\n%s", text)
	}
	const format = `^id=%d addr=127\.0\.0\.1:\d+ laddr=%s fd=-1 name=%s age=\d+ idle=\d+ flags=%s db=%d sub=%d psub=%d ssub=0 ` +
		`multi=%d qbuf=%d qbuf-free=0 argv-mem=\d+ multi-mem=\d+ rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=\d+ events=r cmd=%s user=default redir=-1 resp=%d\n$`
	for i, want := range []string{
		fmt.Sprintf(format, 1, address, "", "N", 0, 0, 0, -1, 26, `client\|list`, 2),
		fmt.Sprintf(format, 2, address, "listener", "P", 0, 1, 1, -1, 0, "psubscribe", 3),
		fmt.Sprintf(format, 3, address, "", "x", 3, 0, 0, 1, 0, "ping", 2),
	} {
		if !regexp.MustCompile(want).MatchString(lines[i]) {
			t.Errorf("line %q, want %s", lines[i], want)
		}
	}
	for asked, want := range map[string]string{
		"CLIENT LIST TYPE pubsub": "id=2 ", "CLIENT LIST TYPE normal": "id=1 id=3 ", "CLIENT LIST ID 3 1 9": "id=1 id=3 ",
		"CLIENT INFO": "id=1 ",
	} {
		text, err := strconv.Unquote(p.ask(asked))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(regexp.MustCompile(`\bid=\d+ `).FindAllString(text, -1), ""); got != want {
			t.Errorf("%s lists %s, want %s", asked, got, want)
		}
	}
}

// TestAClientIsShownToStay as Redis shows CLIENT NO-EVICT, until OFF or RESET.
func TestAClientIsShownToStay(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	shows := func(command, reply, flags string) {
		t.Helper()
		p.expect(command, reply)
		if text := p.ask("CLIENT INFO"); !strings.Contains(text, " flags="+flags+" ") {
			t.Errorf("after %s there is no flags=%s in %s", command, flags, text)
		}
	}
	shows("CLIENT NO-EVICT on", "+OK", "e")
	shows("CLIENT NO-EVICT x", "-ERR syntax error", "e")
	shows("CLIENT NO-EVICT OFF", "+OK", "N")
	shows("CLIENT NO-EVICT ON", "+OK", "e")
	shows("RESET", "+RESET", "N")
}

// TestKilledClientsAreClosed whatever they do: a subscriber, and one that has sent half a command.
func TestKilledClientsAreClosed(t *testing.T) { eachWay(t, testKilledClientsAreClosed) }

func testKilledClientsAreClosed(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	p, sub, half, other := dial(t, address), dial(t, address), dial(t, address), dial(t, address)
	sub.ask("SUBSCRIBE __keyspace@0__:a")
	half.expect("PING", "+PONG")
	other.expect("PING", "+PONG")
	if _, err := half.Write([]byte("*3\r\n$3\r\nSET\r\n")); err != nil {
		t.Fatal(err)
	}
	p.expect("CLIENT KILL TYPE pubsub", ":1")
	sub.expectEnd()
	p.expect("CLIENT KILL "+half.LocalAddr().String(), "+OK")
	half.expectEnd()
	p.expect("CLIENT KILL ADDR "+other.LocalAddr().String()+" TYPE pubsub", ":0")
	other.expect("PING", "+PONG")
	p.expect("CLIENT KILL LADDR "+address+" SKIPME no", ":2")
	p.expectEnd()
	other.expectEnd()
}

// TestAClientIsNotSentTheRepliesThatItDoesNotWant: an error of the database is one of them.
func TestAClientIsNotSentTheRepliesThatItDoesNotWant(t *testing.T) {
	eachWay(t, testAClientIsNotSentTheRepliesThatItDoesNotWant)
}

func testAClientIsNotSentTheRepliesThatItDoesNotWant(t *testing.T) {
	full := newMemory(t)
	full.refusal = errors.New("the disk is full")
	_, address := startServer(t, Config{db: newMemory(t)})
	_, ofFull := startServer(t, Config{db: full})
	p := dial(t, address)
	converse := func(lines, want string) {
		t.Helper()
		var commands [][]string
		for line := range strings.SplitSeq(lines, "; ") {
			commands = append(commands, strings.Fields(line))
		}
		p.send(commands...)
		for w := range strings.SplitSeq(want, "; ") {
			if got := p.reply(); got != w {
				t.Errorf("%s: %s, want %s", lines, got, w)
			}
		}
	}
	converse("CLIENT REPLY SKIP; SET a 1; GET a", `"1"`)
	converse("CLIENT REPLY SKIP; FOO; GET", "-ERR wrong number of arguments for 'get' command")
	converse("CLIENT REPLY SKIP; CLIENT REPLY SKIP; GET a; INCR a", ":2")
	converse("CLIENT REPLY OFF; GET a; FOO; CLIENT REPLY SKIP; CLIENT REPLY x; INCR a; KEYS *; CLIENT REPLY ON; GET a", `+OK; "3"`)
	converse("CLIENT REPLY OFF; MULTI; SET a 5; EXEC; CLIENT REPLY ON; GET a", `+OK; "5"`)
	converse("MULTI; CLIENT REPLY OFF; EXEC; PING", "+OK; -ERR CLIENT REPLY is not allowed in transactions: EXEC tells how "+
		"many replies it has; -EXECABORT Transaction discarded because of previous errors.; +PONG")
	p = dial(t, ofFull)
	converse("SET a 1; CLIENT REPLY SKIP; SET a 1; SET a 1; CLIENT REPLY OFF; SET a 1; PING; CLIENT REPLY ON; PING",
		"-ERR the disk is full; -ERR the disk is full; +OK; +PONG")
}

func TestSettingsChangeWhileTheServerRuns(t *testing.T) {
	eachWay(t, testSettingsChangeWhileTheServerRuns)
}

func testSettingsChangeWhileTheServerRuns(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t), SlowLog: time.Hour})
	p := dial(t, address)
	p.expect("CONFIG SET maxclients 1", "+OK")
	dial(t, address).expect("PING", "-ERR max number of clients reached")
	p.expect("CONFIG SET maxclients 2 slowlog-log-slower-than 0", "+OK")
	dial(t, address).expect("PING", "+PONG")
	p.expect("SLOWLOG RESET", "+OK")
	p.expect("SLOWLOG LEN", ":1")
	p.expect("CONFIG SET slowlog-log-slower-than -1 appendonly YES notify-keyspace-events KEA", "+OK")
	p.expect("SLOWLOG RESET", "+OK")
	p.expect("SLOWLOG LEN", ":0")
	p.expect("CONFIG SET appendonly no", "-ERR CONFIG SET failed (possibly related to argument "+
		"'appendonly') - can't set immutable config")
	p.expect("CONFIG RESETSTAT", "+OK")
	if text := p.ask("INFO stats"); !strings.Contains(text, `total_connections_received:0\r\ntotal_commands_processed:1\r\n`) {
		t.Errorf("after RESETSTAT: %s", text)
	}
}

// TestWhatIsNotHereIsRefusedWithItsReason, and aborts a transaction.
func TestWhatIsNotHereIsRefusedWithItsReason(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	for name, why := range refusals {
		p.expect(name+" x", "-ERR "+strings.ToUpper(name)+" "+why)
		if commands[name] != nil {
			t.Errorf("%s is refused, and a command", name)
		}
	}
	p.expect("ACL LIST", "-ERR ACL has WHOAMI and USERS, for there is one user: the rest is for later")
	p.expect("CLIENT PAUSE 100", "-ERR CLIENT PAUSE is not possible: other peers' writes come in all the same")
	p.expect("MULTI", "+OK")
	p.expect("SAVE", "-ERR SAVE "+refusals["save"])
	p.expect("EXEC", "-EXECABORT Transaction discarded because of previous errors.")
}

// TestWhoWasKilledIsGoneAtOnce for all who ask, though what it has asked for goes on.
func TestWhoWasKilledIsGoneAtOnce(t *testing.T) { eachWay(t, testWhoWasKilledIsGoneAtOnce) }

func testWhoWasKilledIsGoneAtOnce(t *testing.T) {
	db := slowDB{newMemory(t), make(chan struct{}), make(chan struct{})}
	_, address := startServer(t, Config{db: db})
	busy, other := dial(t, address), dial(t, address)
	id := strings.TrimPrefix(busy.ask("CLIENT ID"), ":")
	tracks := dial(t, address)
	tracks.ask("HELLO 3")
	tracks.expect("CLIENT TRACKING ON REDIRECT "+id, "+OK")
	tracks.expect("GET k", "_")
	busy.send([]string{"SET", "a", "1"})
	<-db.entered
	other.send(fields("CLIENT KILL ID "+id, "CLIENT KILL ID "+id, "CLIENT LIST ID "+id, "CLIENT TRACKING ON REDIRECT "+id)...)
	other.expectReply(":1")
	other.expectReply(":0")
	other.expectReply(`""`)
	other.expectReply("-ERR The client ID you want redirect to does not exist")
	err := db.memory.Update(t.Context(), func(tx *embedded.Tx) error { return tx.String("k").Set([]byte("v")) })
	if err != nil {
		t.Fatal(err)
	}
	tracks.expectMessages(`>2 "tracking-redir-broken" :` + id)
	close(db.leave)
}
