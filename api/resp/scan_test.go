package resp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// TestEveryKeyThatStaysIsReturnedByAScan writes and deletes other keys meanwhile.
func TestEveryKeyThatStaysIsReturnedByAScan(t *testing.T) {
	eachWay(t, testEveryKeyThatStaysIsReturnedByAScan)
}

func testEveryKeyThatStaysIsReturnedByAScan(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.send([]string{"SET", "", "the empty key"})
	p.reply()
	for i := range 100 {
		p.ask(fmt.Sprintf("SET stays:%d x", i))
		p.ask(fmt.Sprintf("SET goes:%d x", i))
	}
	seen := map[string]int{}
	cursor := "0"
	for round := 0; round == 0 || cursor != "0"; round++ {
		p.ask(fmt.Sprintf("DEL goes:%d", round))
		p.ask(fmt.Sprintf("SET comes:%d x", round))
		// A cursor may be used again, should its reply have been lost.
		p.ask("SCAN " + cursor + " COUNT 7")
		lines := strings.Split(p.ask("SCAN "+cursor+" COUNT 7"), "\n")
		cursor, _ = strconv.Unquote(strings.TrimSpace(lines[1]))
		for _, line := range lines[3:] {
			key, _ := strconv.Unquote(strings.TrimSpace(line))
			seen[key]++
		}
	}
	for i := range 100 {
		if n := seen[fmt.Sprintf("stays:%d", i)]; n != 1 {
			t.Errorf("stays:%d was returned %d times", i, n)
		}
	}
	if seen[""] != 1 {
		t.Errorf("the empty key was returned %d times", seen[""])
	}
}

// hiding is a database that has a hundred keys, and fields of one, which have expired and are not
// removed yet.
type hiding struct{ *memory }

func (h hiding) View(ctx context.Context, fn func(*embedded.Tx) error) error {
	return h.Update(ctx, func(tx *embedded.Tx) error {
		for i := range 100 {
			name, past := fmt.Sprint("gone", i), time.Now().Add(-time.Minute)
			err := tx.String(name).SetUntil(nil, past)
			if err = errors.Join(err, tx.Map("hash").String(name).SetUntil(nil, past)); err != nil {
				return err
			}
		}
		return fn(tx)
	})
}

// TestAScanCountsWhatHasExpired: one call passes no more of it than its COUNT, and what is there is
// returned.
func TestAScanGoesOnBehindAnEmptyName(t *testing.T) { eachWay(t, testAScanGoesOnBehindAnEmptyName) }

// testAScanGoesOnBehindAnEmptyName goes through fields of which the first has no name, and more than one reply is to have.
func testAScanGoesOnBehindAnEmptyName(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.send([]string{"HSET", "h", "", strings.Repeat("v", 2*MaxBatchOutput), "a", "1"})
	p.reply()
	p.send([]string{"HSCAN", "h", "0"})
	if got := p.reply(); !strings.HasPrefix(got, "*2\n  \"0\"\n  *4\n") || !strings.Contains(got, "\n    \"a\"\n") {
		t.Errorf("HSCAN is answered %.40s … %s", got, got[len(got)-40:])
	}
}

func TestAScanCountsWhatHasExpired(t *testing.T) { eachWay(t, testAScanCountsWhatHasExpired) }

func testAScanCountsWhatHasExpired(t *testing.T) {
	_, address := startServer(t, Config{db: hiding{newMemory(t)}})
	p := dial(t, address)
	p.expect("SET stays x", "+OK")
	p.expect("HSET hash stays x", ":1")
	for command, want := range map[string]string{
		"SCAN": `["hash" "stays"]`, "HSCAN hash": `["stays" "x"]`,
	} {
		var all []string
		calls := 0
		for cursor := "0"; calls == 0 || cursor != "0"; calls++ {
			lines := strings.Split(p.ask(command+" "+cursor+" COUNT 10"), "\n")
			cursor, _ = strconv.Unquote(strings.TrimSpace(lines[1]))
			for _, line := range lines[3:] {
				name, _ := strconv.Unquote(strings.TrimSpace(line))
				all = append(all, name)
			}
		}
		if got := fmt.Sprintf("%q", all); got != want || calls < 10 {
			t.Errorf("%s returns %s in %d calls, want %s in 10 at least", command, got, calls, want)
		}
	}
	if key := p.ask("RANDOMKEY"); !strings.Contains(key, "stays") && !strings.Contains(key, "hash") {
		t.Errorf("RANDOMKEY returns %s", key)
	}
}

func TestCursorsAreBoundedAndTheLatestSurvive(t *testing.T) {
	var cs cursors
	slow := cs.add("slow", 0)
	last := uint64(0)
	for i := range 3 * MaxCursors {
		last = cs.add(strconv.Itoa(i), last)
		if after, ok := cs.lookUp(last); !ok || after != strconv.Itoa(i) {
			t.Fatalf("cursor %d stands at %q, %v", i, after, ok)
		}
	}
	if len(cs.byID) > 3 {
		t.Errorf("a scan of %d steps left %d cursors", 3*MaxCursors, len(cs.byID))
	}
	if after, ok := cs.lookUp(slow); !ok || after != "slow" {
		t.Errorf("a slow scan was forgotten while a fast one ran")
	}
	for i := range 3 * MaxCursors {
		cs.add(strconv.Itoa(i), 0)
	}
	if len(cs.byID) != MaxCursors || cs.byUse.Len() != MaxCursors {
		t.Errorf("%d cursors are held, want %d", len(cs.byID), MaxCursors)
	}
	long := strings.Repeat("k", crdt.MaxName)
	for range 2 * MaxCursorBytes / crdt.MaxName {
		cs.add(long, 0)
	}
	if cs.bytes > MaxCursorBytes {
		t.Errorf("cursors hold %d bytes, want at most %d", cs.bytes, MaxCursorBytes)
	}
}
