package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	powerLosses = 4 // in one measure of faults

	imageSize = 1 << 30 // bytes of the disk, of which hardly any are used

	// ext4Shutdown is EXT4_IOC_SHUTDOWN: the file system takes nothing more. With ext4NoLogFlush what it
	// has not written yet, its journal included, is gone, as when the power fails.
	ext4Shutdown   = 0x8004587d
	ext4NoLogFlush = 2
)

// image is a disk whose power can fail: an ext4 file system in a file.
type image struct {
	t     *testing.T
	file  string
	mount string
}

func newImage(t *testing.T) *image {
	if os.Geteuid() != 0 {
		t.Skip("mounting a disk whose power fails takes root")
	}
	m := &image{t: t, file: filepath.Join(t.TempDir(), "image"), mount: t.TempDir()}
	if err := os.WriteFile(m.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(m.file, imageSize); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", m.file).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v %s", err, out)
	}
	if out, err := m.attach(); err != nil {
		t.Skipf("cannot mount an image: %v %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(m.mount, unix.MNT_DETACH) })
	return m
}

func (m *image) attach() (out []byte, err error) {
	return exec.Command("mount", "-o", "loop", m.file, m.mount).CombinedOutput()
}

// cutPower ends the disk at once. When the power of a machine fails no answer leaves it any more, but
// here its processes go on and an fsync that is under way may end well although what it wrote is lost: no
// answer counts from now on.
func (m *image) cutPower(ws *writers) {
	m.t.Helper()
	for _, w := range ws.all {
		w.deaf.Store(true)
	}
	root, err := os.Open(m.mount)
	if err != nil {
		m.t.Fatal(err)
	}
	defer root.Close()
	if err := unix.IoctlSetPointerInt(int(root.Fd()), ext4Shutdown, ext4NoLogFlush); err != nil {
		m.t.Fatalf("shut the disk down: %v", err)
	}
}

// restorePower mounts what is left of the disk.
func (m *image) restorePower() {
	m.t.Helper()
	if err := unix.Unmount(m.mount, 0); err != nil {
		m.t.Fatalf("unmount: %v", err)
	}
	if out, err := m.attach(); err != nil {
		m.t.Fatalf("mount: %v %s", err, out)
	}
}

// TestWhatWasAcknowledgedSurvivesPowerLosses cuts the power of the disk of a peer that is alone and
// syncs before it answers. What is there when it starts again comes from that disk.
func TestWhatWasAcknowledgedSurvivesPowerLosses(t *testing.T) {
	disk := newImage(t)
	rng, seed := randomFaults(t)
	d := newDaemon(t, openLoopback(t, 1), 0, binary(t), "alone", "--durability", "always")
	d.moveTo(filepath.Join(disk.mount, "data"))
	ws := newWriters(seed, d)
	for _, w := range ws.all {
		w.maxValue = 8 << 10 // begins files of the log, and checkpoints, now and then
	}
	d.start()
	ws.start()
	for range injected(powerLosses) {
		awaitWrites(t, ws.all, 100)
		wait(time.Duration(rng.Int64N(int64(2 * time.Second))))
		disk.cutPower(ws)
		awaitWrong(d)
		d.kill()
		disk.restorePower()
		for _, w := range ws.all {
			w.deaf.Store(false)
		}
		d.start()
	}
	awaitWrites(t, ws.all, 100)
	ws.pause()
	ws.check(t, d)
	d.stop()
	t.Logf("injected: %d power losses; %d writes acknowledged", injected(powerLosses), acknowledged(ws.all))
}

// awaitWrong waits until a daemon whose disk takes nothing more has ended and said why.
func awaitWrong(d *daemon) {
	d.t.Helper()
	d.eventually("has ended", func() error {
		if ended, err := d.ended(); !ended || err == nil {
			return errors.New("it goes on without a disk")
		}
		return nil
	})
	last := d.lastLine()
	if !strings.HasPrefix(last, "peerd: ") || !strings.Contains(last, "disk") {
		d.t.Errorf("without a disk it ended with %q", last)
	}
}
