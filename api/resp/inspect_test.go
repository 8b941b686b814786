package resp

import (
	"testing"
	"time"
)

func TestClientsAndSlowCommandsAreShown(t *testing.T) {
	eachWay(t, testClientsAndSlowCommandsAreShown)
}

func testClientsAndSlowCommandsAreShown(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t), SlowLog: time.Nanosecond})
	first, second := dial(t, address), dial(t, address)
	first.expect("CLIENT SETNAME first", "+OK")
	first.expect("SET k secret", "+OK")
	first.expect("PING", "+PONG") // then SET is in the slow log
	second.expect("PING", "+PONG")
	clients, all := s.Clients(1)
	if all != 2 || len(clients) != 1 || clients[0].Address != second.LocalAddr().String() || clients[0].Name != "" {
		t.Errorf("of %d clients the last is %+v", all, clients)
	}
	clients, _ = s.Clients(10)
	if len(clients) != 2 || clients[1].Name != "first" || time.Since(clients[1].Since) > time.Minute {
		t.Errorf("the clients are %+v", clients)
	}
	slow := s.SlowCommands(10)
	if len(slow) == 0 {
		t.Fatal("nothing was slow")
	}
	for _, e := range slow {
		if e.Command == "set" && string(e.Key) == "k" && e.ClientName == "first" && e.Took > 0 {
			return
		}
	}
	t.Errorf("the slow commands are %+v", slow)
}
