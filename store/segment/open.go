package segment

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/peerd/peerd/store"
)

// recoveryBuffer is how many bytes Open reads and writes at once.
const recoveryBuffer = 1 << 20

// Open opens the log in dir, which is made if it is not there. It reads the header of each segment
// and the whole of the last. One log at a time may be open in a directory.
//
// The error wraps store.ErrNoSpace if the disk has no room to open the log, and store.ErrUnreadable
// or store.ErrFailed if it fails. It names a file whose format is another one; nothing was changed
// then.
func Open(dir string, opts Options) (*Log, error) {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = disk(filepath.Dir(dir)).sync() // it may just have been made
	}
	if err == nil {
		var l *Log
		if l, err = open(disk(dir), opts); err == nil {
			return l, nil
		}
	}
	if isFull(err) {
		err = fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	return nil, fmt.Errorf("open the log in %s: %w", dir, err)
}

func open(dir directory, opts Options) (*Log, error) {
	if opts.SegmentSize < 0 || opts.SegmentSize > maxSize {
		return nil, fmt.Errorf("a segment of %d bytes: %d are the most", opts.SegmentSize, maxSize)
	}
	l := &Log{dir: dir, size: store.Position(opts.SegmentSize)}
	if l.size == 0 {
		l.size = defaultSize
	}
	l.reserve = min(l.size/reserveShare, maxReserve)
	var err error
	if l.segments, err = findSegments(dir); err != nil {
		return nil, unreadable(err)
	}
	if err := l.recover(opts.Synced); err != nil {
		if l.last != nil {
			l.last.Close() // its error would only distract from the first
		}
		if hasFailed(err) && !errors.Is(err, store.ErrUnreadable) {
			err = fmt.Errorf("%w: %w", store.ErrFailed, err)
		}
		return nil, err
	}
	l.sum.salt = l.segments[len(l.segments)-1].salt
	return l, nil
}

// findSegments reads the headers of all segments. Other files in the directory are not looked at.
func findSegments(dir directory) (found []segment, err error) {
	names, err := dir.list()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		base, ok := named(name)
		if !ok {
			continue
		}
		f, err := dir.open(name)
		if err != nil {
			return nil, err
		}
		s, err := readSegment(f, base)
		f.Close() // it was only read
		if err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	slices.SortFunc(found, func(a, b segment) int { return cmp.Compare(a.base, b.base) })
	return found, nil
}

// recover finds where the log ends, and makes durable what is before. known is what the owner knows
// to have been synced.
func (l *Log) recover(known store.Position) error {
	if len(l.segments) == 0 {
		return l.beginAt(known)
	}
	s := l.segments[len(l.segments)-1]
	f, err := l.dir.open(s.name())
	if err != nil {
		return unreadable(err)
	}
	l.last = f
	size, err := f.Size()
	if err != nil {
		return unreadable(err)
	}
	end := s.base + store.Position(max(0, size-headerSize))
	if !s.rotten {
		return l.resume(s, end, known)
	}
	// A header is durable before the first record is written. One that is not whole, with nothing
	// behind it, was interrupted, and is written again; else it rotted, and stays for readers to
	// report.
	f.Close()
	l.last = nil
	if end == s.base && known <= s.base {
		l.segments = l.segments[:len(l.segments)-1]
		l.torn = size
	}
	return l.beginAt(max(end, known))
}

// beginAt goes on in a new segment.
func (l *Log) beginAt(base store.Position) (err error) {
	s, f, err := begin(l.dir, base)
	if err != nil {
		return err
	}
	l.segments, l.last = append(l.segments, s), f
	l.next, l.synced = base, base
	return nil
}

// resume goes on in the last segment, whose file ends at a position.
func (l *Log) resume(s segment, end, known store.Position) error {
	buffer := make([]byte, recoveryBuffer)
	whole, synced, err := survey(scan(s, l.last, s.base, end, buffer), known)
	if err != nil {
		return unreadable(err)
	}
	l.torn = int64(end - min(whole, end))
	// If less is there than was synced the file becomes longer: a position is not used again.
	if err := l.last.Truncate(s.offset(whole)); err != nil {
		return err
	}
	from := s.offset(min(synced, whole))
	if synced == s.base {
		from = 0 // the header was synced before the first record was written, and nothing else says so
	}
	if err := rewrite(l.last, from, s.offset(whole), buffer); err != nil {
		return err
	}
	if err := l.last.Sync(); err != nil {
		return err
	}
	l.next, l.synced = whole, whole
	return l.dir.sync()
}

// survey returns where the log ends, and up to where it is proven to have been synced. What is
// bad and not before that was torn, and all behind it goes, as it was written later.
func survey(records scanner, known store.Position) (end, synced store.Position, err error) {
	synced = max(known, records.base)
	var bad []store.Position
	for {
		_, proven, err := records.next()
		var damage *store.Damage
		if errors.As(err, &damage) {
			bad = append(bad, damage.From)
			continue
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, 0, err
		}
		synced = max(synced, proven)
	}
	for _, at := range bad {
		if at >= synced {
			return at, synced, nil
		}
	}
	return max(records.end, known), synced, nil
}

// rewrite writes a stretch of a file over itself, so that the next sync cannot pass over it.
func rewrite(f file, from, to int64, buffer []byte) error {
	for from < to {
		part := buffer[:min(int64(len(buffer)), to-from)]
		if _, err := f.ReadAt(part, from); err != nil {
			return err
		}
		if _, err := f.WriteAt(part, from); err != nil {
			return err
		}
		from += int64(len(part))
	}
	return nil
}
