package main

import (
	"context"
	"io"
	stdlog "log"
	"log/slog"

	"github.com/libp2p/go-libp2p/gologshim"

	"github.com/peerd/peerd/internal/words"
)

// newLogger returns the log that the settings ask for.
func newLogger(to io.Writer, level slog.Leveler, format string) *slog.Logger {
	options := slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(wordly{slog.NewJSONHandler(to, &options)})
	}
	return slog.New(wordly{slog.NewTextHandler(to, &options)})
}

// adopt has what libraries log by themselves come into our log: lines of the standard library's
// log, and libp2p's, at debug, as what they tell of is told by whoever called libp2p.
func adopt(log *slog.Logger) {
	stdlog.SetFlags(0)
	stdlog.SetOutput(lines{log})
	gologshim.SetDefaultHandler(lowered{log.Handler()})
}

// lowered logs everything at debug.
type lowered struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h lowered) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (h lowered) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h lowered) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lowered{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h lowered) WithGroup(name string) slog.Handler { return lowered{h.Handler.WithGroup(name)} }

type lines struct{ log *slog.Logger }

// Write takes one line.
func (l lines) Write(line []byte) (int, error) {
	l.log.Warn("a library reports", "text", string(line))
	return len(line), nil
}

// wordly puts the errors of records in words, as from the level info on people read them. At debug
// they stay as they are.
type wordly struct{ slog.Handler }

// Handle implements slog.Handler.
func (h wordly) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.Handler.Handle(ctx, r)
	}
	told := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		told.AddAttrs(words.Attr(a))
		return true
	})
	return h.Handler.Handle(ctx, told)
}

// WithAttrs implements slog.Handler.
func (h wordly) WithAttrs(attrs []slog.Attr) slog.Handler { return wordly{h.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (h wordly) WithGroup(name string) slog.Handler { return wordly{h.Handler.WithGroup(name)} }
