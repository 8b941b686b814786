package peer

import (
	"errors"
	"testing"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/internal/engine"
)

// TestAFullSourceSaysThatItIs: who is refused, as most are where many are filled at once, does not take it for a repair
// that was cut off, of which people are told.
func TestAFullSourceSaysThatItIs(t *testing.T) {
	c := newCluster(t)
	puller, source := c.add(), c.add()
	eventually(t, "a link", func() bool { return puller.net.linked(source.net.id) })
	source.net.sources.Add(maxSources)
	s, err := puller.net.openProven(t.Context(), source.net.id, pullStream)
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
