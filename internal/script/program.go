package script

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// MaxSource is the size in bytes of the longest script.
const MaxSource = 1 << 20

// maxNesting is how deep a script's syntax may be nested: what compiles it calls itself that often.
const maxNesting = 4000

// Program is a script that was compiled. It does not change, and any number of runs may use it.
type Program struct {
	// SHA is the name of the script: the SHA-1 of its text, in hexadecimal digits.
	SHA string
	// Size is about what the program holds, in bytes, with its text.
	Size int
	// Declared tells that the script begins with a line of flags, and NoWrites that it says there
	// that it writes nothing.
	Declared, NoWrites bool

	proto *lua.FunctionProto
}

// Name returns the name of a script.
func Name(source []byte) string {
	sum := sha1.Sum(source)
	return hex.EncodeToString(sum[:])
}

// Compile compiles a script. Its error is what Redis tells then, as far as that is known: one line.
func Compile(source []byte) (*Program, error) {
	p, err := compileProgram(source)
	if err != nil {
		return nil, errors.New(lineEnds.Replace(err.Error())) // it quotes the script
	}
	return p, nil
}

var lineEnds = strings.NewReplacer("\r", " ", "\n", " ")

func compileProgram(source []byte) (*Program, error) {
	if len(source) > MaxSource {
		return nil, fmt.Errorf("ERR a script of %d bytes exceeds the limit of %d bytes", len(source), MaxSource)
	}
	p := &Program{SHA: Name(source), Size: len(source)}
	body, err := p.flags(source)
	if err != nil {
		return nil, err
	}
	if p.proto, err = compile(body, chunkName, func(int) {}); err != nil {
		return nil, fmt.Errorf("ERR Error compiling script (new function): %s", err)
	}
	p.Size += sizeOfAll(p.proto)
	return p, nil
}

// sizeOfAll returns what a function is compiled to takes, with those in it.
func sizeOfAll(p *lua.FunctionProto) int {
	n := sizeOf(p)
	for _, inner := range p.FunctionPrototypes {
		n += sizeOfAll(inner)
	}
	return n
}

// chunkName is what errors call a script.
const chunkName = "user_script"

// flags reads a first line as "#!lua flags=no-writes,allow-oom", and returns what comes behind it.
func (p *Program) flags(source []byte) ([]byte, error) {
	if !bytes.HasPrefix(source, []byte("#!")) {
		return source, nil
	}
	line, _, whole := bytes.Cut(source, []byte("\n"))
	words := strings.Fields(string(line))
	switch {
	case !whole || len(words) == 0:
		return nil, errors.New("ERR Invalid script shebang")
	case words[0] != "#!lua":
		return nil, fmt.Errorf("ERR Unexpected engine in script shebang: %s", words[0])
	}
	p.Declared = true
	for _, word := range words[1:] {
		flags, ok := strings.CutPrefix(word, "flags=")
		if !ok {
			return nil, fmt.Errorf("ERR Unknown lua shebang option: %s", word)
		}
		for flag := range strings.SplitSeq(flags, ",") {
			switch flag {
			case "no-writes":
				p.NoWrites = true
			case "", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys":
			default:
				return nil, fmt.Errorf("ERR Unexpected flag in script shebang: %s", flag)
			}
		}
	}
	return source[len(line):], nil
}

// compile compiles a chunk, whose steps are charged before. What its parser and compiler make of
// strange texts is their panic at worst.
func compile(source []byte, name string, charge func(steps int)) (proto *lua.FunctionProto, err error) {
	defer func() {
		switch thrown := recover().(type) {
		case nil:
		case *lua.CompileError:
			err = thrown
		default:
			err = fmt.Errorf("%s:1: %v", name, thrown)
		}
		var wrong *lua.CompileError
		if errors.As(err, &wrong) {
			message := strings.Replace(wrong.Message, "too long to jump.", tooLong, 1)
			err = fmt.Errorf("%s:%d: %s", name, max(wrong.Line, 1), message)
		}
	}()
	if bytes.HasPrefix(source, []byte("\x1bLua")) {
		return nil, fmt.Errorf("%s:1: compiled chunks are not taken", name)
	}
	chunk, err := parse.Parse(bytes.NewReader(source), name)
	if err != nil {
		return nil, syntaxError(err, name)
	}
	w := rewriter{in: newCompiled(0)}
	w.block(chunk)
	charge(w.scans / scansOfStep)
	if proto, err = lua.Compile(chunk, name); err != nil {
		return nil, err
	}
	trim(proto)
	return proto, check(proto)
}

// syntaxError puts an error of the parser as Lua puts its own.
func syntaxError(err error, name string) error {
	var wrong *parse.Error
	if !errors.As(err, &wrong) {
		return err
	}
	line, token := wrong.Pos.Line, wrong.Token
	if line == parse.EOF {
		line, token = 1, "<eof>"
	}
	message := wrong.Message
	if message == "syntax error" {
		message = "unexpected symbol"
	}
	return fmt.Errorf("%s:%d: %s near '%s'", name, line, message, token)
}

// Global functions that a rewriter has called. No script can name them.
const (
	concatenation = "\x00concat" // stands for the operator
	remainder     = "\x00mod"    // as well: the interpreter's is fmod
	indexing      = "\x00index"
	counting      = "\x00count"
	passing       = "\x00pass" // returns its arguments
	appending     = "\x00append"
	gathering     = "\x00gather"
)

// rewriter changes a chunk before it is compiled. Two strings are put together by a function, which
// can count what that takes, and remainders are calculated by another; numbers are written as Lua
// 5.1 reads them, and what the interpreter's compiler gets wrong is written otherwise. It panics
// where the syntax is nested too deep, or the compiler would have too much to do.
type rewriter struct {
	depth     int
	functions int         // so far
	around    surrounding // of what is rewritten
	in        *compiled   // of what is rewritten
	locals    int         // around it, in all functions
	levels    int         // of functions around it
	gotos     int         // and labels, so far
	scans     int         // so far, see bounds.go
}

// surrounding is the loop around a statement.
type surrounding struct {
	functions int  // before it
	closes    bool // a break in it lets go of what functions refer to
}

func (w *rewriter) enter() {
	if w.depth++; w.depth > maxNesting {
		panic("chunk has too many syntax levels")
	}
}

func (w *rewriter) block(stmts []ast.Stmt) {
	w.enter()
	defer func(locals int) { w.depth, w.locals = w.depth-1, locals }(w.locals)
	for i, s := range stmts {
		stmts[i] = w.stmt(s)
		w.scan(w.gotos, s)
	}
}

// stmt returns what a statement becomes.
func (w *rewriter) stmt(s ast.Stmt) ast.Stmt {
	switch s := s.(type) {
	case *ast.AssignStmt:
		w.exprs(s.Lhs)
		for _, e := range s.Lhs {
			if at, ok := e.(*ast.AttrGetExpr); ok {
				w.index(&at.Key)
			}
		}
		w.exprs(s.Rhs)
		return inTurn(s)
	case *ast.LocalAssignStmt:
		w.locals += len(s.Names)
		w.exprs(s.Exprs)
		outOfItself(s)
	case *ast.FuncCallStmt:
		w.expr(&s.Expr)
	case *ast.DoBlockStmt:
		w.block(s.Stmts)
	case *ast.WhileStmt:
		w.expr(&s.Condition)
		w.loop(&s.Stmts, 0, s)
		if truth, known := constant(s.Condition); known && !truth {
			return do(s)
		}
	case *ast.RepeatStmt:
		w.expr(&s.Condition)
		w.loop(&s.Stmts, 0, s)
	case *ast.IfStmt:
		w.jumps(s)
		w.expr(&s.Condition)
		w.block(s.Then)
		w.block(s.Else)
		switch truth, known := constant(s.Condition); {
		case known && truth:
			return do(s, s.Then...)
		case known:
			return do(s, s.Else...)
		}
	case *ast.NumberForStmt:
		for _, e := range []*ast.Expr{&s.Init, &s.Limit, &s.Step} {
			if *e != nil {
				w.expr(e)
				w.count(e)
			}
		}
		w.loop(&s.Stmts, 1, s)
	case *ast.GenericForStmt:
		w.exprs(s.Exprs)
		w.loop(&s.Stmts, len(s.Names), s)
		return beforehand(s)
	case *ast.FuncDefStmt:
		w.named(s.Name)
		w.function(s.Func)
	case *ast.ReturnStmt:
		w.exprs(s.Exprs)
	case *ast.BreakStmt:
		return w.leave(s)
	case *ast.GotoStmt, *ast.LabelStmt:
		w.gotos++
		w.jumps(s)
	}
	return s
}

// inTurn has an assignment read all values before it writes one, from the last to the first. The
// compiler has a local written before the next value is read, and within "and" and "or"; and where
// a function's last parameter is to take a value in parentheses, it has the call made right there.
func inTurn(a *ast.AssignStmt) ast.Stmt {
	if len(a.Lhs) == 1 && len(a.Rhs) == 1 {
		adjust(a.Rhs[0], false) // one is taken all the same
		_, variable := a.Lhs[0].(*ast.IdentExpr)
		if _, logical := a.Rhs[0].(*ast.LogicalOpExpr); !variable || !logical {
			return a
		}
	}
	places := placed(&ast.LocalAssignStmt{}, a)
	values := placed(&ast.LocalAssignStmt{Exprs: a.Rhs}, a)
	hold := func(e *ast.Expr) {
		name := fmt.Sprint("\x00", len(places.Names))
		places.Names, places.Exprs = append(places.Names, name), append(places.Exprs, single(*e))
		*e = placed(&ast.IdentExpr{Value: name}, *e)
	}
	for i, e := range a.Lhs {
		if at, ok := e.(*ast.AttrGetExpr); ok {
			hold(&at.Object)
			if _, known := constant(at.Key); !known {
				hold(&at.Key)
			}
		}
		values.Names = append(values.Names, fmt.Sprint("\x00v", i))
	}
	stmts := []ast.Stmt{places, values}
	for i := len(a.Lhs) - 1; i >= 0; i-- {
		value := placed(&ast.IdentExpr{Value: values.Names[i]}, a.Lhs[i])
		one := &ast.AssignStmt{Lhs: a.Lhs[i : i+1], Rhs: []ast.Expr{value}}
		stmts = append(stmts, placed(one, a))
	}
	return do(a, stmts...)
}

// outOfItself has a function not see the local that it is the value of, unless it is a "local
// function", which has a last line.
func outOfItself(s *ast.LocalAssignStmt) {
	if len(s.Exprs) != 1 || s.LastLine() != 0 {
		return
	}
	if _, ok := s.Exprs[0].(*ast.FunctionExpr); ok {
		s.Exprs = append(s.Exprs, placed(&ast.NilExpr{}, s)) // as the compiler looks for one alone
	}
}

// count has a loop count by the number that a string stands for.
func (w *rewriter) count(at *ast.Expr) {
	switch (*at).(type) {
	case *ast.NumberExpr, *ast.ArithmeticOpExpr, *ast.UnaryMinusOpExpr, *ast.UnaryLenOpExpr:
		return
	}
	*at = w.call(counting, *at, single(*at))
}

// beforehand has what a loop goes over be three values before it begins. How many of them the
// compiler sets follows from how many variables the loop has, and it writes over what the first is
// called or looked up in.
func beforehand(s *ast.GenericForStmt) ast.Stmt {
	over := placed(&ast.LocalAssignStmt{Names: []string{"\x00f", "\x00s", "\x00c"}, Exprs: s.Exprs}, s)
	s.Exprs = nil
	for _, name := range over.Names {
		s.Exprs = append(s.Exprs, placed(&ast.IdentExpr{Value: name}, s))
	}
	return do(s, over, s)
}

// ofLoop is a local of a loop's body.
const ofLoop = "\x00loop"

// ofEachLoop is how many locals the compiler makes for a loop.
const ofEachLoop = 3

// loop rewrites the body of a loop that has some variables.
func (w *rewriter) loop(body *[]ast.Stmt, variables int, of ast.PositionHolder) {
	w.jumps(of)
	outer := w.around
	w.around = surrounding{functions: w.functions}
	variables += ofEachLoop
	w.locals += variables
	w.block(*body)
	w.locals -= variables
	if w.around.closes {
		local := placed(&ast.LocalAssignStmt{Names: []string{ofLoop}}, of)
		*body = append([]ast.Stmt{local}, *body...)
	}
	w.around = outer
}

// leave returns what becomes of a break. A loop must not begin with a jump, which the compiler,
// once it has resolved that, takes for another one. And the compiler lets go of what functions
// refer to if they refer to a local of the loop's body itself, not of a block in it: so one does.
func (w *rewriter) leave(s *ast.BreakStmt) ast.Stmt {
	first := placed(&ast.LocalAssignStmt{Names: []string{"\x00"}}, s)
	if w.functions > w.around.functions {
		w.around.closes = true
		w.oneMore(s)
		local := placed(&ast.IdentExpr{Value: ofLoop}, s)
		refers := placed(&ast.ReturnStmt{Exprs: []ast.Expr{local}}, s)
		f := placed(&ast.FunctionExpr{ParList: &ast.ParList{}, Stmts: []ast.Stmt{refers}}, s)
		first.Exprs = []ast.Expr{f}
	}
	return do(s, first, s)
}

func (w *rewriter) function(f *ast.FunctionExpr) {
	w.oneMore(f)
	outer, locals := w.in, len(f.ParList.Names)+2 // self and arg
	w.in = newCompiled(f.Line())
	w.levels, w.locals = w.levels+1, w.locals+locals
	w.block(f.Stmts)
	if f.ParList.HasVargs {
		f.Stmts = append([]ast.Stmt{w.arg(f)}, f.Stmts...)
	}
	w.in, w.levels, w.locals = outer, w.levels-1, w.locals-locals
}

// arg returns the local that Lua 5.1 gives to a function with "...", which is nil where that is used.
func (w *rewriter) arg(f *ast.FunctionExpr) ast.Stmt {
	local := placed(&ast.LocalAssignStmt{Names: []string{"arg"}}, f)
	if !w.in.dots {
		local.Exprs = []ast.Expr{w.call(gathering, f, placed(&ast.Comma3Expr{}, f))}
	}
	return local
}

// do returns a block of statements, in the place of another.
func do(of ast.PositionHolder, stmts ...ast.Stmt) ast.Stmt {
	return placed(&ast.DoBlockStmt{Stmts: stmts}, of)
}

// placed gives a node the lines of another.
func placed[N ast.PositionHolder](n N, of ast.PositionHolder) N {
	n.SetLine(of.Line())
	n.SetLastLine(of.LastLine())
	return n
}

func (w *rewriter) exprs(list []ast.Expr) {
	for i := range list {
		w.expr(&list[i])
	}
}

func (w *rewriter) expr(at *ast.Expr) {
	w.enter()
	defer func() { w.depth-- }()
	switch e := (*at).(type) {
	case *ast.NumberExpr:
		w.literal(e)
		w.constant(constantKey{true, e.Value}, e)
	case *ast.StringExpr:
		w.constant(constantKey{text: e.Value}, e)
	case *ast.IdentExpr:
		w.name(e.Value, e)
	case *ast.Comma3Expr:
		w.in.dots = true
	case *ast.AttrGetExpr:
		w.expr(&e.Object)
		w.expr(&e.Key)
	case *ast.TableExpr:
		*at = w.table(e)
	case *ast.FuncCallExpr:
		if e.Func != nil {
			w.expr(&e.Func)
		}
		if e.Receiver != nil {
			w.expr(&e.Receiver)
			w.constant(constantKey{text: e.Method}, e)
		}
		w.exprs(e.Args)
	case *ast.LogicalOpExpr:
		w.jumps(e)
		w.expr(&e.Lhs)
		w.expr(&e.Rhs)
		if truth, known := constant(e.Lhs); known {
			*at = e.Lhs
			if truth == (e.Operator == "and") {
				*at = single(e.Rhs)
			}
		}
	case *ast.RelationalOpExpr:
		w.jumps(e)
		w.expr(&e.Lhs)
		w.expr(&e.Rhs)
	case *ast.ArithmeticOpExpr:
		w.expr(&e.Lhs)
		w.expr(&e.Rhs)
		if w.calculated(e); e.Operator == "%" {
			*at = w.call(remainder, e, single(e.Lhs), single(e.Rhs))
		}
	case *ast.StringConcatOpExpr:
		*at = w.concat(e)
	case *ast.UnaryMinusOpExpr:
		w.minus(e)
	case *ast.UnaryNotOpExpr:
		w.expr(&e.Expr)
		if truth, known := constant(e.Expr); known {
			*at = truthOf(!truth, e)
		}
	case *ast.UnaryLenOpExpr:
		w.expr(&e.Expr)
	case *ast.FunctionExpr:
		w.function(e)
	}
}

// literal writes a number as Lua 5.1 reads it. The compiler would take each malformed one for a new
// constant.
func (w *rewriter) literal(e *ast.NumberExpr) {
	f, ok := parseNumber(e.Value)
	if !ok {
		w.refuse(e, "malformed number near '%s'", numeral.FindString(e.Value))
	}
	e.Value = strconv.FormatFloat(f, 'g', -1, 64)
}

func truthOf(truth bool, of ast.PositionHolder) ast.Expr {
	if truth {
		return placed(&ast.TrueExpr{}, of)
	}
	return placed(&ast.FalseExpr{}, of)
}

func (w *rewriter) table(e *ast.TableExpr) ast.Expr {
	w.items(e)
	for _, f := range e.Fields {
		w.expr(&f.Value)
		if f.Key != nil {
			w.expr(&f.Key)
			w.index(&f.Key)
			single(f.Value) // which the compiler does not know of the last field
		}
	}
	return w.list(e)
}

// list keeps what may not follow on every fiftieth item of a constructor from being behind it.
// Fifty are stored at once, and again at a key behind them, or where a call at the end has its
// values stored: by then others are in their registers. So from such an item on all have keys.
func (w *rewriter) list(e *ast.TableExpr) ast.Expr {
	items, keyed := 0, false
	for i, f := range e.Fields {
		if f.Key != nil {
			continue
		}
		items++
		rest := e.Fields[i+1:]
		full := items%lua.FieldsPerFlush == 0
		keyed = keyed || full && len(rest) > 0 && rest[0].Key != nil
		switch {
		case keyed && len(rest) == 0 && isMany(f.Value):
			e.Fields = e.Fields[:i]
			return w.call(appending, e, e, w.number(items, f.Value), f.Value)
		case keyed:
			f.Key = w.number(items, f.Value)
			single(f.Value)
		case full && len(rest) == 1:
			last := rest[0].Value
			f.Value = adjust(w.call(passing, last, f.Value, last), false)
			e.Fields = e.Fields[:i+1]
			return e
		case len(rest) == 0 && isMany(f.Value): // what these take is charged
			f.Value = adjust(w.call(passing, f.Value, f.Value), false)
		}
	}
	return e
}

func (w *rewriter) number(n int, of ast.PositionHolder) ast.Expr {
	e := placed(&ast.NumberExpr{Value: strconv.Itoa(n)}, of)
	w.constant(constantKey{true, e.Value}, e)
	return e
}

// isMany reports whether an expression may be more values than one.
func isMany(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		return !e.AdjustRet
	case *ast.Comma3Expr:
		return !e.AdjustRet
	}
	return false
}

// index has the meter look at what may be a large index that something is assigned to.
func (w *rewriter) index(at *ast.Expr) {
	switch key := (*at).(type) {
	case *ast.StringExpr:
		return
	case *ast.NumberExpr:
		if f, ok := parseNumber(key.Value); ok && f <= quickIndex {
			return
		}
	}
	*at = w.call(indexing, *at, single(*at))
}

// constant reports whether the compiler knows an expression's value, and how a condition takes it.
// It jumps at some of these at once: loops must not begin so, see leave.
func constant(e ast.Expr) (truth, known bool) {
	switch e.(type) {
	case *ast.FalseExpr, *ast.NilExpr:
		return false, true
	case *ast.TrueExpr, *ast.NumberExpr, *ast.StringExpr:
		return true, true
	}
	return false, false
}

// call returns a call of a function of the machine's, in the place of an expression.
func (w *rewriter) call(function string, e ast.Expr, args ...ast.Expr) *ast.FuncCallExpr {
	w.name(function, e)
	name := placed(&ast.IdentExpr{Value: function}, e)
	return placed(&ast.FuncCallExpr{Func: name, Args: args, AdjustRet: true}, e)
}

// mostOperands is how many strings one call puts together: each takes a register.
const mostOperands = 50

// concat returns a call that puts together the operands of a chain.
func (w *rewriter) concat(e *ast.StringConcatOpExpr) ast.Expr {
	call := w.call(concatenation, e)
	var last ast.Expr = e
	for len(call.Args) < mostOperands {
		chain, more := last.(*ast.StringConcatOpExpr)
		if !more {
			break
		}
		operand := chain.Lhs
		w.expr(&operand)
		call.Args = append(call.Args, single(operand))
		last = chain.Rhs
	}
	w.expr(&last)
	call.Args = append(call.Args, single(last))
	return call
}

// single has an expression be one value, as the operand of an operator is.
func single(e ast.Expr) ast.Expr { return adjust(e, true) }

// adjust has a call, or "...", be one value or all.
func adjust(e ast.Expr, one bool) ast.Expr {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		e.AdjustRet = one
	case *ast.Comma3Expr:
		e.AdjustRet = one
	}
	return e
}

// numeral is what of a token of the lexer's belongs to a number, even to a malformed one.
var numeral = regexp.MustCompile(`^[0-9.eE+-]*`)

// parseNumber reads a number as Lua 5.1 does with C's strtod.
func parseNumber(text string) (float64, bool) {
	text = strings.Trim(text, " \t\n\v\f\r")
	unsigned := strings.TrimLeft(text, "+-")
	if len(text)-len(unsigned) > 1 || unsigned == "" {
		return 0, false
	}
	if strings.Contains(unsigned, "_") {
		return 0, false
	}
	hexadecimal := len(unsigned) > 2 && unsigned[0] == '0' && unsigned[1]|0x20 == 'x'
	if hexadecimal && !strings.ContainsAny(unsigned, "pP") {
		text += "p0"
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return f, true
}
