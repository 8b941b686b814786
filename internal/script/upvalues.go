package script

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

// Where a thread has its open upvalues, each a local of a call that functions refer to, in the order
// of their registers; and where an upvalue has the next, and whether it is closed.
var (
	offsetOfOpen   = offset[lua.LState]("uvcache")
	offsetOfNext   = offset[lua.Upvalue]("next")
	offsetOfClosed = offset[lua.Upvalue]("closed")
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

// protected calls a function of the stack as PCall does. Where an error is raised the interpreter
// closes the upvalues of all calls, which are to be open again in those that go on. If PCall had a
// handler, it would close none.
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

// untraced calls its first argument.
func untraced(l *lua.LState) int {
	defer func() {
		if thrown := recover(); thrown != nil {
			panic(withoutTrace(thrown))
		}
	}()
	l.Call(l.GetTop()-1, lua.MultRet)
	return l.GetTop()
}

// withoutTrace returns what was thrown as an error that has a trace, which PCall would else make of
// all calls, and of all that others took the place of.
func withoutTrace(thrown any) *lua.ApiError {
	raised, ok := thrown.(*lua.ApiError)
	if !ok {
		raised = &lua.ApiError{Type: lua.ApiErrorPanic, Object: lua.LString(fmt.Sprint(thrown))}
	}
	raised.StackTrace = " "
	return raised
}
