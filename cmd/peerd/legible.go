package main

import (
	"strconv"
	"strings"
	"unicode"
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
