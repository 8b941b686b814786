package resp

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

func TestAConfigurationReportsEveryProblem(t *testing.T) {
	_, err := New(Config{MaxClients: -1, DrainTimeout: -1})
	want := "no Peer\nMaxClients is -1: want 0 or more\nDrainTimeout is -1ns: want 0 or more"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// slowDB lets a test decide when an update goes on.
type slowDB struct {
	*memory
	entered, leave chan struct{}
}

func (db slowDB) UpdateAll(ctx context.Context, fns []func(*embedded.Tx) error) []error {
	db.entered <- struct{}{}
	select {
	case <-db.leave:
		return db.memory.UpdateAll(ctx, fns)
	case <-ctx.Done():
		errs := make([]error, len(fns))
		for i := range errs {
			errs[i] = ctx.Err()
		}
		return errs
	}
}

func (db slowDB) Submit(fns []func(*embedded.Tx) error, done func([]error)) {
	go func() {
		db.entered <- struct{}{}
		<-db.leave
		db.memory.Submit(fns, done)
	}()
}

func TestAShutdownAnswersWhatWasAccepted(t *testing.T) {
	eachWay(t, testAShutdownAnswersWhatWasAccepted)
}

func testAShutdownAnswersWhatWasAccepted(t *testing.T) {
	for _, by := range []string{"context", "Shutdown"} {
		t.Run(by, func(t *testing.T) {
			db := slowDB{newMemory(t), make(chan struct{}), make(chan struct{})}
			s, err := New(Config{db: db, DrainTimeout: patience, goroutines: !looped(t)})
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			served := make(chan error, 1)
			go func() { served <- s.Serve(ctx, l) }()
			idle, busy := dial(t, l.Addr().String()), dial(t, l.Addr().String())
			idle.expect("PING", "+PONG")
			busy.send([]string{"SET", "a", "1"}, []string{"GET", "a"})
			<-db.entered

			stopped := make(chan error, 1)
			if by == "context" {
				cancel()
				stopped <- nil
			} else {
				go func() { stopped <- s.Shutdown(ctx) }()
			}
			idle.expectEnd()
			close(db.leave)
			if set, get := busy.reply(), busy.reply(); set != "+OK" || get != `"1"` {
				t.Errorf("got %s and %s", set, get)
			}
			busy.expectEnd()
			if err := errors.Join(<-served, <-stopped); err != nil {
				t.Error(err)
			}
			if err := s.Serve(ctx, l); !errors.Is(err, ErrServerClosed) {
				t.Errorf("serving again: %v", err)
			}
		})
	}
}

func TestCloseCutsWhatWaitsForTheDatabase(t *testing.T) {
	eachWay(t, testCloseCutsWhatWaitsForTheDatabase)
}

func testCloseCutsWhatWaitsForTheDatabase(t *testing.T) {
	db := slowDB{newMemory(t), make(chan struct{}), make(chan struct{})}
	s, address := startServer(t, Config{db: db})
	p := dial(t, address)
	p.send([]string{"SET", "a", "1"})
	<-db.entered
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	p.expectEndOfServer()
	close(db.leave) // what the database ends after that goes nowhere
}

func TestConnectionsWithoutAFileDescriptorWork(t *testing.T) {
	s, err := New(Config{db: newMemory(t)})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer far.Close()
	var running sync.WaitGroup
	running.Go(func() { newClient(s, near, 1).serve(t.Context()) })
	if _, err := far.Write(encodeCommand("PING")); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 7)
	if n, err := far.Read(reply); err != nil || string(reply[:n]) != "+PONG\r\n" {
		t.Errorf("got %q, %v", reply[:n], err)
	}
	far.Close()
	running.Wait()
}
