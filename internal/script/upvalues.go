package script

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

// Where a thread has its open upvalues, each a local of a call that functions refer to, in the order
// of their registers, and whether somebody handles errors; and where an upvalue has the next, and
// whether it is closed.
var (
	offsetOfOpen    = offset[lua.LState]("uvcache")
	offsetOfHandled = offset[lua.LState]("hasErrorFunc")
	offsetOfNext    = offset[lua.Upvalue]("next")
	offsetOfClosed  = offset[lua.Upvalue]("closed")
)

func offset[T any](field string) uintptr {
	of := reflect.TypeFor[T]()
	f, ok := of.FieldByName(field)
	if !ok {
		panic(fmt.Sprintf("%v has no %s", of, field))
	}
	return f.Offset
}

// fieldOf returns where a field of something is.
func fieldOf[F, T any](of *T, offset uintptr) *F { return (*F)(unsafe.Add(unsafe.Pointer(of), offset)) }

// protected calls a function of the stack as PCall does. Where an error is raised that nobody
// handles the interpreter closes the upvalues of all calls, which are to be open again in those that
// go on. If somebody handled errors, it would close none.
func (m *machine) protected(l *lua.LState, args int) error {
	first := fieldOf[*lua.Upvalue](l, offsetOfOpen)
	var open []*lua.Upvalue
	for u := *first; u != nil; u = *fieldOf[*lua.Upvalue](u, offsetOfNext) {
		open = append(open, u)
	}
	size := cap(open) * int(unsafe.Sizeof(open[0]))
	before := m.meter.kept
	m.meter.keep(size)
	m.meter.work(len(open))
	*fieldOf[bool](l, offsetOfHandled) = false
	l.Insert(m.untraced, l.GetTop()-args)
	err := l.PCall(args+1, lua.MultRet, nil)
	m.meter.keepNoMore(before)
	m.goOn()
	if err != nil {
		*first = nil
		for _, u := range slices.Backward(open) {
			*fieldOf[*lua.Upvalue](u, offsetOfNext), *fieldOf[bool](u, offsetOfClosed) = *first, false
			*first = u
		}
	}
	return err
}

// untraced calls its first argument. What is thrown there it throws on with a trace, which PCall
// would else make of all calls, and of all that others took the place of.
func untraced(l *lua.LState) int {
	defer func() {
		thrown := recover()
		if thrown == nil {
			return
		}
		raised, ok := thrown.(*lua.ApiError)
		if !ok {
			raised = &lua.ApiError{Type: lua.ApiErrorPanic, Object: lua.LString(fmt.Sprint(thrown))}
		}
		raised.StackTrace = " "
		panic(raised)
	}()
	l.Call(l.GetTop()-1, lua.MultRet)
	return l.GetTop()
}
