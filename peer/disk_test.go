package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
)

// fakeDisk is a disk whose fill a test sets.
type fakeDisk struct{ disk badger.Disk }

func (d *fakeDisk) Disk() (badger.Disk, error) { return d.disk, nil }
func (d *fakeDisk) Free() (uint64, error)      { return d.disk.Free, nil }

func TestWritesStopBelowTheLimitAndGoOnWellAboveIt(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		name           string
		minimum, total uint64
		working        uint64
		steps          []uint64 // free space, one after the other
		want           []room
	}{
		{"a large disk", 0, 100 * gib, gib / 4,
			[]uint64{2 * gib, gib, gib - 1, gib, gib + gib/8, gib / 5, gib / 4, gib/4 + gib/32, 2 * gib},
			[]room{roomy, roomy, scarce, scarce, roomy, full, full, scarce, roomy}},
		{"a small disk", 0, 10 * gib, gib / 4,
			[]uint64{gib / 2, gib/2 - 1, gib}, []room{roomy, scarce, roomy}},
		{"a limit below what the store needs", 1, 100 * gib, gib / 4,
			[]uint64{gib / 4, gib/4 - 1, gib/4 + gib/32}, []room{roomy, full, roomy}},
	} {
		disk := &fakeDisk{badger.Disk{Free: 50 * gib, Total: test.total, Working: test.working}}
		s, err := newDiskRoom(disk, test.minimum)
		if err != nil {
			t.Fatal(err)
		}
		for i, free := range test.steps {
			s.judgeFree(free)
			if got := s.room(); got != test.want[i] {
				t.Errorf("%s, step %d, %d MiB free: %d, want %d", test.name, i, free>>20, got, test.want[i])
			}
			if err := s.refusal(); (err == nil) != (test.want[i] == roomy) {
				t.Errorf("%s, step %d: %v", test.name, i, err)
			}
		}
	}
}

// TestTwoRepairsDoNotCountOnTheSameRoom has both claim what there is enough of for each alone.
func TestTwoRepairsDoNotCountOnTheSameRoom(t *testing.T) {
	const gib = 1 << 30
	s, err := newDiskRoom(&fakeDisk{badger.Disk{Free: 12 * gib, Total: 100 * gib, Working: gib / 4}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	giveBack, err := s.claim(10 * gib)
	if err != nil {
		t.Fatalf("the first is refused: %v", err)
	}
	if _, err := s.claim(10 * gib); !errors.Is(err, ErrNoSpace) {
		t.Errorf("the second beside it: %v", err)
	}
	giveBack()
	if _, err := s.claim(10 * gib); err != nil {
		t.Errorf("the second behind it: %v", err)
	}
}

// smallDisk returns a directory on a file system of so many bytes, and a function that fills it with a
// file, to the last byte; the file is returned.
func smallDisk(t *testing.T, size int64) (dir string, fill func() string) {
	t.Helper()
	dir = t.TempDir()
	mountSmall(t, dir, size)
	return dir, func() string {
		path := filepath.Join(dir, "filler")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for chunk := make([]byte, 1<<20); len(chunk) > 0; {
			if _, err := f.Write(chunk); err != nil {
				chunk = chunk[:len(chunk)/2]
			}
		}
		return path
	}
}

// TestAFullDiskStopsWritesAndNothingElse fills the disk of one of two peers while both write.
func TestAFullDiskStopsWritesAndNothingElse(t *testing.T) {
	dir, fill := smallDisk(t, 512<<20)
	c := newCluster(t)
	cfg := c.config(filepath.Join(dir, "peer"))
	var log memory
	cfg.Logger = log.logger()
	a := c.start(cfg)
	b := c.add()
	ctx := context.Background()
	write := func(p *Peer, i int64) error {
		return p.Update(ctx, func(tx *Tx) error {
			return tx.Map("writes").String(fmt.Sprint(i)).Set([]byte("of " + p.cfg.Name))
		})
	}
	var last atomic.Int64 // of the writes to a that were acknowledged
	var writing sync.WaitGroup
	writing.Go(func() {
		i := int64(1)
		err := write(a, i)
		for ; err == nil; err = write(a, i) {
			last.Store(i)
			i++
		}
		if !errors.Is(err, ErrNoSpace) {
			t.Errorf("the writer ended with %v, want %v", err, ErrNoSpace)
		}
	})
	eventually(t, "some writes", func() bool { return last.Load() > 100 })
	filler := fill()
	writing.Wait()
	for range 100 { // more than once, as the disk is full to the last byte now
		if err := write(a, 0); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("a write on a full disk returned %v", err)
		}
	}
	if err := a.Ready(); !errors.Is(err, ErrNoSpace) {
		t.Errorf("the peer is ready: %v", err)
	}
	wantProblem(t, a, "disk-low")
	if s, err := a.Status(); err != nil || s.Ready || s.FreeBytes >= s.MinFreeBytes || s.MinFreeBytes == 0 {
		t.Errorf("the status is ready %v, %d of %d bytes free, %v", s.Ready, s.FreeBytes, s.MinFreeBytes, err)
	}
	read := func() error {
		return a.Update(ctx, func(tx *Tx) error { // as in a pipeline of reads and writes
			if _, ok := tx.Map("writes").String(fmt.Sprint(last.Load())).Get(); !ok {
				return errors.New("the last acknowledged write is not there")
			}
			return nil
		})
	}
	if err := read(); err != nil {
		t.Errorf("a read on a full disk: %v", err)
	}
	for i := range int64(2000) { // a takes none of them
		if err := write(b, -i); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.converge(a, b)
	if err := errors.Join(write(a, last.Load()+1), a.Ready(), read()); err != nil {
		t.Errorf("with room again: %v", err)
	}
	for _, text := range []string{"the disk is full", "there is room on the disk again"} {
		if !log.says(text) {
			t.Errorf("the log does not say that %s", text)
		}
	}
}

// TestAStartWithoutRoomNamesTheSpaceAndWhatItNeeds has one of a host's spaces need room that is not
// there.
func TestAStartWithoutRoomNamesTheSpaceAndWhatItNeeds(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Offline: true}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	setIn(t, p, "orders", "k", "1")
	number := p.space("orders").number
	mustClose(t, p)
	cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) {
		return roomlessStore{st, byte(number)}, log
	}
	err = opened(cfg)
	if !errors.Is(err, store.ErrNoSpace) || !strings.Contains(err.Error(), "space orders: ") {
		t.Errorf("it starts with %v", err)
	}

	const mib = 1 << 20
	s, err := newDiskRoom(&fakeDisk{badger.Disk{Free: 12 * mib, Total: 1 << 30, Working: 56 * mib}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = s.lacking(fmt.Errorf("%w to end a repair", store.ErrNoSpace))
	const want = "to end a repair: 12 MiB are free and 56 MiB needed"
	if !errors.Is(err, store.ErrNoSpace) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("it says %q", err)
	}
}

// roomlessStore has no room for one space.
type roomlessStore struct {
	store.Store
	space byte
}

func (s roomlessStore) Snapshot() store.Snapshot { return roomless{s.Store.Snapshot(), s.space} }

type roomless struct {
	store.Snapshot
	space byte
}

func (r roomless) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	if len(from) > 1 && from[1] == r.space {
		return store.ErrNoSpace
	}
	return r.Snapshot.Scan(from, to, fn)
}
