package resp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// TestAKeyOfSeveralTypesAnswersTheCommandsOfEach is what two replicas make that create one key at
// once.
func TestAKeyOfSeveralTypesAnswersTheCommandsOfEach(t *testing.T) {
	eachWay(t, testAKeyOfSeveralTypesAnswersTheCommandsOfEach)
}

func testAKeyOfSeveralTypesAnswersTheCommandsOfEach(t *testing.T) {
	db := newMemory(t)
	err := db.Peer.Update(t.Context(), func(tx *embedded.Tx) error {
		_, err := tx.Set("k").Add("member")
		return errors.Join(err,
			tx.String("k").Set([]byte("text")),
			tx.Map("k").String("f").Set([]byte("value")),
			tx.Flag("flag").Set(true))
	})
	if err != nil {
		t.Fatal(err)
	}
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	p.expect("GET k", `"text"`)
	p.expect("SISMEMBER k member", ":1")
	p.expect("HGET k f", `"value"`)
	p.expect("TYPE k", "+hash")
	p.expect("TYPE flag", "+flag")
	p.expect("GET flag", "-WRONGTYPE Operation against a key holding the wrong kind of value")
	p.expect("EXISTS k", ":1")
	p.expect("KEYS k", "*1\n  \"k\"")
	p.expect("SET k new", "+OK")
	p.expect("TYPE k", "+string")
	p.expect("SCARD k", "-WRONGTYPE Operation against a key holding the wrong kind of value")
	p.expect("DEL k flag", ":2")
	p.expect("DBSIZE", ":0")
}

func TestFlushRemovesAllKeys(t *testing.T) { eachWay(t, testFlushRemovesAllKeys) }

func testFlushRemovesAllKeys(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	for _, flush := range []string{"FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC", "flushdb sync"} {
		for i := range 20 {
			p.expect(fmt.Sprint("SADD s ", i), ":1")
			p.expect(fmt.Sprint("INCR n", i), ":1")
		}
		p.expect(flush, "+OK")
		p.expect("DBSIZE", ":0")
		p.expect("EXISTS s n1", ":0")
	}
	p.expect("FLUSHALL NOW", "-ERR syntax error")
	p.expect("FLUSHALL ASYNC SYNC", "-ERR syntax error")
}

func TestASetOfAPlainStringTouchesOneCell(t *testing.T) {
	eachWay(t, testASetOfAPlainStringTouchesOneCell)
}

func testASetOfAPlainStringTouchesOneCell(t *testing.T) {
	db := newMemory(t)
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	p.expect("SET k 1", "+OK")
	p.expect("SET k 2", "+OK")
	if n := mutations(db.status(t)); n != 2 {
		t.Errorf("two SETs issued %d dots", n)
	}
}

func TestInfoTellsWhatToolsReadFromIt(t *testing.T) { eachWay(t, testInfoTellsWhatToolsReadFromIt) }

func testInfoTellsWhatToolsReadFromIt(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t), Version: "1.2"})
	p := dial(t, address)
	p.expect("SET a 1", "+OK")
	text, err := strconv.Unquote(p.ask("INFO"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Server\r\n", "redis_version:7.0.0\r\n", "peerd_version:1.2\r\n", "\r\n\r\n# Clients\r\n",
		"connected_clients:1\r\n", "used_memory:", "total_commands_processed:1\r\n",
		"role:master\r\n", "# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	p.expect("INFO replication", strconv.Quote(
		"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"))
}

func TestConfigGetShowsTheSettingsOfTheOperator(t *testing.T) {
	eachWay(t, testConfigGetShowsTheSettingsOfTheOperator)
}

func testConfigGetShowsTheSettingsOfTheOperator(t *testing.T) {
	_, address := startServer(t, Config{
		db: newMemory(t), Settings: map[string]string{"appendfsync": "always"},
	})
	p := dial(t, address)
	p.expect("CONFIG GET appendfs*", "*2\n  \"appendfsync\"\n  \"always\"")
	p.expect("CONFIG GET MAXCLIENTS save",
		"*4\n  \"maxclients\"\n  \"10000\"\n  \"save\"\n  \"\"")
}

func TestCommandDescribesEveryCommand(t *testing.T) { eachWay(t, testCommandDescribesEveryCommand) }

func testCommandDescribesEveryCommand(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	n := len(commands)
	p.expect("COMMAND COUNT", ":"+strconv.Itoa(n))
	all := p.ask("COMMAND")
	if !strings.HasPrefix(all, fmt.Sprintf("*%d\n  *10\n    \"acl\"\n", n)) {
		t.Errorf("COMMAND begins with %.60s", all)
	}
	if docs := p.ask("COMMAND DOCS"); !strings.HasPrefix(docs, fmt.Sprintf("*%d\n", 2*n)) {
		t.Errorf("COMMAND DOCS begins with %.60s", docs)
	}
	for _, c := range allCommands() {
		name, sub, _ := strings.Cut(c.name, "|")
		if len(name) > longestName || len(sub) > longestName || c.name != strings.ToLower(c.name) || c.run == nil || c.summary == "" {
			t.Errorf("%s cannot be called", c.name)
		}
		if got := p.ask("COMMAND INFO " + c.name); !strings.HasPrefix(got, fmt.Sprintf("*1\n  *10\n    %q\n", c.name)) {
			t.Errorf("COMMAND INFO %s is %.60s", c.name, got)
		}
		if c.subs == nil {
			continue
		}
		help := p.ask(c.name + " HELP")
		for short := range c.subs {
			if !strings.Contains(help, "\n  +"+strings.ToUpper(short)) {
				t.Errorf("no %s in %s", short, help)
			}
		}
	}
}

func TestEachTypeHasWordsOfRedis(t *testing.T) {
	var all crdt.Types
	for b := range 256 {
		if types := all.With(crdt.Type(b)); types.Has(crdt.Type(b)) {
			all = types
		}
	}
	names := map[string]crdt.Type{typeName(0): 0}
	for typ := range all.All() {
		one := crdt.Types(0).With(typ)
		name := typeName(one)
		if other, taken := names[name]; name == "" || taken && name != crdt.TypeString.Redis().Name {
			t.Errorf("a %v and a %v are both called %q", typ, other, name)
		}
		names[name] = typ
		if e := eventOf(one, "k"); e.name == "" || e.name == "del" || !strings.ContainsRune(allClasses, rune(e.class)) {
			t.Errorf("a %v that was written is told as %q of class %q", typ, e.name, e.class)
		}
	}
	if len(names) < 5 {
		t.Errorf("only %v", names)
	}
}
