package script

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
)

// cjson 2.1.0, with Redis' settings.

// jsonSettings are what a script can change of cjson, for itself.
type jsonSettings struct {
	convert              bool // an excessively sparse array becomes an object
	ratio, safe          int
	encodeDepth          int
	decodeDepth          int
	precision            int
	keepBuffer           bool
	encodeInvalid        string // "off", "on" or "null"
	refuseInvalidNumbers bool
}

var defaultJSON = jsonSettings{ratio: 2, safe: 10, encodeDepth: 1000, decodeDepth: 1000, precision: 14, keepBuffer: true,
	encodeInvalid: "off"}

func (m *machine) openJSON() {
	depth := func(name string, at func() *int) lua.LGFunction {
		return func(l *lua.LState) int {
			if l.Get(1) != lua.LNil {
				n := intArg(l, 1, name)
				if n < 1 || n > math.MaxInt32 {
					badArg(l, 1, name, "expected integer between 1 and 2147483647")
				}
				*at() = int(min(n, maxDepth))
			}
			return push(l, lua.LNumber(*at()))
		}
	}
	t := m.library("cjson", map[string]lua.LGFunction{
		"encode": func(l *lua.LState) int {
			if l.GetTop() != 1 {
				badArg(l, 1, "encode", "expected 1 argument")
			}
			e := jsonEncoder{m: m, l: l}
			e.value(l.Get(1), 0)
			return push(l, lua.LString(e.buf))
		},
		"decode": func(l *lua.LState) int {
			if l.GetTop() != 1 {
				badArg(l, 1, "decode", "expected 1 argument")
			}
			d := jsonDecoder{m: m, l: l, s: stringArg(l, 1, "decode")}
			m.meter.work(len(d.s) / stepOfBytes) // of spaces, too
			defer m.meter.built()
			v := d.value(d.next(), 0)
			if end := d.next(); end.kind != "T_END" {
				d.fail("the end", end)
			}
			return push(l, v)
		},
		"encode_sparse_array":     m.sparseArray,
		"encode_max_depth":        depth("encode_max_depth", func() *int { return &m.json.encodeDepth }),
		"decode_max_depth":        depth("decode_max_depth", func() *int { return &m.json.decodeDepth }),
		"encode_number_precision": m.numberPrecision,
		"encode_keep_buffer": func(l *lua.LState) int {
			if l.Get(1) != lua.LNil {
				m.json.keepBuffer = lua.LVAsBool(l.Get(1))
			}
			return push(l, lua.LBool(m.json.keepBuffer))
		},
		"encode_invalid_numbers": m.encodeInvalid,
		"decode_invalid_numbers": func(l *lua.LState) int {
			if l.Get(1) != lua.LNil {
				m.json.refuseInvalidNumbers = !lua.LVAsBool(l.Get(1))
			}
			return push(l, lua.LBool(!m.json.refuseInvalidNumbers))
		},
	})
	t.RawSetString("new", m.l.NewFunction(func(l *lua.LState) int { return push(l, m.globals.RawGetString("cjson")) }))
	t.RawSetString("null", m.null)
	t.RawSetString("_NAME", lua.LString("cjson"))
	t.RawSetString("_VERSION", lua.LString("2.1.0"))
}

func (m *machine) sparseArray(l *lua.LState) int {
	for i, at := range []*int{&m.json.ratio, &m.json.safe} {
		if l.Get(i+2) != lua.LNil {
			n := intArg(l, i+2, "encode_sparse_array")
			if n < 0 || n > math.MaxInt32 {
				badArg(l, i+2, "encode_sparse_array", "expected integer between 0 and 2147483647")
			}
			*at = int(n)
		}
	}
	if l.Get(1) != lua.LNil {
		m.json.convert = lua.LVAsBool(l.Get(1))
	}
	return push(l, lua.LBool(m.json.convert), lua.LNumber(m.json.ratio), lua.LNumber(m.json.safe))
}

func (m *machine) numberPrecision(l *lua.LState) int {
	if l.Get(1) != lua.LNil {
		n := intArg(l, 1, "encode_number_precision")
		if n < 1 || n > 14 {
			badArg(l, 1, "encode_number_precision", "expected integer between 1 and 14")
		}
		m.json.precision = int(n)
	}
	return push(l, lua.LNumber(m.json.precision))
}

func (m *machine) encodeInvalid(l *lua.LState) int {
	switch v := l.Get(1).(type) {
	case lua.LBool:
		m.json.encodeInvalid = map[bool]string{true: "on", false: "off"}[bool(v)]
	case lua.LString:
		if v != "off" && v != "on" && v != "null" {
			badArg(l, 1, "encode_invalid_numbers", "invalid option '"+string(v)+"'")
		}
		m.json.encodeInvalid = string(v)
	}
	switch m.json.encodeInvalid {
	case "null":
		return push(l, lua.LString("null"))
	}
	return push(l, lua.LBool(m.json.encodeInvalid == "on"))
}

type jsonEncoder struct {
	m   *machine
	l   *lua.LState
	buf []byte
}

func (e *jsonEncoder) fail(v lua.LValue, why string) {
	e.l.RaiseError("Cannot serialise %s: %s", v.Type().String(), why)
}

func (e *jsonEncoder) value(v lua.LValue, depth int) {
	e.m.meter.work(1)
	if len(e.buf) > MaxString {
		e.m.longString(e.l, len(e.buf))
	}
	switch v := v.(type) {
	case lua.LString:
		e.m.meter.make(len(v))
		e.text(string(v))
	case lua.LNumber:
		e.number(v)
	case lua.LBool:
		e.buf = strconv.AppendBool(e.buf, bool(v))
	case *lua.LTable:
		if depth++; depth > e.m.json.encodeDepth {
			e.l.RaiseError("Cannot serialise, excessive nesting (%d)", depth)
		}
		t := e.m.seen(v)
		if n := e.length(t); n > 0 {
			e.array(t, n, depth)
		} else {
			e.object(t, depth)
		}
	case *lua.LNilType:
		e.buf = append(e.buf, "null"...)
	case *lua.LUserData:
		if v == e.m.null {
			e.buf = append(e.buf, "null"...)
			return
		}
		e.fail(v, "type not supported")
	default:
		e.fail(v, "type not supported")
	}
}

func (e *jsonEncoder) number(n lua.LNumber) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		switch e.m.json.encodeInvalid {
		case "off":
			e.fail(n, "must not be NaN or Inf")
		case "null":
			e.buf = append(e.buf, "null"...)
			return
		}
	}
	e.buf = append(e.buf, formatG(f, e.m.json.precision)...)
}

// length returns how long the array is that a table is, -1 if it is none.
func (e *jsonEncoder) length(t *lua.LTable) int {
	e.m.meter.walk(t)
	most, items, array := 0, 0, true
	t.ForEach(func(key, _ lua.LValue) {
		n, ok := key.(lua.LNumber)
		if !ok || n < 1 || float64(n) != math.Floor(float64(n)) || n > math.MaxInt32 {
			array = false
			return
		}
		most = max(most, int(n))
		items++
	})
	s := &e.m.json
	switch {
	case !array:
		return -1
	case s.ratio > 0 && most > items*s.ratio && most > s.safe:
		if !s.convert {
			e.fail(t, "excessively sparse array")
		}
		return -1
	}
	return most
}

func (e *jsonEncoder) array(t *lua.LTable, n, depth int) {
	e.buf = append(e.buf, '[')
	for i := range n {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.value(t.RawGetInt(i+1), depth)
	}
	e.buf = append(e.buf, ']')
}

func (e *jsonEncoder) object(t *lua.LTable, depth int) {
	e.buf = append(e.buf, '{')
	first := true
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		if !first {
			e.buf = append(e.buf, ',')
		}
		first = false
		switch k := k.(type) {
		case lua.LNumber:
			e.buf = append(e.buf, '"')
			e.number(k)
			e.buf = append(e.buf, '"')
		case lua.LString:
			e.m.meter.make(len(k))
			e.text(string(k))
		default:
			e.fail(k, "table key must be a number or string")
		}
		e.buf = append(e.buf, ':')
		e.value(v, depth)
	}
	e.buf = append(e.buf, '}')
}

func (e *jsonEncoder) text(s string) {
	e.buf = append(e.buf, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\', c == '/':
			e.buf = append(e.buf, '\\', c)
		case c == '\b':
			e.buf = append(e.buf, `\b`...)
		case c == '\t':
			e.buf = append(e.buf, `\t`...)
		case c == '\n':
			e.buf = append(e.buf, `\n`...)
		case c == '\f':
			e.buf = append(e.buf, `\f`...)
		case c == '\r':
			e.buf = append(e.buf, `\r`...)
		case c < ' ', c == 127:
			e.buf = fmt.Appendf(e.buf, `\u%04x`, c)
		default:
			e.buf = append(e.buf, c)
		}
	}
	e.buf = append(e.buf, '"')
}

type jsonDecoder struct {
	m *machine
	l *lua.LState
	s string
	i int
}

// token is one of JSON, with its place.
type token struct {
	kind  string
	at    int
	value lua.LValue
}

func (d *jsonDecoder) fail(wanted string, t token) {
	found := t.kind
	if s, ok := t.value.(lua.LString); ok && t.kind == "T_ERROR" {
		found = string(s)
	}
	d.l.RaiseError("Expected %s but found %s at character %d", wanted, found, t.at+1)
}

var jsonMarks = map[byte]string{'{': "T_OBJ_BEGIN", '}': "T_OBJ_END", '[': "T_ARR_BEGIN", ']': "T_ARR_END", ',': "T_COMMA",
	':': "T_COLON"}

func (d *jsonDecoder) next() token {
	d.m.meter.work(1)
	for d.i < len(d.s) && (d.s[d.i] == ' ' || d.s[d.i] == '\t' || d.s[d.i] == '\n' || d.s[d.i] == '\r') {
		d.i++
	}
	t := token{kind: "T_ERROR", at: d.i, value: lua.LString("invalid token")}
	if d.i >= len(d.s) {
		t.kind, t.value = "T_END", nil
		return t
	}
	c := d.s[d.i]
	if kind := jsonMarks[c]; kind != "" {
		d.i++
		t.kind, t.value = kind, nil
		return t
	}
	switch {
	case c == '"':
		return d.text(t)
	case c == '-' || '0' <= c && c <= '9' || c|0x20 == 'i' || c == 'N' || c == 'n' && d.word("nan"):
		if f, n := d.number(); n > 0 {
			if d.m.json.refuseInvalidNumbers && isInvalidJSON(d.s[d.i:d.i+n]) {
				t.value = lua.LString("invalid number")
				return t
			}
			d.i += n
			t.kind, t.value = "T_NUMBER", lua.LNumber(f)
		} else if c == '-' {
			t.value = lua.LString("invalid number")
		}
		return t
	}
	for word, v := range map[string]lua.LValue{"true": lua.LTrue, "false": lua.LFalse, "null": d.m.null} {
		if d.word(word) {
			d.i += len(word)
			t.kind, t.value = "T_BOOLEAN", v
			if word == "null" {
				t.kind = "T_NULL"
			}
			return t
		}
	}
	return t
}

func (d *jsonDecoder) word(w string) bool { return len(d.s)-d.i >= len(w) && d.s[d.i:d.i+len(w)] == w }

// number reads one as C's strtod does, that takes hexadecimal digits, infinity and nan, too. It
// returns how long it is.
func (d *jsonDecoder) number() (float64, int) {
	const longest = 400
	s := d.s[d.i:min(len(d.s), d.i+longest)]
	n := 0
	for n < len(s) && (isIn(s[n], 'w') || s[n] == '.' || s[n] == '-' || s[n] == '+') {
		n++
	}
	for ; n > 0; n-- {
		if f, ok := parseNumber(s[:n]); ok {
			return f, n
		}
	}
	return 0, 0
}

// isInvalidJSON reports whether JSON has no such number.
func isInvalidJSON(s string) bool {
	digits := s
	if s[0] == '-' {
		digits = s[1:]
	}
	return digits == "" || digits[0] < '0' || digits[0] > '9' ||
		len(digits) > 1 && digits[0] == '0' && (isIn(digits[1], 'd') || digits[1]|0x20 == 'x')
}

func (d *jsonDecoder) text(t token) token {
	var buf []byte
	i := d.i + 1
	from := i
	for ; i < len(d.s) && d.s[i] != '"'; i++ {
		if d.s[i] != '\\' {
			continue
		}
		buf = append(buf, d.s[from:i]...)
		if i++; i >= len(d.s) {
			break
		}
		switch c := d.s[i]; c {
		case '"', '\\', '/':
			buf = append(buf, c)
		case 'b', 'f', 'n', 'r', 't':
			buf = append(buf, map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}[c])
		case 'u':
			r, n := unicodeEscape(d.s[i-1:])
			if n == 0 {
				return token{kind: "T_ERROR", at: i - 1, value: lua.LString("invalid unicode escape code")}
			}
			buf = utf8.AppendRune(buf, r)
			i += n - 2
		default:
			return token{kind: "T_ERROR", at: i - 1, value: lua.LString("invalid escape code")}
		}
		from = i + 1
	}
	if i >= len(d.s) {
		return token{kind: "T_ERROR", at: len(d.s), value: lua.LString("unexpected end of string")}
	}
	d.m.meter.part(len(buf) + i - from)
	d.i = i + 1
	t.kind, t.value = "T_STRING", cut(d.s, from, i)
	if buf != nil {
		t.value = lua.LString(append(buf, d.s[from:i]...))
	}
	return t
}

// unicodeEscape reads "\u1234", or two of them that are a surrogate pair, and returns how long that
// is.
func unicodeEscape(s string) (rune, int) {
	hex := func(s string) (rune, bool) {
		if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(s[2:6], 16, 32)
		return rune(n), err == nil
	}
	r, ok := hex(s)
	switch {
	case !ok || 0xdc00 <= r && r < 0xe000:
		return 0, 0
	case r < 0xd800 || r >= 0xe000:
		return r, 6
	}
	low, ok := hex(s[6:])
	if !ok || low < 0xdc00 || low >= 0xe000 {
		return 0, 0
	}
	return (r-0xd800)<<10 + (low - 0xdc00) + 0x10000, 12
}

func (d *jsonDecoder) value(t token, depth int) lua.LValue {
	switch t.kind {
	case "T_STRING", "T_NUMBER", "T_BOOLEAN", "T_NULL":
		return t.value
	case "T_OBJ_BEGIN", "T_ARR_BEGIN":
		if depth++; depth > d.m.json.decodeDepth {
			d.l.RaiseError("Found too many nested data structures (%d) at character %d", depth, t.at+1)
		}
		if t.kind == "T_ARR_BEGIN" {
			return d.array(depth)
		}
		return d.object(depth)
	}
	d.fail("value", t)
	return nil
}

func (d *jsonDecoder) array(depth int) lua.LValue {
	table := &lua.LTable{Metatable: lua.LNil}
	d.m.meter.part(sizeOfTable)
	t := d.next()
	if t.kind == "T_ARR_END" {
		return table
	}
	d.m.meter.part(sizeOfItems)
	for i := 1; ; i++ {
		table.RawSetInt(i, d.value(t, depth))
		d.m.meter.part(sizeOfItem)
		switch t = d.next(); t.kind {
		case "T_ARR_END":
			return table
		case "T_COMMA":
		default:
			d.fail("comma or array end", t)
		}
		t = d.next()
	}
}

func (d *jsonDecoder) object(depth int) lua.LValue {
	table := &lua.LTable{Metatable: lua.LNil}
	d.m.meter.part(sizeOfTable)
	t := d.next()
	if t.kind == "T_OBJ_END" {
		return table
	}
	d.m.meter.part(sizeOfFields)
	for {
		if t.kind != "T_STRING" {
			d.fail("object key string", t)
		}
		key := t.value
		if t = d.next(); t.kind != "T_COLON" {
			d.fail("colon", t)
		}
		table.RawSet(key, d.value(d.next(), depth))
		d.m.meter.part(sizeOfField)
		switch t = d.next(); t.kind {
		case "T_OBJ_END":
			return table
		case "T_COMMA":
		default:
			d.fail("comma or object end", t)
		}
		t = d.next()
	}
}
