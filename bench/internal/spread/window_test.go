package spread

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// chatter begins two members that receive a copy and a byte each millisecond, whatever is published.
// The second sees the messages that reach says, each after a time.
func chatter(e Experiment, reach func(n int) (after time.Duration, ok bool)) (h *hub, end func()) {
	e.Members = 2
	h = &hub{Experiment: e, visible: &visible{members: 2, seen: map[int]map[int]sight{}}}
	began := time.Now()
	for range e.Members {
		in, told := io.Pipe()
		p := &process{in: told, answers: make(chan string, 1)}
		h.members = append(h.members, p)
		go func() {
			for lines := bufio.NewScanner(in); lines.Scan(); {
				said := ""
				switch word, rest, _ := strings.Cut(lines.Text(), " "); word {
				case "publish":
					var n int
					fmt.Sscan(rest, &n)
					now := time.Now()
					if after, ok := reach(n); ok {
						time.AfterFunc(after, func() { h.visible.see(1, n, sight{now.Add(after), 0}) })
					}
					said = fmt.Sprint(now.UnixNano())
				case "count":
					ms := time.Since(began).Milliseconds()
					said = fmt.Sprint(ms, " ", ms)
				}
				p.answers <- "ok " + said
			}
		}()
	}
	return h, func() {
		for _, p := range h.members {
			p.in.Close()
		}
	}
}

// A system that loses a message must not be charged for what it says while the others wait for it, and
// one that is fast must not be spared what comes after.
func TestCopiesAreCountedForTheSameTimeWhateverBecomesOfTheMessages(t *testing.T) {
	e := Experiment{Messages: 10, Limit: time.Second}
	counted := map[string]Result{}
	for name, reach := range map[string]func(n int) (time.Duration, bool){
		"all at once":    func(int) (time.Duration, bool) { return 0, true },
		"all late":       func(int) (time.Duration, bool) { return 700 * time.Millisecond, true },
		"the last never": func(n int) (time.Duration, bool) { return 0, n != 9 },
	} {
		synctest.Test(t, func(t *testing.T) {
			h, end := chatter(e, reach)
			defer end()
			r, err := h.measure(context.Background(), 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			counted[name] = r
		})
	}
	const window = 10*50 + 1000 // ms
	for name, r := range counted {
		if r.Copies != window/10 || r.Bytes != 2*window/10 {
			t.Errorf("%s: %v copies and %v bytes a message and member, of %d ms", name, r.Copies, r.Bytes, window)
		}
	}
	if missing := counted["the last never"].Missing; missing != 1 {
		t.Errorf("%d are missing", missing)
	}
}

// Each message has as long as the others, the first one too.
func TestWhatComesAfterItsOwnLimitIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, end := chatter(Experiment{Messages: 10, Limit: time.Second}, func(n int) (time.Duration, bool) {
			if n == 0 {
				return 1100 * time.Millisecond, true // while the last one still has time
			}
			return 900 * time.Millisecond, true
		})
		defer end()
		r, err := h.measure(context.Background(), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if r.Missing != 1 || len(r.All) != 9 {
			t.Errorf("%d are missing, and %d reached all", r.Missing, len(r.All))
		}
	})
}
