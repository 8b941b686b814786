package bounds

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
)

// tiny is enough to see that a row runs.
var tiny = sizes{
	rounds: 1, requests: 400, warm: 100, cells: 500, many: 1000, written: 1000, watch: 100 * time.Millisecond,
	deleted: []int{10, 20}, sets: 100, bench: "1x",
}

func newTestLab(t *testing.T, binary string) *bench {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	l, err := lab.New(context.Background(), time.Minute, binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return &bench{l, tiny}
}

func TestARowIsMeasuredAndItsDaemonsEnd(t *testing.T) {
	l := newTestLab(t, os.Getenv("PEERD_E2E_BINARY"))
	chosen, err := choose([]string{"memory", "del"})
	if err != nil {
		t.Fatal(err)
	}
	var started []*lab.Process
	for i, r := range chosen {
		chosen[i].measure = func(ctx context.Context, l *bench) ([]figure, error) {
			found, err := r.measure(ctx, l)
			started = append(started, l.Running...)
			return found, err
		}
	}
	var out strings.Builder
	if err := l.measure(context.Background(), chosen, &out); err != nil {
		t.Fatalf("%v in:\n%s", err, out.String())
	}
	for _, want := range []string{
		"\n| memory | memory after 500 SETs", "\n| del | 20 sets of 20: DEL answered, × 10 sets",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if len(started) == 0 {
		t.Error("nothing was started")
	}
	ended(t, started)

	t.Run("interrupted", func(t *testing.T) { interrupt(t, l.Peerd) })
}

// interrupt ends a load that would take an hour, as Ctrl-C does.
func interrupt(t *testing.T, binary string) {
	l := newTestLab(t, binary)
	l.many = 1 << 40
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var d *lab.Daemon
	write := row{"write", "", func(ctx context.Context, l *bench) (found []figure, err error) {
		if d, err = l.Daemon(ctx, "peerd"); err != nil {
			return nil, err
		}
		all := keyed(2, l.many)
		next := all.Command
		all.Command = func(b []byte, i int) []byte {
			if i == 1000 {
				stop()
			}
			return next(b, i)
		}
		_, err = all.Run(ctx, d.Redis)
		return nil, err
	}}
	err := l.measure(ctx, []row{write}, new(strings.Builder))
	if err == nil || err.Error() != "interrupted" {
		t.Errorf("the error is %v", err)
	}
	ended(t, []*lab.Process{d.Process})
	l.Close()
	if _, err := os.Stat(l.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("files are left over: %v", err)
	}
}

func ended(t *testing.T, all []*lab.Process) {
	t.Helper()
	for _, p := range all {
		select {
		case <-p.Ended:
		default:
			t.Errorf("%s still runs", p.Name)
		}
		if _, err := p.CPU(); err == nil {
			t.Errorf("%s is still in /proc", p.Name)
		}
	}
}

// The server has work to do when it begins and after each turn. A turn that begins before that is done fails.
func TestNobodyIsMeasuredWhileTheOtherIsBusy(t *testing.T) {
	const work = "i=0; while [ $i -lt 800000 ]; do i=$((i+1)); done"
	t.Run("itself", func(t *testing.T) { testCalmTurns(t, work) })
	t.Run("in a child", func(t *testing.T) { testCalmTurns(t, "("+work+")") })
}

func testCalmTurns(t *testing.T, work string) {
	l := newTestLab(t, "/bin/true")
	l.rounds = 2
	dir := t.TempDir()
	server := "cd $DIR; mkfifo turns; while " + work + "; do touch idle; read port <turns || exit; done"
	const benchmark = "#!/bin/sh\ncd $DIR; rm idle || exit 1; echo $2 >>order; echo >turns\n" +
		"printf '\"test\",\"rps\"\\n\"SET\",\"1\"\\n'\n"
	if err := os.WriteFile(filepath.Join(dir, "redis-benchmark"), []byte(benchmark), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DIR", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	both, err := l.Start("both", "sh", "-c", server)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{l, &lab.Daemon{Process: both, Redis: "127.0.0.1:1"}, both, "127.0.0.1:2"}
	ours, theirs, err := p.compare(context.Background(), 1, 1, 1, "set")
	if err != nil || len(ours) != 2 || len(theirs) != 2 {
		t.Errorf("%v and %v, %v", ours, theirs, err)
	}
	if order, err := os.ReadFile(filepath.Join(dir, "order")); string(order) != "1\n2\n2\n1\n" {
		t.Errorf("the ports of the turns are %q, %v", order, err)
	}
}

func TestARowThatCannotBeMeasuredSaysSoAndTheOthersAre(t *testing.T) {
	l := newTestLab(t, "/bin/true")
	broken := row{"broken", "", func(context.Context, *bench) ([]figure, error) {
		return nil, errors.New("no | such\nthing")
	}}
	well := row{"well", "", func(context.Context, *bench) ([]figure, error) {
		return []figure{{what: "one", value: 1}}, nil
	}}
	dead := row{"dead", "", func(ctx context.Context, l *bench) ([]figure, error) {
		_, err := l.Daemon(ctx, "peerd") // which ends at once
		return nil, err
	}}
	var out strings.Builder
	err := l.measure(context.Background(), []row{broken, dead, well}, &out)
	if err == nil || err.Error() != "not measured: broken, dead" {
		t.Errorf("the error is %v", err)
	}
	for _, want := range []string{
		"| broken | NOT MEASURED: no ¦ such / thing |", "| dead | NOT MEASURED: peerd has ended",
		"| well | one | 1 (one run) |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

// A daemon that says its name is all that is needed of it here.
func TestTheTableSaysWhatItIsOf(t *testing.T) {
	l := newTestLab(t, "/bin/true")
	l.rounds = full.rounds
	about := l.about(context.Background())
	for _, want := range []string{"peerd: true ", "Badger: ", "sync each second", "of 5 rounds, in turn",
		"`go -C bench run . bounds ROW --quick`"} {
		if !strings.Contains(about, want) {
			t.Errorf("no %q in %q", want, about)
		}
	}
}

func TestAMissIsReportedWithItsProfile(t *testing.T) {
	l := newTestLab(t, "/bin/true")
	l.Profile.Dir = filepath.Join(t.TempDir(), "profiles")
	var kinds []string
	slow := row{"slow", "", func(ctx context.Context, l *bench) ([]figure, error) {
		kinds = append(kinds, l.Profile.Kind)
		_, err := l.GoBenchmark(ctx, "crdt", "^BenchmarkMergeOfAOneEntryDelta$", nil,
			"-test.benchtime", "100ms")
		return []figure{{what: "one", value: 1, bound: atLeast(2, 3)}}, err
	}}
	var out strings.Builder
	if err := l.measure(context.Background(), []row{slow}, &out); err != nil {
		t.Fatal(err)
	}
	if len(kinds) != 2 || kinds[0] != "" || kinds[1] != "cpu" || l.Profile.Kind != "" {
		t.Errorf("it is measured with profiles %q", kinds)
	}
	if !strings.Contains(out.String(), "/*.cpu.*: ") || !strings.Contains(out.String(), "% ") {
		t.Errorf("there is no profile in:\n%s", out.String())
	}
	if got := mostOf("Type: cpu\n      flat  flat%   sum%        cum   cum%\n  1s 40% 40% 2s 80%  a.(*B).C (inline)\n"); len(got) != 1 ||
		got[0] != "40% a.(*B).C (inline)" {
		t.Errorf("what takes the most is %q", got)
	}
}

func TestRowsAreChosenByName(t *testing.T) {
	names := map[string]bool{}
	for _, r := range rows {
		if names[r.name] || r.about == "" {
			t.Errorf("row %q repeats a name, or says nothing", r.name)
		}
		names[r.name] = true
	}
	if all, err := choose(nil); err != nil || len(all) != len(rows) {
		t.Errorf("%d rows are chosen by no name, %v", len(all), err)
	}
	some, err := choose([]string{"open", "idle"})
	if err != nil || len(some) != 2 || some[0].name != "open" || some[1].name != "idle" {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := choose([]string{"opne"}); err == nil {
		t.Error("an unknown row is chosen")
	}
}
