package rules

import (
	"fmt"
	"go/ast"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// registry is where the types are listed: their constants, and an entry for each.
const registry = "crdt/types.go"

// typeFiles are the files that are a type's own, and the only ones beside the registry that name
// it.
var typeFiles = map[string][]string{
	"TypeMap":       {"crdt/map.go", "api/httpapi/map.go", "api/resp/hashes.go"},
	"TypeSet":       {"crdt/set.go", "api/httpapi/set.go", "api/resp/sets.go"},
	"TypeSortedSet": {"crdt/sortedset.go", "api/httpapi/sortedset.go", "api/resp/sortedsets.go"},
	"TypeString": {"crdt/register.go", "crdt/counter.go", "crdt/string.go",
		"crdt/map.go", // a map of strings is a hash, and is counted and read at once
		"api/httpapi/string.go", "api/resp/strings.go"},
	"TypeList":        {"crdt/list.go", "api/httpapi/list.go", "api/resp/lists.go"},
	"TypeFlag":        {"crdt/flag.go", "api/httpapi/flag.go"},
	"TypeBitmap":      {"crdt/bitmap.go", "api/httpapi/bitmap.go", "api/resp/bitmaps.go"},
	"TypeHyperLogLog": {"crdt/hyperloglog.go", "api/httpapi/hyperloglog.go", "api/resp/hyperloglog.go"},
	"TypeStream":      {"crdt/stream.go", "api/httpapi/stream.go", "api/resp/streams.go"},
}

// namesTypes are packages that may name any type, with the reason.
var namesTypes = map[string]string{
	"internal/sim": "its oracle shares nothing with crdt",
}

// checkTypes reports where types are named outside of the registry and of their own files: whoever
// adds a type would have to find those places.
func checkTypes(s *source) (problems []string) {
	if s.isTest() || s.path == registry || namesTypes[s.pkg()] != "" {
		return nil
	}
	for _, id := range typesNamed(s) {
		if !slices.Contains(typeFiles[id.Name], s.path) {
			problems = append(problems, fmt.Sprintf("%s: %s is named outside of its own files: "+
				"ask the registry (%s), or move this there", s.at(id.Pos()), id.Name, registry))
		}
	}
	return problems
}

// typesNamed returns where a file names a type.
func typesNamed(s *source) (found []*ast.Ident) {
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && typeFiles[id.Name] != nil {
			found = append(found, id)
		}
		return true
	})
	return found
}

// typeConstants returns the constants of type Type that a file declares.
func typeConstants(s *source) (names []string) {
	for _, d := range s.syntax.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Type" && v.Names[0].IsExported() {
				names = append(names, v.Names[0].Name)
			}
		}
	}
	return names
}

// typeWords are the files in which each type has its word: the first group of within is where, that
// of word is one.
var typeWords = []struct {
	file         string
	within, word *regexp.Regexp
	redis        bool // as Redis calls it
}{
	{"api/resp/events.go", regexp.MustCompile(`(?s)var classes = map\[string\]byte\{(.*?)\n\}`),
		regexp.MustCompile(`"([a-z-]+)":`), true},
	{"api/httpapi/openapi.yaml", regexp.MustCompile(`\n    type:\s+type: string\s+enum: \[(.*?)\]`),
		regexp.MustCompile(`([a-z-]+)`), false},
	{"api/httpapi/console/console.js", regexp.MustCompile(`(?s)\nfunction summary\((.*?)\n\}`),
		regexp.MustCompile(`v\.type [!=]== '([a-z-]+)'`), false},
}

// registered finds the name of a type in the registry, and what Redis calls it.
var registered = regexp.MustCompile(`Name: "([a-z-]+)", Redis: dotted.Redis\{Name: "([a-z]+)"`)

// TestEachTypeHasItsWordWhereAllHave, so that a type that is added is found to be missing there.
func TestEachTypeHasItsWordWhereAllHave(t *testing.T) {
	text := func(file string) string {
		data, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	all := registered.FindAllStringSubmatch(text(registry), -1)
	if len(all) != len(typeFiles) {
		t.Fatalf("%s names the types %q, and there are %d", registry, all, len(typeFiles))
	}
	for _, w := range typeWords {
		missing := func(text string) (names []string) {
			found := map[string]bool{}
			if part := w.within.FindStringSubmatch(text); part != nil {
				for _, word := range w.word.FindAllStringSubmatch(part[1], -1) {
					found[word[1]] = true
				}
			}
			for _, of := range all {
				if name := map[bool]string{false: of[1], true: of[2]}[w.redis]; !found[name] {
					names = append(names, name)
				}
			}
			return names
		}
		if names := missing(text(w.file)); len(names) > 0 {
			t.Errorf("%s has no word for the types %q", w.file, names)
		}
		names := missing(strings.ReplaceAll(text(w.file), "stream", "brook"))
		if !slices.Equal(names, []string{"stream"}) {
			t.Errorf("%s: without streams there are missing %q", w.file, names)
		}
	}
}

func TestATypeIsNamedInTheRegistryAndItsOwnFilesOnly(t *testing.T) {
	each(t, checkTypes)
	breaks(t, checkTypes, "crdt/state.go", "package crdt\nvar x Type",
		"package crdt\nvar x = TypeSet")
	breaks(t, checkTypes, "api/resp/keys.go", "package resp\nvar x crdt.Type",
		"package resp\nvar x = crdt.TypeMap")
	breaks(t, checkTypes, "crdt/set.go", "package crdt\nvar x = TypeSet",
		"package crdt\nvar x = TypeFlag")
}

// TestEachTypeIsOneEntry counts: a type is a constant and an entry in the registry, and in no file
// of its own that does not name it.
func TestEachTypeIsOneEntry(t *testing.T) {
	all, err := moduleSources()
	if err != nil {
		t.Fatal(err)
	}
	named := map[string][]string{} // by type, a file as often as it names it
	for _, s := range all {
		if s.path == registry {
			for _, name := range typeConstants(s) {
				if typeFiles[name] == nil {
					t.Errorf("%s is in no row of typeFiles: say which files are its own", name)
				}
			}
		}
		if !s.isTest() {
			for _, id := range typesNamed(s) {
				named[id.Name] = append(named[id.Name], s.path)
			}
		}
	}
	for name, files := range typeFiles {
		count := func(file string) (n int) {
			for _, f := range named[name] {
				if f == file {
					n++
				}
			}
			return n
		}
		if n := count(registry); n != 2 {
			t.Errorf("%s is in %s %d times, not as a constant and an entry", name, registry, n)
		}
		for _, file := range files {
			if count(file) == 0 {
				t.Errorf("%s is not in %s, which typeFiles says is its own", name, file)
			}
		}
	}
	s, err := parse("p/p.go", "package p\nconst (\nTypeA Type = 'a'\nb Type = 'b'\nC = 1\n)")
	if err != nil || strings.Join(typeConstants(s), " ") != "TypeA" {
		t.Errorf("constants of types are not found (%v)", err)
	}
}
