package resp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// startPeer serves an embedded peer that is in memory.
func startPeer(t *testing.T, cfg embedded.Config, log *slog.Logger) (*embedded.Peer, string) {
	t.Helper()
	cfg.Memory, cfg.Offline = true, true
	p, err := embedded.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	_, address := startServer(t, Config{Peer: p, Logger: log})
	return p, address
}

// flat returns a reply on one line.
func flat(reply string) string { return strings.Join(strings.Fields(reply), " ") }

func (p *peer) expectMessages(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if got := flat(p.reply()); got != w {
			p.t.Errorf("the message is %s, want %s", got, w)
		}
	}
}

func TestASubscriberIsToldOfChangedKeys(t *testing.T) {
	eachWay(t, testASubscriberIsToldOfChangedKeys)
}

func testASubscriberIsToldOfChangedKeys(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	writer, two, three := dial(t, address), dial(t, address), dial(t, address)
	two.ask("SUBSCRIBE __keyspace@0__:a")
	two.ask("PSUBSCRIBE __keyevent@0__:*")
	three.ask("HELLO 3")
	three.ask("PSUBSCRIBE __keyspace@0__:a*")
	writer.expect("SET b 1", "+OK")
	two.expectMessages(`*4 "pmessage" "__keyevent@0__:*" "__keyevent@0__:set" "b"`)
	writer.expect("SADD a x", ":1")
	two.expectMessages(`*3 "message" "__keyspace@0__:a" "sadd"`,
		`*4 "pmessage" "__keyevent@0__:*" "__keyevent@0__:sadd" "a"`)
	three.expectMessages(`>4 "pmessage" "__keyspace@0__:a*" "__keyspace@0__:a" "sadd"`)
	writer.expect("DEL a", ":1")
	two.expectMessages(`*3 "message" "__keyspace@0__:a" "del"`,
		`*4 "pmessage" "__keyevent@0__:*" "__keyevent@0__:del" "a"`)
	three.expectMessages(`>4 "pmessage" "__keyspace@0__:a*" "__keyspace@0__:a" "del"`)

	// Over RESP3 a subscriber goes on with commands, and is told of its own.
	three.expect("HSET ab f v", ":1")
	three.expectMessages(`>4 "pmessage" "__keyspace@0__:a*" "__keyspace@0__:ab" "hset"`)
	two.expectMessages(`*4 "pmessage" "__keyevent@0__:*" "__keyevent@0__:hset" "ab"`)

	two.ask("PUNSUBSCRIBE")
	two.ask("UNSUBSCRIBE")
	writer.expect("SET a 1", "+OK")
	three.expectMessages(`>4 "pmessage" "__keyspace@0__:a*" "__keyspace@0__:a" "set"`)
	two.expect("GET a", `"1"`) // and no message before it
	two.ask("SUBSCRIBE __keyspace@0__:a")
	writer.expect("SET a 2", "+OK")
	two.expectMessages(`*3 "message" "__keyspace@0__:a" "set"`)
	three.expectMessages(`>4 "pmessage" "__keyspace@0__:a*" "__keyspace@0__:a" "set"`)

	// When all keys are removed at once, of which there are more than a few, nothing is told of any, and the next is.
	for i := range 50 {
		writer.expect(fmt.Sprint("SET b", i, " v"), "+OK")
	}
	writer.expect("FLUSHALL", "+OK")
	writer.expect("SET a 3", "+OK")
	two.expectMessages(`*3 "message" "__keyspace@0__:a" "set"`)
	three.expectMessages(`>4 "pmessage" "__keyspace@0__:a*" "__keyspace@0__:a" "set"`)
}

// TestASubscriberIsNotToldOfWhatCameBeforeItsSubscription in one write with it, but of what came
// behind it.
func TestASubscriberIsNotToldOfWhatCameBeforeItsSubscription(t *testing.T) {
	eachWay(t, testASubscriberIsNotToldOfWhatCameBeforeItsSubscription)
}

func testASubscriberIsNotToldOfWhatCameBeforeItsSubscription(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	writer := dial(t, address)
	for i, lines := range [][]string{
		{"INCR before", "PSUBSCRIBE __keyspace@0__:*"},
		{"INCR before", "MULTI", "INCR before", "PSUBSCRIBE __keyspace@0__:*", "EXEC"},
		{"HELLO 3", "INCR before", "PSUBSCRIBE __keyspace@0__:*", "SET behind 1"},
		{"HELLO 3", "MULTI", "INCR before", "PSUBSCRIBE __keyspace@0__:*", "EXEC", "SET behind 1"},
	} {
		p := dial(t, address)
		var commands [][]string
		for _, line := range lines {
			commands = append(commands, strings.Fields(line))
		}
		p.send(commands...)
		for range commands {
			p.reply()
		}
		mark := ">"
		if i < 2 {
			mark = "*"
			writer.expect("SET behind 1", "+OK")
		}
		p.expectMessages(mark + `4 "pmessage" "__keyspace@0__:*" "__keyspace@0__:behind" "set"`)
	}
}

// TestASubscriberIsToldOfEachDatabaseThatItNames: one that was not there yet too, and whatever it
// has selected.
func TestASubscriberIsToldOfEachDatabaseThatItNames(t *testing.T) {
	eachWay(t, testASubscriberIsToldOfEachDatabaseThatItNames)
}

func testASubscriberIsToldOfEachDatabaseThatItNames(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	writer, three, every := dial(t, address), dial(t, address), dial(t, address)
	three.ask("SUBSCRIBE __keyspace@3__:a")
	every.ask("PSUBSCRIBE __keyspace@*__:a")
	writer.expect("SET a 0", "+OK")
	every.expectMessages(`*4 "pmessage" "__keyspace@*__:a" "__keyspace@0__:a" "set"`)
	writer.expect("SELECT 3", "+OK")
	writer.expect("SET a 3", "+OK")
	three.expectMessages(`*3 "message" "__keyspace@3__:a" "set"`) // and none of 0 before it
	every.expectMessages(`*4 "pmessage" "__keyspace@*__:a" "__keyspace@3__:a" "set"`)
	writer.expect("DEL a", ":1")
	three.expectMessages(`*3 "message" "__keyspace@3__:a" "del"`)
	every.expectMessages(`*4 "pmessage" "__keyspace@*__:a" "__keyspace@3__:a" "del"`)
	three.ask("UNSUBSCRIBE")
	three.expect("PING", "+PONG")
}

func TestASubscriberHearsOfADatabaseWhoseDropIsTried(t *testing.T) {
	eachWay(t, testASubscriberHearsOfADatabaseWhoseDropIsTried)
}

// testASubscriberHearsOfADatabaseWhoseDropIsTried subscribes before and meanwhile. No other host has
// the database, so it stays.
func testASubscriberHearsOfADatabaseWhoseDropIsTried(t *testing.T) {
	host, address := startPeer(t, embedded.Config{}, nil)
	writer, before, meanwhile := dial(t, address), dial(t, address), dial(t, address)
	writer.expect("SELECT 3", "+OK")
	writer.expect("SET a 1", "+OK")
	before.ask("SUBSCRIBE __keyspace@3__:a")
	ctx, giveUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- host.DropSpace(ctx, "db3", false) }()
	eventually(t, "writes are refused", func() bool { return writer.ask("SET b 1") != "+OK" })
	meanwhile.ask("SUBSCRIBE __keyspace@3__:a")
	giveUp()
	if err := <-ended; !errors.Is(err, embedded.ErrUnreplicated) {
		t.Fatalf("the drop returned %v, want %v", err, embedded.ErrUnreplicated)
	}
	writer.expect("SET a 2", "+OK")
	before.expectMessages(`*3 "message" "__keyspace@3__:a" "set"`)
	meanwhile.expectMessages(`*3 "message" "__keyspace@3__:a" "set"`)
}

func TestASubscriberToADatabaseThatIsDroppedIsClosed(t *testing.T) {
	eachWay(t, testASubscriberToADatabaseThatIsDroppedIsClosed)
}

func testASubscriberToADatabaseThatIsDroppedIsClosed(t *testing.T) {
	peer, address := startPeer(t, embedded.Config{}, nil)
	writer, reader := dial(t, address), dial(t, address)
	writer.expect("SELECT 3", "+OK")
	writer.expect("SET a 1", "+OK")
	reader.ask("PSUBSCRIBE __keyspace@*__:a")
	writer.expect("SET a 2", "+OK")
	reader.expectMessages(`*4 "pmessage" "__keyspace@*__:a" "__keyspace@3__:a" "set"`)
	if err := peer.DropSpace(t.Context(), "db3", true); err != nil {
		t.Fatal(err)
	}
	reader.expectEnd()
	again := dial(t, address)
	again.ask("PSUBSCRIBE __keyspace@*__:a")
	writer.expect("SELECT 0", "+OK")
	writer.expect("SET a 3", "+OK")
	again.expectMessages(`*4 "pmessage" "__keyspace@*__:a" "__keyspace@0__:a" "set"`)
	writer.expect("SELECT 3", "+OK")
	writer.expect("SET b 4", "+OK") // takes it up again
	again.ask("SUBSCRIBE __keyspace@3__:a")
	writer.expect("SET a 4", "+OK")
	again.expectMessages(`*3 "message" "__keyspace@3__:a" "set"`)
}

func TestSubscriptionsAreLimited(t *testing.T) { eachWay(t, testSubscriptionsAreLimited) }

func testSubscriptionsAreLimited(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	var many strings.Builder
	for i := range MaxPatterns {
		fmt.Fprint(&many, " __keyspace@0__:", i)
	}
	p.send(strings.Fields("PSUBSCRIBE" + many.String()))
	for range MaxPatterns {
		p.reply()
	}
	p.expect("PSUBSCRIBE __keyspace@0__:k", "-ERR more than 256 subscriptions of a client (MaxPatterns)")
	s.subscribers.Add(MaxSubscribers - 1)
	other := dial(t, address)
	other.expect("PSUBSCRIBE *", "-ERR more than 512 clients that are told of changes of keys (MaxSubscribers)")
	other.expect("PING", "+PONG")
	p.expect("QUIT", "+OK")
	p.expectEnd()
	for s.subscribers.Load() == MaxSubscribers {
		other.expect("PING", "+PONG") // until the connection's end was noticed
	}
	if got := other.ask("PSUBSCRIBE *"); strings.HasPrefix(got, "-") {
		t.Errorf("in the place of one that left: %s", got)
	}
}

// A subscriber that does not read holds nobody up. When the log of changes no longer has what it
// missed, it is closed, and so knows.
func TestASubscriberThatDoesNotReadIsClosed(t *testing.T) {
	eachWay(t, testASubscriberThatDoesNotReadIsClosed)
}

func testASubscriberThatDoesNotReadIsClosed(t *testing.T) {
	p, address := startPeer(t, embedded.Config{LogBytes: 1000}, nil)
	slow := dial(t, address)
	slow.ask("PSUBSCRIBE __key*")
	long := strings.Repeat("x", 10_000)
	for i := range 40 {
		err := p.Update(context.Background(), func(tx *embedded.Tx) error {
			for j := range 100 {
				if err := tx.Flag(fmt.Sprint(long, i, ":", j)).Set(true); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for s, err := p.Status(); s.LogBytes > 4_000_000; s, err = p.Status() {
		if err != nil {
			t.Fatal(err)
		}
	}
	n, err := io.Copy(io.Discard, slow)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	t.Logf("took %d bytes, then its end", n)
}

func TestHTTPIsRefusedLoggedAndNotExecuted(t *testing.T) {
	eachWay(t, testHTTPIsRefusedLoggedAndNotExecuted)
}

func testHTTPIsRefusedLoggedAndNotExecuted(t *testing.T) {
	var log lines
	_, address := startPeer(t, embedded.Config{}, slog.New(slog.NewTextHandler(&log, nil)))
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: 127.0.0.1:6379\r\nContent-Length: 12\r\n\r\nSET k evil\r\n",
		"GET / HTTP/1.1\r\nHost: 127.0.0.1:6379\r\n\r\nSET k evil\r\n",
		"PUT /k HTTP/1.1\r\nHost: 127.0.0.1:6379\r\n\r\nSET k evil\r\n",
	} {
		p := dial(t, address)
		p.sendRaw([]byte(request))
		if all, err := io.ReadAll(p); err != nil && !errors.Is(err, io.EOF) &&
			!strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: %v", all, err)
		}
	}
	p := dial(t, address)
	p.expect("EXISTS k", ":0")
	if n := strings.Count(log.String(), "speaks HTTP to the redis port"); n != 1 {
		t.Errorf("logged %d times, want once in a minute: %s", n, log.String())
	}
}
