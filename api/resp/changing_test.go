package resp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestAWriteOfTooMuchIsRefusedBeforeItBegins, with the limit's name, and changes nothing.
func TestAWriteOfTooMuchIsRefusedBeforeItBegins(t *testing.T) {
	db := newMemory(t)
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	const n = embedded.MaxOps + 2
	for left := n; left > 0; left -= min(left, 1<<15) {
		p.send(append([]string{"RPUSH", "list"}, slices.Repeat([]string{"e"}, min(left, 1<<15))...))
		p.reply()
	}
	p.ask("XADD stream 1-1 f v")
	p.expect("XGROUP CREATE stream g 0", "+OK")
	before := mutations(db.status(t))
	for _, command := range []string{
		"LPOP list 131073", "RPOP list 131074", "LMPOP 1 list RIGHT COUNT 131073", "LREM list 0 e", "LREM list -131073 e",
		"LTRIM list 0 0", "LTRIM list -1 -1", "RENAME list other", "RENAMENX list other",
		"COPY list other", "COPY list other REPLACE",
		"EVAL return(redis.pcall('lpop','list',131073)) 0",
	} {
		if got := p.ask(command); !strings.HasPrefix(got, "-ERR 13107") || !strings.HasSuffix(got, "a transaction (MaxOps)") {
			t.Errorf("%s: %s", command, got)
		}
	}
	names := make([]string, embedded.MaxOps+1) // that are not there, as the ids
	ids := slices.Repeat([]string{"1-2"}, embedded.MaxOps+1)
	for _, command := range [][]string{
		append([]string{"DEL"}, names...),
		append([]string{"UNLINK"}, names...),
		append([]string{"SADD", "s"}, names...),
		append([]string{"SREM", "s"}, names...),
		append([]string{"HDEL", "h"}, names...),
		append([]string{"HPERSIST", "h", "FIELDS", "131073"}, names...),
		append([]string{"HEXPIRE", "h", "9", "FIELDS", "131073"}, names...),
		append([]string{"ZREM", "z"}, names...),
		append([]string{"ZADD", "z", "XX"}, slices.Repeat([]string{"1", "m"}, embedded.MaxOps+1)...),
		append([]string{"XDEL", "stream"}, ids...),
		append([]string{"XACK", "stream", "g"}, ids...),
		append([]string{"XCLAIM", "stream", "g", "c", "0"}, ids...),
		append([]string{"RPUSH", "l"}, names...),
		append([]string{"MSET"}, make([]string, 2*embedded.MaxOps+2)...),
		append([]string{"HSET", "h"}, make([]string, 2*embedded.MaxOps+2)...),
	} {
		p.send(command)
		if got := p.reply(); !strings.HasPrefix(got, "-ERR 131073 ") || !strings.HasSuffix(got, "a transaction (MaxOps)") {
			t.Errorf("%s of so many: %s", command[0], got)
		}
	}
	if after := mutations(db.status(t)); after != before {
		t.Errorf("there are %d mutations, and were %d", after, before)
	}
	p.expect("LLEN list", fmt.Sprint(":", n))
	p.expect("LREM list 3 e", ":3")
	if got := p.ask("EVAL return(#redis.call('lpop','list',300)) 0"); got != ":300" {
		t.Errorf("some of them in a script: %s", got)
	}
	p.expect("LTRIM list 2 1", "+OK") // all at once
	p.expect("LLEN list", ":0")
}
