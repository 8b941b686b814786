package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// A loop over keys meets each of them once, though its body removes them, and those it adds are whole.
func TestTheBodyOfALoopOverKeysMayWrite(t *testing.T) {
	p := alone(t, Config{})
	var want []string
	mustUpdate(t, p, func(tx *Tx) error {
		for i := range 3 * lastPart {
			key := fmt.Sprintf("k%04d", i)
			want = append(want, key)
			if err := tx.Flag(key).Set(true); err != nil {
				return err
			}
		}
		return tx.Flag("").Set(true)
	})
	var met []string
	mustUpdate(t, p, func(tx *Tx) error {
		for key, types := range tx.AllAfter("") {
			if !types.Only(crdt.TypeFlag) {
				return fmt.Errorf("%q is of types %v", key, types)
			}
			met = append(met, key)
			if _, err := tx.Remove(key); err != nil {
				return err
			}
		}
		if n := tx.Len(); n != 1 {
			return fmt.Errorf("%d keys are left, want the empty one", n)
		}
		return nil
	})
	if !slices.Equal(met, want) {
		t.Errorf("the loop met %d keys, want %d", len(met), len(want))
	}
}

// TestAScanOfKeysTellsTheTypesThatTheyHave, also of those with maps of which all fields have expired.
func TestAScanOfKeysTellsTheTypesThatTheyHave(t *testing.T) {
	p := alone(t, Config{})
	mustUpdate(t, p, func(tx *Tx) error {
		past, scanned := tx.Now().Add(-time.Minute), 0
		err := errors.Join(tx.Map("flag").String("f").SetUntil(nil, past), tx.Flag("flag").Set(true),
			tx.Map("gone").String("f").SetUntil(nil, past))
		for key, types := range tx.Scan("", "") {
			scanned++
			if want := tx.Types(key); types != want || types.Only(crdt.TypeFlag) != (key == "flag") {
				t.Errorf("%q is passed with the types %v, and has %v", key, types, want)
			}
		}
		if scanned != 2 {
			t.Errorf("%d keys are passed, want 2", scanned)
		}
		return err
	})
}

// failingKeys is a transaction whose keys cannot be listed.
type failingKeys struct{ keyed }

var errList = errors.New("the keys cannot be listed, on purpose")

func (failingKeys) Keys(string, string, func(string, dotted.Summary) bool) error { return errList }

func TestAListThatFailedIsAnErrorWhateverTheFunctionSays(t *testing.T) {
	p := alone(t, Config{})
	mustUpdate(t, p, func(tx *Tx) error { return tx.Flag("k").Set(true) })
	decided := errors.New("decided on nothing")
	err := p.View(context.Background(), func(tx *Tx) error {
		return newTx(failingKeys{tx.base}).run(func(tx *Tx) error {
			for range tx.All() {
				return nil
			}
			return decided
		})
	})
	if !errors.Is(err, errList) || errors.Is(err, decided) {
		t.Errorf("got %v", err)
	}
}
