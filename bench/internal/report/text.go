package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"github.com/peerd/peerd/bench/internal/measure"
)

func interval(i measure.Interval) string {
	if i.Low == i.High {
		return Number(i.Value)
	}
	return fmt.Sprintf("%s (%s–%s)", Number(i.Value), Number(i.Low), Number(i.High))
}

// cell is what the tables say of one system in a row.
type cell struct {
	Value, Missing, Ratio, Verdict string
}

func (r *Row) cell(system string) cell {
	for _, o := range r.Of {
		if o.System != system {
			continue
		}
		if o.Spread == nil {
			return cell{Value: "not measured"}
		}
		c := cell{Value: interval(*o.Spread), Missing: r.missing(o), Verdict: r.verdict(o)}
		if o.Ratio != nil {
			c.Ratio = interval(*o.Ratio)
		}
		return c
	}
	return cell{Value: "–"}
}

// loses returns the rivals that are better than the first system.
func (r *Row) loses() (rivals []string) {
	for _, o := range r.Of {
		if r.verdict(o) == "loses" {
			rivals = append(rivals, o.System)
		}
	}
	return rivals
}

// Lost returns what the first system loses, a line each: a report that hides it is worth nothing.
func (s *Scenario) Lost() (lines []string) {
	for _, r := range s.Rows {
		if rivals := r.loses(); rivals != nil {
			lines = append(lines, fmt.Sprintf("%s (%s): behind %s", r.What, r.Unit, strings.Join(rivals, ", ")))
		}
		if q := r.quotient(); q != nil && !q.Holds(1) && (q.Value < 1) != r.Less {
			lines = append(lines, fmt.Sprintf("%s: %s", r.What, interval(*q)))
		}
	}
	return lines
}

// quotient is what a row of quotients has measured, of rounds enough for an interval; nil of other rows.
func (r *Row) quotient() *measure.Interval {
	if r.Unit != Quotient || len(r.Of) == 0 || len(r.Of[0].Rounds.measured()) < 3 {
		return nil
	}
	return r.Of[0].Spread
}

const howToRead = "Each figure is the median of its rounds, with its 95% interval in " +
	"parentheses. Below it stands the " +
	"ratio of the first system to this one, pair by pair within rounds: of a row with ↑ more is " +
	"better, with ↓ less. – is what a system does not do, or what was not measured in any round. " +
	"Where the interval of the ratio has 1 in it the run does not say who is faster."

// Markdown is the report as text.
func (r *Run) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# peerd beside others\n\n%s. `%s`, %s.", r.Heading(), r.Command, r.Took)
	if r.Quick {
		b.WriteString(" **Quick: small sizes and few rounds, to see that all runs; not for " +
			"judging.**")
	}
	if warning := r.Machine.Warning(); warning != "" {
		fmt.Fprintf(&b, "\n\n**%s**", warning)
	}
	fmt.Fprintf(&b, "\n\n%s\n", howToRead)
	for _, s := range r.Scenarios {
		s.markdown(&b)
	}
	return b.String()
}

func (s *Scenario) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n%s. Repeat it with `%s` (%s).\n\n", s.Name, s.About, s.Command, s.Took)
	if s.Failure != "" {
		fmt.Fprintf(b, "**Not measured to its end:** %s\n\n", oneLine(s.Failure))
	}
	b.WriteString("| system | version | settings | durability |\n|---|---|---|---|\n")
	for _, o := range s.Systems {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", oneLine(o.Name), oneLine(o.Version), oneLine(o.Settings),
			oneLine(o.Durability))
	}
	b.WriteString("\n")
	list(b, "Load", s.Settings)
	list(b, "To be known", s.Notes)
	var skipped []string
	for _, o := range s.Skipped {
		skipped = append(skipped, o.What+": "+oneLine(o.Why))
	}
	list(b, "Not measured", skipped)
	if len(s.Rows) > 0 {
		b.WriteString("| |")
		for _, o := range s.Systems {
			fmt.Fprintf(b, " %s |", o.Name)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(s.Systems)) + "\n")
		for _, r := range s.Rows {
			fmt.Fprintf(b, "| %s |", r.heading())
			for _, o := range s.Systems {
				c := r.cell(o.Name)
				fmt.Fprintf(b, " %s", c.Value)
				if c.Missing != "" {
					fmt.Fprintf(b, ", %s", c.Missing)
				}
				switch {
				case c.Ratio != "":
					fmt.Fprintf(b, "<br>× %s %s", c.Ratio, c.Verdict)
				case c.Verdict != "":
					fmt.Fprintf(b, "<br>%s", c.Verdict)
				}
				b.WriteString(" |")
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	if len(s.Systems) > 0 {
		list(b, "Where "+s.Systems[0].Name+" loses", s.Lost())
	}
	for _, c := range s.Charts {
		fmt.Fprintf(b, "![%s](%s-%s.svg)\n\n", c.Title, s.Name, c.Name)
	}
}

func (r *Row) heading() string {
	arrow := "↑"
	if r.Less {
		arrow = "↓"
	}
	return fmt.Sprintf("%s, %s %s", r.What, r.Unit, arrow)
}

func list(b *strings.Builder, what string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "%s:\n\n", what)
	for _, line := range lines {
		fmt.Fprintf(b, "- %s\n", line)
	}
	b.WriteString("\n")
}

// oneLine makes an error fit into a table.
func oneLine(text string) string {
	return strings.NewReplacer("\n", " / ", "|", "¦").Replace(text)
}

// HTML is the report as one file, with the charts inside.
func (r *Run) HTML() ([]byte, error) {
	var b bytes.Buffer
	err := page.Execute(&b, r)
	return b.Bytes(), err
}

//go:embed page.html
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"how":     func() string { return howToRead },
	"cell":    (*Row).cell,
	"heading": (*Row).heading,
	"chart": func(c Chart) (template.HTML, error) {
		svg, err := c.SVG()
		return template.HTML(svg), err // its texts were escaped by who drew it
	},
}).Parse(pageText))
