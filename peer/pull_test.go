package peer

import (
	"errors"
	"slices"
	"testing"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// TestAFullSourceSaysThatItIs: who is refused, as most are where many are filled at once, does not take it for a repair
// that was cut off, of which people are told.
func TestAFullSourceSaysThatItIs(t *testing.T) {
	c := newCluster(t)
	puller, source := c.add(), c.add()
	eventually(t, "a link", func() bool { return puller.net.linked(source.net.id) })
	for range engine.MaxSources {
		if err := source.net.sources.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := puller.net.openProven(t.Context(), source.net.id, pullStream, puller.net.keys.ring().Keys())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Reset() }()
	if _, err := s.Write(own(puller).id[:]); err != nil {
		t.Fatal(err)
	}
	_, err = newTalk(own(puller), s).ask(antientropy.Request{Kind: antientropy.KindPin})
	if !errors.Is(busy(err), engine.ErrBusy) {
		t.Errorf("it is told as %v", err)
	}
}

// TestWhatIsStagedIsWrittenInOrderUntilItFails: then nothing more is taken, and who waits is told.
func TestWhatIsStagedIsWrittenInOrderUntilItFails(t *testing.T) {
	full := errors.New("no room")
	var written []int
	stopped := false
	h := &stagehand{stopping: func() bool { return stopped }, commit: func(b *store.Batch, sync bool) error {
		if b.Len() > 3*staged {
			return full
		}
		written = append(written, b.Len())
		return nil
	}}
	batch := func(n int) *store.Batch {
		b := &store.Batch{}
		for range n {
			b.Delete([]byte("k"))
		}
		return b
	}
	for n := range 3 * staged {
		if err := h.stage(batch(n + 1)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second has nothing to wait for
		if err := h.stage(nil); err != nil || len(written) != 3*staged || !slices.IsSorted(written) {
			t.Fatalf("%v, %d", err, written)
		}
	}
	stopped = true
	if err := h.stage(batch(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("while it stops: %v", err)
	}
	stopped = false
	var err error
	for n := 0; err == nil && n < 3*staged; n++ { // as many as can wait, and then the error
		err = h.stage(batch(3*staged + 1))
	}
	if waits := h.stage(nil); !errors.Is(err, full) || !errors.Is(waits, full) {
		t.Errorf("a batch that fails: %v, and who waits is told %v", err, waits)
	}
	if err := h.stage(batch(1)); !errors.Is(err, full) || len(written) != 3*staged {
		t.Errorf("after it: %v, %d", err, len(written))
	}
}
