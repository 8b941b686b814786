package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
)

// value is a setting with a text form of its own. A text that it refuses changes nothing.
type value[T comparable] struct {
	kind   string // what help calls it
	to     *T
	parse  func(text string) (T, error) // errors begin with "must be"
	format func(T) string               // parse takes it back to the same
	words  []string                     // all that parse takes, if they are few
}

func newValue[T comparable](kind string, to *T, initial T, parse func(string) (T, error),
	format func(T) string, words ...string) pflag.Value {
	*to = initial
	return &value[T]{kind: kind, to: to, parse: parse, format: format, words: words}
}

func (v *value[T]) String() string {
	if v.to == nil { // pflag asks the zero value of the type, to find out what is a default
		return ""
	}
	return v.format(*v.to)
}

func (v *value[T]) Set(text string) error {
	parsed, err := v.parse(text)
	if err == nil {
		*v.to = parsed
	}
	return err
}

// Choices returns all that can be set, if it is one of a few words.
func (v *value[T]) Choices() []string { return v.words }

func (v *value[T]) Type() string { return v.kind }

// maxCount is the largest number of anything that can be set.
const maxCount = 1_000_000

// countValue is a number of things, one at least.
func countValue(to *int, initial int) pflag.Value {
	parse := func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxCount {
			return 0, fmt.Errorf("must be a number from 1 to %d", maxCount)
		}
		return n, nil
	}
	return newValue("number", to, initial, parse, strconv.Itoa)
}

// choiceValue is one of a few words.
func choiceValue[S ~string](to *S, initial S, choices ...S) pflag.Value {
	words := make([]string, len(choices))
	for i, choice := range choices {
		words[i] = string(choice)
	}
	parse := func(text string) (S, error) {
		if slices.Contains(words, text) {
			return S(text), nil
		}
		last := len(words) - 1
		return "", fmt.Errorf("must be %s or %s", strings.Join(words[:last], ", "), words[last])
	}
	return newValue("choice", to, initial, parse, func(s S) string { return string(s) }, words...)
}

// sizeValue is a number of bytes, at least least: 256MiB, 1.5 GB, or a bare number.
func sizeValue(to *int64, initial, least int64) pflag.Value {
	parse := func(text string) (int64, error) {
		n, err := humanize.ParseBytes(text)
		switch {
		case err != nil || n > 1<<62:
			return 0, errors.New("must be a size, as 256MiB")
		case int64(n) < least:
			return 0, fmt.Errorf("must be at least %s", exactSize(least))
		}
		return int64(n), nil
	}
	return newValue("size", to, initial, parse, exactSize)
}

// exactSize returns a number of bytes in the largest unit that divides it.
func exactSize(n int64) string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	unit := 0
	for n != 0 && n%1024 == 0 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}
	return fmt.Sprintf("%d%s", n, units[unit])
}

// durationValue is a time, at least least.
func durationValue(to *time.Duration, initial, least time.Duration) pflag.Value {
	parse := func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return 0, errors.New("must be a duration, as 168h, 90m or 500ms")
		case d < least:
			return 0, fmt.Errorf("must be at least %s", exactDuration(least))
		}
		return d, nil
	}
	return newValue("duration", to, initial, parse, exactDuration)
}

// neverValue is a time after which something happens, or "0s" for never, which is stored as a
// negative one.
func neverValue(to *time.Duration, initial time.Duration) pflag.Value {
	var text time.Duration
	of := durationValue(&text, initial, 0).(*value[time.Duration])
	parse := func(s string) (time.Duration, error) {
		d, err := of.parse(s)
		if err == nil && d == 0 {
			d = -1
		}
		return d, err
	}
	return newValue("duration", to, initial, parse, func(d time.Duration) string { return exactDuration(max(0, d)) })
}

// exactDuration returns a duration without the zeros at its end: 168h, not 168h0m0s.
func exactDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
