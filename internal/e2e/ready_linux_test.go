package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// noData are rules by which a host gets nothing of others' data.
var noData = []string{`iifname "eth0" tcp dport 7947`, `iifname "eth0" udp dport 7947`,
	`iifname "eth0" tcp sport 7947`, `iifname "eth0" udp sport 7947`}

// has returns a condition: the daemon names a problem, in these words.
func (d *daemon) has(id string, words ...string) func() error {
	return func() error {
		s, err := d.status()
		if err != nil {
			return err
		}
		for _, p := range s.Problems {
			if p.ID == id && containsAll(p.What, words) {
				return nil
			}
		}
		return fmt.Errorf("its problems are %+v", s.Problems)
	}
}

func containsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// hasNone is a condition: the daemon names no problem.
func (d *daemon) hasNone() error {
	s, err := d.status()
	if err == nil && len(s.Problems) > 0 {
		err = fmt.Errorf("its problems are %+v", s.Problems)
	}
	return err
}

// isReady is a condition.
func (d *daemon) isReady() error { return d.get("/readyz", nil) }

// readyWith fails the test unless the daemon becomes ready, and then has all that another has.
func (d *daemon) readyWith(other *daemon) {
	d.t.Helper()
	want, err := other.status()
	must(d.t, err)
	d.eventually("is ready", d.isReady)
	got, err := d.status()
	must(d.t, err)
	if got.Mutations < want.Mutations {
		d.t.Errorf("%s is ready with %d mutations of %d", d.name, got.Mutations, want.Mutations)
	}
}

// TestReadyMeansCaughtUp has a newcomer, and then a host that was away, come to one that has data,
// with the ports for data open and shut.
func TestReadyMeansCaughtUp(t *testing.T) {
	needFilter(t)
	n := sites(t)
	program := binary(t)
	key := clusterKey(t, program)
	one := newDaemon(t, n, 0, program, "one", "--cluster-key", key)
	two := newDaemon(t, n, 1, program, "two", "--cluster-key", key, "--join", address(0))
	one.start()
	one.run(command{"SET", "k", "1"})
	must(t, n.hosts[1].drop(noData...))
	two.start()
	// An empty one is not ready, however long that lasts, and both say why.
	one.eventually("says why", one.has("no-link", "two is alive and has no data link", "answer"))
	two.eventually("says why", two.has("no-link", "one is alive and has no data link", "answer"))
	for _, d := range []*daemon{one, two} {
		s, err := d.status()
		must(t, err)
		for _, foreign := range []string{"dial", "/ip4/", "deadline", "*"} {
			if strings.Contains(s.Problems[0].What, foreign) {
				t.Errorf("%s names no words of a person: %q", d.name, s.Problems[0].What)
			}
		}
	}
	for range 20 {
		if two.isReady() == nil {
			t.Fatal("an empty host without a link is ready")
		}
		wait(100 * time.Millisecond)
	}
	if err := one.isReady(); err != nil {
		t.Errorf("the host with data: %v", err)
	}
	must(t, n.hosts[1].drop())
	two.readyWith(one)
	two.eventually("is well", two.hasNone)

	// One that was away is ready with what it missed.
	for round := range 3 {
		two.stop()
		writes := make([]command, 20_000)
		for i := range writes {
			writes[i] = command{"SET", fmt.Sprintf("k%d", i), fmt.Sprint("value ", round)}
		}
		one.run(writes...)
		two.start()
		two.readyWith(one)
	}

	// Without a link it is ready after its wait, and says so.
	two.stop()
	one.run(command{"SET", "k", "2"})
	must(t, n.hosts[1].drop(noData...))
	two.args = append(two.args, "--ready-wait", "4s")
	two.launch()
	began := time.Now()
	two.eventually("is ready", two.isReady)
	if took := time.Since(began); took < 4*time.Second {
		t.Errorf("it was ready after %v", took)
	}
	must(t, two.has("not-caught-up", "looking for the other peers")())
	must(t, n.hosts[1].drop())
	two.eventually("is well", two.hasNone)
	must(t, two.holds("k", "2")())
}

// TestAMemberThatIsKilledIsShownAsNotLinkedAtOnce kills one of two hosts over each transport.
func TestAMemberThatIsKilledIsShownAsNotLinkedAtOnce(t *testing.T) {
	needFilter(t)
	for _, dropped := range []string{"udp", "tcp"} {
		n := sites(t)
		must(t, n.hosts[0].drop(dropped+" dport 7947", dropped+" sport 7947"))
		one, two := pair(t, n, "--join", address(0))
		one.run(command{"SET", "k", "1"})
		one.eventually("knows what the other lacks", func() error {
			s, err := one.status()
			if err == nil && (s.Members[0].TheyLack == nil || s.Members[0].RTTms == nil) {
				err = errors.New("it does not")
			}
			return err
		})
		two.kill()
		began := time.Now()
		one.eventually("shows it as not linked", func() error {
			s, err := one.status()
			if err == nil && s.Members[0].Linked {
				err = errors.New("it is linked")
			}
			return err
		})
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("without %s it was shown as linked for %v", dropped, took)
		}
		one.eventually("shows it as gone", func() error {
			s, err := one.status()
			if err == nil && s.Members[0].Alive {
				err = errors.New("it is alive")
			}
			return err
		})
		s, err := one.status()
		must(t, err)
		if m := s.Members[0]; m.TheyLack != nil || m.WeLack != nil || m.RTTms != nil {
			t.Errorf("of one that is gone it shows %+v", m)
		}
		shown := one.must("status")
		line := shown[strings.LastIndex(shown, "two ("):]
		if fields := strings.Fields(line); len(fields) != 9 || strings.Join(fields[5:], " ") != "- - - -" {
			t.Errorf("peerd status shows %q", line)
		}
		for figure := range one.figures() {
			for _, name := range []string{"rtt_seconds", "behind_dots", "ahead_dots"} {
				if strings.HasPrefix(figure, "peerd_member_"+name) {
					t.Errorf("there is a sample of %s", name)
				}
			}
		}
	}
}
