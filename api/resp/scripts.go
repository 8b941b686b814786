package resp

import (
	"container/list"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/internal/script"
)

// A script is one transaction, or a part of the one that EXEC makes. Its machine is that of
// internal/script, which knows nothing of connections; here is what it may do, and for how long.
//
// A script begins where its command is executed, in the loop: most end within some hundred steps.
// One that does not is undone there, and begun again on a goroutine, with the limits that hold for
// all (see limits.go). A script that may write has the space's turn until it ends: others of the
// space who write wait for it, those who read do not, nor does anybody in another space. From
// busyAfter on who writes is told so instead of waiting, and SCRIPT KILL ends it. Whatever ends a
// script but itself undoes all it has done.

// scripts are the scripts that a server knows, and those that run.
type scripts struct {
	mu       sync.Mutex
	programs map[string]*list.Element
	recent   list.List // of *script.Program, the one used last in front
	bytes    int
	running  map[*running]struct{}

	active atomic.Int32 // how many run that could be long
	// busyAfter is how long a script runs before others are told so, in milliseconds.
	busyAfter atomic.Int64
}

// running is a script that runs, and does not in the loop.
type running struct {
	index  int // of the database
	writes bool
	began  time.Time
	end    atomic.Pointer[error]
}

var (
	errKilled = errors.New("it changed nothing: Script killed by user with SCRIPT KILL")
	errClosed = errors.New("the server is shutting down: the script was ended, and changed nothing")
)

const (
	errNoScript   = replyError("NOSCRIPT No matching script. Please use EVAL.")
	errNotBusy    = replyError("NOTBUSY No scripts in execution right now.")
	errScriptBusy = replyError("BUSY peerd is busy running a script that may write to this database. " +
		"You can read, or call SCRIPT KILL.")
	errOnlyReads  = replyError("ERR Can not execute a script with write flag using *_ro command.")
	refusedWrite  = script.Refusal("ERR Write commands are not allowed from read-only scripts.")
	refusedScript = script.Refusal("ERR This Redis command is not allowed from script")
)

const lengthOfSHA = 40 // digits

// find returns a script that is known.
func (s *scripts) find(sha string) *script.Program {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.programs[sha]
	if at == nil {
		return nil
	}
	s.recent.MoveToFront(at)
	return at.Value.(*script.Program)
}

// keep has a script be known, and the ones forgotten that were not used for longest if they are too
// many.
func (s *scripts) keep(p *script.Program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.programs[p.SHA] != nil {
		return
	}
	if s.programs == nil {
		s.programs = map[string]*list.Element{}
	}
	s.programs[p.SHA] = s.recent.PushFront(p)
	s.bytes += p.Size
	for len(s.programs) > MaxScripts || s.bytes > MaxScriptBytes && len(s.programs) > 1 {
		last := s.recent.Remove(s.recent.Back()).(*script.Program)
		delete(s.programs, last.SHA)
		s.bytes -= last.Size
	}
}

func (s *scripts) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.programs, s.bytes = nil, 0
	s.recent.Init()
}

// load returns a script by its text.
func (s *scripts) load(source []byte) (*script.Program, error) {
	if p := s.find(script.Name(source)); p != nil {
		return p, nil
	}
	p, err := script.Compile(source)
	if err != nil {
		return nil, replyError(err.Error())
	}
	s.keep(p)
	return p, nil
}

// load returns a script by its text. A long one is not compiled in the loop.
func (c *call) load(source []byte) (*script.Program, error) {
	if c.looped && len(source) > quickSource && c.server.scripts.find(script.Name(source)) == nil {
		return nil, errApart
	}
	return c.server.scripts.load(source)
}

func (s *scripts) enter(r *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running = map[*running]struct{}{}
	}
	s.running[r] = struct{}{}
	s.active.Add(1)
}

func (s *scripts) leave(r *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, r)
	s.active.Add(-1)
}

// isBusy reports whether a script has been running for long that may write to a database.
func (s *scripts) isBusy(index int) bool {
	if s.active.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.running {
		if r.writes && r.index == index && s.isLong(r) {
			return true
		}
	}
	return false
}

func (s *scripts) isLong(r *running) bool {
	after := time.Duration(s.busyAfter.Load()) * time.Millisecond
	return after > 0 && time.Since(r.began) > after // 0: never, as in Redis
}

// endAll ends scripts, those that run for long or all, and returns how many.
func (s *scripts) endAll(long bool, why error) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.running {
		if !long || s.isLong(r) {
			r.end.CompareAndSwap(nil, &why)
			n++
		}
	}
	return n
}

// known returns how many scripts are.
func (s *scripts) known() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.programs)
}

// evaluating returns what EVAL and its like do.
func evaluating(bySHA, reads bool) func(c *call) error {
	return func(c *call) error {
		if bySHA && len(c.args[1]) != lengthOfSHA {
			return errNoScript
		}
		n, err := c.integer(2)
		switch {
		case err != nil:
			return err
		case n > int64(len(c.args)-3):
			return replyError("ERR Number of keys can't be greater than number of args")
		case n < 0:
			return replyError("ERR Number of keys can't be negative")
		}
		p, err := c.program(bySHA)
		if err != nil {
			return err
		}
		if reads && p.Declared && !p.NoWrites {
			return errOnlyReads
		}
		return c.evaluate(p, reads || p.NoWrites, c.args[3:3+n], c.args[3+n:])
	}
}

// program returns the script that the first argument is, or names.
func (c *call) program(bySHA bool) (*script.Program, error) {
	if !bySHA {
		return c.load(c.args[1])
	}
	if p := c.server.scripts.find(lower(c.args[1])); p != nil {
		return p, nil
	}
	return nil, errNoScript
}

func lower(name []byte) string {
	b := make([]byte, len(name))
	for i, ch := range name {
		if 'A' <= ch && ch <= 'Z' {
			ch += 'a' - 'A'
		}
		b[i] = ch
	}
	return string(b)
}

// evaluation is a script on its way.
type evaluation struct {
	call  *call
	reads bool    // it may not write
	out   replies // to what the script asks
	work  int64
	lines int       // that it may log in the loop
	told  []logLine // those that it has logged there
}

// logLine is what a script has to tell.
type logLine struct {
	level int
	text  string
}

// evaluate runs a script and writes its reply.
func (c *call) evaluate(p *script.Program, reads bool, keys, args [][]byte) error {
	e := &evaluation{call: c, reads: reads}
	run := script.Run{Keys: keys, Args: args, Call: e.execute, Known: known, Log: e.log, RESP3: c.out.resp3}
	began := time.Now()
	if c.looped {
		if !c.whole { // else what is queued behind it may begin it again
			e.lines = quickLines
		}
		run.Limits = script.Limits{Steps: quickSteps, Bytes: quickScriptBytes, Deadline: began.Add(quickScript)}
		err := c.conclude(p, &run)
		if err != errApart {
			for _, line := range e.told {
				c.server.logScript(line)
			}
		}
		return err
	}
	r := &running{index: c.session.index, writes: c.command.access == accessWrite && !c.whole || c.writing, began: began}
	c.server.scripts.enter(r)
	defer c.server.scripts.leave(r)
	left := MaxScriptTime - c.scripted
	run.Limits = script.Limits{Steps: MaxScriptSteps, Bytes: MaxScriptMemory, Deadline: began.Add(left), Kill: &r.end}
	err := c.conclude(p, &run)
	took := time.Since(began)
	c.scripted += took
	c.long = c.long || took > quickScript
	return err
}

// conclude runs a script, in whose calls the command's own arguments and replies are out of the
// way.
func (c *call) conclude(p *script.Program, run *script.Run) error {
	args, out, command, whole := c.args, c.out, c.command, c.whole
	c.whole, c.inScript = true, true
	reply, err := p.Run(run, out.buf)
	c.args, c.out, c.command, c.whole, c.inScript = args, out, command, whole, false
	switch {
	case err == nil:
		out.buf = reply
	case c.looped && (err == script.ErrSteps || err == script.ErrTime || err == script.ErrMemory || err == errTooMuchWork):
		return errApart
	}
	return limitOf(err)
}

// limitOf puts the limit to an error that a script went beyond.
func limitOf(err error) error {
	switch err {
	case script.ErrSteps:
		return fmt.Errorf("%w: %d (MaxScriptSteps). It changed nothing", err, int64(MaxScriptSteps))
	case script.ErrTime:
		return fmt.Errorf("%w: %v (MaxScriptTime). It changed nothing", err, MaxScriptTime)
	case script.ErrMemory:
		return fmt.Errorf("%w: %d bytes (MaxScriptMemory). It changed nothing", err, int64(MaxScriptMemory))
	}
	return err
}

func known(args [][]byte) bool {
	_, err := resolve(args)
	return err == nil
}

// log logs what the script has to tell: in the loop, where it may be begun again, once it has ended.
func (e *evaluation) log(level int, text string) error {
	switch {
	case !e.call.looped:
		e.call.server.logScript(logLine{level, text})
	case len(e.told) == e.lines:
		return errTooMuchWork
	default:
		e.told = append(e.told, logLine{level, text})
	}
	return nil
}

func (s *Server) logScript(line logLine) {
	switch line.level {
	case 0, 1:
		s.config.Logger.Debug("a script says", "text", line.text)
	case 2:
		s.config.Logger.Info("a script says", "text", line.text)
	default:
		s.config.Logger.Warn("a script says", "text", line.text)
	}
}

// execute executes a command of a script. One that panics ends the script, which has changed nothing
// then: Lua would take the panic for an error that a script may catch.
func (e *evaluation) execute(args [][]byte, resp3 bool) (reply []byte, err error) {
	c := e.call
	cmd, err := resolve(args)
	defer func() {
		if thrown := recover(); thrown != nil {
			reply, err = nil, c.server.panicked(cmd, thrown)
		}
	}()
	switch {
	case err != nil:
		return nil, unresolved(args, err)
	case !cmd.forScripts():
		return nil, refusedScript
	case e.reads && cmd.mayWrite():
		return nil, refusedWrite
	}
	c.args = args
	most := int64(MaxWork)
	if c.looped {
		most = quickWork
		if cmd.apart && cmd.work == nil || !cmd.isRepeatable() {
			return nil, errTooMuchWork
		}
	}
	if e.work += c.work(cmd); e.work > most {
		return nil, errTooMuchWork
	}
	e.out.buf, e.out.resp3 = e.out.buf[:0], resp3
	c.out = &e.out
	if cmd.name == "time" {
		writeTime(c.out, c.tx.Now())
		return e.out.buf, nil
	}
	err = c.run(cmd)
	if refusal, ok := err.(replyError); ok {
		return nil, script.Refusal(refusal)
	}
	return e.out.buf, err
}

// unresolved returns what a script is told of a command that there is not.
func unresolved(args [][]byte, err error) script.Refusal {
	cmd := lookUp(args[0])
	switch {
	case cmd == nil && lower(args[0]) == "cluster":
		return refusedScript
	case cmd == nil && refusal(lower(args[0])) != nil:
		return script.Refusal(err.Error())
	case cmd == nil || cmd.subs != nil && len(args) > 1 && find(cmd.subs, args[1]) == nil:
		return "ERR Unknown Redis command called from script"
	}
	if _, tooLong := err.(replyError); tooLong && err.Error() != wrongArityOf(cmd, args).Error() {
		return script.Refusal(err.Error())
	}
	return "ERR Wrong number of args calling Redis command from script"
}

// wrongArityOf returns the error of a call that has too few arguments, or too many.
func wrongArityOf(cmd *command, args [][]byte) error {
	if cmd.subs != nil && len(args) > 1 {
		cmd = find(cmd.subs, args[1])
	}
	return wrongArity(cmd.name)
}

// notForScripts are the commands that Redis refuses to scripts, and those that are about other
// databases: a script is a transaction of one.
var notForScripts = strings.Fields("acl auth blmove blpop brpop brpoplpush bzpopmax bzpopmin client config crdt.token crdt.wait discard eval eval_ro " +
	"evalsha evalsha_ro exec flushall hello multi psubscribe punsubscribe quit reset role script select ssubscribe " +
	"subscribe sunsubscribe unsubscribe unwatch wait watch")

// forScripts reports whether scripts may call a command.
func (c *command) forScripts() bool {
	name, _, _ := strings.Cut(c.name, "|")
	return !slices.Contains(notForScripts, name)
}

// replicated are commands that Redis counts as writing, as it sends them to replicas.
var replicated = []string{"pfcount", "publish", "spublish"}

// mayWrite reports whether a script that only reads may not call a command: as in Redis also if it
// would write nothing with these arguments.
func (c *command) mayWrite() bool {
	return c.access == accessWrite || slices.Contains(replicated, c.name) ||
		slices.Contains(descriptions[c.name].flags, "write")
}

func runScriptLoad(c *call) error {
	p, err := c.load(c.args[2])
	if err != nil {
		return err
	}
	c.out.text(p.SHA)
	return nil
}

func runScriptExists(c *call) error {
	c.out.array(len(c.args) - 2)
	for _, sha := range c.args[2:] {
		if c.server.scripts.find(lower(sha)) != nil {
			c.out.integer(1)
		} else {
			c.out.integer(0)
		}
	}
	return nil
}

func runScriptFlush(c *call) error {
	if len(c.args) > 3 || len(c.args) == 3 && !c.is(2, "sync") && !c.is(2, "async") {
		return replyError("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
	}
	c.server.scripts.forgetAll()
	c.out.status("OK")
	return nil
}

func runScriptKill(c *call) error {
	if c.server.scripts.endAll(true, errKilled) == 0 {
		return errNotBusy
	}
	c.out.status("OK")
	return nil
}

func runScriptDebug(*call) error {
	return replyError("ERR SCRIPT DEBUG is not possible: a script that is stopped would keep all others who write waiting")
}
