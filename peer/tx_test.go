package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
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

// TestATransactionThatIsKeptIsOver however its function ended: it shows nothing, writes nothing, and says so.
func TestATransactionThatIsKeptIsOver(t *testing.T) {
	p := alone(t, Config{})
	mustUpdate(t, p, func(tx *Tx) error { _, err := tx.Counter("visits").Add(1); return err })
	for how, run := range map[string]func(fn func(*Tx) error){
		"Update":    func(fn func(*Tx) error) { _ = p.Update(t.Context(), fn) },
		"UpdateAll": func(fn func(*Tx) error) { p.UpdateAll(t.Context(), []func(*Tx) error{fn}) },
		"View":      func(fn func(*Tx) error) { _ = p.View(t.Context(), fn) },
		"Read":      func(fn func(*Tx) error) { p.Read([]func(*Tx) error{fn}) },
		"Submit": func(fn func(*Tx) error) {
			done := make(chan bool)
			p.Submit([]func(*Tx) error{fn}, func([]error) { close(done) })
			<-done
		},
		"a panic": func(fn func(*Tx) error) {
			defer func() { _ = recover() }()
			_ = p.Update(t.Context(), func(tx *Tx) error { _ = fn(tx); panic("it does") })
		},
		"a panic before it": func(fn func(*Tx) error) {
			defer func() { _ = recover() }()
			p.UpdateAll(t.Context(), []func(*Tx) error{func(*Tx) error { panic("it does") }, fn})
		},
		"an end of the goroutine": func(fn func(*Tx) error) {
			apart(func() {
				_ = p.Update(t.Context(), func(tx *Tx) error { _ = fn(tx); runtime.Goexit(); return nil })
			})
		},
	} {
		t.Run(how, func(t *testing.T) {
			var kept *Tx
			var handle crdt.Counter
			run(func(tx *Tx) error {
				kept, handle = tx, tx.Counter("visits")
				return nil
			})
			if _, err := handle.Add(1); !errors.Is(err, ErrReadOnly) {
				t.Errorf("a handle that is kept writes: %v", err)
			}
			if err := kept.String("new").Set([]byte("x")); !errors.Is(err, ErrReadOnly) {
				t.Errorf("it writes: %v", err)
			}
			if _, err := kept.Remove("visits"); !errors.Is(err, ErrReadOnly) {
				t.Errorf("it removes: %v", err)
			}
			if kept.Has("visits") || kept.Len() != 0 || len(maps.Collect(kept.All())) != 0 {
				t.Error("it shows keys")
			}
			if err := kept.Err(); !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), "has returned") {
				t.Errorf("it says %v", err)
			}
		})
	}
}
