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

// Next implements store.LogReader.
func (r *reader) Next() (store.Record, error) {
	for {
		if r.scan.at >= r.scan.end || r.file == nil {
			if err := r.advance(); err != nil {
				return store.Record{}, err
			}
		}
		record, _, err := r.scan.next()
		if err != io.EOF {
			return record, err
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
			return err
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

// Close implements store.LogReader.
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
