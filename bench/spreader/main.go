// Spreader runs one experiment of the harness' scenario "spread", which its first argument describes,
// and prints what it found, both as JSON. With the number of a member as its second argument it is
// that member, which does what the experiment tells it. It is a program of its own, as each
// experiment and each member has a network namespace of its own, and as two of the rivals, gossipsub
// and etcd, cannot be in one program: both register a "rpc.proto".
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
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
	if len(args) == 0 || len(args) > 2 {
		return fmt.Errorf("one experiment is wanted, and perhaps a member, not %d words", len(args))
	}
	var e spread.Experiment
	if err := json.Unmarshal([]byte(args[0]), &e); err != nil {
		return err
	}
	open, ok := networks[e.System]
	if !ok {
		return fmt.Errorf("no network is named %q", e.System)
	}
	if len(args) == 2 {
		index, err := strconv.Atoi(args[1])
		if err == nil {
			e.Serve(ctx, index, open, os.Stdin, os.Stdout)
		}
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	found, err := e.Run(ctx, program, args[0])
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}
