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
	"__mod": modulo,
	"__pow": math.Pow,
	"__unm": func(a, _ float64) float64 { return -a },
}

func modulo(a, b float64) float64 { return a - float64(math.Floor(a/b)*b) }

// remainder returns the function that the operator "%" becomes.
func (m *machine) remainder() lua.LGFunction {
	others := m.operator("__mod", modulo)
	return func(l *lua.LState) int {
		a, first := l.Get(1).(lua.LNumber)
		b, second := l.Get(2).(lua.LNumber)
		if !first || !second {
			return others(l)
		}
		l.Push(lua.LNumber(modulo(float64(a), float64(b))))
		return 1
	}
}

// operator returns the function for one of these: in strings' metatable, and for remainders.
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
		for _, v := range []lua.LValue{a, b} {
			if _, text := v.(lua.LString); text {
				continue
			}
			if f := l.GetMetaField(v, event); f != lua.LNil {
				push(l, f, a, b)
				l.Call(2, 1)
				return 1
			}
		}
		if first {
			a = b
		}
		l.RaiseError("attempt to perform arithmetic on a %s value", a.Type().String())
		return 0
	}
}
