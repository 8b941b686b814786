package script

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Version is the release of Redis whose scripts these are.
const (
	Version    = "7.0.15"
	versionNum = 0x07000f
)

// openRedis adds the library that a script knows its server by.
func (m *machine) openRedis() {
	t := m.library("redis", map[string]lua.LGFunction{
		"call":         func(l *lua.LState) int { return m.call(l, true) },
		"pcall":        func(l *lua.LState) int { return m.call(l, false) },
		"error_reply":  m.errorReply,
		"status_reply": statusReply,
		"sha1hex": func(l *lua.LState) int {
			if l.GetTop() != 1 {
				return raise(l, "ERR wrong number of arguments")
			}
			s := ""
			if isText(l.Get(1)) {
				s = text(l.Get(1))
			}
			m.meter.work(len(s) / stepOfBytes)
			return push(l, lua.LString(Name([]byte(s))))
		},
		"log":                m.log,
		"setresp":            m.setresp,
		"set_repl":           setRepl,
		"replicate_commands": func(l *lua.LState) int { return push(l, lua.LTrue) },
		"breakpoint":         func(l *lua.LState) int { return push(l, lua.LFalse) },
		"debug":              func(*lua.LState) int { return 0 },
		"acl_check_cmd":      m.aclCheck,
	})
	for name, value := range map[string]lua.LNumber{"LOG_DEBUG": 0, "LOG_VERBOSE": 1, "LOG_NOTICE": 2, "LOG_WARNING": 3,
		"REPL_NONE": 0, "REPL_AOF": 1, "REPL_SLAVE": 2, "REPL_REPLICA": 2, "REPL_ALL": 3, "REDIS_VERSION_NUM": versionNum} {
		t.RawSetString(name, value)
	}
	t.RawSetString("REDIS_VERSION", lua.LString(Version))
}

// call executes a command. An error of it is raised by redis.call, and returned by redis.pcall.
func (m *machine) call(l *lua.LState, raises bool) int {
	reply, refusal := m.ask(l)
	if refusal != "" {
		reply = errorTable(refusal)
	}
	if raises && isError(reply) {
		l.Error(reply, 1)
	}
	return push(l, reply)
}

// ask executes a command, and returns its reply or why it was not taken.
func (m *machine) ask(l *lua.LState) (lua.LValue, string) {
	args, refusal := m.arguments(l)
	if refusal != "" {
		return nil, refusal
	}
	reply, err := m.run.Call(args, m.resp3)
	if refusal, ok := err.(Refusal); ok {
		return nil, string(refusal)
	}
	if err != nil {
		m.meter.stop(err)
	}
	m.meter.make(len(reply))
	defer m.meter.built()
	v, _ := m.value(reply, 0)
	m.meter.work(1)
	return v, ""
}

func isError(v lua.LValue) bool {
	t, ok := v.(*lua.LTable)
	return ok && t.RawGetString("err") != lua.LNil
}

// arguments returns those of a command: copies, of what may be one string many times.
func (m *machine) arguments(l *lua.LState) ([][]byte, string) {
	n := l.GetTop()
	if n == 0 {
		return nil, "ERR Please specify at least one argument for this redis lib call"
	}
	size := n * sizeOfItem
	for i := range n {
		size += textSize(l.Get(i + 1))
	}
	m.meter.make(size)
	args := make([][]byte, n)
	for i := range args {
		switch v := l.Get(i + 1).(type) {
		case lua.LString:
			args[i] = []byte(v)
		case lua.LNumber:
			const digits = 17
			args[i] = []byte(formatG(float64(v), digits))
		default:
			return nil, "ERR Lua redis lib command arguments must be strings or integers"
		}
	}
	return args, ""
}

const wrongFields = "ERR wrong number or type of arguments"

func (m *machine) errorReply(l *lua.LState) int {
	s, ok := l.Get(1).(lua.LString)
	if !ok || l.GetTop() != 1 {
		return push(l, errorTable(wrongFields))
	}
	m.meter.make(len(s))
	message := strings.TrimRight(strings.TrimPrefix(string(s), "-"), "\r\n")
	if !strings.Contains(message, " ") {
		message = "ERR " + message
	}
	return push(l, errorTable(message))
}

func statusReply(l *lua.LState) int {
	s, ok := l.Get(1).(lua.LString)
	if !ok || l.GetTop() != 1 {
		return push(l, errorTable(wrongFields))
	}
	t := l.NewTable()
	t.RawSetString("ok", s)
	return push(l, t)
}

// MaxLog is how many bytes of what a script has to tell are logged.
const MaxLog = 512

func (m *machine) log(l *lua.LState) int {
	level, ok := numberAt(l, 1)
	switch {
	case l.GetTop() < 2:
		return raise(l, "ERR redis.log() requires two arguments or more.")
	case !ok:
		return raise(l, "ERR First argument must be a number (log level).")
	case level < 0 || level > 3:
		return raise(l, "ERR Invalid debug level.")
	}
	if m.run.Log == nil {
		return 0
	}
	var told []byte
	for i := 2; i <= l.GetTop() && len(told) < MaxLog; i++ {
		v := l.Get(i)
		if !isText(v) {
			continue
		}
		if i > 2 {
			told = append(told, ' ')
		}
		word := text(v)
		told = append(told, word[:min(len(word), MaxLog)]...)
	}
	if err := m.run.Log(int(level), string(told[:min(len(told), MaxLog)])); err != nil {
		m.meter.stop(err)
	}
	return 0
}

func (m *machine) setresp(l *lua.LState) int {
	version, ok := numberAt(l, 1)
	switch {
	case l.GetTop() != 1:
		return raise(l, "ERR redis.setresp() requires one argument.")
	case !ok || version != 2 && version != 3:
		return raise(l, "ERR RESP version must be 2 or 3.")
	}
	m.resp3 = version == 3
	return 0
}

func setRepl(l *lua.LState) int {
	flags, ok := numberAt(l, 1)
	switch {
	case l.GetTop() != 1:
		return raise(l, "ERR redis.set_repl() requires one argument.")
	case !ok || int(flags)&^3 != 0:
		return raise(l, "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
	}
	return 0
}

// aclCheck tells that the only user may execute whatever there is.
func (m *machine) aclCheck(l *lua.LState) int {
	args, refusal := m.arguments(l)
	switch {
	case l.GetTop() == 0:
		return raise(l, "ERR Please specify at least one argument for this redis.acl_check_cmd() call")
	case refusal != "":
		return raise(l, "ERR redis.acl_check_cmd() command arguments must be strings or integers")
	case !m.run.Known(args):
		return raise(l, "ERR Invalid command passed to redis.acl_check_cmd()")
	}
	return push(l, lua.LTrue)
}
