package main

import (
	"context"
	"io"
	"log/slog"
	"runtime/pprof"
	"time"
)

// stopTime bounds how long the daemon takes to end. Clients have 3 s of it to take their answers,
// others of the cluster about 3 to hear of it, and the rest is for the disk.
const stopTime = 9500 * time.Millisecond

// endInTime ends the process with exit if the caller, once ctx is done, does not call stop within
// limit. What was acknowledged is as safe as with a crash of the process: it is in the log
// already. It says what is waited for.
func endInTime(
	ctx context.Context, limit time.Duration, stderr io.Writer, log *slog.Logger, exit func(status int),
) (stop func()) {
	stopped := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		select {
		case <-stopped:
		case <-time.After(limit):
			_ = pprof.Lookup("goroutine").WriteTo(stderr, 1)
			log.Error("the peer did not end in time and is ended: nothing acknowledged is lost, and the next start "+
				"reads the log again; above is what it waited for", "limit", limit)
			exit(exitFailure)
		}
	})
	return func() {
		cancel()
		close(stopped)
	}
}
