package resp

import (
	"regexp"
	"strings"
	"testing"
)

func TestInfoCountsCommandsAndErrors(t *testing.T) { eachWay(t, testInfoCountsCommandsAndErrors) }

func testInfoCountsCommandsAndErrors(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	p, waiter := dial(t, address), dial(t, address)
	for _, command := range []string{
		"SET s v", "GET s", "LPUSH s a", "GET", "FOO", "CLIENT GETNAME", "MULTI", "GET s", "LPUSH s a", "EXEC",
	} {
		p.ask(command)
	}
	p.send([]string{"EVAL", "redis.call('get', KEYS[1]); return redis.error_reply('OWN words')", "1", "s"})
	p.reply()
	waiter.send([]string{"XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">"})
	waiter.reply()
	waiter.send([]string{"BLPOP", "q", "0"})
	untilWaiting(t, s, 1)
	p.ask("RPUSH q a")
	waiter.reply()
	said := p.ask("INFO commandstats")
	for _, want := range []string{
		"set:calls=1,usec=N,usec_per_call=N,rejected_calls=0,failed_calls=0",
		"get:calls=3,usec=N,usec_per_call=N,rejected_calls=1,failed_calls=0",
		"lpush:calls=2,usec=N,usec_per_call=N,rejected_calls=0,failed_calls=2",
		"client|getname:calls=1,usec=N,usec_per_call=N,rejected_calls=0,failed_calls=0",
		"exec:calls=1,usec=N,usec_per_call=N,rejected_calls=0,failed_calls=0",
		"eval:calls=1,usec=N,usec_per_call=N,rejected_calls=0,failed_calls=1",
		"blpop:calls=1,usec=N,usec_per_call=N,rejected_calls=0,failed_calls=0",
	} {
		pattern := "cmdstat_" + strings.ReplaceAll(regexp.QuoteMeta(want), "=N", `=[0-9.]+`) + `\\r\\n`
		if !regexp.MustCompile(pattern).MatchString(said) {
			t.Errorf("no %s in %s", want, said)
		}
	}
	const errors = `errorstat_ERR:count=2\r\nerrorstat_NOGROUP:count=1\r\nerrorstat_OWN:count=1\r\nerrorstat_WRONGTYPE:count=2\r\n`
	if got := p.ask("INFO errorstats"); !strings.Contains(got, errors) {
		t.Errorf("errors are %s, want %s", got, errors)
	}
	if got := p.ask("INFO stats"); !strings.Contains(got, `total_error_replies:6\r\n`) {
		t.Errorf("statistics are %s", got)
	}
	p.expect("CONFIG RESETSTAT", "+OK")
	if got := p.ask("INFO errorstats"); strings.Contains(got, "errorstat_") {
		t.Errorf("errors that were reset are %s", got)
	}
	if got := p.ask("INFO"); strings.Contains(got, "cmdstat_") || !strings.Contains(got, "# Errorstats") {
		t.Errorf("INFO has %s", got)
	}
}
