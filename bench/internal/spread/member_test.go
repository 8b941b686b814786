package spread

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// echo is a network whose member sees what it publishes, and cannot be joined.
type echo struct{ Member }

func (e echo) Address() string                              { return "here" }
func (e echo) Join(context.Context, []string) error         { return errors.New("nobody\nanswers") }
func (e echo) Publish(_ context.Context, n int) error       { e.Seen(n, e.Index); return nil }
func (e echo) Copies(context.Context) (copies int, _ error) { return 7, nil }
func (e echo) Close()                                       {}

func TestAMemberDoesWhatItIsToldAndAnswersEachLine(t *testing.T) {
	var out strings.Builder
	Experiment{Dir: "dir"}.Serve(context.Background(), 2, func(_ context.Context, m Member) (Network, error) {
		return echo{m}, nil
	}, strings.NewReader("open\njoin a b\npublish 5\ncount\n"), &out)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var at int64
	if len(lines) != 5 || lines[0] != "ok here" || lines[1] != "error nobody / answers" || lines[4] != "ok 7 0" {
		t.Fatalf("it says %q", lines)
	}
	if _, err := fmt.Sscanf(lines[2], "seen 5 2 %d", &at); err != nil || lines[3][:3] != "ok " {
		t.Errorf("it says %q", lines)
	}
}
