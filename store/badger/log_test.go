package badger

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestMessagesOfBadgerAreClippedAndLeveled(t *testing.T) {
	var out bytes.Buffer
	log := badgerLog{to: slog.New(slog.NewTextHandler(&out, nil))} // From the level of information up.
	log.Debugf("debug")
	log.Infof("info")
	if out.Len() != 0 {
		t.Errorf("small talk is logged: %s", out.Bytes())
	}
	log.Errorf("value %s\nof two lines", strings.Repeat("x", 1<<10))
	got := out.String()
	if !strings.Contains(got, "level=WARN") || strings.Contains(got, "two lines") ||
		strings.Count(got, "x") > maxText {
		t.Errorf("logged %q", got)
	}
	badgerLog{}.Errorf("nobody listens")
}
