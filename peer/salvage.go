package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	spacestore "github.com/peerd/peerd/store/space"
)

// Salvaged is one write of a peer that no other is known to have. Its JSON is a line of "peerd
// salvage".
type Salvaged struct {
	Space   string `json:"space"`
	Replica string `json:"replica"`
	Dot     uint64 `json:"dot"` // which of the replica's mutations it is
	// Time is when it was written, by the peer's clock; left out of what is found in the cells alone.
	Time *time.Time `json:"time,omitempty"`
	Key  Bytes      `json:"key"`
	// Path leads from the key to what was written: "map" and "set" with the name of a field or an
	// element, then "string" or "flag", as in HTTP. It is empty where a whole key was cleared.
	Path []SalvagedStep `json:"path"`
	// Operation is "set" a value, "add" to a counter, "insert" an element, "enable" a flag, "remove",
	// "clear" all under the path, "reset", which goes with a clear and is not to be done again, or
	// "unknown".
	Operation string `json:"operation"`
	Value     *Bytes `json:"value,omitempty"`  // that was set
	Amount    int64  `json:"amount,omitempty"` // that was added
	Total     int64  `json:"total,omitempty"`  // that the replica has counted there, with that
}

// SalvagedStep is one part of a path.
type SalvagedStep struct {
	Type string `json:"type"`
	Name Bytes  `json:"name,omitempty"`
}

// Bytes are a JSON string if they are text, and else an object with their base64.
type Bytes []byte

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) {
	if utf8.Valid(b) {
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false) // whoever encodes the whole says whether it goes into HTML
		err := e.Encode(string(b))
		return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
	}
	return json.Marshal(map[string][]byte{"base64": b})
}

// Salvage calls fn with the writes in a stopped peer's directory that no other peer is known to
// have: its own, and after a fork those of the version that is there, whoever wrote them. They are,
// space by space, in the order of writing, but for those that the log no longer has, which come last. What is not
// known is told rather than left out. It changes nothing, and needs the directory for itself:
// store.ErrLocked is wrapped if a peer runs there. An error of fn ends it and is returned. What
// cannot be read is passed over, and named by the error in the end, which then wraps
// store.ErrCorrupt.
func Salvage(dir string, fn func(Salvaged) error) (err error) {
	path := filepath.Join(dir, storeDir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory %s has no store", dir)
	}
	st, err := badger.Open(path, badger.Options{})
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	log, err := openLog(dir, st)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	table, err := openTable(st, log)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	committer, all := spacestore.NewCommitter(log), table.Spaces()
	var damaged error
	for _, space := range all {
		var told error
		err := engine.Salvage(spacestore.NewTree(st, space.Number), committer.Log(space.Number, space.From),
			func(s engine.Salvaged) error {
				told = fn(salvagedOf(space.Name, s))
				return told
			})
		switch {
		case told != nil:
			return told
		case err != nil && !errors.Is(err, store.ErrCorrupt):
			return err
		case damaged == nil:
			damaged = err
		}
	}
	return damaged
}

func salvagedOf(space string, s engine.Salvaged) Salvaged {
	d := delta.Describe(s.Op)
	out := Salvaged{Space: space, Replica: s.Dot.Replica.String(), Dot: s.Dot.Counter, Key: Bytes(d.Key), Path: []SalvagedStep{},
		Operation: d.Operation, Amount: d.Amount, Total: d.Total}
	if s.Time != 0 {
		at := s.Time.Wall().UTC()
		out.Time = &at
	}
	if d.Operation == "set" {
		value := Bytes(d.Value)
		out.Value = &value
	}
	for _, step := range d.Path {
		out.Path = append(out.Path, SalvagedStep{Type: step.Type.String(), Name: Bytes(step.Name)})
	}
	return out
}
