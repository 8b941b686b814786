package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/pflag"
)

// maxConfig is how large a file of settings may be, in bytes. A larger one is not read: it is
// something else.
const maxConfig = 1 << 20

// entry is a line "key: value" of a file of settings.
type entry struct {
	place string // "peerd.yaml:3"
	key   string
	value ast.Node
}

// readConfig returns the entries of a file.
func readConfig(path string) ([]entry, error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	return parseConfig(path, text)
}

// parseConfig returns the entries of a text, in its order. Errors say where in the file path it is.
func parseConfig(path string, text []byte) ([]entry, error) {
	at := func(line int) string { return fmt.Sprintf("%s:%d", path, line) }
	file, err := parser.ParseBytes(text, 0)
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		return nil, fmt.Errorf("%s: no YAML: %s", at(syntax.Token.Position.Line), syntax.Message)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: no YAML: %w", path, err)
	}
	var entries []entry
	for i, doc := range file.Docs {
		if doc.Body == nil {
			continue // nothing but comments
		}
		mapping, ok := doc.Body.(*ast.MappingNode)
		if !ok || i > 0 {
			return nil, fmt.Errorf("%s: must be lines of \"key: value\", as peerd config prints them",
				at(doc.Body.GetToken().Position.Line))
		}
		for _, v := range mapping.Values {
			key := v.Key.GetToken()
			entries = append(entries, entry{at(key.Position.Line), key.Value, v.Value})
		}
	}
	return entries, nil
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err == nil {
		defer file.Close()
		var text []byte
		text, err = io.ReadAll(io.LimitReader(file, maxConfig+1))
		if err == nil && len(text) <= maxConfig {
			return text, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("it has more than %s", exactSize(maxConfig))
	}
	var detail *fs.PathError
	if errors.As(err, &detail) {
		err = detail.Err
	}
	return nil, fmt.Errorf("no settings in %s (%v): name a YAML file with --config", path, err)
}

// setTo gives the value to a flag.
func (e entry) setTo(f *pflag.Flag) error {
	_, isList := f.Value.(pflag.SliceValue)
	if list, ok := e.value.(*ast.SequenceNode); ok && isList {
		var texts []string
		for _, item := range list.Values {
			text, err := plain(item)
			if err != nil {
				return fmt.Errorf("%s: %w", e.key, err)
			}
			texts = append(texts, text)
		}
		return setFlag(f, texts...)
	}
	text, err := plain(e.value)
	if err != nil {
		return fmt.Errorf("%s: %w", e.key, err)
	}
	if err := setFlag(f, text); err != nil {
		return fmt.Errorf("%s %q: %w", e.key, text, err)
	}
	return nil
}

// plain returns a value as it is written, but for its quotes.
func plain(n ast.Node) (string, error) {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NanNode,
		*ast.InfinityNode:
		return n.GetToken().Value, nil
	case *ast.NullNode:
		return "", errors.New("has no value: leave the key out for its default")
	}
	return "", errors.New("must be one value on its line")
}
