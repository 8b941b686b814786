package peer

import (
	"time"

	"github.com/peerd/peerd/internal/replica"
)

// sync has what was committed made durable, beside the loop: on a busy disk that can take seconds.
func (l *loop) sync() {
	wanted := l.dirty && l.p.cfg.Durability == Interval
	onlyLog := l.p.disk.room() == full
	if l.syncing || !wanted && (onlyLog || !l.node.NeedsSync()) {
		return
	}
	l.dirty, l.syncing = false, true
	under := l.node.BeginSync()
	if onlyLog {
		under = under.OfLog()
	}
	l.s.background.Add(1)
	go func() {
		defer l.s.background.Done()
		began := time.Now()
		err := under.Run()
		l.s.counters.syncTimes.Observe(time.Since(began), 1)
		l.synced <- synced{under, err}
	}()
}

// synced is a sync that has ended.
type synced struct {
	syncing replica.Syncing
	err     error
}

// endSync takes note of it.
func (l *loop) endSync(s synced) error {
	l.syncing = false
	if s.err != nil {
		return s.err
	}
	l.node.Synced(s.syncing)
	l.cutting = l.p.disk.room() != full
	return nil
}
