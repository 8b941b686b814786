package resp

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

func TestWhatIsPublishedAtOnePeerReachesClientsOfOthers(t *testing.T) {
	h := newHosts(t, 2)
	a, b := h.clients[0], h.clients[1]
	b.ask("SUBSCRIBE news")
	b.ask("PSUBSCRIBE n*")
	b.ask("SSUBSCRIBE news")
	a.expect("PUBLISH news hello", ":0") // it has no clients that have subscribed
	b.expectMessages(`*3 "message" "news" "hello"`, `*4 "pmessage" "n*" "news" "hello"`)
	a.expect("SPUBLISH news shard", ":0")
	b.expectMessages(`*3 "smessage" "news" "shard"`)

	h.cut()
	a.expect("PUBLISH news lost", ":0")
	h.heal()
	a.expect("PUBLISH news after", ":0")
	b.expectMessages(`*3 "message" "news" "after"`, `*4 "pmessage" "n*" "news" "after"`)
}

// TestASubscriberSeesWhatWasWrittenBeforeItsMessage asks for it at once.
func TestASubscriberSeesWhatWasWrittenBeforeItsMessage(t *testing.T) {
	eachWay(t, testASubscriberSeesWhatWasWrittenBeforeItsMessage)
}

func testASubscriberSeesWhatWasWrittenBeforeItsMessage(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	writer, reader := dial(t, address), dial(t, address)
	reader.ask("HELLO 3")
	reader.ask("SUBSCRIBE done")
	for i := range 200 {
		value := fmt.Sprint(i)
		if i%2 == 0 {
			writer.send([]string{"MULTI"}, []string{"PUBLISH", "done", value}, []string{"SET", "k", value}, []string{"EXEC"})
		} else {
			writer.send([]string{"SET", "other", value}, []string{"SET", "k", value}, []string{"PUBLISH", "done", value}, []string{"PING"})
		}
		reader.expectMessages(fmt.Sprintf(`>3 "message" "done" %q`, value))
		reader.expect("GET k", fmt.Sprintf("%q", value))
		for range 4 {
			writer.reply()
		}
	}
}

func TestATransactionThatIsRefusedPublishesNothing(t *testing.T) {
	eachWay(t, testATransactionThatIsRefusedPublishesNothing)
}

func testATransactionThatIsRefusedPublishesNothing(t *testing.T) {
	full := newMemory(t)
	full.refusal = errors.New("the disk is full")
	_, address := startServer(t, Config{db: full})
	writer, reader := dial(t, address), dial(t, address)
	reader.ask("SUBSCRIBE c")
	writer.ask("MULTI")
	writer.ask("SET k v")
	writer.ask("PUBLISH c refused")
	writer.expect("EXEC", "-ERR the disk is full")
	writer.expect("PUBLISH c alone", ":1") // which needs no disk
	reader.expectMessages(`*3 "message" "c" "alone"`)
}

// TestWhatCameBeforeAnUnsubscribeIsSent also if the transaction with that is refused, as a whole or by the database.
func TestWhatCameBeforeAnUnsubscribeIsSent(t *testing.T) {
	eachWay(t, testWhatCameBeforeAnUnsubscribeIsSent)
}

func testWhatCameBeforeAnUnsubscribeIsSent(t *testing.T) {
	db := newMemory(t)
	db.refusal = errors.New("the disk is full")
	db.accepts.Store(true)
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	p.ask("HELLO 3")
	p.send([]string{"SET", "a", strings.Repeat("a", 20_000)})
	p.reply()
	for last, refused := range map[string]bool{"PING": false, "LCS a a LEN": false, "GET a": true} {
		db.accepts.Store(true)
		p.ask("SUBSCRIBE c")
		db.accepts.Store(!refused)
		p.send(fields("PUBLISH c sent", "KEYS *", "MULTI", "INCR n", "UNSUBSCRIBE c", last, "EXEC", "ECHO over")...)
		var got []string
		for len(got) == 0 || got[len(got)-1] != `"over"` {
			got = append(got, flat(p.reply()))
		}
		sent := slices.Index(got, `>3 "message" "c" "sent"`)
		if sent < 0 || sent > len(got)-3 || len(got) != 9 {
			t.Errorf("with %s, refused: %v: %.300q", last, refused, got)
		}
	}
}

// fields returns commands by their words.
func fields(commands ...string) (out [][]string) {
	for _, command := range commands {
		out = append(out, strings.Fields(command))
	}
	return out
}

func TestASubscriberThatDoesNotReadItsMessagesIsClosed(t *testing.T) {
	eachWay(t, testASubscriberThatDoesNotReadItsMessagesIsClosed)
}

func testASubscriberThatDoesNotReadItsMessagesIsClosed(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	writer, slow, good := dial(t, address), dial(t, address), dial(t, address)
	slow.ask("SUBSCRIBE c")
	good.ask("SUBSCRIBE c")
	payload := strings.Repeat("x", 1<<19)
	for i := range 64 {
		if got := writer.ask("PUBLISH c " + payload); got != ":2" {
			if got == ":1" {
				break
			}
			t.Fatal(got)
		}
		good.reply()
		if held := s.held.Load(); held > 2*(MaxMail+1<<20) {
			t.Fatalf("after %d messages clients hold %d bytes", i, held)
		}
	}
	if _, err := io.Copy(io.Discard, slow); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	for s.held.Load() != 0 {
		writer.expect("PING", "+PONG") // until the connection's end was noticed
	}
	if n := s.Metrics().Unread; n != 1 {
		t.Errorf("%d clients were closed as they did not read", n)
	}
}

// TestWhoMissedMessagesIsClosedThoughItSubscribesToOthers: it would not know that it did.
func TestWhoMissedMessagesIsClosedThoughItSubscribesToOthers(t *testing.T) {
	eachWay(t, testWhoMissedMessagesIsClosedThoughItSubscribesToOthers)
}

func testWhoMissedMessagesIsClosedThoughItSubscribesToOthers(t *testing.T) {
	db := slowDB{newMemory(t), make(chan struct{}), make(chan struct{})}
	_, address := startServer(t, Config{db: db})
	p, writer := dial(t, address), dial(t, address)
	p.ask("HELLO 3")
	p.ask("SUBSCRIBE c")
	p.send(fields("SET k v", "UNSUBSCRIBE c", "ECHO "+strings.Repeat("x", MaxBatchOutput), "SUBSCRIBE other")...)
	<-db.entered
	for range MaxMail>>20 + 1 {
		writer.expect("PUBLISH c "+strings.Repeat("m", 1<<20-8), ":1")
	}
	close(db.leave)
	p.expectMessages("+OK", `>3 "unsubscribe" "c" :0`)
	p.expectEnd()
}

func TestAMessageBeyondTheLimitIsRefused(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.expect("PUBLISH c "+strings.Repeat("x", 1<<20), "-ERR a message of 1048577 bytes exceeds the limit of 1048576 bytes, "+
		"its channel included (MaxMessage)")
	p.expect("PUBLISH c "+strings.Repeat("x", 1<<20-1), ":0")
}

// TestWhoHasNoRepliesHasMessages: CLIENT REPLY OFF is about replies.
func TestWhoHasNoRepliesHasMessages(t *testing.T) { eachWay(t, testWhoHasNoRepliesHasMessages) }

func testWhoHasNoRepliesHasMessages(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	writer, p := dial(t, address), dial(t, address)
	p.ask("HELLO 3")
	p.send([]string{"CLIENT", "REPLY", "OFF"}, []string{"SUBSCRIBE", "c"}, []string{"PUBLISH", "other", "x"}, []string{"PUBLISH", "c", "own"})
	p.expectMessages(`>3 "subscribe" "c" :1`, `>3 "message" "c" "own"`)
	writer.expect("PUBLISH c other", ":1")
	p.expectMessages(`>3 "message" "c" "other"`)
}

// TestAMessageToManyIsHeldOnce: nobody is closed because many are sent the same.
func TestAMessageToManyIsHeldOnce(t *testing.T) {
	s, err := New(Config{db: newMemory(t)})
	if err != nil {
		t.Fatal(err)
	}
	const clients = 400
	var all []*client
	join := func(channel string) {
		c := register(t, s, idle(t), 0)
		c.box.start()
		c.subs.add(toChannel, channel)
		all = append(all, c)
	}
	tell := func(channel string) {
		s.audience.tell(embedded.Message{Channel: channel, Payload: make([]byte, 1_000_000)})
	}
	evicted := func() (n int) {
		for _, c := range all {
			n += oneIf(c.evicted())
		}
		return n
	}
	for range clients {
		join("all")
	}
	tell("all")
	if n := evicted(); n > 0 {
		t.Errorf("%d of %d clients that are sent the same are closed", n, clients)
	}
	for i := range clients {
		join(fmt.Sprint(i))
		tell(fmt.Sprint(i))
	}
	if n, held := evicted(), s.held.Load(); n == 0 || held > MaxHeld {
		t.Errorf("%d clients are closed, and %d bytes held", n, held)
	}
	for _, c := range all {
		c.subs.clear()
		c.box.stop()
	}
	if held, mail := s.held.Load(), s.mail.Load(); held != 0 || mail != 0 {
		t.Errorf("%d bytes are held, %d of them of mail", held, mail)
	}
}

// TestWhoHoldsTheSameAsManyIsClosedAfterWhoHoldsItAlone: it would give back next to nothing.
func TestWhoHoldsTheSameAsManyIsClosedAfterWhoHoldsItAlone(t *testing.T) {
	s, err := New(Config{db: newMemory(t)})
	if err != nil {
		t.Fatal(err)
	}
	join := func(channel string) *client {
		c := register(t, s, idle(t), 0)
		c.box.start()
		c.subs.add(toChannel, channel)
		return c
	}
	tell := func(channel string, size int) {
		s.audience.tell(embedded.Message{Channel: channel, Payload: make([]byte, size)})
	}
	var lag, alone []*client
	for range 10 {
		lag = append(lag, join("all"))
	}
	tell("all", 4_000_000)
	for i := range MaxHeld/3_000_000 + 2 {
		alone = append(alone, join(fmt.Sprint(i)))
		tell(fmt.Sprint(i), 3_000_000)
	}
	closed := 0
	for _, c := range alone {
		closed += oneIf(c.evicted())
	}
	if slices.ContainsFunc(lag, (*client).evicted) || closed == 0 || closed > 4 || s.held.Load() > MaxHeld {
		t.Errorf("%d of those who hold something alone are closed, and %d bytes held; of those who do together: %v", closed,
			s.held.Load(), slices.ContainsFunc(lag, (*client).evicted))
	}
	for _, c := range slices.Concat(lag, alone) {
		c.subs.clear()
		c.box.stop()
	}
}

// TestALargeMessageIsSentWhole, to who goes on listening and before the reply to who ends it.
func TestALargeMessageIsSentWhole(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p, two := dial(t, address), dial(t, address)
	p.ask("HELLO 3")
	p.ask("SUBSCRIBE c")
	two.ask("PSUBSCRIBE c*")
	large := strings.Repeat("m", 3*largePayload)
	p.send([]string{"PUBLISH", "c", large}, []string{"PUBLISH", "c", "little"}, []string{"UNSUBSCRIBE", "c"})
	p.expectReply(":2")
	p.expectReply(":2")
	p.expectMessages(fmt.Sprintf(`>3 "message" "c" %q`, large), `>3 "message" "c" "little"`, `>3 "unsubscribe" "c" :0`)
	two.expectMessages(fmt.Sprintf(`*4 "pmessage" "c*" "c" %q`, large), `*4 "pmessage" "c*" "c" "little"`)
	p.expect("PING", "+PONG")
}

// TestALargeMessageIsItsReceiversWhileItIsSent: who is slow to take it holds it, and nobody else is closed for that.
func TestALargeMessageIsItsReceiversWhileItIsSent(t *testing.T) {
	s := &Server{}
	box := &mailbox{server: s, subs: &subscriptions{}}
	box.start()
	box.put(mail{Message: embedded.Message{Channel: "c", Payload: make([]byte, largePayload)}})
	large, more, err := box.take(&replies{})
	if err != nil || more || large == nil || box.bytes.Load() < largePayload || s.mail.Load() < largePayload {
		t.Errorf("taken: %v, more %v, %v; its receiver holds %d bytes of %d", large != nil, more, err, box.bytes.Load(),
			s.mail.Load())
	}
	if box.drop(large); box.bytes.Load() != 0 || s.mail.Load() != 0 || s.held.Load() != 0 {
		t.Errorf("when it is sent its receiver holds %d bytes of %d", box.bytes.Load(), s.mail.Load())
	}
}
