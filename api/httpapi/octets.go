package httpapi

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// octets is a byte string: a key, a field, an element, a value. In JSON it is a string if it is
// UTF-8, and else {"base64": "…"}. Either form is read, so every byte string has one that is
// written, and all that was written reads back as it was.
type octets string

// Octets names it for programs that send requests.
type Octets = octets

// MarshalJSON implements json.Marshaler.
func (o octets) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(o)) {
		return json.Marshal(string(o))
	}
	return json.Marshal(binary{base64.StdEncoding.EncodeToString([]byte(o))})
}

type binary struct {
	Base64 string `json:"base64"`
}

var errUTF16 = errors.New(`a string has half a surrogate pair (\ud800 to \udfff), ` +
	`which is no text: send {"base64": "…"}`)

// noOctets is the error of JSON that is none. Encoding/json adds which member that is, and words
// what it must be.
func noOctets(data []byte) error {
	is := map[byte]string{'{': "object", '[': "array", 't': "bool", 'f': "bool", 'n': "null"}
	return &json.UnmarshalTypeError{Value: cmp.Or(is[data[0]], "number"), Type: reflect.TypeFor[octets]()}
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *octets) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		if halfSurrogate(data) {
			return errUTF16
		}
		*o = octets(text)
		return nil
	}
	var form map[string]*string
	if json.Unmarshal(data, &form) != nil || len(form) != 1 || form["base64"] == nil {
		return noOctets(data)
	}
	bytes, err := base64.StdEncoding.Strict().DecodeString(*form["base64"])
	if err != nil {
		return noOctets(data)
	}
	*o = octets(bytes)
	return nil
}

// halfSurrogate reports whether a JSON string has an escape that stands for half a character, in
// the place of which encoding/json puts U+FFFD. The string is well-formed JSON.
func halfSurrogate(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++
		if data[i] != 'u' {
			continue
		}
		switch unit := unit16(data[i+1:]); {
		case unit < 0xd800 || unit > 0xdfff:
			i += 4
		case unit < 0xdc00 && isSecond(data[i+5:]):
			i += 10
		default:
			return true
		}
	}
	return false
}

// isSecond reports whether data begins with an escape for the second half of a character.
func isSecond(data []byte) bool {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return false
	}
	unit := unit16(data[2:])
	return 0xdc00 <= unit && unit <= 0xdfff
}

// unit16 reads four hexadecimal digits; 0 if there are none.
func unit16(data []byte) uint64 {
	if len(data) < 4 {
		return 0
	}
	u, _ := strconv.ParseUint(string(data[:4]), 16, 16)
	return u
}
