// Spreader runs one experiment of the harness' scenario "spread", which its argument describes, and
// prints what it found, both as JSON. It is a program of its own, as each experiment has a network
// namespace of its own, and as two of the rivals, gossipsub and etcd, cannot be in one program:
// both register a "rpc.proto".
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/peerd/peerd/bench/internal/spread"
)

var networks = map[string]spread.Open{
	"peerd": openPeerd, "memberlist": openMemberlist, "gossipsub": openGossipsub, "nats": openNATS,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "spreader:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one experiment is wanted, not %d", len(args))
	}
	var e spread.Experiment
	if err := json.Unmarshal([]byte(args[0]), &e); err != nil {
		return err
	}
	open, ok := networks[e.System]
	if !ok {
		return fmt.Errorf("no network is named %q", e.System)
	}
	r, err := e.Run(ctx, open)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
