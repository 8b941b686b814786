package peer

import (
	"slices"
	"testing"
	"time"
)

func TestAMemberTellsHowItIs(t *testing.T) {
	c := newCluster(t)
	p := c.start(c.config(t.TempDir()))
	cfg := c.config(t.TempDir())
	cfg.Version, cfg.clockOffset = "7.1", offBy(time.Hour)
	q := c.start(cfg)
	own, err := q.Status()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other's version, disk and problems are known", func() bool {
		s, err := p.Status()
		if err != nil || len(s.Members) != 1 || s.Members[0].Told == nil {
			return false
		}
		told := *s.Members[0].Told
		return told.Version == "7.1" && told.Ready && told.FreeBytes > 0 && told.Replica == own.Replica &&
			slices.Equal(told.Problems, []string{"clock-off"})
	})
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is told of one that is gone", func() bool {
		s, err := p.Status()
		return err == nil && !s.Members[0].Alive && s.Members[0].Told == nil
	})
}
