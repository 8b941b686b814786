// Command peerd is the daemon of a leaderless, gossip-replicated data store, and its command line.
//
//	peerd run         run a peer: Redis protocol, HTTP, replication
//	peerd config      print the settings of a run, and who set each
//	peerd init        make a data directory and its keys without starting
//	peerd status      show how a running peer is
//	peerd get         print what is stored under a key
//	peerd set         store a value under a key
//	peerd del         delete keys
//	peerd incr        add to a number
//	peerd keys        list keys
//	peerd watch       print keys as they change
//	peerd tx          several operations, all or none
//	peerd wait        wait until several peers hold the same data
//	peerd backup      write a backup of a running peer to a file
//	peerd restore     make a data directory from a backup
//	peerd salvage     print the writes of a stopped peer that no other has
//	peerd space       list the spaces that a host holds, or drop one
//	peerd key         replace the cluster's key while it runs
//	peerd invite      print the command with which a new host joins
//	peerd join        join as invited, and run a peer
//	peerd member      list the hosts of the cluster, remove one, take one back
//	peerd demo        three peers, a broken network and what becomes of it
//	peerd man         write manual pages
//	peerd completion  print a script that completes commands in a shell
//	peerd version     what this is
//
// Settings of run come from flags, the environment and a file, in this order: settings.go has the
// one table of them, config.go puts them together, reload.go changes them at SIGHUP.
//
// Exit status: 0 is success, 1 a failure, 2 a mistake in the command line or the settings. An
// error is one line on the standard error that says what is wrong and what to do. The log goes
// there too; what people asked for goes to the standard output.
//
// This package holds flags, configuration, signals and assembly: a peer is package peer, its
// front-ends are api/resp and api/httpapi. The tests run the command line in their own process,
// and once as a real one.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(realMain())
}

// realMain lets deferred calls happen before the process exits.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal, which asks to end, a second one ends at once.
	defer context.AfterFunc(ctx, stop)()
	return execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
