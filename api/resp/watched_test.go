package resp

import (
	"fmt"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestWhatIsWatchedIsOfItsDatabase: what happens to a key of that name in another is no change, and
// what was watched there counts wherever EXEC is.
func TestWhatIsWatchedIsOfItsDatabase(t *testing.T) { eachWay(t, testWhatIsWatchedIsOfItsDatabase) }

func testWhatIsWatchedIsOfItsDatabase(t *testing.T) {
	p, converse := withSpaces(t)
	converse("SET k zero\r\nSELECT 3\r\nSET k three\r\nSELECT 0\r\nWATCH k\r\nSELECT 3\r\nSET k more\r\nSELECT 0\r\nMULTI\r\n"+
		"GET k\r\nEXEC\r\n",
		"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$4\r\nzero\r\n")
	const watchThere = "SELECT 3\r\nWATCH k\r\nSELECT 0\r\n"
	const thenExecute, executed = "MULTI\r\nSET k mine\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"
	converse(watchThere+thenExecute, "+OK\r\n+OK\r\n+OK\r\n"+executed)
	space, err := p.Space("db3")
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*embedded.Tx) error{
		func(tx *embedded.Tx) error { return tx.String("k").Set([]byte("by the library")) },
		func(tx *embedded.Tx) error { _, err := tx.Remove("k"); return err },
	} {
		converse(watchThere, "+OK\r\n+OK\r\n+OK\r\n")
		if err := space.Update(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		converse(thenExecute, "+OK\r\n+QUEUED\r\n*-1\r\n")
		converse(thenExecute, executed)
	}
}

// TestADatabaseThatNobodyHasWrittenToCanBeWatched: EXEC executes there and elsewhere, unless somebody
// else writes to a key that is watched. So it is where the database was dropped.
func TestADatabaseThatNobodyHasWrittenToCanBeWatched(t *testing.T) {
	eachWay(t, testADatabaseThatNobodyHasWrittenToCanBeWatched)
}

func testADatabaseThatNobodyHasWrittenToCanBeWatched(t *testing.T) {
	const executed = "*1\n  +OK"
	host, address := startPeer(t, embedded.Config{}, nil)
	p, other := dial(t, address), dial(t, address)
	execute := func(in int, meanwhile, want string) {
		t.Helper()
		p.expect("WATCH k", "+OK")
		p.expect("WATCH more", "+OK")
		p.expect(fmt.Sprint("SELECT ", in), "+OK")
		if meanwhile != "" {
			other.expect(meanwhile, "+OK")
		}
		p.expect("MULTI", "+OK")
		p.expect("SET k mine", "+QUEUED")
		p.expect("EXEC", want)
	}
	db := 3
	for _, c := range []struct{ meanwhile, want string }{
		{"", executed}, {"SET k theirs", "*-1"}, {"SET another theirs", executed},
	} {
		for _, in := range []int{db, 0} {
			choose := fmt.Sprint("SELECT ", db)
			p.expect(choose, "+OK")
			other.expect(choose, "+OK")
			execute(in, c.meanwhile, c.want)
			db++
		}
	}
	if err := host.DropSpace(t.Context(), "db3", true); err != nil {
		t.Fatal(err)
	}
	p.expect("SELECT 3", "+OK")
	execute(0, "", `-ERR this host does not hold the space "db3": it was dropped here, and a write takes it up again`)
	p.expect("SELECT 3", "+OK")
	execute(3, "", executed)
}

// TestKeysThatAreWatchedAreBounded also shows that a client that leaves has others pay for nothing.
func TestKeysThatAreWatchedAreBounded(t *testing.T) { eachWay(t, testKeysThatAreWatchedAreBounded) }

func testKeysThatAreWatchedAreBounded(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p, other := dial(t, address), dial(t, address)
	names := []string{"WATCH"}
	for i := range MaxWatched - 1 {
		names = append(names, fmt.Sprint(i))
	}
	for i, want := range []string{"+OK", "-ERR more than 4096 watched keys of a client (MaxWatched)"} {
		if p.send(names); p.reply() != want && i == 0 {
			t.Fatalf("%d keys cannot be watched", len(names)-1)
		}
	}
	p.expect("WATCH last", "+OK")
	p.expect("WATCH more", "-ERR more than 4096 watched keys of a client (MaxWatched)")
	other.expect("SET last x", "+OK")
	p.expect("MULTI", "+OK")
	p.expect("EXEC", "*-1")
	p.expect("WATCH more", "+OK")
	p.expect("QUIT", "+OK")
	p.expectEnd()
	other.expect("SET more x", "+OK")
}

// TestAnotherPeersWritesAreChanges: EXEC at one of two peers answers null after a write at the
// other.
func TestAnotherPeersWritesAreChanges(t *testing.T) { eachWay(t, testAnotherPeersWritesAreChanges) }

func testAnotherPeersWritesAreChanges(t *testing.T) {
	h := newHosts(t, 2)
	here, there := h.clients[0], h.clients[1]
	there.expect("SET k 1", "+OK")
	h.heal()
	here.expect("WATCH k", "+OK")
	there.expect("SET k 2", "+OK")
	h.heal()
	here.expect("MULTI", "+OK")
	here.expect("INCR k", "+QUEUED")
	here.expect("EXEC", "*-1")
	here.expect("WATCH k", "+OK")
	here.expect("MULTI", "+OK")
	here.expect("INCR k", "+QUEUED")
	here.expect("EXEC", "*1\n  :3")
}

// TestADatabaseThatIsDroppedAndMadeAgainHasChanged, for who watches keys of it and executes in another: what they hold is
// the same, and may be by chance.
func TestADatabaseThatIsDroppedAndMadeAgainHasChanged(t *testing.T) {
	peer, address := startPeer(t, embedded.Config{}, nil)
	p, other := dial(t, address), dial(t, address)
	for _, key := range []string{"there", "none"} {
		other.expect("SELECT 3", "+OK")
		other.expect("SET there 1", "+OK")
		p.expect("SELECT 3", "+OK")
		p.expect("WATCH "+key, "+OK")
		p.expect("SELECT 0", "+OK")
		p.expect("MULTI", "+OK")
		p.expect("INCR n", "+QUEUED")
		if err := peer.DropSpace(t.Context(), "db3", true); err != nil {
			t.Fatal(err)
		}
		other.expect("SET there 1", "+OK") // takes it up again
		p.expect("EXEC", "*-1")
	}
}

// TestWhatIsWrittenAnewCountsAsAChange though it changes nothing that is read: docs/redis.md lists
// it.
func TestWhatIsWrittenAnewCountsAsAChange(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p, other := dial(t, address), dial(t, address)
	for _, test := range []struct{ before, again string }{
		{"SADD s a", "SADD s a"},
		{"ZADD z 1 a", "ZADD z 1 a"},
		{"ZADD z 1 a", "ZINCRBY z 0 a"},
		{"GEOADD g 1 1 a", "GEOADD g 1 1 a"},
	} {
		other.ask(test.before)
		p.expect("WATCH "+strings.Fields(test.again)[1], "+OK")
		other.ask(test.again)
		p.expect("MULTI", "+OK")
		p.expect("EXEC", "*-1")
	}
}
