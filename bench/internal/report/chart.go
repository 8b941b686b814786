package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"regexp"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/peerd/peerd/bench/internal/measure"
)

// Chart is a chart: lines over numbers, or bars over names if X is nil.
type Chart struct {
	Name   string `json:"name"` // of its file
	Title  string `json:"title"`
	XLabel string `json:"x_label"`
	YLabel string `json:"y_label"`
	LogX   bool   `json:"log_x,omitempty"`
	LogY   bool   `json:"log_y,omitempty"`

	Names []string `json:"names,omitempty"` // of the groups of bars
	Lines []Line   `json:"lines"`

	Caption string `json:"-"` // up to two lines below: when and of what it was made
	Papers  bool   `json:"-"` // the project's papers show it: see Run.WriteForPapers
}

// Line is one system's points, or its bars, one for each name.
type Line struct {
	System string    `json:"system"`
	X      []float64 `json:"x,omitempty"`
	Y      Values    `json:"y"`
	Low    Values    `json:"low,omitempty"` // the spread
	High   Values    `json:"high,omitempty"`
	// Theory is a prediction: dashed, without points, and in the colour of the line before it whose
	// name it has.
	Theory bool `json:"theory,omitempty"`
}

// Point adds a point with its spread to a line.
func (l *Line) Point(x float64, y measure.Interval) {
	l.X = append(l.X, x)
	l.append(y)
}

// Bar adds a bar with its spread to a line. The zero interval is that of what was not measured.
func (l *Line) Bar(y measure.Interval) {
	if y == (measure.Interval{}) {
		y = measure.Interval{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	l.append(y)
}

// append adds a value with its spread. Beyond a factor of a thousand that says no more, and would
// press flat what is beside it: two rounds that differ by as much have a spread of 10¹⁸.
func (l *Line) append(y measure.Interval) {
	if y.Value > 0 {
		y.Low, y.High = max(y.Low, y.Value/1000), min(y.High, y.Value*1000)
	}
	l.Y, l.Low, l.High = append(l.Y, y.Value), append(l.Low, y.Low), append(l.High, y.High)
}

// colours tell up to eight systems apart, by those who see few colours as well (Okabe and Ito), on
// white and on dark.
var colours = []color.RGBA{
	{0x00, 0x72, 0xb2, 255}, {0xd5, 0x5e, 0x00, 255}, {0x00, 0x9e, 0x73, 255}, {0xcc, 0x79, 0xa7, 255},
	{0xe6, 0x9f, 0x00, 255}, {0x56, 0xb4, 0xe9, 255}, {0x80, 0x80, 0x80, 255}, {0xb0, 0xa0, 0x20, 255},
}

const chartWidth, chartHeight = 18 * vg.Centimeter, 9 * vg.Centimeter

// SVG draws the chart. Black is the colour of the text around it, so that it can be read on dark as
// on paper.
func (c Chart) SVG() (string, error) {
	plot.DefaultFont.Variant = "Sans" // what Arial is as wide as
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title, c.XLabel, c.YLabel
	p.BackgroundColor = nil                  // that of the page
	p.Legend.Top, p.Legend.Left = true, true // names run free to the right, whatever the font
	p.Legend.Padding = vg.Millimeter
	p.Add(faintGrid())
	var err error
	if c.Names != nil {
		err = c.bars(p)
	} else {
		err = c.lines(p)
	}
	if err != nil {
		return "", err
	}
	c.axes(p)
	canvas := vgsvg.New(chartWidth, chartHeight)
	area := draw.Crop(draw.New(canvas), 0, -3*vg.Millimeter, 0, 0) // the last number of the axis
	if c.Caption != "" {
		style := p.X.Tick.Label
		style.XAlign, style.YAlign = draw.XLeft, draw.YBottom
		area.FillText(style, vg.Point{X: 2 * vg.Millimeter, Y: vg.Millimeter}, c.Caption)
		area = draw.Crop(area, 0, 0, 11*vg.Millimeter, 0)
	}
	p.Draw(area)
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", err
	}
	return adapt(out.String()), nil
}

func faintGrid() *plotter.Grid {
	grid := plotter.NewGrid()
	faint := color.RGBA{0x80, 0x80, 0x80, 70}
	grid.Vertical.Color, grid.Horizontal.Color = faint, faint
	return grid
}

// colour is that of a line: of a prediction, that of what was measured under its name.
func (c Chart) colour(i int) color.RGBA {
	of := slices.IndexFunc(c.Lines, func(l Line) bool { return l.System == c.Lines[i].System })
	return colours[of%len(colours)]
}

func (c Chart) lines(p *plot.Plot) error {
	measured := 0
	var paired *plotter.Line
	for i, l := range c.Lines {
		points := make(plotter.XYs, 0, len(l.X))
		var errors plotter.YErrors
		for j := range l.X {
			if c.LogX && l.X[j] <= 0 || c.LogY && l.Y[j] <= 0 {
				continue
			}
			points = append(points, plotter.XY{X: l.X[j], Y: l.Y[j]})
			var e struct{ Low, High float64 }
			if l.Low != nil && (!c.LogY || l.Low[j] > 0) {
				e.Low, e.High = l.Y[j]-l.Low[j], l.High[j]-l.Y[j]
			}
			errors = append(errors, e)
		}
		if len(points) == 0 {
			continue
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, marks.Color, marks.Radius = c.colour(i), c.colour(i), vg.Millimeter*0.8
		line.Width = vg.Millimeter * 0.5
		if l.Theory {
			line.Dashes = []vg.Length{vg.Millimeter * 1.5, vg.Millimeter}
			p.Add(line)
			if slices.ContainsFunc(c.Lines[:i], func(o Line) bool { return o.System == l.System }) {
				paired = line
			} else {
				p.Legend.Add(l.System, line)
			}
			continue
		}
		marks.Shape = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.PyramidGlyph{}}[measured%3]
		measured++
		bars, err := plotter.NewYErrorBars(struct {
			plotter.XYer
			plotter.YErrorer
		}{points, errors})
		if err != nil {
			return err
		}
		bars.Color = line.Color
		p.Add(line, marks, bars)
		p.Legend.Add(l.System, line, marks)
	}
	if paired != nil {
		p.Legend.Add("predicted", paired)
	}
	return nil
}

func (c Chart) bars(p *plot.Plot) error {
	width := chartWidth * 0.75 / vg.Length(max(1, len(c.Names)*(len(c.Lines)+1)))
	for i, l := range c.Lines {
		heights := make(plotter.Values, len(l.Y))
		for j, y := range l.Y {
			if !math.IsNaN(y) {
				heights[j] = y
			}
		}
		bars, err := plotter.NewBarChart(heights, min(width, vg.Centimeter))
		if err != nil {
			return err
		}
		bars.Color, bars.LineStyle.Width = colours[i%len(colours)], 0
		bars.Offset = min(width, vg.Centimeter) * (vg.Length(i) - vg.Length(len(c.Lines)-1)/2)
		p.Add(bars)
		if l.Low != nil {
			p.Add(barSpread{l, bars.Offset, p.X.Tick.Label})
		}
		p.Legend.Add(l.System, bars)
	}
	p.NominalX(c.Names...)
	p.X.Label.Text = c.XLabel
	return nil
}

// barSpread draws the spreads of a line of bars, which the library does at whole numbers alone, and
// says where there is no bar.
type barSpread struct {
	Line
	offset vg.Length // as the bars have it
	text   draw.TextStyle
}

func (s barSpread) Plot(c draw.Canvas, p *plot.Plot) {
	toX, toY := p.Transforms(&c)
	style := draw.LineStyle{Color: color.Black, Width: vg.Millimeter * 0.2}
	none := s.text
	none.Rotation, none.XAlign, none.YAlign = math.Pi/2, draw.XLeft, draw.YCenter
	for i := range s.Y {
		if math.IsNaN(s.Y[i]) {
			c.FillText(none, vg.Point{X: toX(float64(i)) + s.offset, Y: toY(0) + vg.Millimeter}, "not measured")
			continue
		}
		if s.Low[i] == s.High[i] {
			continue
		}
		x, low, high := toX(float64(i))+s.offset, toY(s.Low[i]), toY(s.High[i])
		c.StrokeLine2(style, x, low, x, high)
		for _, y := range []vg.Length{low, high} {
			c.StrokeLine2(style, x-vg.Millimeter/2, y, x+vg.Millimeter/2, y)
		}
	}
}

// DataRange has the axes reach as far as the spreads.
func (s barSpread) DataRange() (xmin, xmax, ymin, ymax float64) {
	xmax = float64(len(s.Y) - 1)
	for _, y := range s.High.measured() {
		ymax = max(ymax, y)
	}
	return 0, xmax, 0, ymax
}

// systems returns the names in the legend.
func (c Chart) systems() (names []string) {
	for _, l := range c.Lines {
		if !slices.Contains(names, l.System) {
			names = append(names, l.System)
		}
	}
	return names
}

// axes leaves room for the legend above what was measured, and begins at nothing.
func (c Chart) axes(p *plot.Plot) {
	if math.IsInf(p.X.Min, 0) || math.IsInf(p.Y.Min, 0) { // nothing was measured
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
		return
	}
	if c.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, decades{}
		if p.X.Min == p.X.Max { // one more to either side, as the library would have it, could be nothing
			p.X.Min, p.X.Max = p.X.Min/2, p.X.Max*2
		}
	}
	if c.LogY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
		low, high := math.Floor(math.Log10(max(p.Y.Min, 1e-9))), math.Log10(max(p.Y.Max, 1e-9))
		high = max(math.Ceil(high), high+(high-low)*0.1*float64(len(c.systems())), low+1)
		p.Y.Min, p.Y.Max = math.Pow(10, low), math.Pow(10, high)
		return
	}
	p.Y.Min = min(p.Y.Min, 0)
	if p.Y.Max <= p.Y.Min {
		p.Y.Max = p.Y.Min + 1
	}
	p.Y.Max *= 1.15 + 0.1*float64(len(c.systems()))
	p.Y.Tick.Marker = plain{}
}

// decades marks powers of ten, with short numbers.
type decades struct{}

func (decades) Ticks(low, high float64) (ticks []plot.Tick) {
	few := high < 30*low // powers of ten alone would be one number, or none
	for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
		at := math.Pow(10, e)
		if at >= low*0.999 && at <= high*1.001 {
			ticks = append(ticks, plot.Tick{Value: at, Label: short(at)})
		}
		for m := 2.0; m < 10; m++ {
			if at*m >= low && at*m <= high {
				t := plot.Tick{Value: at * m}
				if few && (m == 2 || m == 3 || m == 5) {
					t.Label = short(at * m)
				}
				ticks = append(ticks, t)
			}
		}
	}
	return ticks
}

// plain marks what the library would, with short numbers.
type plain struct{}

func (plain) Ticks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range ticks {
		if t.Label != "" {
			ticks[i].Label = short(t.Value)
		}
	}
	return ticks
}

// short writes a number of an axis: 20k, 1.5M.
func short(x float64) string {
	for _, s := range []struct {
		from   float64
		suffix string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(x) >= s.from {
			return fmt.Sprintf("%.4g%s", x/s.from, s.suffix)
		}
	}
	return fmt.Sprintf("%.4g", x)
}

var fonts = regexp.MustCompile(`font-family:[^;"]*`)

// adapt makes a drawing readable wherever it is shown: alone it follows the reader's scheme, in a
// page the page's text.
func adapt(svg string) string {
	svg = strings.NewReplacer("fill:#000000", "fill:currentColor", "stroke:#000000", "stroke:currentColor").Replace(svg)
	svg = fonts.ReplaceAllString(svg, "font-family:Arial,Helvetica,sans-serif")
	if i := strings.Index(svg, "<svg"); i >= 0 {
		svg = svg[i:]
	}
	end := strings.Index(svg, ">")
	style := "\n<style>svg{color:#222;fill:currentColor}@media(prefers-color-scheme:dark){svg{color:#ddd}}@media " +
		"print{svg{color:#000}}</style>"
	return svg[:end+1] + style + svg[end+1:]
}
