package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/backup"
	"github.com/peerd/peerd/internal/engine"
)

// ErrBackupRuns is returned by Backup while another one of this peer runs. Nothing was written.
var ErrBackupRuns = errors.New("a backup of this peer runs already: wait for its end")

// ErrBackupDamaged is wrapped by errors about a backup that is not what was written: it was
// changed, or cut short.
var ErrBackupDamaged = backup.ErrDamaged

// ErrNoBackup is wrapped by errors about what is no backup, or one that another version of peerd
// made.
var ErrNoBackup = backup.ErrFormat

// BackupInfo says what a backup holds.
type BackupInfo struct {
	Made          time.Time         `json:"made"`
	Name          string            `json:"name"` // of the peer that made it
	Space         string            `json:"space"`
	Replica       string            `json:"replica"`
	VersionVector map[string]uint64 `json:"version_vector"`
	Keys          uint64            `json:"keys"`
	Cells         uint64            `json:"cells"`
	Records       uint64            `json:"records"`
	Bytes         uint64            `json:"bytes"` // of the file
}

// BackupProgress is how far a backup, a check or a restore has come.
type BackupProgress struct {
	Records, Expected uint64 // of the store; about, for what is expected
	Bytes             uint64 // of the file
}

// Backup is Space.Backup.
func (s *space) Backup(ctx context.Context, w io.Writer, progress func(BackupProgress)) (
	info BackupInfo, err error) {
	if !s.backingUp.CompareAndSwap(false, true) {
		return info, ErrBackupRuns
	}
	defer s.backingUp.Store(false)
	header := backup.Header{Name: s.p.cfg.Name, Space: s.name, Made: time.Now()}
	moment, err := s.moment(ctx, &header)
	if err != nil {
		return info, err
	}
	defer s.views.Done()
	defer moment.Close()
	out, err := backup.NewWriter(w, header)
	if err != nil {
		return info, err
	}
	told := out.Bytes()
	var failed error
	err = moment.Scan(func(key, value []byte) bool {
		failed = out.Add(key, value)
		if failed != nil || out.Bytes() == told {
			return failed == nil
		}
		if told = out.Bytes(); progress != nil {
			progress(BackupProgress{out.Records(), header.Records, told})
		}
		if failed = ctx.Err(); failed == nil && s.stopping() {
			failed = ErrClosed
		}
		return failed == nil
	})
	s.suspectRead(err)
	if err = errors.Join(err, failed); err == nil {
		err = out.Close()
	}
	return infoOf(header, out.Records(), out.Bytes()), err
}

// moment takes the present one, which counts as an open view, and describes it.
func (s *space) moment(ctx context.Context, h *backup.Header) (moment *engine.Moment, err error) {
	w := &waiting{taken: make(chan *engine.Moment, 1)}
	failed := s.call(func(l *loop) {
		if err = l.refusal(); err == nil && s.p.disk.room() == full {
			err = s.p.disk.refusal()
		}
		if err == nil {
			err = l.engine.Backup(w.take)
		}
		if err == nil {
			s.views.Add(1)
			h.Replica = l.engine.ID()
		}
	})
	if failed != nil || err != nil {
		return nil, errors.Join(failed, err)
	}
	defer func() {
		if moment == nil {
			w.leave()
			s.views.Done()
		}
	}()
	select {
	case moment = <-w.taken:
	case <-ctx.Done():
	case <-s.stopped:
	}
	switch {
	case moment != nil:
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s.stopping():
		return nil, s.gone()
	default:
		return nil, ErrRebuilding
	}
	h.Seen, h.Keys, h.Cells = moment.Seen, uint64(moment.Keys), uint64(moment.Cells)
	h.Records = moment.Records
	return moment, nil
}

// waiting is somebody who waits for a moment, and may go away before there is one.
type waiting struct {
	taken chan *engine.Moment // of capacity 1
	mu    sync.Mutex
	left  bool
}

// take is called by the commit loop, once.
func (w *waiting) take(m *engine.Moment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.left {
		w.taken <- m
	} else if m != nil {
		m.Close()
	}
}

// leave has a moment closed that comes, or has come.
func (w *waiting) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = true
	select {
	case m := <-w.taken:
		if m != nil {
			m.Close()
		}
	default:
	}
}

func infoOf(h backup.Header, records, bytes uint64) BackupInfo {
	info := BackupInfo{
		Made: h.Made, Name: h.Name, Space: h.Space, Replica: h.Replica.String(), VersionVector: map[string]uint64{},
		Keys: h.Keys, Cells: h.Cells, Records: records, Bytes: bytes,
	}
	for id, n := range h.Seen {
		info.VersionVector[id.String()] = n
	}
	return info
}

// VerifyBackup reads a backup to its end and returns what it holds. The error wraps
// ErrBackupDamaged or ErrNoBackup if it is none that can be restored. It does not look into the
// records: Restore does.
func VerifyBackup(ctx context.Context, r io.Reader, progress func(BackupProgress)) (BackupInfo, error) {
	return readBackup(ctx, r, progress, func(backup.Header, []backup.Record) error { return nil })
}

// readBackup calls fn with all records of a backup, block by block.
func readBackup(ctx context.Context, r io.Reader, progress func(BackupProgress),
	fn func(backup.Header, []backup.Record) error) (info BackupInfo, err error) {
	in, err := backup.NewReader(r)
	if err != nil {
		return info, err
	}
	defer in.Close()
	h := in.Header()
	for {
		records, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return infoOf(h, in.Records(), in.Bytes()), nil
		case err == nil:
			err = ctx.Err()
		}
		if err == nil {
			err = fn(h, records)
		}
		if err != nil {
			return infoOf(h, in.Records(), in.Bytes()), err
		}
		if progress != nil {
			progress(BackupProgress{in.Records(), h.Records, in.Bytes()})
		}
	}
}

// sameContext reports whether what was restored is what the backup says it holds.
func sameContext(info BackupInfo, seen crdt.VersionVector) error {
	if len(seen) != len(info.VersionVector) {
		return fmt.Errorf("%w: it says it has %d replicas, its records have %d", ErrBackupDamaged,
			len(info.VersionVector), len(seen))
	}
	for id, n := range seen {
		if info.VersionVector[id.String()] != n {
			return fmt.Errorf("%w: it says it has %d writes of replica %v, its records have %d",
				ErrBackupDamaged, info.VersionVector[id.String()], id, n)
		}
	}
	return nil
}
