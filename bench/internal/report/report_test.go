package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/bench/internal/measure"
)

// sample is a run in which peerd wins one row, loses one, and one is undecided.
func sample() *Run {
	r := &Run{Began: time.Unix(1e9, 0), Command: "go -C bench run . kv", Commit: "abc", Machine: ThisMachine()}
	s := &Scenario{Name: "kv", About: "keys <and> values", Command: "go -C bench run . kv"}
	s.System("peerd", "this tree", "as it comes", "every second")
	s.System("redis", "7", "as it comes", "every second")
	s.System("valkey", "8\n", "as | it comes", "every second")
	s.Skip("valkey", errors.New("no | such\nthing"))
	for i, noise := range []float64{1, 0.5, 2, 1.5} { // of the machine, in each round
		s.Round(i+1, 4)
		s.More("SET", "a second", "redis", 1000*noise) // who is first in a round must not matter
		s.More("SET", "a second", "peerd", 2000*noise)
		s.Less("latency", "ms", "peerd", 3*noise)
		s.Less("latency", "ms", "redis", 1*noise)
		s.More("GET", "a second", "peerd", 100+float64(i%2*20))
		s.More("GET", "a second", "redis", 110)
	}
	line := Line{System: "peerd"}
	line.Point(1, measure.Interval{Value: 2, Low: 1, High: 3})
	line.Point(10, measure.Interval{Value: 20, Low: 10, High: 30})
	s.Charts = []Chart{
		{Name: "lines", Title: "a < b & c", XLabel: "x", YLabel: "y", LogX: true, LogY: true, Lines: []Line{line,
			{System: "theory", X: []float64{1, 10}, Y: []float64{2, 21}, Theory: true}}},
		{Name: "bars", Title: "bars", YLabel: "y", Names: []string{"SET", "GET"}, Lines: []Line{{System: "peerd", Y: []float64{1, 2}}}},
	}
	s.Finish()
	r.Scenarios = []*Scenario{s}
	return r
}

func TestRatiosAreOfRoundsAndSayWhoWins(t *testing.T) {
	s := sample().Scenarios[0]
	verdicts := map[string]string{}
	for _, r := range s.Rows {
		if r.Of[0].System != "peerd" || r.Of[0].Ratio != nil {
			t.Errorf("%s: the first system is %s", r.What, r.Of[0].System)
		}
		verdicts[r.What] = r.verdict(r.Of[1])
	}
	if verdicts["SET"] != "wins" || verdicts["latency"] != "loses" || verdicts["GET"] != "" {
		t.Errorf("the verdicts are %v", verdicts)
	}
	if set := s.Rows[0].Of[1]; *set.Ratio != (measure.Interval{Value: 2, Low: 2, High: 2}) {
		t.Errorf("the machine's noise is in the ratio: %+v", set.Ratio)
	}
	if lost := s.Lost(); len(lost) != 1 || lost[0] != "latency (ms): behind redis" {
		t.Errorf("what is lost is %q", lost)
	}
}

func TestWhatAClusterLosesIsSaid(t *testing.T) {
	s := &Scenario{Name: "kv"}
	s.System("peerd", "", "", "")
	for i, noise := range []float64{0.01, -0.01, 0} {
		s.Round(i+1, 3)
		s.More("SET, 3 peers divided by redis", Quotient, "3 peers", 0.5+noise)
		s.More("GET, 3 peers divided by redis", Quotient, "3 peers", 1.5+noise)
		s.Less("SET, p99, 3 peers divided by redis", Quotient, "3 peers", 2+noise)
		s.Less("GET, p99, 3 peers divided by redis", Quotient, "3 peers", 1+noise)
	}
	s.Finish()
	if lost := s.Lost(); len(lost) != 2 || !strings.HasPrefix(lost[0], "SET, 3 peers") || !strings.HasPrefix(lost[1], "SET, p99") {
		t.Errorf("what is lost is %q", lost)
	}
}

func TestAQuantileOfTooFewOperationsIsNone(t *testing.T) {
	s := &Scenario{Name: "kv"}
	for i, count := range []int{99, 100, 1000} {
		s.Round(i+1, 3)
		var o measure.Offered
		for range count {
			o.Latency.Observe(time.Millisecond)
		}
		s.Latencies("SET", "peerd", &o)
	}
	s.Finish()
	if want := []string{"No p99 of rounds that had fewer operations than the 100 that it needs, in: SET.",
		"No p99.9 of rounds that had fewer operations than the 1,000 that it needs, in: SET."}; !slices.Equal(s.Notes, want) {
		t.Errorf("the notes are %q", s.Notes)
	}
	got := map[string]int{}
	for _, r := range s.Rows {
		got[r.What] = len(r.Of[0].Rounds.measured())
	}
	if want := map[string]int{"SET: p50": 3, "SET: p99": 2, "SET: p99.9": 1}; !maps.Equal(got, want) {
		t.Errorf("rounds with a quantile: %v, want %v", got, want)
	}
}

func TestWhatAnOpenLoopDidNotBeginIsSaid(t *testing.T) {
	s := &Scenario{Name: "kv"}
	for i, left := range []int64{0, 20} {
		s.Round(i+1, 2)
		o := measure.Offered{Left: left}
		for range 1000 {
			o.Latency.Observe(time.Millisecond)
		}
		s.Latencies("SET", "peerd", &o)
	}
	if len(s.Notes) != 1 || !strings.HasPrefix(s.Notes[0],
		"SET of peerd: 20 of 1,000 operations were not answered") {
		t.Errorf("the notes are %q", s.Notes)
	}
}

// A rival that loses no write is better than one that does, though nothing can be divided by nothing;
// and a ratio that one round alone gave has no spread.
func TestNothingIsLessThanAnything(t *testing.T) {
	s := &Scenario{}
	s.System("peerd", "", "", "")
	s.System("raft", "", "", "")
	for i := range 3 {
		s.Round(i+1, 3)
		s.Less("lost", "writes", "peerd", 5)
		s.Less("lost", "writes", "raft", 0)
		s.More("done in a minority", "%", "peerd", 100)
		s.More("done in a minority", "%", "raft", 0)
		s.Less("old", "%", "peerd", 1)
		s.Less("old", "%", "raft", float64(i/2)*0.1) // 0, 0, 0.1
		s.Less("neither", "writes", "peerd", 0)
		s.Less("neither", "writes", "raft", 0)
		s.Less("not measured", "ms", "peerd", 5)
		s.Less("not measured", "ms", "raft", math.NaN())
	}
	s.Finish()
	for i, want := range []string{"loses", "wins", "", "", ""} {
		if got := s.Rows[i].verdict(s.Rows[i].Of[1]); got != want {
			t.Errorf("%s: %q, want %q", s.Rows[i].What, got, want)
		}
	}
	if lost := s.Lost(); len(lost) != 1 || lost[0] != "lost (writes): behind raft" {
		t.Errorf("what is lost is %q", lost)
	}
}

// Each round has a machine ten times as slow as that of the one before. A rival that is twice as slow
// gave nothing in the second.
func TestWhatARoundDidNotGiveIsNamedAndPairedWithNothing(t *testing.T) {
	s := &Scenario{Name: "kv"}
	s.System("peerd", "", "", "")
	s.System("redis", "", "", "")
	s.System("payload", "", "", "")
	for i, machine := range []float64{1, 10, 100, 1000} {
		s.Round(i+1, 4)
		s.Less("took", "ms", "peerd", machine)
		if i != 1 {
			s.Less("took", "ms", "redis", 2*machine)
			s.Less("last", "ms", "redis", 2*machine)
		}
		if i < 3 {
			s.Less("last", "ms", "peerd", machine)
		}
		s.Less("never", "ms", "peerd", math.NaN())
	}
	s.Round(0, 0)
	s.Less("took", "ms", "payload", 10)
	s.Finish()
	took, last := s.Rows[0].Of, s.Rows[1]
	half := measure.Interval{Value: 0.5, Low: 0.5, High: 0.5}
	if *took[1].Ratio != half || *last.Of[1].Ratio != half {
		t.Errorf("rounds are compared with others: %+v, %+v", took[1].Ratio, last.Of[1].Ratio)
	}
	if took[2].Ratio.Value != 5.5 || s.Rows[0].verdict(took[2]) != "" {
		t.Errorf("what holds in each round is not compared with each: %+v", took[2].Ratio)
	}
	if s.Rows[0].verdict(took[1]) != "wins" || last.verdict(last.Of[1]) != "" {
		t.Error("three pairs have a verdict, two have none")
	}
	text := (&Run{Scenarios: []*Scenario{s}}).Markdown()
	for _, want := range []string{", not measured in round 2 of 4", ", not measured in round 4 of 4", "| not measured |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "not measured in round"); n != 3 {
		t.Errorf("%d times it says in which round something was not measured:\n%s", n, text)
	}
	if found, err := json.Marshal(took[1]); err != nil || !strings.Contains(string(found), `"rounds":[2,null,200,2000]`) {
		t.Errorf("results.json has %s (%v)", found, err)
	}
}

func TestAReportIsFilesThatOpenOffline(t *testing.T) {
	dir := t.TempDir()
	if err := sample().Write(dir); err != nil {
		t.Fatal(err)
	}
	text := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	html, markdown := text("report.html"), text("report.md")
	for _, want := range []string{"× 2 wins", "loses", "valkey", "every second", "go -C bench " +
		"run . kv"} {
		if !strings.Contains(markdown, want) || !strings.Contains(html, want) {
			t.Errorf("%q is not in both texts", want)
		}
	}
	if !strings.Contains(markdown, "no ¦ such / thing") {
		t.Error("an error breaks the table")
	}
	if !strings.Contains(markdown, "| valkey | 8 /  | as ¦ it comes | every second |") {
		t.Error("a version breaks the table")
	}
	if strings.Count(html, "<svg") != 2 {
		t.Errorf("%d charts are inside", strings.Count(html, "<svg"))
	}
	for _, want := range []string{"color-scheme:light dark", "@media print{", "table{display:table",
		"td small{white-space:normal}"} {
		if !strings.Contains(html, want) {
			t.Errorf("it cannot be read in the dark, or on paper: there is no %q", want)
		}
	}
	for _, loads := range []string{"src=", "<link", "@import", "url(", "<script"} {
		if strings.Contains(html, loads) {
			t.Errorf("it loads something: %s", loads)
		}
	}
	var back struct {
		Scenarios []struct {
			Rows []struct {
				Systems []struct{ Rounds []float64 }
			}
		}
	}
	if err := json.Unmarshal([]byte(text("results.json")), &back); err != nil || len(back.Scenarios[0].Rows[0].Systems[0].Rounds) != 4 {
		t.Errorf("results.json: %v, %+v", err, back)
	}
	for _, name := range []string{"kv-lines.svg", "kv-bars.svg"} {
		svg := text(name)
		if strings.Contains(svg, "#000000") || strings.Contains(svg, "#-") ||
			!strings.Contains(svg, "svg{color:#222;fill:currentColor}") || !strings.Contains(svg, "prefers-color-scheme:dark") {
			t.Errorf("%s is black on dark", name)
		}
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// Two repetitions that are far apart have a spread of many powers of ten; and a figure may be 1 alone.
func TestChartsOfPowersBearAnySpread(t *testing.T) {
	wide := Line{System: "wide"}
	wide.Point(8, measure.Spread([]float64{20, 4000}))
	wide.Point(16, measure.Spread([]float64{0.02, 400_000}))
	one := Line{System: "one"}
	one.Point(1, measure.Spread([]float64{1}))
	for _, l := range []Line{wide, one} {
		svg, err := Chart{Name: l.System, LogX: true, LogY: true, Lines: []Line{l}}.SVG()
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("%s is drawn nowhere", l.System)
		}
	}
}

// TestAReportBearsAnySpread of two rounds that had nothing in common.
func TestAReportBearsAnySpread(t *testing.T) {
	for _, rounds := range [][]float64{{0.9, 1000}, {1e-6, 1e9}, {0, 1e15}} {
		r := sample()
		s := &Scenario{Name: "stalled"}
		s.System("peerd", "", "", "")
		s.System("redis", "", "", "")
		line := Line{System: "peerd"}
		for i, took := range rounds {
			s.Round(i+1, 2)
			s.Less("latency", "ms", "peerd", took)
			s.Less("latency", "ms", "redis", 1/(took+1))
		}
		line.Bar(measure.Spread(rounds))
		s.Charts = []Chart{{Name: "stalls", YLabel: "ms", Names: []string{"latency"}, Lines: []Line{line}}}
		s.Finish()
		r.Scenarios = append(r.Scenarios, s)
		if err := r.Write(t.TempDir()); err != nil {
			t.Errorf("rounds of %v: %v", rounds, err)
		}
	}
}

// Two bars with a spread have three strokes more each, and the axis reaches as far as they do.
func TestBarsHaveTheirSpread(t *testing.T) {
	draw := func(low, high float64) (svg string, strokes int) {
		line := Line{System: "peerd"}
		for range 2 {
			line.Bar(measure.Interval{Value: 2, Low: low, High: high})
		}
		svg, err := Chart{Name: "bars", YLabel: "y", Names: []string{"SET", "GET"},
			Lines: []Line{line}}.SVG()
		if err != nil {
			t.Fatal(err)
		}
		return svg, strings.Count(svg, "stroke:currentColor;stroke-width:0.56693")
	}
	_, without := draw(2, 2)
	if _, with := draw(1.9, 2.1); with != 6 || without != 0 {
		t.Errorf("there are %d strokes with spreads, %d without", with, without)
	}
	if svg, _ := draw(1, 700); !strings.Contains(svg, ">800<") {
		t.Error("the axis ends below the spread")
	}
}

func TestWhatWasNotMeasuredHasNoBarAndSaysSo(t *testing.T) {
	line := Line{System: "peerd"}
	line.Bar(measure.Interval{Value: 2, Low: 1, High: 3})
	line.Bar(measure.Interval{})
	svg, err := Chart{Name: "bars", YLabel: "y", Names: []string{"SET", "GET"}, Lines: []Line{line}}.SVG()
	if err != nil || strings.Count(svg, ">not measured<") != 1 {
		t.Errorf("the chart does not say it once: %v", err)
	}
	if text, err := json.Marshal(line); err != nil || !strings.Contains(string(text), `"y":[2,null]`) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestAReportOfSyncedWritesInMemorySaysSo(t *testing.T) {
	for files, want := range map[string]bool{"tmpfs": true, "ext2/ext3": false} {
		r := sample()
		r.Machine.Files = files
		html, err := r.HTML()
		for _, text := range []string{r.Markdown(), string(html)} {
			if strings.Contains(text, "what is synced reaches no disk") != want || err != nil {
				t.Errorf("of %s it is said: %v, %v", files, !want, err)
			}
		}
	}
}

func TestThePapersChartsSayWhatTheyAreOf(t *testing.T) {
	dir, r := t.TempDir(), sample()
	r.Scenarios[0].Charts[0].Papers = true
	if err := r.WriteForPapers(dir); err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Fatalf("%v are written, %v", files, err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "kv-lines.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2001-09-09, peerd abc", "redis 7"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

// Of a daemon that was not built here, no paper may say that it is of this commit. What has no
// version has no place there.
func TestACaptionNamesTheDaemonThatWasMeasured(t *testing.T) {
	r := sample()
	s := r.Scenarios[0]
	s.System("quorum", "", "", "")
	if got := r.caption(s); strings.Contains(got, "quorum") {
		t.Errorf("the caption is %q", got)
	}
	r.Daemon, s.Systems[0].Version = "v1.2.3 (def)", "v1.2.3 (def)"
	got := r.caption(s)
	if !strings.Contains(got, "peerd v1.2.3 (def), ") || strings.Contains(got, "abc") ||
		strings.Count(got, "v1.2.3") != 1 {
		t.Errorf("the caption is %q", got)
	}
	if got := r.Heading(); !strings.Contains(got, "commit abc, daemons v1.2.3 (def)") {
		t.Errorf("the heading is %q", got)
	}
}

func TestWhatCouldNotBeMeasuredIsStillAReport(t *testing.T) {
	r := sample()
	s := r.Scenarios[0]
	s.Less("nothing", "ms", "peerd", math.NaN())
	s.Less("nothing", "ms", "redis", 0)
	s.Failure = "the machine | melted"
	s.Charts = append(s.Charts, Chart{Name: "empty", LogY: true}, Chart{Name: "zero", LogX: true, LogY: true,
		Lines: []Line{{System: "peerd", X: []float64{0, 1}, Y: []float64{0, 0}, Low: []float64{0, 0}, High: []float64{0, 0}}}})
	s.Finish()
	if err := r.Write(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.Markdown(), "the machine ¦ melted") {
		t.Error("the failure is not told")
	}
}

// Who syncs each write and who syncs each second do not do the same work.
func TestSystemsThatAreUnlikeHaveNoRatio(t *testing.T) {
	s := &Scenario{}
	s.System("peerd", "", "", "synced each second")
	s.System("etcd", "", "", "each write synced")
	s.System("redis", "", "", "synced each second")
	s.Unlike("etcd")
	for i := range 3 {
		s.Round(i+1, 3)
		for system, took := range map[string]float64{"peerd": 5, "etcd": 4, "redis": 4} {
			s.Less("time", "s", system, took)
		}
	}
	s.Finish()
	if etcd, redis := s.Rows[0].Of[1], s.Rows[0].Of[2]; etcd.Ratio != nil ||
		s.Rows[0].verdict(etcd) != "" || redis.Ratio == nil {
		t.Errorf("etcd has the ratio %v, redis %v", etcd.Ratio, redis.Ratio)
	}
	if lost := s.Lost(); len(lost) != 1 || lost[0] != "time (s): behind redis" {
		t.Errorf("what is lost is %q", lost)
	}
}
