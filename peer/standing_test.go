package peer

import (
	"fmt"
	"testing"
	"testing/synctest"
)

// TestWhatRestsHoldsNoLogBackWhileOthersWrite writes to one space many times what the log may have,
// while no time passes: another space, which was written to once, and the directory must be woken
// by how much is written, not by the clock.
func TestWhatRestsHoldsNoLogBackWhileOthersWrite(t *testing.T) {
	const (
		log, size = 4 << 20, 64 << 10
		written   = 16 * log
		allowed   = 2 * log // a checkpoint is on its way while others write
	)
	inBubble(t, func(t *testing.T) {
		p, err := Open(t.Context(), Config{Memory: true, Offline: true, LogBytes: log})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		idle, err := p.Space("idle")
		if err != nil {
			t.Fatal(err)
		}
		if err := idle.Update(t.Context(), func(tx *Tx) error { return tx.String("k").Set(nil) }); err != nil {
			t.Fatal(err)
		}
		value := make([]byte, size)
		for i := range written / size {
			mustUpdate(t, p, func(tx *Tx) error { return tx.String(fmt.Sprint("k", i%8)).Set(value) })
		}
		synctest.Wait()
		if held := p.journal.Size(); held > allowed {
			t.Errorf("the log has %d bytes after %d were written, limit %d", held, written, log)
		}
	})
}
