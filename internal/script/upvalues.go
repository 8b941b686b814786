package script

import (
	"reflect"
	"slices"
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

// upvalue is lua.Upvalue: a local of a call that functions refer to. While it is open it is the
// register of the local.
type upvalue struct {
	next   *upvalue
	_      unsafe.Pointer // the registers
	_      int
	_      lua.LValue // once it is closed
	closed bool
}

// Where a thread has its open upvalues, in the order of their registers, and whether somebody
// handles errors.
var offsetOfOpen, offsetOfHandled = offset("uvcache"), offset("hasErrorFunc")

func offset(field string) uintptr {
	f, ok := reflect.TypeFor[lua.LState]().FieldByName(field)
	if !ok {
		panic("a thread has no " + field)
	}
	return f.Offset
}

// protected calls a function of the stack as PCall does. Where an error is raised that nobody
// handles the interpreter closes the upvalues of all calls, which are to be open again in those that
// go on. If somebody handled errors, it would close none.
func (m *machine) protected(l *lua.LState, args int) error {
	first := (**upvalue)(unsafe.Add(unsafe.Pointer(l), offsetOfOpen))
	var open []*upvalue
	for u := *first; u != nil; u = u.next {
		open = append(open, u)
	}
	m.meter.work(len(open))
	*(*bool)(unsafe.Add(unsafe.Pointer(l), offsetOfHandled)) = false
	err := l.PCall(args, lua.MultRet, nil)
	m.goOn()
	if err != nil {
		*first = nil
		for _, u := range slices.Backward(open) {
			u.next, u.closed = *first, false
			*first = u
		}
	}
	return err
}
