package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/peerd/peerd/internal/words"
)

// statusPause is how long status --watch waits before it asks again.
const statusPause = time.Second

// watchStatus prints the status again and again until ctx ends: on a terminal in the place of the
// one before, and else one after the other. A peer that does not answer is asked on: it may come
// back.
func (w *web) watchStatus(ctx context.Context, out io.Writer, addr string, raw bool) error {
	tick := time.NewTicker(statusPause)
	defer tick.Stop()
	for {
		var page bytes.Buffer
		if isTerminal(out) {
			page.WriteString("\x1b[H\x1b[2J")
		}
		err := w.printStatus(ctx, &page, addr, raw)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			fmt.Fprintln(&page, "peerd:", escaped(words.Of(err)))
		}
		if !raw {
			fmt.Fprintln(&page)
		}
		if _, err := page.WriteTo(out); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
