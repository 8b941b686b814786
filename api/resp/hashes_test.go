package resp

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

// addFields adds a hash of n fields, of which one has a time if timed is set.
func addFields(tx *embedded.Tx, key string, n int, timed bool) error {
	hash := tx.Map(key)
	var errs []error
	for i := range n {
		errs = append(errs, hash.String(fmt.Sprint(i)).Set([]byte("v")))
	}
	if timed {
		_, err := hash.Expiry("0").Set(tx.Now().Add(time.Hour))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// TestFieldsWithTimesAreCountedNoFurtherThanMatters: others wait for it. Without times they are not gone through.
func TestFieldsWithTimesAreCountedNoFurtherThanMatters(t *testing.T) {
	db := newMemory(t)
	const n = 2 * quickWork
	err := db.Update(t.Context(), func(tx *embedded.Tx) error {
		return errors.Join(addFields(tx, "timed", n, true), addFields(tx, "plain", n, false))
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Peer.View(t.Context(), func(tx *embedded.Tx) error {
		for line, want := range map[string]int64{
			"HLEN timed": quickWork + 1, "HLEN plain": 0, "HGETALL timed": quickWork + 1, "HGETALL plain": n,
		} {
			args := bytes.Fields([]byte(line))
			cmd, err := resolve(args)
			if err != nil {
				return err
			}
			if work := (&call{tx: tx, args: args, looped: true}).work(cmd); work != want {
				t.Errorf("the work of %s is %d, want %d", line, work, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	p.expect("HLEN timed", fmt.Sprint(":", n))
	p.expect("HLEN plain", fmt.Sprint(":", n))
}
