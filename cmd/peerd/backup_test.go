package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerd/peerd/peer"
)

func TestABackupOfARunningPeerIsRestoredIntoANewDirectory(t *testing.T) {
	base := t.TempDir()
	d := run(t, filepath.Join(base, "data"), "--name", "oslo")
	d.ask("SET greeting hello")
	d.ask("INCRBY visits 41")
	file := filepath.Join(base, "monday.peerd")
	said := mustPeerd(t, "backup", "--http", d.http, file)
	for _, part := range []string{file + `: backup of space default of peer "oslo"`, "2 keys", " in "} {
		if !strings.Contains(said, part) {
			t.Errorf("backup says %q, without %q", said, part)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has %v, %v, want mode 0600", info, err)
	}
	d.ask("INCRBY visits 1000")
	if said := mustPeerd(t, "backup", "--verify", file); !strings.Contains(said, "is whole: backup of space default of peer") {
		t.Errorf("backup --verify says %q", said)
	}
	if status, _, stderr := peerd(t, "backup", "--http", d.http, file); status != exitFailure ||
		!strings.Contains(stderr, "is there already: name a new file") {
		t.Errorf("a backup over another one: status %d, %s", status, stderr)
	}

	restored := filepath.Join(base, "restored")
	key := filepath.Join(d.dir, "cluster.key")
	said = mustPeerd(t, "restore", file, "--dir", restored, "--cluster-key", key)
	if !strings.Contains(said, "restored into "+restored) || strings.Contains(said, "no cluster key") {
		t.Errorf("restore says %q", said)
	}
	if status, _, stderr := peerd(t, "restore", file, "--dir", restored); status != exitUsage ||
		!strings.Contains(stderr, "--dir") {
		t.Errorf("a restore over another one: status %d, %s", status, stderr)
	}
	again := run(t, restored, "--join", d.gossip)
	again.ask("INCRBY visits 100000")
	mustPeerd(t, "wait", "--http", d.http, "--http", again.http)
	for _, p := range []*daemonProcess{d, again} {
		if got := p.ask("GET visits"); got != "101041" {
			t.Errorf("visits is %s", got)
		}
	}
}

func TestABackupThatDoesNotComeWholeLeavesNothing(t *testing.T) {
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("peerd backup\n\x00\x00"))
	}))
	defer cut.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	checkMistakes(t, dir, []mistake{
		{"an answer that is cut short", []string{"backup", "--http", cut.Listener.Addr().String(), "DIR/b"}, 1,
			"the backup from " + cut.Listener.Addr().String() + " did not come whole: the backup is damaged " +
				"or cut short: it ends before its end mark: see the log of the peer"},
		{"nobody there", []string{"backup", "--http", nobody, "DIR/b"}, 1, "no answer from " + nobody +
			": nothing listens there: is peerd running there with this --http?"},
		{"no place", []string{"backup", "--http", nobody, "DIR/no/b"}, 1,
			"cannot write the backup: there is no directory DIR/no"},
		{"no file to verify", []string{"backup", "--verify", "DIR/b"}, 1,
			"there is no DIR/b"},
		{"no file to restore", []string{"restore", "DIR/b", "--dir", "DIR/new"}, 1,
			"there is no DIR/b"},
		{"no file named", []string{"backup"}, 2, "peerd backup takes FILE|-, and got nothing (see peerd backup --help)"},
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// full is where there is no room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestABackupForWhichThereIsNoRoomHereIsNotThePeersFault(t *testing.T) {
	whole := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("peerd backup\n"))
	}))
	defer whole.Close()
	var stderr strings.Builder
	status := execute(t.Context(), []string{"backup", "--http", whole.Listener.Addr().String(), "-"}, full{}, &stderr)
	if got := stderr.String(); status != exitFailure || !strings.Contains(got, "cannot write the backup") ||
		strings.Contains(got, "log of the peer") {
		t.Errorf("status %d, %s", status, got)
	}
}

func TestProgressTellsHowLongItWillTake(t *testing.T) {
	for want, p := range map[string]peer.BackupProgress{
		"2.0 MiB, 25 records, 25%, about 6s left":  {Records: 25, Expected: 100, Bytes: 2 << 20},
		"2.0 MiB, 150 records, 99%, about 0s left": {Records: 150, Expected: 100, Bytes: 2 << 20},
		"100 B, 1 record, 0%, about 33m18s left":   {Records: 1, Expected: 1000, Bytes: 100},
		"100 B, 5 records":                         {Records: 5, Bytes: 100},
	} {
		if got := progress(p, 2*time.Second); got != want {
			t.Errorf("%+v reads %q, want %q", p, got, want)
		}
	}
}
