package spread

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Member is one of an experiment, as it knows itself.
type Member struct {
	Experiment
	Index int
	// Seen is to be called with the number of each message that the member gets, and that of the
	// member from which it had it, -1 if it is not known.
	Seen func(n, from int)
}

// Network is the system at one member.
type Network interface {
	// Address is what the others need to join.
	Address() string
	// Join connects the member, given the addresses of all.
	Join(ctx context.Context, all []string) error
	// Publish sends the n-th message.
	Publish(ctx context.Context, n int) error
	// Copies returns how many messages the member has received, those included that it had.
	Copies(ctx context.Context) (int, error)
	Close()
}

// Open opens a system at a member. What it returns is to be closed, also with an error.
type Open func(ctx context.Context, m Member) (Network, error)

// device is the member's end of its link.
const device = "member0"

// IP returns the address of a member in the experiment's network.
func IP(member int) string { return fmt.Sprintf("10.77.0.%d", member+1) }

// Path returns the name of a file of a member's own.
func (m Member) Path() string { return filepath.Join(m.Dir, fmt.Sprint(m.Index)) }

// Socket is where a member's daemon serves profiles, if it does.
func (e Experiment) Socket(member int) string {
	return filepath.Join(e.Dir, fmt.Sprint(member, ".pprof"))
}

// Serve is a member: it does what the hub says on in, and answers on out, until in ends.
func (e Experiment) Serve(ctx context.Context, index int, open Open, in io.Reader, out io.Writer) {
	var saying sync.Mutex
	say := func(format string, args ...any) {
		saying.Lock()
		defer saying.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}
	m := Member{Experiment: e, Index: index, Seen: func(n, from int) {
		say("seen %d %d %d", n, from, time.Now().UnixNano())
	}}
	var net Network
	defer func() {
		if net != nil {
			net.Close()
		}
	}()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		words := strings.Fields(lines.Text())
		var said string
		var err error
		switch words[0] {
		case "link":
			err = piped(ctx, fmt.Sprintf("link set lo up\naddress add %s/24 dev %s\nlink set %s up\n",
				IP(index), device, device), "ip", "-batch", "-")
		case "open":
			if net, err = open(ctx, m); err == nil {
				said = net.Address()
			}
		case "join":
			err = net.Join(ctx, words[1:])
		case "lose":
			err = piped(ctx, loses(words[1]), "nft", "-f", "-")
		case "publish":
			var n int
			if _, err = fmt.Sscan(words[1], &n); err == nil {
				err = net.Publish(ctx, n)
			}
		case "count":
			var copies int
			copies, err = net.Copies(ctx)
			said = fmt.Sprint(copies, " ", received())
		}
		if err != nil {
			say("error %s", strings.ReplaceAll(err.Error(), "\n", " / "))
			continue
		}
		say("ok %s", said)
	}
}

// loses is what has nft drop so many of a hundred packets that come over the link.
func loses(percent string) string {
	return fmt.Sprintf("table inet loss\ndelete table inet loss\ntable inet loss {\nchain in {\n"+
		"type filter hook input priority 0;\niifname %q numgen random mod 100 < %s drop\n}\n}\n", device, percent)
}

// received is how many bytes came over the link, those included that were dropped then.
func received() (n int64) {
	text, _ := os.ReadFile("/proc/self/net/dev") // of this process' namespace
	for line := range strings.Lines(string(text)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == device {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}
