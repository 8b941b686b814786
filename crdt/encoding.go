package crdt

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/peerd/peerd/internal/wire"
)

// maxCounter bounds the counters that are read from elsewhere: so adding to one never overflows.
const maxCounter = 1 << 62

// MarshalText returns what String does.
func (r ReplicaID) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *ReplicaID) UnmarshalText(text []byte) error {
	id, err := ParseReplicaID(string(text))
	if err == nil {
		*r = id
	}
	return err
}

// ParseDot reads what String wrote.
func ParseDot(s string) (Dot, error) {
	id, count, ok := strings.Cut(s, ":")
	if ok {
		r, err := ParseReplicaID(id)
		n, err2 := strconv.ParseUint(count, 10, 64)
		if err == nil && err2 == nil && n <= maxCounter {
			return Dot{r, n}, nil
		}
	}
	return Dot{}, fmt.Errorf("dot %q: want a replica id, a colon and a number", s)
}

// MarshalText returns what String does.
func (d Dot) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Dot) UnmarshalText(text []byte) error {
	read, err := ParseDot(string(text))
	if err == nil {
		*d = read
	}
	return err
}

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
		extra := readFields(r, contextFields)
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
		if r == 0 || n == 0 || n > maxCounter {
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
