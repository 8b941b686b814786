package crdt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// fillFields makes h a map of two strings, of which f expires after a second.
func (c *clocked) fillFields() {
	c.t.Helper()
	c.do(func(k Fields) error {
		for _, name := range []string{"f", "g"} {
			if err := k.Map("h").String(name).Set([]byte("1")); err != nil {
				return err
			}
		}
		return second(k.Map("h").Expiry("f").Set(c.now.Add(time.Second)))
	})
}

// wantFields compares all that readers can see of the fields of h.
func (c *clocked) wantFields(want ...string) {
	c.t.Helper()
	h := c.keys().Map("h")
	got := slices.Collect(maps.Keys(maps.Collect(h.All())))
	slices.Sort(got)
	var strings []string
	for name := range h.Strings() {
		strings = append(strings, name)
	}
	if !slices.Equal(got, want) || !slices.Equal(strings, want) || h.Len() != len(want) || h.CountStrings() != len(want) {
		c.t.Fatalf("replica %d sees the fields %q, the strings %q, %d and %d of them; want %q", c.id, got, strings, h.Len(),
			h.CountStrings(), want)
	}
	if has := c.keys().Has("h"); has != (len(want) > 0) || has != c.keys().Types("h").Has(TypeMap) {
		c.t.Fatalf("replica %d sees the key: %v, of types %v", c.id, has, c.keys().Types("h"))
	}
	for _, name := range []string{"f", "g"} {
		_, there := h.String(name).Get()
		if is := slices.Contains(want, name); there != is || h.Has(name) != is {
			c.t.Fatalf("replica %d reads %q: %v, has it: %v", c.id, name, there, h.Has(name))
		}
	}
}

func (c *clocked) expireField() {
	c.t.Helper()
	_, err := c.state.update(c.id, c.now, func(tx dotted.Tx) error {
		return expire(tx, fieldOf("h", "f"))
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func fieldOf(key, field string) dotted.Address {
	return dotted.KeyAddress(key).Type(TypeMap).Name(field)
}

func TestAFieldThatHasExpiredIsNotSeen(t *testing.T) {
	a, _ := clockedPair(t)
	a.fillFields()
	a.wantFields("f", "g")
	if at, ok := a.keys().Map("h").Expiry("f").Get(); !ok || !at.Equal(a.now.Add(time.Second)) {
		t.Fatalf("it expires at %v, %v", at, ok)
	}
	a.pass(time.Second)
	a.wantFields("g")
	if _, ok := a.keys().Map("h").Expiry("f").Get(); ok {
		t.Fatal("it has an expiry still")
	}
	a.do(func(k Fields) error { return second(k.Map("h").String("f").Add(5)) })
	a.wantFields("f", "g")
	a.pass(time.Hour)
	a.wantFields("f", "g")
	if value, _ := a.keys().Map("h").String("f").Get(); string(value) != "5" {
		t.Fatalf("it goes on from what had expired: %q", value)
	}
}

// TestNothingIsLeftOfFieldsThatExpired removes what has expired in each way there is, and looks
// for cells.
func TestNothingIsLeftOfFieldsThatExpired(t *testing.T) {
	for name, remove := range map[string]func(*clocked){
		"by the database": func(c *clocked) {
			c.expireField()
			c.do(func(k Fields) error { return second(k.Map("h").Remove("g")) })
		},
		"with its key":    func(c *clocked) { c.do(func(k Fields) error { return second(k.Remove("h")) }) },
		"with all keys":   func(c *clocked) { c.do(func(k Fields) error { return second(k.Clear()) }) },
		"with all fields": func(c *clocked) { c.do(func(k Fields) error { return second(k.Map("h").Clear()) }) },
		"before it expires": func(c *clocked) {
			c.pass(-time.Second)
			for _, field := range []string{"f", "g"} {
				c.do(func(k Fields) error { return second(k.Map("h").Remove(field)) })
			}
		},
		"with an expiry of the key": func(c *clocked) {
			c.do(func(k Fields) error { return second(k.Expiry("h").Set(c.now)) })
			_, err := c.state.update(c.id, c.now, func(tx dotted.Tx) error { return expire(tx, dotted.KeyAddress("h")) })
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := clockedPair(t)
			a.fillFields()
			a.pass(time.Second)
			remove(a)
			a.state.scan("", "", func(at dotted.Address, _ dotted.Cell) bool {
				t.Errorf("%q is left", at)
				return true
			})
		})
	}
}

func TestAKeyOfFieldsThatHaveExpiredIsNotThere(t *testing.T) {
	a, _ := clockedPair(t)
	a.fillFields()
	a.do(func(k Fields) error { return second(k.Map("h").Remove("g")) })
	a.pass(time.Second)
	a.wantFields()
}

// TestAFieldThatIsAddedToMeanwhileHasExpiredAsWell has one replica remove what the other adds to
// at the same time.
func TestAFieldThatIsAddedToMeanwhileHasExpiredAsWell(t *testing.T) {
	a, b := clockedPair(t)
	a.fillFields()
	meet(a, b)
	b.do(func(k Fields) error { return second(k.Map("h").String("f").Add(1)) })
	a.pass(2 * time.Second)
	a.expireField()
	b.pass(2 * time.Second)
	meet(a, b)
	a.wantFields("g")
	b.wantFields("g")
}

// TestAFieldThatIsSetHasNoExpiry has one replica set what the other adds to at the same time.
func TestAFieldThatIsSetHasNoExpiry(t *testing.T) {
	a, b := clockedPair(t)
	a.fillFields()
	meet(a, b)
	b.do(func(k Fields) error { return second(k.Map("h").String("f").Add(1)) })
	a.do(func(k Fields) error { return k.Map("h").String("f").Set([]byte("5")) })
	meet(a, b)
	a.pass(time.Hour)
	b.pass(time.Hour)
	a.wantFields("f", "g")
	b.wantFields("f", "g")
}

// TestAFieldIsRemovedAndWrittenAnewAtOnce does both in one transaction, while the other replica
// adds.
func TestAFieldIsRemovedAndWrittenAnewAtOnce(t *testing.T) {
	a, b := clockedPair(t)
	a.fillFields()
	meet(a, b)
	b.do(func(k Fields) error { return second(k.Map("h").String("f").Add(1)) })
	a.do(func(k Fields) error {
		if _, err := k.Map("h").Remove("f"); err != nil {
			return err
		}
		return second(k.Map("h").Counter("f").Add(3))
	})
	meet(a, b)
	a.pass(time.Hour)
	a.wantFields("f", "g")
}

// TestAMapIsRemovedAndWrittenAnewAtOnce does both in one transaction, while the other replica
// adds to a field.
func TestAMapIsRemovedAndWrittenAnewAtOnce(t *testing.T) {
	set := func(k Fields, key string) error { return k.Map(key).String("f").Set([]byte("new")) }
	for name, write := range map[string]func(Fields) error{
		"removed":               func(k Fields) error { return errors.Join(second(k.Remove("h")), set(k, "h")) },
		"its fields removed":    func(k Fields) error { return errors.Join(second(k.Map("h").Clear()), set(k, "h")) },
		"removed with all keys": func(k Fields) error { return errors.Join(second(k.Clear()), set(k, "h")) },
		"copied to":             func(k Fields) error { return errors.Join(set(k, "tmp"), second(k.Copy("tmp", "h"))) },
		"removed, and counted": func(k Fields) error {
			return errors.Join(second(k.Remove("h")), second(k.Map("h").Counter("f").Add(3)))
		},
		"removed twice": func(k Fields) error {
			return errors.Join(second(k.Remove("h")), set(k, "h"), second(k.Map("h").Remove("f")), set(k, "h"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := clockedPair(t)
			a.fillFields()
			meet(a, b)
			a.do(write)
			b.do(func(k Fields) error { return second(k.Map("h").Counter("f").Add(1)) })
			meet(a, b)
			for _, c := range []*clocked{a, b} {
				c.pass(10 * time.Second)
				c.wantFields("f")
			}
		})
	}
}

// TestAMapThatHadExpiredBeginsAnewWithoutTimes: no field of the new one has any, so that it need
// not be gone through.
func TestAMapThatHadExpiredBeginsAnewWithoutTimes(t *testing.T) {
	a, _ := clockedPair(t)
	a.fillFields()
	a.do(func(k Fields) error { return second(k.Expiry("h").Set(a.now.Add(500 * time.Millisecond))) })
	a.pass(600 * time.Millisecond)
	a.do(func(k Fields) error { return k.Map("h").String("f").Set([]byte("new")) })
	a.wantFields("f")
	if a.state.timed != 0 {
		t.Errorf("%d times are left", a.state.timed)
	}
}

// TestFieldsAndTheirKeyExpire has both expire, the key first.
func TestFieldsAndTheirKeyExpire(t *testing.T) {
	a, b := clockedPair(t)
	a.fillFields()
	a.do(func(k Fields) error { return second(k.Expiry("h").Set(a.now.Add(500 * time.Millisecond))) })
	meet(a, b)
	b.do(func(k Fields) error { return second(k.Map("h").String("f").Add(1)) })
	for _, c := range []*clocked{a, b} {
		c.pass(600 * time.Millisecond)
	}
	meet(a, b)
	a.wantFields()
	b.wantFields()
	a.do(func(k Fields) error { return k.Map("h").String("g").Set([]byte("new")) })
	a.wantFields("g")
	a.pass(time.Hour)
	a.wantFields("g")
}

func TestACopyOfAMapHasItsFieldsExpire(t *testing.T) {
	a, _ := clockedPair(t)
	a.fillFields()
	a.do(func(k Fields) error { return second(k.Copy("h", "l")) })
	if at, ok := a.keys().Map("l").Expiry("f").Get(); !ok || !at.Equal(a.now.Add(time.Second)) {
		t.Fatalf("the copy's field expires at %v, %v", at, ok)
	}
}

// TestDeeperNamesDoNotExpire asks for the expiry of a field of a map in a map.
func TestDeeperNamesDoNotExpire(t *testing.T) {
	a, _ := clockedPair(t)
	a.do(func(k Fields) error { return k.Map("m").Map("n").String("f").Set(nil) })
	_, err := a.state.Update(1, a.now, func(k Fields) error {
		return second(k.Map("m").Map("n").Expiry("f").Set(a.now))
	})
	if err == nil {
		t.Fatal("it does")
	}
	a.do(func(k Fields) error { return second(k.Map("m").Expiry("n").Set(a.now.Add(time.Second))) })
	a.pass(time.Second)
	if a.keys().Map("m").Map("n").Len() != 0 || a.keys().Has("m") {
		t.Fatal("a map in a map does not expire")
	}
}

// TestAScanPassesTypesOfWhatIsThere, and none for keys of which nothing is but fields that have expired.
func TestAScanPassesTypesOfWhatIsThere(t *testing.T) {
	a, _ := clockedPair(t)
	a.fillFields()
	a.do(func(k Fields) error {
		soon := a.now.Add(time.Second)
		return errors.Join(k.String("kept").Set(nil), k.String("over").SetUntil(nil, soon),
			k.Map("gone").String("f").SetUntil(nil, soon), k.Map("a set too").String("f").SetUntil(nil, soon),
			second(k.Set("a set too").Add("x")))
	})
	a.pass(time.Second)
	check := func(k Fields) error {
		passed, over := map[string]Types{}, 0
		for name, types := range k.Scan("") {
			if types == 0 {
				over++
			} else {
				passed[name] = types
			}
		}
		if want := maps.Collect(k.All()); !maps.Equal(passed, want) || len(want) != 3 || over != 2 {
			t.Errorf("a scan passes %v, and %d of no types, want %v, of 3, and 2", passed, over, want)
		}
		return nil
	}
	_ = check(a.keys())
	a.do(check)
}

// TestASetBesideFieldsThatExpire has elements, which are names as well and have no expiries.
func TestASetBesideFieldsThatExpire(t *testing.T) {
	a, b := clockedPair(t)
	a.fillFields()
	b.do(func(k Fields) error { return second(k.Set("h").Add("f")) })
	meet(a, b)
	a.pass(time.Second)
	a.do(func(k Fields) error { return second(k.Set("h").Add("g")) })
	if !a.keys().Set("h").Has("f") || a.keys().Set("h").Len() != 2 {
		t.Fatal("elements of a set are hidden with the fields of a map")
	}
	a.wantFields("g")
}

// TestAFieldGoesWholeWhereItsKeyHasExpiredToo has a database remove a field whose key hides it:
// it was said elsewhere that this expires, by who removes it without having seen the field.
func TestAFieldGoesWholeWhereItsKeyHasExpiredToo(t *testing.T) {
	a, b := clockedPair(t)
	a.fillFields()
	b.do(func(k Fields) error { return k.String("h").SetUntil([]byte("1"), b.now) })
	a.state.Merge(b.state)
	b.expire("h")
	a.pass(time.Second)
	a.expireField()
	meet(a, b)
	b.pass(time.Second)
	a.wantFields("g")
	b.wantFields("g")
}

// TestAKeyOfAFieldThatHasExpiredBeginsAnew has one replica write to a key whose only field has
// expired, while the other says again when the key does.
func TestAKeyOfAFieldThatHasExpiredBeginsAnew(t *testing.T) {
	for name, write := range map[string]func(k Fields) error{
		"set":          func(k Fields) error { return k.Map("h").String("f").Set([]byte("new")) },
		"add":          func(k Fields) error { return second(k.Map("h").Counter("f").Add(1)) },
		"set another":  func(k Fields) error { return k.Map("h").String("n").Set([]byte("new")) },
		"add another":  func(k Fields) error { return second(k.Map("h").Counter("n").Add(1)) },
		"another type": func(k Fields) error { return second(k.Set("h").Add("new")) },
		"after a write in the same transaction": func(k Fields) error {
			if err := second(k.Set("h").Add("new")); err != nil {
				return err
			}
			if err := second(k.Expiry("h").Set(time.UnixMilli(2_000_000))); err != nil {
				return err
			}
			if err := second(k.Set("h").Remove("new")); err != nil {
				return err
			}
			return k.Map("h").String("n").Set([]byte("new"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := clockedPair(t)
			a.fillFields()
			a.do(func(k Fields) error { return second(k.Map("h").Remove("g")) })
			a.do(func(k Fields) error { return second(k.Expiry("h").Set(a.now.Add(time.Minute))) })
			meet(a, b)
			b.do(func(k Fields) error { return second(k.Expiry("h").Set(b.now.Add(time.Minute))) })
			a.pass(time.Second)
			if a.keys().Has("h") {
				t.Fatal("it is there, though its only field has expired")
			}
			a.do(write)
			if at, ok := a.keys().Expiry("h").Get(); ok {
				t.Fatalf("what was written expires at %v, as the key that there was before", at)
			}
			meet(a, b)
			a.pass(time.Hour)
			if !a.keys().Has("h") {
				t.Fatal("what was written has expired with the key that there was before")
			}
		})
	}
}

// TestWhatWasTakenFromACountStaysTakenThoughItHasExpired has one replica count on, and the other
// remove what it had seen of that, write something that expires in its place, and once that has
// remove all there is.
func TestWhatWasTakenFromACountStaysTakenThoughItHasExpired(t *testing.T) {
	for name, clear := range map[string]func(k Fields) error{
		"everything": func(k Fields) error { return second(k.Clear()) },
		"the key":    func(k Fields) error { return second(k.Remove("h")) },
		"the fields": func(k Fields) error { return second(k.Map("h").Clear()) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := clockedPair(t)
			count := func(k Fields) error {
				return errors.Join(second(k.Map("h").Counter("f").Add(1)), second(k.Counter("n").Add(1)))
			}
			a.do(count)
			meet(a, b)
			a.do(count)
			b.do(func(k Fields) error {
				soon := b.now.Add(time.Second)
				return errors.Join(second(k.Remove("h")), second(k.Remove("n")), k.String("n").SetUntil([]byte("7"), soon),
					k.Map("h").String("f").SetUntil([]byte("7"), soon), k.Map("h").String("g").Set(nil))
			})
			b.pass(2 * time.Second)
			b.do(clear)
			meet(a, b)
			for _, c := range []*clocked{a, b} {
				if h, n := c.keys().Map("h").Counter("f").Get(), c.keys().Counter("n").Get(); h != 1 || name == "everything" && n != 1 {
					t.Errorf("replica %d reads %d and %d, want 1: what was counted since", c.id, h, n)
				}
			}
		})
	}
}

// TestManyWritesToAFieldSayOnceWhenItExpires, and once when its key does, also where another field stands before it.
func TestManyWritesToAFieldSayOnceWhenItExpires(t *testing.T) {
	const added = 100
	a, _ := clockedPair(t)
	end := a.now.Add(time.Hour)
	a.do(func(k Fields) error {
		h := k.Map("h")
		return errors.Join(h.String("a").Set(nil), second(h.Set("f").Add("x")), second(k.Expiry("h").Set(end)),
			second(h.Expiry("f").Set(end)))
	})
	var seen *countingTx
	_, err := a.state.update(a.id, a.now, func(tx dotted.Tx) error {
		seen = &countingTx{Tx: tx}
		f := fieldsOf(seen).Map("h").Set("f")
		for i := range added {
			if err := second(f.Add(fmt.Sprint(i))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen.puts > added+10 {
		t.Errorf("%d elements are added by %d changes", added, seen.puts)
	}
	for name, e := range map[string]Expiry{"key": a.keys().Expiry("h"), "field": a.keys().Map("h").Expiry("f")} {
		if at, ok := e.Get(); !ok || !at.Equal(end) {
			t.Errorf("the %s expires at %v (%v), want %v", name, at, ok, end)
		}
	}
}

// TestWritesBehindManyFieldsThatHaveExpiredAreLittleWork: those are passed once, and not for each
// field that is written, be it in one transaction or in many, and of several maps in turn.
func TestWritesBehindManyFieldsThatHaveExpiredAreLittleWork(t *testing.T) {
	const expired, written = 1000, 100
	a, _ := clockedPair(t)
	maps := []string{"h", "i", "j"}
	for _, m := range maps {
		a.do(func(k Fields) error {
			h := k.Map(m)
			for i := range expired {
				name := fmt.Sprintf("a%04d", i)
				if err := h.String(name).Set([]byte("1")); err != nil {
					return err
				}
				if err := second(h.Expiry(name).Set(a.now.Add(time.Second))); err != nil {
					return err
				}
			}
			if err := h.String("b").Set([]byte("1")); err != nil {
				return err
			}
			return second(k.Expiry(m).Set(a.now.Add(time.Hour)))
		})
	}
	a.pass(time.Minute)
	for _, transactions := range []int{1, written} {
		scanned := 0
		for range transactions {
			_, err := a.state.update(a.id, a.now, func(tx dotted.Tx) error {
				seen := &countingTx{Tx: tx}
				for i := range written / transactions {
					for _, m := range maps {
						if err := fieldsOf(seen).Map(m).String(fmt.Sprintf("c%04d", i)).Set([]byte("1")); err != nil {
							return err
						}
					}
				}
				scanned += seen.scanned
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if scanned > 5*expired*len(maps) {
			t.Errorf("%d fields of each of %d maps are written in %d transactions behind %d that have "+
				"expired, and %d cells are passed", written, len(maps), transactions, expired, scanned)
		}
	}
}
