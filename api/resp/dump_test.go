package resp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// dumpOf returns what DUMP does.
func dumpOf(p *peer, key string) string {
	p.t.Helper()
	payload, err := strconv.Unquote(p.ask("DUMP " + key))
	if err != nil {
		p.t.Fatal(err)
	}
	return payload
}

func (p *peer) expectOf(want string, args ...string) {
	p.t.Helper()
	p.send(args)
	if got := p.reply(); got != want {
		p.t.Errorf("%.60q: %.200s, want %s", args, got, want)
	}
}

// TestWhatIsDumpedCanBeRestored, under another name and at another peer.
func TestWhatIsDumpedCanBeRestored(t *testing.T) { eachWay(t, testWhatIsDumpedCanBeRestored) }

func testWhatIsDumpedCanBeRestored(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	_, elsewhere := startServer(t, Config{db: newMemory(t)})
	p, other := dial(t, address), dial(t, elsewhere)
	p.expect("SET text \"\\x00\\xff\"", "+OK")
	p.expect("SET empty \"\"", "+OK")
	p.expect("SET n 5", "+OK")
	p.expect("INCRBY n 37", ":42")
	p.expect("HSET h f 1 g \"\"", ":2")
	p.expect("HINCRBY h f 1", ":2")
	for i := range 1000 {
		p.ask(fmt.Sprint("SADD s ", i))
	}
	for _, ask := range []string{
		"SETBIT bits 5 1", "SETBIT bits 134217727 1", "PFADD pf a b c", "RPUSH l a b \"\"",
		"XADD x 1-1 f v", "XADD x 2-1 f v", "XADD x 3-1 g \"\"", "XDEL x 1-1", "XGROUP CREATE x g 0", "XGROUP CREATE x h $",
		"XREADGROUP GROUP g ann COUNT 1 STREAMS x >",
	} {
		p.ask(ask)
	}
	for key, read := range map[string]string{"bits": "BITCOUNT", "pf": "GET", "text": "GET", "empty": "GET", "n": "GET",
		"h": "HGETALL", "s": "SMEMBERS", "x": "XINFO STREAM"} {
		payload := dumpOf(p, key)
		want := p.ask(read + " " + key)
		for _, q := range []*peer{p, other} {
			q.expectOf("+OK", "RESTORE", "again", "0", payload, "REPLACE")
			q.expect(read+" again", want)
			q.expect("TYPE again", p.ask("TYPE "+key))
		}
		if again := dumpOf(p, "again"); again != payload {
			t.Errorf("%s is dumped as %.60q, and restored as %.60q", key, payload, again)
		}
	}
	p.expect("RESTORE again 0 x", "-BUSYKEY Target key name already exists.")
	p.expectOf("+OK", "RESTORE", "new", "33177117420123", dumpOf(p, "n"), "ABSTTL")
	p.expect("PEXPIRETIME new", ":33177117420123")
	p.expectOf("+OK", "RESTORE", "new", "100000", dumpOf(p, "n"), "REPLACE")
	p.expect("TTL new", ":100")
	p.expectOf("+OK", "RESTORE", "new", "1", dumpOf(p, "n"), "REPLACE", "ABSTTL")
	p.expect("EXISTS new", ":0")
}

// TestADumpHoldsWhenFieldsExpire, as that of Redis 7.4 does.
func TestADumpHoldsWhenFieldsExpire(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.expect("HSET h f 1 g 2", ":2")
	p.expect("HPEXPIREAT h 33177117420123 FIELDS 1 f", "*1\n  :1")
	p.expectOf("+OK", "RESTORE", "again", "0", dumpOf(p, "h"))
	p.expect("HPEXPIRETIME again FIELDS 2 f g", "*2\n  :33177117420123\n  :-1")
	for _, bad := range []string{"@\x01\x01f\x071234567", "@\x01\x01f\x09123456789"} {
		p.expectOf("-ERR Bad data format", "RESTORE", "new", "0", string(seal([]byte("m\x01\x01f\x01v"+bad))))
	}
}

// TestADumpHoldsAllThatAKeyHas where peers gave it several types at once; what Redis has no type
// for is refused.
func TestADumpHoldsAllThatAKeyHas(t *testing.T) {
	db := newMemory(t)
	err := db.Peer.Update(t.Context(), func(tx *embedded.Tx) error {
		_, err := tx.Set("k").Add("member")
		if err == nil {
			err = tx.String("k").Set([]byte("text"))
		}
		if err == nil {
			err = tx.Flag("flag").Set(true)
		}
		if err == nil {
			err = tx.Map("nested").Map("m").String("f").Set([]byte("v"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	p.expectOf("+OK", "RESTORE", "again", "0", dumpOf(p, "k"))
	p.expect("GET again", `"text"`)
	p.expect("SMEMBERS again", "*1\n  \"member\"")
	p.expect("DUMP flag", "-"+string(errNoDump))
	p.expect("DUMP nested", "-"+string(errNoDump))
}

// TestADamagedDumpIsRefused, and changes nothing.
func TestADamagedDumpIsRefused(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.expect("HSET h f v g w", ":2")
	good := dumpOf(p, "h")
	for i := range len(good) {
		bad := []byte(good)
		bad[i] ^= 1
		p.expectOf("-"+string(errDump), "RESTORE", "h", "0", string(bad), "REPLACE")
		p.expectOf("-"+string(errDump), "RESTORE", "h", "0", good[:i], "REPLACE")
	}
	for _, payload := range []string{
		"", "m", "m\x00", "x\x01\x00\x00", "m\x02\x01f\x01v", "m\x01\x01f", "m\x01\x01f\x05v", "m\x01\x01f\x01vm",
		"m\x01\x01f\x01vs\x00", "m\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01f\x01v",
		"z\x02\x01a\x011\x01c\x01x",
		"s\x01" + string(appendBytes(nil, make([]byte, crdt.MaxName+1))) + "\x00",
	} {
		p.expectOf("-ERR Bad data format", "RESTORE", "h", "0", string(seal([]byte(payload))), "REPLACE")
	}
	p.expectOf("-ERR 131073 parts exceed the limit of 131072 a transaction (MaxOps)", "RESTORE", "h", "0",
		string(seal([]byte("s\x81\x80\x08"+strings.Repeat("\x01a\x00", embedded.MaxOps+1)))), "REPLACE")
	p.expect("HGETALL h", "*4\n  \"f\"\n  \"v\"\n  \"g\"\n  \"w\"")
}

// TestADumpThatRestoreWouldNotTakeIsRefused with the limit's name.
func TestADumpThatRestoreWouldNotTakeIsRefused(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.expectOf("+OK", "SET", "k", strings.Repeat("v", MaxValue))
	p.expect("DUMP k", "-ERR what the key holds exceeds the limit of 16777216 bytes (MaxValue) of what RESTORE takes")
}

// FuzzRestore has a peer take anything for a payload that is whole.
func FuzzRestore(f *testing.F) {
	f.Add([]byte("m\x02\x01f\x01v\x01g\x00"))
	f.Add([]byte("b\x01\x041024\x02ab"))
	f.Add([]byte("s\x01\x01e\x00v\x01\x00\x04text"))
	f.Add([]byte("X\x04\x05e\x02\x01\x02\x01\x04\x01f\x01v\x01i\x05\x01\x01\x00\x00\x01\x02gg\x05\x01\x01\x01\x01\x02\x04u\x01gc\x01\x05"))
	db := newMemory(f)
	f.Fuzz(func(t *testing.T, payload []byte) {
		err := db.Peer.Update(context.Background(), func(tx *embedded.Tx) error {
			c := &call{tx: tx, out: &replies{}, args: [][]byte{nil, []byte("k"), []byte("0"), seal(bytes.Clone(payload)),
				[]byte("replace")}}
			err := runRestore(c)
			if _, refused := err.(replyError); refused {
				return nil
			}
			return err
		})
		if err != nil && !errors.Is(err, errBadPart) {
			t.Error(err)
		}
	})
}
