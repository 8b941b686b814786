package resp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What INFO commandstats and errorstats tell: how often commands were called and failed, on their
// own, within MULTI or by a script; and how many replies were errors, by their first word.

// commandCounts is of one command, or subcommand: see command.place.
type commandCounts struct{ calls, nanos, rejected, failed atomic.Int64 }

// maxErrorWords is how many first words of errors are told apart; others are counted with "ERR".
// Scripts may make up any.
const maxErrorWords = 128

// errorCounts is how many replies were errors, by their first word.
type errorCounts struct {
	mu     sync.Mutex
	byWord map[string]int64
	total  int64
}

// add counts an error that a client is answered.
func (e *errorCounts) add(text string) {
	word, _, found := strings.Cut(text, " ")
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.byWord == nil {
		e.byWord = map[string]int64{}
	}
	if _, known := e.byWord[word]; !found || !known && len(e.byWord) >= maxErrorWords || len(word) > longestName {
		word = "ERR"
	}
	e.byWord[word]++
	e.total++
}

// all returns them, and their sum.
func (e *errorCounts) all() (byWord map[string]int64, total int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.byWord), e.total
}

// resetStatistics has commands and errors be counted from now on.
func (s *Server) resetStatistics() {
	now := s.statistics()
	s.since.Store(&now)
	for i := range s.perCommand {
		n := &s.perCommand[i]
		n.calls.Store(0)
		n.nanos.Store(0)
		n.rejected.Store(0)
		n.failed.Store(0)
	}
	s.errors.mu.Lock()
	defer s.errors.mu.Unlock()
	s.errors.byWord, s.errors.total = nil, 0
}

// countRun counts that a command was executed, with its error; began is when, where nobody else
// counts the time. Its reply begins at at.
func (c *call) countRun(cmd *command, at int, err error, began time.Time) {
	if isAgain(err) {
		return // it is executed again
	}
	n := &c.server.perCommand[cmd.place]
	n.calls.Add(1)
	if c.whole {
		n.nanos.Add(int64(time.Since(began)))
	}
	switch {
	case err != nil && err != errBlocked:
		n.failed.Add(1)
	case err == nil && !c.apart && len(c.out.buf) > at && c.out.buf[at] == '-': // what a script returned
		n.failed.Add(1)
		c.server.errors.add(string(c.out.buf[at+1 : len(c.out.buf)-2]))
	}
}

// countRejected counts a call that was not executed.
func (s *Server) countRejected(args [][]byte) {
	if len(args) == 0 {
		return
	}
	cmd := lookUp(args[0])
	if cmd != nil && cmd.subs != nil && len(args) > 1 {
		cmd = find(cmd.subs, args[1])
	}
	if cmd != nil {
		s.perCommand[cmd.place].rejected.Add(1)
	}
}

func (c *call) infoCommandStats() (string, error) {
	var out strings.Builder
	for _, cmd := range allCommands() {
		n := &c.server.perCommand[cmd.place]
		calls, rejected, failed := n.calls.Load(), n.rejected.Load(), n.failed.Load()
		if calls == 0 && rejected == 0 {
			continue
		}
		micros := float64(n.nanos.Load()) / 1000
		fmt.Fprintf(&out, "cmdstat_%s:calls=%d,usec=%.0f,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d\r\n",
			cmd.name, calls, micros, micros/float64(max(calls, 1)), rejected, failed)
	}
	return out.String(), nil
}

func (c *call) infoErrorStats() (string, error) {
	var out strings.Builder
	counts, _ := c.server.errors.all()
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&out, "errorstat_%s:count=%d\r\n", word, counts[word])
	}
	return out.String(), nil
}
