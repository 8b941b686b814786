package lab

import (
	"context"
	"net"
	"os"
	"testing"
	"time"
)

// Hosts of a part reach each other, those of two parts do not until it is healed.
func TestAPartReachesItself(t *testing.T) {
	l := &Lab{Dir: t.TempDir(), Repo: "."}
	if err := l.MayIsolate(t.Context()); err != nil {
		t.Skip(err)
	}
	if err := os.Mkdir(l.Path(""), 0o700); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, err := l.Network(3)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range n.Hosts {
		var listener net.Listener
		err := h.do(func() (err error) {
			listener, err = net.Listen("tcp", h.IP+":7000")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
	reach := func(from, to int, limit time.Duration) bool {
		ctx, stop := context.WithTimeout(t.Context(), limit)
		defer stop()
		conn, err := n.Hosts[from].Dial(ctx, n.Hosts[to].IP+":7000")
		if err != nil {
			return false
		}
		conn.Close()
		return true
	}
	for _, step := range []struct {
		what  string
		do    func() error
		apart bool // the last one from the others
	}{
		{"at first", func() error { return nil }, false},
		{"split", func() error { return n.Split([]int{0, 1}, []int{2}) }, true},
		{"healed", n.Heal, false},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		for from := range n.Hosts {
			for to := range n.Hosts {
				want, limit := true, Patience
				if step.apart && (from == 2) != (to == 2) {
					want, limit = false, 300*time.Millisecond
				}
				if reach(from, to, limit) != want {
					t.Errorf("%s: %d reaches %d: %t", step.what, from, to, !want)
				}
			}
		}
	}
}
