package httpapi

import (
	"fmt"

	"github.com/peerd/peerd/crdt"
)

// streamForm is the form of streams: of their entries, as they are. What groups of consumers have
// read is not told.
var streamForm = form{typ: crdt.TypeStream, member: "entries", converter: streamConverter{}}

// streamEntry is an entry of a stream.
type streamEntry struct {
	ID string `json:"id"`
	// Fields are fields, each with its value behind it.
	Fields []octets `json:"fields"`
}

type streamConverter struct{}

func (streamConverter) given(v *value) bool { return v.Entries != nil }

func (streamConverter) check(v *value, _ int) error {
	last, equal := crdt.StreamID{}, 0
	for _, e := range *v.Entries {
		id, ok := parseEntryID(e.ID)
		if equal++; id != last {
			equal = 1
		}
		switch {
		case !ok || id == crdt.StreamID{} || id.Compare(last) < 0:
			return badRequest(fmt.Sprintf("entry %q: ids are of two numbers, as 1700000000000-0, greater than 0-0, and none is "+
				"less than the one before", e.ID))
		case equal > crdt.MaxBeside:
			return badRequest(fmt.Sprintf("entry %q: at most %d have one id", e.ID, crdt.MaxBeside))
		case len(e.Fields) == 0 || len(e.Fields)%2 == 1:
			return badRequest(fmt.Sprintf("entry %q: each field needs a value behind it", e.ID))
		}
		last = id
	}
	return nil
}

func parseEntryID(text string) (id crdt.StreamID, ok bool) {
	_, err := fmt.Sscanf(text, "%d-%d", &id.Ms, &id.Seq)
	return id, err == nil && id.String() == text
}

func (streamConverter) read(r *reader, at spot, after *string, limit int, v *value) (
	next *string, err error) {
	all := []streamEntry{}
	v.Entries = &all
	from := crdt.StreamID{}
	if after != nil {
		id, _ := parseEntryID(*after)
		from, _ = id.Next()
	}
	for e := range at.in.Stream(at.name).Range(from, crdt.MaxStreamID) {
		if last := len(all) - 1; last+1 >= limit && all[last].ID != e.ID.String() {
			return &all[last].ID, nil
		}
		shown, size := streamEntry{ID: e.ID.String()}, 0
		for _, f := range e.Fields {
			shown.Fields = append(shown.Fields, octets(f))
			size += len(f) + memberSize
		}
		all = append(all, shown)
		if err := r.spend(1, size); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (streamConverter) write(at spot, v *value) error {
	for _, e := range *v.Entries {
		id, _ := parseEntryID(e.ID)
		fields := make([]string, len(e.Fields))
		for i, f := range e.Fields {
			fields[i] = string(f)
		}
		if err := at.in.Stream(at.name).AddBeside(id, fields...); err != nil {
			return err
		}
	}
	return nil
}
