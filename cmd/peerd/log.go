package main

import (
	"context"
	"io"
	"log/slog"

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

// wordly puts the errors of records in words, as from the level info on people read them. At debug they stay as they are.
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
