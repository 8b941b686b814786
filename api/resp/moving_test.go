package resp

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

// TestDataMovesByRedisOwnLog as docs/redis.md says: a Redis server writes what it has, and what is
// written to it meanwhile, as commands, which are played here.
func TestDataMovesByRedisOwnLog(t *testing.T) {
	theirs := dial(t, startRedis(t))
	_, address := startPeer(t, embedded.Config{Memory: true, Offline: true}, nil)
	ours := dial(t, address)
	fill(theirs)
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"CONFIG SET aof-use-rdb-preamble no", "CONFIG SET appendonly yes"} {
		theirs.expect(setting, "+OK")
		if !strings.Contains(string(text), setting) {
			t.Errorf("%s does not say %s", page, setting)
		}
	}
	for _, line := range []string{"RPUSH list later", "SPOP set", "XREADGROUP GROUP g c2 COUNT 1 STREAMS stream >",
		"EVAL return{redis.call('incr','number'),redis.call('setex','soon','9000','x')} 0", "HINCRBYFLOAT hash f 0.1"} {
		theirs.ask(line)
	}
	ours.sendRaw(logOf(theirs))
	ours.send([]string{"ECHO", "this is all"})
	for got := ""; got != `"this is all"`; {
		if got = ours.reply(); strings.HasPrefix(got, "-") {
			t.Errorf("it is refused: %s", got)
		}
	}
	for _, database := range []string{"0", "3"} {
		theirs.expect("SELECT "+database, "+OK")
		ours.expect("SELECT "+database, "+OK")
		for _, line := range everything {
			want, got := linesOf(theirs.ask(line)), linesOf(ours.ask(line))
			if !slices.Equal(want, got) {
				t.Errorf("database %s, %s\n got %q\nwant %q", database, line, got, want)
			}
		}
	}
}

// everything reads what fill has written.
var everything = []string{"KEYS *", "GET text", "PEXPIRETIME text", "GET number", "PEXPIRETIME soon", "GET bits", "PFCOUNT log", "PFMERGE log",
	"LRANGE list 0 -1", "SMEMBERS set", "HGETALL hash", "ZRANGE scores 0 -1 WITHSCORES", "GEOPOS places Palermo",
	"XRANGE stream - +", "XPENDING stream g", "XREADGROUP GROUP g c3 COUNT 2 STREAMS stream >", "GET third"}

// fill writes of each type, more than one command of a log has, and bytes of all kinds.
func fill(p *peer) {
	for n := range 100 {
		for _, line := range []string{"RPUSH list %d", "SADD set member%d", "HSET hash f%d v", "ZADD scores %d.5 a%[1]d", "XADD stream %d-1 f v",
			"SETBIT bits %d7 1", "PFADD log %d", "XADD short MAXLEN ~ 5 * f %d"} {
			p.ask(fmt.Sprintf(line, n+1))
		}
	}
	for _, line := range []string{"SET text \x00\xff$1\\r\\n PXAT 33177117420000", "INCRBY number 41", "GEOADD places 13.36 38.11 Palermo",
		"ZADD scores inf most -inf least", "XDEL stream 7-1", "XGROUP CREATE stream g 0", "XREADGROUP GROUP g c1 COUNT 3 STREAMS stream >",
		"XACK stream g 2-1", "SELECT 3", "SET third x", "SELECT 0"} {
		if got := p.ask(line); strings.HasPrefix(got, "-") {
			p.t.Fatalf("%s: %s", line, got)
		}
	}
}

// linesOf returns the lines of a reply, in an order that does not depend on the server's.
func linesOf(reply string) []string {
	lines := strings.Split(reply, "\n")
	slices.Sort(lines)
	return lines
}

// logOf returns what a server has in its append-only files, once they hold all.
func logOf(p *peer) (log []byte) {
	p.t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for info := ""; !strings.Contains(info, "aof_rewrite_in_progress:0") || !strings.Contains(info, "aof_rewrite_scheduled:0"); <-poll.C {
		info = p.ask("INFO persistence")
	}
	dir := strings.Trim(strings.Split(p.ask("CONFIG GET dir"), "\n")[2], ` "`)
	for _, kind := range []string{"*.base.aof", "*.incr.aof"} {
		files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", kind))
		if err != nil || len(files) == 0 {
			p.t.Fatalf("no %s in %s: %v", kind, dir, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				p.t.Fatal(err)
			}
			log = append(log, text...)
		}
	}
	return log
}
