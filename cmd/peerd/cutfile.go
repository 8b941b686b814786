package main

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/peerd/peerd/peer"
)

// cutPoll is how often the file of --cut-file is read.
const cutPoll = 50 * time.Millisecond

// followCutFile blocks the gossip addresses in a file, one on each line, from when it returns on,
// and follows the file as it changes. A file that is not there blocks nothing. The function it
// returns ends that.
func followCutFile(path string, cut *peer.Cut, log *slog.Logger) (stop func()) {
	read := func() []byte {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		return content
	}
	content := read()
	cut.Block(strings.Fields(string(content))...)
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(cutPoll)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-end:
				return
			}
			if now := read(); !bytes.Equal(now, content) {
				content = now
				blocked := strings.Fields(string(content))
				cut.Block(blocked...)
				log.Warn("fault injection: blocking peers", "gossip", blocked)
			}
		}
	})
	return func() {
		close(end)
		running.Wait()
	}
}
