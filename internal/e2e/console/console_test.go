package console

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/fetch"
	browserpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestEachHostShowsTheWholeCluster(t *testing.T) {
	oslo, lima := pair(t)
	web := oslo.connect()
	web.run("CLIENT SETNAME web")
	for i := range 40 {
		web.run(fmt.Sprintf("SET user:%02d visitor-%d", i, i))
	}
	oslo.put("ann", object{"type": "map", "fields": []object{
		{"name": "mail", "type": "string", "value": "ann@example.com"},
		{"name": "groups", "type": "set", "elements": []string{"staff", "admins"}},
		{"name": "active", "type": "flag", "enabled": true}}})
	lima.holds("ann", "admins")

	for _, d := range []*daemon{oslo, lima} {
		p := newPage(t, d.base())
		p.open()
		p.sees("#state", "ready")
		p.sees("#host-list", "oslo", "lima", "this host", "linked", "0 writes", "0 s", "free", "±")
		if p.reads("#host-list", "away") {
			t.Errorf("%s shows a host as away:\n%s", d.name, p.text("#host-list"))
		}
		p.until("each host has a version", `[...document.querySelectorAll("#host-list tr")].every(
			(tr) => tr.lastChild.innerText.length > 1)`)
		p.sees("#charts", "Operations a second", "99 in 100", "Replication lag", "Data on disk", "iB")
		p.run(chromedp.Click("summary", chromedp.ByQuery))
		p.sees("#vector-list", "oslo")
	}

	p := newPage(t, oslo.base())
	p.open()
	p.sees("#connected", "1 connected")
	p.sees("#client-list", web.LocalAddr().String(), "web")
	p.sees("#slow-list", "set", "user:39", "ms")
	p.sees("#key-list", "ann", "map", "3: active, groups, mail", "user:23", "visitor-23")
	p.press("More keys")
	p.sees("#key-list", "user:39")
	p.press("ann")
	p.sees("#key-list", "ann@example.com", "staff", "enabled")
	p.list("user:3")
	p.seesNo("#key-list", "user:29")
	p.sees("#key-list", "user:30", "user:39")
	p.list("nobody")
	p.sees("#keys", "No key begins so.")
	p.list("")
	p.sees("#key-list", "ann", "visitor-23")
	p.until("each line has a point of what happened", `[...document.querySelectorAll("#charts b")].every(
		(b) => b.innerText !== "–") && document.querySelectorAll("#charts path[d^=M]").length === 4`)
	p.run(chromedp.Evaluate("window.scrollTo(0, 0)", nil))
	p.keep("light")
	p.run(colours("dark"))
	p.keep("dark")
}

func TestAKeyOfATypeThatTheConsoleDoesNotKnowIsSaidToBeOne(t *testing.T) {
	oslo, _ := pair(t)
	oslo.set("later", "v")
	oslo.set("word", "hello")
	p := newPage(t, oslo.base())
	p.open()
	p.run(chromedp.Evaluate(`asked = ask; ask = async (path, options) => (
		path.startsWith("v1/keys/later") ? { type: "tree", leaves: [] } : asked(path, options)); 0`, nil))
	p.list("")
	p.sees("#key-list", "tree", "of a type that this console does not know", "hello")
	p.press("later")
	p.until("what the key holds is not known either", `document.querySelector(
		"#key-list tr:not([hidden]) > .detail").innerText === "of a type that this console does not know"`)
}

// TestTheLastHourIsTheHosts has a clock of the browser's that is off, as a telephone's may be.
func TestTheLastHourIsTheHosts(t *testing.T) {
	oslo := start(t, "oslo", nil)
	for _, off := range []string{"-", "+"} {
		p := newPage(t, oslo.base())
		p.run(chromedp.ActionFunc(func(ctx context.Context) error {
			script := "const right = Date.now; Date.now = () => right() " + off + " 2 * 3600 * 1000"
			_, err := browserpage.AddScriptToEvaluateOnNewDocument(script).Do(ctx)
			return err
		}))
		p.open()
		p.until("the last sample is at the right end", `[...document.querySelectorAll("#charts path")].at(-1)
			.getAttribute("d")?.match(/[ML]3(59|60)[.0-9]* [.0-9]+(h.1)?$/) != null`)
	}
}

func TestTheConsoleFitsATelephone(t *testing.T) {
	oslo, _ := pair(t)
	oslo.set("a-long-key-"+strings.Repeat("0123456789", 12), strings.Repeat("value", 80))
	p := newPage(t, oslo.base())
	p.window(375, 812, true)
	p.open()
	p.sees("#host-list", "lima", "linked")
	p.press("a-long-key-" + strings.Repeat("0123456789", 12))
	p.until("nothing is wider than the telephone", `document.documentElement.scrollWidth <= 375`)
	p.run(chromedp.Evaluate("window.scrollTo(0, 0)", nil))
	p.keep("telephone")
}

// TestAConflictIsSettledWithAClick has names that would be markup where they are not escaped.
func TestAConflictIsSettledWithAClick(t *testing.T) {
	oslo, lima := pair(t)
	const hostile = `<img src=x onerror=document.title="taken">`
	cut(oslo, lima, true)
	for i, d := range []*daemon{oslo, lima} {
		d.set("colour", []string{"blue", "green"}[i])
		d.set(hostile, hostile+d.name)
	}
	oslo.set("both", "text")
	lima.put("both", object{"type": "set", "elements": []string{"member\u202e"}})
	oslo.set("queue", "text")
	lima.put("queue", object{"type": "list", "items": []string{"first", "second"}})
	field := func(value string) object {
		return object{"type": "map", "fields": []object{{"name": "size", "type": "string", "value": value}}}
	}
	oslo.put("shirt", field("small"))
	lima.put("shirt", field("large"))
	cut(oslo, lima, false)
	for _, d := range []*daemon{oslo, lima} {
		d.holds("colour", `"blue"`, `"green"`)
		d.holds("both", "text", "member")
		d.holds("queue", "text", "first")
		d.holds("shirt", "small", "large")
		d.holds(hostile, "oslo", "lima")
	}
	const until = "2999-01-01T00:00:00Z"
	lima.expires("colour", until)

	p := newPage(t, lima.base())
	p.open()
	p.sees("#key-list", "conflict", "colour", hostile, `member\u202e`)
	p.until("four keys are in conflict", `document.querySelectorAll("#key-list .pill.warn").length >= 4 +
		document.querySelectorAll("#key-list .detail .pill.warn").length`)
	p.press("colour")
	p.sees("#key-list", "2 concurrent values", "blue", "green", "Keep this one")
	p.run(chromedp.ScrollIntoView("#keys", chromedp.ByQuery))
	p.keep("conflict")
	p.settle("Keep string blue")
	p.sees("#settled", "colour holds one value now: blue")
	p.until("the key has the focus again", `document.activeElement.innerText === "colour"`)
	p.press("both")
	p.settle(`Keep set 1: member\u202e`)
	p.sees("#settled", "both holds one value now")
	p.press("queue")
	p.settle("Keep list 2: first, second")
	p.sees("#settled", "queue holds one value now: 2: first, second")
	p.press("shirt")
	p.settle("Keep string large")
	p.sees("#settled", "shirt › size holds one value now: large")
	for _, d := range []*daemon{oslo, lima} {
		for key, lost := range map[string]string{"colour": "green", "both": "text", "queue": "text", "shirt": "small"} {
			d.eventually("has "+key+" settled", func() bool {
				_, answer := d.ask("GET", "/v1/keys/"+key+"?conflicts=true", nil)
				return !strings.Contains(answer, lost)
			})
		}
		d.holds("colour", "blue", until) // it expires as before
	}
	p.until("nothing is taken for markup", `document.title !== "taken" && !document.querySelector("img")`)
}

// TestWhatIsInConflictInAValueIsSettledFirst has a map beside a text, and in it a field with two
// texts: to keep the map as it is shown would lose one of them unseen.
func TestWhatIsInConflictInAValueIsSettledFirst(t *testing.T) {
	oslo, lima := pair(t)
	size := func(d *daemon, text string) {
		op := object{"op": "string.set", "path": []string{"shirt", "size"}, "value": text}
		if code, answer := d.ask("POST", "/v1/tx", object{"ops": []object{op}}); code != http.StatusOK {
			t.Fatalf("%d %s", code, answer)
		}
	}
	cut(oslo, lima, true)
	size(oslo, "medium")
	lima.set("shirt", "none")
	cut(oslo, lima, false)
	for _, d := range []*daemon{oslo, lima} {
		d.holds("shirt", "medium", "none")
	}
	cut(oslo, lima, true)
	size(oslo, "small")
	size(lima, "large")
	cut(oslo, lima, false)
	lima.holds("shirt", "small", "large", "none")

	p := newPage(t, lima.base())
	p.open()
	p.press("shirt")
	p.sees("#key-list", "settle first what is in it: map", "small", "large", "none")
	p.settle("Keep string small")
	p.sees("#settled", "shirt › size holds one value now: small")
	p.settle("Keep map 1: size")
	p.sees("#settled", "shirt holds one value now: 1: size")
	if _, answer := lima.ask("GET", "/v1/keys/shirt?conflicts=true", nil); strings.Contains(answer, "none") ||
		!strings.Contains(answer, "small") || strings.Contains(answer, "large") {
		t.Errorf("it holds %s", answer)
	}
}

func TestChangesAreShownAsTheyHappen(t *testing.T) {
	oslo, lima := pair(t)
	oslo.set("first", "1")
	lima.holds("first", "1")
	p := newPage(t, oslo.base())
	p.open()
	p.sees("#key-list", "first")
	p.sees("#feed-state", "of space default")
	// The watch begins when it is open; a change that it tells shows that it is.
	n := 1
	lima.eventually("is watched", func() bool {
		n++
		lima.set("first", fmt.Sprint(n))
		return p.reads("#feed", "first")
	})
	lima.set("first", "the last")
	p.sees("#key-list", "the last") // what is listed is kept up to date
	lima.set("second", "2")
	p.sees("#feed", "second")
	p.run(chromedp.Click(`//ol[@id="feed"]//button[normalize-space()="second"]`, chromedp.BySearch))
	p.sees("#key-list", "second", "2")
	p.seesNo("#key-list", "first")
	p.press("Pause")
	p.sees("#feed-state", "paused")
}

func TestMoreKeysAreListedOnceHoweverOftenTheyAreAskedFor(t *testing.T) {
	oslo := start(t, "oslo", nil)
	web := oslo.connect()
	for i := range 80 {
		web.run(fmt.Sprintf("SET k%02d v", i))
	}
	p := newPage(t, oslo.base())
	p.open()
	p.sees("#key-list", "k24")
	p.run(chromedp.Evaluate(`for (let i = 0; i < 3; i++) document.getElementById("more").click(); 0`, nil))
	p.sees("#key-list", "k49")
	p.press("More keys")
	p.sees("#key-list", "k74")
	p.press("More keys")
	p.sees("#key-list", "k79")
	rows := 0
	p.run(chromedp.Evaluate(`document.querySelectorAll("#key-list button.key").length`, &rows))
	if rows != 80 {
		t.Errorf("80 keys have %d rows", rows)
	}
}

// TestWhatChangedWhileNobodyWatchedIsShown, as the page does not watch while it is paused, or
// another tab is in front of it.
func TestWhatChangedWhileNobodyWatchedIsShown(t *testing.T) {
	oslo := start(t, "oslo", nil)
	oslo.set("first", "before")
	oslo.set("gone", "before")
	p := newPage(t, oslo.base())
	p.open()
	p.sees("#key-list", "first", "before")
	p.press("Pause")
	p.sees("#feed-state", "paused")
	oslo.set("first", "after")
	if code, answer := oslo.ask("DELETE", "/v1/keys/gone", nil); code != http.StatusOK {
		t.Fatalf("%d %s", code, answer)
	}
	p.press("Pause")
	p.sees("#feed-state", "of space default")
	p.sees("#key-list", "after", "deleted")
}

// TestKeysAreLoadedAgainOnlyIfTheyChanged, however often the page begins to watch.
func TestKeysAreLoadedAgainOnlyIfTheyChanged(t *testing.T) {
	oslo := start(t, "oslo", nil)
	oslo.set("first", "1")
	oslo.set("second", "1")
	p := newPage(t, oslo.base())
	p.open()
	p.sees("#key-list", "first", "second")
	p.sees("#feed-state", "of space default")
	p.run(chromedp.Evaluate(`asked = ask; loaded = []; ask = (path, ...more) => {
		if (path.startsWith("v1/keys/")) loaded.push(path.split("?")[0]);
		return asked(path, ...more);
	}; 0`, nil))
	p.list("")
	p.until("the two are loaded", `loaded.length >= 2`)
	oslo.set("third", "1")
	p.sees("#feed", "third") // so the watch has begun
	for n := range 3 {
		p.press("Pause")
		p.sees("#feed-state", "paused")
		oslo.set("first", fmt.Sprintf("value %d", n))
		p.press("Pause")
		p.sees("#key-list", fmt.Sprintf("value %d", n))
	}
	var loaded []string
	p.run(chromedp.Evaluate(`loaded.sort()`, &loaded))
	if got := strings.Join(loaded, " "); got != "v1/keys/first v1/keys/first v1/keys/first v1/keys/first v1/keys/second" {
		t.Errorf("loaded are %s", got)
	}
}

// TestALargeValueIsLoadedOnceItIsOpened: a page of keys may hold hundreds of MiB.
func TestALargeValueIsLoadedOnceItIsOpened(t *testing.T) {
	oslo := start(t, "oslo", nil)
	oslo.set("large", strings.Repeat("many words ", 100_000)+"the end")
	oslo.set("small", "few words")
	p := newPage(t, oslo.base())
	p.open()
	p.sees("#key-list", "large", "more than 256 KiB", "small", "few words")
	p.press("large")
	p.sees("#key-list", "many words", "the end")
	p.press("large")
	oslo.set("large", "few now")
	p.sees("#key-list", "few now")
}

// TestAKeyThatChangesFasterThanItIsAnsweredIsAskedForOnceAtATime has a page left open on a busy key
// ask no more than the host can answer, and end at what the key holds.
func TestAKeyThatChangesFasterThanItIsAnsweredIsAskedForOnceAtATime(t *testing.T) {
	oslo := start(t, "oslo", nil)
	oslo.set("busy", "0")
	p := newPage(t, oslo.base())
	p.open()
	p.sees("#key-list", "busy")
	p.run(chromedp.Evaluate(`asked = ask; held = []; begun = 0; ask = async (path, options) => {
		if (!path.startsWith("v1/keys/busy")) return asked(path, options);
		begun++;
		if (held) await new Promise((go) => held.push(go));
		return asked(path, options);
	}; 0`, nil))
	n := 0
	oslo.eventually("is watched, and has told ten changes", func() bool {
		n++
		oslo.set("busy", fmt.Sprint(n))
		told := 0
		p.run(chromedp.Evaluate(`document.querySelectorAll("#feed li").length`, &told))
		return told >= 10
	})
	begun := 0
	p.run(chromedp.Evaluate(`begun`, &begun))
	if begun != 1 {
		t.Errorf("%d requests for one key are under way", begun)
	}
	oslo.set("busy", "the last")
	p.run(chromedp.Evaluate(`held.forEach((go) => go()); held = null; 0`, nil))
	p.sees("#key-list", "the last")
}

func TestAHostThatIsCutOffIsNotShownAsWell(t *testing.T) {
	oslo, lima := pair(t)
	p := newPage(t, oslo.base())
	p.open()
	p.sees("#host-list", "linked")
	cut(oslo, lima, true)
	oslo.set("k", "v")
	p.sees("#host-list", "away")
	p.until("what is not known is a dash", `[2, 3, 4, 5, 6, 7].every((i) =>
		document.querySelectorAll("#host-list tr")[1].children[i].innerText.trim() === "–")`)
	if err := oslo.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.sees("#state", "no answer")
	p.sees("#host-list", "not known")
	p.seesNo("#host-list", "ready")
	if err := oslo.process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.sees("#state", "ready")
	p.seesNo("#host-list", "not known")
	cut(oslo, lima, false)
	p.sees("#host-list", "linked")
}

func TestProblemsAreYellowAndAHostThatIsNotReadyIsRed(t *testing.T) {
	oslo, _ := pair(t)
	ready := true
	base := oslo.behindStub(func(status object) {
		status["ready"], status["reason"] = ready, "catching up with the other peers"
		status["problems"] = []object{{"id": "no-link", "since": time.Now().Add(-3 * time.Minute),
			"what": "lima is alive, and no data reaches it: connection refused", "do": "Open port 7947, TCP and UDP."}}
		for _, m := range status["members"].([]any) {
			if told, ok := m.(map[string]any)["told"].(map[string]any); ok {
				told["problems"] = []string{"clock-off", "disk-low"}
			}
		}
	})
	background := func(p *page) (colour string) {
		p.run(chromedp.Evaluate(`getComputedStyle(document.getElementById("state")).backgroundColor`, &colour))
		return colour
	}
	p := newPage(t, base)
	p.open()
	p.sees("#state", "ready, with problems")
	p.sees("#problems", "lima is alive, and no data reaches it: connection refused (for 3 min)", "Open port 7947")
	p.sees("#host-list", "linked, with problems", "problems: clock-off, disk-low")
	if got := background(p); got != "rgb(255, 240, 204)" {
		t.Errorf("a host with problems is not yellow: %s", got)
	}
	p.keep("problems")

	ready = false
	p = newPage(t, base)
	p.open()
	p.sees("#state", "not ready: catching up with the other peers")
	if got := background(p); got != "rgb(253, 230, 227)" {
		t.Errorf("a host that is not ready is not red: %s", got)
	}
	p.keep("not-ready")

	p = newPage(t, oslo.base())
	p.open()
	p.until("a host without problems shows none", `document.getElementById("problems").hidden`)
	if got := background(p); got != "rgb(223, 245, 233)" {
		t.Errorf("a host that is well is not green: %s", got)
	}
}

func TestTheConsoleAsksForThePassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwords")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const first, second = "correct-horse-battery", "another-horse-battery"
	write(first)
	oslo := start(t, "oslo", nil, "--password-file", file)
	oslo.password = first
	oslo.set("secret", "of oslo")

	p := newPage(t, oslo.base())
	p.run(fetch.Enable().WithHandleAuthRequests(true))
	p.run(chromedp.Navigate(p.base + "/")) // and dismiss the question
	p.sees("body", "no-password")
	if p.asked == 0 {
		t.Error("Chromium did not ask for a password")
	}
	p.mu.Lock()
	p.password = first
	p.mu.Unlock()
	p.open()
	p.sees("#state", "ready")
	p.sees("#key-list", "secret", "of oslo")
	p.sees("#feed-state", "of space default")

	p.mu.Lock()
	p.password = ""
	p.mu.Unlock()
	write(second)
	if err := oslo.process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	oslo.password = second
	oslo.eventually("asks for the new password", func() bool {
		code, _ := oslo.ask("GET", "/v1/status", nil)
		return code == http.StatusOK
	})
	p.sees("#state", "no answer: the password is asked for")
	p.keep("password")
}

func TestEverythingIsReachedByTheKeyboard(t *testing.T) {
	oslo, _ := pair(t)
	oslo.set("alpha", "1")
	oslo.set("beta", "2")
	oslo.expires("beta", "2999-06-02T03:04:05Z")
	p := newPage(t, oslo.base())
	p.open()
	p.sees("#key-list", "alpha", "1", "until", "2999")
	p.tabTo("nav a[href='#hosts']")
	p.tabTo("#space")
	p.tabTo("#prefix")
	p.key("b")
	p.key(kb.Enter)
	p.seesNo("#key-list", "alpha")
	p.sees("#key-list", "beta", "2")
	p.tabTo("#listing button")
	p.tabTo("#key-list button.key")
	p.key(kb.Enter)
	p.until("the key is open", `document.querySelector("#key-list button").getAttribute("aria-expanded") === "true" &&
		document.querySelector("#key-list .detail").offsetParent !== null`)
	p.tabTo("#pause")
	p.key(" ")
	p.sees("#feed-state", "paused")
	p.tabTo("summary")
	p.key(kb.Enter)
	p.sees("#vector", "Gossip")
}
