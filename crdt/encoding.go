package crdt

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// contextVersion is the version of an encoded Context. Another one is refused.
const contextVersion = 2

// contextSeal is what stands for the key under which a record is sealed.
const contextSeal = "peerd context"

const contextFields = 2 // vector, exceptions

// MarshalBinary returns canonical, versioned and checksummed bytes: equal contexts have equal ones.
// It never fails.
func (c *Context) MarshalBinary() ([]byte, error) { return c.AppendBinary(nil) }

// AppendBinary appends what MarshalBinary returns. It never fails.
func (c *Context) AppendBinary(b []byte) ([]byte, error) {
	body := wire.Encode(func(w *wire.Writer) {
		w.Array(contextFields)
		c.write(w)
	})
	return append(b, wire.Seal(contextVersion, []byte(contextSeal), body)...), nil
}

// UnmarshalBinary replaces the context with the one that MarshalBinary wrote. After an error, for
// bytes that were damaged or are of another version, c is as it was. data is not kept.
func (c *Context) UnmarshalBinary(data []byte) error {
	var read Context
	err := unseal(contextSeal, contextVersion, data, func(r *wire.Reader) {
		extra := r.Fields(contextFields)
		read = readContext(r)
		r.Skip(extra)
	})
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	*c = read
	return nil
}

// contextJSON is a Context in JSON.
type contextJSON struct {
	Vector     VersionVector `json:"vector"`
	Exceptions []Dot         `json:"exceptions,omitempty"`
}

// MarshalJSON returns {"vector": {replica: counter, …}, "exceptions": ["replica:counter", …]}, the
// latter if there are any.
func (c *Context) MarshalJSON() ([]byte, error) {
	return json.Marshal(contextJSON{c.Vector(), c.Exceptions()})
}

// UnmarshalJSON replaces the context with the one that MarshalJSON wrote. After an error c is as it
// was.
func (c *Context) UnmarshalJSON(data []byte) error {
	var read contextJSON
	if err := json.Unmarshal(data, &read); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	next := ContextOf(read.Vector)
	for r, n := range next.vector {
		if r == 0 || n == 0 || n > dotted.MaxCounter {
			return errors.New("context: a vector with a counter of none")
		}
	}
	for _, d := range read.Exceptions {
		if d.Replica == 0 || d.Counter == 0 {
			return errors.New("context: an exception that is no dot")
		}
		next.Add(d)
	}
	*c = next
	return nil
}
