package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/peerd/peerd/store"
)

// failingLog is a log whose disk does not take what is to be durable, once it is broken.
type failingLog struct {
	store.Log
	broken atomic.Bool
	syncs  atomic.Int32 // that were asked for since
}

var errDisk = fmt.Errorf("%w: input/output error", store.ErrFailed)

func (s *failingLog) Sync() error {
	if s.broken.Load() {
		s.syncs.Add(1)
		return errDisk
	}
	return s.Log.Sync()
}

// TestAFailedFsyncEndsThePeerAndIsNotTriedAgain: after one, the kernel may have dropped what it was to
// write, and a second fsync would succeed without it.
func TestAFailedFsyncEndsThePeerAndIsNotTriedAgain(t *testing.T) {
	for _, durability := range []Durability{Always, Interval} {
		t.Run(string(durability), func(t *testing.T) {
			var log memory
			var disk *failingLog
			cfg := Config{Dir: t.TempDir(), Offline: true, Durability: durability, Logger: log.logger()}
			cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) {
				disk = &failingLog{Log: log}
				return st, disk
			}
			ctx := context.Background()
			p, err := Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			add := func() error {
				return p.Update(ctx, func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err })
			}
			acknowledged := 1
			if err := add(); err != nil {
				t.Fatal(err)
			}
			disk.broken.Store(true)
			if err = add(); durability == Interval && err == nil {
				acknowledged++ // as it may be, up to a second before
				<-p.Done()
				err = add()
			}
			if !errors.Is(err, ErrClosed) {
				t.Errorf("a write returned %v, want %v", err, ErrClosed)
			}
			<-p.Done()
			err = p.View(ctx, func(*Tx) error { return nil })
			if !errors.Is(err, ErrClosed) {
				t.Errorf("a read returned %v, want %v", err, ErrClosed)
			}
			err = p.Close()
			if !errors.Is(err, store.ErrFailed) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Close returned %v", err)
			}
			if n := disk.syncs.Load(); n != 1 {
				t.Errorf("%d fsyncs were tried on a broken disk", n)
			}
			if !log.says("the peer stops: its store failed") {
				t.Error("the log does not say why")
			}
			wantAcknowledged(t, cfg, acknowledged)
		})
	}
}

// wantAcknowledged opens a peer again, on a disk that is well: what was acknowledged is there.
func wantAcknowledged(t *testing.T, cfg Config, atLeast int) {
	t.Helper()
	cfg.faulty = nil
	p, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, p, func(tx *Tx) error {
		if n := tx.Counter("n").Get(); n < int64(atLeast) {
			t.Errorf("n is %d (%v), %d were acknowledged", n, tx.Err(), atLeast)
		}
		return nil
	})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestAPeerThatCannotSayWhetherASpaceWasMadeEnds: a first write is in the log or not, as a later one.
func TestAPeerThatCannotSayWhetherASpaceWasMadeEnds(t *testing.T) {
	for range 50 {
		if endsMaking(t, "orders") {
			return
		}
	}
	t.Error("no peer ended because of the space")
}

// endsMaking has a peer end whose disk fails as a space is made, and reports whether it says so: what the peer has
// written for itself, when it was opened, may have failed before.
func endsMaking(t *testing.T, name string) bool {
	t.Helper()
	var disk *failingLog
	cfg := Config{Dir: t.TempDir(), Offline: true, Durability: None}
	cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) {
		disk = &failingLog{Log: log}
		return st, disk
	}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	disk.broken.Store(true)
	made := mustSpace(t, p, name)
	err = made.Update(t.Context(), func(tx *Tx) error { return tx.String("k").Set([]byte("v")) })
	if !errors.Is(err, ErrClosed) {
		t.Errorf("the write returned %v, want %v", err, ErrClosed)
	}
	<-p.Done()
	err = p.Close()
	if !errors.Is(err, store.ErrFailed) {
		t.Errorf("the peer ended with %v", err)
	}
	return err != nil && strings.Contains(err.Error(), name)
}
