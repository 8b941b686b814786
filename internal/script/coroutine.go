package script

import lua "github.com/yuin/gopher-lua"

// Coroutines are the interpreter's, but which may be resumed and yield is decided here. It would
// resume one that has resumed another, and make a ring of them that nobody gets out of.

func (m *machine) openCoroutine() {
	lua.OpenCoroutine(m.l)
	made := m.l.Get(-1).(*lua.LTable)
	m.l.Pop(1)
	native := func(name string) lua.LGFunction { return made.RawGetString(name).(*lua.LFunction).GFunction }
	create, wrap, resume := native("create"), native("wrap"), native("resume")
	luaFunction := func(l *lua.LState, name string) {
		if f, ok := l.Get(1).(*lua.LFunction); !ok || f.IsG {
			badArg(l, 1, name, "Lua function expected")
		}
		m.meter.make(sizeOfThread)
	}
	m.library("coroutine", map[string]lua.LGFunction{
		"create": func(l *lua.LState) int {
			luaFunction(l, "create")
			create(l)
			l.Get(-1).(*lua.LState).SetContext(&m.meter)
			return 1
		},
		"wrap": func(l *lua.LState) int {
			luaFunction(l, "wrap")
			wrap(l)
			f := l.Get(-1).(*lua.LFunction)
			th := f.Upvalues[0].Value().(*lua.LState)
			th.SetContext(&m.meter)
			f.GFunction = generator(th, f.GFunction)
			return 1
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
		"yield":   m.yield,
	})
}

func threadArg(l *lua.LState, name string) *lua.LState {
	th, ok := l.Get(1).(*lua.LState)
	if !ok {
		badArg(l, 1, name, "coroutine expected")
	}
	return th
}

// generator returns the function that wrap has made, which resumes a coroutine. The interpreter does
// not take one for dead that an error has ended.
func generator(th *lua.LState, resume lua.LGFunction) lua.LGFunction {
	return func(l *lua.LState) int {
		if why := unresumable(l, th); why != "" {
			l.RaiseError("%s", why)
		}
		failed, raise := true, l.Panic
		l.Panic = func(in *lua.LState) {
			if l.Panic = raise; in != l { // raised anew, it closes upvalues here too: see protected
				raised := in.Get(-1)
				if s, ok := raised.(lua.LString); ok {
					raised = lua.LString(where(l, 1)) + s
				}
				l.Error(raised, 0)
			}
			raise(l)
		}
		defer func() { l.Panic, th.Dead = raise, th.Dead || failed }()
		n := resume(l)
		failed = false
		return n
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
