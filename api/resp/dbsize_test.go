package resp

import (
	"context"
	"fmt"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestWhatHasExpiredIsNotCounted where it is another host's to remove, which is away.
func TestWhatHasExpiredIsNotCounted(t *testing.T) {
	h := newHosts(t, 2)
	here, there := h.clients[0], h.clients[1]
	there.expect("MSET stays 1 later 1", "+OK")
	there.expect("EXPIRE later 1000", ":1")
	there.expect("SET gone 1 PX 10000", "+OK")
	there.expect("HSET hash f 1", ":1")
	there.expect("HPEXPIRE hash 10000 FIELDS 1 f", "*1\n  :1")
	there.expect("HSET half f 1 g 1", ":2")
	there.expect("HPEXPIRE half 10000 FIELDS 1 f", "*1\n  :1")
	h.heal()
	h.until("the other's writes are here", func() bool { return here.ask("TTL later") != ":-2" })
	h.cut()
	h.until("they have expired", func() bool { return here.ask("EXISTS gone hash") == ":0" && here.ask("HLEN half") == ":1" })
	here.send([]string{"SET", "new", "1"}, []string{"DBSIZE"}, []string{"DEL", "new"})
	for _, want := range []string{"+OK", ":4", ":1"} {
		if got := here.reply(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	here.expect("DBSIZE", ":3")
	here.send([]string{"MULTI"}, []string{"SET", "new", "1"}, []string{"DBSIZE"}, []string{"DEL", "new"}, []string{"DBSIZE"},
		[]string{"EXEC"}, []string{"MULTI"}, []string{"DBSIZE"}, []string{"EXEC"})
	for _, want := range []string{"+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*4\n  +OK\n  :4\n  :1\n  :3",
		"+OK", "+QUEUED", "*1\n  :3"} {
		if got := here.reply(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	much := [][]string{{"MULTI"}, {"SET", "never", "1"}}
	for range MaxWork / 3 / 64 {
		much = append(much, []string{"DBSIZE"})
	}
	here.send(append(much, []string{"EXEC"})...)
	for range much {
		here.reply()
	}
	if got, want := here.reply(), fmt.Sprint("-ERR ", errTooMuchWork); got != want {
		t.Errorf("%d times DBSIZE in a transaction that writes: %.80s", len(much)-2, got)
	}
	here.expect("EXISTS never", ":0")
	here.expect("EVAL return(redis.call('dbsize')) 0", ":3")
	if info := here.ask("INFO keyspace"); !strings.Contains(info, "keys=3,expires=1,") {
		t.Errorf("INFO says %q", info)
	}
	if err := h.peers[0].View(context.Background(), func(tx *embedded.Tx) error {
		if n := tx.Len(); n != 5 {
			t.Errorf("there are %d keys, and so none that has expired was to be left out", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
