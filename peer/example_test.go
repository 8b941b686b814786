package peer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/peerd/peerd/peer"
)

// openAlone opens a peer in memory and without a network, as the examples need no more.
func openAlone() *peer.Peer {
	p, err := peer.Open(context.Background(), peer.Config{Memory: true, Offline: true})
	if err != nil {
		log.Fatal(err)
	}
	return p
}

// What was acknowledged is there when the directory is opened again. Without Offline the peer would
// also look for others and converge with them.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "peerd-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for range 2 {
		p, err := peer.Open(ctx, peer.Config{Dir: dir, Offline: true})
		if err != nil {
			log.Fatal(err)
		}
		err = p.Update(ctx, func(tx *peer.Tx) error {
			n, err := tx.Counter("starts").Add(1)
			fmt.Println("started", n)
			return err
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := p.Close(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// started 1
	// started 2
}

// The writes of a function become visible together, here and on every other peer. If it returns an error,
// none of them took place.
func ExamplePeer_Update() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	errSoldOut := errors.New("sold out")
	err := p.Update(ctx, func(tx *peer.Tx) error {
		if _, err := tx.Set("orders").Add("1001"); err != nil {
			return err
		}
		left, err := tx.Counter("stock").Add(-1)
		if err == nil && left < 0 {
			err = errSoldOut
		}
		return err
	})
	fmt.Println(err)
	err = p.View(ctx, func(tx *peer.Tx) error {
		orders, err := tx.Set("orders").Len()
		fmt.Println("orders:", orders)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// sold out
	// orders: 0
}

// A view reads one moment. Nothing is declared: a handle gives a key its type.
func ExamplePeer_View() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	err := p.Update(ctx, func(tx *peer.Tx) error {
		ann := tx.Map("ann")
		if err := ann.String("mail").Set([]byte("ann@example.com")); err != nil {
			return err
		}
		_, err := ann.Set("groups").Add("staff")
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	err = p.View(ctx, func(tx *peer.Tx) error {
		mail, _, err := tx.Map("ann").String("mail").Get()
		if err != nil {
			return err
		}
		groups, err := tx.Map("ann").Set("groups").Elements()
		fmt.Printf("%s is in %v\n", mail, groups)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: ann@example.com is in [staff]
}

// A watch tells which keys changed, here or on another peer; a view then tells what they are.
func ExamplePeer_Watch() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	w := p.Watch("user:")
	defer w.Close()
	for _, key := range []string{"user:2", "note:1", "user:1", "user:2"} {
		err := p.Update(ctx, func(tx *peer.Tx) error { return tx.Flag(key).Enable() })
		if err != nil {
			log.Fatal(err)
		}
	}
	change, err := w.Next(ctx)
	fmt.Println(change.Keys, err)
	// Output: [user:1 user:2] <nil>
}

// Who comes back with the token of the last change is told what came after it, and nothing twice.
func ExamplePeer_WatchSince() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	enable := func(key string) peer.Token {
		token, err := p.UpdateToken(ctx, func(tx *peer.Tx) error { return tx.Flag(key).Enable() })
		if err != nil {
			log.Fatal(err)
		}
		return token
	}
	last := enable("user:1")
	enable("user:2")
	enable("user:3")
	w, err := p.WatchSince("user:", last)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	for change, err := range w.All(ctx) {
		fmt.Println(change.Keys, err)
		break
	}
	// Output: [user:2 user:3] <nil>
}
