package resp

import (
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestWhoIsKilledBeforeItWaitsTakesNothing: its command waits for its turn meanwhile.
func TestWhoIsKilledBeforeItWaitsTakesNothing(t *testing.T) {
	db := &apart{memory: newMemory(t), entered: make(chan struct{}), leave: make(chan struct{})}
	s, address := startServer(t, Config{db: db, goroutines: true})
	waits, other := dial(t, address), dial(t, address)
	id := strings.TrimPrefix(waits.ask("CLIENT ID"), ":")
	waits.send([]string{"BLPOP", "q", "0"})
	<-db.entered
	other.expect("CLIENT KILL ID "+id, ":1")
	close(db.leave)
	waits.expectEnd()
	eventually(t, "it has left", func() bool { return s.clientCount() == 1 && s.blockedCount() == 0 })
	other.expect("RPUSH q x", ":1")
	other.expect("LLEN q", ":1")
}

// TestASubscriberThatIsClosedWhileItWaitsTakesNothing: the goroutine that sends its messages closes it.
func TestASubscriberThatIsClosedWhileItWaitsTakesNothing(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		peer, address := startPeer(t, embedded.Config{}, nil)
		waits, other := dial(t, address), dial(t, address)
		other.expect("SELECT 3", "+OK")
		other.expect("SET a 1", "+OK")
		other.expect("SELECT 0", "+OK")
		waits.ask("HELLO 3")
		waits.ask("SUBSCRIBE __keyspace@3__:a")
		waits.send([]string{"BLPOP", "q", "0"})
		eventually(t, "it waits", func() bool { return saysBlocked(other, 1) })
		if err := peer.DropSpace(t.Context(), "db3", true); err != nil {
			t.Fatal(err)
		}
		waits.expectEnd()
		eventually(t, "nobody waits", func() bool { return saysBlocked(other, 0) })
		other.expect("RPUSH q x", ":1")
		other.expect("LLEN q", ":1")
	})
}
