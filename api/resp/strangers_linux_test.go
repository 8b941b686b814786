package resp

import (
	"testing"
	"time"
)

// guardedLoop starts a server that asks for the password, whose connections are in the loop. Its
// clock stands still but for what the test puts it forward by. arrive waits until there are so many
// strangers.
func guardedLoop(t *testing.T, config Config) (connect func() *peer, pass func(time.Duration), arrive func(int)) {
	t.Helper()
	began, clock := time.Now(), &setClock{}
	config.db, config.Auth = newMemory(t), guarded(t)
	config.clock = func() time.Time { return began.Add(time.Duration(clock.ahead.Load())) }
	s, address := startServer(t, config)
	connect = func() *peer { return dial(t, address) }
	pass = func(d time.Duration) {
		if s.loopOf() == nil {
			t.Fatal("there is no loop")
		}
		clock.advance(s, d)
	}
	return connect, pass, func(n int) {
		t.Helper()
		eventually(t, "the strangers are there", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.strangers) == n
		})
	}
}

func TestInTheLoopStrangersGiveWayToClients(t *testing.T) {
	connect, pass, arrive := guardedLoop(t, Config{})
	first := connect()
	first.expect("AUTH "+password, "+OK")
	var strangers []*peer
	for range MaxStrangers {
		strangers = append(strangers, connect())
	}
	arrive(MaxStrangers)
	pass(strangerTurn)
	second := connect()
	second.expect("AUTH "+password, "+OK")
	strangers[0].expectEnd()
	for _, p := range strangers[1:] {
		p.expect("GET a", noAuth) // no other gave way
	}
	pass(StrangerPatience)
	for _, p := range strangers[1:] {
		p.expectEnd()
	}
	first.expect("PING", "+PONG")
	second.expect("PING", "+PONG")
}

func TestInTheLoopStrangersGiveWayWhenNoPlaceForAClientIsLeft(t *testing.T) {
	const places = 3
	connect, pass, arrive := guardedLoop(t, Config{MaxClients: places})
	var clients []*peer
	for range places - 1 {
		clients = append(clients, connect())
		clients[len(clients)-1].expect("AUTH "+password, "+OK")
	}
	stranger := connect()
	arrive(1)
	pass(strangerTurn)
	clients = append(clients, connect())
	clients[places-1].expect("AUTH "+password, "+OK")
	stranger.expectEnd()
	if got := connect().reply(); got != "-ERR max number of clients reached" {
		t.Errorf("one too many: %s", got)
	}
	for _, p := range clients {
		p.expect("PING", "+PONG")
	}
}
