package resp

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

// slowViews is a database of which, if slow is set, a view waits to be taken note of when it
// begins, and again before it ends.
type slowViews struct {
	*memory
	slow  atomic.Bool
	steps chan struct{}
}

func newSlowViews(t *testing.T) *slowViews {
	return &slowViews{memory: newMemory(t), steps: make(chan struct{})}
}

func (s *slowViews) View(ctx context.Context, fn func(*embedded.Tx) error) error {
	if s.slow.Load() {
		s.steps <- struct{}{}
		defer func() { s.steps <- struct{}{} }()
	}
	return s.memory.View(ctx, fn)
}

// step waits until a view begins, or is about to end.
func (s *slowViews) step(t *testing.T) {
	t.Helper()
	select {
	case <-s.steps:
	case <-time.After(time.Until(tooLate(t))):
		t.Fatal("nothing is looked for on a view")
	}
}

// lookedAt is how many elements lookers look at: no more than makes them do so on a view.
const lookedAt = quickElements + 10

// lookers are commands that look at many elements before they write a few; what is written to their
// keys meanwhile; and what they reply and a second command shows, without that and with it.
var lookers = []struct{ command, meanwhile, shows, reply, shown, changed, then string }{
	{"LREM l 0 e7", "RPUSH l e7", "LLEN l", ":1", ":1033", ":2", ":1033"},
	{"LREM l -1 e7", "RPUSH l e7", "LPOS l e7", ":1", "$-1", ":1", ":7"},
	{"LINSERT l AFTER e7 x", "LPUSH l e7", "LPOS l x", ":1035", ":8", ":1036", ":1"},
	{"LINSERT l BEFORE none x", "LPUSH l none", "LPOS l x", ":-1", "$-1", ":1036", ":0"},
	{"SDIFFSTORE k s most", "SADD s more", "SCARD k", ":1", ":1", ":2", ":2"},
	{"SINTERSTORE k s most", "SREM most e8", "SCARD k", ":1033", ":1033", ":1032", ":1032"},
	{"ZINTERSTORE k 2 z most", "ZREM z e8", "ZCARD k", ":1033", ":1033", ":1032", ":1032"},
	{"GEOSEARCHSTORE k z FROMLONLAT 0 0 BYRADIUS 1 m", "GEOADD z 0 0 there", "ZCARD k", ":0", ":0", ":1", ":1"},
	{"SORT l ALPHA LIMIT 0 1 STORE k", "RPUSH l a", "LINDEX k 0", ":1", `"e0"`, ":1", `"a"`},
	{"BITOP NOT k text", "APPEND text x", "STRLEN k", ":1058816", ":1058816", ":1058817", ":1058817"},
}

// TestOthersWriteWhileACommandLooksForWhatItWrites, also to what it looks at: then it looks again.
func TestOthersWriteWhileACommandLooksForWhatItWrites(t *testing.T) {
	eachWay(t, testOthersWriteWhileACommandLooksForWhatItWrites)
}

func testOthersWriteWhileACommandLooksForWhatItWrites(t *testing.T) {
	db := newSlowViews(t)
	_, address := startServer(t, Config{db: db})
	p, other := dial(t, address), dial(t, address)
	for _, l := range lookers {
		for _, disturbed := range []bool{false, true} {
			fillLookedAt(p)
			db.slow.Store(true)
			p.send(strings.Fields(l.command))
			db.step(t)
			other.expect("SET free yes", "+OK")
			want, shown := l.reply, l.shown
			if disturbed {
				other.send(strings.Fields(l.meanwhile))
				other.reply()
				want, shown = l.changed, l.then
				db.step(t)
				db.step(t)
			}
			db.step(t)
			p.expectReply(want)
			db.slow.Store(false)
			if got := p.ask(l.shows); got != shown {
				t.Errorf("after %s, with %q meanwhile: %t, %s is %s, want %s", l.command, l.meanwhile, disturbed, l.shows, got, shown)
			}
		}
	}
}

// fillLookedAt has keys hold many elements, and nothing else be there.
func fillLookedAt(p *peer) {
	list, set, most := []string{"RPUSH", "l"}, []string{"SADD", "s"}, []string{"SADD", "most"}
	zset := []string{"ZADD", "z"}
	for i := range lookedAt {
		e := fmt.Sprint("e", i)
		list, set, zset = append(list, e), append(set, e), append(zset, strconv.Itoa(i), e)
		if i != 7 {
			most = append(most, e)
		}
	}
	commands := [][]string{{"FLUSHDB"}, list, set, most, zset, {"SET", "text", strings.Repeat("x", lookedAt<<10)}}
	p.send(commands...)
	for range commands {
		if got := p.reply(); got[0] == '-' {
			p.t.Fatal(got)
		}
	}
}

// TestACommandWhoseKeysAlwaysChangeIsDone, and what follows it: in the end it looks while others
// wait.
func TestACommandWhoseKeysAlwaysChangeIsDone(t *testing.T) {
	eachWay(t, testACommandWhoseKeysAlwaysChangeIsDone)
}

func testACommandWhoseKeysAlwaysChangeIsDone(t *testing.T) {
	db := newSlowViews(t)
	_, address := startServer(t, Config{db: db})
	p, other := dial(t, address), dial(t, address)
	fillLookedAt(p)
	db.slow.Store(true)
	p.send([]string{"RPUSH", "l", "e7"}, []string{"LREM", "l", "0", "e7"}, []string{"LLEN", "l"})
	for i := range mostLooks {
		db.step(t)
		other.expect("RPUSH l e7", fmt.Sprint(":", lookedAt+2+i))
		db.step(t)
	}
	p.expectReply(fmt.Sprint(":", lookedAt+1))
	p.expectReply(fmt.Sprint(":", mostLooks+2))
	p.expectReply(fmt.Sprint(":", lookedAt-1))
}
