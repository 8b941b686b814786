package script

import (
	"fmt"
	"slices"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
)

// The interpreter's compiler looks through a function's constants for each that it meets, and
// through all locals around for each name. So what that takes is counted before, and a text that
// takes too much is refused. And the compiler cuts off what an instruction has no room for: that
// is refused, too.

const (
	// maxScans is how many constants, locals, blocks and labels the compiler looks at, which takes
	// about a second: the only function of a text may have 11,000 different constants.
	maxScans = 1 << 26
	// scansOfStep is at how many of them it looks in the time of a step, about.
	scansOfStep = 16
	// maxFunctions is how many functions a text has: the compiler sets 16 KiB aside for each.
	maxFunctions = 4096
	// maxItems is how many items a constructor has: 511 times lua.FieldsPerFlush are numbered.
	maxItems = 511 * 50
	// maxUpvalues is how many locals of others a function refers to, as in Lua 5.1.
	maxUpvalues = 60
	// maxJump is how far a jump goes, and how many places in a function jumps may go to.
	maxJump = 1<<17 - 1
	// labelsOfOne is how many such places a statement or an operator has at most.
	labelsOfOne = 4
)

// compiled is a function whose constants and places to jump to are counted.
type compiled struct {
	line      int // 0: that of the chunk
	constants map[constantKey]int
	labels    int
	dots      bool // it uses its "..."
}

type constantKey struct {
	number bool
	text   string
}

func newCompiled(line int) *compiled { return &compiled{line: line, constants: map[constantKey]int{}} }

func (f *compiled) String() string {
	if f.line == 0 {
		return "main function"
	}
	return fmt.Sprintf("function at line %d", f.line)
}

// scan counts at how many things the compiler looks.
func (w *rewriter) scan(n int, at ast.PositionHolder) {
	if w.scans += n; w.scans > maxScans {
		w.refuse(at, "%v has too many constants: about 11000 different strings, numbers and names "+
			"are possible in a function, fewer where several have many, repeat them often or are nested deep", w.in)
	}
}

// constant counts a constant of the function that is rewritten.
func (w *rewriter) constant(key constantKey, at ast.PositionHolder) {
	place, known := w.in.constants[key]
	if !known {
		place = len(w.in.constants)
		w.in.constants[key] = place
	}
	w.scan(place+1, at)
}

// name counts a name, which is a constant or that of a local around. One of another function's is
// passed on by all functions in between, and the compiler looks for it in each.
func (w *rewriter) name(name string, at ast.PositionHolder) {
	w.constant(constantKey{text: name}, at)
	w.scan((w.locals+w.depth)*(1+w.levels), at)
}

// named counts what a function is assigned to.
func (w *rewriter) named(to *ast.FuncName) {
	if to.Func != nil {
		w.expr(&to.Func)
		return
	}
	w.expr(&to.Receiver)
	w.constant(constantKey{text: to.Method}, to.Receiver)
}

// minus rewrites the operator. With a number it is one constant, which the compiler shares.
func (w *rewriter) minus(e *ast.UnaryMinusOpExpr) {
	n, literal := e.Expr.(*ast.NumberExpr)
	if !literal {
		w.expr(&e.Expr)
		w.calculated(e)
		return
	}
	w.literal(n)
	w.constant(constantKey{true, "-" + n.Value}, e)
	w.scan(w.depth, e)
}

// calculated counts what an operator with numbers takes: the compiler goes through all below it.
func (w *rewriter) calculated(e ast.Expr) {
	w.scan(w.depth, e)
	if isCalculated(e) {
		w.constant(constantKey{true, fmt.Sprint("\x00", len(w.in.constants))}, e)
	}
}

// isCalculated reports whether the compiler calculates an expression.
func isCalculated(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.NumberExpr:
		return true
	case *ast.UnaryMinusOpExpr:
		return isCalculated(e.Expr)
	case *ast.ArithmeticOpExpr:
		return isCalculated(e.Lhs) && isCalculated(e.Rhs)
	}
	return false
}

// jumps counts the places that a statement or an operator jumps to.
func (w *rewriter) jumps(at ast.PositionHolder) {
	if w.in.labels += labelsOfOne; w.in.labels > maxJump {
		w.refuse(at, tooLong)
	}
}

const tooLong = "control structure too long"

// oneMore counts a function.
func (w *rewriter) oneMore(at ast.PositionHolder) {
	if w.functions++; w.functions > maxFunctions {
		w.refuse(at, "chunk has more than %d functions", maxFunctions)
	}
}

// items counts those of a constructor.
func (w *rewriter) items(e *ast.TableExpr) {
	n := 0
	for _, f := range e.Fields {
		if f.Key == nil {
			n++
		}
	}
	if n > maxItems {
		w.refuse(e, "%v has more than %d items in a constructor", w.in, maxItems)
	}
}

func (w *rewriter) refuse(at ast.PositionHolder, format string, args ...any) {
	panic(&lua.CompileError{Line: at.Line(), Message: fmt.Sprintf(format, args...)})
}

// trim has a function and those in it hold no more than they need, rather than what the compiler
// has set aside.
func trim(p *lua.FunctionProto) {
	p.Code, p.Constants = fitting(p.Code), fitting(p.Constants)
	p.FunctionPrototypes, p.DbgUpvalues = fitting(p.FunctionPrototypes), fitting(p.DbgUpvalues)
	p.DbgSourcePositions = fitting(p.DbgSourcePositions)
	p.DbgLocals, p.DbgCalls = fitting(p.DbgLocals), fitting(p.DbgCalls)
	for _, inner := range p.FunctionPrototypes {
		trim(inner)
	}
}

// fitting copies a slice, even an empty one: slices.Clone of that holds its array.
func fitting[E any](s []E) []E { return append([]E(nil), s...) }

// check returns an error if the compiler has cut off what belongs to a function or those in it.
func check(p *lua.FunctionProto) error {
	wrong := &lua.CompileError{Line: p.LineDefined}
	switch {
	case len(p.DbgUpvalues) > maxUpvalues:
		wrong.Message = fmt.Sprintf("function at line %d has more than %d upvalues", p.LineDefined, maxUpvalues)
		return wrong
	case len(p.Code) > maxJump && slices.ContainsFunc(p.Code, isJump):
		wrong.Message = tooLong
		return wrong
	}
	for _, inner := range p.FunctionPrototypes {
		if err := check(inner); err != nil {
			return err
		}
	}
	return nil
}

// isJump reports whether an instruction goes back in a loop, which the compiler writes without a
// look at how far that is, or may.
func isJump(instruction uint32) bool {
	operation := int(instruction >> operands)
	return operation == lua.OP_JMP || operation == lua.OP_FORLOOP
}
