package resp

import (
	"fmt"
	"slices"
	"strings"
)

// luaDraft is a script that is being drawn. It ends, and raises no error: its variables hold numbers, some of them
// as strings, of which the last two characters are one, too.
type luaDraft struct {
	*differing
	depth     int      // of blocks
	loops     bool     // it is in a loop
	inside    bool     // it is in a function, where tables stay what they are
	variables []string // that numbers may be assigned to
	functions []string // that may be called: they take two numbers and return two
}

// program returns a call of a random script.
func (d *differing) program() []string {
	const begin = "local a, b, c, ok, no, t, u = 1, '010', ARGV[1], true, nil, {x=1, y='7'}, {x=5, y=9} " +
		"local k = function(p, q) q = ((q .. p):sub(-2)) return q, p end "
	const end = "return {tostring(a), tostring(b), tostring(c), tostring(ok), tostring(no), " +
		"t.x .. ' ' .. t.y, #t, u.x .. '', k(a, b)}"
	l := &luaDraft{differing: d, variables: []string{"a", "b", "c", "t.x", "t.y", "u.x"}, functions: []string{"k"}}
	script := begin
	for range 6 {
		script += l.statement() + " "
	}
	return []string{"EVAL", script + end, "2", "1", "2", "3", "010", "-2", "0x05"}
}

// block returns statements, whose variables are gone behind it.
func (l *luaDraft) block() string {
	outer := *l
	defer func() { *l = outer }()
	l.depth++
	var statements []string
	for range 1 + l.rand.IntN(4) {
		statements = append(statements, l.statement())
	}
	return strings.Join(statements, " ")
}

func (l *luaDraft) statement() string {
	kinds := 16
	if l.depth > 2 {
		kinds = 7
	}
	switch l.rand.IntN(kinds) {
	case 0:
		name, value := l.pick("a", "b", "c"), l.number(2)
		l.variables = append(slices.Clip(l.variables), name)
		return "local " + name + " = " + value
	case 1:
		return l.variable() + ", " + l.variable() + " = " + l.pick(l.number(2)+", "+l.number(2), l.invoke(1))
	case 2:
		return l.pick("ok = "+l.condition(3), "ok, no = "+l.condition(1)+", "+l.condition(2))
	case 3:
		if l.inside {
			return "if " + l.condition(1) + " then return " + l.number(1) + ", 2 end"
		}
		return l.pick("t, u = u, t", "t.x, t = "+l.number(1)+", u", "t, t.y = u, "+l.number(1),
			"t = {"+l.number(1)+", 2, x = t.y, y = "+l.number(2)+"}")
	case 4:
		if l.loops {
			return l.pick("do break end", "if "+l.condition(2)+" then break end")
		}
	case 7:
		return "do " + l.block() + " end"
	case 8:
		return "if " + l.condition(2) + " then " + l.block() + l.pick("", " else "+l.block()) + " end"
	case 9, 10:
		return l.loop()
	case 11:
		return l.function()
	case 12:
		body := *l
		body.loops, body.inside = false, true
		return "pcall(function() " + body.block() + " error('x') end)"
	case 13:
		return l.variable() + " = " + l.chain()
	case 14:
		return l.variable() + " = " + l.constructor()
	case 15:
		return l.coroutine()
	}
	return l.variable() + " = " + l.number(3)
}

func (l *luaDraft) loop() string {
	body := *l
	body.loops = true
	if l.inside {
		body.functions = nil // it would take too long
	}
	switch l.rand.IntN(6) {
	case 0:
		return "while true do " + body.block() + " break end"
	case 1:
		return "repeat " + body.block() + " until true"
	case 2:
		return "do local n = 0 while n < 3 do n = n + 1 " + body.block() + " end end"
	case 3:
		return "do local n = 0 repeat n = n + 1 " + body.block() + " until n > 2 or " + l.condition(1) + " end"
	}
	body.variables = append(slices.Clip(l.variables), "i")
	over := l.pick("i = 1, 3", "i = ARGV[1], '5'", "i = '010', 1, ARGV[3]", "i = 2, 1", "i = 1, ARGV[4]",
		"i in next, ARGV", "i, v in next, KEYS", "i, v, w in pairs(ARGV)", "_, i in ipairs(ARGV)")
	return "for " + over + " do " + body.block() + " end"
}

// function returns a statement that makes one. None calls itself: k, which all may call, calls nobody.
func (l *luaDraft) function() string {
	name := l.pick("f", "g", "k")
	body := *l
	body.depth, body.loops, body.inside = l.depth+1, false, true
	body.variables = append(slices.Clip(l.variables), "p", "q")
	begin := "local " + name + " = function"
	switch {
	case name == "k":
		begin, body.functions = "k = function", nil
	case l.rand.IntN(2) == 0:
		begin = "local function " + name
		body.functions = slices.DeleteFunc(slices.Clone(l.functions), func(other string) bool { return other == name })
	}
	text := begin + "(p, q) " + body.block() + " return " + body.number(1) + ", " + body.number(1) + " end"
	if name != "k" {
		l.functions = append(slices.Clip(l.functions), name)
	}
	return text
}

func (l *luaDraft) variable() string { return l.pick(l.variables...) }

// number returns an expression.
func (l *luaDraft) number(depth int) string {
	if depth == 0 || l.rand.IntN(4) == 0 {
		return l.pick(l.variable(), l.variable(), "7", "'010'", "' 7 '", "'0x10'", "'1e01'", "ARGV[2]",
			"ARGV[3]", "KEYS[2]")
	}
	x, y := l.number(depth-1), l.number(depth-1)
	switch l.rand.IntN(7) {
	case 0:
		return "(-" + l.variable() + ")"
	case 1:
		return "((" + x + " .. " + y + "):sub(-2))"
	case 2:
		return "(" + l.condition(1) + " and " + x + " or " + y + ")"
	case 3:
		return "(" + l.invoke(depth-1) + ")"
	case 4:
		return l.invoke(depth - 1)
	}
	if l.rand.IntN(6) == 0 {
		return "(" + x + " * " + l.pick("1e15", "0.3", "-0.7", "10007") + " % " + l.pick("97", "-7", "5") + ")"
	}
	return "((" + x + l.pick(" + ", " - ", " * ") + y + ") % " + l.pick("97", "-7", "'010'") + ")"
}

// chain returns an expression that puts together so many that they do not fit into one call.
func (l *luaDraft) chain() string {
	operands := make([]string, 48+l.rand.IntN(60))
	for i := range operands {
		operands[i] = l.pick("1", "'2'", l.variable())
		if l.rand.IntN(20) == 0 {
			operands[i] = l.invoke(1)
		}
	}
	at := 1 + l.rand.IntN(len(operands))
	return fmt.Sprintf("(tonumber((%s):sub(%d, %d)) or 3)", strings.Join(operands, " .. "), at, at+1)
}

// constructor returns an item, or how many there are, of a table about as long as those that are stored at once.
func (l *luaDraft) constructor() string {
	n := 50*(1+l.rand.IntN(2)) + l.rand.IntN(5) - 2
	fields := make([]string, n)
	for i := range fields {
		fields[i] = l.pick("1", "7", l.variable())
		if i >= n-3 {
			fields[i] = l.pick("x = 4", "y = "+l.invoke(1), l.invoke(1), "unpack(ARGV)", "(unpack(ARGV))", "3")
		}
	}
	table := "({" + strings.Join(fields, ", ") + "})"
	return l.pick("#"+table, fmt.Sprintf("(%s[%d] or 2)", table, n-l.rand.IntN(5)), "("+table+".x or 3)")
}

// coroutine returns a statement that resumes one until it has ended. It yields in a tail call, or does not.
func (l *luaDraft) coroutine() string {
	inner := luaDraft{differing: l.differing, variables: []string{"p", "q"}}
	yield := l.pick("coroutine.yield", "yield") + "(" + inner.number(1) + l.pick("", ", q") + ")"
	body := l.pick("return "+yield, "p = "+yield+" return p, q", "p, q = "+yield+" return (p or 4)",
		"for i = 1, 2 do p = "+yield+" or 5 end return "+yield, "if p == q then return "+yield+" end return 4",
		"pcall(error) return "+yield)
	resume := l.pick("go(%s, %s)", "select(2, coroutine.resume(thread, %s, %s))")
	text := "do local yield, thread = coroutine.yield " +
		"local go = coroutine.wrap(function(p, q) thread = coroutine.running() " + body + " end) " +
		l.variable() + " = go(" + l.number(1) + ", " + l.number(1) + ") or 1 "
	for range 3 {
		text += "if coroutine.status(thread) ~= 'dead' then " + l.variable() + " = " +
			fmt.Sprintf(resume, l.number(1), l.number(1)) + " or 6 end "
	}
	return text + "end"
}

// invoke returns a call of a function.
func (l *luaDraft) invoke(depth int) string {
	name := "(function(p, q) return q, p end)"
	if len(l.functions) > 0 {
		name = l.pick(l.functions...)
	}
	return name + "(" + l.number(depth) + ", " + l.number(depth) + ")"
}

// condition returns an expression of any value.
func (l *luaDraft) condition(depth int) string {
	if depth == 0 {
		return l.pick("ok", "no", "ok", "no", "true", "false", "nil", "1", "'x'")
	}
	switch l.rand.IntN(6) {
	case 0, 1:
		return "(" + l.condition(depth-1) + l.pick(" and ", " or ") + l.condition(depth-1) + ")"
	case 2:
		return "not " + l.condition(depth-1)
	case 3:
		return "(" + l.number(1) + l.pick(" == ", " ~= ") + l.number(1) + ")"
	case 4:
		return "(" + l.number(1) + " * 1" + l.pick(" < ", " <= ", " > ", " >= ") + l.number(1) + " * 1)"
	}
	return l.condition(0)
}
