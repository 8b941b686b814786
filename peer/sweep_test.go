package peer

import (
	"context"
	"fmt"
	"testing"
)

// TestANewcomerIsRepairedWhileKeysAreDeleted has two large keys deleted all the time at the peer that it is
// repaired from, so that something is always to be swept there.
func TestANewcomerIsRepairedWhileKeysAreDeleted(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.LogBytes = 1000
	a := c.start(cfg)
	ctx, stop := context.WithCancel(context.Background())
	done, began := make(chan error, 1), make(chan bool)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			if i == 50 {
				close(began)
			}
			for j := range 2 {
				err := a.Update(context.Background(), func(tx *Tx) error {
					if _, err := tx.Delete(fmt.Sprint("k", i-1, " ", j)); err != nil {
						return err
					}
					for k := range 100 {
						if _, err := tx.Set(fmt.Sprint("k", i, " ", j)).Add(fmt.Sprint(k)); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	<-began
	b := c.add()
	eventually(t, "the newcomer is repaired", func() bool {
		m, err := b.Metrics()
		return err == nil && m.Repairs > 0
	})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c.converge(a, b)
}
