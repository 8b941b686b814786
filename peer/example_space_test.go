package peer_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/peerd/peerd/peer"
)

// A space does all that a peer does with its default space, of which the methods of Peer are.
func ExampleSpace() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	orders, err := p.Space("orders")
	if err != nil {
		log.Fatal(err)
	}
	w := orders.Watch("")
	defer w.Close()
	add := func(id string) func(tx *peer.Tx) error {
		return func(tx *peer.Tx) error {
			_, err := tx.Set("open").Add(id)
			return err
		}
	}
	first, err := orders.UpdateToken(ctx, add("1001"))
	fmt.Println(orders.Name(), err, orders.Wait(ctx, first))
	// What fails is told; nothing does.
	fmt.Println(orders.UpdateAll(ctx, []func(tx *peer.Tx) error{add("1002"), add("1003")}))
	answered := make(chan []error, 1)
	orders.Submit([]func(tx *peer.Tx) error{add("1004")}, func(errs []error) { answered <- errs })
	fmt.Println(<-answered)

	n := 0
	count := func(tx *peer.Tx) error {
		n = tx.Set("open").Len()
		return nil
	}
	fmt.Println(orders.Read([]func(tx *peer.Tx) error{count}), n)
	last, err := orders.ViewToken(ctx, count)
	fmt.Println(last != first, err, n)
	change, err := w.Next(ctx)
	fmt.Println(change.Keys, err)
	later, err := orders.WatchSince("", first) // is told what came after that
	if err != nil {
		log.Fatal(err)
	}
	defer later.Close()
	status, err := orders.Status()
	fmt.Println(status.Keys, err)
	made, err := orders.Backup(ctx, io.Discard, nil)
	fmt.Println(len(made.Spaces), err)
	// Output:
	// orders <nil> <nil>
	// []
	// []
	// [] 4
	// true <nil> 4
	// [open] <nil>
	// 1 <nil>
	// 1 <nil>
}
