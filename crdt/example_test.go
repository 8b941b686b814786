package crdt_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
)

// Replica ids are random in a real program, one for each copy that writes.
const (
	laptop crdt.ReplicaID = 0x1a
	phone  crdt.ReplicaID = 0x2b
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// must ends the program if a write was refused, which none of these is.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// second drops what a write returns beside its error.
func second[T any](_ T, err error) error { return err }

// update is an update at noon.
func update(s *crdt.State, r crdt.ReplicaID, fn func(keys crdt.Fields) error) *crdt.State {
	return must(s.Update(r, noon, fn))
}

// Two devices edit a shopping list while they cannot reach each other. Adding wins over removing.
func ExampleState() {
	onLaptop, onPhone := crdt.NewState(), crdt.NewState()
	update(onLaptop, laptop, func(keys crdt.Fields) error {
		for _, item := range []string{"bread", "milk"} {
			if _, err := keys.Set("list").Add(item); err != nil {
				return err
			}
		}
		return nil
	})
	onPhone.Merge(onLaptop)

	update(onLaptop, laptop, func(keys crdt.Fields) error {
		_, err := keys.Remove("list") // all that the laptop sees
		return err
	})
	update(onPhone, phone, func(keys crdt.Fields) error {
		_, err := keys.Set("list").Add("milk") // meanwhile
		return err
	})

	onLaptop.Merge(onPhone)
	onPhone.Merge(onLaptop)
	items := slices.Collect(onLaptop.View().Set("list").All())
	fmt.Println(items, onLaptop.Equal(onPhone))
	// Output: [milk] true
}

// An update returns what it changed: to send that, and not the state.
func ExampleState_Update() {
	here, there := crdt.NewState(), crdt.NewState()
	for range 3 {
		delta := update(here, laptop, func(keys crdt.Fields) error {
			_, err := keys.Counter("visits").Add(1)
			return err
		})
		sent := must(delta.MarshalBinary())
		received := crdt.NewState()
		if err := received.UnmarshalBinary(sent); err != nil {
			log.Fatal(err)
		}
		there.Merge(received)
		there.Merge(received) // twice does no harm
	}
	fmt.Println(there.View().Counter("visits").Get())
	// Output: 3
}

// An error takes everything back. A write that is refused does not: the transaction may go on.
func ExampleState_Update_error() {
	s := crdt.NewState()
	err := s.View().Flag("open").Set(true)
	fmt.Println(errors.Is(err, crdt.ErrReadOnly), err)

	update(s, laptop, func(keys crdt.Fields) error { return keys.String("motto").Set([]byte("soup")) })
	update(s, laptop, func(keys crdt.Fields) error {
		if _, err := keys.String("motto").Add(1); !errors.Is(err, crdt.ErrNotInteger) {
			return err
		}
		tooLong := make([]byte, crdt.MaxValue+1)
		if err := keys.String("motto").Set(tooLong); !errors.Is(err, crdt.ErrTooLong) {
			return err
		}
		return keys.Flag(strings.Repeat("x", crdt.MaxName)).Set(true)
	})
	_, err = s.Update(laptop, noon, func(keys crdt.Fields) error {
		if _, err := keys.Counter("n").Add(1<<63 - 1); err != nil {
			return err
		}
		_, err := keys.Counter("n").Add(1)
		return err
	})
	fmt.Println(errors.Is(err, crdt.ErrOverflow), s.View().Has("n"))
	// Output:
	// true transaction is read-only
	// true false
}

// A copy that lost some of what its replica did must not go on under the same id.
func ExampleState_Update_missing() {
	set := func(name string) func(keys crdt.Fields) error {
		return func(keys crdt.Fields) error { return keys.Flag(name).Set(true) }
	}
	whole, partial := crdt.NewState(), crdt.NewState()
	update(whole, laptop, set("first"))
	partial.Merge(update(whole, laptop, set("second"))) // without the first
	_, err := partial.Update(laptop, noon, set("third"))
	fmt.Println(errors.Is(err, crdt.ErrMissingDots))
	_, err = partial.Update(phone, noon, set("third"))
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

// JSON is for people and programs that only look.
func ExampleState_MarshalJSON() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error {
		ann := keys.Map("ann")
		_, err := ann.Set("groups").Add("staff")
		_, err2 := ann.Counter("visits").Add(3)
		return errors.Join(err, err2, ann.String("mail").Set([]byte("ann@example.com")),
			keys.Flag("open").Set(true))
	})
	fmt.Printf("%s\n", must(json.Marshal(s)))
	// Output: {"ann":{"groups":["staff"],"mail":"ann@example.com","visits":3},"open":true}
}

// A view is of its moment, and so is a clone, which may be written to as well.
func ExampleState_View() {
	s := crdt.NewState()
	enable := func(keys crdt.Fields) error { return keys.Flag("on").Set(true) }
	view, clone := s.View(), s.Clone()
	update(s, laptop, enable)
	update(clone, phone, func(keys crdt.Fields) error { return keys.String("by").Set([]byte("phone")) })
	fmt.Println(view.Len(), s.View().Len(), clone.View().Has("on"))
	// Output: 0 1 false
}

// A context tells what a state has seen, removals included: who lacks nothing of it needs nothing.
func ExampleState_Context() {
	a, b := crdt.NewState(), crdt.NewState()
	set := func(on bool) func(keys crdt.Fields) error {
		return func(keys crdt.Fields) error { return keys.Flag("on").Set(on) }
	}
	update(a, laptop, set(true))
	b.Merge(a)
	removal := update(a, laptop, set(false))
	delta := update(b, phone, set(true))

	fmt.Printf("%s\n", must(json.Marshal(a.Context())))
	fmt.Println("b lacks something:", !b.Context().Contains(removal.Context()))
	fmt.Println("a lacks something:", !a.Context().Contains(delta.Context()))
	a.Merge(delta)
	fmt.Println("a lacks something:", !a.Context().Contains(delta.Context()))
	// Output:
	// {"vector":{"000000000000001a":2}}
	// b lacks something: true
	// a lacks something: true
	// a lacks something: false
}

// Clearing takes away what it has seen. The increment that it has not seen counts.
func ExampleCounter() {
	a, b := crdt.NewState(), crdt.NewState()
	add := func(n int64) func(keys crdt.Fields) error {
		return func(keys crdt.Fields) error {
			_, err := keys.Counter("stock").Add(n)
			return err
		}
	}
	update(a, laptop, add(10))
	b.Merge(a)
	update(b, phone, func(keys crdt.Fields) error {
		_, err := keys.Counter("stock").Clear()
		return err
	})
	update(a, laptop, add(5))
	a.Merge(b)
	fmt.Println(a.View().Counter("stock").Get())
	// Output: 5
}

// Concurrent writes of a register are kept until someone who has seen them writes again.
func ExampleRegister() {
	a, b := crdt.NewState(), crdt.NewState()
	set := func(s *crdt.State, r crdt.ReplicaID, title string) {
		update(s, r, func(keys crdt.Fields) error {
			return keys.Map("book").Register("title").Set([]byte(title))
		})
	}
	show := func(s *crdt.State) {
		title := s.View().Map("book").Register("title")
		latest, ok := title.Get()
		fmt.Printf("%q of %q, %v\n", latest, slices.Collect(title.All()), ok)
	}
	set(a, laptop, "Emma")
	set(b, phone, "Persuasion")
	a.Merge(b)
	show(a)
	set(a, laptop, "Emma, and Persuasion")
	b.Merge(a)
	show(b)
	update(b, phone, func(keys crdt.Fields) error {
		existed, err := keys.Map("book").Register("title").Clear()
		fmt.Println("there was one:", existed)
		return err
	})
	show(b)
	// Output:
	// "Persuasion" of ["Emma" "Persuasion"], true
	// "Emma, and Persuasion" of ["Emma, and Persuasion"], true
	// there was one: true
	// "" of [], false
}

// Increments beside a text count on top of it, a concurrent one too.
func ExampleString() {
	a, b := crdt.NewState(), crdt.NewState()
	update(a, laptop, func(keys crdt.Fields) error { return keys.String("n").Set([]byte("40")) })
	update(b, phone, func(keys crdt.Fields) error {
		_, err := keys.String("n").Add(2)
		return err
	})
	a.Merge(b)
	n := a.View().String("n")
	text, _ := n.Get()
	fmt.Printf("%s of %s\n", text, slices.Collect(n.All()))
	update(a, laptop, func(keys crdt.Fields) error {
		_, err := keys.String("n").Clear()
		return err
	})
	fmt.Println(a.View().Has("n"))
	// Output:
	// 42 of [42]
	// false
}

// To set a flag wins over unsetting it at the same time.
func ExampleFlag() {
	a, b := crdt.NewState(), crdt.NewState()
	set := func(on bool) func(keys crdt.Fields) error {
		return func(keys crdt.Fields) error { return keys.Flag("open").Set(on) }
	}
	update(a, laptop, set(true))
	b.Merge(a)
	update(a, laptop, set(false))
	update(b, phone, set(true))
	a.Merge(b)
	fmt.Println(a.View().Flag("open").Get())
	// Output: true
}

// Elements are in order. A page goes on after the last element of the one before.
func ExampleSet() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error {
		fruit := keys.Set("fruit")
		for _, name := range []string{"plum", "apple", "pear", "fig"} {
			if _, err := fruit.Add(name); err != nil {
				return err
			}
		}
		existed, err := fruit.Remove("fig")
		fmt.Println("there was a fig:", existed)
		return err
	})
	fruit := s.View().Set("fruit")
	fmt.Println(fruit.Len(), fruit.Has("pear"), slices.Collect(fruit.All()))
	fmt.Println(slices.Collect(fruit.AllAfter("banana")))
	fmt.Println(fruit.Next("banana"))
	update(s, laptop, func(keys crdt.Fields) error {
		_, err := keys.Set("fruit").Clear()
		return err
	})
	fmt.Println(s.View().Has("fruit"))
	// Output:
	// there was a fig: true
	// 3 true [apple pear plum]
	// [pear plum]
	// pear true
	// false
}

// A leaderboard: what is added at two places at once counts, and of scores that are set the latest stays.
func ExampleSortedSet() {
	a, b := crdt.NewState(), crdt.NewState()
	update(a, laptop, func(keys crdt.Fields) error {
		must(keys.SortedSet("board").Set("ann", 10))
		must(keys.SortedSet("board").Set("bob", 12))
		return nil
	})
	b.Merge(a)
	add := func(by float64) func(keys crdt.Fields) error {
		return func(keys crdt.Fields) error {
			_, err := keys.SortedSet("board").Add("ann", by)
			return err
		}
	}
	update(a, laptop, add(1.5))
	update(b, phone, add(2))
	a.Merge(b)
	board := a.View().SortedSet("board")
	for name, score := range board.All() {
		fmt.Println(name, score)
	}
	score, _ := board.Score("ann")
	fmt.Println("before ann:", board.Before(score, "ann"))
	// Output:
	// bob 12
	// ann 13.5
	// before ann: 1
}

// A page of a sorted set begins at a rank, and goes on from there in one of both directions; by name it goes on after the
// last element of the one before.
func ExampleSortedSet_From() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error {
		for i, name := range []string{"ann", "bob", "cid", "dee"} {
			must(keys.SortedSet("board").Set(name, float64(-i)))
		}
		_, err := keys.SortedSet("board").Remove("cid")
		return err
	})
	board := s.View().SortedSet("board")
	for name := range board.From(1) {
		fmt.Println(name)
	}
	for name := range board.Back(board.Len() - 1) {
		fmt.Println("the greatest:", name)
		break
	}
	for name := range board.ByName() {
		fmt.Print(name, ", ")
	}
	fmt.Println("by name")
	for name, score := range board.ByNameAfter("ann") {
		fmt.Println("after ann:", name, score)
	}
	// Output:
	// bob
	// ann
	// the greatest: ann
	// ann, bob, dee, by name
	// after ann: bob -1
	// after ann: dee -3
}

// Of scores that are set at once the latest counts, and all are there for who wants to choose.
func ExampleSortedSet_Scores() {
	a, b := crdt.NewState(), crdt.NewState()
	set := func(score float64) func(keys crdt.Fields) error {
		return func(keys crdt.Fields) error { return second(keys.SortedSet("board").Set("ann", score)) }
	}
	update(a, laptop, set(12))
	update(b, phone, set(10))
	a.Merge(b)
	best := slices.Max(slices.Collect(a.View().SortedSet("board").Scores("ann")))
	update(a, laptop, set(best))
	fmt.Println(slices.Collect(a.View().SortedSet("board").Scores("ann")))
	// Output: [12]
}

// An addition whose sum would be no number is refused, and changes nothing.
func ExampleSortedSet_Add_error() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error { return second(keys.SortedSet("z").Set("x", math.Inf(1))) })
	_, err := s.Update(laptop, noon, func(keys crdt.Fields) error { return second(keys.SortedSet("z").Add("x", math.Inf(-1))) })
	fmt.Println(errors.Is(err, crdt.ErrNotANumber), s.View().Types("z").Has(crdt.TypeSortedSet))
	// Output: true true
}

// A map holds values of all types. Two that meet under one name both stay.
func ExampleMap() {
	a, b := crdt.NewState(), crdt.NewState()
	update(a, laptop, func(keys crdt.Fields) error {
		ann := keys.Map("ann")
		_, err := ann.Counter("visits").Add(1)
		return errors.Join(err, ann.String("mail").Set([]byte("ann@example.com")),
			ann.Map("address").String("city").Set([]byte("Oslo")))
	})
	update(b, phone, func(keys crdt.Fields) error {
		_, err := keys.Map("ann").Set("mail").Add("ann@example.org")
		return err
	})
	a.Merge(b)
	ann := a.View().Map("ann")
	for name, types := range ann.All() {
		fmt.Printf("%s: %v; to show: a %v\n", name, types, types.First())
	}
	fmt.Println(ann.Len(), "fields,", ann.CountStrings(), "with a string, counted:", ann.Counted())
	for name, value := range ann.Strings() {
		fmt.Printf("  %s = %s\n", name, value)
	}
	update(a, laptop, func(keys crdt.Fields) error {
		_, err := keys.Map("ann").Clear()
		return err
	})
	fmt.Println(a.View().Map("ann").Len())
	// Output:
	// address: map; to show: a map
	// mail: set, string; to show: a set
	// visits: string; to show: a string
	// 3 fields, 2 with a string, counted: true
	//   mail = ann@example.com
	//   visits = 1
	// 0
}

// A copy is written anew: what is counted on the original meanwhile stays there.
func ExampleFields_Copy() {
	a, b := crdt.NewState(), crdt.NewState()
	visit := func(keys crdt.Fields) error {
		_, err := keys.Counter("visits").Add(1)
		return err
	}
	update(a, laptop, visit)
	b.Merge(a)
	update(a, laptop, func(keys crdt.Fields) error {
		_, err := keys.Copy("visits", "visits of monday")
		return err
	})
	update(b, phone, visit)
	a.Merge(b)
	fmt.Println(a.View().Counter("visits").Get(), a.View().Counter("visits of monday").Get())
	// Output: 2 1
}

// What is under a name is asked for by type, and gone through by type.
func ExampleTypes() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error {
		_, err := keys.Set("a").Add("x")
		return errors.Join(err, keys.Flag("a").Set(true), keys.Flag("b").Set(true),
			keys.Map("c").Flag("x").Set(true), keys.Register("d").Set(nil))
	})
	keys := s.View()
	a := keys.Types("a")
	fmt.Println(a.Has(crdt.TypeSet), a.Has(crdt.TypeMap), a.Only(crdt.TypeFlag), keys.Types("z") == 0)
	fmt.Println(a.With(crdt.TypeMap))
	for name, types := range keys.AllAfter("a") {
		for t := range types.All() {
			fmt.Printf("%s %v %v\n", name, t, t == crdt.TypeString)
		}
	}
	// Output:
	// true false false true
	// map, set, flag
	// b flag false
	// c map false
	// d string true
}

// What a device was sent is its context with those of the deltas: what is not in there is sent
// again.
func ExampleContext() {
	var sent crdt.Context
	s := crdt.NewState()
	var deltas []*crdt.State
	for _, item := range []string{"bread", "milk", "soap"} {
		deltas = append(deltas, update(s, laptop, func(keys crdt.Fields) error {
			_, err := keys.Set("list").Add(item)
			return err
		}))
	}
	sent.Merge(deltas[0].Context())
	sent.Merge(deltas[2].Context())
	fmt.Println(sent.Vector()[laptop], sent.Exceptions(), sent.Has(crdt.Dot{Replica: laptop, Counter: 2}))

	var kept crdt.Context
	if err := kept.UnmarshalBinary(must(sent.MarshalBinary())); err != nil {
		log.Fatal(err)
	}
	copied := kept.Clone()
	for _, d := range deltas {
		if !copied.Contains(d.Context()) {
			copied.Merge(d.Context())
		}
	}
	fmt.Println(kept.Equal(&sent), copied.Equal(s.Context()))
	// Output:
	// 1 [000000000000001a:3] false
	// true true
}

// Version vectors say who has seen what, as long as nothing overtakes anything.
func ExampleVersionVector() {
	here, there := crdt.VersionVector{laptop: 3}, crdt.VersionVector{laptop: 1, phone: 2}
	fmt.Println(here.Contains(there), here.Missing(there), here.Has(crdt.Dot{Replica: phone, Counter: 1}))
	both := here.Clone()
	both.Merge(there)
	both.Raise(phone, 5)
	fmt.Println(both.Equal(crdt.VersionVector{laptop: 3, phone: 5}), both.Replicas())
	fmt.Printf("%s\n", must(json.Marshal(both)))
	// Output:
	// false 2 false
	// true [000000000000001a 000000000000002b]
	// {"000000000000001a":3,"000000000000002b":5}
}

// A dot is text in JSON and everywhere else.
func ExampleDot() {
	d := must(crdt.ParseDot("000000000000001a:17"))
	fmt.Println(d.Replica, d.Counter, d, d.IsZero(), d.Compare(crdt.Dot{Replica: phone, Counter: 1}))
	r := must(crdt.ParseReplicaID(laptop.String()))
	fmt.Println(r == laptop)
	// Output:
	// 000000000000001a 17 000000000000001a:17 false -1
	// true
}

// Two replicas say when a session ends. The latest time counts, and what has expired is not seen any more.
func ExampleExpiry() {
	now := time.UnixMilli(1_700_000_000_000)
	here, there := crdt.NewState(), crdt.NewState()
	login := must(here.Update(laptop, now, func(keys crdt.Fields) error {
		return keys.String("session").SetUntil([]byte("alice"), now.Add(time.Minute))
	}))
	there.Merge(login)
	extended := must(there.Update(phone, now, func(keys crdt.Fields) error {
		_, err := keys.Expiry("session").Set(now.Add(time.Hour))
		return err
	}))
	here.Merge(extended)
	at, ok := here.View().Expiry("session").Get()
	fmt.Println(at.Sub(now), ok)
	for _, passed := range []time.Duration{2 * time.Minute, 2 * time.Hour} {
		user, ok := here.ViewAt(now.Add(passed)).String("session").Get()
		fmt.Printf("%s %v\n", user, ok)
	}
	must(here.Update(laptop, now, func(keys crdt.Fields) error {
		_, err := keys.Expiry("session").Clear()
		return err
	}))
	fmt.Println(here.ViewAt(now.Add(2 * time.Hour)).Has("session"))
	// Output:
	// 1h0m0s true
	// alice true
	//  false
	// true
}

// Who goes through names in pages counts those that have expired, so that no page takes long.
func ExampleFields_Scan() {
	now := time.UnixMilli(1_700_000_000_000)
	s := crdt.NewState()
	must(s.Update(laptop, now, func(keys crdt.Fields) error {
		if err := keys.String("alice").SetUntil(nil, now.Add(time.Minute)); err != nil {
			return err
		}
		return keys.String("bob").Set(nil)
	}))
	for name, types := range s.ViewAt(now.Add(time.Hour)).Scan("") {
		fmt.Println(name, types != 0)
	}
	// Output:
	// alice false
	// bob true
}

// Who was there on a day is a bit each. Bits that are set at once in different chunks all stay.
func ExampleBitmap() {
	a, b := crdt.NewState(), crdt.NewState()
	const ann, bob = 3, 8*crdt.ChunkSize + 5
	update(a, laptop, func(keys crdt.Fields) error {
		was, err := keys.Bitmap("monday").SetBit(ann, true)
		fmt.Println("was there before:", was)
		return err
	})
	update(b, phone, func(keys crdt.Fields) error {
		_, err := keys.Bitmap("monday").SetBit(bob, true)
		return err
	})
	a.Merge(b)
	day := a.View().Bitmap("monday")
	fmt.Println(day.GetBit(ann), day.GetBit(bob), day.GetBit(ann+1), day.Len(), day.Read(0, 2))
	for at, part := range day.All() {
		fmt.Println("from", at, "on:", part)
	}
	fmt.Println(a.View().Types("monday").Only(crdt.TypeBitmap), day.Chunks())
	// Output:
	// was there before: false
	// true true false 1025 [16 0]
	// from 1024 on: [4]
	// from 0 on: [16]
	// true 2
}

// A text becomes a bitmap, so that a part of it can be written.
func ExampleBitmap_Take() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error { return keys.String("text").Set([]byte("hello")) })
	update(s, laptop, func(keys crdt.Fields) error {
		text := keys.Bitmap("text")
		if _, err := text.Take(); err != nil {
			return err
		}
		return text.Edit(0, 1, func(part []byte) { part[0] = 'J' })
	})
	value, _ := s.View().Bitmap("text").Get()
	fmt.Printf("%s\n", value)
	// Output: Jello
}

// Two peers count visitors, each those that come to it. Ann, who came to both, is counted once.
func ExampleHyperLogLog() {
	a, b := crdt.NewState(), crdt.NewState()
	count := func(names ...string) func(keys crdt.Fields) error {
		return func(keys crdt.Fields) error {
			_, err := keys.HyperLogLog("visitors").Add(names...)
			return err
		}
	}
	update(a, laptop, count("ann", "bob"))
	update(b, phone, count("ann", "eve", "dan"))
	a.Merge(b)
	fmt.Println(a.View().HyperLogLog("visitors").Count(), a.View().Types("visitors").Has(crdt.TypeHyperLogLog))
	// Output: 4 true
}

// Registers are what a HyperLogLog has counted, as a value.
func ExampleRegisters() {
	s := crdt.NewState()
	var all crdt.Registers
	all.Add("ann")
	update(s, laptop, func(keys crdt.Fields) error {
		if _, err := keys.HyperLogLog("visitors").Add("bob"); err != nil {
			return err
		}
		_, err := keys.HyperLogLog("visitors").Merge(&all)
		return err
	})
	there, ok := s.View().HyperLogLog("visitors").Get()
	all.Merge(there)
	fmt.Println(ok, all.Count(), all.Possible())
	// Output: true 2 true
}

// Two replicas push to one list at once: all elements stay, and what each pushed stays together.
func ExampleList() {
	here, there := crdt.NewState(), crdt.NewState()
	push := func(s *crdt.State, id crdt.ReplicaID, values ...string) {
		for _, value := range values {
			_, err := s.Update(id, time.Now(), func(keys crdt.Fields) error {
				jobs := keys.List("jobs")
				return jobs.Insert(jobs.Len(), []byte(value))
			})
			if err != nil {
				log.Fatal(err)
			}
		}
	}
	push(here, 1, "a1", "a2")
	push(there, 2, "b1", "b2")
	here.Merge(there)
	jobs := here.View().List("jobs")
	for value := range jobs.All() {
		fmt.Printf("%s ", value)
	}
	for i, value := range jobs.From(1, true) {
		fmt.Printf("%d:%s ", i, value)
	}
	fmt.Println(here.View().Types("jobs").Has(crdt.TypeList))
	// Output: a1 a2 b1 b2 1:a2 0:a1 true
}

// Elements are named by where they are now.
func ExampleList_Get() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error {
		jobs := keys.List("jobs")
		if err := jobs.Insert(0, []byte("wash"), []byte("cook"), []byte("eat")); err != nil {
			return err
		}
		existed, err := jobs.Set(1, []byte("bake"))
		fmt.Println("there was a second:", existed)
		if err != nil {
			return err
		}
		removed, err := jobs.Remove(0, 1)
		fmt.Println("removed:", removed)
		return err
	})
	first, ok := s.View().List("jobs").Get(0)
	fmt.Printf("%s, %v\n", first, ok)
	update(s, laptop, func(keys crdt.Fields) error {
		last, ok, err := keys.List("jobs").Pop(1)
		fmt.Printf("%s, %v\n", last, ok)
		return err
	})
	// Output:
	// there was a second: true
	// removed: 1
	// bake, true
	// eat, true
}

// Of values that are set at once the latest is shown, and all are there for who merges them.
func ExampleList_Values() {
	a, b := crdt.NewState(), crdt.NewState()
	set := func(value string) func(keys crdt.Fields) error {
		return func(keys crdt.Fields) error { return second(keys.List("jobs").Set(0, []byte(value))) }
	}
	update(a, laptop, func(keys crdt.Fields) error {
		return keys.List("jobs").Insert(0, []byte("cook"))
	})
	b.Merge(a)
	update(a, laptop, set("cook rice"))
	update(b, phone, set("cook beans"))
	a.Merge(b)
	fmt.Printf("%q\n", slices.Collect(a.View().List("jobs").Values(0)))
	// Output: ["cook rice" "cook beans"]
}

// What a key holds of one type is cleared alone. Reads of a database may fail: a transaction whose
// reads decide whether it goes on asks first.
func ExampleFields_Err() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error {
		must(keys.Bitmap("k").SetBit(1, true))
		must(keys.HyperLogLog("k").Add("x"))
		must(keys.SortedSet("k").Add("x", 1))
		must(keys.Stream("k").Add(noon, "x", "1"))
		return keys.List("k").Insert(0, []byte("x"))
	})
	update(s, laptop, func(keys crdt.Fields) error {
		types := keys.Types("k")
		if err := keys.Err(); err != nil {
			return err
		}
		fmt.Println("before:", types)
		must(keys.Bitmap("k").Clear())
		must(keys.HyperLogLog("k").Clear())
		must(keys.SortedSet("k").Clear())
		must(keys.Stream("k").Clear())
		fmt.Println("left:", keys.Types("k"))
		return second(keys.List("k").Clear())
	})
	fmt.Println(s.View().Has("k"))
	// Output:
	// before: sorted-set, list, stream, bitmap, hyperloglog
	// left: list
	// false
}

// A group of workers shares a log that two devices add to. What arrives late has a smaller id than what was read, and is
// delivered all the same.
func ExampleGroup() {
	onLaptop, onPhone := crdt.NewState(), crdt.NewState()
	update(onPhone, phone, func(keys crdt.Fields) error {
		return keys.Stream("jobs").AddAs(crdt.StreamID{Ms: 5}, "do", "call")
	})
	update(onLaptop, laptop, func(keys crdt.Fields) error {
		jobs := keys.Stream("jobs")
		if err := jobs.AddAs(crdt.StreamID{Ms: 7}, "do", "print"); err != nil {
			return err
		}
		if _, err := jobs.Group("workers").Create(crdt.GroupInfo{Read: -1}); err != nil {
			return err
		}
		// No more than crdt.MaxDelivery bytes are read at once, however many entries are asked for.
		fmt.Println(must(jobs.Group("workers").Read("ann", noon, crdt.MaxDelivery, false)))
		return nil
	})
	onLaptop.Merge(onPhone)
	update(onLaptop, laptop, func(keys crdt.Fields) error {
		workers := keys.Stream("jobs").Group("workers")
		_, err := workers.Within(100, 3).Read("bob", noon, 10, false) // while others wait
		fmt.Println("is longer:", errors.Is(err, crdt.ErrBeyond))
		fmt.Println(must(workers.Read("bob", noon, 10, false)))
		fmt.Println("acknowledged", must(workers.Ack(crdt.StreamID{Ms: 7})))
		for p := range workers.Pending(crdt.StreamID{}, crdt.MaxStreamID) { // of type crdt.Pending
			fmt.Println(p.ID, "is pending for", p.Consumer, "since", p.Delivered.UTC().Hour())
		}
		if p, ok := workers.PendingOf(crdt.StreamID{Ms: 5}); ok { // and is done by somebody else
			return workers.Assign("eve", noon, []crdt.Pending{p})
		}
		return nil
	})
	workers := onLaptop.View().Stream("jobs").Group("workers")
	for c := range workers.Consumers() { // of type crdt.Consumer
		fmt.Println(c.Name)
	}
	info, ok := workers.Info()
	fmt.Println(info.Last, ok, slices.Collect(onLaptop.View().Stream("jobs").Groups()))
	// Output:
	// [{7-0 [do print]}]
	// is longer: true
	// [{5-0 [do call]}]
	// acknowledged 1
	// 5-0 is pending for bob since 12
	// ann
	// bob
	// eve
	// 7-0 true [workers]
}

// What a person does to a group that is not as it should be.
func ExampleGroup_SetID() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error {
		workers := keys.Stream("jobs").Group("workers")
		if err := workers.SetID(crdt.GroupInfo{}); !errors.Is(err, crdt.ErrNoGroup) {
			return err
		}
		fmt.Println("made:", must(workers.Create(crdt.GroupInfo{})))
		fmt.Println("ann is new:", must(workers.AddConsumer("ann", noon)), workers.HasConsumer("ann"))
		if err := workers.Advance(crdt.StreamID{Ms: 9}); err != nil { // to begin behind this
			return err
		}
		lag, known := workers.Lag()
		fmt.Println("to be read:", lag, known)
		fmt.Println("was pending for ann:", must(workers.RemoveConsumer("ann")))
		fmt.Println("there:", must(workers.Remove()), workers.Exists())
		return nil
	})
	// Output:
	// made: true
	// ann is new: true true
	// to be read: 0 true
	// was pending for ann: 0
	// there: true false
}

func ExampleStream() {
	s := crdt.NewState()
	update(s, laptop, func(keys crdt.Fields) error {
		log := keys.Stream("log")
		first := must(log.Add(noon, "temperature", "21"))
		second := must(log.Add(noon, "temperature", "22", "wind", "3"))
		fmt.Println(first.Compare(second), first.Ms == second.Ms, log.Has(first), log.Before(second))
		if next, ok := first.Next(); ok {
			fmt.Println("to read on from:", first.Compare(next), next.Compare(second) <= 0)
		}
		if before, ok := second.Previous(); ok { // an id beyond the last alone can be added, or the last beside it
			fmt.Println(errors.Is(log.AddAs(before, "a", "b"), crdt.ErrStreamID),
				errors.Is(log.AddBeside(before, "a", "b"), crdt.ErrStreamID), log.Len() < crdt.MaxBeside)
		}
		if err := log.AddAs(crdt.MaxStreamID, "last", "one"); err != nil {
			return err
		}
		_, err := log.Add(noon, "one", "more")
		fmt.Println(errors.Is(err, crdt.ErrStreamFull))
		for e := range log.Backward(first, second) {
			entry := crdt.StreamEntry{ID: first, Fields: e.Fields}
			fmt.Println(entry.Fields)
		}
		fmt.Println(must(log.RemoveFirst(1)), must(log.Remove(crdt.MaxStreamID)), log.Len())
		return log.SetInfo(crdt.StreamInfo{Last: second, Added: log.Info().Added})
	})
	update(s, laptop, func(keys crdt.Fields) error {
		for name, value := range keys.Stream("log").Parts() { // what is written down, and read again
			if err := keys.Stream("copy").AddPart(name, value); err != nil {
				return err
			}
		}
		return nil
	})
	copied := s.View().Stream("copy")
	for e := range copied.Range(crdt.StreamID{}, crdt.MaxStreamID) {
		fmt.Println(e.Fields, copied.Info().Added, s.View().Types("copy").Only(crdt.TypeStream))
	}
	// Output:
	// -1 true true 1
	// to read on from: -1 true
	// true true true
	// true
	// [temperature 22 wind 3]
	// [temperature 21]
	// 1 1 1
	// [temperature 22 wind 3] 3 true
}
