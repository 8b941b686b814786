package e2e

import (
	"fmt"
	"time"
)

// conflict is what the two sides of a cut network do to the same things: the first side, then the
// other, then the first again.
type conflict func(r record) (first, other, again []command)

// conflicts are the ways in which two sides can differ. Which of them wins is not said here: the
// model knows.
var conflicts = []conflict{
	func(r record) (first, other, again []command) { // two names, the other side's is later
		return []command{{"HSET", r.key(), "name", "first"}},
			[]command{{"HSET", r.key(), "name", "other"}}, nil
	},
	func(r record) (first, other, again []command) { // two names, the first side's is later
		return nil, []command{{"HSET", r.key(), "name", "other"}},
			[]command{{"HSET", r.key(), "name", "first"}}
	},
	func(r record) (first, other, again []command) { // deleted, while a field is written
		return []command{{"DEL", r.key()}}, []command{{"HSET", r.key(), "note", "kept"}}, nil
	},
	func(r record) (first, other, again []command) { // the same the other way round
		return []command{{"HSET", r.key(), "note", "kept"}}, []command{{"DEL", r.key()}}, nil
	},
	func(r record) (first, other, again []command) { // deleted on both sides
		return []command{{"DEL", r.key()}}, []command{{"DEL", r.key()}}, nil
	},
	func(r record) (first, other, again []command) { // a field removed, while it is written
		return []command{{"HDEL", r.key(), "bidi"}}, []command{{"HSET", r.key(), "bidi", "X"}}, nil
	},
	func(r record) (first, other, again []command) { // deleted and made anew
		return []command{{"DEL", r.key()}, {"HSET", r.key(), "name", "anew"}},
			[]command{{"HSET", r.key(), "name", "other", "mirrored", "?"}}, nil
	},
	func(r record) (first, other, again []command) { // a field counts on both sides
		return []command{{"HINCRBY", r.key(), "visits", "3"}},
			[]command{{"HINCRBY", r.key(), "visits", "4"}}, nil
	},
	func(r record) (first, other, again []command) { // removed from a set, while it is added
		return []command{{"SREM", r.categoryKey(), r.codePoint}},
			[]command{{"SADD", r.categoryKey(), r.codePoint}}, nil
	},
	func(r record) (first, other, again []command) { // removed on one side alone
		return []command{{"SREM", r.categoryKey(), r.codePoint}, {"HDEL", r.key(), "combining"}}, nil, nil
	},
	func(r record) (first, other, again []command) { // one name, two types
		return []command{{"SET", "mixed:" + r.codePoint, "text"}},
			[]command{{"SADD", "mixed:" + r.codePoint, "element"}}, nil
	},
	func(r record) (first, other, again []command) { // two texts
		return []command{{"SET", "text:" + r.codePoint, "first"}},
			[]command{{"SET", "text:" + r.codePoint, "other"}}, nil
	},
	func(r record) (first, other, again []command) { // a number set, while it counts
		return []command{{"SET", "number:" + r.codePoint, "100"}},
			[]command{{"INCRBY", "number:" + r.codePoint, "5"}}, []command{{"INCR", "number:" + r.codePoint}}
	},
}

// wholeCategories are conflicts over sets and counters of thousands. Each round deletes others, as
// what is deleted has to be there.
func wholeCategories(round int) (first, other []command) {
	gone := []string{"Zs", "Sm", "Nl"}[round%3]
	first = []command{
		{"DEL", "category:" + gone, "count:" + gone},
		{"SET", "count:Sc", "1000"},
		{"INCRBY", "count:Lu", "20"},
	}
	other = []command{
		{"SADD", "category:" + gone, "FFFF", "FFFE"},
		{"INCRBY", "count:" + gone, "7"},
		{"INCRBY", "count:Sc", "11"},
		{"INCRBY", "count:Lu", "-3"},
		{"DEL", "count:Sk", "category:Sk"},
	}
	return first, other
}

// edit makes the two sides delete and change some of the same things. Each round begins at another
// record, so that some are edited again and most are not.
func (c *cluster) edit(
	records []record, round, first int, firstView view, other int, otherView view,
) {
	c.t.Helper()
	const every = 97 // of the records: a prime, so that all categories have their share
	var one, two, again []command
	for i := round; i < len(records); i += every {
		a, b, z := conflicts[i/every%len(conflicts)](records[i])
		one, two, again = append(one, a...), append(two, b...), append(again, z...)
	}
	a, b := wholeCategories(round)
	// Which of two concurrent texts is the later one must not depend on how fast this test runs.
	c.do(first, firstView, append(one, a...)...)
	nextMillisecond()
	c.do(other, otherView, append(two, b...)...)
	nextMillisecond()
	c.do(first, firstView, append(again, command{"SET", "last", fmt.Sprint("round ", round)})...)
	c.note("%d edits on %s, %d on %s", len(one)+len(a)+len(again)+1, c.peers[first].name,
		len(two)+len(b), c.peers[other].name)
}

// nextMillisecond waits until writes have a later time than those before: times of writes have
// milliseconds.
func nextMillisecond() {
	for now := time.Now().UnixMilli(); time.Now().UnixMilli() <= now+1; {
		<-time.After(time.Millisecond)
	}
}
