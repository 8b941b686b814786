package badger

import (
	"context"
	"fmt"
	"log/slog"

	dgraph "github.com/dgraph-io/badger/v4"
)

// badgerLog passes Badger's messages on to a slog.Logger, clipped: they can hold keys and values.
type badgerLog struct{ to *slog.Logger }

var _ dgraph.Logger = badgerLog{}

func (l badgerLog) Errorf(format string, args ...any)   { l.log(slog.LevelWarn, format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.log(slog.LevelWarn, format, args) }
func (l badgerLog) Infof(format string, args ...any)    { l.log(slog.LevelDebug, format, args) }
func (l badgerLog) Debugf(format string, args ...any)   { l.log(slog.LevelDebug, format, args) }

func (l badgerLog) log(level slog.Level, format string, args []any) {
	// Badger says much on every write: nothing is formatted that nobody reads.
	if l.to == nil || !l.to.Enabled(context.Background(), level) {
		return
	}
	text := clip(fmt.Sprintf(format, args...))
	l.to.Log(context.Background(), level, "message of the storage engine", "text", text)
}
