package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/internal/wire"
)

// What was found of this host's clock is kept over a restart: until others are met again nothing
// else tells that it is wrong, and what it removed too early would be lost to all. But it may have
// been set meanwhile. So what was kept is a doubt: until the clock is measured, keys expire, and
// are said to expire, rather too late than too early.

const (
	// clockFile is the name, in the data directory, of the file of what was found. It is there only
	// while the clock is wrong, or may be.
	clockFile    = "clock.json"
	clockVersion = 2
)

// keptClock is the file: JSON, so that it can be read by hand.
type keptClock struct {
	Version uint64 `json:"version"`
	AheadMs int64  `json:"right_time_ahead_ms"`
	SlackMs int64  `json:"slack_ms"`
}

// knownClock is what is known of this host's clock.
type knownClock struct {
	kept engine.Clock // in the file
	bad  bool         // the file says nothing, and is replaced
	told bool         // that it cannot be written
}

func (p *Peer) clockPath() string { return filepath.Join(p.cfg.Dir, clockFile) }

// loadClock takes over what was found of the clock before.
func (p *Peer) loadClock() {
	if p.cfg.Memory {
		return
	}
	found, err := readClock(p.clockPath())
	if err != nil {
		p.known.bad = !errors.Is(err, wire.ErrFormat)
		p.log.Warn("cannot read what was found of this host's clock: "+
			"it is taken for right until it is measured", "error", err)
		return
	}
	p.known.kept = found
	if found != (engine.Clock{}) {
		p.clock.Store(engine.FoundBefore(found, p.reading(time.Now())))
		p.log.Warn("this host's clock was off when it was measured last: "+
			"until it is measured again keys expire later",
			"right_time_ahead_ms", found.Ahead.Milliseconds())
	}
}

// readClock returns what a file says; no file, that nothing is wrong.
func readClock(path string) (found engine.Clock, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	var file keptClock
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err == nil {
		err = wire.CheckFormat(file.Version, clockVersion, "move it away")
	}
	if err != nil {
		return found, fmt.Errorf("%s: %w", path, err)
	}
	found.Ahead, found.Slack = inMilliseconds(file.AheadMs), max(0, inMilliseconds(file.SlackMs))
	return found, nil
}

// inMilliseconds returns a duration, at most a hundred years: twice that is one still.
func inMilliseconds(n int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond) / 3
	return time.Duration(min(max(n, -most), most)) * time.Millisecond
}

// foundClock takes over what was found of the clock, and keeps it, to the precision that a clock
// may be off by.
func (p *Peer) foundClock(of *engine.Found, limit time.Duration) {
	known, found := &p.known, of.Clock
	p.clock.Store(of)
	off := max((found.Ahead - known.kept.Ahead).Abs(), (found.Slack - known.kept.Slack).Abs())
	right := engine.Clock{}
	if p.cfg.Memory || !known.bad && off <= limit/4 && (found == right) == (known.kept == right) {
		return
	}
	err := writeClock(p.clockPath(), found)
	if err == nil {
		known.kept, known.bad = found, false
	} else if !known.told {
		p.log.Warn("cannot keep what was found of this host's clock: it is tried again", "error", err)
	}
	known.told = err != nil
}

// writeClock replaces the file: after a crash there is the old or the new one.
func writeClock(path string, found engine.Clock) error {
	if found == (engine.Clock{}) {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	ahead, slack := found.Ahead.Milliseconds(), found.Slack.Milliseconds()
	text, err := json.Marshal(keptClock{clockVersion, ahead, slack})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
