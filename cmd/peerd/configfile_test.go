package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"pgregory.net/rapid"
)

func TestWhatConfigPrintsIsReadBackAsItWas(t *testing.T) {
	words := rapid.SampledFrom([]string{
		"true", "Null", "~", ".nan", "-.inf", "...", "---", "0x1F", "1_000", "1e3", "yes", "<<", "2001-01-01",
	})
	anyText := rapid.OneOf(rapid.String(), rapid.StringMatching(`[./a-z0-9_-]{1,9}`), words)
	hosts := rapid.SliceOf(rapid.StringMatching(`[a-z:#"'\n {}\[\]&*!|>%@-]+`))
	rapid.Check(t, func(t *rapid.T) {
		var was, is config
		was.flags, is.flags = was.options.table(), is.options.table()
		is.from = map[string]string{}
		_ = setFlag(was.flags.Lookup("name"), anyText.Draw(t, "name"))
		_ = setFlag(was.flags.Lookup("join"), hosts.Draw(t, "join")...)
		var printed bytes.Buffer
		if err := was.print(&printed); err != nil {
			t.Fatal(err)
		}
		entries, err := parseConfig("peerd.yaml", printed.Bytes())
		if err == nil {
			err = is.take(entries)
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, &printed)
		}
		was.public(func(f *pflag.Flag) {
			if diff := cmp.Diff(textOf(f), textOf(is.flags.Lookup(f.Name))); diff != "" {
				t.Errorf("%s: %s by\n%s", f.Name, diff, &printed)
			}
		})
	})
}

// Whatever is in the file, peerd says what is wrong with it, or takes it.
func FuzzConfigFile(f *testing.F) {
	for _, text := range []string{
		"log-level: warn\njoin: [a:1, b:2]\n", "join:\n  - a:1\n", "? a\n: b\n", "<<: *x\n", "a: &x\nb: *x\n",
		"name: |\n  x\n", "{name: x, dir: 'y'}", "--- !!map\nname: x\n...\n", "1: 2", "[a]: b\n", "name: !!str 3\n",
	} {
		f.Add(text)
	}
	c := &config{from: map[string]string{}}
	c.flags = c.options.table()
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseConfig("peerd.yaml", []byte(text))
		if err == nil {
			err = c.take(entries)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "peerd.yaml:") {
			t.Errorf("an error without its place: %v", err)
		}
	})
}
