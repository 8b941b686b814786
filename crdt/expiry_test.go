package crdt

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// clocked is a replica with a clock of its own.
type clocked struct {
	t     *testing.T
	id    ReplicaID
	state *State
	now   time.Time
}

func clockedPair(t *testing.T) (a, b *clocked) {
	start := time.UnixMilli(1_000_000)
	return &clocked{t, 1, NewState(), start}, &clocked{t, 2, NewState(), start}
}

func (c *clocked) do(fn func(Fields) error) {
	c.t.Helper()
	if _, err := c.state.Update(c.id, c.now, fn); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clocked) keys() Fields { return c.state.ViewAt(c.now) }

func (c *clocked) pass(d time.Duration) { c.now = c.now.Add(d) }

// meet has all of them know what all know.
func meet(all ...*clocked) {
	for _, a := range all {
		for _, b := range all {
			a.state.Merge(b.state)
		}
	}
}

// expire removes what has expired, as a database does.
func (c *clocked) expire(key string) {
	c.t.Helper()
	_, err := c.state.update(c.id, c.now, func(tx dotted.Tx) error { return expire(tx, dotted.KeyAddress(key)) })
	if err != nil {
		c.t.Fatal(err)
	}
}

// fillTimed makes k a set of so many members that expires after a second.
func (c *clocked) fillTimed(members int) {
	c.t.Helper()
	c.do(func(k Fields) error {
		for i := range members {
			if _, err := k.Set("k").Add(string(rune('a' + i))); err != nil {
				return err
			}
		}
		_, err := k.Expiry("k").Set(c.now.Add(time.Second))
		return err
	})
}

func (c *clocked) get(key string) string {
	value, ok := c.keys().String(key).Get()
	if !ok {
		return "-"
	}
	return string(value)
}

func (c *clocked) want(key, value string) {
	c.t.Helper()
	if got := c.get(key); got != value {
		c.t.Fatalf("replica %d reads %q, want %q", c.id, got, value)
	}
}

func TestWhatHasExpiredIsNotSeen(t *testing.T) {
	a, _ := clockedPair(t)
	a.do(func(k Fields) error {
		if err := k.String("text").Set([]byte("x")); err != nil {
			return err
		}
		_, err := k.Expiry("text").Set(a.now.Add(time.Second))
		return err
	})
	a.do(func(k Fields) error { return k.String("stays").Set([]byte("y")) })
	if at, ok := a.keys().Expiry("text").Get(); !ok || !at.Equal(a.now.Add(time.Second)) {
		t.Fatalf("it expires at %v, %v", at, ok)
	}
	a.pass(999 * time.Millisecond)
	a.want("text", "x")
	a.pass(time.Millisecond)
	a.want("text", "-")
	k := a.keys()
	if k.Has("text") || k.Types("text") != 0 || k.Len() != 1 {
		t.Fatalf("of what has expired it is there: %v, of types %v, among %d", k.Has("text"), k.Types("text"), k.Len())
	}
	for name := range k.All() {
		if name != "stays" {
			t.Fatalf("%q is listed", name)
		}
	}
	if _, ok := k.Expiry("text").Get(); ok {
		t.Fatal("it has an expiry still")
	}
}

func TestAWriteToWhatHasExpiredBeginsAnew(t *testing.T) {
	a, _ := clockedPair(t)
	a.do(func(k Fields) error {
		for range 5 {
			if _, err := k.Counter("n").Add(1); err != nil {
				return err
			}
		}
		_, err := k.Set("s").Add("old")
		return err
	})
	a.do(func(k Fields) error { _, err := k.Expiry("n").Set(a.now.Add(time.Second)); return err })
	a.do(func(k Fields) error { _, err := k.Expiry("s").Set(a.now.Add(time.Second)); return err })
	a.pass(2 * time.Second)
	a.do(func(k Fields) error {
		n, err := k.Counter("n").Add(1)
		if n != 1 {
			t.Errorf("it counts from %d", n-1)
		}
		return err
	})
	a.do(func(k Fields) error { _, err := k.Set("s").Add("new"); return err })
	a.want("n", "1")
	if n := a.keys().Set("s").Len(); n != 1 {
		t.Fatalf("%d members", n)
	}
	for _, key := range []string{"n", "s"} {
		if _, ok := a.keys().Expiry(key).Get(); ok {
			t.Fatalf("%s expires as the one before", key)
		}
	}
}

func TestOfConcurrentExpiriesTheLatestCounts(t *testing.T) {
	a, b := clockedPair(t)
	a.do(func(k Fields) error { return k.String("k").Set([]byte("x")) })
	meet(a, b)
	a.do(func(k Fields) error { _, err := k.Expiry("k").Set(a.now.Add(time.Second)); return err })
	b.do(func(k Fields) error { _, err := k.Expiry("k").Set(b.now.Add(3 * time.Second)); return err })
	meet(a, b)
	a.pass(2 * time.Second)
	a.want("k", "x")
	b.do(func(k Fields) error { _, err := k.Expiry("k").Clear(); return err })
	a.do(func(k Fields) error { _, err := k.Expiry("k").Set(a.now.Add(time.Millisecond)); return err })
	meet(a, b)
	a.pass(time.Hour)
	a.want("k", "x")
}

func TestARemovalTakesWhatItSawAndNothingRevivesIt(t *testing.T) {
	a, b := clockedPair(t)
	a.do(func(k Fields) error { _, err := k.Counter("k").Add(5); return err })
	a.do(func(k Fields) error { _, err := k.Expiry("k").Set(a.now.Add(time.Second)); return err })
	meet(a, b)
	b.do(func(k Fields) error { _, err := k.Counter("k").Add(7); return err }) // before it expires, and unseen by a
	a.pass(2 * time.Second)
	b.pass(2 * time.Second)
	a.expire("k")
	meet(a, b)
	a.want("k", "-")
	b.want("k", "-")
	b.expire("k")
	meet(a, b)
	for _, c := range []*clocked{a, b} {
		for at, cell := range c.state.cells.Scan {
			if cell.Visible() {
				t.Errorf("%q is left", string(at))
			}
		}
	}
}

func TestARemovalLeavesAnExtensionThatItDidNotSee(t *testing.T) {
	a, b := clockedPair(t)
	a.do(func(k Fields) error { return k.String("k").Set([]byte("x")) })
	a.do(func(k Fields) error { _, err := k.Expiry("k").Set(a.now.Add(time.Second)); return err })
	meet(a, b)
	b.do(func(k Fields) error { _, err := k.Expiry("k").Set(b.now.Add(time.Hour)); return err })
	a.pass(2 * time.Second)
	a.expire("k")
	meet(a, b)
	a.want("k", "-")
	b.want("k", "-")
	b.do(func(k Fields) error { _, err := k.Counter("k").Add(1); return err })
	if at, ok := b.keys().Expiry("k").Get(); ok {
		t.Fatalf("what is new expires at %v", at)
	}
}

func TestSetTakesTheExpiryAwayAlsoWhereOthersWrite(t *testing.T) {
	a, b := clockedPair(t)
	a.do(func(k Fields) error { return k.String("k").SetUntil([]byte("1"), a.now.Add(time.Second)) })
	meet(a, b)
	a.do(func(k Fields) error { return k.String("k").Set([]byte("2")) })
	b.do(func(k Fields) error { _, err := k.String("k").Add(1); return err })
	meet(a, b)
	a.pass(time.Hour)
	a.want("k", "3")
	a.do(func(k Fields) error { return k.String("k").SetUntil([]byte("1"), a.now.Add(time.Second)) })
	a.want("k", "1")
	a.pass(time.Second)
	a.want("k", "-")
}

func TestNothingIsLeftOfAnExpiryWhenItsKeyGoes(t *testing.T) {
	for name, remove := range map[string]func(Fields) error{
		"remove":  func(k Fields) error { _, err := k.Remove("k"); return err },
		"clear":   func(k Fields) error { _, err := k.Clear(); return err },
		"set":     func(k Fields) error { _, err := k.Set("k").Clear(); return err },
		"members": func(k Fields) error { return removeMembers(k.Set("k")) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, members := range []int{1, 3, 40} {
				a, _ := clockedPair(t)
				a.fillTimed(members)
				a.do(remove)
				if a.state.timed != 0 {
					t.Errorf("of %d members the expiry is left", members)
				}
			}
		})
	}
}

func removeMembers(s Set) error {
	for elem := range s.All() {
		if _, err := s.Remove(elem); err != nil {
			return err
		}
	}
	return nil
}

func TestACopyExpiresAsWell(t *testing.T) {
	a, _ := clockedPair(t)
	a.do(func(k Fields) error { return k.String("k").SetUntil([]byte("1"), a.now.Add(time.Second)) })
	a.do(func(k Fields) error { _, err := k.Copy("k", "l"); return err })
	if at, ok := a.keys().Expiry("l").Get(); !ok || !at.Equal(a.now.Add(time.Second)) {
		t.Fatalf("the copy expires at %v, %v", at, ok)
	}
}

// TestOneTransactionRemovesAKeyAndBeginsItAnew has a key of many cells, which are removed at once.
func TestOneTransactionRemovesAKeyAndBeginsItAnew(t *testing.T) {
	for _, remove := range []func(Fields) error{
		func(k Fields) error { _, err := k.Remove("k"); return err },
		func(k Fields) error { _, err := k.Clear(); return err },
	} {
		a, _ := clockedPair(t)
		a.fillTimed(40)
		a.do(func(k Fields) error {
			if _, err := k.Set("k").Add("one more"); err != nil {
				return err
			}
			if err := remove(k); err != nil {
				return err
			}
			_, err := k.Set("k").Add("new")
			return err
		})
		if at, ok := a.keys().Expiry("k").Get(); ok {
			t.Errorf("the new one expires at %v", at)
		}
	}
}

// TestWhatIsReplacedByAnotherTypeDoesNotExpire has a key removed and written to in one
// transaction, while another replica adds to the old one.
func TestWhatIsReplacedByAnotherTypeDoesNotExpire(t *testing.T) {
	for _, members := range []int{1, 40} {
		a, b := clockedPair(t)
		a.fillTimed(members)
		meet(a, b)
		a.do(func(k Fields) error {
			if _, err := k.Remove("k"); err != nil {
				return err
			}
			return k.String("k").Set([]byte("new"))
		})
		b.do(func(k Fields) error { _, err := k.Set("k").Add("meanwhile"); return err })
		meet(a, b)
		a.pass(time.Hour)
		a.want("k", "new")
	}
}

// TestWhatIsRemovedAndWrittenAtOnceDoesNotExpire has one replica do both in one transaction,
// while the other adds to the old one.
func TestWhatIsRemovedAndWrittenAtOnceDoesNotExpire(t *testing.T) {
	remove := func(k Fields) error { return second(k.Remove("k")) }
	add := func(k Fields) error { return second(k.Set("k").Add("new")) }
	past := time.UnixMilli(1)
	for name, steps := range map[string][]func(Fields) error{
		"removed with all keys":        {func(k Fields) error { return second(k.Clear()) }, add},
		"removed twice":                {remove, add, remove, add},
		"set to a text, and removed":   {func(k Fields) error { return k.String("k").Set([]byte("x")) }, remove, add},
		"said to have ended":           {func(k Fields) error { return second(k.Expiry("k").Set(past)) }, add},
		"made to stay, and removed":    {func(k Fields) error { return second(k.Expiry("k").Clear()) }, remove, add},
		"removed, and ended once more": {remove, func(k Fields) error { return k.String("k").SetUntil(nil, past) }, add},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := clockedPair(t)
			a.fillTimed(1)
			meet(a, b)
			a.do(func(k Fields) error {
				for _, step := range steps {
					if err := step(k); err != nil {
						return err
					}
				}
				return nil
			})
			b.do(func(k Fields) error { return second(k.Set("k").Add("meanwhile")) })
			meet(a, b)
			for _, c := range []*clocked{a, b} {
				if c.pass(10 * time.Second); !c.keys().Set("k").Has("new") {
					t.Errorf("replica %d: it has expired", c.id)
				}
			}
		})
	}
}

// TestAFieldThatIsRemovedAndWrittenToAtOnceDoesNotExpire is the same of something deep in a map.
func TestAFieldThatIsRemovedAndWrittenToAtOnceDoesNotExpire(t *testing.T) {
	in := func(k Fields) Map { return k.Map("k").Map("f") }
	for name, remove := range map[string]func(Fields) error{
		"itself":        func(k Fields) error { return second(k.Map("k").Remove("f")) },
		"with its key":  func(k Fields) error { return second(k.Remove("k")) },
		"with all keys": func(k Fields) error { return second(k.Clear()) },
	} {
		a, b := clockedPair(t)
		a.do(func(k Fields) error {
			return errors.Join(second(in(k).Set("s").Add("old")), second(k.Map("k").Expiry("f").Set(a.now.Add(time.Second))))
		})
		meet(a, b)
		a.do(func(k Fields) error { return errors.Join(remove(k), second(in(k).Set("s").Add("new"))) })
		b.do(func(k Fields) error { return second(in(k).Set("s").Add("meanwhile")) })
		meet(a, b)
		for _, c := range []*clocked{a, b} {
			if c.pass(10 * time.Second); !in(c.keys()).Set("s").Has("new") {
				t.Errorf("removed %s: at replica %d it has expired", name, c.id)
			}
		}
	}
}

func TestATimeThatHasPassedCountsForTheRestOfItsTransaction(t *testing.T) {
	a, _ := clockedPair(t)
	a.do(func(k Fields) error {
		if err := k.String("k").SetUntil([]byte("1"), time.UnixMilli(1)); err != nil {
			return err
		}
		_, err := k.Counter("k").Add(5)
		return err
	})
	a.want("k", "5")
}

func TestNoNameIsTakenForOneThatWasLookedAt(t *testing.T) {
	a, _ := clockedPair(t)
	a.do(func(k Fields) error { return k.String("-x").SetUntil(nil, a.now.Add(time.Second)) })
	a.pass(time.Minute)
	if n := a.keys().Len(); n != 0 {
		t.Errorf("%d names are listed", n)
	}
}

// What a write puts in place of what was counted is there at once: its key is never empty, and
// keeps its expiry.
func TestAWriteOverWhatWasCountedKeepsTheExpiryOfItsKey(t *testing.T) {
	a, b := clockedPair(t)
	for key, write := range map[string][2]func(Fields) error{
		"map": {
			func(k Fields) error { return second(k.Map("map").String("f").Add(1)) },
			func(k Fields) error { return k.Map("map").String("f").Set([]byte("2")) },
		},
		"sorted set": {
			func(k Fields) error { return second(k.SortedSet("sorted set").Add("x", 1)) },
			func(k Fields) error { return second(k.SortedSet("sorted set").Set("x", 2)) },
		},
	} {
		a.do(write[0])
		meet(a, b)
		at := a.now.Add(time.Second)
		b.do(func(k Fields) error { return second(k.Expiry(key).Set(at)) })
		b.do(write[1])
		if got, ok := b.keys().Expiry(key).Get(); !ok || !got.Equal(at) {
			t.Errorf("the %s expires at %v (%v), want %v", key, got, ok, at)
		}
	}
}

// TestTheLastMillisecondIsNotNever: what is to expire at the end of all times still has a time.
func TestTheLastMillisecondIsNotNever(t *testing.T) {
	a, _ := clockedPair(t)
	last := time.UnixMilli(math.MaxInt64 - 1)
	for _, end := range []time.Time{
		last, last.Add(time.Millisecond), last.Add(time.Second), time.Unix(math.MaxInt64, 0),
	} {
		a.do(func(f Fields) error {
			return errors.Join(f.String("k").SetUntil([]byte("v"), end), f.String("l").Set([]byte("v")),
				second(f.Expiry("l").Set(end)))
		})
		for _, key := range []string{"k", "l"} {
			if at, ok := a.keys().Expiry(key).Get(); !ok || !at.Equal(last) {
				t.Errorf("%s, which is to end at %v, expires at %v, %v", key, end.Unix(), at, ok)
			}
		}
	}
}

func TestWhatIsToExpireBeforeAllTimesHasExpired(t *testing.T) {
	a, _ := clockedPair(t)
	for _, end := range []time.Time{time.Unix(-1, 0), time.Unix(math.MinInt64/1000-1, 0), time.Unix(math.MinInt64, 0)} {
		a.do(func(f Fields) error { return f.String("k").SetUntil([]byte("v"), end) })
		a.want("k", "-")
	}
}

// TestAFarFutureIsAfterAllThatExpires: which of two writes is later goes by their times, too.
func TestAFarFutureIsAfterAllThatExpires(t *testing.T) {
	a, _ := clockedPair(t)
	a.do(func(f Fields) error { return f.String("k").SetUntil([]byte("v"), a.now.Add(time.Second)) })
	for _, now := range []time.Time{
		time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(math.MaxInt64/1000+1, 0),
	} {
		if a.state.ViewAt(now).Has("k") {
			t.Errorf("what expires after a second is there at %v", now)
		}
		early, late := NewState(), NewState()
		for i, at := range []time.Time{now, epochStart} {
			_, err := []*State{late, early}[i].Update(ReplicaID(1+i), at, func(f Fields) error {
				return f.String("s").Set([]byte(at.String()))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		early.Merge(late)
		if value, _ := early.View().String("s").Get(); string(value) != now.String() {
			t.Errorf("%s was written later than %s", value, now)
		}
	}
}
