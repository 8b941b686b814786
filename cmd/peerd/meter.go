package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/peerd/peerd/peer"
)

// How often progress is shown: on a terminal, on one line that changes, and elsewhere, as in a log.
const (
	meterOnTerminal = 200 * time.Millisecond
	meterElsewhere  = 5 * time.Second
)

// meter shows how far a backup or a restore has come.
type meter struct {
	out      io.Writer
	terminal bool
	began    time.Time
	shown    time.Time // when it was shown last
	lines    int
}

func newMeter(out io.Writer) *meter {
	m := &meter{out: out, began: time.Now(), terminal: isTerminal(out)}
	m.shown = m.began
	return m
}

// isTerminal reports whether a person sees what is written.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	nobody, _ := os.Stat(os.DevNull)
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && !os.SameFile(info, nobody)
}

// show shows where things are, unless that was just shown.
func (m *meter) show(p peer.BackupProgress) {
	every, end := meterElsewhere, "\n"
	if m.terminal {
		every, end = meterOnTerminal, "\x1b[K\r"
	}
	now := time.Now()
	if now.Sub(m.shown) < every {
		return
	}
	m.shown = now
	m.lines++
	_, _ = fmt.Fprint(m.out, progress(p, now.Sub(m.began)), end) // nobody can be told
}

// end leaves the line that changed.
func (m *meter) end() {
	if m.terminal && m.lines > 0 {
		_, _ = fmt.Fprint(m.out, "\x1b[K")
	}
}

// progress says how far it is, and how long it will take at the speed so far. What is expected is
// an estimate, so it is never said to be all.
func progress(p peer.BackupProgress, elapsed time.Duration) string {
	text := fmt.Sprintf("%s, %s", size(int64(p.Bytes)), plural(p.Records, "record"))
	if p.Expected == 0 || p.Records == 0 {
		return text
	}
	done := min(float64(p.Records)/float64(p.Expected), 0.99)
	left := time.Duration(float64(elapsed) * (1 - done) / done)
	return fmt.Sprintf("%s, %.0f%%, about %s left", text, 100*done, left.Round(time.Second))
}
