package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/peerd/peerd/store"
)

// readAhead is how many bytes a reader without a buffer reads at once, and minBuffer the least that
// is worth a call of the system. Only a record that does not fit is allocated for.
const (
	readAhead = 64 << 10
	minBuffer = 1 << 10
)

// reader is a store.LogReader. It has a file of its own, so what it reads stays there until it has
// read it, whoever removes it meanwhile.
type reader struct {
	log  *Log
	scan scanner
	file file // nil when closed
}

// Read implements store.Log. Each reader holds a file open.
func (l *Log) Read(from store.Position, buffer []byte) (store.LogReader, error) {
	if len(buffer) < minBuffer {
		buffer = make([]byte, readAhead)
	}
	r := &reader{log: l, scan: scanner{at: from, buffer: buffer}}
	if err := r.advance(); err != nil && err != io.EOF {
		return nil, err
	}
	return r, nil
}

func (r *reader) Next() (store.Record, error) {
	for {
		if r.scan.at >= r.scan.end || r.file == nil {
			if err := r.advance(); err != nil {
				return store.Record{}, err
			}
		}
		record, _, err := r.scan.next()
		if err != io.EOF {
			return record, unreadable(err)
		}
	}
}

// advance finds what stands at the reader's position: more of its segment, or another.
func (r *reader) advance() error {
	if r.log == nil {
		return store.ErrClosed
	}
	at := r.scan.at
	s, end, err := r.log.find(at)
	if err != nil {
		return err
	}
	if r.file == nil || r.scan.base != s.base {
		f, err := r.log.dir.open(s.name())
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s is gone", store.ErrDropped, s.name())
		}
		if err != nil {
			return unreadable(err)
		}
		r.release()
		r.file, r.scan = f, scan(s, f, at, end, r.scan.buffer)
	}
	r.scan.end = end
	if at >= end {
		return io.EOF
	}
	return nil
}

func (r *reader) release() {
	if r.file != nil {
		r.file.Close() // it was only read
	}
	r.file = nil
}

func (r *reader) Close() {
	r.release()
	r.log, r.scan = nil, scanner{}
}

// find returns the segment in which a position stands, and where it ends now.
func (l *Log) find(p store.Position) (s segment, end store.Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return s, 0, store.ErrClosed
	}
	if p < l.segments[0].base {
		return s, 0, store.ErrDropped
	}
	end = l.next
	i := len(l.segments) - 1
	for ; l.segments[i].base > p; i-- {
		end = l.segments[i].base
	}
	return l.segments[i], end, nil
}

// scanner reads the records of one segment, and finds the next whole one behind whatever is
// damaged. Readers and opening share it, so they agree on what a record is.
type scanner struct {
	segment
	sum    checksum
	file   io.ReaderAt
	at     store.Position // where the next frame should stand
	end    store.Position // where reading stops
	buffer []byte         // the caller's; what does not fit is read into a slice of its own
	window []byte         // the bytes at at that were read ahead
}

func scan(s segment, f io.ReaderAt, from, end store.Position, buffer []byte) scanner {
	return scanner{segment: s, sum: checksum{salt: s.salt}, file: f, at: from, end: end, buffer: buffer}
}

// next returns the next record, and up to where the log was synced when it was written. The error
// is io.EOF at the end, a *store.Damage, or what the file said, which leaves the scanner in its
// place.
func (s *scanner) next() (record store.Record, synced store.Position, err error) {
	if s.at >= s.end {
		return record, 0, io.EOF
	}
	start := s.at
	if s.rotten {
		s.skip(s.end - start)
		return record, 0, s.damage(start)
	}
	f, ok, err := s.frame()
	if err != nil {
		return record, 0, err
	}
	if !ok {
		return record, 0, s.search()
	}
	data, ok, err := s.record(f)
	if err != nil {
		return record, 0, err
	}
	s.skip(f.size())
	if !ok { // its frame is as it was written, and so leads to the next
		return record, 0, s.damage(start)
	}
	return store.Record{Position: start, Next: s.at, Data: data}, start - f.back, nil
}

// search goes on byte by byte to the next whole record, or to the end, and returns the damage it
// passed over. A frame alone is not enough: one in many searches would take a chance match for one.
func (s *scanner) search() error {
	start := s.at
	for s.skip(1); s.at < s.end; s.skip(1) {
		f, ok, err := s.frame()
		if ok {
			_, ok, err = s.record(f)
		}
		if err != nil {
			s.at, s.window = start, nil
			return err
		}
		if ok {
			break
		}
		if len(s.window) < frameSize {
			s.skip(s.end - s.at) // the file is shorter than it was
			break
		}
	}
	return s.damage(start)
}

func (s *scanner) damage(from store.Position) error {
	return &store.Damage{From: from, To: s.at, Place: s.name()}
}

// frame returns the frame where the scanner stands, and false if there is none.
func (s *scanner) frame() (f frame, ok bool, err error) {
	if err := s.fill(frameSize); err != nil || len(s.window) < frameSize {
		return f, false, err
	}
	f, ok = s.sum.parse(s.window[:frameSize], s.at, s.base, s.end)
	return f, ok, nil
}

// record returns the record of the frame where the scanner stands, and false if it is not the one
// that was written.
func (s *scanner) record(f frame) (data []byte, ok bool, err error) {
	size := int(f.size())
	if err := s.fill(size); err != nil || len(s.window) < size {
		return nil, false, err
	}
	data = s.window[frameSize:size:size]
	return data, s.sum.record(data) == f.sum, nil
}

// fill has n bytes in the window, or as many as there are.
func (s *scanner) fill(n int) error {
	if len(s.window) >= n {
		return nil
	}
	into := s.buffer
	if n > len(into) {
		into = make([]byte, n) // a frame with a checksum asked for it, and it fits into the segment
	}
	had := copy(into, s.window)
	into = into[:min(store.Position(len(into)), s.end-s.at)]
	read, err := s.file.ReadAt(into[had:], s.offset(s.at)+int64(had))
	s.window = into[:had+read]
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *scanner) skip(n store.Position) {
	s.at += n
	s.window = s.window[min(n, store.Position(len(s.window))):]
}
