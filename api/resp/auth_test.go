package resp

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerd/peerd/internal/auth"
	"github.com/peerd/peerd/internal/auth/authtest"
)

const password = "correct-horse-battery"

// startGuarded serves an empty database to clients that have the password.
func startGuarded(t *testing.T) (*Server, string) {
	t.Helper()
	return startServer(t, Config{db: newMemory(t), Auth: guarded(t)})
}

func guarded(t *testing.T) *auth.Guard { return authtest.Guard(t, password) }

const (
	noAuth    = "-NOAUTH Authentication required."
	wrongPass = "-WRONGPASS invalid username-password pair or user is disabled."
)

func TestWithoutThePasswordNothingIsAnswered(t *testing.T) {
	eachWay(t, testWithoutThePasswordNothingIsAnswered)
}

func testWithoutThePasswordNothingIsAnswered(t *testing.T) {
	_, address := startGuarded(t)
	p := dial(t, address)
	for _, cmd := range table() {
		if cmd.forStrangers {
			continue
		}
		all := []*command{&cmd}
		if cmd.subs != nil {
			all = slices.Collect(maps.Values(cmd.subs))
		}
		for _, cmd := range all {
			words := strings.Split(cmd.name, "|")
			for len(words) < max(cmd.arity, -cmd.arity) {
				words = append(words, "x")
			}
			p.expect(strings.Join(words, " "), noAuth)
		}
	}
	p.expect("HELLO 3", "-"+string(errNoAuthYet))
	p.expect("HELLO 3 AUTH default wrong", wrongPass)
	p.expect("HELLO 3 AUTH other "+password, wrongPass)
	p.expect("AUTH wrong", wrongPass)
	p.expect("AUTH a b c", "-ERR syntax error")
	p.expect("GET x", noAuth)
	p.expect("QUIT", "+OK")
}

func TestAfterResetThePasswordIsAskedForAgain(t *testing.T) {
	eachWay(t, testAfterResetThePasswordIsAskedForAgain)
}

func testAfterResetThePasswordIsAskedForAgain(t *testing.T) {
	_, address := startGuarded(t)
	p := dial(t, address)
	p.expect("RESET", "+RESET")
	p.expect("AUTH "+password, "+OK")
	p.expect("SET x 1", "+OK")
	lines := []string{"RESET", "GET x", "MULTI", "AUTH " + password, "SET x 2", "GET x"}
	var commands [][]string
	for _, line := range lines {
		commands = append(commands, strings.Fields(line))
	}
	p.send(commands...)
	for i, want := range []string{"+RESET", noAuth, noAuth, "+OK", "+OK", `"2"`} {
		if got := p.reply(); got != want {
			t.Errorf("%s: %s, want %s", lines[i], got, want)
		}
	}
}

func TestThePasswordOpensAConnectionInEachWay(t *testing.T) {
	eachWay(t, testThePasswordOpensAConnectionInEachWay)
}

func testThePasswordOpensAConnectionInEachWay(t *testing.T) {
	_, address := startGuarded(t)
	for _, line := range []string{"AUTH " + password, "AUTH default " + password} {
		p := dial(t, address)
		p.expect(line, "+OK")
		p.expect("SET x 1", "+OK")
		p.expect("AUTH wrong", wrongPass)
		p.expect("GET x", `"1"`)
	}
	p := dial(t, address)
	if got := p.ask("HELLO 3 AUTH default " + password + " SETNAME me"); !strings.HasPrefix(got, "%7") {
		t.Errorf("HELLO 3 AUTH: %s", got)
	}
	p.expect("CLIENT GETNAME", `"me"`)
}

func TestAPipelineMayBeginWithThePassword(t *testing.T) {
	eachWay(t, testAPipelineMayBeginWithThePassword)
}

func testAPipelineMayBeginWithThePassword(t *testing.T) {
	_, address := startGuarded(t)
	p := dial(t, address)
	long := []string{"SADD", "s"}
	for i := range 2 * MaxStrangerArguments {
		long = append(long, fmt.Sprint(i))
	}
	big := []string{"SET", "b", strings.Repeat("x", 2*MaxStrangerCommand)}
	p.send([]string{"GET", "x"}, []string{"AUTH", password}, long, big, []string{"SCARD", "s"})
	for _, want := range []string{noAuth, "+OK", ":20", "+OK", ":20"} {
		if got := p.reply(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestAClientHasSmallLimitsBeforeThePassword(t *testing.T) {
	eachWay(t, testAClientHasSmallLimitsBeforeThePassword)
}

func testAClientHasSmallLimitsBeforeThePassword(t *testing.T) {
	_, address := startGuarded(t)
	for name, test := range map[string]struct{ sent, want string }{
		"arguments": {"*11\r\n", "unauthenticated multibulk length"},
		"bytes":     {"*2\r\n$4\r\nAUTH\r\n$16384\r\n", "unauthenticated bulk length"},
		"line":      {strings.Repeat("x", MaxStrangerCommand+1), "too big inline request"},
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, address)
			p.sendRaw([]byte(test.sent))
			if got, want := p.reply(), "-ERR Protocol error: "+test.want; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			p.expectEnd()
		})
	}
}

func TestWhoGuessesHasToWaitAndOthersDoNot(t *testing.T) {
	eachWay(t, testWhoGuessesHasToWaitAndOthersDoNot)
}

func testWhoGuessesHasToWaitAndOthersDoNot(t *testing.T) {
	server, address := startGuarded(t)
	p := dial(t, address)
	var got string
	for range 20 {
		if got = p.ask("AUTH wrong"); got != wrongPass {
			break
		}
	}
	if !strings.HasPrefix(got, "-ERR too many wrong passwords from this address: try again in ") {
		t.Errorf("after 20 wrong passwords: %s", got)
	}
	// The same server, asked by somebody at another address.
	local, remote := net.Pipe()
	defer local.Close()
	server.start(t.Context(), remote)
	other := newPipePeer(t, local)
	other.expect("AUTH "+password, "+OK")
}

func TestAClientThatDoesNotEndTheHandshakeIsClosed(t *testing.T) {
	secured, err := auth.LoadTLS(authtest.NewAuthority(t).Issue("server"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{db: newMemory(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		local, remote := net.Pipe()
		s.start(t.Context(), tls.Server(remote, secured.Config()))
		began := time.Now()
		newPipePeer(t, local).expectEnd()
		if waited := time.Since(began); waited != StrangerPatience {
			t.Errorf("closed after %v, want %v", waited, StrangerPatience)
		}
	})
}

func TestOverTLSClientsWithACertificateAreServed(t *testing.T) {
	authority := authtest.NewAuthority(t)
	secured, err := auth.LoadTLS(authority.Issue("server"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{db: newMemory(t)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", secured.Config())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	connect := func(files auth.Files) *peer {
		config, err := files.ClientConfig()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", l.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &peer{t, conn, bufio.NewReader(conn)}
	}
	p := connect(authority.Issue("client"))
	p.expect("SET x 1", "+OK")
	pipeline := make([][]string, 2000) // beyond the buffer of a client that waits
	for i := range pipeline {
		pipeline[i] = []string{"INCR", "x"}
	}
	p.send(pipeline...)
	for i := range pipeline {
		if got, want := p.reply(), fmt.Sprintf(":%d", i+2); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	connect(auth.Files{CA: authority.CA()}).expectEnd()
	dial(t, l.Addr().String()).sendRaw([]byte("PING\r\n"))
	p.expect("PING", "+PONG")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
