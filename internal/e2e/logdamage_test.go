package e2e

import (
	encoding "encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What docs/storage.md says of a file of the log.
const (
	logHeader = 32 // bytes before the first record
	logFrame  = 16 // before each
)

// rebuilds is what a peer logs when it finds at its start that it is damaged.
const rebuilds = "the data here is damaged"

// TestALogThatRottedIsToldFromOneThatWasInterrupted damages the newest file of the log of a peer that is down.
// Behind the last checkpoint the log is all that there is of what was committed. Where it is known to have been synced
// anything else than what was written is damage: the peer says so, and rebuilds itself. Its end may be missing after any
// power failure: the peer goes on with what is left, and gets the rest back from the others. In both cases
// it ends with what they have.
func TestALogThatRottedIsToldFromOneThatWasInterrupted(t *testing.T) {
	c := newCluster(t, openLoopback(t, hosts))
	_, seed := randomFaults(t)
	p := c.peers[2]
	ws := newWriters(seed, c.peers...).slowly(smallPause)
	for _, test := range []struct {
		name    string
		end     func(*daemon)
		damage  func(*logFile)
		noticed bool
	}{
		{"a bit of a record behind the checkpoint", (*daemon).kill, func(f *logFile) {
			f.flip(f.synced().at + logFrame)
		}, true},
		{"a bit of the file's header", (*daemon).kill, func(f *logFile) { f.flip(16) }, true},
		{"the end of the last record is missing", (*daemon).kill, func(f *logFile) {
			f.truncate(f.records[len(f.records)-1].end - 1)
		}, false},
		{"nothing of the last record is there but zeroes", (*daemon).kill, func(f *logFile) {
			last := f.records[len(f.records)-1]
			f.truncate(last.at)
			f.truncate(last.end)
		}, false},
		{"a bit of the last record before a checkpoint", (*daemon).stop, func(f *logFile) {
			f.flip(f.records[len(f.records)-1].end - 1)
		}, false},
		{"a bit of a record's length", (*daemon).kill, func(f *logFile) { // the last: newestLog ends there
			f.flip(f.synced().at)
		}, true},
	} {
		ws.start()
		awaitWrites(t, ws.of(p), 100)
		p.awaitSyncedLog()
		ws.pause()
		c.awaitAgreement(c.traffic(), c.peers...)
		test.end(p)
		f := p.newestLog()
		test.damage(f)
		since := len(p.logged())
		p.launch()
		c.awaitAgreement(c.traffic(), c.peers...)
		if noticed := strings.Contains(p.logged()[since:], rebuilds); noticed != test.noticed {
			t.Errorf("%s: that it says %q is %v, want %v", test.name, rebuilds, noticed, test.noticed)
		}
		ws.check(t, c.peers...)
		c.note("%s, of %d in %s: rebuilt %v", test.name, len(f.records), filepath.Base(f.name), test.noticed)
	}
}

// logFile is one file of a log.
type logFile struct {
	t       *testing.T
	name    string
	records []logRecord
}

// logRecord is where a record is in its file, frame included, and up to where it says that the log was synced.
type logRecord struct{ at, end, proves int64 }

// newestLog reads the file of the daemon's log that was begun last.
func (d *daemon) newestLog() *logFile {
	d.t.Helper()
	names, err := filepath.Glob(filepath.Join(d.dir, "store", "log", "*.log"))
	if err != nil || len(names) == 0 {
		d.t.Fatalf("%s has no log: %v", d.name, err)
	}
	f := &logFile{t: d.t, name: slices.Max(names)}
	data, err := os.ReadFile(f.name)
	if err != nil {
		d.t.Fatal(err)
	}
	for at := int64(logHeader); at+logFrame <= int64(len(data)); {
		size := int64(encoding.LittleEndian.Uint32(data[at:])) + 4
		back := int64(encoding.LittleEndian.Uint32(data[at+4:]))
		if size < logFrame || at+size > int64(len(data)) {
			break // it was being written, or is not synced yet
		}
		f.records = append(f.records, logRecord{at, at + size, at - back})
		at += size
	}
	if len(f.records) == 0 {
		d.t.Fatalf("there is no record in %s", f.name)
	}
	return f
}

// awaitSyncedLog waits until the newest file of the log proves that what is there now is synced.
func (d *daemon) awaitSyncedLog() {
	d.t.Helper()
	began := d.newestLog()
	before := len(began.records)
	d.eventually("has synced its log", func() error {
		f := d.newestLog()
		if f.name != began.name {
			before = 1
		}
		if n := len(f.provedRecords()); n < before {
			return fmt.Errorf("%d of %d records", n, before)
		}
		return nil
	})
}

// provedRecords are those of which another one says that they were synced.
func (f *logFile) provedRecords() []logRecord {
	proved := int64(0)
	for _, r := range f.records {
		proved = max(proved, r.proves)
	}
	n := 0
	for n < len(f.records) && f.records[n].end <= proved {
		n++
	}
	return f.records[:n]
}

// synced returns the newest of them: a checkpoint that is written each minute does not have it yet.
func (f *logFile) synced() logRecord {
	f.t.Helper()
	proved := f.provedRecords()
	if len(proved) == 0 {
		f.t.Fatalf("no record in %s is known to be synced", f.name)
	}
	return proved[len(proved)-1]
}

// flip flips the lowest bit of a byte.
func (f *logFile) flip(at int64) {
	f.t.Helper()
	file, err := os.OpenFile(f.name, os.O_RDWR, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, 1)
	if _, err = file.ReadAt(b, at); err == nil {
		_, err = file.WriteAt([]byte{b[0] ^ 1}, at)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *logFile) truncate(size int64) {
	f.t.Helper()
	if err := os.Truncate(f.name, size); err != nil {
		f.t.Fatal(err)
	}
}
