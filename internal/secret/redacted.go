package secret

import (
	"fmt"
	"io"
	"log/slog"
)

const redactedText = "(redacted)"

// redacted hides the struct that embeds it from fmt under every verb, from slog and from encoders.
type redacted struct{}

// Format implements fmt.Formatter.
func (redacted) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedText) }

// String implements fmt.Stringer.
func (redacted) String() string { return redactedText }

// LogValue implements slog.LogValuer.
func (redacted) LogValue() slog.Value { return slog.StringValue(redactedText) }

// MarshalText implements encoding.TextMarshaler.
func (redacted) MarshalText() ([]byte, error) { return []byte(redactedText), nil }
