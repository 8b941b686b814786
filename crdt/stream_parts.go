package crdt

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"
)

// What a stream holds, with its groups, as names and values: to be copied, and to be written down
// elsewhere. A name begins with what the part is. Parts stand in the order in which they are to be
// added.
const (
	partEntry    = 'e' // the id's name; the entry's payload
	partInfo     = 'i' // StreamInfo
	partGroup    = 'g' // the group; GroupInfo, and up to which id all was delivered
	partConsumer = 'u' // the group, the consumer; when it was seen
	partPending  = 'p' // the group, the id's name; the time, the count, the consumer
)

var errPart = errors.New("no part of a stream")

// Parts passes what the stream holds, with its groups, for AddPart of another one. Of a group it
// says up to which id everything was delivered: if entries wait that came late, others behind them
// will be delivered again.
func (s Stream) Parts() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for e := range s.Range(StreamID{}, MaxStreamID) {
			if !yield(string(partEntry)+e.ID.name(), payloadOf(e.Fields)[1:]) {
				return
			}
		}
		info := s.Info()
		value := appendID(appendID(nil, info.Last), info.MaxDeleted)
		if !yield(string(partInfo), binary.AppendUvarint(value, uint64(info.Added))) {
			return
		}
		for name := range s.Groups() {
			if !s.Group(name).parts(name, yield) {
				return
			}
		}
	}
}

func (g Group) parts(name string, yield func(string, []byte) bool) bool {
	st, _ := g.state()
	value := appendID(appendID(nil, st.Last), g.delivered(st))
	if !yield(string(partGroup)+name, binary.AppendUvarint(value, uint64(st.Read+1))) {
		return false
	}
	inGroup := func(part rune) string { return string(appendSized([]byte(string(part)), name)) }
	for c := range g.Consumers() {
		seen := binary.AppendUvarint(nil, uint64(c.Seen.UnixMilli()))
		if !yield(inGroup(partConsumer)+c.Name, seen) {
			return false
		}
	}
	for p := range g.Pending(StreamID{}, MaxStreamID) {
		value := binary.AppendUvarint(nil, uint64(p.Delivered.UnixMilli()))
		value = append(binary.AppendUvarint(value, uint64(p.Count)), p.Consumer...)
		if !yield(inGroup(partPending)+p.ID.name(), value) {
			return false
		}
	}
	return true
}

// delivered returns an id up to which all that is here was delivered.
func (g Group) delivered(st groupState) StreamID {
	in, _ := g.stream.inside()
	from, some := st.next(in)
	to := maxID(in.last, st.Last)
	if !some {
		return to
	}
	g.stream.walk(g.stream.before(from), func(c streamCell) bool {
		for _, e := range c.cell {
			if kindEntry.marks(e) && st.lacks(in, e.Dot.Replica, c.id) {
				to, _ = c.id.Previous()
				return false
			}
		}
		return true
	})
	return to
}

// AddPart adds a part to a stream that was empty before the first. What it does not understand it
// refuses.
func (s Stream) AddPart(name string, value []byte) error {
	if name == "" {
		return errPart
	}
	r := payloadReader{rest: value}
	part, name := name[0], name[1:]
	switch part {
	case partEntry:
		return s.addEntry(name, value)
	case partInfo:
		if info := (StreamInfo{r.id(), r.id(), int64(r.number())}); !r.bad {
			return s.SetInfo(info)
		}
	case partGroup:
		last, delivered, read := r.id(), r.id(), int64(r.number())-1
		if g := s.Group(name); !r.bad && !g.Exists() {
			return g.begin(groupState{}, GroupInfo{last, read}, delivered)
		}
	case partConsumer, partPending:
		of := payloadReader{rest: []byte(name)}
		g := s.Group(of.text())
		at := time.UnixMilli(int64(r.number()))
		if of.bad || r.bad || !g.Exists() {
			return errPart
		}
		if part == partConsumer {
			_, err := g.see(string(of.rest), at)
			return err
		}
		id, ok := parseStreamName(string(of.rest))
		if count := int(r.number()); ok && !r.bad {
			return g.putPending(Pending{id, string(r.rest), at, count})
		}
	}
	return errPart
}

func (s Stream) addEntry(name string, value []byte) error {
	id, ok := parseStreamName(name)
	r := payloadReader{rest: value}
	var fields []string
	for len(r.rest) > 0 {
		fields = append(fields, r.text())
	}
	if !ok || r.bad || len(fields)%2 == 1 {
		return errPart
	}
	return s.AddBeside(id, fields...)
}

func (s Stream) copyTo(to Fields, name string) error {
	copied := to.Stream(name)
	for part, value := range s.Parts() {
		if err := copied.AddPart(part, value); err != nil {
			return err
		}
	}
	return nil
}
