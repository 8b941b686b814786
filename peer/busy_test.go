package peer

import (
	"errors"
	"testing"
	"time"
)

func TestABusyPeerSaysSoInsteadOfNothing(t *testing.T) {
	p := reopen(t, t.TempDir())
	defer mustClose(t, p)
	begun, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	go p.call(func(*loop) { close(begun); <-end }) // as while a large repair is taken over
	<-begun
	began := time.Now()
	answers := make(chan error, 3)
	go func() { answers <- p.Ready() }()
	go func() { _, err := p.Status(); answers <- err }()
	go func() { _, err := p.Metrics(); answers <- err }()
	for range cap(answers) {
		select {
		case err := <-answers:
			if !errors.Is(err, errBusy) {
				t.Errorf("answered %v, want %v", err, errBusy)
			}
		case <-time.After(2 * busyAfter):
			t.Fatalf("no answer for %v", time.Since(began))
		}
	}
}
