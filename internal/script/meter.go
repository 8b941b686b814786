package script

import (
	"runtime/metrics"
	"sync/atomic"
	"time"
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

// meter looks after what a run takes. The interpreter asks its context before each instruction
// whether that is done: the meter is this context, and counts.
//
// Steps are counted one by one, and every stretch of them looks at the clock and at whether
// somebody wants the run to end. Of memory the libraries charge what they make before they make it,
// and no instruction of the machine takes more than some hundred bytes: strings are put together by
// a function of ours, another passes on what a constructor takes from "..." or a call, and another
// makes the table arg. What of that is still held nobody counts. So where the heap of the whole
// process has grown by much since the run began, what the run holds is added up, from its stack on:
// if that is more than it may, it ends.
//
// Whatever the script does to catch errors, an end is final: the meter panics with it again before
// the next instruction.
type meter struct {
	m     *machine
	left  int   // steps until the next look
	steps int64 // before this stretch
	bytes int   // charged since the last look
	// building is what a value takes that a function of ours is making: nothing refers to it before
	// it is whole.
	building int64
	kept     int64 // by functions of ours that call the script, see keep

	limits Limits
	alarm  int64 // size of the heap at which what the run holds is added up
	end    error // why the run is over
}

// ended is what is thrown to end a run.
type ended struct{ error }

const (
	// stretch is how many steps there are between two looks.
	stretch = 256
	// maxUnseen is how many bytes are charged between two looks at the heap.
	maxUnseen = 1 << 20
	// heapStretch is after how many steps the heap is looked at.
	heapStretch = 1 << 12
	// stepOfBytes is how many bytes of a string are worked on in the time of a step, about.
	stepOfBytes = 64
)

// Limits bound a run. The zero value bounds nothing.
type Limits struct {
	// Steps is how many instructions the machine executes, about.
	Steps int64
	// Bytes is how much memory the script may hold.
	Bytes int64
	// Deadline is when it has to be over.
	Deadline time.Time
	// Kill has the run end once it is not nil, with this error.
	Kill *atomic.Pointer[error]
}

func (t *meter) begin(m *machine, l Limits) {
	*t = meter{m: m, limits: l, left: stretch}
}

// The meter is a context.Context.

// Deadline implements context.Context.
func (t *meter) Deadline() (time.Time, bool) { return time.Time{}, false }

// Err implements context.Context.
func (t *meter) Err() error { return t.end }

// Value implements context.Context.
func (t *meter) Value(any) any { return nil }

// Done is called before each instruction.
func (t *meter) Done() <-chan struct{} {
	if t.left--; t.left <= 0 {
		t.look()
	}
	return nil
}

// work charges for what takes as long as some steps.
func (t *meter) work(steps int) {
	if t.left -= steps; t.left <= 0 {
		t.look()
	}
}

// make charges for a value of some bytes, before it is made.
func (t *meter) make(bytes int) {
	t.bytes += bytes
	if int64(bytes) > t.limits.Bytes && t.limits.Bytes > 0 {
		t.stop(ErrMemory)
	}
	t.work(bytes / stepOfBytes)
	if t.bytes > maxUnseen {
		t.look()
	}
}

// walk charges for going through a table, with the places in it that hold nothing.
func (t *meter) walk(table *lua.LTable) {
	room := (*tableRoom)(unsafe.Pointer(table))
	t.work((len(room.array) + len(room.keys)) / 8)
}

// part charges for a part of a value that is being made.
func (t *meter) part(bytes int) {
	t.building += int64(bytes)
	t.make(bytes)
}

// built says that nothing is being made any more.
func (t *meter) built() { t.building = 0 }

// keep charges for what a function of ours holds while it calls the script.
func (t *meter) keep(bytes int) {
	t.kept += int64(bytes)
	t.make(bytes)
}

// keepNoMore says that no more is kept than before.
func (t *meter) keepNoMore(before int64) { t.kept = before }

// stop ends the run.
func (t *meter) stop(err error) {
	if t.end == nil {
		t.end = err
	}
	t.left = 0
	panic(ended{t.end})
}

func (t *meter) look() {
	if t.end != nil {
		t.stop(t.end)
	}
	before := t.steps
	t.steps += int64(stretch - t.left)
	t.left = stretch
	switch l := &t.limits; {
	case l.Kill != nil && l.Kill.Load() != nil:
		t.stop(*l.Kill.Load())
	case l.Steps > 0 && t.steps > l.Steps:
		t.stop(ErrSteps)
	case !l.Deadline.IsZero() && time.Now().After(l.Deadline):
		t.stop(ErrTime)
	case l.Bytes > 0 && (t.bytes > maxUnseen || before/heapStretch != t.steps/heapStretch):
		t.bytes = 0
		t.lookAtHeap()
	}
}

// lookAtHeap adds up what the run holds, if the heap has grown by half of what it may hold since
// that was done last.
func (t *meter) lookAtHeap() {
	now, limit := heapSize(), t.limits.Bytes
	if t.alarm == 0 {
		t.alarm = now + limit/2
	}
	t.alarm = min(t.alarm, now+limit/2)
	if now < t.alarm {
		return
	}
	held := t.m.size(limit) + t.building + t.kept
	if held > limit {
		t.stop(ErrMemory)
	}
	t.alarm = now + max((limit-held)/2, maxUnseen)
}

func heapSize() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// An assignment to t[n] makes room for n values at once. So the machine takes n for a field's name
// from maxIndex on, and what a larger index than quickIndex may take is charged before the
// assignment: see rewriter. No array of a script that may hold MaxBytes gets as far as maxIndex.
const (
	maxIndex   = 1 << 21
	quickIndex = 1 << 12
)

func init() {
	lua.MaxArrayIndex = maxIndex
	lua.CompatVarArg = false // see rewriter.arg
}

// index charges for what an assignment may take.
func (t *meter) index(key lua.LValue) lua.LValue {
	if n, ok := key.(lua.LNumber); ok && quickIndex < n && n < maxIndex {
		if t.bytes += int(n) * 16; t.bytes > maxUnseen {
			t.look()
		}
	}
	return key
}

// What values take in memory, about.
const (
	sizeOfTable    = 100
	sizeOfFields   = 2500 // the least room for the rest
	sizeOfItems    = 512  // the least room for the part of a table that is an array
	sizeOfItem     = 32   // of that part
	sizeOfField    = 128  // of the rest
	sizeOfFunction = 160
	sizeOfProto    = 1 << 10 // of what a function is compiled to, see sizeOf
	sizeOfCode     = 12      // of an instruction, with its line
	sizeOfConstant = 64
	sizeOfCalled   = 24 // of the name of what a call calls
	sizeOfLocal    = 48 // of the name of a local
	sizeOfThread   = 24 << 10
	sizeOfRegister = 16
	smallString    = 64 // not worth remembering that it was seen
)

// sizer adds up what can be reached.
type sizer struct {
	seen  map[unsafe.Pointer]struct{}
	todo  []lua.LValue
	sum   int64
	limit int64
}

// size returns what the run holds, as far as that is no more than the limit.
func (m *machine) size(limit int64) int64 {
	z := &sizer{seen: map[unsafe.Pointer]struct{}{}, limit: limit}
	z.add(m.globals)
	for th := m.l.G.CurrentThread; th != nil; th = th.Parent {
		z.add(th)
	}
	z.add(m.l)
	for len(z.todo) > 0 && z.sum <= limit {
		v := z.todo[len(z.todo)-1]
		z.todo = z.todo[:len(z.todo)-1]
		z.open(v)
	}
	return z.sum
}

// add notes a value.
func (z *sizer) add(v lua.LValue) {
	switch v := v.(type) {
	case lua.LString:
		z.sum += 16
		if len(v) <= smallString || z.isNew(unsafe.Pointer(unsafe.StringData(string(v)))) {
			z.sum += int64(len(v))
		}
	case *lua.LTable:
		z.hold(v, unsafe.Pointer(v), sizeOfTable)
	case *lua.LFunction:
		z.hold(v, unsafe.Pointer(v), sizeOfFunction)
	case *lua.LState:
		z.hold(v, unsafe.Pointer(v), sizeOfThread)
	}
}

func (z *sizer) isNew(at unsafe.Pointer) bool {
	if _, seen := z.seen[at]; seen {
		return false
	}
	z.seen[at] = struct{}{}
	return true
}

func (z *sizer) hold(v lua.LValue, at unsafe.Pointer, size int64) {
	if z.sum <= z.limit && z.isNew(at) {
		z.sum += size
		z.todo = append(z.todo, v)
	}
}

// offsetOfRegisters is where a thread has its registry, whose first field is what that holds:
// locals, what "..." stands for, and arguments.
var offsetOfRegisters = offset[lua.LState]("reg")

// open notes what a value refers to.
func (z *sizer) open(v lua.LValue) {
	switch v := v.(type) {
	case *lua.LTable:
		z.add(v.Metatable)
		room := (*tableRoom)(unsafe.Pointer(v))
		z.sum += int64(cap(room.array)) * sizeOfItem
		if room.keys != nil {
			z.sum += sizeOfFields + int64(cap(room.keys))*sizeOfField
		}
		for _, key := range room.keys { // those of what was taken away, too
			z.add(key)
		}
		v.ForEach(func(_, value lua.LValue) { z.add(value) })
	case *lua.LFunction:
		z.code(v.Proto)
		for _, up := range v.Upvalues {
			z.add(up.Value())
		}
	case *lua.LState:
		registers := **fieldOf[*[]lua.LValue](v, offsetOfRegisters)
		z.sum += int64(cap(registers)) * sizeOfRegister
		for _, value := range registers {
			z.add(value)
		}
		top, _ := v.GetStack(0)
		for f := frameOf(top); *f != nil && z.sum <= z.limit; *f = (*f).parent {
			z.sum += sizeOfFunction
			z.add((*f).function)
		}
	}
}

// code notes what a function was compiled to.
func (z *sizer) code(p *lua.FunctionProto) {
	if p == nil || !z.isNew(unsafe.Pointer(p)) {
		return
	}
	z.sum += int64(sizeOf(p))
	for _, v := range p.Constants {
		z.add(v)
	}
	for _, inner := range p.FunctionPrototypes {
		z.code(inner)
	}
}

// sizeOf returns what a function is compiled to takes, but for the strings and functions in it.
func sizeOf(p *lua.FunctionProto) int {
	return sizeOfProto + len(p.Code)*sizeOfCode + len(p.Constants)*sizeOfConstant +
		len(p.DbgCalls)*sizeOfCalled + len(p.DbgLocals)*sizeOfLocal
}

// tableRoom is the beginning of a table. What it has room for is more than what it holds: fields
// that were taken away keep their places.
type tableRoom struct {
	_     lua.LValue
	array []lua.LValue
	_     map[lua.LValue]lua.LValue
	_     map[string]lua.LValue
	keys  []lua.LValue
}

// put assigns to a key of a table that is being made, and charges for the room that it gets.
func (t *meter) put(to *lua.LTable, key, value lua.LValue) {
	if n, ok := key.(lua.LNumber); ok && 0 < n && n < maxIndex {
		t.part(max(0, int(n)-cap((*tableRoom)(unsafe.Pointer(to)).array)) * sizeOfItem)
	}
	to.RawSet(key, value)
}

// frame is the beginning of the machine's frame of a call. GetStack counts calls that others took
// the place of, of which there may be any number, so what is below is found by hand.
type frame struct {
	_        int
	function *lua.LFunction
	parent   *frame
	pc       int

	_, _, _, _, _ int // base, localBase, returnBase, nArgs, nRet

	tailCalls int // that it took the place of
}

// operands is how many bits of an instruction are below those that tell which it is.
const operands = 26

// calls reports whether the code of a frame has called the one above it by itself: it is no function
// of Go, and at no operator or loop.
func (f *frame) calls() bool {
	if f.function.IsG {
		return false
	}
	op := int(f.function.Proto.Code[f.pc-1] >> operands)
	return op == lua.OP_CALL || op == lua.OP_TAILCALL
}

// frameOf returns where lua.Debug, whose first field that is, has its frame.
func frameOf(d *lua.Debug) **frame { return (**frame)(unsafe.Pointer(d)) }
