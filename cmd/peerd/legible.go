package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// legible returns a text as a person may be shown it: as it is, or quoted if it has characters that
// a terminal would obey or not show, is no UTF-8, is empty, or begins as a quoted one does.
func legible(text string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if text == "" || text[0] == '"' || !utf8.ValidString(text) || strings.ContainsFunc(text, odd) {
		return strconv.Quote(text)
	}
	return text
}

// escaped returns a text with an escape for each character that a terminal would obey or not show, in
// place of quotes around all of it. What other hosts say, of themselves and of others, is shown
// like that: see readAnswer, and execute for errors.
func escaped(text string) string {
	var out strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		out.WriteString(quoted[1 : len(quoted)-1])
	}
	return out.String()
}

// escapedJSON returns a JSON text that a terminal shows as it is, and that means the same.
func escapedJSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if r < utf8.RuneSelf && r != 0x7f || unicode.IsPrint(r) { // JSON escapes those below by itself
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, half := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, `\u%04x`, half)
		}
	}
	return out
}

// readAnswer reads an answer in JSON that a person is to be shown into out: each text of it is
// escaped.
func readAnswer(body io.Reader, out any) error {
	var answer any
	from := json.NewDecoder(io.LimitReader(body, maxStatus))
	from.UseNumber()
	if err := from.Decode(&answer); err != nil {
		return err
	}
	text, err := json.Marshal(allEscaped(answer))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

func allEscaped(v any) any {
	switch v := v.(type) {
	case string:
		return escaped(v)
	case []any:
		for i := range v {
			v[i] = allEscaped(v[i])
		}
	case map[string]any:
		for name, of := range maps.Clone(v) {
			delete(v, name)
			v[escaped(name)] = allEscaped(of)
		}
	}
	return v
}

// maxNamed is how much of a text is shown where it only names something, in bytes.
const maxNamed = 64

// legibles returns texts that name something: the beginning of long ones.
func legibles(texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		if all[i] = legible(text); len(text) > maxNamed {
			all[i] = legible(strings.ToValidUTF8(text[:maxNamed], "")) + "…"
		}
	}
	return all
}
