// Command embed shows peerd as a library: one peer inside a program, without a network.
//
//	go run ./examples/embed        in a temporary directory
//	go run ./examples/embed DIR    in DIR: run it twice, and the second run finds the first one's data
//
// To have the peer replicate, leave Offline out and start the program on a second host with
// Config.Join and a copy of DIR/cluster.key: nothing else changes.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"slices"

	"github.com/peerd/peerd/peer"
)

func main() {
	dir := ""
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := run(context.Background(), os.Stdout, dir); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, dir string) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "peerd-embed-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	p, err := peer.Open(ctx, peer.Config{Dir: dir, Offline: true})
	if err != nil {
		return err
	}
	defer p.Close() // a second Close does nothing
	watch := p.Watch("user:")
	defer watch.Close()

	if err := p.Update(ctx, signUp("ann", "ann@example.com")); err != nil {
		return err
	}
	change, err := watch.Next(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "changed:", change.Keys)
	var shown string
	err = p.View(ctx, func(tx *peer.Tx) error {
		shown = describe(tx)
		return nil
	})
	if err != nil { // a read failed: then what it gave is nothing to show
		return err
	}
	fmt.Fprintln(out, shown)
	return p.Close() // its error says whether everything is on the disk
}

// signUp returns a transaction: all of it becomes visible at once, here and on every other peer.
func signUp(name, mail string) func(tx *peer.Tx) error {
	return func(tx *peer.Tx) error {
		user := tx.Map("user:" + name) // a map's fields hold values of any type
		if err := user.String("mail").Set([]byte(mail)); err != nil {
			return err
		}
		if _, err := user.Set("groups").Add("staff"); err != nil {
			return err
		}
		if _, err := user.Counter("visits").Add(1); err != nil {
			return err
		}
		return tx.Flag("open").Set(true)
	}
}

// describe says what the database holds at one moment.
func describe(tx *peer.Tx) string {
	user := tx.Map("user:ann")
	mail, _ := user.String("mail").Get()
	groups := slices.Collect(user.Set("groups").All())
	return fmt.Sprintf("ann: mail %s, groups %v, visits %d", mail, groups, user.Counter("visits").Get())
}
