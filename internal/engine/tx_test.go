package engine

import (
	"runtime"
	"slices"
	"testing"

	"github.com/peerd/peerd/internal/dotted"
)

// TestATransactionWhoseFunctionDoesNotReturnLeavesNothing in its group, of which the rest is committed.
func TestATransactionWhoseFunctionDoesNotReturnLeavesNothing(t *testing.T) {
	for name, end := range map[string]func(){
		"it panics":             func() { panic("thrown") },
		"it ends its goroutine": runtime.Goexit,
	} {
		w := newWorld(t, 1, worldConfig{hosts: 1})
		r := w.hosts[0].engine.replica
		g := r.newGroup(w.now)
		enable := func(tx *Tx, key string) error { return Fields(tx).Flag(key).Set(true) }
		err := g.update(func(tx *Tx) error { return enable(tx, "before") })
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer func() { _ = recover() }()
			_ = g.update(func(tx *Tx) error {
				if _, err := Fields(tx).Remove("before"); err != nil {
					t.Error(err)
				}
				if err := enable(tx, "lost"); err != nil {
					t.Error(err)
				}
				end()
				return nil
			})
		}()
		<-ended
		if err == nil {
			err = g.update(func(tx *Tx) error { return enable(tx, "after") })
		}
		if err == nil {
			_, err = g.Commit(false)
		}
		var keys []string
		v := r.View()
		if err == nil {
			err = v.Keys("", "", func(key string, _ dotted.Summary) bool { keys = append(keys, key); return true })
		}
		v.Close()
		if want := []string{"after", "before"}; err != nil || !slices.Equal(keys, want) {
			t.Errorf("%s: there are %q (%v), want %q", name, keys, err, want)
		}
	}
}
