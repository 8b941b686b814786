package resp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

func (s *Server) loopOf() *loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loop
}

// inLoop starts a server whose connections are in the loop.
func inLoop(t *testing.T, config Config) (*Server, string) {
	t.Helper()
	s, address := startServer(t, config)
	dial(t, address).expect("PING", "+PONG")
	if s.loopOf() == nil {
		t.Fatal("there is no loop")
	}
	return s, address
}

func TestACommandInManyPacketsIsAnswered(t *testing.T) {
	eachWay(t, testACommandInManyPacketsIsAnswered)
}

func testACommandInManyPacketsIsAnswered(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p, other := dial(t, address), dial(t, address)
	value := strings.Repeat("v", 40)
	for _, b := range append(encodeCommand("SET", "k", value), encodeCommand("GET", "k")...) {
		p.sendRaw([]byte{b})
		other.expect("PING", "+PONG") // so that the server sees each byte alone
	}
	if set := p.reply(); set != "+OK" {
		t.Errorf("SET answered %s", set)
	}
	p.expectText(value)
}

func TestAThousandClientsAreServedAtOnce(t *testing.T) {
	eachWay(t, testAThousandClientsAreServedAtOnce)
}

func testAThousandClientsAreServedAtOnce(t *testing.T) {
	const clients, pipeline = 1000, 20
	s, address := startServer(t, Config{db: newMemory(t)})
	peers := make([]*peer, clients)
	for i := range peers {
		peers[i] = dial(t, address)
		var commands [][]string
		for range pipeline {
			commands = append(commands, []string{"INCR", "all"}, []string{"INCR", fmt.Sprint("n", i)})
		}
		peers[i].send(commands...)
	}
	for _, p := range peers {
		for n := range pipeline {
			p.reply()
			if got, want := p.reply(), fmt.Sprint(":", n+1); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	}
	peers[0].expect("GET all", fmt.Sprintf("%q", fmt.Sprint(clients*pipeline)))
	for _, p := range peers {
		p.Close()
	}
	eventually(t, "all have left", func() bool { return s.clientCount() == 0 })
	if held := s.held.Load(); held != 0 {
		t.Errorf("%d bytes are held for nobody", held)
	}
}

// held adds a command for strangers that is executed until it is let go.
func held(t *testing.T) (entered, leave chan struct{}) {
	entered, leave = make(chan struct{}), make(chan struct{})
	commands["held"] = &command{name: "held", arity: 1, forStrangers: true, apart: true, run: func(c *call) error {
		entered <- struct{}{}
		<-leave
		c.out.status("OK")
		return nil
	}}
	t.Cleanup(func() { delete(commands, "held") })
	return entered, leave
}

// TestAStrangersTimeIsBounded whatever it asks for, and what becomes of others meanwhile.
func TestAStrangersTimeIsBounded(t *testing.T) { eachWay(t, testAStrangersTimeIsBounded) }

func testAStrangersTimeIsBounded(t *testing.T) {
	pass := func(d time.Duration) { <-time.After(d) }
	onPipes(t, Config{Auth: guarded(t)}, nil, func(t *testing.T, _ *Server, connect func() *peer) {
		entered, leave := held(t)
		client, first := connect(), connect()
		client.expect("AUTH "+password, "+OK")
		first.expect("GET a", noAuth)
		pass(StrangerPatience / 2)
		second := connect()
		second.send([]string{"HELD"})
		<-entered
		pass(StrangerPatience/2 + time.Second) // while something is executed for the second
		first.expectEnd()
		leave <- struct{}{}
		if got := second.reply(); got != "+OK" {
			second.t.Errorf("within its time a stranger is answered %s", got)
		}
		third := connect()
		third.send([]string{"HELD"})
		<-entered
		pass(StrangerPatience / 2)
		second.expectEnd()
		pass(StrangerPatience/2 + time.Second)
		leave <- struct{}{}
		third.expectEnd()
		client.expect("PING", "+PONG")
	})
}

// TestAClientThatLeavesIsForgotten whatever it waited for, and however it left.
func TestAClientThatLeavesIsForgotten(t *testing.T) { eachWay(t, testAClientThatLeavesIsForgotten) }

func testAClientThatLeavesIsForgotten(t *testing.T) {
	db := slowDB{newMemory(t), make(chan struct{}), make(chan struct{})}
	s, address := startServer(t, Config{db: db})
	for _, how := range []string{"close", "reset"} {
		idle, half, busy, deaf := dial(t, address), dial(t, address), dial(t, address), dial(t, address)
		idle.expect("PING", "+PONG")
		half.sendRaw([]byte("*2\r\n$4\r\nEC"))
		busy.send([]string{"SET", "a", how}, []string{"PING"})
		<-db.entered
		var sending sync.WaitGroup
		sending.Go(func() { _, _ = deaf.Write(largeReplies(64)) })
		deaf.expectText(strings.Repeat("v", MaxBatchOutput))
		eventually(t, "all are there", func() bool { return s.clientCount() == 4 })
		for _, p := range []*peer{idle, half, busy, deaf} {
			if how == "reset" {
				_ = p.Conn.(*net.TCPConn).SetLinger(0)
			}
			p.Close()
		}
		sending.Wait()
		eventually(t, "those that wait for nothing have left", func() bool { return s.clientCount() == 1 })
		db.leave <- struct{}{}
		eventually(t, "all have left", func() bool { return s.clientCount() == 0 })
	}
	if held := s.held.Load(); held != 0 {
		t.Errorf("%d bytes are held for nobody", held)
	}
}

// TestAClientThatSendsNoMoreGetsItsReplies is what "printf 'PING\r\n' | nc -N" does.
func TestAClientThatSendsNoMoreGetsItsReplies(t *testing.T) {
	eachWay(t, testAClientThatSendsNoMoreGetsItsReplies)
}

func testAClientThatSendsNoMoreGetsItsReplies(t *testing.T) {
	db := slowDB{newMemory(t), make(chan struct{}), make(chan struct{})}
	_, address := startServer(t, Config{db: db})
	for _, commands := range []string{"PING\r\n", "SET a 1\r\nPING\r\n", "PING\r\nSET a 1\r\nECHO"} {
		p := dial(t, address)
		p.sendRaw([]byte(commands))
		if err := p.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(commands, "SET") {
			<-db.entered
			db.leave <- struct{}{}
		}
		for range strings.Count(commands, "\r\n") {
			p.reply()
		}
		p.expectEnd()
	}
}

func TestAPanicOfACommandIsAnsweredAndEndsNothing(t *testing.T) {
	ways := map[string]access{"panic:none": accessNone, "panic:read": accessRead, "panic:write": accessWrite,
		"panic:scan": accessScan}
	for name, access := range ways {
		commands[name] = &command{name: name, arity: 1, access: access, run: func(c *call) error {
			if access == accessWrite {
				if err := c.tx.String("a").Set([]byte("half")); err != nil {
					return err
				}
			}
			panic("a mistake")
		}}
		t.Cleanup(func() { delete(commands, name) })
	}
	eachWay(t, func(t *testing.T) {
		_, address := startServer(t, Config{db: newMemory(t)})
		p, other := dial(t, address), dial(t, address)
		for name := range ways {
			p.send([]string{"SET", "a", name}, []string{name}, []string{"GET", "a"})
			if got := []string{p.reply(), p.reply(), p.reply()}; got[0] != "+OK" ||
				got[1] != "-ERR "+errPanicked.Error() || got[2] != fmt.Sprintf("%q", name) {
				t.Errorf("%s: answered %q", name, got)
			}
			other.expect("GET a", fmt.Sprintf("%q", name))
		}
		// Nor may a script go on with it.
		p.expect("SET a b", "+OK")
		p.send([]string{"EVAL", "redis.call('set', 'c', 'd') redis.pcall('panic:write') return 1", "0"}, []string{"MGET", "a", "c"})
		p.expectReply("-ERR " + errPanicked.Error())
		p.expectReply("*2\n  \"b\"\n  $-1")
	})
}

// TestTheEndOfAServerCutsWhoTakesNoReplies also cuts one that waits for the database.
func TestTheEndOfAServerCutsWhoTakesNoReplies(t *testing.T) {
	eachWay(t, testTheEndOfAServerCutsWhoTakesNoReplies)
}

func testTheEndOfAServerCutsWhoTakesNoReplies(t *testing.T) {
	db := slowDB{newMemory(t), make(chan struct{}), make(chan struct{})}
	s, address := startServer(t, Config{db: db})
	deaf, waiting := dial(t, address), dial(t, address)
	var sending sync.WaitGroup
	sending.Go(func() { _, _ = deaf.Write(largeReplies(64)) })
	deaf.expectText(strings.Repeat("v", MaxBatchOutput))
	waiting.send([]string{"SET", "a", "1"})
	<-db.entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returned %v", err)
	}
	waiting.expectEndOfServer()
	sending.Wait()
	close(db.leave)
}

// flights counts the functions of each Submit, and keeps them until it is told.
type flights struct {
	*memory
	sizes chan int
	leave chan struct{}
}

func (db flights) Submit(fns []func(*embedded.Tx) error, done func([]error)) {
	db.sizes <- len(fns)
	go func() {
		<-db.leave
		db.memory.Submit(fns, done)
	}()
}

// TestWhatClientsWriteAtOnceIsOneSubmit, of those alone that do not wait, with what they read
// beside it.
func TestWhatClientsWriteAtOnceIsOneSubmit(t *testing.T) {
	db := flights{newMemory(t), make(chan int, 100), make(chan struct{})}
	_, address := inLoop(t, Config{db: db})
	first := dial(t, address)
	first.send([]string{"SET", "a", "1"})
	if n := <-db.sizes; n != 1 {
		t.Errorf("%d commands in the first", n)
	}
	first.send([]string{"SET", "a", "2"}) // for which nothing is read meanwhile
	other := dial(t, address)
	other.send([]string{"GET", "a"}, []string{"INCR", "n"}, []string{"PING"})
	if n := <-db.sizes; n != 3 {
		t.Errorf("%d commands of the other client, want 3", n)
	}
	close(db.leave)
	if n := <-db.sizes; n != 1 {
		t.Errorf("%d commands in the last", n)
	}
	for _, want := range []string{"+OK", "+OK"} {
		if got := first.reply(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	// All three were under way at once.
	if got := other.reply(); !slices.Contains([]string{"$-1", `"1"`, `"2"`}, got) {
		t.Errorf("GET answered %s", got)
	}
}

// TestAReadWaitsForNoWriter nor for who came before it, but for what its own client has sent
// before.
func TestAReadWaitsForNoWriter(t *testing.T) { eachWay(t, testAReadWaitsForNoWriter) }

func testAReadWaitsForNoWriter(t *testing.T) {
	db := slowDB{newMemory(t), make(chan struct{}), make(chan struct{})}
	_, address := startServer(t, Config{db: db})
	writer, both, reader := dial(t, address), dial(t, address), dial(t, address)
	writer.send([]string{"SET", "a", "1"})
	<-db.entered
	reader.expect("GET a", "$-1")
	both.send([]string{"SET", "b", "1"}, []string{"GET", "b"})
	<-db.entered
	both.send([]string{"GET", "b"})
	reader.send([]string{"GET", "a"}, []string{"PING"}, []string{"EXISTS", "b"})
	if got := []string{reader.reply(), reader.reply(), reader.reply()}; !slices.Equal(got, []string{"$-1", "+PONG", ":0"}) {
		t.Errorf("a reader is answered %q", got)
	}
	close(db.leave)
	if got := []string{both.reply(), both.reply(), both.reply()}; !slices.Equal(got, []string{"+OK", `"1"`, `"1"`}) {
		t.Errorf("who writes and reads is answered %q", got)
	}
	if got := writer.reply(); got != "+OK" {
		t.Errorf("a writer is answered %s", got)
	}
	reader.expect("GET a", `"1"`)
}

// stopping keeps the first Submit, and with it the loop, until it is told; and the answers of all
// others.
type stopping struct {
	flights
	first         sync.Once
	entered, goOn chan struct{}
}

func (db *stopping) Submit(fns []func(*embedded.Tx) error, done func([]error)) {
	first := false
	db.first.Do(func() { first = true })
	if !first {
		db.flights.Submit(fns, done)
		return
	}
	close(db.entered)
	<-db.goOn
	db.memory.Submit(fns, done)
}

// TestReadsLeaveBeforeTheWritesOfTheirRound which is one of many clients.
func TestReadsLeaveBeforeTheWritesOfTheirRound(t *testing.T) {
	const readers = 50
	db := &stopping{flights: flights{newMemory(t), make(chan int, 100), make(chan struct{})},
		entered: make(chan struct{}), goOn: make(chan struct{})}
	_, address := inLoop(t, Config{db: db})
	first, writer := dial(t, address), dial(t, address)
	var all []*peer
	for range readers {
		all = append(all, dial(t, address))
		all[len(all)-1].expect("PING", "+PONG")
	}
	first.send([]string{"SET", "a", "1"})
	<-db.entered
	for i, p := range all {
		p.send([]string{"GET", "a"})
		if i == readers/2 {
			writer.send([]string{"SET", "a", "2"})
		}
	}
	close(db.goOn)
	for _, p := range all {
		if got := p.reply(); got != `"1"` {
			t.Errorf("a reader is answered %s", got)
		}
	}
	if n := <-db.sizes; n != 1 {
		t.Errorf("%d commands were submitted", n)
	}
	close(db.leave)
	if got := writer.reply(); got != "+OK" {
		t.Errorf("the writer is answered %s", got)
	}
}

// rounds counts what each call executes. Its first Submit keeps the loop until it is told.
type rounds struct {
	*memory
	first         sync.Once
	entered, goOn chan struct{}
	most          atomic.Int64 // commands of a call

	loop    atomic.Pointer[loop] // since it is kept
	waiting atomic.Int64         // most clients whose replies were left by a round
}

// now is a clock that the loop looks at between two rounds, and counts then.
func (db *rounds) now() time.Time {
	if l := db.loop.Load(); l != nil {
		n := int64(0)
		for _, s := range l.sockets {
			if s != nil && s.state == answering {
				n++
			}
		}
		db.waiting.Store(max(db.waiting.Load(), n))
	}
	return time.Now()
}

func (db *rounds) count(fns []func(*embedded.Tx) error) []func(*embedded.Tx) error {
	done := int64(0)
	counted := make([]func(*embedded.Tx) error, len(fns))
	for i, fn := range fns {
		counted[i] = func(tx *embedded.Tx) error {
			err := fn(tx)
			if err == nil {
				done++
				db.most.Store(max(db.most.Load(), done))
			}
			return err
		}
	}
	return counted
}

func (db *rounds) Read(fns []func(*embedded.Tx) error) []error { return db.memory.Read(db.count(fns)) }

func (db *rounds) Submit(fns []func(*embedded.Tx) error, done func([]error)) {
	db.first.Do(func() {
		close(db.entered)
		<-db.goOn
	})
	db.memory.Submit(db.count(fns), done)
}

// pressing has clients send the same at once to a loop that is kept meanwhile. It returns them,
// and one that came behind them and sent a command.
func pressing(t *testing.T, db *rounds, clients int, commands [][]string) (all []*peer, last *peer) {
	t.Helper()
	db.memory, db.entered, db.goOn = newMemory(t), make(chan struct{}), make(chan struct{})
	s, address := startServer(t, Config{db: db, clock: db.now})
	for range clients {
		all = append(all, dial(t, address))
		all[len(all)-1].expect("PING", "+PONG")
	}
	first := dial(t, address)
	last = dial(t, address)
	last.expect("PING", "+PONG")
	first.send([]string{"SET", "v", strings.Repeat("v", maxQuickBytes/2)})
	<-db.entered
	for _, p := range all {
		p.send(commands...)
	}
	last.send([]string{"INCR", "all"})
	db.loop.Store(s.loopOf())
	close(db.goOn)
	return all, last
}

// TestARoundIsBoundedHoweverManyClientsThereAre and all have their turn: nobody is a share ahead
// of others for long.
func TestARoundIsBoundedHoweverManyClientsThereAre(t *testing.T) {
	const clients, pipeline = 1000, 3 * leastShare
	db := &rounds{}
	all, last := pressing(t, db, clients, slices.Repeat([][]string{{"INCR", "all"}}, pipeline))
	var replies [clients][pipeline]int
	for i, p := range all {
		for j := range pipeline {
			if _, err := fmt.Sscanf(p.reply(), ":%d", &replies[i][j]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range replies {
		for j, n := range replies[i] {
			if most := (j/leastShare + 2) * clients * leastShare; n > most {
				t.Fatalf("command %d of client %d is executed after %d others, want at most %d", j, i, n-1, most)
			}
		}
	}
	n := 0
	if _, err := fmt.Sscanf(last.reply(), ":%d", &n); err != nil || n > 2*clients*leastShare {
		t.Errorf("who comes last is served after %d others: %v", n-1, err)
	}
	if n := db.most.Load(); n > 2*roundWrites { // and the share of one client, which is larger once others have ended
		t.Errorf("%d commands that write in a round, limit %d", n, 2*roundWrites)
	}
}

// TestTheRepliesOfARoundAreBounded of some clients that ask for much, and of many.
func TestTheRepliesOfARoundAreBounded(t *testing.T) {
	const size = maxQuickBytes / 2
	for _, test := range []struct{ clients, pipeline int }{{100, 16}, {2 * roundOutput / size, 1}} {
		t.Run(fmt.Sprint(test.clients, " clients"), func(t *testing.T) {
			db := &rounds{}
			all, last := pressing(t, db, test.clients, slices.Repeat([][]string{{"GET", "v"}}, test.pipeline))
			for _, p := range all {
				for range test.pipeline {
					p.expectText(strings.Repeat("v", size))
				}
			}
			last.reply()
			if n, most := int(db.most.Load())*size, roundOutput+test.clients*size; n > most {
				t.Errorf("%d bytes of replies are made in a round, want %d at most", n, most)
			}
			if db.waiting.Load() == 0 {
				t.Error("all replies of a round have left in it")
			}
		})
	}
}

func TestARoundIsSharedAmongTheClients(t *testing.T) {
	db := flights{newMemory(t), make(chan int, 1000), make(chan struct{})}
	_, address := inLoop(t, Config{db: db})
	const commands = 3 * MaxBatchCommands
	p := dial(t, address)
	incr := make([][]string, commands)
	for i := range incr {
		incr[i] = []string{"INCR", "n"}
	}
	p.send(incr...)
	close(db.leave)
	for i := range commands {
		if got, want := p.reply(), fmt.Sprint(":", i+1); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	for all := 0; all < commands; {
		n := <-db.sizes
		if all += n; n > MaxBatchCommands {
			t.Errorf("%d commands of one client in a round, limit %d", n, MaxBatchCommands)
		}
	}
}

// TestWhatMayTakeLongIsExecutedBesideTheLoop keeps views and large updates waiting, while others
// go on.
func TestWhatMayTakeLongIsExecutedBesideTheLoop(t *testing.T) {
	long := strings.Repeat("x", 2*maxQuickBytes)
	sadd := []string{"SADD", "s"}
	for i := range 2 * maxQuickArguments {
		sadd = append(sadd, fmt.Sprint(i))
	}
	for name, commands := range map[string][][]string{
		"keys":                 {{"KEYS", "*"}},
		"members":              {{"PING"}, {"SMEMBERS", "set"}},
		"info":                 {{"INFO"}},
		"a long value":         {{"GET", "long"}},
		"a long value, set":    {{"SET", "long", "v", "GET"}},
		"a long field":         {{"HGET", "hash", "long"}},
		"a long element":       {{"LINDEX", "list", "0"}},
		"one popped":           {{"LPOP", "list"}},
		"one moved":            {{"LMOVE", "list", "list", "LEFT", "RIGHT"}},
		"a long command":       {{"SET", "k", long}},
		"many arguments":       {sadd},
		"a value within MULTI": {{"MULTI"}, {"INCR", "m"}, {"GET", "long"}, {"EXEC"}},
		"a scan within MULTI":  {{"MULTI"}, {"KEYS", "*"}, {"EXEC"}},
		"many values within MULTI": slices.Concat([][]string{{"MULTI"}},
			slices.Repeat([][]string{{"GET", "quick"}}, MaxBatchOutput/maxQuickBytes+1), [][]string{{"EXEC"}}),
		"much queued by MULTI":       {{"MULTI"}, {"SET", "k", long[:maxQuickBytes-100]}, {"GET", "k"}, {"GET", "k"}, {"EXEC"}},
		"entries trimmed by id":      {{"XTRIM", "entries", "MINID", "~", "390"}},
		"entries trimmed by XADD":    {{"XADD", "entries", "MINID", "290", "*", "f", "v"}},
		"entries delivered":          {strings.Fields("XREADGROUP GROUP new a STREAMS entries >")},
		"long entries delivered":     {strings.Fields("XREADGROUP GROUP new a COUNT 1 STREAMS long-entries >")},
		"entries claimed":            {strings.Fields("XAUTOCLAIM entries g b 0 - COUNT 1000 JUSTID")},
		"entries looked at":          {strings.Fields("XAUTOCLAIM entries g b 1000000 - COUNT 100")},
		"long entries claimed":       {strings.Fields("XAUTOCLAIM long-entries g b 0 - COUNT 1")},
		"long entries claimed by id": {strings.Fields("XCLAIM long-entries g b 0 1")},
		"a long entry of a history":  {strings.Fields("XREADGROUP GROUP g a COUNT 1 STREAMS long-entries 0")},
		"a long entry":               {strings.Fields("XREAD COUNT 1 STREAMS long-entries 0")},
		"a consumer with much":       {strings.Fields("XGROUP DELCONSUMER entries g a")},
		"fields with times":          {{"HLEN", "timed"}},
		"such fields within MULTI":   {{"MULTI"}, {"INCR", "m"}, {"HLEN", "timed"}, {"EXEC"}},
	} {
		t.Run(name, func(t *testing.T) {
			db := &apart{memory: newMemory(t), entered: make(chan struct{}), leave: make(chan struct{})}
			_, address := inLoop(t, Config{db: db})
			setup := dial(t, address)
			db.memory.Peer.Update(t.Context(), func(tx *embedded.Tx) error {
				return errors.Join(addGroups(tx, "entries", 400, "v"), addGroups(tx, "long-entries", 2, long),
					addFields(tx, "timed", 2*maxQuickArguments, true),
					tx.String("long").Set([]byte(long)),
					tx.List("list").Insert(0, []byte(long)), tx.Map("hash").String("long").Set([]byte(long)),
					tx.String("quick").Set([]byte(long[:maxQuickBytes])), addOne(tx.Set("set")))
			})
			setup.expect("SET a 1", "+OK")
			p := dial(t, address)
			if name == "much queued by MULTI" { // not at once with EXEC: then it is no more than a pipeline may have
				for ; len(commands) > 1; commands = commands[1:] {
					p.send(commands[0])
					p.reply()
				}
			}
			p.send(append(commands, []string{"GET", "a"})...)
			<-db.entered
			setup.expect("GET a", `"1"`)
			close(db.leave)
			for range commands {
				p.reply()
			}
			if got := p.reply(); got != `"1"` {
				t.Errorf("what comes behind it is answered %s", got)
			}
			p.expect("INCR n", ":1") // in the loop again
		})
	}
}

func addOne(s crdt.Set) error {
	_, err := s.Add("member")
	return err
}

// apart keeps the first that is not submitted until it is told.
type apart struct {
	*memory
	once           sync.Once
	entered, leave chan struct{}
	free           atomic.Bool // it keeps nobody
}

func (db *apart) wait() {
	if db.free.Load() {
		return
	}
	db.once.Do(func() { close(db.entered) })
	<-db.leave
}

func (db *apart) View(ctx context.Context, fn func(*embedded.Tx) error) error {
	db.wait()
	return db.memory.View(ctx, fn)
}

func (db *apart) UpdateAll(ctx context.Context, fns []func(*embedded.Tx) error) []error {
	db.wait()
	return db.memory.UpdateAll(ctx, fns)
}

// viewing counts what is read on views.
type viewing struct {
	*memory
	views atomic.Int64
}

func (db *viewing) View(ctx context.Context, fn func(*embedded.Tx) error) error {
	db.views.Add(1)
	return db.memory.View(ctx, fn)
}

// TestWhatIsLittleStaysInTheLoopOnceItIsAtHand goes through small values again and again, with changes between, and
// through large ones.
func TestWhatIsLittleStaysInTheLoopOnceItIsAtHand(t *testing.T) {
	db := &viewing{memory: newMemory(t)}
	s, address := inLoop(t, Config{db: db})
	p := dial(t, address)
	p.ask("HSET hash a 1 b 2")
	p.ask("SADD set a")
	p.ask("SADD other b")
	p.ask("ZADD zset 1 a")
	p.ask("RPUSH list a b")
	p.ask("XADD stream 1-1 a b")
	for _, command := range []string{"HGETALL hash", "HKEYS hash", "HSCAN hash 0", "SMEMBERS set", "SUNION set other",
		"SSCAN set 0 MATCH m*",
		"ZSCAN zset 0", "LPOS list b", "XRANGE stream - +"} {
		first := p.ask(command)
		eventually(t, command+" stays in the loop", func() bool { // a view's listing is kept unless others have the turn
			before := db.views.Load()
			if got := p.ask(command); got != first {
				t.Fatalf("%s is answered %s, and then %s", command, first, got)
			}
			return db.views.Load() == before
		})
	}
	timed := func() uint64 { return s.times[commands["hgetall"].number].Counts().Total }
	before := timed()
	if p.ask("HGETALL hash"); timed() != before+1 {
		t.Error("how long it takes there is not counted")
	}
	eventually(t, "it is at hand after changes", func() bool {
		p.ask("HDEL hash b c")
		p.ask("HGETALL hash")
		before := db.views.Load()
		p.expect("HSET hash c 3 a 0", ":1")
		p.expect("HVALS hash", "*2\n  \"0\"\n  \"3\"")
		p.expect("HDEL hash c", ":1")
		p.expect("HKEYS hash", "*1\n  \"a\"")
		return db.views.Load() == before
	})
	for i := range 3 * briefWork {
		p.ask(fmt.Sprintf("HSET hash f%d 1", i))
	}
	p.ask("HGETALL hash")
	views := db.views.Load()
	if p.ask("HGETALL hash"); db.views.Load() != views+1 {
		t.Error("a large hash is gone through in the loop")
	}
	views = db.views.Load()
	p.ask("SSCAN set 0 MATCH " + strings.Repeat("[a-b]", briefPattern))
	if db.views.Load() != views+1 {
		t.Error("a long pattern is compared in the loop")
	}
}

// TestAShutdownAnswersWhoLeftTheLoop: its last connection may end before what it gave to
// goroutines.
func TestAShutdownAnswersWhoLeftTheLoop(t *testing.T) {
	db := &apart{memory: newMemory(t), entered: make(chan struct{}), leave: make(chan struct{})}
	db.free.Store(true)
	s, address := inLoop(t, Config{db: db})
	p := dial(t, address)
	p.expect("SET a 1", "+OK")
	p.ask("HELLO 3")
	p.ask("SUBSCRIBE __keyspace@0__:b")
	db.free.Store(false)
	p.send([]string{"GET", "a"})
	<-db.entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	eventually(t, "the loop has ended", s.loopOf().isOver)
	close(db.leave)
	if got := p.reply(); got != `"1"` {
		t.Errorf("GET answered %s", got)
	}
	p.expectEnd()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestAReadOfADroppedDatabaseIsRefused: a transaction would find it empty, and might take it up
// again.
func TestAReadOfADroppedDatabaseIsRefused(t *testing.T) {
	eachWay(t, testAReadOfADroppedDatabaseIsRefused)
}

func testAReadOfADroppedDatabaseIsRefused(t *testing.T) {
	peer, address := startPeer(t, embedded.Config{}, nil)
	p := dial(t, address)
	p.expect("SELECT 3", "+OK")
	p.expect("GET a", "$-1") // nobody has written to it
	p.expect("SET a 1", "+OK")
	if err := peer.DropSpace(t.Context(), "db3", true); err != nil {
		t.Fatal(err)
	}
	if got := p.ask("GET a"); !strings.HasPrefix(got, "-ERR") {
		t.Errorf("GET answered %s", got)
	}
	p.expect("SET a 2", "+OK")
	p.expect("GET a", `"2"`)
}

// TestWithoutDescriptorsClientsAreServedByGoroutines takes all that the process may have, so that
// there can be no loop.
func TestWithoutDescriptorsClientsAreServedByGoroutines(t *testing.T) {
	s, err := New(Config{db: newMemory(t)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func() (*peer, net.Conn) {
		p := dial(t, l.Addr().String())
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return p, conn
	}
	first, firstConn := connect()
	second, secondConn := connect()
	release := takeDescriptors(t)
	s.start(t.Context(), firstConn)
	first.expect("PING", "+PONG")
	if s.loopOf() != nil {
		t.Error("there is a loop without descriptors")
	}
	release()
	s.start(t.Context(), secondConn)
	second.expect("PING", "+PONG")
	if s.loopOf() == nil {
		t.Error("there is no loop")
	}
	third, thirdConn := connect()
	release = takeDescriptors(t)
	s.start(t.Context(), thirdConn)
	third.expect("SET a 1", "+OK")
	second.expect("GET a", `"1"`)
	release()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// takeDescriptors opens files until the process may open no more.
func takeDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	lower := old
	lower.Cur = 500
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lower); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
		for _, f := range files {
			f.Close()
		}
	}
}
