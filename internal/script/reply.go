package script

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Replies become values and values replies, as Redis has them.

// MaxReply is the size in bytes of the largest reply that is made of what a script returns.
const MaxReply = 64 << 20

var errReply = fmt.Errorf("what the script returns makes a reply of more than %d bytes", MaxReply)

// maxDepth is how deep values are nested that become a reply.
const maxDepth = 1000

// value returns what a reply is in Lua, and what comes behind it.
func (m *machine) value(reply []byte, depth int) (lua.LValue, []byte) {
	m.meter.work(1)
	end := bytes.IndexByte(reply, '\n')
	if end < 1 || depth > maxDepth {
		panic("a reply breaks off")
	}
	mark, line, rest := reply[0], string(reply[1:end-1]), reply[end+1:]
	single := func(field string, v lua.LValue) (lua.LValue, []byte) {
		m.meter.building += sizeOfFields
		t := &lua.LTable{Metatable: lua.LNil}
		t.RawSetString(field, v)
		return t, rest
	}
	switch mark {
	case '+':
		return single("ok", lua.LString(line))
	case '-':
		return single("err", lua.LString(line))
	case ':':
		n, _ := strconv.ParseInt(line, 10, 64)
		return lua.LNumber(n), rest
	case '_':
		return lua.LNil, rest
	case '#':
		return lua.LBool(line == "t"), rest
	case ',':
		f, _ := strconv.ParseFloat(line, 64)
		return single("double", lua.LNumber(f))
	case '(':
		return single("big_number", lua.LString(line))
	}
	n, _ := strconv.Atoi(line)
	switch {
	case n < 0:
		return lua.LFalse, rest
	case mark == '$':
		return lua.LString(rest[:n]), rest[n+2:]
	case mark == '=':
		t := &lua.LTable{Metatable: lua.LNil}
		t.RawSetString("format", lua.LString(rest[:3]))
		t.RawSetString("string", lua.LString(rest[4:n]))
		rest = rest[n+2:]
		return single("verbatim_string", t)
	case mark == '%':
		var t *lua.LTable
		t, rest = m.elements(rest, 2*n, depth, func(t *lua.LTable, i int, k, v lua.LValue) {
			if i%2 == 1 {
				m.meter.put(t, k, v)
			}
		})
		return single("map", t)
	case mark == '~':
		var t *lua.LTable
		t, rest = m.elements(rest, n, depth, func(t *lua.LTable, _ int, _, v lua.LValue) {
			m.meter.put(t, v, lua.LTrue)
		})
		return single("set", t)
	}
	return m.elements(rest, n, depth, func(t *lua.LTable, i int, _, v lua.LValue) { t.RawSetInt(i+1, v) })
}

// elements reads n values, and has each put into a table, with the one before it.
func (m *machine) elements(reply []byte, n, depth int, put func(t *lua.LTable, i int, before, v lua.LValue)) (*lua.LTable, []byte) {
	t := &lua.LTable{Metatable: lua.LNil}
	m.meter.building += sizeOfTable + int64(min(n, 1))*sizeOfItems
	var before, v lua.LValue
	for i := range n {
		m.meter.building += sizeOfItem
		v, reply = m.value(reply, depth+1)
		put(t, i, before, v)
		before = v
	}
	return t, reply
}

// writer makes a reply of values.
type writer struct {
	m       *machine
	buf     []byte
	resp3   bool
	scripts bool // the script has chosen RESP3
	depth   int
}

func (m *machine) reply(out []byte, v lua.LValue) ([]byte, error) {
	w := writer{m: m, buf: out, resp3: m.run.RESP3, scripts: m.resp3}
	w.put(v)
	return w.buf, nil
}

func appendError(buf []byte, message string) []byte {
	buf = append(buf, '-')
	for i := range len(message) {
		c := message[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		buf = append(buf, c)
	}
	return append(buf, "\r\n"...)
}

func (w *writer) header(mark byte, n int64) {
	w.buf = append(strconv.AppendInt(append(w.buf, mark), n, 10), "\r\n"...)
}

func (w *writer) bulk(s string) {
	w.m.meter.make(len(s))
	w.header('$', int64(len(s)))
	w.buf = append(append(w.buf, s...), "\r\n"...)
}

func (w *writer) null() {
	if w.resp3 {
		w.buf = append(w.buf, "_\r\n"...)
	} else {
		w.buf = append(w.buf, "$-1\r\n"...)
	}
}

func (w *writer) boolean(b bool) {
	switch {
	case w.scripts && w.resp3 && b:
		w.buf = append(w.buf, "#t\r\n"...)
	case w.scripts && w.resp3:
		w.buf = append(w.buf, "#f\r\n"...)
	case b || w.scripts:
		w.header(':', map[bool]int64{true: 1}[b])
	default:
		w.null()
	}
}

func (w *writer) put(v lua.LValue) {
	w.m.meter.work(1)
	if len(w.buf) > MaxReply {
		w.m.meter.stop(errReply)
	}
	switch v := v.(type) {
	case lua.LString:
		w.bulk(string(v))
	case lua.LNumber:
		w.header(':', integer(float64(v)))
	case lua.LBool:
		w.boolean(bool(v))
	case *lua.LTable:
		if w.depth++; w.depth > maxDepth {
			w.buf = appendError(w.buf, "ERR reached lua stack limit")
		} else {
			w.table(w.m.seen(v))
		}
		w.depth--
	default:
		w.null()
	}
}

// table writes a table: what a single field of it tells, or else its elements up to the first nil.
func (w *writer) table(t *lua.LTable) {
	if s, ok := t.RawGetString("err").(lua.LString); ok {
		w.m.meter.make(len(s))
		w.buf = appendError(w.buf, string(s))
		return
	}
	if s, ok := t.RawGetString("ok").(lua.LString); ok {
		w.m.meter.make(len(s))
		w.buf = append(w.buf, '+')
		from := len(w.buf)
		w.buf = append(append(w.buf, s...), "\r\n"...)
		for i := range w.buf[from : len(w.buf)-2] {
			if c := &w.buf[from+i]; *c == '\r' || *c == '\n' {
				*c = ' '
			}
		}
		return
	}
	if n, ok := t.RawGetString("double").(lua.LNumber); ok {
		w.double(float64(n))
		return
	}
	if inner, ok := t.RawGetString("map").(*lua.LTable); ok {
		w.pairs(inner, true)
		return
	}
	if inner, ok := t.RawGetString("set").(*lua.LTable); ok {
		w.pairs(inner, false)
		return
	}
	if s, ok := t.RawGetString("big_number").(lua.LString); ok {
		if !w.resp3 {
			w.bulk(string(s))
			return
		}
		w.m.meter.make(len(s))
		w.buf = append(append(append(w.buf, '('), bytes.Map(noLineEnd, []byte(s))...), "\r\n"...)
		return
	}
	if inner, ok := t.RawGetString("verbatim_string").(*lua.LTable); ok {
		format, ok1 := inner.RawGetString("format").(lua.LString)
		s, ok2 := inner.RawGetString("string").(lua.LString)
		if ok1 && ok2 {
			w.verbatim(string(format), string(s))
			return
		}
	}
	n := 0
	for t.RawGetInt(n+1) != lua.LNil {
		n++
	}
	w.header('*', int64(n))
	for i := range n {
		w.put(t.RawGetInt(i + 1))
	}
}

func noLineEnd(r rune) rune {
	if r == '\r' || r == '\n' {
		return ' '
	}
	return r
}

func (w *writer) double(f float64) {
	const digits = 17
	s := formatG(f, digits)
	if math.IsNaN(f) {
		s = "nan"
	}
	if !w.resp3 {
		w.bulk(s)
		return
	}
	w.buf = append(append(append(w.buf, ','), s...), "\r\n"...)
}

func (w *writer) verbatim(format, s string) {
	if !w.resp3 {
		w.bulk(s)
		return
	}
	w.m.meter.make(len(s) + len(format))
	format = (format + "   ")[:3]
	w.header('=', int64(len(s)+4))
	w.buf = append(append(append(append(w.buf, format...), ':'), s...), "\r\n"...)
}

// pairs writes a map, or the keys of a set.
func (w *writer) pairs(t *lua.LTable, values bool) {
	w.m.meter.walk(t)
	n := int64(0)
	t.ForEach(func(_, _ lua.LValue) { n++ })
	switch {
	case w.resp3 && values:
		w.header('%', n)
	case w.resp3:
		w.header('~', n)
	case values:
		w.header('*', 2*n)
	default:
		w.header('*', n)
	}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		w.put(k)
		if values {
			w.put(v)
		}
	}
}

// What the interpreter says of some errors, and what Lua 5.1 says.
var (
	calculated = regexp.MustCompile(`cannot perform \w+ operation between (\w+) and (\w+)$`)
	others     = []struct {
		theirs *regexp.Regexp
		ours   string
	}{
		{regexp.MustCompile(`attempt to index a non-table object\((\w+)\) with key '(?s:.*)'$`), "attempt to index a $1 value"},
		{regexp.MustCompile(`attempt to call a non-function object$`), "attempt to call a nil value"},
		{regexp.MustCompile(`__len undefined$`), "attempt to get length of a value that has none"},
		{regexp.MustCompile(`__unm undefined$`), "attempt to perform arithmetic on a value that is no number"},
		{regexp.MustCompile(`for statement init must be a number$`), "'for' initial value must be a number"},
		{regexp.MustCompile(`for statement (\w+) must be a number$`), "'for' $1 must be a number"},
	}
	alike = regexp.MustCompile(`attempt to compare (nil|boolean|table|function|userdata|thread) with (\w+)$`)
)

// redisText puts an error of the interpreter as Lua 5.1 does, without the name of what it was
// about.
func redisText(s string) string {
	const longest = 1 << 10
	if len(s) > longest || strings.HasPrefix(s, "ERR ") {
		return s
	}
	if found := calculated.FindStringSubmatchIndex(s); found != nil {
		kind := s[found[2]:found[3]]
		if kind == "number" {
			kind = s[found[4]:found[5]]
		}
		return fmt.Sprintf("%sattempt to perform arithmetic on a %s value", s[:found[0]], kind)
	}
	if found := alike.FindStringSubmatch(s); found != nil && found[1] == found[2] {
		return alike.ReplaceAllString(s, "attempt to compare two $1 values")
	}
	for _, o := range others {
		s = o.theirs.ReplaceAllString(s, o.ours)
	}
	return s
}
