package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

// TestAnswersAreWhatEncodingJSONWrites holds what is written in pieces against what is made whole.
func TestAnswersAreWhatEncodingJSONWrites(t *testing.T) {
	odd := "\x00\n\"\\</ü\u2028😀\U0010ffff"
	texts := []octets{"", "a", octets(odd), "\xff", "a\xc3", octets(strings.Repeat("\xff\x00", textPart))}
	for n := range 5 { // characters across the ends of parts, and pieces
		texts = append(texts, octets(strings.Repeat("x", n)+strings.Repeat(odd, textPart)))
	}
	for _, of := range []int{textPart - 1, textPart, textPart + 1, 2 * textPart} {
		texts = append(texts, octets(strings.Repeat("x", of)), octets(strings.Repeat("\xfe", of)))
	}
	empty, on, at := []octets{}, true, time.Unix(1700000000, 1e6).UTC()
	inner := []field{{&texts[1], value{Type: "string", Value: &texts[2]}}, {&texts[3], value{Type: "flag", Enabled: &on}}}
	answers := []any{
		entry{Key: &texts[0], Path: texts, value: value{Type: "set", Elements: &texts}, Token: "A<"},
		entry{Key: &texts[1], value: value{Type: "list", Items: &empty}, Expires: &at, Cursor: "c"},
		entry{Key: &texts[1], value: value{Type: "map", Fields: &inner}, Also: []value{
			{Type: "string", Value: &texts[4], Values: texts[:3]},
			{Type: "hyperloglog", Registers: []byte{1, 2}, Count: new(int64)},
			{Type: "stream", Entries: &[]streamEntry{{"1-0", texts[:2]}, {}}},
			{Type: "sorted-set", Scores: &[]scored{{&texts[2], new(number(1.5))}, {&texts[1], new(number(math.Inf(1)))}}},
		}},
		entry{}, listing{}, changes{}, event{}, event{Keys: texts},
		listing{Keys: []listed{{Key: texts[2], Types: []string{"a", "b"}, Expires: &at}, {}}, Cursor: "c"},
		changes{Results: []result{{}, {true, new(2), new(int64(-3)), []scored{{&texts[2], new(number(-2))}}, "c"}}, Changed: empty},
	}
	for i, answer := range answers {
		for _, indent := range []string{"", "  "} {
			want, err := json.Marshal(answer)
			if indent != "" {
				want, err = json.MarshalIndent(answer, "", indent)
			}
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := encodeTo(&got, indent, answer); err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("answer %d, indented with %q: %v\n%.2000s\nis not\n%.2000s", i, indent, err, got.Bytes(), want)
			}
		}
	}
}

// TestAnAnswerTakesNoMemoryWhileItIsEncoded beside what it tells, of which JSON makes six times as
// many bytes.
func TestAnAnswerTakesNoMemoryWhileItIsEncoded(t *testing.T) {
	for what, text := range map[string]string{"control characters": "\x01", "bytes that are no text": "\xff"} {
		long := octets(strings.Repeat(text, crdt.MaxValue))
		answer := entry{value: value{Type: "string", Value: &long}}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := encodeTo(io.Discard, "  ", answer); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > crdt.MaxValue/4 {
			t.Errorf("to encode %d %s took %d bytes", len(long), what, took)
		}
	}
}
