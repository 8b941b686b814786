package script

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// What scripts return, and how errors read, is compared with Redis by the conversations in
// api/resp/testdata/redis: lua.txt and scripting.txt. Here is what bounds them.

func runText(t testing.TB, source string, l Limits) (string, error) {
	t.Helper()
	p, err := Compile([]byte(source))
	if err != nil {
		return "-" + err.Error() + "\r\n", nil
	}
	r := &Run{Limits: l, Call: func(args [][]byte, _ bool) ([]byte, error) {
		if string(args[0]) == "fail" {
			return nil, errFatal
		}
		return []byte("*2\r\n$1\r\na\r\n:1\r\n"), nil
	}, Known: func([][]byte) bool { return true }}
	out, err := p.Run(r, nil)
	return string(out), err
}

var errFatal = errors.New("the command ends the script")

func limits() Limits {
	return Limits{Steps: 4_000_000, Bytes: 16 << 20, Deadline: time.Now().Add(time.Minute)}
}

// TestARunawayIsEnded whatever it does to go on. The second column is how: by its steps, its
// memory, or an error of its own.
func TestARunawayIsEnded(t *testing.T) {
	own := errors.New("an error of its own")
	for source, want := range map[string]error{
		"while true do end": ErrSteps,
		"while true do pcall(function() while true do end end) end":                       ErrSteps,
		"xpcall(function() while true do end end, function() while true do end end)":      ErrSteps,
		"local c = coroutine.wrap(function() while true do end end) pcall(c) pcall(c)":    ErrSteps,
		"while true do coroutine.wrap(function() while true do end end)() end":            ErrSteps,
		"error(setmetatable({}, {__tostring=function() while true do end end}))":          own,
		"string.gsub('x', 'x', function() while true do end end)":                         ErrSteps,
		"table.sort({3,2,1}, function() while true do end end)":                           ErrSteps,
		"local function f() return f() end f()":                                           ErrSteps,
		"pcall(function() local function f() return f() end f() end)":                     ErrSteps,
		"local function f(n) return 1 + f(n) end f(1)":                                    own,
		"local function f(n) return coroutine.wrap(function() f(n) end)() end f(1)":       own,
		"return ('a'):rep(1e6):find(('.-'):rep(20)..'b')":                                 ErrSteps,
		"return ('a'):rep(1e5):match(('a-'):rep(30)..'b')":                                ErrSteps,
		"return ('('):rep(1e5):find('%b()%b()%b()%b()x')":                                 ErrSteps,
		"local t = {} for i=1,100000 do t[i]=i end while true do table.insert(t,1,1) end": ErrSteps,
		"while true do loadstring(('x=1 '):rep(1000)) end":                                ErrSteps,

		"local s = 'x' while true do s = s .. s end":                                                             own,
		"local s = 'x' while true do pcall(function() s = s .. s end) end":                                       ErrMemory,
		"return ('x'):rep(1e9)":                                                                                  own,
		"return ('x'):rep(1e6):gsub('x', ('y'):rep(100))":                                                        ErrMemory,
		"return cjson.encode(('/'):rep(1e7))":                                                                    ErrMemory,
		"local t = {} while true do t[#t+1] = {} end":                                                            ErrMemory,
		"local t = {} while true do t[#t+1] = 'x' end":                                                           ErrMemory,
		"local t, i = {}, 0 while true do i = i + 1 t['k'..i] = i end":                                           ErrMemory,
		"local t, i = {}, 0 while true do i = i + 1 t['k'..i] = 1 t['k'..i] = nil end":                           ErrMemory,
		"local t = {} for i=1,1000 do t[i] = {} t[i][2000000] = 1 end":                                           ErrMemory,
		"local t = {} for i=1,1000 do t[i] = {} t[i][1900000+i] = 1 end":                                         ErrMemory,
		"local t = {} for i=1,1000 do t[i] = {[1900000]=1} end":                                                  ErrMemory,
		"local t = {} for i=1,1000 do t[i] = {} rawset(t[i], 1900000, 1) end":                                    ErrMemory,
		"local t = {} for i=1,1000 do t[i] = {} table.insert(t[i], 1900000, 1) end":                              ErrMemory,
		"local t = {} for i=1,1e9 do t[i] = ('x'):rep(1e6)..i end":                                               ErrMemory,
		"local t = {} for i=1,1e9 do t[i] = redis.call('x') end":                                                 ErrMemory,
		"local t = {} while true do t[#t+1] = function() return t end end":                                       ErrMemory,
		"local t = {} while true do t[#t+1] = coroutine.create(function() end) end":                              ErrMemory,
		"local t = {} local function f() t[#t+1] = {} return f() end f()":                                        ErrMemory,
		"local function f(t) t[#t+1] = {} return f(t) end local function g(t) local r = f(t) return r end g({})": ErrMemory,
		"local t = {} for i=1,1e9 do t = {t, cjson.decode('[1,2,3,{\"a\":1}]')} end":                             ErrMemory,
		"return cmsgpack.unpack('\\221\\255\\255\\255\\255')":                                                    own,
		"return struct.pack('c'..2^30, 'x')":                                                                     own,
		"return string.format(('%99d'):rep(9), 1)":                                                               own,

		"local function f(n) local a,b,c,d,e,g,h,i,j,k local function u() return a,b,c,d,e,g,h,i,j,k end " +
			"if n > 0 then pcall(f, n-1) end end f(3900)": ErrMemory,

		"local s, t = ('x'):rep(1e6), {} for i=1,100 do t[i] = s:format() end": ErrMemory,
		"local b = ('x'):rep(1e6) local function f(n) " +
			"return (('ab'):gsub('.', function(c) if c == 'a' then return b end " +
			"if n > 0 then f(n-1) end return '' end)) end f(200)": ErrMemory,
		"local b = (' '):rep(1e6) local function f(n) " +
			"local part = b load(function() if part then part = nil return b end " +
			"if n > 0 then f(n-1) end error('x') end) end f(150)": ErrMemory,

		"local s, t = ('x'):rep(1e4), {} for i=1,8000 do t[i] = s end redis.pcall('nope', unpack(t))": ErrMemory,
		"local s, t = ('x'):rep(1e4), {} for i=1,8000 do t[i] = s end redis.acl_check_cmd(unpack(t))": ErrMemory,
		"local s, t = ('x'):rep(2e6), {} for i=1,1e9 do t[i] = redis.error_reply(s) end":              ErrMemory,
		"local s, t = ('x'):rep(2e6), {} for i=1,1e9 do t[i] = {pcall(function() error(s) end)} end":  ErrMemory,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := runText(t, source, limits())
		runtime.ReadMemStats(&after)
		switch {
		case want == own && (err != nil || !strings.HasPrefix(out, "-")), want != own && err != want:
			t.Errorf("%s\nended with %v and %.100q, want %v", source, err, out, want)
		case after.HeapSys > before.HeapSys+400<<20:
			t.Errorf("%s\nthe heap grew from %d to %d MiB", source, before.HeapSys>>20, after.HeapSys>>20)
		}
	}
}

// TestWorkOfFunctionsIsCounted: few instructions may take long.
func TestWorkOfFunctionsIsCounted(t *testing.T) {
	const holes = "local t = {} t[200000] = 1 t[200000] = nil "
	// grow calls what follows with 30,000 values.
	grow := "local function grow(n, f, ...) if n == 0 then return f(...) end return grow(n-1, f, " +
		strings.Repeat("0,", 100) + "...) end return grow(300, function(...) "
	for _, source := range []string{
		"local s = ('x'):rep(1e6) for i=1,2 do s:gsub('', '') end",
		"(('x'):rep(1e3)):gsub('(y*)', ('%1'):rep(1e5))",
		"local s = ('x'):rep(1e6) for i=1,100 do s:format() end",
		"local s = ('x'):rep(1e6) for i=1,100 do s:byte(1, 8000) s:byte(1, 8000) end",
		"local s = ('x'):rep(1e6) for i=1,100 do ('x'):find(s) end",
		"local s = ('9'):rep(1e6) for i=1,100 do tonumber(s) end",
		"local s = ('9'):rep(1e6) for i=1,100 do tonumber(s, 16) end",
		"local s = ('9'):rep(1e6) for i=1,100 do math.floor(s) end",
		"local s = ('9'):rep(1e6) for i=1,100 do for j=s,1 do end end",
		"local s = (' '):rep(1e6)..1 for i=1,100 do cjson.decode(s) end",
		"local s = (' '):rep(1e6) for i=1,20 do struct.size(s) end",
		holes + "for i=1,100 do table.maxn(t) end",
		holes + "local u = {} for i=1,100 do u[i] = t end cjson.encode(u)",
		holes + "local u = {} for i=1,100 do u[i] = t end cmsgpack.pack(u)",
		holes + "local u = {} for i=1,100 do u[i] = {map=t} end return u",
		grow + "local t = {" + strings.Repeat("{...},", 200) + "} end, 0)",
		grow + "local function f(...) end " + strings.Repeat("f(...) ", 200) + " end, 0)",
		grow + "local t = {" + strings.Repeat("{(function(...) return ... end)(...)},", 200) + "} end, 0)",
		grow + "local t = {" + strings.Repeat("{"+strings.Repeat("1,", 50)+"x=1,...},", 200) + "} end, 0)",
	} {
		if out, err := runText(t, source, Limits{Steps: 1_000_000}); err != ErrSteps {
			t.Errorf("%.120s\nended with %v and %.100q", source, err, out)
		}
	}
}

// TestAskingWhatIsHeldTakesNothing: a script may ask as often as it has steps.
func TestAskingWhatIsHeldTakesNothing(t *testing.T) {
	const hold = "local t = {} for i=1,50000 do t[i] = {} end "
	took := func(source string) uint64 {
		before := allocated()
		if out, err := runText(t, source, Limits{Steps: 4_000_000}); out != ":32\r\n" || err != nil {
			t.Errorf("%s\nis answered with %q, %v", source, out, err)
		}
		return allocated() - before
	}
	without := took(hold + "return 32")
	for _, ask := range []string{"gcinfo()", "collectgarbage('count')"} {
		n := took(hold + "for i=1,50 do " + ask + " end return " + ask)
		if n > without+8<<20 {
			t.Errorf("%s: %d MiB more", ask, (n-without)>>20)
		}
	}
}

// TestNestedTextsAreRefused before what compiles them calls itself too often.
func TestNestedTextsAreRefused(t *testing.T) {
	for _, source := range []string{
		strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000),
		"return " + strings.Repeat("not ", 200_000) + "1",
		"return " + strings.Repeat("{", 100_000) + strings.Repeat("}", 100_000),
		"return 1" + strings.Repeat("+1", 100_000),
		"return 1" + strings.Repeat("^1", 100_000),
		strings.Repeat("do ", 100_000) + strings.Repeat("end ", 100_000),
		"return " + strings.Repeat("function() return ", 30_000) + strings.Repeat("end ", 30_000),
		"x" + strings.Repeat("[1]", 100_000) + "=1",
	} {
		if _, err := Compile([]byte(source)); err == nil {
			t.Errorf("%.40s... was compiled", source)
		}
	}
	if _, err := Compile([]byte("return x" + strings.Repeat("..x", 150))); err != nil {
		t.Error(err)
	}
}

// TestTextsBeyondTheCompilerAreRefused: it would take long, or cut off what it has no room for.
func TestTextsBeyondTheCompilerAreRefused(t *testing.T) {
	many := func(n int, format, separator string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = strings.ReplaceAll(format, "#", strconv.Itoa(100_000+i))
		}
		return strings.Join(parts, separator)
	}
	const constants, functions = "has too many constants", "chunk has more than 4096 functions"
	nested := ""
	for _, name := range []string{"a", "b", "c", "d"} {
		nested += "return function() local " + many(190, name+"#", ",") + " "
	}
	for source, want := range map[string]string{
		"return {" + many(25_000, "#", ",") + "}":                       "main function " + constants,
		many(50_000, "x#=1", " "):                                       "main function " + constants,
		"x={}\nfunction x.y() " + many(50_000, "x.y#(2)", " ") + " end": "2: function at line 2 " + constants,
		"return " + many(20_000, "1e6*#", ","):                          constants,
		many(10_000, "x=#", " ") + strings.Repeat(" x=109999", 50_000):  constants,
		many(50_000, "goto a", " ") + many(9000, "::a#::", " "):         constants,
		"return {" + strings.Repeat("1,", 25_551) + "}":                 "main function has more than 25550 items",
		"local " + many(61, "a#", ",") + "\nreturn function() return " + many(61, "a#", "+") +
			" end": "2: function at line 2 has more than 60 upvalues",
		"while x do " + strings.Repeat("x=1 ", 70_000) + "end":   tooLong,
		"for i=1,2 do " + strings.Repeat("x=1 ", 70_000) + "end": tooLong,
		"repeat " + strings.Repeat("x=1 ", 70_000) + "until x":   tooLong,
		strings.Repeat("if x then end ", 40_000):                 tooLong,

		strings.Repeat("x=0e ", 20_000):          "user_script:1: malformed number near '0e'",
		many(20_000, "::a#::", " "):              constants,
		strings.Repeat("f=function()end ", 4097): functions,

		"while f=={} do f=function()end " + strings.Repeat("do break end ", 4096) + "end": functions,

		nested + strings.Repeat("return function() ", 300) + many(190, "a#=b# c#=d#", " ") +
			strings.Repeat(" end", 304): constants,
	} {
		if _, err := Compile([]byte(source)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s...: %v, want %s", source, err, want)
		}
	}
	for _, source := range []string{
		"return {" + many(11_000, "#", ",") + "}", "return #{" + strings.Repeat("1,", 25_550) + "}", strings.Repeat("x=1 ", 70_000),
		"local " + many(60, "a#", ",") + " return function() return " + many(60, "a#", "+") + " end",
		many(2, "function f#() return {"+many(7_000, "#", ",")+"} end", "\n"),
		"return {" + strings.Repeat("-1,", 12_000) + "}", "return {" + many(6_000, "-#", ",") + "}",
		"local " + many(50, "a#", ",") + strings.Repeat(" return function()", 4) +
			strings.Repeat(many(50, " x=a#", ""), 200) + strings.Repeat(" end", 4),
	} {
		if _, err := Compile([]byte(source)); err != nil {
			t.Errorf("%.60s...: %v", source, err)
		}
	}
}

// held compiles a text, and returns what the program holds.
func held(t *testing.T, source string) (*Program, int) {
	t.Helper()
	text := []byte(source)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p, err := Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(text)
	return p, int(after.HeapAlloc) - int(before.HeapAlloc)
}

// TestAShortFunctionIsSmall once it is compiled: a text may have many, and programs are kept.
func TestAShortFunctionIsSmall(t *testing.T) {
	const functions = 4096
	p, size := held(t, strings.Repeat("f=function()end ", functions))
	if each := size / functions; each > 2048 {
		t.Errorf("a function holds %d bytes", each)
	}
	runtime.KeepAlive(p)
}

// TestAProgramHoldsWhatItsSizeTells, about: as many are kept as that allows.
func TestAProgramHoldsWhatItsSizeTells(t *testing.T) {
	constants := "x={"
	for i := range 10_000 {
		constants += strconv.Itoa(i) + ","
	}
	for _, source := range []string{
		strings.Repeat("f=function()end ", 4096), strings.Repeat("f() ", 200_000), strings.Repeat("x=1 ", 200_000),
		strings.Repeat("do local a end ", 50_000), constants + "}", "x='" + strings.Repeat("x", 900_000) + "'",
	} {
		p, size := held(t, source)
		if p.Size < size*9/10 || p.Size > 2*size+len(source) {
			t.Errorf("%.30s... holds %d bytes and is counted as %d", source, size, p.Size)
		}
		runtime.KeepAlive(p)
	}
}

// TestWhatIsHeldIsCounted wherever it is: what GetStack does not show for the calls that others
// took the place of, too.
func TestWhatIsHeldIsCounted(t *testing.T) {
	for _, source := range []string{
		"local t = {} for i=1,30 do t[i] = ('x'):rep(1e6)..i end local function f(n) if n == 0 then check() end " +
			"return f(n-1) end local r = f(100) return r",
		"local t = {} for i=1,30 do t[i] = ('x'):rep(1e6)..i end coroutine.wrap(function() check() end)()",
		"local c = coroutine.create(function() local t = {} for i=1,30 do t[i] = ('x'):rep(1e6)..i end coroutine.yield() " +
			"return t end) coroutine.resume(c) check() return c",
		"local function f() return ('x'):rep(1e7)..1, ('x'):rep(1e7)..2, ('x'):rep(1e7)..3, check() end f()",
		"local function f(...) check() return ... end " +
			"f(('x'):rep(1e7)..1, ('x'):rep(1e7)..2, ('x'):rep(1e7)..3)",
		"local function f(n, ...) if n == 0 then check() else f(n-1, ('x'):rep(1e6)..n) end " +
			"return ... end f(30)",
		"local t = {} for i=1,30 do local s = ('x'):rep(1e6)..i " +
			"t[i] = coroutine.create(function() return s end) end check()",
		"local t, many = {}, {} for i=1,8000 do many[i] = 1 end local function f(n, ...) " +
			"if n > 0 then return f(n-1, 0, unpack(many)) end coroutine.yield() return ... end " +
			"for i=1,200 do t[i] = coroutine.wrap(f) t[i](1) end check()",
		"local u = ('x'):rep(1e7)..('y'):rep(6e6) local v = ('x'):rep(1e7)..('z'):rep(6e6) local function f() return u, v end check()",
		"local t = {} for i=1,30 do t[i] = string.gmatch(('x'):rep(1e6)..i, 'y') end check()",
		"local t = {} for i=1,30 do local k = ('x'):rep(1e6)..i t[k] = 1 t[k] = nil end check()",
		"local t, text = {}, ('f=function()end '):rep(3000) " +
			"for i=1,10 do t[i] = loadstring(text) end check()",
		"local t = {} for i=1,30 do t[i] = loadstring('return \"'..('x'):rep(1e6)..i..'\"') end check()",
	} {
		m := newMachine()
		size := int64(0)
		m.globals.RawSetString("check", m.l.NewFunction(func(*lua.LState) int {
			if size == 0 {
				size = m.size(1 << 40)
			}
			return 0
		}))
		p, err := Compile([]byte(source))
		if err != nil {
			t.Fatal(err)
		}
		m.start(&Run{Limits: Limits{Steps: 100_000_000}})
		_, _ = m.execute(p, nil)
		if size < 29e6 || size > 40e6 {
			t.Errorf("%s\nholds %d bytes", source, size)
		}
	}
}

// TestWhatIsBeingMadeIsCounted while nothing of the script refers to it.
func TestWhatIsBeingMadeIsCounted(t *testing.T) {
	for _, source := range []string{
		"cjson.decode('['..('{\"a\":1},'):rep(30000)..'1]')",
		"cmsgpack.unpack('\\220\\255\\255'..('\\129\\161a\\1'):rep(65535))",
		"cmsgpack.unpack('\\148'..('\\129\\206\\0\\28\\253\\224\\1'):rep(4))",
		"cmsgpack.unpack('\\220\\7\\208'..('\\129\\205\\15\\255\\1'):rep(2000))",
		"redis.call('many')",
		"redis.setresp(3) redis.call('maps')",
	} {
		p, err := Compile([]byte(source + " redis.call('look')"))
		if err != nil {
			t.Fatal(err)
		}
		looked := false
		r := &Run{Limits: Limits{Bytes: 16 << 20}, Call: func(args [][]byte, _ bool) ([]byte, error) {
			switch string(args[0]) {
			case "many":
				return []byte("*100000\r\n" + strings.Repeat("*1\r\n:1\r\n", 100_000)), nil
			case "maps":
				return []byte("*2000\r\n" + strings.Repeat("%1\r\n:4000\r\n:1\r\n", 2000)), nil
			}
			looked = true
			return []byte("+OK\r\n"), nil
		}}
		if _, err := p.Run(r, nil); err != ErrMemory || looked {
			t.Errorf("%s\nended with %v; it was made whole: %v", source, err, looked)
		}
	}
}

// TestAPartKeepsNothingOfTheRest: what a script holds is counted by what it can see.
func TestAPartKeepsNothingOfTheRest(t *testing.T) {
	for _, part := range []string{
		"s:sub(1, 2)", "s:match('^xx')", "s:match('^(x)x')", "struct.unpack('c2', s)", "struct.unpack('s', 'x\\0'..s)",
		"cjson.decode('[\"'..s..'\",\"part\"]')[2]", "cmsgpack.unpack(cmsgpack.pack({s, 'part'}))[2]",
	} {
		p, err := Compile([]byte("local t = {} for i = 1, 100 do local s = ('x'):rep(1e6)..i t[i] = " + part +
			" end redis.call('look') return #t"))
		if err != nil {
			t.Fatal(err)
		}
		var before, then runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r := &Run{Call: func([][]byte, bool) ([]byte, error) {
			runtime.GC()
			runtime.ReadMemStats(&then)
			return []byte("+OK\r\n"), nil
		}}
		if out, err := p.Run(r, nil); string(out) != ":100\r\n" || err != nil {
			t.Fatalf("%s: %q, %v", part, out, err)
		}
		if then.HeapAlloc > before.HeapAlloc+50<<20 {
			t.Errorf("%s holds %d MiB", part, (then.HeapAlloc-before.HeapAlloc)>>20)
		}
	}
}

// TestNothingIsLeftBehind in a machine for the scripts that have it next.
func TestNothingIsLeftBehind(t *testing.T) {
	m := newMachine()
	run := func(source string) string {
		t.Helper()
		p, err := Compile([]byte(source))
		if err != nil {
			t.Fatal(err)
		}
		m.start(&Run{Limits: limits()})
		defer m.stop()
		out, err := m.execute(p, nil)
		if err != nil {
			t.Errorf("%s: %v", source, err)
		}
		return string(out)
	}
	for _, source := range []string{
		"string.format = nil", "redis.call = nil", "KEYS = nil", "x = 1", "_G.x = 1", "rawset(_G, 'x', 1)",
		"setmetatable(_G, nil)", "getmetatable(_G).__index = nil", "rawset(getmetatable(_G), '__index', nil)",
		"getmetatable('').__index = nil", "rawset(getmetatable(''), '__index', nil)",
		"table.insert(string, 1)", "for k in pairs(math) do math[k] = nil end", "cjson.null.x = 1", "string.x = 1",
		"setmetatable(string, {})", "table.sort(table)", "rawset(string, 'x', 1)", "local s = string s[1] = 1",
		"cjson.new().encode = nil", "('').x = 1", "coroutine.wrap(function() x = 1 end)()", "loadstring('x = 1')()",
		"local _, r = pairs(redis) r.call = function() return 'x' end", "local _, g = pairs(_G) g.x = 1",
		"local _, r = ipairs(redis) r.call = nil", "error(redis)", "error(_G)",
	} {
		if out := run(source); source != "table.sort(table)" && !strings.HasPrefix(out, "-") {
			t.Errorf("%s: %q", source, out)
		}
	}
	probe := "cjson.encode_max_depth(3) for k in pairs(_G) do if k == 'x' then return 'x' end end " +
		"return {type(string.format), type(redis.call), #KEYS, tostring(rawget(_G,'x')), ('x'):upper(), math.floor(1.5), " +
		"tostring(pcall(redis.call)), tostring(redis.source), tostring(pcall(function() return source end))}"
	const want = "*9\r\n$8\r\nfunction\r\n$8\r\nfunction\r\n:0\r\n$3\r\nnil\r\n$1\r\nX\r\n:1\r\n" +
		"$5\r\nfalse\r\n$3\r\nnil\r\n$5\r\nfalse\r\n"
	if out := run(probe); out != want {
		t.Errorf("%q", out)
	}
	m.start(&Run{Limits: limits()})
	if m.json != defaultJSON {
		t.Error("the settings of cjson stay")
	}
	m.stop()
	second := run("math.randomseed(7) math.random() return math.random(2^30)")
	run("math.randomseed(7) math.random()")
	if run("return math.random(2^30)") == second {
		t.Error("the seed of math.random stays")
	}
	run("local a,b,c,d = 1,2,3,4 local function k() return d end error('x')")
	const own = "local f pcall(function() local x = 1 f = function() x = x+1 return x end error('x') end) " +
		"local a,b,c,d = 9,8,7,6 return {f(),f(),a,b,c,d}"
	if out := run(own); out != "*6\r\n:2\r\n:3\r\n:9\r\n:8\r\n:7\r\n:6\r\n" {
		t.Errorf("with the locals of another: %q", out)
	}
}

// TestOnlyWhatIsSuspendedIsResumed, and only a coroutine's own code yields: the interpreter itself
// would run on in more than one place.
func TestOnlyWhatIsSuspendedIsResumed(t *testing.T) {
	const across = "attempt to yield across metamethod/C-call boundary"
	for _, c := range []struct{ source, want string }{
		{"local a a = coroutine.create(function() local b = coroutine.create(function() " +
			"return coroutine.status(a), coroutine.resume(a) end) local _, is, ok, why = coroutine.resume(b) " +
			"return is..tostring(ok)..why end) local _, got = coroutine.resume(a) return got",
			"normalfalsecannot resume normal coroutine"},
		{"local f, g f = coroutine.wrap(function() g() end) g = coroutine.wrap(function() f() end) f()",
			"cannot resume normal coroutine"},
		{"local f f = coroutine.wrap(function() f() end) f()", "cannot resume running coroutine"},
		{"local a a = coroutine.create(function() pcall(coroutine.wrap(function() error('x') end)) " +
			"local _, why = coroutine.resume(a) return why end) local _, why = coroutine.resume(a) return why",
			"cannot resume running coroutine"},
		{"local f = coroutine.wrap(function() error('x') end) pcall(f) local _, why = pcall(f) return why",
			"cannot resume dead coroutine"},
		{"local f = coroutine.wrap(function() local _, why = pcall(coroutine.yield) return why end) " +
			"local why = f() return why", across},
		{"coroutine.wrap(function() local x = setmetatable({}, {__index=coroutine.yield}).x end)()", across},
		{"coroutine.wrap(function() for x in function() coroutine.yield() end do end end)()", across},
		{"coroutine.yield()", across},
		{"local function walk(n) if n > 0 then walk(n-1) coroutine.yield(n) end end local s = '' " +
			"for n in coroutine.wrap(function() walk(3) end) do s = s..n end return s", "\r\n123\r\n"},
	} {
		var out string
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			out, err = runText(t, c.source, limits())
		}()
		select {
		case <-done:
		case <-time.After(5 * time.Minute):
			t.Fatalf("%s\nhangs", c.source)
		}
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%s\nis answered with %q, %v, want %q", c.source, out, err, c.want)
		}
	}
}

// TestWhatIsLoggedIsShort, however much a script has to tell. An error of the log ends the script.
func TestWhatIsLoggedIsShort(t *testing.T) {
	p, err := Compile([]byte("local s, t = ('x'):rep(1e5), {} for i=1,8000 do t[i] = s end " +
		"redis.log(redis.LOG_WARNING, 'a', 1, {}, unpack(t)) return 1"))
	if err != nil {
		t.Fatal(err)
	}
	told := ""
	var failure error
	r := &Run{Limits: limits(), Log: func(_ int, text string) error {
		told = text
		return failure
	}}
	before := allocated()
	if out, err := p.Run(r, nil); string(out) != ":1\r\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if n := allocated() - before; n > 100<<20 {
		t.Errorf("that took %d MiB", n>>20)
	}
	if want := "a 1 " + strings.Repeat("x", MaxLog-4); told != want {
		t.Errorf("%d bytes are logged: %q", len(told), told)
	}
	failure = errFatal
	if _, err := p.Run(r, nil); err != errFatal {
		t.Error(err)
	}
}

// allocated returns how much memory was, in bytes, since the process began.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestACaughtErrorIsNotTraced through all calls, of which there may be many.
func TestACaughtErrorIsNotTraced(t *testing.T) {
	for source, want := range map[string]error{
		"pcall(function() local function f() return f() end f() end)": ErrSteps,
		"local function f(n) if n > 0 then f(n-1) return end " +
			"for i=1,300 do pcall(error) end end f(2500)": nil,
	} {
		before := allocated()
		if _, err := runText(t, source, limits()); err != want {
			t.Errorf("%s\nended with %v", source, err)
		}
		if n := allocated() - before; n > 16<<20 {
			t.Errorf("%s\ntook %d MiB", source, n>>20)
		}
	}
}

// TestAnErrorThatEndsAScriptIsNotTraced either, also where it leaves no room for anything.
func TestAnErrorThatEndsAScriptIsNotTraced(t *testing.T) {
	took := func(calls string) uint64 {
		before := allocated()
		out, err := runText(t, "local t = {} for i=1,8000 do t[i] = 1 end "+
			"local function deep(...) local x = deep(unpack(t)) return x end "+
			"local function f(n) if n > 0 then return f(n-1) end return deep() end f("+calls+")", Limits{Steps: 4_000_000})
		if !strings.HasPrefix(out, "-ERR user_script:1: registry overflow script: ") || err != nil {
			t.Errorf("after %s calls: %q, %v", calls, out, err)
		}
		return allocated() - before
	}
	few, many := took("1"), took("5e5")
	if many > few+4<<20 {
		t.Errorf("it takes %d MiB after many calls, %d after few", many>>20, few>>20)
	}
}

// TestAnErrorNamesItsPlace at the level that is asked for. A call that catches errors is one level.
func TestAnErrorNamesItsPlace(t *testing.T) {
	const source = "local function f(n)\nerror('x', n) end\nlocal function g(n) f(n) return 1 end\n" +
		"local all = ''\nfor n=1,6 do local _, why = pcall(g, n) all = all..' '..why end return all"
	const want = " user_script:2: x user_script:3: x x user_script:5: x x x\r\n"
	if out, err := runText(t, source, limits()); !strings.HasSuffix(out, want) || err != nil {
		t.Errorf("%q, %v, want %q", out, err, want)
	}
}

// TestArgHoldsWhatTheDotsStandFor in a function that does not use them, as in Lua 5.1, and in no chunk.
func TestArgHoldsWhatTheDotsStandFor(t *testing.T) {
	for source, want := range map[string]string{
		"return (function(a, ...) return {a, arg.n, #arg, arg[2]} end)(1, 2, 3)":                  "*4\r\n:1\r\n:2\r\n:2\r\n:3\r\n",
		"return (function(...) return arg.n end)(nil, nil)":                                       ":2\r\n",
		"return (function(arg, ...) return arg.n end)(7)":                                         ":0\r\n",
		"local t = {f = function(self, ...) return arg[1] end} return t:f(3)":                     ":3\r\n",
		"return (function(...) if false then f(...) end return type(arg) end)(1)":                 "$3\r\nnil\r\n",
		"return (function(...) local f = function(...) return ... end return f(arg.n) end)(1, 2)": ":2\r\n",
		"return loadstring('return type(rawget(_G, \"arg\"))')(1)":                                "$3\r\nnil\r\n",
	} {
		if out, err := runText(t, source, limits()); out != want || err != nil {
			t.Errorf("%s\nis answered with %q, %v, want %q", source, out, err, want)
		}
	}
}

// TestAReplyIsWrittenOnce, and not again at each level that it is nested.
func TestAReplyIsWrittenOnce(t *testing.T) {
	before := allocated()
	out, err := runText(t, "local t = ('x'):rep(300000) for i=1,990 do t = {map={a=t}} end return t", limits())
	if n := allocated() - before; n > 100<<20 {
		t.Errorf("that took %d MiB", n>>20)
	}
	want := strings.Repeat("*2\r\n$1\r\na\r\n", 990) + "$300000\r\n" + strings.Repeat("x", 300_000) + "\r\n"
	if out != want || err != nil {
		t.Errorf("%.60q, %v", out, err)
	}
}

// TestOthersEndARun at once, with their error, also where the script catches errors.
func TestOthersEndARun(t *testing.T) {
	killed := errors.New("killed")
	var kill atomic.Pointer[error]
	kill.Store(&killed)
	if _, err := runText(t, "while true do pcall(function() while true do end end) end", Limits{Kill: &kill}); err != killed {
		t.Error(err)
	}
	if _, err := runText(t, "pcall(redis.call, 'fail') return redis.pcall('fail')", limits()); err != errFatal {
		t.Error(err)
	}
	if _, err := runText(t, "while true do end", Limits{Deadline: time.Now()}); err != ErrTime {
		t.Error(err)
	}
}

// FuzzScripts: no text hangs, panics, or is answered with anything but one reply.
func FuzzScripts(f *testing.F) {
	for _, source := range []string{
		"return {KEYS[1], ARGV[1]}", "return redis.call('x')", "return cjson.decode('{\"a\":[1,2]}').a",
		"return cmsgpack.unpack(cmsgpack.pack({1,{a=2}}))", "return {struct.unpack('>I2sc0', struct.pack('>I2sB', 1, 'x', 2))}",
		"return string.format('%5.2f %q %s', 1, 'x', 2) .. ('x'):rep(3)", "for w in ('a b'):gmatch('%a+') do end",
		"local t = setmetatable({}, {__index=function(t, k) return k end}) return t.x .. #t",
		"#!lua flags=no-writes\nreturn 1", "goto x ::x:: return 1", "return bit.tohex(bit.bxor(1, 2), -4)",
		"local c = coroutine.wrap(function(a) coroutine.yield(a) error('x') end) c(1) return c()",
		"return {double=1.5, map={a=1}, set={b=true}, ok='x', err='y'}", "return ('x'):find('(()%b()%f[%a].-)%1')",
		"0e\r", "#!lua flags=x\r", "#!x\ry\n",
	} {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		l := Limits{Steps: 100_000, Bytes: 8 << 20, Deadline: time.Now().Add(10 * time.Second)}
		out, err := runText(t, source, l)
		if err != nil && strings.Contains(err.Error(), "panicked") || err == ErrTime {
			t.Fatalf("%q: %v", source, err)
		}
		if err == nil {
			if rest := skip(out); rest != "" {
				t.Fatalf("%q: %q has more than a reply: %q", source, out, rest)
			}
		}
	})
}

// skip returns what comes behind a reply.
func skip(reply string) string {
	m := newMachine()
	m.start(&Run{})
	_, rest := m.value([]byte(reply), 0)
	return string(rest)
}
