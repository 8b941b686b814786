package console

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	browserpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var update = flag.Bool("update", false, "write the screenshots in docs/console anew")

// patience is how long the test waits for what it expects to see.
const patience = 30 * time.Second

// browser is one Chromium for all tests. Each daemon is a site of its own to it, as its port is.
var browser = sync.OnceValue(func() context.Context {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.Flag("hide-scrollbars", true))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	endBrowser = end
	ctx, _ = chromedp.NewContext(ctx)
	if err := chromedp.Run(ctx); err != nil {
		panic(fmt.Sprintf("cannot start Chromium (apt-get install chromium): %v", err))
	}
	return ctx
})

var endBrowser = func() {}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	endBrowser()
	removeProgram()
	os.Exit(code)
}

// page is a tab.
type page struct {
	t    *testing.T
	ctx  context.Context
	base string // "http://ip:port"

	mu       sync.Mutex
	problems []string // errors of scripts, what the policy forbade, requests elsewhere
	password string   // that is typed when one is asked for; empty: the question is dismissed
	asked    int      // times that it was
}

// newPage opens a tab that asks a server; nothing is loaded yet.
func newPage(t *testing.T, base string) *page {
	ctx, closeTab := chromedp.NewContext(browser())
	t.Cleanup(closeTab)
	p := &page{t: t, ctx: ctx, base: base}
	chromedp.ListenTarget(ctx, p.heard)
	if err := chromedp.Run(ctx); err != nil { // not with a limit: the tab would be closed with it
		t.Fatal(err)
	}
	p.run(runtime.Enable(), log.Enable(), network.Enable(), colours("light"), browserpage.BringToFront(),
		emulation.SetFocusEmulationEnabled(true))
	p.window(1180, 900, false)
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, problem := range p.problems {
			t.Error(problem)
		}
	})
	return p
}

// heard notes what Chromium tells of the tab.
func (p *page) heard(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.problems = append(p.problems, "a script failed: "+e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		if e.Entry.Source == log.SourceSecurity {
			p.problems = append(p.problems, "forbidden: "+e.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		at, err := url.Parse(e.Request.URL)
		if err != nil || at.Scheme != "data" && "http://"+at.Host != p.base {
			p.problems = append(p.problems, "asked elsewhere: "+e.Request.URL)
		}
	case *fetch.EventRequestPaused:
		p.later(fetch.ContinueRequest(e.RequestID))
	case *fetch.EventAuthRequired:
		p.asked++
		answer := &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseCancelAuth}
		if p.password != "" {
			answer.Response = fetch.AuthChallengeResponseResponseProvideCredentials
			answer.Username, answer.Password = "anyone", p.password
		}
		p.later(fetch.ContinueWithAuth(e.RequestID, answer))
	}
}

// later does something that cannot be done while an event is heard. An error is that the tab was
// closed.
func (p *page) later(action chromedp.Action) { go func() { _ = chromedp.Run(p.ctx, action) }() }

func (p *page) run(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// colours sets whether a person prefers "light" or "dark".
func colours(scheme string) chromedp.Action {
	return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}})
}

func (p *page) window(width, height int64, telephone bool) {
	p.t.Helper()
	p.run(emulation.SetDeviceMetricsOverride(width, height, 1, telephone))
}

// open loads the page and waits until it shows how the host is.
func (p *page) open() {
	p.t.Helper()
	p.run(chromedp.Navigate(p.base + "/"))
	p.until("the state of the host is shown", `!document.getElementById("state").textContent.includes("asking")`)
}

// until waits until an expression is true of the page.
func (p *page) until(what, expression string) {
	p.t.Helper()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	ok := false
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if p.run(chromedp.Evaluate(expression, &ok)); ok {
			return
		}
	}
	p.t.Fatalf("not within %v: %s. The page shows:\n%s", patience, what, p.text("body"))
}

// text returns what a person reads in an element.
func (p *page) text(selector string) (text string) {
	p.t.Helper()
	p.run(chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q).innerText", selector), &text))
	return text
}

// sees waits until an element shows all of the texts.
func (p *page) sees(selector string, texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.until(fmt.Sprintf("%s shows %q", selector, text),
			fmt.Sprintf("(document.querySelector(%q)?.innerText || '').includes(%q)", selector, text))
	}
}

// seesNo waits until an element does not show a text.
func (p *page) seesNo(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%s does not show %q", selector, text),
		fmt.Sprintf("!(document.querySelector(%q)?.innerText || '').includes(%q)", selector, text))
}

// press clicks the button that shows a text.
func (p *page) press(text string) {
	p.t.Helper()
	p.until("there is a button "+text, fmt.Sprintf(`[...document.querySelectorAll("button")].some(
		(b) => b.innerText === %q && b.offsetParent)`, text))
	p.run(chromedp.Click(fmt.Sprintf(`//button[normalize-space()=%q]`, text), chromedp.BySearch))
}

// settle clicks the button with a label, that keeps one of the values of a conflict.
func (p *page) settle(label string) {
	p.t.Helper()
	selector := fmt.Sprintf("button[aria-label=%q]", label)
	p.until("there is a button "+label, fmt.Sprintf("document.querySelector(%q)?.offsetParent", selector)+" != null")
	p.run(chromedp.Click(selector, chromedp.ByQuery))
}

// list lists the keys that begin so.
func (p *page) list(prefix string) {
	p.t.Helper()
	p.run(chromedp.Evaluate(`document.getElementById("prefix").value = ""`, nil))
	p.run(chromedp.SendKeys("#prefix", prefix, chromedp.ByQuery))
	p.press("List")
}

// key types a key of the keyboard.
func (p *page) key(key string) {
	p.t.Helper()
	p.run(chromedp.KeyEvent(key))
}

// tabTo presses the tab key until an element has the focus, and checks that each that has it
// shows so.
func (p *page) tabTo(selector string) {
	p.t.Helper()
	for range 60 {
		p.key(kb.Tab)
		var at struct {
			There, Shown bool
			Name         string
		}
		p.run(chromedp.Evaluate(fmt.Sprintf(`(() => { const e = document.activeElement; return {
			There: e.matches(%q), Name: e.outerHTML.slice(0, 80),
			Shown: e.matches(":focus-visible") && getComputedStyle(e).outlineStyle !== "none" }; })()`, selector), &at))
		if !at.Shown {
			p.t.Errorf("nothing shows that the focus is at %s", at.Name)
		}
		if at.There {
			return
		}
	}
	p.t.Fatalf("the tab key does not reach %s", selector)
}

// keep takes a screenshot, and keeps it in docs/console with -update.
func (p *page) keep(name string) {
	p.t.Helper()
	var shot []byte
	p.run(chromedp.CaptureScreenshot(&shot))
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil || picture.Bounds().Dx() < 300 {
		p.t.Fatalf("screenshot %s: %v", name, err)
	}
	if !*update {
		return
	}
	few := image.NewPaletted(picture.Bounds(), commonest(picture))
	draw.Draw(few, few.Bounds(), picture, image.Point{}, draw.Src)
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, few); err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join("..", "..", "..", "docs", "console", name+".png")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// commonest returns the 256 commonest colours of a picture: the rest is the edges of letters.
func commonest(picture image.Image) (colours color.Palette) {
	counts := map[color.Color]int{}
	for y := range picture.Bounds().Dy() {
		for x := range picture.Bounds().Dx() {
			counts[picture.At(x, y)]++
		}
	}
	for c := range counts {
		colours = append(colours, c)
	}
	slices.SortFunc(colours, func(a, b color.Color) int { return counts[b] - counts[a] })
	return colours[:min(len(colours), 256)]
}

// reads reports whether a text is in what an element shows, without waiting.
func (p *page) reads(selector, text string) bool {
	p.t.Helper()
	return strings.Contains(p.text(selector), text)
}
