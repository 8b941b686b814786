package crdt_test

import (
	"fmt"
	"log"
	"time"

	"github.com/peerd/peerd/crdt"
)

// Replica ids are random in a real program, one for each copy that writes.
const (
	laptop crdt.ReplicaID = 0x1a
	phone  crdt.ReplicaID = 0x2b
)

func update(s *crdt.State, r crdt.ReplicaID, fn func(root crdt.Fields) error) *crdt.State {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	delta, err := s.Update(r, now, func(tx crdt.Tx) error { return fn(crdt.Root(tx)) })
	if err != nil {
		log.Fatal(err)
	}
	return delta
}

func view(s *crdt.State, fn func(root crdt.Fields) error) {
	if err := s.View(func(tx crdt.Tx) error { return fn(crdt.Root(tx)) }); err != nil {
		log.Fatal(err)
	}
}

// Two devices edit a shopping list while they cannot reach each other. Adding wins over removing.
func ExampleState() {
	onLaptop, onPhone := crdt.NewState(), crdt.NewState()
	update(onLaptop, laptop, func(root crdt.Fields) error {
		for _, item := range []string{"bread", "milk"} {
			if _, err := root.Set("list").Add(item); err != nil {
				return err
			}
		}
		return nil
	})
	onPhone.Merge(onLaptop)

	update(onLaptop, laptop, func(root crdt.Fields) error {
		_, err := root.Delete("list") // all that the laptop sees
		return err
	})
	update(onPhone, phone, func(root crdt.Fields) error {
		_, err := root.Set("list").Add("milk") // meanwhile
		return err
	})

	onLaptop.Merge(onPhone)
	onPhone.Merge(onLaptop)
	view(onLaptop, func(root crdt.Fields) error {
		items, err := root.Set("list").Elements()
		fmt.Println(items, onLaptop.Equal(onPhone))
		return err
	})
	// Output: [milk] true
}

// An update returns what it changed: to send that, and not the state.
func ExampleState_Update() {
	here, there := crdt.NewState(), crdt.NewState()
	for range 3 {
		delta := update(here, laptop, func(root crdt.Fields) error {
			_, err := root.Counter("visits").Add(1)
			return err
		})
		bytes, err := delta.MarshalBinary()
		if err != nil {
			log.Fatal(err)
		}
		received := crdt.NewState()
		if err := received.UnmarshalBinary(bytes); err != nil {
			log.Fatal(err)
		}
		there.Merge(received)
		there.Merge(received) // twice does no harm
	}
	view(there, func(root crdt.Fields) error {
		n, err := root.Counter("visits").Value()
		fmt.Println(n)
		return err
	})
	// Output: 3
}

// A reset takes away what it has seen. The increment that it has not seen counts.
func ExampleCounter_Reset() {
	a, b := crdt.NewState(), crdt.NewState()
	add := func(n int64) func(root crdt.Fields) error {
		return func(root crdt.Fields) error {
			_, err := root.Counter("stock").Add(n)
			return err
		}
	}
	update(a, laptop, add(10))
	b.Merge(a)
	update(b, phone, func(root crdt.Fields) error { return root.Counter("stock").Reset() })
	update(a, laptop, add(5))
	a.Merge(b)
	view(a, func(root crdt.Fields) error {
		n, err := root.Counter("stock").Value()
		fmt.Println(n)
		return err
	})
	// Output: 5
}

// Concurrent writes of a register are kept until someone who has seen them writes again.
func ExampleRegister_Values() {
	a, b := crdt.NewState(), crdt.NewState()
	set := func(s *crdt.State, r crdt.ReplicaID, title string) {
		update(s, r, func(root crdt.Fields) error {
			return root.Map("book").Register("title").Set([]byte(title))
		})
	}
	show := func(s *crdt.State) {
		view(s, func(root crdt.Fields) error {
			values, err := root.Map("book").Register("title").Values()
			fmt.Printf("%s\n", values)
			return err
		})
	}
	set(a, laptop, "Emma")
	set(b, phone, "Persuasion")
	a.Merge(b)
	show(a)
	set(a, laptop, "Emma, and Persuasion")
	b.Merge(a)
	show(b)
	// Output:
	// [Emma Persuasion]
	// [Emma, and Persuasion]
}

// Increments beside a text count on top of it, a concurrent one too.
func ExampleString() {
	a, b := crdt.NewState(), crdt.NewState()
	update(a, laptop, func(root crdt.Fields) error { return root.String("n").Set([]byte("40")) })
	update(b, phone, func(root crdt.Fields) error {
		_, err := root.String("n").Add(2)
		return err
	})
	a.Merge(b)
	view(a, func(root crdt.Fields) error {
		text, _, err := root.String("n").Get()
		fmt.Printf("%s\n", text)
		return err
	})
	// Output: 42
}
