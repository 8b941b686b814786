package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// plantedEnv names the variable of the environment that says which mutant of a program is at work.
const plantedEnv = "PEERSIM_MUTANT"

// garden is a tree of sources in which mutants stand beside what they change, so that one program has all of them: a
// function that a mutant changes is there twice, and the true one begins with a call of the other if that mutant is at
// work.
type garden struct {
	root string
	beds map[string]*bed // by path
}

// bed is one file of a garden.
type bed struct {
	text   string
	begins map[int]string // calls of copies, by their offsets in text
	copies []string       // functions as mutants have them
}

// plant puts a mutant beside those that are there. It may change nothing but the bodies of functions.
func (g *garden) plant(m mutant) error {
	changed, err := m.texts(g.root)
	if err != nil {
		return err
	}
	for path, text := range changed {
		b := g.beds[path]
		if b == nil {
			original, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b = &bed{text: string(original), begins: map[int]string{}}
			g.beds[path] = b
		}
		pairs, err := changedFunctions(b.text, text)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if len(pairs) == 0 {
			return fmt.Errorf("%s: no function is changed", path)
		}
		for _, p := range pairs {
			b.grow(m.name, p)
		}
	}
	return nil
}

// pair is a function that a mutant changes: the true one, and the text of the other about its name.
type pair struct {
	at           int // where the body begins
	name, call   string
	returns      bool
	before, rest string
}

// grow puts in a function as a mutant has it, and the call of it.
func (b *bed) grow(mutant string, p pair) {
	name := p.name + "_" + strings.ReplaceAll(mutant, "-", "_")
	call := strings.Replace(p.call, p.name, name, 1)
	if p.returns {
		b.begins[p.at] += fmt.Sprintf("\nif planted == %q { return %s };", mutant, call)
	} else {
		b.begins[p.at] += fmt.Sprintf("\nif planted == %q { %s; return };", mutant, call)
	}
	b.copies = append(b.copies, p.before+name+p.rest)
}

// changedFunctions returns which functions differ. It fails if anything else does.
func changedFunctions(original, mutated string) (pairs []pair, err error) {
	olds, err := declarations(original)
	if err != nil {
		return nil, err
	}
	news, err := declarations(mutated)
	if err != nil {
		return nil, err
	}
	if len(olds) != len(news) {
		return nil, fmt.Errorf("%d declarations where there were %d", len(news), len(olds))
	}
	for i, d := range olds {
		was, is := original[d.Pos()-1:d.End()-1], mutated[news[i].Pos()-1:news[i].End()-1]
		if was == is {
			continue
		}
		old, ok1 := d.(*ast.FuncDecl)
		changed, ok2 := news[i].(*ast.FuncDecl)
		if !ok1 || !ok2 || original[old.Pos()-1:old.Body.Pos()-1] != mutated[changed.Pos()-1:changed.Body.Pos()-1] {
			return nil, fmt.Errorf("a change outside of a function: %s", strings.SplitN(is, "\n", 2)[0])
		}
		p := pair{at: int(old.Body.Lbrace), name: old.Name.Name, returns: old.Type.Results.NumFields() > 0}
		if p.call, err = callOf(old); err != nil {
			return nil, err
		}
		name := int(changed.Name.Pos() - changed.Pos())
		p.before, p.rest = is[:name], is[name+len(p.name):]
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// declarations returns those of a file. Positions in it begin with 1.
func declarations(text string) ([]ast.Decl, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range file.Decls { // without what is said of them
		switch d := d.(type) {
		case *ast.FuncDecl:
			d.Doc = nil
		case *ast.GenDecl:
			d.Doc = nil
		}
	}
	return file.Decls, nil
}

// callOf returns the call of a function with the arguments that it was called with.
func callOf(f *ast.FuncDecl) (string, error) {
	name := f.Name.Name
	var types, args []string
	for _, names := range fields(f.Type.TypeParams) {
		types = append(types, names.name)
	}
	for _, arg := range fields(f.Type.Params) {
		if arg.name == "" || arg.name == "_" {
			return "", fmt.Errorf("%s has an argument without a name", name)
		}
		args = append(args, arg.name+arg.rest)
	}
	if f.Recv != nil {
		recv := fields(f.Recv)[0].name
		if recv == "" || recv == "_" {
			return "", fmt.Errorf("%s has a receiver without a name", name)
		}
		name = recv + "." + name
	}
	if types != nil {
		name += "[" + strings.Join(types, ", ") + "]"
	}
	return name + "(" + strings.Join(args, ", ") + ")", nil
}

type field struct{ name, rest string }

// fields returns what a list declares, each by its own.
func fields(list *ast.FieldList) (out []field) {
	if list == nil {
		return nil
	}
	for _, f := range list.List {
		rest := ""
		if _, ok := f.Type.(*ast.Ellipsis); ok {
			rest = "..."
		}
		if len(f.Names) == 0 {
			out = append(out, field{})
		}
		for _, n := range f.Names {
			out = append(out, field{n.Name, rest})
		}
	}
	return out
}

// build builds the simulator with all that is planted, and returns where it is.
func (g *garden) build(dir string) (program string, err error) {
	replace := map[string]string{}
	put := func(path, text string) {
		if replace[path] != "" {
			return
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		err = errors.Join(err, os.WriteFile(replace[path], []byte(text), 0o600))
	}
	for path, b := range g.beds {
		put(path, b.planted())
		in := filepath.Dir(path)
		put(filepath.Join(in, "planted.go"), fmt.Sprintf("package %s\n\nimport \"os\"\n\nvar planted = os.Getenv(%q)\n",
			filepath.Base(in), plantedEnv))
	}
	overlay, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "peersim")
	data, _ := json.Marshal(map[string]any{"Replace": replace})
	if err = errors.Join(err, os.WriteFile(overlay, data, 0o600)); err != nil {
		return "", err
	}
	compile := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./cmd/peersim")
	compile.Dir = g.root
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
}

// planted returns the text of the file with all that is planted in it.
func (b *bed) planted() string {
	var text strings.Builder
	end := 0
	for _, at := range slices.Sorted(maps.Keys(b.begins)) {
		text.WriteString(b.text[end:at] + b.begins[at])
		end = at
	}
	text.WriteString(b.text[end:])
	for _, c := range b.copies {
		text.WriteString("\n" + c + "\n")
	}
	return text.String()
}
