package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAnOldBackupRestoredIntoALiveCluster takes a backup of a host, goes on writing everywhere, loses the host's
// disk, and restores the backup there. Nothing that anybody else has is lost, nothing that was removed comes
// back, and no dot is issued twice.
func TestAnOldBackupRestoredIntoALiveCluster(t *testing.T) {
	n, _ := openNetwork(t)
	records := unicodeData(t, 20)
	c := newCluster(t, n)
	v := view{}
	c.do(0, v, loading(records, true)...)
	c.do(1, v, loading(records, false)...)
	const lost = 2
	p := c.peers[lost]
	c.do(lost, v, command{"SET", "kept", "in the backup"}, command{"INCRBY", "counted", "7"},
		command{"SADD", "elements", "removed later", "stays"})
	c.awaitAgreement(c.traffic(), c.peers...)
	file := filepath.Join(t.TempDir(), "old.peerd")
	out, err := p.command("backup", "--http", n.addresses(lost).http, file)
	if err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	c.note("%s", out)

	edits := c.writes
	c.changeSince(v, records, lost)
	c.awaitAgreement(c.traffic(), c.peers...)
	before, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	p.kill()
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	c.do(0, v, command{"INCRBY", "counted", "100000"}, command{"DEL", records[6].key()})
	out, err = p.command("restore", file, "--dir", p.dir, "--cluster-key", c.key)
	if err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	c.note("restored %s as it was %d edits ago", p.name, c.writes-edits)
	p.start()
	// It writes at once, whether or not it has caught up.
	c.do(lost, v, command{"INCRBY", "counted", "1000000"}, command{"SADD", "elements", "new"})
	c.awaitAgreement(c.traffic(), c.peers...)
	c.checkAll(v, c.peers...)
	c.checkHealth()
	c.checkDots(lost, before)
}

// changeSince changes things on all hosts, also on the one whose backup was taken, in all the ways in which that
// backup could bring back what is gone.
func (c *cluster) changeSince(v view, records []record, lost int) {
	c.t.Helper()
	for i := range c.peers {
		c.do(i, v, command{"DEL", records[i].key()}, command{"HDEL", records[i+3].key(), "name"},
			command{"INCRBY", "counted", "1000"}, command{"SET", records[i].key() + " new", "since"})
	}
	c.do(lost, v, command{"SREM", "elements", "removed later"}, command{"SET", "kept", "and changed since"},
		command{"DEL", records[7].categoryKey()})
	var many []command
	for _, r := range records {
		many = append(many, command{"HSET", r.key() + " since", "by", "the host that is lost"})
	}
	c.do(lost, v, many...)
}

// checkDots fails the test unless a restored host writes as a new replica, and the dots of its old one are as many
// as they were.
func (c *cluster) checkDots(peer int, before status) {
	c.t.Helper()
	p := c.peers[peer]
	now, err := p.status()
	if err != nil {
		c.t.Fatal(err)
	}
	switch {
	case now.Replica == before.Replica:
		c.t.Errorf("%s writes as replica %s, as before", p.name, now.Replica)
	case now.VersionVector[now.Replica] == 0 || before.VersionVector[now.Replica] > 0:
		c.t.Errorf("replica %s of %s is not a new one: %v", now.Replica, p.name, now.VersionVector)
	case now.VersionVector[before.Replica] != before.VersionVector[before.Replica]:
		c.t.Errorf("replica %s had issued %d dots, and now has %d", before.Replica,
			before.VersionVector[before.Replica], now.VersionVector[before.Replica])
	}
	c.note("replica %s has %d dots as before, replica %s is new", before.Replica,
		now.VersionVector[before.Replica], now.Replica)
}
