package resp

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	embedded "github.com/peerd/peerd/peer"
)

func TestPatternsMatchAsInRedis(t *testing.T) {
	tests := []struct {
		pattern   string
		matches   []string
		otherwise []string
	}{
		{"", []string{""}, []string{"a"}},
		{"*", []string{"", "a", "a/b\n"}, nil},
		{"h?llo", []string{"hello", "h\xffllo"}, []string{"hllo", "heello"}},
		{"h*llo", []string{"hllo", "heeeello", "hllollo"}, []string{"hell", "hello!"}},
		{"h[ae]llo", []string{"hello", "hallo"}, []string{"hillo"}},
		{"h[^e]llo", []string{"hallo"}, []string{"hello"}},
		{"h[a-b]llo", []string{"hallo", "hbllo"}, []string{"hcllo", "h-llo"}},
		{"h[b-a]llo", []string{"hallo"}, []string{"hcllo"}},
		{`h[\]]llo`, []string{"h]llo"}, []string{`h\llo`}},
		{"h[abc", []string{"ha", "hb"}, []string{"h", "hd"}},
		{`h\*llo`, []string{"h*llo"}, []string{"hello"}},
		{`end\`, []string{`end\`}, []string{"end"}},
		{"a*b*c", []string{"abc", "a-b-c", "abbcbc"}, []string{"acb", "ab"}},
		{"**a**", []string{"a", "bab"}, []string{"b"}},
	}
	for _, test := range tests {
		for _, s := range test.matches {
			if !matchGlob(test.pattern, s) {
				t.Errorf("%q does not match %q", test.pattern, s)
			}
		}
		for _, s := range test.otherwise {
			if matchGlob(test.pattern, s) {
				t.Errorf("%q matches %q", test.pattern, s)
			}
		}
	}
}

func TestAPatternOfManyStarsIsAnsweredAtOnce(t *testing.T) {
	pattern := strings.Repeat("a*", 1000) + "b"
	if matchGlob(pattern, strings.Repeat("a", 10_000)) {
		t.Error("a string without b matches a pattern that ends with b")
	}
}

// TestALongPatternDoesNotHoldUpItsServer which matches it with the name of a message before anybody
// else has their turn.
func TestALongPatternDoesNotHoldUpItsServer(t *testing.T) {
	name := strings.Repeat("a", embedded.MaxMessage-1)
	most := strings.Repeat("a", MaxPattern-2)
	for _, pattern := range []string{"*" + most + "b", "*" + strings.Repeat("?", MaxPattern-2) + "b",
		"*[" + strings.Repeat("b", MaxPattern-3) + "]"} {
		began := time.Now()
		if matchGlob(pattern, name) {
			t.Errorf("%.10s... matches a name without b", pattern)
		}
		if took := time.Since(began); took > 2*time.Second { // some 20 ms; unbounded it is minutes
			t.Errorf("%.10s... takes %v", pattern, took)
		}
	}
	for _, pattern := range []string{most + "*", "*" + most + "*", "*b*", "*" + strings.Repeat("a*", MaxPattern/2-1),
		"*[^b]", strings.Repeat("[a-c]", MaxPattern/5) + "*"} {
		if want := pattern != "*b*"; matchGlob(pattern, name) != want {
			t.Errorf("%.10s... matches: %v", pattern, !want)
		}
	}
}

func TestWhatMatchesAPatternBeginsWithItsPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*?\[\]\\^-]{0,8}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[ab*?\[\]\\^-]{0,8}`).Draw(t, "s")
		if matchGlob(pattern, s) && !strings.HasPrefix(s, globPrefix(pattern)) {
			t.Fatalf("%q matches %q, whose prefix is %q", pattern, s, globPrefix(pattern))
		}
	})
}
