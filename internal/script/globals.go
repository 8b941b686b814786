package script

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// The functions of Lua 5.1 that Redis leaves to a script.

// text returns a value as tostring does without metatables.
func text(v lua.LValue) string {
	if n, ok := v.(lua.LNumber); ok {
		return formatNumber(float64(n))
	}
	return v.String()
}

// formatNumber returns a number as C's "%.14g" does.
func formatNumber(f float64) string {
	if n := int64(f); float64(n) == f && -1e14 < f && f < 1e14 && (n != 0 || !math.Signbit(f)) {
		return strconv.FormatInt(n, 10)
	}
	return formatG(f, 14)
}

// formatG returns a number as C's "%.<precision>g" does.
func formatG(f float64, precision int) string {
	switch {
	case math.IsNaN(f) && math.Signbit(f):
		return "-nan"
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(f, 'e', max(precision, 1)-1, 64)
	mantissa, exponent, _ := strings.Cut(s, "e")
	e, _ := strconv.Atoi(exponent)
	if e < -4 || e >= max(precision, 1) {
		if strings.Contains(mantissa, ".") {
			mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
		}
		return fmt.Sprintf("%se%+03d", mantissa, e)
	}
	s = strconv.FormatFloat(f, 'f', max(precision, 1)-1-e, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// kindOf returns what errors call the type of an argument.
func kindOf(l *lua.LState, n int) string {
	if n > l.GetTop() {
		return "no value"
	}
	return l.Get(n).Type().String()
}

func badArg(l *lua.LState, n int, name, why string) {
	l.RaiseError("bad argument #%d to '%s' (%s)", n, name, why)
}

func expected(l *lua.LState, n int, name, kind string) {
	badArg(l, n, name, kind+" expected, got "+kindOf(l, n))
}

// stringArg returns an argument that is a string or a number.
func stringArg(l *lua.LState, n int, name string) string {
	switch v := l.Get(n).(type) {
	case lua.LString:
		return string(v)
	case lua.LNumber:
		return text(v)
	}
	expected(l, n, name, "string")
	return ""
}

func numberArg(l *lua.LState, n int, name string) float64 {
	if f, ok := numberAt(l, n); ok {
		return f
	}
	expected(l, n, name, "number")
	return 0
}

// numberAt charges for reading an argument that may be a long string.
func numberAt(l *lua.LState, n int) (float64, bool) {
	v := l.Get(n)
	if s, ok := v.(lua.LString); ok {
		l.Context().(*meter).work(len(s) / stepOfBytes)
	}
	return toNumber(v)
}

func toNumber(v lua.LValue) (float64, bool) {
	switch v := v.(type) {
	case lua.LNumber:
		return float64(v), true
	case lua.LString:
		return parseNumber(string(v))
	}
	return 0, false
}

// integer converts a number as C does on the usual processors.
func integer(f float64) int64 {
	if !(-(1<<63) <= f && f < 1<<63) {
		return math.MinInt64
	}
	return int64(f)
}

func intArg(l *lua.LState, n int, name string) int64 { return integer(numberArg(l, n, name)) }

func optInt(l *lua.LState, n int, name string, otherwise int64) int64 {
	if l.Get(n) == lua.LNil {
		return otherwise
	}
	return intArg(l, n, name)
}

func tableArg(l *lua.LState, n int, name string) *lua.LTable {
	t, ok := l.Get(n).(*lua.LTable)
	if !ok {
		expected(l, n, name, "table")
	}
	return t
}

func functionArg(l *lua.LState, n int, name string) *lua.LFunction {
	f, ok := l.Get(n).(*lua.LFunction)
	if !ok {
		expected(l, n, name, "function")
	}
	return f
}

func push(l *lua.LState, values ...lua.LValue) int {
	for _, v := range values {
		l.Push(v)
	}
	return len(values)
}

func (m *machine) openBase() {
	set := func(name string, f lua.LGFunction) { m.globals.RawSetString(name, m.l.NewFunction(f)) }
	m.globals.RawSetString("_VERSION", lua.LString("Lua 5.1"))
	next := m.l.NewFunction(m.next)
	m.globals.RawSetString("next", next)
	set("pairs", func(l *lua.LState) int { return push(l, next, tableArg(l, 1, "pairs"), lua.LNil) })
	step := m.l.NewFunction(func(l *lua.LState) int {
		t, i := tableArg(l, 1, "ipairs"), int(intArg(l, 2, "ipairs"))+1
		v := m.seen(t).RawGetInt(i)
		if v == lua.LNil {
			return push(l, lua.LNil)
		}
		return push(l, lua.LNumber(i), v)
	})
	set("ipairs", func(l *lua.LState) int { return push(l, step, tableArg(l, 1, "ipairs"), lua.LNumber(0)) })
	set("type", func(l *lua.LState) int {
		someArg(l, 1, "type")
		return push(l, lua.LString(l.Get(1).Type().String()))
	})
	set("tostring", m.tostring)
	set("tonumber", tonumber)
	set("assert", assert)
	set("error", raiseAny)
	set("pcall", m.pcall)
	set("xpcall", m.xpcall)
	set("select", selectArgs)
	set("unpack", m.unpack)
	set("rawequal", func(l *lua.LState) int { return push(l, lua.LBool(l.RawEqual(l.Get(1), l.Get(2)))) })
	set("rawget", func(l *lua.LState) int {
		return push(l, m.seen(tableArg(l, 1, "rawget")).RawGet(l.Get(2)))
	})
	set("rawset", func(l *lua.LState) int {
		t := m.changed(l, tableArg(l, 1, "rawset"))
		l.RawSet(t, m.meter.index(l.Get(2)), l.Get(3))
		return push(l, t)
	})
	set("getmetatable", m.getmetatable)
	set("setmetatable", m.setmetatable)
	set("collectgarbage", collectgarbage)
	set("gcinfo", func(l *lua.LState) int { return push(l, lua.LNumber(heldKiB)) })
	set("loadstring", func(l *lua.LState) int {
		source := stringArg(l, 1, "loadstring")
		name := `[string "` + firstLine(source) + `"]`
		if l.Get(2) != lua.LNil {
			name = strings.TrimLeft(stringArg(l, 2, "loadstring"), "=@")
		}
		return m.load(l, source, name)
	})
	set("load", m.loadParts)
	set(concatenation, m.concat)
	set(remainder, m.remainder())
	set(indexing, func(l *lua.LState) int { return push(l, m.meter.index(l.Get(1))) })
	set(appending, func(l *lua.LState) int {
		t, first := tableArg(l, 1, "append"), int(intArg(l, 2, "append"))
		m.meter.make(l.GetTop() * sizeOfItem)
		for i := 3; i <= l.GetTop(); i++ {
			t.RawSetInt(first+i-3, l.Get(i))
		}
		return push(l, t)
	})
	set(gathering, m.gather)
	set(passing, m.pass)
	set(counting, func(l *lua.LState) int {
		if f, ok := numberAt(l, 1); ok {
			return push(l, lua.LNumber(f))
		}
		return push(l, l.Get(1))
	})
}

// pass charges for what its arguments take where they are passed to, and returns them.
func (m *machine) pass(l *lua.LState) int {
	m.meter.make(l.GetTop() * sizeOfRegister)
	return l.GetTop()
}

// gather makes the table arg of its arguments.
func (m *machine) gather(l *lua.LState) int {
	n := l.GetTop()
	m.meter.make(n * sizeOfItem)
	t := l.CreateTable(n, 0)
	for i := 1; i <= n; i++ {
		t.RawSetInt(i, l.Get(i))
	}
	t.RawSetString("n", lua.LNumber(n))
	return push(l, t)
}

func firstLine(source string) string {
	const longest = 60
	line, _, more := strings.Cut(source, "\n")
	if more || len(line) > longest {
		return line[:min(len(line), longest)] + "..."
	}
	return line
}

func someArg(l *lua.LState, n int, name string) {
	if l.GetTop() < n {
		badArg(l, n, name, "value expected")
	}
}

func (m *machine) next(l *lua.LState) int {
	t, key := m.seen(tableArg(l, 1, "next")), l.Get(2)
	k, v := t.Next(key)
	for t == m.globals && strings.HasPrefix(text(k), "\x00") {
		k, v = t.Next(k)
	}
	if k == lua.LNil {
		return push(l, lua.LNil)
	}
	return push(l, k, v)
}

func (m *machine) tostring(l *lua.LState) int {
	someArg(l, 1, "tostring")
	v := l.Get(1)
	if f, ok := l.GetMetaField(v, "__tostring").(*lua.LFunction); ok {
		push(l, f, v)
		l.Call(1, 1)
		return 1
	}
	if v == lua.LValue(m.null) {
		return push(l, lua.LString("userdata: (nil)"))
	}
	return push(l, lua.LString(text(v)))
}

func tonumber(l *lua.LState) int {
	base := optInt(l, 2, "tonumber", 10)
	if base == 10 {
		someArg(l, 1, "tonumber")
		if f, ok := numberAt(l, 1); ok {
			return push(l, lua.LNumber(f))
		}
		return push(l, lua.LNil)
	}
	s := stringArg(l, 1, "tonumber")
	l.Context().(*meter).make(len(s))
	s = strings.Trim(s, " \t\n\v\f\r")
	if base < 2 || base > 36 {
		badArg(l, 2, "tonumber", "base out of range")
	}
	if base == 16 && len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x' {
		s = s[2:]
	}
	n, err := strconv.ParseUint(strings.ToLower(s), int(base), 64)
	if err != nil {
		return push(l, lua.LNil)
	}
	return push(l, lua.LNumber(n))
}

func assert(l *lua.LState) int {
	someArg(l, 1, "assert")
	if lua.LVAsBool(l.Get(1)) {
		return l.GetTop()
	}
	message := "assertion failed!"
	if l.Get(2) != lua.LNil {
		message = stringArg(l, 2, "assert")
	}
	l.Error(lua.LString(message), 1)
	return 0
}

// raiseAny is error.
func raiseAny(l *lua.LState) int {
	level := int(optInt(l, 2, "error", 1))
	switch v := l.Get(1).(type) {
	case lua.LString, lua.LNumber:
		message := text(v)
		if level > 0 {
			message = where(l, level) + message
		}
		l.Error(lua.LString(message), 0)
	default:
		l.Error(v, 0)
	}
	return 0
}

// where returns the place of a call, as errors begin with it.
func where(l *lua.LState, level int) string {
	at, _ := l.GetStack(0)
	f, hidden := *frameOf(at), l.Context().(*meter).m.untraced
	for ; f != nil && level > 0; f = f.parent {
		if f.function != hidden {
			level -= 1 + f.tailCalls
		}
	}
	if f == nil || level < 0 || f.function.IsG {
		return ""
	}
	*frameOf(at) = f
	_, _ = l.GetInfo("Sl", at, lua.LNil)
	return fmt.Sprintf("%s:%d: ", at.Source, at.CurrentLine)
}

// pcall calls a function. Of an error that Redis has as a table its text is returned.
func (m *machine) pcall(l *lua.LState) int {
	someArg(l, 1, "pcall")
	n := l.GetTop()
	err := m.protected(l, n-1)
	if err == nil {
		l.Insert(lua.LTrue, 1)
		return l.GetTop()
	}
	raised := m.caught(object(err))
	if t, ok := raised.(*lua.LTable); ok {
		if text, ok := t.RawGetString("err").(lua.LString); ok {
			raised = text
		}
	}
	return push(l, lua.LFalse, raised)
}

// goOn raises the end of a run again that somebody has caught.
func (m *machine) goOn() {
	if m.meter.end != nil {
		m.meter.stop(m.meter.end)
	}
}

// caught charges for what was raised, which the script now holds: what raises does not.
func (m *machine) caught(raised lua.LValue) lua.LValue {
	if s, ok := raised.(lua.LString); ok {
		m.meter.make(len(s))
	}
	return raised
}

// object returns what was raised.
func object(err error) lua.LValue {
	api, ok := err.(*lua.ApiError)
	if ok && api.Object != nil {
		if s, ok := api.Object.(lua.LString); ok {
			return lua.LString(redisText(string(s)))
		}
		return api.Object
	}
	return lua.LString(err.Error())
}

func (m *machine) xpcall(l *lua.LState) int {
	handler := functionArg(l, 2, "xpcall")
	l.SetTop(2)
	l.Push(l.Get(1))
	err := m.protected(l, 0)
	if err == nil {
		l.Insert(lua.LTrue, 3)
		return l.GetTop() - 2
	}
	push(l, handler, m.caught(object(err)))
	if err = m.protected(l, 1); err != nil {
		return push(l, lua.LFalse, m.caught(object(err)))
	}
	return push(l, lua.LFalse, l.Get(3))
}

func selectArgs(l *lua.LState) int {
	if s, ok := l.Get(1).(lua.LString); ok && strings.HasPrefix(string(s), "#") {
		return push(l, lua.LNumber(l.GetTop()-1))
	}
	n, top := intArg(l, 1, "select"), int64(l.GetTop())
	if n < 0 {
		n = top + n
	}
	if n < 1 {
		badArg(l, 1, "select", "index out of range")
	}
	return int(max(0, top-n))
}

// maxUnpacked is how many values unpack returns.
const maxUnpacked = 8000

func (m *machine) unpack(l *lua.LState) int {
	t := m.seen(tableArg(l, 1, "unpack"))
	first := optInt(l, 2, "unpack", 1)
	last := optInt(l, 3, "unpack", int64(t.Len()))
	if first > last {
		return 0
	}
	if n := last - first; n < 0 || n >= maxUnpacked {
		l.RaiseError("too many results to unpack")
	}
	m.meter.work(int(last - first))
	for i := first; i <= last; i++ {
		l.Push(t.RawGetInt(int(i)))
	}
	return int(last - first + 1)
}

func (m *machine) getmetatable(l *lua.LState) int {
	someArg(l, 1, "getmetatable")
	v := l.Get(1)
	if t, ok := v.(*lua.LTable); ok && m.shown[t] == m.globals {
		return push(l, m.ofGlobals)
	} else if ok && m.shown[t] != nil {
		return push(l, lua.LNil)
	}
	if shown := l.GetMetaField(v, "__metatable"); shown != lua.LNil {
		return push(l, shown)
	}
	return push(l, l.GetMetatable(v))
}

func (m *machine) setmetatable(l *lua.LState) int {
	t := tableArg(l, 1, "setmetatable")
	meta := l.Get(2)
	if _, ok := meta.(*lua.LTable); !ok && (meta != lua.LNil || l.GetTop() < 2) {
		badArg(l, 2, "setmetatable", "nil or table expected")
	}
	m.changed(l, t)
	if l.GetMetaField(t, "__metatable") != lua.LNil {
		l.RaiseError("cannot change a protected metatable")
	}
	t.Metatable = meta
	return push(l, t)
}

// heldKiB is what is told to a script that asks how much is held: adding that up would take long.
const heldKiB = 32

func collectgarbage(l *lua.LState) int {
	option := "collect"
	if l.Get(1) != lua.LNil {
		option = stringArg(l, 1, "collectgarbage")
	}
	switch option {
	case "count":
		return push(l, lua.LNumber(heldKiB))
	case "collect", "stop", "restart", "step", "setpause", "setstepmul":
		return push(l, lua.LNumber(0))
	}
	badArg(l, 1, "collectgarbage", "invalid option '"+option+"'")
	return 0
}

// load compiles a text while a script runs.
func (m *machine) load(l *lua.LState, source, name string) int {
	if len(source) > MaxSource {
		return push(l, lua.LNil, lua.LString("chunk is too long"))
	}
	m.meter.make(64 * len(source)) // what compiling takes, about
	m.meter.work(len(source))
	proto, err := compile([]byte(source), name, m.meter.work)
	if err != nil {
		return push(l, lua.LNil, m.caught(lua.LString(err.Error())))
	}
	return push(l, m.l.NewFunctionFromProto(proto))
}

func (m *machine) loadParts(l *lua.LState) int {
	part := functionArg(l, 1, "load")
	name := "=(load)"
	if l.Get(2) != lua.LNil {
		name = stringArg(l, 2, "load")
	}
	defer m.meter.keepNoMore(m.meter.kept)
	var source strings.Builder
	for {
		l.Push(part)
		l.Call(0, 1)
		s, ok := l.Get(-1).(lua.LString)
		l.Pop(1)
		if !ok || s == "" || source.Len() > MaxSource {
			break
		}
		m.meter.keep(len(s))
		source.WriteString(string(s))
	}
	return m.load(l, source.String(), strings.TrimLeft(name, "=@"))
}

// concat puts values together, as the operator ".." does: from the right on.
func (m *machine) concat(l *lua.LState) int {
	i := l.GetTop() - 1
	right := l.Get(i + 1)
	for i >= 1 {
		if !isText(right) || !isText(l.Get(i)) {
			right = m.concatPair(l, l.Get(i), right)
			i--
			continue
		}
		first, size := i, textSize(l.Get(i))+textSize(right)
		for first > 1 && isText(l.Get(first-1)) {
			first--
			size += textSize(l.Get(first))
		}
		m.longString(l, size)
		buf := make([]byte, 0, size)
		for j := first; j <= i; j++ {
			buf = appendText(buf, l.Get(j))
		}
		right = lua.LString(appendText(buf, right))
		i = first - 1
	}
	return push(l, right)
}

// concatPair asks the metatables of two values what they are together.
func (m *machine) concatPair(l *lua.LState, left, right lua.LValue) lua.LValue {
	f := l.GetMetaField(left, "__concat")
	if f == lua.LNil {
		f = l.GetMetaField(right, "__concat")
	}
	if f == lua.LNil {
		if isText(left) {
			left = right
		}
		l.RaiseError("attempt to concatenate a %s value", left.Type().String())
	}
	push(l, f, left, right)
	l.Call(2, 1)
	v := l.Get(-1)
	l.Pop(1)
	return v
}

func isText(v lua.LValue) bool {
	switch v.(type) {
	case lua.LString, lua.LNumber:
		return true
	}
	return false
}

func textSize(v lua.LValue) int {
	if s, ok := v.(lua.LString); ok {
		return len(s)
	}
	const ofNumber = 24
	return ofNumber
}

func appendText(buf []byte, v lua.LValue) []byte {
	if s, ok := v.(lua.LString); ok {
		return append(buf, s...)
	}
	return append(buf, text(v)...)
}

// MaxString is the size in bytes of the longest string that a script makes.
const MaxString = 16 << 20

// longString charges for a string that is to be made, and refuses one that is too long.
func (m *machine) longString(l *lua.LState, size int) {
	if size < 0 || size > MaxString {
		l.RaiseError("a string of %d bytes exceeds the limit of %d bytes", size, MaxString)
	}
	m.meter.make(size)
}

func (m *machine) openTable() {
	m.library("table", map[string]lua.LGFunction{
		"concat": m.tableConcat,
		"insert": m.tableInsert,
		"remove": m.tableRemove,
		"sort":   m.tableSort,
		"getn":   func(l *lua.LState) int { return push(l, lua.LNumber(m.seen(tableArg(l, 1, "getn")).Len())) },
		"maxn": func(l *lua.LState) int {
			t, most := m.seen(tableArg(l, 1, "maxn")), lua.LNumber(0)
			m.meter.walk(t)
			t.ForEach(func(key, _ lua.LValue) {
				if n, ok := key.(lua.LNumber); ok {
					most = max(most, n)
				}
			})
			return push(l, most)
		},
		"setn": func(l *lua.LState) int {
			tableArg(l, 1, "setn")
			l.RaiseError("'setn' is obsolete")
			return 0
		},
		"foreach": func(l *lua.LState) int {
			t, f := m.seen(tableArg(l, 1, "foreach")), functionArg(l, 2, "foreach")
			for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
				push(l, f, k, v)
				l.Call(2, 1)
				if l.Get(-1) != lua.LNil {
					return 1
				}
				l.Pop(1)
			}
			return 0
		},
		"foreachi": func(l *lua.LState) int {
			t, f := m.seen(tableArg(l, 1, "foreachi")), functionArg(l, 2, "foreachi")
			for i, n := 1, t.Len(); i <= n; i++ {
				push(l, f, lua.LNumber(i), t.RawGetInt(i))
				l.Call(2, 1)
				if l.Get(-1) != lua.LNil {
					return 1
				}
				l.Pop(1)
			}
			return 0
		},
	})
}

func (m *machine) tableConcat(l *lua.LState) int {
	t, separator := m.seen(tableArg(l, 1, "concat")), ""
	if l.Get(2) != lua.LNil {
		separator = stringArg(l, 2, "concat")
	}
	first := optInt(l, 3, "concat", 1)
	last := optInt(l, 4, "concat", int64(t.Len()))
	var buf []byte
	for i := first; i <= last; i++ {
		v := t.RawGetInt(int(i))
		if !isText(v) {
			l.RaiseError("invalid value (%s) at index %d in table for 'concat'", v.Type().String(), i)
		}
		if size := textSize(v) + len(separator); len(buf)+size > MaxString {
			m.longString(l, len(buf)+size)
		} else {
			m.meter.make(size)
		}
		m.meter.work(1)
		buf = appendText(buf, v)
		if i < last {
			buf = append(buf, separator...)
		}
	}
	return push(l, lua.LString(buf))
}

func (m *machine) tableInsert(l *lua.LState) int {
	t := m.changed(l, tableArg(l, 1, "insert"))
	n := t.Len()
	switch l.GetTop() {
	case 2:
		t.RawSetInt(n+1, l.Get(2))
	case 3:
		at := int(intArg(l, 2, "insert"))
		if at > n || at < 1 {
			t.RawSet(m.meter.index(lua.LNumber(at)), l.Get(3))
			return 0
		}
		m.meter.work(n - at)
		for i := n; i >= at; i-- {
			t.RawSetInt(i+1, t.RawGetInt(i))
		}
		t.RawSetInt(at, l.Get(3))
	default:
		l.RaiseError("wrong number of arguments to 'insert'")
	}
	return 0
}

func (m *machine) tableRemove(l *lua.LState) int {
	t := m.changed(l, tableArg(l, 1, "remove"))
	n := t.Len()
	at := int(optInt(l, 2, "remove", int64(n)))
	if at < 1 || at > n {
		return 0
	}
	m.meter.work(n - at)
	v := t.RawGetInt(at)
	for i := at; i < n; i++ {
		t.RawSetInt(i, t.RawGetInt(i+1))
	}
	t.RawSetInt(n, lua.LNil)
	return push(l, v)
}

// tableSort sorts by heap: whatever an order function says it ends, after n log n steps.
func (m *machine) tableSort(l *lua.LState) int {
	t := m.changed(l, tableArg(l, 1, "sort"))
	var order *lua.LFunction
	if l.Get(2) != lua.LNil {
		order = functionArg(l, 2, "sort")
	}
	less := func(i, j int) bool {
		m.meter.work(1)
		a, b := t.RawGetInt(i), t.RawGetInt(j)
		if order == nil {
			return l.LessThan(a, b)
		}
		push(l, order, a, b)
		l.Call(2, 1)
		v := l.Get(-1)
		l.Pop(1)
		return lua.LVAsBool(v)
	}
	swap := func(i, j int) {
		a, b := t.RawGetInt(i), t.RawGetInt(j)
		t.RawSetInt(i, b)
		t.RawSetInt(j, a)
	}
	sift := func(i, n int) {
		for {
			child := 2 * i
			if child > n {
				return
			}
			if child < n && less(child, child+1) {
				child++
			}
			if !less(i, child) {
				return
			}
			swap(i, child)
			i = child
		}
	}
	n := t.Len()
	for i := n / 2; i >= 1; i-- {
		sift(i, n)
	}
	for i := n; i > 1; i-- {
		swap(1, i)
		sift(1, i-1)
	}
	return 0
}

func (m *machine) openMath() {
	one := func(name string, f func(float64) float64) lua.LGFunction {
		return func(l *lua.LState) int { return push(l, lua.LNumber(f(numberArg(l, 1, name)))) }
	}
	two := func(name string, f func(a, b float64) float64) lua.LGFunction {
		return func(l *lua.LState) int {
			return push(l, lua.LNumber(f(numberArg(l, 1, name), numberArg(l, 2, name))))
		}
	}
	best := func(name string, f func(a, b float64) float64) lua.LGFunction {
		return func(l *lua.LState) int {
			v := numberArg(l, 1, name)
			for i := 2; i <= l.GetTop(); i++ {
				v = f(v, numberArg(l, i, name))
			}
			return push(l, lua.LNumber(v))
		}
	}
	t := m.library("math", map[string]lua.LGFunction{
		"abs": one("abs", math.Abs), "acos": one("acos", math.Acos), "asin": one("asin", math.Asin),
		"atan": one("atan", math.Atan), "atan2": two("atan2", math.Atan2), "ceil": one("ceil", math.Ceil),
		"cos": one("cos", math.Cos), "cosh": one("cosh", math.Cosh),
		"deg": one("deg", func(f float64) float64 { return f / (math.Pi / 180) }),
		"exp": one("exp", math.Exp), "floor": one("floor", math.Floor), "fmod": two("fmod", math.Mod),
		"mod": two("fmod", math.Mod), "log": one("log", math.Log), "log10": one("log10", math.Log10),
		"max": best("max", func(a, b float64) float64 {
			if b > a {
				return b
			}
			return a
		}),
		"min": best("min", func(a, b float64) float64 {
			if b < a {
				return b
			}
			return a
		}),
		"pow": two("pow", math.Pow), "rad": one("rad", func(f float64) float64 { return f * (math.Pi / 180) }),
		"sin": one("sin", math.Sin), "sinh": one("sinh", math.Sinh), "sqrt": one("sqrt", math.Sqrt),
		"tan": one("tan", math.Tan), "tanh": one("tanh", math.Tanh),
		"frexp": func(l *lua.LState) int {
			f, e := math.Frexp(numberArg(l, 1, "frexp"))
			return push(l, lua.LNumber(f), lua.LNumber(e))
		},
		"ldexp": func(l *lua.LState) int {
			return push(l, lua.LNumber(math.Ldexp(numberArg(l, 1, "ldexp"), int(intArg(l, 2, "ldexp")))))
		},
		"modf": func(l *lua.LState) int {
			f := numberArg(l, 1, "modf")
			if math.IsInf(f, 0) {
				return push(l, lua.LNumber(f), lua.LNumber(0))
			}
			whole, rest := math.Modf(f)
			return push(l, lua.LNumber(whole), lua.LNumber(rest))
		},
		"random": m.random,
		"randomseed": func(l *lua.LState) int {
			m.seed = uint64(uint32(intArg(l, 1, "randomseed")))<<16 + 0x330e
			return 0
		},
	})
	t.RawSetString("pi", lua.LNumber(math.Pi))
	t.RawSetString("huge", lua.LNumber(math.Inf(1)))
}

// random is Redis' own, which is that of POSIX: after randomseed it goes the same way.
func (m *machine) random(l *lua.LState) int {
	m.seed = (m.seed*0x5deece66d + 0xb) & (1<<48 - 1)
	const most = 1<<31 - 1
	r := float64((m.seed>>17)%most) / most
	switch l.GetTop() {
	case 0:
		return push(l, lua.LNumber(r))
	case 1:
		n := intArg(l, 1, "random")
		if n < 1 {
			badArg(l, 1, "random", "interval is empty")
		}
		return push(l, lua.LNumber(math.Floor(r*float64(n))+1))
	case 2:
		low, high := intArg(l, 1, "random"), intArg(l, 2, "random")
		if low > high {
			badArg(l, 2, "random", "interval is empty")
		}
		return push(l, lua.LNumber(math.Floor(r*float64(high-low+1))+float64(low)))
	}
	l.RaiseError("wrong number of arguments")
	return 0
}
