// Command twopeers shows two peers in one process that lose each other, go on, and agree again.
//
//	go run ./examples/twopeers
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"

	"github.com/peerd/peerd/peer"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "peerd-twopeers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a, err := open(ctx, peer.Config{Dir: filepath.Join(dir, "a"), Name: "a", Cut: &peer.Cut{}})
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := open(ctx, peer.Config{
		Dir: filepath.Join(dir, "b"), Name: "b", Cut: &peer.Cut{},
		ClusterKey: a.keys.ClusterKey, Join: []string{a.address()}, // what a second host needs
	})
	if err != nil {
		return err
	}
	defer b.Close()
	return tell(ctx, out, a, b)
}

func tell(ctx context.Context, out io.Writer, a, b *host) error {
	if err := until(ctx, func() bool { return a.linked() && b.linked() }); err != nil {
		return err
	}
	a.cut.Block(b.address())
	b.cut.Block(a.address())
	if err := until(ctx, func() bool { return !a.linked() && !b.linked() }); err != nil {
		return err
	}
	fmt.Fprintln(out, "cut off from each other, both take writes:")
	if err := a.Update(ctx, visit("red", 3)); err != nil {
		return err
	}
	if err := b.Update(ctx, visit("blue", 4)); err != nil {
		return err
	}
	if err := show(ctx, out, a, b); err != nil {
		return err
	}
	a.cut.Block()
	b.cut.Block()
	if err := until(ctx, func() bool { return a.state() == b.state() }); err != nil {
		return err
	}
	fmt.Fprintln(out, "healed, both hold the same:")
	return show(ctx, out, a, b)
}

// visit returns a transaction on values that both peers write while they are apart.
func visit(color string, n int64) func(tx *peer.Tx) error {
	return func(tx *peer.Tx) error {
		if _, err := tx.Counter("visits").Add(n); err != nil {
			return err
		}
		_, err := tx.Set("colors").Add(color)
		return err
	}
}

func show(ctx context.Context, out io.Writer, hosts ...*host) error {
	for _, h := range hosts {
		var visits int64
		var colors []string
		err := h.View(ctx, func(tx *peer.Tx) error {
			visits, colors = tx.Counter("visits").Get(), slices.Collect(tx.Set("colors").All())
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %s: visits %d, colors %v\n", h.name, visits, colors)
	}
	return nil
}
