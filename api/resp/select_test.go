package resp

import (
	"context"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// withSpaces serves a client of a peer that has spaces, and returns a function that asks it
// several things at once.
func withSpaces(t *testing.T) (p *embedded.Peer, converse func(asked, want string)) {
	t.Helper()
	p, err := embedded.Open(context.Background(), embedded.Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	_, address := startServer(t, Config{Peer: p})
	ends := dial(t, address)
	return p, func(asked, want string) {
		t.Helper()
		go func() { _, _ = ends.Write([]byte(asked)) }()
		got := make([]byte, 0, len(want))
		for len(got) < len(want) {
			part := make([]byte, len(want)-len(got))
			n, err := ends.Conn.Read(part)
			if got = append(got, part[:n]...); err != nil {
				t.Fatalf("%v after %q", err, got)
			}
		}
		if string(got) != want {
			t.Errorf("answered\n%q, want\n%q", got, want)
		}
	}
}

// TestSelectChoosesASpace: also where it comes in one pipeline with what is about it.
func TestSelectChoosesASpace(t *testing.T) { eachWay(t, testSelectChoosesASpace) }

func testSelectChoosesASpace(t *testing.T) {
	p, converse := withSpaces(t)
	const asked = "SET k zero\r\nSELECT 3\r\nGET k\r\nSET k three\r\nSELECT 16\r\nSELECT -1\r\nMULTI\r\nSELECT 0\r\n" +
		"DISCARD\r\nGET k\r\nSELECT 0\r\nGET k\r\nINFO keyspace\r\n"
	const want = "+OK\r\n+OK\r\n$-1\r\n+OK\r\n-ERR DB index is out of range\r\n-ERR DB index is out of range\r\n+OK\r\n" +
		"-ERR SELECT is not allowed in transactions: a transaction is of one database, select it before MULTI\r\n" +
		"+OK\r\n$5\r\nthree\r\n+OK\r\n$4\r\nzero\r\n" +
		"$76\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n\r\n"
	converse(asked, want)
	if stored, err := p.Space("db3"); err != nil || stored.View(t.Context(), func(tx *embedded.Tx) error {
		if v, _ := tx.String("k").Get(); string(v) != "three" {
			t.Errorf("the space db3 has %q", v)
		}
		return nil
	}) != nil {
		t.Error("the space db3 cannot be read")
	}
}

// TestFlushAllClearsEachDatabase also shows that it makes none that nobody has written to, and
// that FLUSHDB clears the selected one alone.
func TestFlushAllClearsEachDatabase(t *testing.T) { eachWay(t, testFlushAllClearsEachDatabase) }

func testFlushAllClearsEachDatabase(t *testing.T) {
	p, converse := withSpaces(t)
	converse("SET k 0\r\nSELECT 3\r\nSET k 3\r\nSELECT 4\r\nSET k 4\r\nFLUSHDB\r\nDBSIZE\r\nSELECT 3\r\nDBSIZE\r\n",
		"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n:0\r\n+OK\r\n:1\r\n")
	spaces := func() int {
		t.Helper()
		list, err := p.Spaces()
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := spaces()
	converse("MULTI\r\nFLUSHALL\r\nEXEC\r\nDBSIZE\r\n", "+OK\r\n-ERR FLUSHALL is not allowed in transactions: use FLUSHDB, "+
		"for the selected database, or leave MULTI\r\n"+
		"-EXECABORT Transaction discarded because of previous errors.\r\n:1\r\n")
	converse("SET j 1\r\nFLUSHALL\r\nDBSIZE\r\nSELECT 0\r\nDBSIZE\r\nSET k 1\r\nGET k\r\n",
		"+OK\r\n+OK\r\n:0\r\n+OK\r\n:0\r\n+OK\r\n$1\r\n1\r\n")
	if n := spaces(); n != before {
		t.Errorf("there were %d spaces, and are %d", before, n)
	}
}
