package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

const (
	// pieceSize is about how many bytes of an answer are made before they are sent.
	pieceSize = 64 << 10
	// textPart is how many bytes of a text are put in JSON at once: a multiple of three, for
	// base64.
	textPart = 3 << 10
)

// encoder writes answers as encoding/json does, byte for byte, but a piece at a time: an answer may
// be one text of 32 MiB, and JSON may take six bytes for each of its bytes, in several copies.
type encoder struct {
	out    io.Writer
	indent string // of what is in a list or an object: "" for no lines
	buf    []byte
	quoted bytes.Buffer // a part of a text
	depth  int
	filled bool  // the list or object that is being written has a member
	err    error // of out
}

// encodeTo writes v to out in JSON: structs, lists, pointers and byte strings in pieces, and whole
// what else there is. It returns out's error.
func encodeTo(out io.Writer, indent string, v any) error {
	e := encoder{out: out, indent: indent}
	e.value(reflect.ValueOf(v))
	e.flush(0)
	return e.err
}

var (
	octetsType    = reflect.TypeFor[octets]()
	marshalerType = reflect.TypeFor[json.Marshaler]()
)

func (e *encoder) value(v reflect.Value) {
	t := v.Type()
	switch kind := t.Kind(); {
	case e.err != nil:
	case t == octetsType:
		e.octets(v.String())
	case kind == reflect.Pointer && !v.IsNil():
		e.value(v.Elem())
	case t.Implements(marshalerType):
		e.whole(v)
	case kind == reflect.Slice && !v.IsNil() && t.Elem().Kind() != reflect.Uint8:
		e.open('[')
		for i := range v.Len() {
			e.next()
			e.value(v.Index(i))
		}
		e.close(']')
	case kind == reflect.Struct:
		e.open('{')
		e.members(v)
		e.close('}')
	default:
		e.whole(v)
	}
}

// whole writes what is short.
func (e *encoder) whole(v reflect.Value) {
	text, err := json.Marshal(v.Interface())
	if err != nil {
		panic(err) // there is nothing in answers that JSON cannot say; net/http breaks the answer off
	}
	e.buf = append(e.buf, text...)
}

// members writes the members of a struct, and those of what is embedded in it.
func (e *encoder) members(v reflect.Value) {
	for i := range v.NumField() {
		field, member := v.Type().Field(i), v.Field(i)
		if field.Anonymous {
			e.members(member)
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if options == "omitempty" && isEmpty(member) {
			continue
		}
		e.name(name)
		e.value(member)
	}
}

func isEmpty(v reflect.Value) bool {
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

func (e *encoder) name(name string) {
	e.next()
	e.buf = append(append(append(e.buf, '"'), name...), `":`...)
	if e.indent != "" {
		e.buf = append(e.buf, ' ')
	}
}

func (e *encoder) open(bracket byte) {
	e.buf = append(e.buf, bracket)
	e.depth++
	e.filled = false
}

// next begins a member.
func (e *encoder) next() {
	if e.filled {
		e.buf = append(e.buf, ',')
	}
	e.filled = true
	e.line()
	e.flush(pieceSize)
}

func (e *encoder) close(bracket byte) {
	e.depth--
	if e.filled {
		e.line()
	}
	e.buf = append(e.buf, bracket)
	e.filled = true // of that which it is a member of
}

func (e *encoder) line() {
	if e.indent == "" {
		return
	}
	e.buf = append(e.buf, '\n')
	for range e.depth {
		e.buf = append(e.buf, e.indent...)
	}
}

// octets writes a byte string in the form that octets.MarshalJSON gives it.
func (e *encoder) octets(s string) {
	if utf8.ValidString(s) {
		e.text(s, wholeRunes, e.escape)
		return
	}
	e.open('{')
	e.name("base64")
	e.text(s, func(piece string) string { return piece }, func(part string) {
		e.buf = base64.StdEncoding.AppendEncode(e.buf, []byte(part))
	})
	e.close('}')
}

// text writes a string in JSON, in parts. Cut returns the part that a piece of it begins with.
func (e *encoder) text(s string, cut func(piece string) string, put func(part string)) {
	e.buf = append(e.buf, '"')
	for len(s) > textPart && e.err == nil {
		part := cut(s[:textPart])
		put(part)
		e.flush(pieceSize)
		s = s[len(part):]
	}
	put(s)
	e.buf = append(e.buf, '"')
}

func (e *encoder) escape(part string) {
	e.quoted.Reset()
	_ = json.NewEncoder(&e.quoted).Encode(part) // there is no text that it refuses
	text := e.quoted.Bytes()
	e.buf = append(e.buf, text[1:len(text)-2]...) // without the quotes, and the line's end
}

// wholeRunes returns the beginning of a piece of a text up to where its last character begins.
func wholeRunes(piece string) string {
	end := len(piece) - 1
	for !utf8.RuneStart(piece[end]) {
		end--
	}
	return piece[:end]
}

// flush sends what was made, if that is so many bytes.
func (e *encoder) flush(least int) {
	if len(e.buf) < least || e.err != nil {
		return
	}
	_, e.err = e.out.Write(e.buf)
	e.buf = e.buf[:0]
}
