package resp

import (
	"os"
	"path/filepath"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestATimeThatIsNotPositiveIsOverWhateverTheClock: where it is not known which clock is right what
// has a time expires later, and what is to last for none is removed at once.
func TestATimeThatIsNotPositiveIsOverWhateverTheClock(t *testing.T) {
	dir := t.TempDir()
	// So is what a peer keeps that has found its clock to be off, perhaps.
	doubt := []byte(`{"version":2,"right_time_ahead_ms":0,"slack_ms":3600000}`)
	if err := os.WriteFile(filepath.Join(dir, "clock.json"), doubt, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := embedded.Open(t.Context(), embedded.Config{Dir: dir, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	_, address := startServer(t, Config{db: &memory{Peer: db}})
	p := dial(t, address)
	for _, command := range []string{"EXPIRE k 0", "EXPIRE k -1", "PEXPIRE k 0", "PEXPIRE k -100", "EXPIREAT k 1"} {
		p.expect("SET k v", "+OK")
		p.expect(command, ":1")
		p.expect("GET k", "$-1")
	}
	p.expect("HSET h f 1 g 2", ":2")
	p.expect("HEXPIRE h 0 FIELDS 1 f", "*1\n  :2")
	p.expect("HPEXPIRE h 0 FIELDS 1 g", "*1\n  :2")
	p.expect("EXISTS h", ":0")
}
