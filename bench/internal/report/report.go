// Package report is what a run of the harness leaves behind: results.json with every round,
// report.md, report.html, which is one file and opens offline, and the charts as SVG.
//
// A scenario records rows: what was measured of each system in each round. The report makes of a
// row each system's median with its spread, and the ratio of the first system to each other, of what
// both gave in the same round. What a round did not give, what was not on the same work, what could
// not be installed and what failed stand beside it.
package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/peerd/peerd/bench/internal/measure"
)

// Run is one run of the harness.
type Run struct {
	Began     time.Time   `json:"began"`
	Took      Seconds     `json:"took_seconds"`
	Command   string      `json:"command"`
	Quick     bool        `json:"quick"`
	Commit    string      `json:"commit"`           // of the harness, and of what it measures within itself
	Daemon    string      `json:"daemon,omitempty"` // the version of daemons that were not built from it
	Machine   Machine     `json:"machine"`
	Scenarios []*Scenario `json:"scenarios"`
}

// Seconds is a duration that is written as seconds.
type Seconds time.Duration

// MarshalJSON writes it as a number.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(math.Round(time.Duration(s).Seconds()*10) / 10)
}

// String writes it for people.
func (s Seconds) String() string { return time.Duration(s).Round(time.Second / 10).String() }

// Scenario is what one scenario found. Its methods may be called by several goroutines.
type Scenario struct {
	Name     string    `json:"name"`
	About    string    `json:"about"`
	Command  string    `json:"command"` // that repeats it
	Took     Seconds   `json:"took_seconds"`
	Systems  []System  `json:"systems"`
	Settings []string  `json:"settings,omitempty"` // of the load
	Skipped  []Skipped `json:"skipped,omitempty"`
	Notes    []string  `json:"notes,omitempty"` // where the work is not the same, and what else must be known
	Rows     []*Row    `json:"rows"`
	Charts   []Chart   `json:"charts,omitempty"`
	Failure  string    `json:"failure,omitempty"`

	mu        sync.Mutex
	round, of int                  // see Round
	unlike    []string             // see Unlike
	few       map[float64][]string // by quantile, what had too few operations for it
}

// System is one that was measured. The first of a scenario is the one that the others are compared
// with.
type System struct {
	Name       string `json:"name"`
	Version    string `json:"version"`
	Settings   string `json:"settings"`
	Durability string `json:"durability"`
}

// Skipped is what was not measured, and why.
type Skipped struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Row is one quantity, measured of some systems in the same rounds.
type Row struct {
	What string    `json:"what"`
	Unit string    `json:"unit"`
	Less bool      `json:"less_is_better"`
	Of   []*Series `json:"systems"`

	rounds int // that it was to be measured in, 0 if it is of no round
}

// Values are what was measured in each round, NaN where nothing was.
type Values []float64

// MarshalJSON writes null where nothing was measured.
func (v Values) MarshalJSON() ([]byte, error) {
	all := make([]*float64, len(v))
	for i := range v {
		if !math.IsNaN(v[i]) {
			all[i] = &v[i]
		}
	}
	return json.Marshal(all)
}

// measured is those that were.
func (v Values) measured() []float64 { return slices.DeleteFunc(slices.Clone(v), math.IsNaN) }

// Series is what was measured of one system.
type Series struct {
	System string            `json:"system"`
	Rounds Values            `json:"rounds"`                  // one value if it is of no round and holds in each
	Spread *measure.Interval `json:"median"`                  // nil if nothing was measured
	Ratio  *measure.Interval `json:"first_to_this,omitempty"` // the first system's value divided by this one's, round by round

	always  bool // it is of no round
	pairs   int  // of rounds that Ratio is of
	nothing bool // it has none in any round, and the first system some in each: there is no Ratio
}

// System says what is measured.
func (s *Scenario) System(name, version, settings, durability string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.Systems, func(o System) bool { return o.Name == name }) {
		s.Systems = append(s.Systems, System{name, version, settings, durability})
	}
}

// Unlike says that the first system is not compared with another: there is no ratio, and who wins
// is not said. A note is to say why.
func (s *Scenario) Unlike(system string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlike = append(s.unlike, system)
}

// Skip says what is not measured, and why.
func (s *Scenario) Skip(what string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Skipped = append(s.Skipped, Skipped{what, why.Error()})
}

// Note says what a reader must know to understand the rows.
func (s *Scenario) Note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if note := fmt.Sprintf(format, args...); !slices.Contains(s.Notes, note) {
		s.Notes = append(s.Notes, note)
	}
}

// Setting names one of the load's settings.
func (s *Scenario) Setting(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Settings = append(s.Settings, fmt.Sprintf(format, args...))
}

// Round says in which of how many rounds all is measured that is recorded from now on, the first of
// which is 1: only what is of one round is compared. With 0 of 0, as at first, it is of no round, as
// what theory says, and holds in each. Nothing is recorded twice in a round.
func (s *Scenario) Round(n, of int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.round, s.of = n, of
}

// Quotient is the unit of rows that were divided already, as those of a second system of ours by a rival. A report says
// where one is lost as where a ratio is.
const Quotient = "×"

// More and Less record the value of the round, of a quantity of which more, or less, is better. NaN
// says that it could not be measured, as does a round in which it is not recorded.
func (s *Scenario) More(what, unit, system string, value float64) {
	s.record(what, unit, system, value, false)
}

// Less is More where less is better.
func (s *Scenario) Less(what, unit, system string, value float64) {
	s.record(what, unit, system, value, true)
}

func (s *Scenario) record(what, unit, system string, value float64, less bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.Rows, func(r *Row) bool { return r.What == what && r.Unit == unit })
	if i < 0 {
		i = len(s.Rows)
		s.Rows = append(s.Rows, &Row{What: what, Unit: unit, Less: less})
	}
	r := s.Rows[i]
	j := slices.IndexFunc(r.Of, func(o *Series) bool { return o.System == system })
	if j < 0 {
		j = len(r.Of)
		r.Of = append(r.Of, &Series{System: system})
	}
	if math.IsInf(value, 0) {
		value = math.NaN() // something was divided by none
	}
	o := r.Of[j]
	r.rounds, o.always = max(r.rounds, s.of), s.round == 0
	for len(o.Rounds) < max(1, s.round) {
		o.Rounds = append(o.Rounds, math.NaN())
	}
	if !math.IsNaN(o.Rounds[max(1, s.round)-1]) {
		panic(fmt.Sprintf("%s of %s is recorded twice in round %d: see Round", what, system, s.round))
	}
	o.Rounds[max(1, s.round)-1] = value
}

// Latencies records the quantiles of one round of an open loop, of those that had enough
// operations for them, and notes how many were not begun.
func (s *Scenario) Latencies(what, system string, o *measure.Offered) {
	s.NotBegun(what, system, o)
	l := &o.Latency
	for _, q := range []float64{0.5, 0.99, 0.999} {
		took := math.NaN()
		if l.Count() > 0 {
			if !s.Enough(what, q, l) {
				continue
			}
			took = l.Milliseconds(q)
		}
		s.Less(what+": "+quantile(q), "ms", system, took)
	}
}

// Enough reports whether operations are enough for a quantile of a round. Where there were some, and
// too few, the report says so.
func (s *Scenario) Enough(what string, q float64, l *measure.Latencies) bool {
	if l.Enough(q) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.Count() > 0 && !slices.Contains(s.few[q], what) {
		if s.few == nil {
			s.few = map[float64][]string{}
		}
		s.few[q] = append(s.few[q], what)
	}
	return false
}

// quantile names one: p99.9.
func quantile(q float64) string { return fmt.Sprintf("p%.4g", 100*q) }

// NotBegun notes how many operations of an open loop were not begun before its end, if any: they
// count as having taken until then, which is too little.
func (s *Scenario) NotBegun(what, system string, o *measure.Offered) {
	if o.Left > 0 {
		s.Note("%s of %s: %s of %s operations were not answered by the end, and count as having taken until then: "+
			"its latencies are too low.", what, system, Count(int(o.Left)), Count(int(o.Latency.Count())))
	}
}

// Spread returns what was measured of a system so far: zeros if nothing was.
func (s *Scenario) Spread(what, system string) measure.Interval {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.Rows {
		for _, o := range r.Of {
			if found := o.Rounds.measured(); r.What == what && o.System == system && len(found) > 0 {
				return measure.Spread(found)
			}
		}
	}
	return measure.Interval{}
}

// Median is Spread without the spread.
func (s *Scenario) Median(what, system string) float64 { return s.Spread(what, system).Value }

// Finish works out medians, spreads and ratios, and notes what they are not of.
func (s *Scenario) Finish() {
	for _, q := range slices.Sorted(maps.Keys(s.few)) {
		s.Note("No %s of rounds that had fewer operations than the %s that it needs, in: %s.", quantile(q),
			Count(int(math.Round(1/(1-q)))), strings.Join(s.few[q], "; "))
	}
	for _, r := range s.Rows {
		slices.SortStableFunc(r.Of, func(a, b *Series) int { return s.rank(a.System) - s.rank(b.System) })
		for i, o := range r.Of {
			if found := o.Rounds.measured(); len(found) > 0 {
				spread := measure.Spread(found)
				o.Spread = &spread
			}
			if i > 0 && s.rank(r.Of[0].System) == 0 && !slices.Contains(s.unlike, o.System) {
				r.divide(r.Of[0], o)
			}
		}
	}
}

// divide works out the ratio of what was measured of two systems in the same rounds.
func (r *Row) divide(first, o *Series) {
	var above, below []float64
	o.pairs = 0
	for round := range max(1, r.rounds) {
		a, b := first.in(round), o.in(round)
		if math.IsNaN(a) || math.IsNaN(b) {
			continue
		}
		above, below = append(above, a), append(below, b)
		if b > 0 {
			o.pairs++
		}
	}
	if o.pairs > 0 {
		ratio := measure.Ratio(above, below)
		o.Ratio = &ratio
	}
	o.nothing = len(above) == r.rounds && len(above) > 0 && slices.Max(below) == 0 && slices.Min(above) > 0
}

// in returns what was measured in a round, the first of which is 0, or NaN.
func (o *Series) in(round int) float64 {
	switch {
	case o.always:
		return o.Rounds[0]
	case round < len(o.Rounds):
		return o.Rounds[round]
	}
	return math.NaN()
}

// missing says in which rounds nothing was measured of a system.
func (r *Row) missing(o *Series) string {
	var rounds []string
	for round := range r.rounds {
		if math.IsNaN(o.in(round)) {
			rounds = append(rounds, fmt.Sprint(round+1))
		}
	}
	switch len(rounds) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("not measured in round %s of %d", rounds[0], r.rounds)
	}
	return fmt.Sprintf("not measured in rounds %s of %d", strings.Join(rounds, ", "), r.rounds)
}

// rank is where a system stands among those of the scenario.
func (s *Scenario) rank(name string) int {
	i := slices.IndexFunc(s.Systems, func(o System) bool { return o.Name == name })
	if i < 0 {
		return len(s.Systems)
	}
	return i
}

// verdict says what a ratio means for the first system: that it wins or loses, or nothing if the
// spread has 1 in it, there are too few rounds for a spread, or the other is no system but what
// theory says. Nothing is less than anything.
func (r *Row) verdict(o *Series) string {
	switch {
	case o.always:
		return ""
	case o.nothing && r.rounds >= 3:
		if r.Less {
			return "loses"
		}
		return "wins"
	case o.Ratio == nil || o.Ratio.Holds(1) || o.pairs < 3:
		return ""
	case (o.Ratio.Value > 1) != r.Less:
		return "wins"
	}
	return "loses"
}

// WriteCharts writes charts into a directory, each as the SVG that its name says after a prefix.
func WriteCharts(dir, prefix string, charts []Chart) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range charts {
		svg, err := c.SVG()
		if err != nil {
			return fmt.Errorf("chart %s%s: %w", prefix, c.Name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, prefix+c.Name+".svg"), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// WriteForPapers writes those charts of the run that the project's papers show, each with a line
// that says when, where and of which versions it was made.
func (r *Run) WriteForPapers(dir string) error {
	for _, s := range r.Scenarios {
		var shown []Chart
		for _, c := range s.Charts {
			if !c.Papers {
				continue
			}
			c.Caption = r.caption(s)
			shown = append(shown, c)
		}
		if err := WriteCharts(dir, s.Name+"-", shown); err != nil {
			return err
		}
	}
	return nil
}

// caption says when, where and of which versions a scenario's charts were made.
func (r *Run) caption(s *Scenario) string {
	peerd := r.Commit
	if len(s.Systems) > 0 && r.Daemon != "" && s.Systems[0].Version == r.Daemon {
		peerd = r.Daemon
	}
	first := fmt.Sprintf("%s, peerd %s, %d × %s, load %s at the start",
		r.Began.UTC().Format("2006-01-02"), peerd,
		r.Machine.Cores, r.Machine.Processor, r.Machine.Load)
	if r.Quick {
		first += ", --quick"
	}
	var versions []string
	for _, o := range s.Systems {
		if o.Version != "this tree" && o.Version != r.Daemon && o.Version != "" {
			versions = append(versions, o.Name+" "+o.Version)
		}
	}
	return first + "\n" + strings.Join(versions, ", ")
}

// Write writes all files of the run into a directory. It may be called again when more is known.
func (r *Run) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	results, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	files := map[string][]byte{"results.json": append(results, '\n'), "report.md": []byte(r.Markdown())}
	for _, s := range r.Scenarios {
		if err := WriteCharts(dir, s.Name+"-", s.Charts); err != nil {
			return err
		}
	}
	if files["report.html"], err = r.HTML(); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
