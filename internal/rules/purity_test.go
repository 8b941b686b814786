package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// pure lists the packages without I/O: calls in, messages and batches out; time and chance are
// arguments. Only such code can be replayed from a seed, and run by a simulator as it is.
var pure = []string{"internal/dotted", "crdt", "internal/delta", "gossip", "antientropy", "internal/engine"}

const pureReason = "only code without I/O, clocks, chance and goroutines replays from a seed"

// impureImports are what pure packages do not import, with all packages below them.
var impureImports = []string{
	"net", "os", "syscall", "runtime", "context", "log", "sync", "crypto/rand", "io/ioutil",
}

// harmlessImports are pure nevertheless: an atomic value never waits, and by it the core hands moments to readers in other
// goroutines, who hand nothing back.
var harmlessImports = []string{"sync/atomic"}

// impureUses are what they do not use of packages that they may import.
var impureUses = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
	// Everything but constructors and types draws from a source that no seed sets.
	"math/rand/v2": {"Int", "IntN", "Int32", "Int32N", "Int64", "Int64N", "Uint32", "Uint32N",
		"Uint64", "Uint64N", "UintN", "N", "Float32", "Float64", "NormFloat64", "ExpFloat64", "Perm",
		"Shuffle"},
	"math/rand": {"Int", "Intn", "Int31", "Int31n", "Int63", "Int63n", "Uint32", "Uint64", "Float32",
		"Float64", "NormFloat64", "ExpFloat64", "Perm", "Shuffle", "Read", "Seed"},
}

func checkPurity(s *source) (problems []string) {
	if s.isTest() || !slices.Contains(pure, s.pkg()) {
		return nil
	}
	report := func(at, what string) {
		problems = append(problems, fmt.Sprintf("%s: %s must not %s: %s", at, s.pkg(), what, pureReason))
	}
	for name, at := range s.imports() {
		for _, impure := range impureImports {
			if (name == impure || strings.HasPrefix(name, impure+"/")) && !slices.Contains(harmlessImports, name) {
				report(at, "import "+name)
			}
		}
	}
	for pkg, names := range impureUses {
		s.uses(pkg, func(name string, at token.Pos) {
			if slices.Contains(names, name) {
				report(s.at(at), "use "+pkg+"."+name)
			}
		})
	}
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report(s.at(n.Pos()), "start a goroutine")
		case *ast.ChanType:
			report(s.at(n.Pos()), "use a channel")
		}
		return true
	})
	return problems
}

func TestTheCoreDoesNoIO(t *testing.T) {
	each(t, checkPurity)
	breaks(t, checkPurity, "gossip/mesh.go",
		"package gossip\nimport (\"time\"; \"math/rand/v2\")\n"+
			"func f(now time.Time, r *rand.Rand) int { return r.IntN(now.Second() + 1) }",
		"package gossip\nimport \"os\"",
		"package gossip\nimport \"sync\"",
		"package gossip\nimport \"net/netip\"",
		"package gossip\nimport \"log/slog\"",
		"package gossip\nimport clock \"time\"\nvar x = clock.Now",
		"package gossip\nimport \"math/rand/v2\"\nvar x = rand.IntN(3)",
		"package gossip\nfunc f() { go f() }",
		"package gossip\nvar c chan int")
}
