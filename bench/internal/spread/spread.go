// Package spread is one experiment of how a message spreads among members that are processes, each
// in a network namespace of its own behind one bridge: who has seen which message when and from
// whom, and what crossed the links meanwhile. A hub (Experiment.Run) starts the members and tells
// them what to do; each is a program that calls Serve.
package spread

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
)

// Experiment is some members, one of which publishes messages that all are to see, while one packet
// of so many is lost, and then while others are.
type Experiment struct {
	System   string
	Members  int
	Losses   []int // of a hundred packets
	Messages int   // with each loss
	Dir      string
	Peerd    string        // the daemon's binary
	Limit    time.Duration // how long a message may take to reach all
	Profiled bool          // the daemons serve profiles: see Socket
}

// Result is what was found with one loss.
type Result struct {
	All     []float64 // ms of each message that all saw, from its publication until they did
	Hops    []float64 // of these, members that told each other until the last one saw it; none if nobody knows
	Missing int       // members that a message did not reach within the limit, of all messages
	Copies  float64   // received, for each message and member
	Bytes   float64   // the same, on the wire
}

// Payload is how long a message is, in bytes.
const Payload = 64

// Run runs the experiment, as root in a network namespace of this process' own. Its members are
// this program with the given arguments, and their number.
func (e Experiment) Run(ctx context.Context, program string, args ...string) ([]Result, error) {
	v := &visible{members: e.Members, seen: map[int]map[int]sight{}}
	h := &hub{Experiment: e, visible: v}
	defer h.close()
	for i := range e.Members {
		if err := h.start(i, program, append(args, strconv.Itoa(i))...); err != nil {
			return nil, err
		}
	}
	if err := h.open(ctx); err != nil {
		return nil, err
	}
	var found []Result
	for i, loss := range e.Losses {
		r, err := h.measure(ctx, i*e.Messages, loss)
		if err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	return found, ctx.Err()
}

// hub is where the links of all members meet.
type hub struct {
	Experiment
	visible *visible
	members []*process
	warm    int // messages that only found out whether all are connected
}

// process is a member's.
type process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan string // closed at its end
}

func (h *hub) start(i int, program string, args ...string) error {
	p := &process{cmd: exec.Command(program, args...), answers: make(chan string, 1)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.in = in
	h.members = append(h.members, p)
	go func() {
		defer close(p.answers)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var n, from int
			var at int64
			if _, err := fmt.Sscanf(lines.Text(), "seen %d %d %d", &n, &from, &at); err == nil {
				h.visible.see(i, n, sight{time.Unix(0, at), from})
				continue
			}
			p.answers <- lines.Text()
		}
	}()
	return nil
}

// close ends all members: each ends when nobody tells it anything any more.
func (h *hub) close() {
	for _, p := range h.members {
		_ = p.in.Close()
	}
	for _, p := range h.members {
		for range p.answers { // until it has ended
		}
		_ = p.cmd.Wait()
	}
}

// ask tells a member something, and returns what it answers.
func (h *hub) ask(ctx context.Context, i int, format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(h.members[i].in, format+"\n", args...); err != nil {
		return "", err
	}
	select {
	case answer, more := <-h.members[i].answers:
		said, ok := strings.CutPrefix(answer, "ok ")
		if !more {
			return "", fmt.Errorf("member %d has ended", i)
		}
		if !ok {
			return "", fmt.Errorf("member %d: %s", i, strings.TrimPrefix(answer, "error "))
		}
		return said, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// askAll tells all but the first some the same at once, and returns what they answer.
func (h *hub) askAll(ctx context.Context, but int, format string, args ...any) ([]string, error) {
	answers, problems := make([]string, h.Members), make([]error, h.Members)
	var all sync.WaitGroup
	for i := but; i < h.Members; i++ {
		all.Go(func() { answers[i], problems[i] = h.ask(ctx, i, format, args...) })
	}
	all.Wait()
	return answers, errors.Join(problems...)
}

// open links the members, and opens and connects their networks.
func (h *hub) open(ctx context.Context) error {
	wires := "link add hub type bridge\nlink set hub up\n"
	for i, p := range h.members {
		wires += fmt.Sprintf("link add m%d type veth peer name %s netns %d\nlink set m%d master hub up\n",
			i, device, p.cmd.Process.Pid, i)
	}
	if err := piped(ctx, wires, "ip", "-batch", "-"); err != nil {
		return err
	}
	if _, err := h.askAll(ctx, 0, "link"); err != nil {
		return err
	}
	first, err := h.ask(ctx, 0, "open")
	if err != nil {
		return err
	}
	addresses, err := h.askAll(ctx, 1, "open")
	if err != nil {
		return err
	}
	addresses[0] = first
	_, err = h.askAll(ctx, 0, "join %s", strings.Join(addresses, " "))
	return err
}

// connected waits until all see what is published.
func (h *hub) connected(ctx context.Context) error {
	for range 60 {
		h.warm--
		if _, err := h.ask(ctx, 0, "publish %d", h.warm); err != nil {
			return err
		}
		if lab.Await(ctx, time.Second, "all see it", func() bool { return h.visible.all(h.warm) }) == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.New("the members do not reach each other")
}

// measure publishes messages from a number on, while packets are lost.
func (h *hub) measure(ctx context.Context, first, loss int) (r Result, err error) {
	if _, err := h.askAll(ctx, 0, "lose 0"); err != nil {
		return r, err
	}
	if err := h.connected(ctx); err != nil {
		return r, err
	}
	if _, err := h.askAll(ctx, 0, "lose %d", loss); err != nil {
		return r, err
	}
	copiesBefore, bytesBefore, err := h.count(ctx)
	if err != nil {
		return r, err
	}
	began := time.Now()
	published, err := h.publish(ctx, began, first)
	if err != nil {
		return r, err
	}
	deliveries := float64(h.Messages * (h.Members - 1))
	if err := lab.Pause(ctx, time.Until(began.Add(h.window()))); err != nil {
		return r, err
	}
	copies, bytes, err := h.count(ctx)
	if err != nil {
		return r, err
	}
	r.Copies, r.Bytes = (copies-copiesBefore)/deliveries, (bytes-bytesBefore)/deliveries
	for n, at := range published {
		last, hops, missing := h.visible.last(first+n, at.Add(h.Limit))
		r.Missing += missing
		if missing > 0 {
			continue
		}
		r.All = append(r.All, float64(last.Sub(at))/float64(time.Millisecond))
		if hops > 0 {
			r.Hops = append(r.Hops, float64(hops))
		}
	}
	return r, nil
}

// interval is how long after one message the next is published.
const interval = 50 * time.Millisecond

// window is for how long what members receive is counted: until the last message has had its time. It is
// as long for a system that needs less, and for one that loses some: members speak of themselves too.
func (e Experiment) window() time.Duration { return time.Duration(e.Messages)*interval + e.Limit }

// publish publishes messages from a number on, each when it is due, and returns when that was: a writer that stands still
// is late with all that were due meanwhile.
func (h *hub) publish(ctx context.Context, began time.Time, first int) ([]time.Time, error) {
	published := make([]time.Time, h.Messages)
	for n := range published {
		published[n] = began.Add(time.Duration(n) * interval)
		if err := lab.Pause(ctx, time.Until(published[n])); err != nil {
			return nil, err
		}
		if _, err := h.ask(ctx, 0, "publish %d", first+n); err != nil {
			return nil, err
		}
	}
	return published, nil
}

// count returns how many copies of messages all members have received, and bytes.
func (h *hub) count(ctx context.Context) (copies, bytes float64, err error) {
	answers, err := h.askAll(ctx, 0, "count")
	if err != nil {
		return 0, 0, err
	}
	for i, said := range answers {
		var c, b float64
		if _, err := fmt.Sscan(said, &c, &b); err != nil {
			return 0, 0, fmt.Errorf("member %d counts %q: %w", i, said, err)
		}
		if i > 0 { // the first has what it wrote
			copies += c
		}
		bytes += b
	}
	return copies, bytes, nil
}

// piped runs a program with a text as its input.
func piped(ctx context.Context, text, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// sight is when a member saw a message, and from whom it had it: -1 if it does not know.
type sight struct {
	at   time.Time
	from int
}

// visible notes who has seen which message when. The first member, which publishes, is not asked.
type visible struct {
	members int
	mu      sync.Mutex
	seen    map[int]map[int]sight // by message and member
}

func (v *visible) see(member, n int, s sight) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if member == 0 {
		return
	}
	if v.seen[n] == nil {
		v.seen[n] = map[int]sight{}
	}
	if _, again := v.seen[n][member]; again {
		return
	}
	v.seen[n][member] = s
}

func (v *visible) all(n int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.seen[n]) == v.members-1
}

// last returns when the last member saw a message, how many members told each other on the longest
// way from the first, 0 if somebody does not know from whom it had it, and how many had not seen it by
// the end.
func (v *visible) last(n int, end time.Time) (at time.Time, hops, missing int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known, missing := true, v.members-1
	for member, s := range v.seen[n] {
		if s.at.After(end) {
			continue
		}
		missing--
		if s.at.After(at) {
			at = s.at
		}
		way := 0
		for ; member > 0 && way < v.members; way++ {
			s, ok := v.seen[n][member]
			known = known && ok && s.from >= 0
			member = s.from
		}
		hops = max(hops, way)
	}
	if !known {
		hops = 0
	}
	return at, hops, missing
}
