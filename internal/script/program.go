package script

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
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
	// Size is that of the text in bytes.
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
	if p.proto, err = compile(body, chunkName); err != nil {
		return nil, fmt.Errorf("ERR Error compiling script (new function): %s", err)
	}
	return p, nil
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

// compile compiles a chunk. What its parser and compiler make of strange texts is their panic at
// worst.
func compile(source []byte, name string) (proto *lua.FunctionProto, err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			err = fmt.Errorf("%s:1: %v", name, thrown)
		}
	}()
	if bytes.HasPrefix(source, []byte("\x1bLua")) {
		return nil, fmt.Errorf("%s:1: compiled chunks are not taken", name)
	}
	chunk, err := parse.Parse(bytes.NewReader(source), name)
	if err != nil {
		return nil, syntaxError(err, name)
	}
	w := rewriter{name: name}
	w.block(chunk)
	proto, err = lua.Compile(chunk, name)
	var wrong *lua.CompileError
	if errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s:%d: %s", name, wrong.Line, wrong.Message)
	}
	return proto, err
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
	indexing      = "\x00index"
)

// rewriter changes a chunk before it is compiled. Two strings are put together by a function, which
// can count what that takes, and numbers are written as Lua 5.1 reads them. It panics where the
// syntax is nested too deep.
type rewriter struct {
	name  string
	depth int
}

func (w *rewriter) enter() {
	if w.depth++; w.depth > maxNesting {
		panic("chunk has too many syntax levels")
	}
}

func (w *rewriter) block(stmts []ast.Stmt) {
	w.enter()
	defer func() { w.depth-- }()
	for _, s := range stmts {
		w.stmt(s)
	}
}

func (w *rewriter) stmt(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		w.exprs(s.Lhs)
		for _, e := range s.Lhs {
			if at, ok := e.(*ast.AttrGetExpr); ok {
				w.index(&at.Key)
			}
		}
		w.exprs(s.Rhs)
	case *ast.LocalAssignStmt:
		w.exprs(s.Exprs)
	case *ast.FuncCallStmt:
		w.expr(&s.Expr)
	case *ast.DoBlockStmt:
		w.block(s.Stmts)
	case *ast.WhileStmt:
		w.expr(&s.Condition)
		w.block(s.Stmts)
	case *ast.RepeatStmt:
		w.expr(&s.Condition)
		w.block(s.Stmts)
	case *ast.IfStmt:
		w.expr(&s.Condition)
		w.block(s.Then)
		w.block(s.Else)
	case *ast.NumberForStmt:
		w.expr(&s.Init)
		w.expr(&s.Limit)
		if s.Step != nil {
			w.expr(&s.Step)
		}
		w.block(s.Stmts)
	case *ast.GenericForStmt:
		w.exprs(s.Exprs)
		w.block(s.Stmts)
	case *ast.FuncDefStmt:
		w.block(s.Func.Stmts)
	case *ast.ReturnStmt:
		w.exprs(s.Exprs)
	}
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
		if f, ok := parseNumber(e.Value); ok {
			e.Value = strconv.FormatFloat(f, 'g', -1, 64)
		}
	case *ast.AttrGetExpr:
		w.expr(&e.Object)
		w.expr(&e.Key)
	case *ast.TableExpr:
		for _, f := range e.Fields {
			if f.Key != nil {
				w.expr(&f.Key)
				w.index(&f.Key)
			}
			w.expr(&f.Value)
		}
	case *ast.FuncCallExpr:
		if e.Func != nil {
			w.expr(&e.Func)
		}
		if e.Receiver != nil {
			w.expr(&e.Receiver)
		}
		w.exprs(e.Args)
	case *ast.LogicalOpExpr:
		w.expr(&e.Lhs)
		w.expr(&e.Rhs)
	case *ast.RelationalOpExpr:
		w.expr(&e.Lhs)
		w.expr(&e.Rhs)
	case *ast.ArithmeticOpExpr:
		w.expr(&e.Lhs)
		w.expr(&e.Rhs)
	case *ast.StringConcatOpExpr:
		*at = w.concat(e)
	case *ast.UnaryMinusOpExpr:
		w.expr(&e.Expr)
	case *ast.UnaryNotOpExpr:
		w.expr(&e.Expr)
	case *ast.UnaryLenOpExpr:
		w.expr(&e.Expr)
	case *ast.FunctionExpr:
		w.block(e.Stmts)
	}
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
	call := w.call(indexing, *at)
	call.Args = []ast.Expr{single(*at)}
	*at = call
}

// call returns a call of a function of the machine's, in the place of an expression.
func (w *rewriter) call(function string, e ast.Expr) *ast.FuncCallExpr {
	name := &ast.IdentExpr{Value: function}
	call := &ast.FuncCallExpr{Func: name, AdjustRet: true}
	name.SetLine(e.Line())
	name.SetLastLine(e.LastLine())
	call.SetLine(e.Line())
	call.SetLastLine(e.LastLine())
	return call
}

// mostOperands is how many strings one call puts together: each takes a register.
const mostOperands = 50

// concat returns a call that puts together the operands of a chain.
func (w *rewriter) concat(e *ast.StringConcatOpExpr) ast.Expr {
	call := w.call(concatenation, e)
	for len(call.Args) < mostOperands {
		operand := e.Lhs
		w.expr(&operand)
		call.Args = append(call.Args, single(operand))
		next, more := e.Rhs.(*ast.StringConcatOpExpr)
		if !more {
			break
		}
		e = next
	}
	last := e.Rhs
	w.expr(&last)
	call.Args = append(call.Args, single(last))
	return call
}

// single has an expression be one value, as the operand of an operator is.
func single(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		e.AdjustRet = true
	case *ast.Comma3Expr:
		e.AdjustRet = true
	}
	return e
}

// parseNumber reads a number as Lua 5.1 does.
func parseNumber(text string) (float64, bool) {
	text = strings.Trim(text, " \t\n\v\f\r")
	unsigned := strings.TrimLeft(text, "+-")
	if len(text)-len(unsigned) > 1 || unsigned == "" {
		return 0, false
	}
	if len(unsigned) > 2 && unsigned[0] == '0' && unsigned[1]|0x20 == 'x' {
		n, err := strconv.ParseUint(unsigned[2:], 16, 64)
		f := float64(n)
		if text[0] == '-' {
			f = -f
		}
		return f, err == nil
	}
	if strings.ContainsAny(unsigned, "_xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return f, true
}
