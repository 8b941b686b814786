//go:build !race

package resp

import (
	"bytes"
	"context"
	"io"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// nothing is a database that has nothing to do.
type nothing struct{ database }

func (nothing) View(_ context.Context, fn func(*embedded.Tx) error) error { return fn(nil) }

func (nothing) UpdateAll(_ context.Context, fns []func(*embedded.Tx) error) []error {
	for _, fn := range fns {
		_ = fn(nil)
	}
	return nil
}

func (db nothing) Read(fns []func(*embedded.Tx) error) []error {
	return db.UpdateAll(context.Background(), fns)
}

func (db nothing) Submit(fns []func(*embedded.Tx) error, done func([]error)) {
	done(db.UpdateAll(context.Background(), fns))
}

// allocations returns how many there are for a command, of all goroutines: from its bytes to
// those of its reply, in a pipeline. before is sent first.
func allocations(t *testing.T, db database, pipeline int, before []byte, args ...string) float64 {
	t.Helper()
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	if before != nil {
		p.sendRaw(before)
		p.reply()
	}
	command := encodeCommand(args...)
	p.sendRaw(command)
	reply := make([]byte, 1024)
	n, err := p.Conn.Read(reply)
	if err != nil || n == len(reply) {
		t.Fatalf("%d bytes of a reply, %v", n, err)
	}
	data, replies := bytes.Repeat(command, pipeline), make([]byte, pipeline*n)
	return testing.AllocsPerRun(1000, func() {
		if _, err := p.Write(data); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(p.Conn, replies); err != nil {
			t.Fatal(err)
		}
	}) / float64(pipeline)
}

// TestTheFrontEndAllocatesNothing for commands that have the form of GET and SET and need nothing
// of the database.
func TestTheFrontEndAllocatesNothing(t *testing.T) {
	commands["read"] = &command{name: "read", arity: 2, access: accessRead, run: func(c *call) error {
		c.out.bulk(c.args[1])
		return nil
	}}
	commands["write"] = &command{name: "write", arity: 3, access: accessWrite, run: func(c *call) error {
		c.out.status("OK")
		return nil
	}}
	t.Cleanup(func() { delete(commands, "read"); delete(commands, "write") })
	eachWay(t, func(t *testing.T) {
		for _, pipeline := range []int{1, 16} {
			for _, args := range [][]string{{"READ", "key"}, {"WRITE", "key", "value"}} {
				if n := allocations(t, nothing{}, pipeline, nil, args...); n >= 0.5 { // pools are emptied now and then
					t.Errorf("%.2f allocations for %s in a pipeline of %d, want none", n, args[0], pipeline)
				}
			}
		}
	})
}

// TestACommandOnAHotKeyAllocatesLittle from its bytes to those of its reply, peer and engine
// included, alone and many being in a group. Nearly all of it is theirs. A commit has some of its own, for
// its group, its record in the log and what views see then: they are all of the one command's if that is alone.
func TestACommandOnAHotKeyAllocatesLittle(t *testing.T) {
	for _, test := range []struct {
		command       string
		before        []byte
		alone, amidst float64
		args          []string
	}{
		{"SET", nil, 19, 12, []string{"SET", "key", "a value of some bytes"}},
		{"GET", encodeCommand("SET", "key", "a value of some bytes"), 3, 3, []string{"GET", "key"}},
		{"INCR", encodeCommand("SET", "key", "1000"), 25, 14, []string{"INCR", "key"}},
	} {
		t.Run(test.command, func(t *testing.T) {
			for pipeline, limit := range map[int]float64{1: test.alone, 16: test.amidst} {
				n := allocations(t, newMemory(t).Peer, pipeline, test.before, test.args...)
				if t.Logf("%.1f allocations in a pipeline of %d", n, pipeline); n > limit {
					t.Errorf("want at most %.0f", limit)
				}
			}
		})
	}
}
