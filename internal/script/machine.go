package script

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	lua "github.com/yuin/gopher-lua"
)

// machine is an interpreter with its libraries, for one run at a time. No run leaves anything
// behind in it: what all see cannot be changed.
type machine struct {
	l       *lua.LState
	globals *lua.LTable
	// shown are the tables that cannot be changed, by those that stand for them: those are empty,
	// and find everything there.
	shown map[*lua.LTable]*lua.LTable
	// ofGlobals stands for the metatable of the globals.
	ofGlobals *lua.LTable
	untraced  *lua.LFunction // see protected
	located   *lua.LFunction // see execute
	meter     meter
	run       *Run
	null      *lua.LUserData // cjson.null
	json      jsonSettings
	seed      uint64 // of math.random
	depth     int    // of coroutines in coroutines, and of values in values
	resp3     bool   // what setresp has chosen
}

// Sizes of an interpreter, in slots.
const (
	firstRegisters     = 1 << 10
	maxRegisters       = 1 << 18
	growRegisters      = 1 << 12
	coroutineRegisters = 1 << 7 // that a coroutine begins with
	maxCalls           = 8000
	// maxCoroutines is how deep coroutines resume each other: each is a call of the interpreter by
	// itself.
	maxCoroutines = 200
)

var machines = sync.Pool{New: func() any { return newMachine() }}

func newMachine() *machine {
	m := &machine{shown: map[*lua.LTable]*lua.LTable{}}
	m.l = lua.NewState(lua.Options{SkipOpenLibs: true, RegistrySize: firstRegisters, RegistryMaxSize: maxRegisters,
		RegistryGrowStep: growRegisters, CallStackSize: maxCalls, MinimizeStackMemory: true})
	m.l.Options.RegistrySize = coroutineRegisters
	m.null = m.l.NewUserData()
	m.untraced, m.located = m.l.NewFunction(untraced), m.l.NewFunction(m.locating)
	m.globals = m.l.NewTable()
	m.openBase()
	m.openTable()
	m.openString()
	m.openMath()
	m.openCoroutine()
	m.openBit()
	m.openJSON()
	m.openPack()
	m.openStruct()
	m.openRedis()
	m.protect()
	return m
}

// protect has everybody see tables that stand for the globals and for the libraries.
func (m *machine) protect() {
	m.globals.ForEach(func(name, value lua.LValue) {
		if t, ok := value.(*lua.LTable); ok {
			m.globals.RawSet(name, m.standFor(t))
		}
	})
	missing := m.l.NewTable()
	missing.RawSetString("__index", m.l.NewFunction(func(l *lua.LState) int {
		l.RaiseError("Script attempted to access nonexistent global variable '%s'", text(l.Get(2)))
		return 0
	}))
	m.globals.Metatable = missing
	m.ofGlobals = m.standFor(missing)
	env := m.standFor(m.globals)
	m.globals.RawSetString("_G", env)
	m.l.Env, m.l.G.Global = env, env
	ofStrings := m.l.GetMetatable(lua.LString("")).(*lua.LTable)
	ofStrings.RawSetString("__index", m.globals.RawGetString("string"))
	ofStrings.RawSetString("__metatable", m.standFor(ofStrings))
}

const readOnly = "Attempt to modify a readonly table"

// standFor returns an empty table that shows another and cannot be changed.
func (m *machine) standFor(t *lua.LTable) *lua.LTable {
	proxy, meta := m.l.NewTable(), m.l.NewTable()
	meta.RawSetString("__index", t)
	meta.RawSetString("__newindex", m.l.NewFunction(func(l *lua.LState) int {
		l.RaiseError(readOnly)
		return 0
	}))
	proxy.Metatable = meta
	m.shown[proxy] = t
	return proxy
}

// changed raises an error if a table cannot be changed, and returns it.
func (m *machine) changed(l *lua.LState, t *lua.LTable) *lua.LTable {
	if m.shown[t] != nil {
		l.Error(lua.LString(readOnly), 0)
	}
	return t
}

// seen returns the table that one stands for, or the table itself.
func (m *machine) seen(t *lua.LTable) *lua.LTable {
	if real := m.shown[t]; real != nil {
		return real
	}
	return t
}

// library adds functions to a new global table, and returns that.
func (m *machine) library(name string, functions map[string]lua.LGFunction) *lua.LTable {
	t := m.l.NewTable()
	for name, f := range functions {
		t.RawSetString(name, m.l.NewFunction(f))
	}
	m.globals.RawSetString(name, t)
	return t
}

// Run is what a script is run with.
type Run struct {
	Keys, Args [][]byte
	// Call executes a command, and returns its reply as RESP3 or RESP2 has it, which is valid until
	// the next call. An error that is no Refusal ends the run.
	Call func(args [][]byte, resp3 bool) ([]byte, error)
	// Known reports whether there is such a command.
	Known func(args [][]byte) bool
	// Log takes what the script has to tell, up to MaxLog bytes, with a level from 0 to 3. An error
	// ends the run.
	Log func(level int, text string) error
	// RESP3 tells what the reply is for.
	RESP3  bool
	Limits Limits
}

// Refusal is the error of a command that the script may catch. Its first word is a code.
type Refusal string

// Error implements error.
func (r Refusal) Error() string { return string(r) }

// Why a run was ended.
var (
	ErrSteps  = errors.New("the script takes more steps than it may")
	ErrTime   = errors.New("the script takes longer than it may")
	ErrMemory = errors.New("the script holds more memory than it may")
)

// Run runs a program and appends its reply to out: what it returns, or the error that it raised. An
// error tells why it was ended, by a limit or by a command.
func (p *Program) Run(r *Run, out []byte) ([]byte, error) {
	m := machines.Get().(*machine)
	at := len(out)
	m.start(r)
	out, err := m.execute(p, out)
	if err != nil {
		return out[:at], err // the machine is thrown away, with whatever it was doing
	}
	if m.stop() {
		machines.Put(m)
	}
	return out, nil
}

func (m *machine) start(r *Run) {
	m.run, m.resp3, m.depth, m.json = r, false, 0, defaultJSON
	m.seed = rand.Uint64() & (1<<48 - 1)
	m.globals.RawSetString("KEYS", list(r.Keys))
	m.globals.RawSetString("ARGV", list(r.Args))
	m.meter.begin(m, r.Limits)
	m.l.SetContext(&m.meter)
}

// stop forgets the run, and reports whether the machine is good for another: one with a large stack
// would keep it.
func (m *machine) stop() bool {
	m.run = nil
	m.l.SetTop(0)
	*fieldOf[*lua.Upvalue](m.l, offsetOfOpen) = nil // an error that nobody has caught closes none
	m.globals.RawSetString("KEYS", lua.LNil)
	m.globals.RawSetString("ARGV", lua.LNil)
	return m.meter.steps < heapStretch && m.l.G.CurrentThread == m.l
}

func list(values [][]byte) *lua.LTable {
	t := &lua.LTable{Metatable: lua.LNil}
	for i, v := range values {
		t.RawSetInt(i+1, lua.LString(v))
	}
	return t
}

// execute has the machine run a program. Whatever it throws is an error of the run.
func (m *machine) execute(p *Program, out []byte) (reply []byte, err error) {
	defer func() {
		switch thrown := recover().(type) {
		case nil:
		case ended:
			reply, err = out, thrown.error
		default:
			reply, err = out, fmt.Errorf("the script's interpreter panicked: %v", thrown)
		}
	}()
	m.l.G.CurrentThread = m.l
	push(m.l, m.located, m.l.NewFunctionFromProto(p.proto))
	raised := m.l.PCall(1, 1, nil)
	if m.meter.end != nil {
		return out, m.meter.end
	}
	if raised != nil {
		return m.fail(out, p, raised), nil
	}
	return m.reply(out, m.l.Get(-1))
}

// locating calls its argument. To what is thrown there it adds where that was, as long as the calls
// are still there. A handler of PCall's would need room on the stack, which may be full.
func (m *machine) locating(l *lua.LState) int {
	defer func() {
		if thrown := recover(); thrown != nil {
			raised := withoutTrace(thrown)
			raised.Object = m.locate(l, raised.Object)
			panic(raised)
		}
	}()
	l.Call(0, 1)
	return 1
}

// locate makes of what was raised a table, with where that was: but for one that cannot be changed.
func (m *machine) locate(l *lua.LState, raised lua.LValue) *lua.LTable {
	t, ok := raised.(*lua.LTable)
	if !ok {
		t = errorTable("ERR " + redisText(text(raised)))
	}
	for level := 0; level <= 1 && m.shown[t] == nil; level++ {
		frame, ok := l.GetStack(level)
		if !ok {
			break
		}
		if _, err := l.GetInfo("Sl", frame, lua.LNil); err == nil && !(*frameOf(frame)).function.IsG {
			t.RawSetString("source", lua.LString("@"+frame.Source))
			t.RawSetString("line", lua.LNumber(frame.CurrentLine))
			break
		}
	}
	return t
}

// fail appends the error that a program has raised.
func (m *machine) fail(out []byte, p *Program, raised error) []byte {
	message, place := "ERR unknown error", ""
	if t, ok := object(raised).(*lua.LTable); ok {
		if err, ok := t.RawGetString("err").(lua.LString); ok {
			message = string(err)
		}
		if line := t.RawGetString("line"); line != lua.LNil {
			place = fmt.Sprintf(" script: %s, on %s:%s.", p.SHA, text(t.RawGetString("source")), text(line))
		}
	}
	return appendError(out, message+place)
}

// raise raises an error of a function of redis, which has no place of its own.
func raise(l *lua.LState, message string) int {
	l.Error(errorTable(message), 1)
	return 0
}

func errorTable(message string) *lua.LTable {
	t := &lua.LTable{Metatable: lua.LNil}
	t.RawSetString("err", lua.LString(message))
	return t
}
