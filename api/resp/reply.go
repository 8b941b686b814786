package resp

import (
	"math"
	"slices"
	"strconv"
)

// replies is the bytes of replies that were not sent yet. What RESP3 has a type of its own for is
// written in RESP2 as Redis does: maps and sets as arrays, booleans as 0 and 1, null as a bulk
// string of length -1.
type replies struct {
	buf   []byte
	resp3 bool
}

// replyError is an error that is shown to the client as it is, its first word being the code that
// clients decide on. It is returned before anything was written, so that within MULTI the other
// commands go on.
type replyError string

func (e replyError) Error() string { return string(e) }

func (w *replies) status(s string) {
	w.buf = append(append(append(w.buf, '+'), s...), "\r\n"...)
}

// fail writes an error. A line's end in it would end the reply early, so it becomes a blank.
func (w *replies) fail(text string) {
	w.buf = append(w.buf, '-')
	for i := range len(text) {
		c := text[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		w.buf = append(w.buf, c)
	}
	w.buf = append(w.buf, "\r\n"...)
}

func (w *replies) integer(n int64) { w.header(':', n) }

func (w *replies) bulk(b []byte) {
	w.header('$', int64(len(b)))
	w.buf = append(append(w.buf, b...), "\r\n"...)
}

func (w *replies) text(s string) {
	w.header('$', int64(len(s)))
	w.buf = append(append(w.buf, s...), "\r\n"...)
}

func (w *replies) null() {
	if w.resp3 {
		w.buf = append(w.buf, "_\r\n"...)
		return
	}
	w.buf = append(w.buf, "$-1\r\n"...)
}

func (w *replies) boolean(b bool) {
	switch {
	case w.resp3 && b:
		w.buf = append(w.buf, "#t\r\n"...)
	case w.resp3:
		w.buf = append(w.buf, "#f\r\n"...)
	case b:
		w.integer(1)
	default:
		w.integer(0)
	}
}

func (w *replies) double(f float64) {
	var text [32]byte
	if !w.resp3 {
		w.bulk(appendDouble(text[:0], f))
		return
	}
	w.buf = append(w.buf, ',')
	w.buf = appendDouble(w.buf, f)
	w.buf = append(w.buf, "\r\n"...)
}

// appendDouble appends a number as Redis writes it.
func appendDouble(b []byte, f float64) []byte {
	if math.IsInf(f, 0) {
		return append(b, map[bool]string{true: "inf", false: "-inf"}[f > 0]...)
	}
	return strconv.AppendFloat(b, f, 'g', 17, 64)
}

// nullArray is null where Redis writes an array that there is not.
func (w *replies) nullArray() {
	if w.resp3 {
		w.null()
		return
	}
	w.buf = append(w.buf, "*-1\r\n"...)
}

// array begins an array: the caller writes n replies.
func (w *replies) array(n int) { w.header('*', int64(n)) }

// push begins a message that is no reply: the caller writes n replies.
func (w *replies) push(n int) {
	if w.resp3 {
		w.header('>', int64(n))
		return
	}
	w.array(n)
}

// set begins a set: the caller writes n replies.
func (w *replies) set(n int) { w.header(w.setMark(), int64(n)) }

// dict begins a map: the caller writes n times a key and a value.
func (w *replies) dict(n int) {
	mark, count := w.dictHeader(n)
	w.header(mark, count)
}

func (w *replies) setMark() byte {
	if w.resp3 {
		return '~'
	}
	return '*'
}

func (w *replies) dictHeader(n int) (mark byte, count int64) {
	if w.resp3 {
		return '%', int64(n)
	}
	return '*', 2 * int64(n)
}

func (w *replies) header(mark byte, n int64) {
	w.buf = append(w.buf, mark)
	if 0 <= n && n < 10 {
		w.buf = append(w.buf, byte('0'+n), '\r', '\n')
		return
	}
	w.buf = append(strconv.AppendInt(w.buf, n, 10), "\r\n"...)
}

// The next three put a header in front of what was written since at, for callers that know only
// afterwards how much it was. O(bytes since at).

func (w *replies) arrayAt(at, n int) { w.headerAt(at, '*', int64(n)) }

func (w *replies) setAt(at, n int) { w.headerAt(at, w.setMark(), int64(n)) }

func (w *replies) dictAt(at, n int) {
	mark, count := w.dictHeader(n)
	w.headerAt(at, mark, count)
}

func (w *replies) headerAt(at int, mark byte, n int64) {
	var header [24]byte
	text := append(strconv.AppendInt(append(header[:0], mark), n, 10), "\r\n"...)
	w.insert(at, text)
}

func (w *replies) insert(at int, b []byte) { w.buf = slices.Insert(w.buf, at, b...) }
