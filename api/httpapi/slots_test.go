package httpapi

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerd/peerd/internal/auth/authtest"
)

// askOn asks for the status on a connection, with the password, and returns the answer's code.
func askOn(t *testing.T, conn net.Conn) int {
	t.Helper()
	const request = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + password +
		"\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		t.Error(err)
		return 0
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

func TestStrangersGiveWayToClients(t *testing.T) {
	plain := func(c net.Conn) net.Conn { return c }
	secured, config := authtest.Pair(t)
	overTLS := func(c net.Conn) net.Conn { return tls.Client(c, config) }
	t.Run("without TLS", func(t *testing.T) {
		strangersGiveWay(t, Config{Peer: &fakePeer{}, Auth: authtest.Guard(t, password)}, plain)
	})
	t.Run("over TLS", func(t *testing.T) {
		strangersGiveWay(t, Config{Peer: &fakePeer{}, TLS: secured}, overTLS)
	})
}

func strangersGiveWay(t *testing.T, config Config, secure func(net.Conn) net.Conn) {
	onPipes(t, config, func(t *testing.T, connect func() net.Conn) {
		client := secure(connect())
		if code := askOn(t, client); code != http.StatusOK {
			t.Fatalf("the first client is answered with %d", code)
		}
		for range 2*MaxConnections - 1 { // as many wait as have a slot
			defer connect().Close()
		}
		synctest.Wait()
		began := time.Now()
		another := secure(connect())
		if code := askOn(t, another); code != http.StatusOK {
			t.Errorf("a client that comes after them is answered with %d", code)
		}
		if waited := time.Since(began); waited != 2*strangerPatience {
			t.Errorf("it waited for %v, want %v", waited, 2*strangerPatience)
		}
		for _, c := range []net.Conn{client, another} {
			if code := askOn(t, c); code != http.StatusOK {
				t.Errorf("a client that was there is answered with %d", code)
			}
			c.Close()
		}
	})
}

func TestClientsDoNotGiveWay(t *testing.T) {
	config := Config{Peer: &fakePeer{}, Auth: authtest.Guard(t, password)}
	onPipes(t, config, func(t *testing.T, connect func() net.Conn) {
		var clients []net.Conn
		for range MaxConnections {
			c := connect()
			clients = append(clients, c)
			defer c.Close()
			if code := askOn(t, c); code != http.StatusOK {
				t.Fatalf("answered with %d", code)
			}
		}
		late := connect()
		defer late.Close()
		began, answered := time.Now(), make(chan int)
		go func() { answered <- askOn(t, late) }()
		<-time.After(idleTimeout / 2)
		for _, c := range clients[1:] {
			if code := askOn(t, c); code != http.StatusOK {
				t.Errorf("a client is answered with %d while another waits", code)
			}
		}
		if code := <-answered; code != http.StatusOK || time.Since(began) != idleTimeout {
			t.Errorf("answered with %d after %v, want %v: when the first was idle for so long", code,
				time.Since(began), idleTimeout)
		}
	})
}

// TestAStrangersConnectionEndsWithTheAnswer whatever is asked; net/http has an answer of its own to
// OPTIONS *.
func TestAStrangersConnectionEndsWithTheAnswer(t *testing.T) {
	config := Config{Peer: &fakePeer{}, Auth: authtest.Guard(t, password)}
	for _, request := range []string{"GET /v1/status", "GET /healthz", "OPTIONS /v1/keys", "OPTIONS *"} {
		onPipes(t, config, func(t *testing.T, connect func() net.Conn) {
			far := connect()
			defer far.Close()
			began := time.Now()
			if _, err := io.WriteString(far, request+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			told, err := io.ReadAll(far)
			open := strings.HasPrefix(string(told), "HTTP/1.1 200")
			if open != strings.Contains(request, "healthz") || time.Since(began) > 0 || err != nil {
				t.Errorf("%s: after %v %v: %s", request, time.Since(began), err, told)
			}
		})
	}
}

// TestStrangersDoNotFillTheLog: who does not end the handshake of TLS is told of where all is told.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	secured, _ := authtest.Pair(t)
	for level, lines := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 3} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
		onPipes(t, Config{Peer: &fakePeer{}, TLS: secured, Logger: logger}, func(t *testing.T, connect func() net.Conn) {
			for range 3 {
				far := connect()
				go func() { _, _ = io.WriteString(far, "GET / HTTP/1.1\r\n\r\n") }()
				_, _ = io.Copy(io.Discard, far) // until it is closed
				far.Close()
			}
		})
		if got := strings.Count(log.String(), "http cannot serve a client"); got != lines {
			t.Errorf("at level %v three handshakes that failed are %d lines, want %d:\n%s", level, got, lines, &log)
		}
	}
}
