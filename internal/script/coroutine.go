package script

import lua "github.com/yuin/gopher-lua"

// Coroutines are the interpreter's, but which may be resumed and yield is decided here. It would
// resume one that has resumed another, and make a ring of them that nobody gets out of.

func (m *machine) openCoroutine() {
	lua.OpenCoroutine(m.l)
	made := m.l.Get(-1).(*lua.LTable)
	m.l.Pop(1)
	native := func(name string) lua.LGFunction { return made.RawGetString(name).(*lua.LFunction).GFunction }
	create, resume := native("create"), native("resume")
	yield := m.yielding()
	thread := func(l *lua.LState, name string) *lua.LState {
		if f, ok := l.Get(1).(*lua.LFunction); !ok || f.IsG || f == yield {
			badArg(l, 1, name, "Lua function expected")
		}
		m.meter.make(sizeOfThread)
		create(l)
		th := l.Get(-1).(*lua.LState)
		th.SetContext(&m.meter)
		th.Push(l.Get(1)) // for the sizer to see, until it is started
		return th
	}
	t := m.library("coroutine", map[string]lua.LGFunction{
		"create": func(l *lua.LState) int {
			thread(l, "create")
			return 1
		},
		"wrap": func(l *lua.LState) int {
			th := thread(l, "wrap")
			return push(l, l.NewClosure(generator(th, resume), th))
		},
		"resume": func(l *lua.LState) int {
			if why := unresumable(l, threadArg(l, "resume")); why != "" {
				return push(l, lua.LFalse, lua.LString(why))
			}
			n := resume(l)
			if n == 2 && l.Get(-2) == lua.LFalse {
				m.caught(l.Get(-1))
			}
			return n
		},
		"running": running,
		"status":  status,
	})
	t.RawSetString("yield", yield)
}

// yielding returns yield as a function of Lua. It calls that of Go by an instruction of its own, so
// that whoever calls it may end with that, and gets as many values as it asks for.
func (m *machine) yielding() *lua.LFunction {
	const text = "local yield, pass = ... return function(...) return pass(yield(...)) end"
	f, err := m.l.LoadString(text)
	if err != nil {
		panic(err)
	}
	push(m.l, f, m.l.NewFunction(m.yield), m.globals.RawGetString(passing))
	m.l.Call(2, 1)
	defer m.l.Pop(1)
	return m.l.Get(-1).(*lua.LFunction)
}

func threadArg(l *lua.LState, name string) *lua.LState {
	th, ok := l.Get(1).(*lua.LState)
	if !ok {
		badArg(l, 1, name, "coroutine expected")
	}
	return th
}

// generator returns the function that wrap makes, which resumes a coroutine and raises its error.
func generator(th *lua.LState, resume lua.LGFunction) lua.LGFunction {
	return func(l *lua.LState) int {
		var raised lua.LValue
		if why := unresumable(l, th); why != "" {
			raised = lua.LString(why)
		} else {
			l.Insert(th, 1)
			n := resume(l)
			if l.Get(-n) == lua.LTrue {
				return n - 1
			}
			raised = l.Get(-1)
		}
		if s, ok := raised.(lua.LString); ok {
			raised = lua.LString(where(l, 1)) + s
		}
		l.Error(raised, 0)
		return 0
	}
}

// unresumable returns why a coroutine cannot be resumed, "" if it can.
func unresumable(l, th *lua.LState) string {
	if is := statusOf(l, th); is != suspended {
		return "cannot resume " + is + " coroutine"
	}
	depth := 0
	for up := l; up.Parent != nil; up = up.Parent {
		depth++
	}
	if depth > maxCoroutines {
		return "C stack overflow"
	}
	return ""
}

const suspended = "suspended"

// statusOf returns what a coroutine does, as the one that runs sees it.
func statusOf(l, th *lua.LState) string {
	switch {
	case th == l:
		return "running"
	case th.Dead:
		return "dead"
	}
	for up := l.Parent; up != nil; up = up.Parent {
		if up == th {
			return "normal"
		}
	}
	return suspended
}

func status(l *lua.LState) int { return push(l, lua.LString(statusOf(l, threadArg(l, "status")))) }

func running(l *lua.LState) int {
	if l.Parent == nil {
		return push(l, lua.LNil)
	}
	return push(l, l)
}

// yield has a coroutine wait. What a function of Go has called, an operator or a loop cannot: they
// would go on, and whoever resumed the coroutine as well.
func (m *machine) yield(l *lua.LState) int {
	top, _ := l.GetStack(0)
	inside := l.Parent != nil
	for f := *frameOf(top); f.parent != nil; f = f.parent {
		m.meter.work(1)
		inside = inside && f.parent.calls()
	}
	if !inside {
		l.Error(lua.LString("attempt to yield across metamethod/C-call boundary"), 0)
	}
	const yields = -1
	return yields
}
