package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	smallDisk = 640 << 20 // bytes, and
	eachFill  = 16 << 20  // for what is written from one fault to the next
	diskFills = 4         // in one measure of faults
	// ownWrites are how many bytes a peer may write, about, until it refuses more.
	ownWrites = 24 << 20
)

// TestADiskThatFillsCostsNothingAcknowledged has the disk of one of three peers fill up under load: first
// with its own writes, which it refuses in time, and then at once by another program, which may cost the
// process. Each time there is room again it goes on, or starts again, with all that it had acknowledged.
func TestADiskThatFillsCostsNothingAcknowledged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk takes root")
	}
	disk := t.TempDir()
	size := smallDisk + injected(diskFills)*eachFill
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	filler := filepath.Join(disk, "filler")
	c := newCluster(t, openLoopback(t, hosts))
	rng, seed := randomFaults(t)
	p := c.peers[2]
	p.stop()
	p.moveTo(filepath.Join(disk, "data"))
	p.start()
	ws := newWriters(seed, c.peers...).slowly(writePause)
	for _, w := range ws.of(p) {
		w.maxValue = 64 << 10
	}
	ws.start()

	now, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	took := leave(t, disk, filler, now.MinFree+ownWrites)
	p.awaitRefusal(ws)
	awaitWrites(t, ws.of(c.peers[0]), 100) // others go on
	c.note("another program had %d MiB of the disk when writes were refused below %d MiB", took>>20,
		now.MinFree>>20)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	awaitWrites(t, ws.of(p), 100)

	ends := 0
	for range injected(diskFills) {
		awaitWrites(t, ws.of(p), 100)
		wait(time.Duration(rng.Int64N(int64(time.Second))))
		leave(t, disk, filler, 0)
		awaitWrites(t, ws.of(c.peers[0]), 100)
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		ends += p.resume(ws)
	}
	ws.pause()
	c.awaitAgreement(c.traffic(), c.peers...)
	ws.check(t, c.peers...)
	c.checkHealth()
	c.note("injected: %d disks filled at once, %d of which ended the process; %d writes acknowledged",
		injected(diskFills), ends, acknowledged(ws.all))
}

// resume waits until a peer takes writes again, and starts it if it has ended.
func (d *daemon) resume(ws *writers) (ended int) {
	d.t.Helper()
	before := acknowledged(ws.of(d))
	d.eventually("takes writes again", func() error {
		if gone, _ := d.ended(); gone {
			ended++
			d.kill()
			d.start()
		}
		if acknowledged(ws.of(d)) < before+100 {
			return errors.New("it does not")
		}
		return nil
	})
	return ended
}

// leave fills a disk with a file until no more than so many bytes are free.
func leave(t *testing.T, disk, filler string, free uint64) (took uint64) {
	t.Helper()
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		var space unix.Statfs_t
		if err := unix.Statfs(disk, &space); err != nil {
			t.Fatal(err)
		}
		if space.Bavail*uint64(space.Bsize) <= free {
			break
		}
		n, err := f.Write(chunk)
		took += uint64(n)
		if err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	return took
}

// awaitRefusal waits until a peer refuses writes for want of room, and fails the test unless it still reads.
func (d *daemon) awaitRefusal(ws *writers) {
	d.t.Helper()
	d.eventually("refuses writes", func() error {
		for _, w := range ws.of(d) {
			if w.refused.Load() > 0 {
				return nil
			}
		}
		return errors.New("it takes them")
	})
	if reply, ok := d.run(command{"GET", ws.all[0].counterKey()})[0].(string); !ok || reply == "" {
		d.t.Errorf("a read on a full disk is answered %q", reply)
	}
}
