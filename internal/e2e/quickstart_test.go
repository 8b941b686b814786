package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// typed is a command of the page, and what the page says that it prints.
type typed struct {
	command string
	printed []string
}

// typedOn returns the commands of a page, in their order: lines of its blocks of the language
// console that begin with "$ ", with those that a backslash joins to them.
func typedOn(page string) (all []typed) {
	in, joined := false, false
	for line := range strings.SplitSeq(page, "\n") {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			in = line == "```console"
			continue
		case !in:
			continue
		case joined:
			all[len(all)-1].command += "\n" + line
		case isCommand:
			all = append(all, typed{command: command})
		default:
			all[len(all)-1].printed = append(all[len(all)-1].printed, line)
			continue
		}
		joined = strings.HasSuffix(line, `\`)
	}
	return all
}

// fits reports whether an output is what the page says: "…" stands for anything, on its line or of
// several if it is alone on one.
func (c typed) fits(output string) bool {
	pattern := "^"
	for _, line := range c.printed {
		if line == "…" {
			pattern += `(?:.*\n)*`
			continue
		}
		pattern += strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `\n`
	}
	if n := len(c.printed); n > 0 && strings.HasSuffix(c.printed[n-1], " …") {
		pattern += `(?:.*\n)*` // the page shows the first line
	}
	return regexp.MustCompile(pattern + "$").MatchString(output)
}

// script runs the commands in one shell, with a line before the output of each.
func script(all []typed) string {
	var s strings.Builder
	for i, c := range all {
		fmt.Fprintf(&s, "echo '<<%d>>'\n%s\n", i, c.command)
	}
	return s.String() + "echo '<<end>>'\n"
}

// elsewhere gives each loopback address of the page a free port, so that the test runs beside
// whatever is there.
func elsewhere(t *testing.T, text string) string {
	given := map[string]string{}
	return regexp.MustCompile(`127\.0\.0\.\d:\d+`).ReplaceAllStringFunc(text, func(at string) string {
		if given[at] == "" {
			given[at] = freePort(t)
		}
		return given[at]
	})
}

func TestTheCommandsOfTheQuickstartDoWhatItSays(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "quickstart.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := elsewhere(t, "PEERD_HTTP=127.0.0.1:7948\n"+string(text))
	all := typedOn(page)
	for _, c := range all {
		program, _, _ := strings.Cut(c.command, " ")
		if program != "redis-cli" && program != "curl" {
			continue
		}
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the page needs %s, which is not here", program)
		}
	}
	if len(all) < 20 {
		t.Fatalf("the page has %d commands", len(all))
	}

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash")
	shell.Dir = root
	shell.Stdin = strings.NewReader(script(all))
	shell.Env = append(os.Environ(), "HOME="+t.TempDir(), strings.SplitN(page, "\n", 2)[0])
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} { // which HOME says where nothing else does
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		shell.Env = append(shell.Env, name+"="+strings.TrimSpace(string(value)))
	}
	// All that it starts ends with the test.
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	defer func() { _ = shell.Cancel() }() // an error says that nothing is left
	output, err := shell.CombinedOutput()
	if err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	for i, c := range all {
		next := fmt.Sprintf("<<%d>>\n", i+1)
		if i+1 == len(all) {
			next = "<<end>>\n"
		}
		_, after, _ := strings.Cut(string(output), fmt.Sprintf("<<%d>>\n", i))
		printed, _, ended := strings.Cut(after, next)
		if !ended || !c.fits(printed) {
			t.Fatalf("$ %s\nprints\n%swhere the page says\n%s", c.command, printed, strings.Join(c.printed,
				"\n"))
		}
	}
}
