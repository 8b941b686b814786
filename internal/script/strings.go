package script

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// The library for strings, as Lua 5.1 has it.

func (m *machine) openString() {
	t := m.library("string", map[string]lua.LGFunction{
		"byte": m.stringByte,
		"char": func(l *lua.LState) int {
			m.meter.make(l.GetTop())
			buf := make([]byte, l.GetTop())
			for i := range buf {
				n := intArg(l, i+1, "char")
				if n != int64(byte(n)) {
					badArg(l, i+1, "char", "invalid value")
				}
				buf[i] = byte(n)
			}
			return push(l, lua.LString(buf))
		},
		"dump": func(l *lua.LState) int { // what Redis too does not load again
			functionArg(l, 1, "dump")
			return push(l, lua.LString("\x1bLua"))
		},
		"find":   func(l *lua.LState) int { return m.find(l, "find", true) },
		"match":  func(l *lua.LState) int { return m.find(l, "match", false) },
		"gmatch": m.gmatch,
		"gfind":  m.gmatch,
		"gsub":   m.gsub,
		"format": m.format,
		"len":    func(l *lua.LState) int { return push(l, lua.LNumber(len(stringArg(l, 1, "len")))) },
		"lower":  m.mapped("lower", func(s []byte) []byte { return mapASCII(s, 'A', 'Z') }),
		"upper":  m.mapped("upper", func(s []byte) []byte { return mapASCII(s, 'a', 'z') }),
		"reverse": m.mapped("reverse", func(s []byte) []byte {
			for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
				s[i], s[j] = s[j], s[i]
			}
			return s
		}),
		"rep": func(l *lua.LState) int {
			s, n := stringArg(l, 1, "rep"), max(0, intArg(l, 2, "rep"))
			if len(s) == 0 {
				n = 0
			}
			m.longString(l, int(min(float64(len(s))*float64(n), math.MaxInt32)))
			return push(l, lua.LString(strings.Repeat(s, int(n))))
		},
		"sub": func(l *lua.LState) int {
			s := stringArg(l, 1, "sub")
			from, to := span(s, intArg(l, 2, "sub"), optInt(l, 3, "sub", -1))
			if from > to {
				return push(l, lua.LString(""))
			}
			return push(l, m.cut(s, int(from-1), int(to)))
		},
	})
	meta := m.l.NewTable()
	meta.RawSetString("__index", t)
	for event, calculate := range arithmetic {
		meta.RawSetString(event, m.l.NewFunction(m.operator(event, calculate)))
	}
	m.l.SetMetatable(lua.LString(""), meta)
}

// cut charges for a part of a string, and returns it.
func (m *machine) cut(s string, from, to int) lua.LString {
	m.meter.make(to - from)
	return cut(s, from, to)
}

// cut returns a part of a string. It keeps nothing of the rest: what a script holds is counted by
// what it can see.
func cut(s string, from, to int) lua.LString {
	if to-from == len(s) {
		return lua.LString(s)
	}
	return lua.LString(strings.Clone(s[from:to]))
}

// span returns the places from 1 on that two indices stand for, which count from the end if they
// are negative.
func span(s string, from, to int64) (int64, int64) {
	n := int64(len(s))
	if from < 0 {
		from = max(from+n+1, 1)
	} else if from == 0 {
		from = 1
	}
	if to < 0 {
		to += n + 1
	}
	return from, min(to, n)
}

func (m *machine) stringByte(l *lua.LState) int {
	s := stringArg(l, 1, "byte")
	first := optInt(l, 2, "byte", 1)
	from, to := span(s, first, optInt(l, 3, "byte", first))
	if to-from >= maxUnpacked {
		l.RaiseError("string slice too long")
	}
	n := 0
	m.meter.work(int(max(0, to-from)))
	for i := from; i <= to; i++ {
		l.Push(lua.LNumber(s[i-1]))
		n++
	}
	return n
}

func (m *machine) mapped(name string, f func([]byte) []byte) lua.LGFunction {
	return func(l *lua.LState) int {
		s := stringArg(l, 1, name)
		m.meter.make(len(s))
		return push(l, lua.LString(f([]byte(s))))
	}
}

// mapASCII changes the case of the letters in a range.
func mapASCII(s []byte, from, to byte) []byte {
	for i, c := range s {
		if from <= c && c <= to {
			s[i] = c ^ 0x20
		}
	}
	return s
}

// matcher looks for a pattern. It is Lua's, with the meter and a bound on how deep it calls itself.
type matcher struct {
	m       *machine
	l       *lua.LState
	s, p    string
	depth   int
	level   int
	capture [maxCaptures]struct{ at, size int }
}

const (
	maxCaptures  = 32
	maxMatching  = 20_000 // calls in calls
	unclosed     = -1
	position     = -2
	escape       = '%'
	magic        = "^$*+?.([%-"
	noSuchEscape = "malformed pattern (ends with '%')"
)

// classEnd returns where the item of the pattern ends that begins at p.
func (t *matcher) classEnd(p int) int {
	c := t.p[p]
	p++
	switch c {
	case escape:
		if p == len(t.p) {
			t.l.RaiseError("%s", noSuchEscape)
		}
		return p + 1
	case '[':
		if p < len(t.p) && t.p[p] == '^' {
			p++
		}
		for first := true; first || p >= len(t.p) || t.p[p] != ']'; first = false {
			if p >= len(t.p) {
				t.l.RaiseError("malformed pattern (missing ']')")
			}
			c := t.p[p]
			p++
			if c == escape && p < len(t.p) {
				p++
			}
		}
		return p + 1
	}
	return p
}

func isIn(c, class byte) bool {
	lower := class | 0x20
	var is bool
	switch lower {
	case 'a':
		is = 'a' <= c|0x20 && c|0x20 <= 'z'
	case 'c':
		is = c < ' ' || c == 127
	case 'd':
		is = '0' <= c && c <= '9'
	case 'l':
		is = 'a' <= c && c <= 'z'
	case 'p':
		is = '!' <= c && c <= '~' && !isIn(c, 'w')
	case 's':
		is = c == ' ' || '\t' <= c && c <= '\r'
	case 'u':
		is = 'A' <= c && c <= 'Z'
	case 'w':
		is = isIn(c, 'a') || isIn(c, 'd')
	case 'x':
		is = isIn(c, 'd') || 'a' <= c|0x20 && c|0x20 <= 'f'
	case 'z':
		is = c == 0
	default:
		return class == c
	}
	return is != ('A' <= class && class <= 'Z')
}

// inSet reports whether a byte is in the set from p to end, which is that of its "]".
func (t *matcher) inSet(c byte, p, end int) bool {
	t.m.meter.work((end - p) / 8)
	found := true
	p++
	if t.p[p] == '^' {
		found = false
		p++
	}
	for ; p < end; p++ {
		switch {
		case t.p[p] == escape && p+1 < end:
			p++
			if isIn(c, t.p[p]) {
				return found
			}
		case p+2 < end && t.p[p+1] == '-':
			if t.p[p] <= c && c <= t.p[p+2] {
				return found
			}
			p += 2
		case t.p[p] == c:
			return found
		}
	}
	return !found
}

// single reports whether a byte of the string is what the item from p to end stands for.
func (t *matcher) single(s, p, end int) bool {
	if s >= len(t.s) {
		return false
	}
	c := t.s[s]
	switch t.p[p] {
	case '.':
		return true
	case escape:
		return isIn(c, t.p[p+1])
	case '[':
		return t.inSet(c, p, end-1)
	}
	return t.p[p] == c
}

// match returns where what matches the pattern from p on ends, -1 if nothing does.
func (t *matcher) match(s, p int) int {
	if t.depth++; t.depth > maxMatching {
		t.l.RaiseError("pattern too complex")
	}
	defer func() { t.depth-- }()
	for p < len(t.p) {
		t.m.meter.work(1)
		switch t.p[p] {
		case '(':
			if p+1 < len(t.p) && t.p[p+1] == ')' {
				return t.open(s, p+2, position)
			}
			return t.open(s, p+1, unclosed)
		case ')':
			return t.close(s, p+1)
		case escape:
			if e, next := t.special(s, p+1); next > 0 {
				if s, p = e, next; s < 0 {
					return -1
				}
				continue
			}
		case '$':
			if p+1 == len(t.p) {
				if s == len(t.s) {
					return s
				}
				return -1
			}
		}
		end := t.classEnd(p)
		repeat := byte(0)
		if end < len(t.p) {
			repeat = t.p[end]
		}
		switch repeat {
		case '?':
			if t.single(s, p, end) {
				if e := t.match(s+1, end+1); e >= 0 {
					return e
				}
			}
			p = end + 1
		case '*':
			return t.most(s, p, end)
		case '+':
			if !t.single(s, p, end) {
				return -1
			}
			return t.most(s+1, p, end)
		case '-':
			return t.least(s, p, end)
		default:
			if !t.single(s, p, end) {
				return -1
			}
			s++
			p = end
		}
	}
	return s
}

// special matches what an escape stands for that is no class of bytes, and returns where the match
// and the item end. next 0: it is a class.
func (t *matcher) special(s, p int) (e, next int) {
	if p == len(t.p) {
		return s, 0
	}
	switch c := t.p[p]; {
	case c == 'b':
		return t.balance(s, p+1), p + 3
	case c == 'f':
		return t.frontier(s, p+1)
	case '0' <= c && c <= '9':
		return t.again(s, c), p + 1
	}
	return s, 0
}

func (t *matcher) most(s, p, end int) int {
	n := 0
	for t.single(s+n, p, end) {
		n++
	}
	t.m.meter.work(n / 4)
	for ; n >= 0; n-- {
		if e := t.match(s+n, end+1); e >= 0 {
			return e
		}
	}
	return -1
}

func (t *matcher) least(s, p, end int) int {
	for {
		if e := t.match(s, end+1); e >= 0 {
			return e
		}
		if !t.single(s, p, end) {
			return -1
		}
		s++
	}
}

func (t *matcher) open(s, p, what int) int {
	if t.level >= maxCaptures {
		t.l.RaiseError("too many captures")
	}
	t.capture[t.level] = struct{ at, size int }{s, what}
	t.level++
	e := t.match(s, p)
	if e < 0 {
		t.level--
	}
	return e
}

func (t *matcher) close(s, p int) int {
	i := t.level - 1
	for ; i >= 0 && t.capture[i].size != unclosed; i-- {
	}
	if i < 0 {
		t.l.RaiseError("invalid pattern capture")
	}
	t.capture[i].size = s - t.capture[i].at
	e := t.match(s, p)
	if e < 0 {
		t.capture[i].size = unclosed
	}
	return e
}

func (t *matcher) balance(s, p int) int {
	if p+1 >= len(t.p) {
		t.l.RaiseError("unbalanced pattern")
	}
	if s >= len(t.s) || t.s[s] != t.p[p] {
		return -1
	}
	begin, end, depth := t.p[p], t.p[p+1], 1
	for i := s + 1; i < len(t.s); i++ {
		t.m.meter.work(1)
		switch t.s[i] {
		case end:
			if depth--; depth == 0 {
				return i + 1
			}
		case begin:
			depth++
		}
	}
	return -1
}

func (t *matcher) frontier(s, p int) (int, int) {
	if p >= len(t.p) || t.p[p] != '[' {
		t.l.RaiseError("missing '[' after '%sf' in pattern", "%")
	}
	end := t.classEnd(p)
	before, at := byte(0), byte(0)
	if s > 0 {
		before = t.s[s-1]
	}
	if s < len(t.s) {
		at = t.s[s]
	}
	if t.inSet(before, p, end-1) || !t.inSet(at, p, end-1) {
		return -1, p
	}
	return s, end
}

// again matches what a capture has.
func (t *matcher) again(s int, digit byte) int {
	i := int(digit - '1')
	if i < 0 || i >= t.level || t.capture[i].size == unclosed {
		t.l.RaiseError("invalid capture index")
	}
	c := t.capture[i]
	size := max(c.size, 0)
	t.m.meter.work(size / stepOfBytes)
	if len(t.s)-s >= size && t.s[c.at:c.at+size] == t.s[s:s+size] {
		return s + size
	}
	return -1
}

// captured returns a capture, or the whole match where there is none.
func (t *matcher) captured(i, s, e int) lua.LValue {
	if i >= t.level {
		if i != 0 {
			t.l.RaiseError("invalid capture index")
		}
		return t.m.cut(t.s, s, e)
	}
	switch c := t.capture[i]; c.size {
	case unclosed:
		t.l.RaiseError("unfinished capture")
	case position:
		return lua.LNumber(c.at + 1)
	default:
		return t.m.cut(t.s, c.at, c.at+c.size)
	}
	return lua.LNil
}

func (t *matcher) pushAll(s, e int, whole bool) int {
	n := t.level
	if n == 0 && whole {
		n = 1
	}
	for i := range n {
		t.l.Push(t.captured(i, s, e))
	}
	return n
}

func (m *machine) find(l *lua.LState, name string, find bool) int {
	s, p := stringArg(l, 1, name), stringArg(l, 2, name)
	at := optInt(l, 3, name, 1)
	if at < 0 {
		at += int64(len(s)) + 1
	}
	from := int(min(max(at-1, 0), int64(len(s))))
	m.meter.work(len(p) / stepOfBytes)
	if find && (lua.LVAsBool(l.Get(4)) || !strings.ContainsAny(p, magic)) {
		m.meter.work(len(s) / stepOfBytes)
		i := strings.Index(s[from:], p)
		if i < 0 {
			return push(l, lua.LNil)
		}
		return push(l, lua.LNumber(from+i+1), lua.LNumber(from+i+len(p)))
	}
	anchored := strings.HasPrefix(p, "^")
	t := &matcher{m: m, l: l, s: s, p: strings.TrimPrefix(p, "^")}
	for ; from <= len(s); from++ {
		t.level = 0
		if e := t.match(from, 0); e >= 0 {
			if find {
				push(l, lua.LNumber(from+1), lua.LNumber(e))
				return 2 + t.pushAll(from, e, false)
			}
			return t.pushAll(from, e, true)
		}
		if anchored {
			break
		}
	}
	return push(l, lua.LNil)
}

func (m *machine) gmatch(l *lua.LState) int {
	s, p := stringArg(l, 1, "gmatch"), stringArg(l, 2, "gmatch")
	from := 0
	return push(l, l.NewClosure(func(l *lua.LState) int {
		m.meter.work(len(p) / stepOfBytes)
		t := &matcher{m: m, l: l, s: s, p: p}
		for ; from <= len(s); from++ {
			t.level = 0
			if e := t.match(from, 0); e >= 0 {
				at := from
				from = e
				if e == at {
					from++
				}
				return t.pushAll(at, e, true)
			}
		}
		return push(l, lua.LNil)
	}, lua.LString(s), lua.LString(p))) // for the sizer to see
}

func (m *machine) gsub(l *lua.LState) int {
	s, p := stringArg(l, 1, "gsub"), stringArg(l, 2, "gsub")
	switch l.Get(3).(type) {
	case lua.LString, lua.LNumber, *lua.LTable, *lua.LFunction:
	default:
		badArg(l, 3, "gsub", "string/function/table expected")
	}
	most := optInt(l, 4, "gsub", int64(len(s))+1)
	anchored := strings.HasPrefix(p, "^")
	t := &matcher{m: m, l: l, s: s, p: strings.TrimPrefix(p, "^")}
	m.meter.work(len(p) / stepOfBytes)
	defer m.meter.keepNoMore(m.meter.kept)
	var buf []byte
	at, n := 0, int64(0)
	for n < most {
		m.meter.work(1)
		t.level = 0
		before := cap(buf)
		e := t.match(at, 0)
		if e >= 0 {
			n++
			buf = t.replace(buf, at, e)
			if len(buf) > MaxString {
				m.longString(l, len(buf))
			}
		}
		switch {
		case e > at:
			at = e
		case at < len(s):
			buf = append(buf, s[at])
			at++
		default:
			at++
		}
		m.meter.keep(cap(buf) - before)
		if at > len(s) || anchored {
			break
		}
	}
	if at < len(s) {
		m.meter.make(len(s) - at)
		buf = append(buf, s[at:]...)
	}
	return push(l, lua.LString(buf), lua.LNumber(n))
}

// replace appends what comes in the place of a match.
func (t *matcher) replace(buf []byte, s, e int) []byte {
	var v lua.LValue
	switch by := t.l.Get(3).(type) {
	case *lua.LFunction:
		t.l.Push(by)
		n := t.pushAll(s, e, true)
		t.l.Call(n, 1)
		v = t.l.Get(-1)
		t.l.Pop(1)
	case *lua.LTable:
		v = t.l.GetTable(by, t.captured(0, s, e))
	default:
		text := text(by)
		t.m.meter.work(len(text) / stepOfBytes)
		for i := 0; i < len(text); i++ {
			switch c := text[i]; {
			case c != escape:
				buf = append(buf, c)
			case i+1 < len(text):
				i++
				switch c := text[i]; {
				case c < '0' || c > '9':
					buf = append(buf, c)
				case c == '0':
					buf = append(buf, t.s[s:e]...)
				default:
					t.m.meter.work(1)
					buf = appendText(buf, t.captured(int(c-'1'), s, e))
				}
				if len(buf) > MaxString {
					t.m.longString(t.l, len(buf))
				}
			}
		}
		return buf
	}
	switch {
	case !lua.LVAsBool(v):
		return append(buf, t.s[s:e]...)
	case !isText(v):
		t.l.RaiseError("invalid replacement value (a %s)", v.Type().String())
	}
	return appendText(buf, v)
}

// format is string.format.
func (m *machine) format(l *lua.LState) int {
	f := stringArg(l, 1, "format")
	m.longString(l, len(f))
	var buf []byte
	arg := 1
	for i := 0; i < len(f); i++ {
		if f[i] != '%' {
			buf = append(buf, f[i])
			continue
		}
		if i++; i < len(f) && f[i] == '%' {
			buf = append(buf, '%')
			continue
		}
		arg++
		var spec directive
		i = spec.parse(l, f, i)
		before := len(buf)
		buf = spec.append(l, buf, arg)
		if len(buf) > MaxString {
			m.longString(l, len(buf))
		}
		m.meter.make(len(buf) - before)
	}
	return push(l, lua.LString(buf))
}

// directive is one of string.format.
type directive struct {
	minus, plus, space, sharp, zero bool
	width, precision                int // precision -1: none
	verb                            byte
}

func (d *directive) parse(l *lua.LState, f string, i int) int {
	d.precision = -1
	from := i
	for ; i < len(f) && strings.IndexByte("-+ #0", f[i]) >= 0; i++ {
		switch f[i] {
		case '-':
			d.minus = true
		case '+':
			d.plus = true
		case ' ':
			d.space = true
		case '#':
			d.sharp = true
		case '0':
			d.zero = true
		}
	}
	if i-from > 5 {
		l.RaiseError("invalid format (repeated flags)")
	}
	two := func() (n int) {
		for k := 0; k < 2 && i < len(f) && isIn(f[i], 'd'); k++ {
			n = 10*n + int(f[i]-'0')
			i++
		}
		return n
	}
	d.width = two()
	if i < len(f) && f[i] == '.' {
		i++
		d.precision = two()
	}
	if i < len(f) && isIn(f[i], 'd') {
		l.RaiseError("invalid format (width or precision too long)")
	}
	if i < len(f) {
		d.verb = f[i]
	}
	return i
}

func (d *directive) append(l *lua.LState, buf []byte, arg int) []byte {
	switch d.verb {
	case 'c':
		return d.pad(buf, string([]byte{byte(intArg(l, arg, "format"))}), false)
	case 'd', 'i':
		n := integer(numberArg(l, arg, "format"))
		return d.integer(buf, n < 0, strings.TrimPrefix(strconv.FormatInt(n, 10), "-"), true)
	case 'u':
		return d.integer(buf, false, strconv.FormatUint(uint64(integer(numberArg(l, arg, "format"))), 10), false)
	case 'o', 'x', 'X':
		f := numberArg(l, arg, "format")
		n := uint64(integer(f))
		if f >= 1<<63 {
			n = uint64(f)
		}
		return d.unsigned(buf, n)
	case 'e', 'E', 'f', 'g', 'G':
		return d.float(buf, numberArg(l, arg, "format"))
	case 'q':
		return appendQuoted(buf, stringArg(l, arg, "format"))
	case 's':
		s := stringArg(l, arg, "format")
		if d.precision >= 0 {
			s = s[:min(len(s), d.precision)]
		}
		return d.pad(buf, s, false)
	}
	verb := ""
	if d.verb != 0 {
		verb = string([]byte{d.verb})
	}
	l.RaiseError("invalid option '%%%s' to 'format'", verb)
	return buf
}

func (d *directive) unsigned(buf []byte, n uint64) []byte {
	base, prefix := 16, "0x"
	if d.verb == 'o' {
		base, prefix = 8, "0"
	}
	digits := strconv.FormatUint(n, base)
	if d.sharp && n != 0 {
		digits = prefix + digits
	}
	if d.verb == 'X' {
		digits = strings.ToUpper(digits)
	}
	return d.integer(buf, false, digits, false)
}

func (d *directive) integer(buf []byte, negative bool, digits string, signed bool) []byte {
	if d.precision >= 0 {
		d.zero = false
		if n := d.precision - len(digits); n > 0 {
			digits = strings.Repeat("0", n) + digits
		}
		if d.precision == 0 && digits == "0" {
			digits = ""
		}
	}
	return d.pad(buf, d.sign(negative, signed)+digits, true)
}

func (d *directive) sign(negative, signed bool) string {
	switch {
	case negative:
		return "-"
	case signed && d.plus:
		return "+"
	case signed && d.space:
		return " "
	}
	return ""
}

func (d *directive) float(buf []byte, f float64) []byte {
	precision := d.precision
	if precision < 0 {
		precision = 6
	}
	s := ""
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		s = strings.TrimPrefix(formatG(math.Abs(f), 6), "-")
		d.zero = false
	case d.verb|0x20 == 'g' && !d.sharp:
		s = formatG(math.Abs(f), precision)
	case d.verb|0x20 == 'g':
		s = strconv.FormatFloat(math.Abs(f), 'g', precision, 64)
	default:
		s = strconv.FormatFloat(math.Abs(f), d.verb|0x20, precision, 64)
	}
	if d.verb < 'a' {
		s = strings.ToUpper(s)
	}
	return d.pad(buf, d.sign(math.Signbit(f), true)+s, true)
}

// pad appends a text with the width that it shall have.
func (d *directive) pad(buf []byte, s string, number bool) []byte {
	n := d.width - len(s)
	switch {
	case n <= 0:
		return append(buf, s...)
	case d.minus:
		return append(append(buf, s...), bytes.Repeat([]byte{' '}, n)...)
	case d.zero && number:
		sign := len(s) - len(strings.TrimLeft(s, "+- "))
		buf = append(buf, s[:sign]...)
		return append(append(buf, bytes.Repeat([]byte{'0'}, n)...), s[sign:]...)
	}
	return append(append(buf, bytes.Repeat([]byte{' '}, n)...), s...)
}

func appendQuoted(buf []byte, s string) []byte {
	buf = append(buf, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			buf = append(buf, '\\', c)
		case '\r':
			buf = append(buf, `\r`...)
		case 0:
			buf = append(buf, `\000`...)
		default:
			buf = append(buf, c)
		}
	}
	return append(buf, '"')
}
