package main

import (
	"strings"
	"testing"
)

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
