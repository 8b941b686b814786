package script

import (
	"math"

	lua "github.com/yuin/gopher-lua"
)

// arithmetic is what operators make of strings that are numbers. The interpreter asks the metatable
// of strings for it, before it would read them as Go does: "010" as 8.
var arithmetic = map[string]func(a, b float64) float64{
	"__add": func(a, b float64) float64 { return a + b },
	"__sub": func(a, b float64) float64 { return a - b },
	"__mul": func(a, b float64) float64 { return a * b },
	"__div": func(a, b float64) float64 { return a / b },
	"__mod": func(a, b float64) float64 { return a - float64(math.Floor(a/b)*b) },
	"__pow": math.Pow,
	"__unm": func(a, _ float64) float64 { return -a },
}

// operator returns the function of strings' metatable for one of these: an operand is a string.
func (m *machine) operator(event string, calculate func(a, b float64) float64) lua.LGFunction {
	return func(l *lua.LState) int {
		a, b := l.Get(1), l.Get(2)
		if event == "__unm" {
			b = a
		}
		m.meter.work((textSize(a) + textSize(b)) / stepOfBytes)
		x, first := toNumber(a)
		y, second := toNumber(b)
		if first && second {
			return push(l, lua.LNumber(calculate(x, y)))
		}
		_, text := b.(lua.LString)
		if f := l.GetMetaField(b, event); f != lua.LNil && !text {
			push(l, f, a, b)
			l.Call(2, 1)
			return 1
		}
		if first {
			a = b
		}
		l.RaiseError("attempt to perform arithmetic on a %s value", a.Type().String())
		return 0
	}
}
