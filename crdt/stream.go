package crdt

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// Stream is a log of entries in the order of their ids, as Redis has it, each of some fields with
// values. Each entry has a cell of its own, so that adding to a stream of a million costs what
// adding to an empty one does.
//
// Ids that Add makes are greater than all that the replica has seen, and no two replicas make the
// same: their sequence number ends with what tells replicas apart. Entries of several replicas are
// in the order of their ids, so one that arrives late may stand before others that are there
// already. Who reads by the greatest id that it knows passes it; a Group does not. If two replicas
// give two entries the same id at once with AddAs, both stay, and are read, removed and
// acknowledged together.
//
// Removing an entry, or the first ones, removes what the remover has seen. Clear, or removing the
// name, takes the groups away as well; what others add or read at the same time stays. A stream
// without entries exists, as in Redis, until that.
//
// Cost: adding, and reading an entry, O(log cells); and a look at a small cell for each replica id
// that has added to it. As shares of a counter do, these stay until the stream is removed, or the
// id has ended and its entries are gone.
//
// How what is to be read is known by the origins of entries, instead of by the greatest id, is
// peerd's own; what it has from version vectors is in Parker et al.: Detection of Mutual
// Inconsistency in Distributed Systems (IEEE TSE 1983).
type Stream struct {
	ref
}

// Stream returns the stream under name.
func (f Fields) Stream(name string) Stream { return Stream{f.named(name, TypeStream)} }

// StreamID is the id of an entry: milliseconds since 1970, and a number that orders entries within
// one.
type StreamID struct{ Ms, Seq uint64 }

// MaxStreamID is the greatest id.
var MaxStreamID = StreamID{math.MaxUint64, math.MaxUint64}

var (
	// ErrStreamID is wrapped by AddAs and AddBeside for an id that is not greater than all that the
	// stream had. Nothing changed.
	ErrStreamID = errors.New("the id is not greater than the last of the stream")
	// ErrStreamFull is returned by Add when the greatest id was used.
	ErrStreamFull = errors.New("the stream has had the greatest id")
)

// Compare orders ids.
func (id StreamID) Compare(o StreamID) int {
	return cmp.Or(cmp.Compare(id.Ms, o.Ms), cmp.Compare(id.Seq, o.Seq))
}

// String returns the id as Redis writes it, as in "1700000000000-1".
func (id StreamID) String() string {
	return strconv.FormatUint(id.Ms, 10) + "-" + strconv.FormatUint(id.Seq, 10)
}

// Next returns the id behind this one; ok is false if there is none.
func (id StreamID) Next() (next StreamID, ok bool) {
	switch {
	case id.Seq < math.MaxUint64:
		return StreamID{id.Ms, id.Seq + 1}, true
	case id.Ms < math.MaxUint64:
		return StreamID{id.Ms + 1, 0}, true
	}
	return id, false
}

// Previous returns the id before this one; ok is false if there is none.
func (id StreamID) Previous() (previous StreamID, ok bool) {
	switch {
	case id.Seq > 0:
		return StreamID{id.Ms, id.Seq - 1}, true
	case id.Ms > 0:
		return StreamID{id.Ms - 1, math.MaxUint64}, true
	}
	return id, false
}

// name returns the name of the id's cell: the order of these bytes is that of ids.
func (id StreamID) name() string {
	var room [18]byte
	return string(appendNumber(appendNumber(room[:0], id.Ms), id.Seq))
}

// appendNumber appends how many bytes a number has, and these.
func appendNumber(b []byte, n uint64) []byte {
	size := (bits.Len64(n) + 7) / 8
	b = append(b, byte(size+1))
	for ; size > 0; size-- {
		b = append(b, byte(n>>(8*(size-1))))
	}
	return b
}

// parseStreamName reads what name returned.
func parseStreamName(name string) (id StreamID, ok bool) {
	ms, rest, first := cutNumber(name)
	seq, rest, second := cutNumber(rest)
	return StreamID{ms, seq}, first && second && rest == ""
}

func cutNumber(name string) (n uint64, rest string, ok bool) {
	if name == "" || name[0] < 1 || name[0] > 9 || len(name) < int(name[0]) {
		return 0, "", false
	}
	size := int(name[0])
	for _, b := range []byte(name[1:size]) {
		n = n<<8 | uint64(b)
	}
	return n, name[size:], true
}

// Below the type stand, beside the entries' names, that of what is known of the whole stream, and
// one for each group. No entry has such a name; what they hold has a type again, so that it has
// another shape.
const (
	streamState      = ""
	groupPrefix      = "g"
	typeTail    Type = 't' // below streamState, a cell for each replica: see tail
	typeInfo    Type = 'i' // below streamState: see streamInfo
	streamShape      = string(rune(TypeStream))
)

const (
	kindEntry    kind = 0x20 // of a stream: fields and values
	kindTail     kind = 0x21 // see tail
	kindStream   kind = 0x22 // see streamInfo
	kindGroup    kind = 0x23 // see groupState
	kindConsumer kind = 0x24 // when it was seen
	kindPending  kind = 0x25 // see Pending
)

// StreamEntry is an entry of a stream.
type StreamEntry struct {
	ID     StreamID
	Fields []string // each with its value behind it
}

// StreamInfo is what a stream tells beside its entries.
type StreamInfo struct {
	Last       StreamID // the greatest id that it had, or was set
	MaxDeleted StreamID // the greatest one that Remove removed
	Added      int64    // how many entries were added; where several replicas tidy up at once, about so many
}

// Len returns the number of ids. O(1) for a key, O(entries) for a field of a map.
func (s Stream) Len() int {
	if s.depth == 1 {
		sum, _ := s.summary()
		return sum.Visible.Of(streamShape)
	}
	n := 0
	s.walk(s.before(StreamID{}), func(streamCell) bool { n++; return true })
	return n
}

// Before returns how many ids of entries are less than one, which need not be there. O(log cells).
func (s Stream) Before(id StreamID) int {
	n, _ := read(s.ref, func() (int, error) { return s.tx.Rank(s.at, id.name()) })
	return n
}

// streamCell is a cell of entries: nearly always one.
type streamCell struct {
	id   StreamID
	cell dotted.Cell
}

// before returns an address before that of an id, and after those of smaller ones.
func (s Stream) before(id StreamID) dotted.Address {
	a := s.beyond(id)
	return a[:len(a)-2] // as far as the end of its name
}

// beyond returns the address up to which an id reaches.
func (s Stream) beyond(id StreamID) dotted.Address { return s.at.Name(id.name()) }

// walk calls fn with the cells of entries beyond an address.
func (s Stream) walk(after dotted.Address, fn func(streamCell) bool) {
	_ = s.scan(after, func(a dotted.Address, c dotted.Cell) bool {
		name, rest, ok := a[len(s.at):].CutName()
		id, isEntry := parseStreamName(name)
		if !ok || !isEntry || rest != "" {
			return name == streamState // groups stand behind the entries
		}
		return !c.Visible() || fn(streamCell{id, c})
	})
}

// Range passes the entries from one id to another, both included, in the order of their ids.
func (s Stream) Range(from, to StreamID) iter.Seq[StreamEntry] {
	parts := inParts(s.ref, s.before(from), s.walk, func(c streamCell) dotted.Address { return s.beyond(c.id) })
	return func(yield func(StreamEntry) bool) {
		for c := range parts {
			if c.id.Compare(to) > 0 || !c.pass(yield) {
				return
			}
		}
	}
}

// pass passes the entries of a cell.
func (c streamCell) pass(yield func(StreamEntry) bool) bool {
	for _, e := range c.cell {
		if kindEntry.marks(e) && !yield(StreamEntry{c.id, fieldsIn(e)}) {
			return false
		}
	}
	return true
}

// Backward passes what Range does, from the last to the first. O(log cells) for the first.
func (s Stream) Backward(from, to StreamID) iter.Seq[StreamEntry] {
	return func(yield func(StreamEntry) bool) {
		last := to.name() + "\x00" // which is behind it
		for size := firstPart; ; size = min(4*size, lastPart) {
			names := s.namesBefore(last, size)
			for _, name := range names {
				id, ok := parseStreamName(name)
				if ok && id.Compare(from) < 0 {
					return
				}
				c, _ := s.named(name).cell()
				if ok && !(streamCell{id, c}).pass(yield) {
					return
				}
			}
			if len(names) < size {
				return
			}
			last = names[size-1]
		}
	}
}

// namesBefore returns the greatest names of entries less than one, at most some.
func (s Stream) namesBefore(last string, most int) (names []string) {
	_, _ = read(s.ref, func() (struct{}, error) {
		before, err := s.tx.Rank(s.at, last)
		if err != nil || before == 0 {
			return struct{}{}, err
		}
		return struct{}{}, s.tx.Ranked(s.at, before-1, true, func(name string) bool {
			names = append(names, name)
			return len(names) < most
		})
	})
	return names
}

// Has reports whether there is an entry with the id. O(log cells).
func (s Stream) Has(id StreamID) bool {
	c, _ := s.named(id.name()).cell()
	return c.Visible()
}

// Add adds an entry of fields, each with its value behind it, under a new id, which it returns:
// that of a time, or greater if the stream has a greater one already. A last field without a value
// has an empty one. It returns ErrTooLong for an entry of more than MaxValue bytes.
func (s Stream) Add(now time.Time, fields ...string) (StreamID, error) {
	in, err := s.inside()
	if err != nil {
		return StreamID{}, err
	}
	id, ok := nextID(in.last, uint64(milliOf(now)), s.tx.Replica())
	if !ok {
		return StreamID{}, ErrStreamFull
	}
	return id, s.add(in, id, fields)
}

// Sequence numbers of ids that Add makes: a count within the millisecond, and what tells replicas
// apart.
const tagBits = 32

// nextID returns an id greater than last that is made at a time, in milliseconds, and by no other
// replica.
func nextID(last StreamID, now uint64, replica ReplicaID) (id StreamID, ok bool) {
	// Some of the 64 random bits: enough to never meet within a millisecond, and ids stay within
	// 2⁵³.
	tag := uint64(replica>>tagBits) ^ uint64(replica)&(1<<tagBits-1)
	if now > last.Ms {
		return StreamID{now, tag}, true
	}
	if id = (StreamID{last.Ms, last.Seq>>tagBits<<tagBits | tag}); id.Compare(last) > 0 {
		return id, true
	}
	if last.Seq>>tagBits < 1<<(64-tagBits)-1 {
		return StreamID{last.Ms, (last.Seq>>tagBits+1)<<tagBits | tag}, true
	}
	return StreamID{last.Ms + 1, tag}, last.Ms < math.MaxUint64
}

// AddAs adds an entry under an id. It returns ErrStreamID if the stream has had it, or a greater
// one.
func (s Stream) AddAs(id StreamID, fields ...string) error {
	in, err := s.inside()
	switch {
	case err != nil:
		return err
	case id.Compare(in.last) <= 0:
		return ErrStreamID
	}
	return s.add(in, id, fields)
}

// MaxBeside is how many entries of one id AddBeside makes at most: each copies those before it.
const MaxBeside = 64

// AddBeside is AddAs that takes the last id, too, up to MaxBeside times: both entries stay, as
// those of two replicas that gave it at once, but a Group that has read the id passes the second.
// So a stream takes what Range passes of another one.
func (s Stream) AddBeside(id StreamID, fields ...string) error {
	in, err := s.inside()
	switch {
	case err != nil:
		return err
	case id == StreamID{} || id.Compare(in.last) < 0:
		return ErrStreamID
	}
	c, err := s.named(id.name()).cell()
	if err == nil && len(c) >= MaxBeside {
		err = fmt.Errorf("%w, and %d entries have it", ErrStreamID, len(c))
	}
	if err != nil {
		return err
	}
	return s.add(in, id, fields)
}

func (s Stream) add(in inside, id StreamID, fields []string) error {
	payload := payloadOf(fields)
	if len(payload) > MaxValue {
		return fmt.Errorf("%w: an entry of %d bytes (limit %d)", ErrTooLong, len(payload), MaxValue)
	}
	if err := s.tail(s.tx.Replica()).err; err != nil { // its path may be longer than the entry's
		return err
	}
	e := s.named(id.name())
	if err := e.put(payload, nil); err != nil {
		return err
	}
	own := in.tails[s.tx.Replica()]
	if own.epoch == 0 {
		c, err := e.cell()
		if err != nil {
			return err
		}
		for _, d := range c.Dots() {
			if d.Replica == s.tx.Replica() {
				own.epoch = d.Counter
			}
		}
	}
	own.last, own.count = id, own.count+1
	return s.putTail(s.tx.Replica(), own)
}

// Remove removes the entries with some ids, and returns how many there were.
func (s Stream) Remove(ids ...StreamID) (removed int, err error) {
	for _, id := range ids { // first: a path may be too long
		if err := s.named(id.name()).err; err != nil {
			return 0, err
		}
	}
	greatest := StreamID{}
	for _, id := range ids {
		e := s.named(id.name())
		c, err := e.cell()
		if err != nil {
			return removed, err
		}
		if !c.Visible() {
			continue
		}
		if err := e.replace(c, nil); err != nil {
			return removed, err
		}
		if removed++; id.Compare(greatest) > 0 {
			greatest = id
		}
	}
	if removed == 0 {
		return 0, nil
	}
	return removed, s.tidy(greatest)
}

// RemoveFirst removes the first entries, at most so many, and returns how many there were. O(what
// it removes).
func (s Stream) RemoveFirst(most int) (removed int, err error) {
	var first []streamCell
	if most > 0 {
		s.walk(s.before(StreamID{}), func(c streamCell) bool {
			first = append(first, c)
			return len(first) < most
		})
	}
	for _, c := range first {
		if err := s.named(c.id.name()).replace(c.cell, nil); err != nil {
			return removed, err
		}
		removed++
	}
	if err := s.broken(); err != nil || removed == 0 {
		return removed, err
	}
	return removed, s.tidy(StreamID{})
}

// Clear removes the entries and the groups, and reports whether there was a stream. What is added
// at the same time survives it. For a key of many entries one small operation that looks at none of
// them.
func (s Stream) Clear() (existed bool, err error) { return s.clear() }

// Info returns what the stream tells beside its entries.
func (s Stream) Info() StreamInfo {
	in, _ := s.inside()
	return in.info()
}

// SetInfo sets it, of a stream that is made if it is not there. Last must not be less than the
// greatest id of an entry.
func (s Stream) SetInfo(info StreamInfo) error {
	in, err := s.inside()
	if err != nil {
		return err
	}
	for _, id := range in.origins() {
		if t := in.tails[id]; t.last.Compare(info.Last) > 0 {
			t.last = info.Last
			if err := s.putTail(id, t); err != nil {
				return err
			}
		}
		info.Added -= in.tails[id].count
	}
	in.StreamInfo = info
	return s.putInfo(in)
}

// tail is what is known of the entries of one replica, its origin. Each has a cell, that its
// replica replaces when it adds. Ids of one origin grow, as long as the stream is not removed and
// made anew: that is a new epoch.
type tail struct {
	epoch uint64 // the number of the origin's dot with which it began to add
	last  StreamID
	count int64
	dots  []Dot // of the entries of its cell
}

// inside is what a stream has beside its entries.
type inside struct {
	StreamInfo // as it stands in its cell: of Added what no tail counts
	last       StreamID
	tails      map[ReplicaID]tail
	dots       []Dot // of the cell of StreamInfo
}

func (in inside) info() StreamInfo {
	info := StreamInfo{in.last, in.MaxDeleted, in.Added}
	for _, t := range in.tails {
		info.Added += t.count
	}
	return info
}

// origins returns the replicas that added, in order.
func (in inside) origins() []ReplicaID {
	ids := make([]ReplicaID, 0, len(in.tails))
	for id := range in.tails {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// inside reads what the stream has beside its entries. O(replicas that have added).
func (s Stream) inside() (in inside, err error) {
	in.tails = map[ReplicaID]tail{}
	state := s.named(streamState)
	err = state.scan("", func(a dotted.Address, c dotted.Cell) bool {
		switch t, rest, _ := a[len(state.at):].CutType(); t {
		case typeInfo:
			in.readInfo(c)
		case typeTail:
			if name, _, ok := rest.CutName(); ok && len(name) == 8 {
				in.tails[ReplicaID(binary.BigEndian.Uint64([]byte(name)))] = tailOf(c)
			}
		}
		return true
	})
	in.last = in.Last
	for _, t := range in.tails {
		in.last = maxID(in.last, t.last)
	}
	return in, err
}

func maxID(a, b StreamID) StreamID {
	if a.Compare(b) < 0 {
		return b
	}
	return a
}

func minID(a, b StreamID) StreamID {
	if a.Compare(b) > 0 {
		return b
	}
	return a
}

// tailOf returns what a cell says of an origin. Others than that write there only if they set the
// last id.
func tailOf(c dotted.Cell) (t tail) {
	t.dots = c.Dots()
	for _, e := range c {
		if !kindTail.marks(e) {
			continue
		}
		r := payloadReader{rest: e.Payload[1:]}
		epoch, last, count := r.number(), r.id(), int64(r.number())
		if r.bad || epoch < t.epoch {
			continue
		}
		if epoch > t.epoch {
			t.epoch, t.last, t.count = epoch, last, count
		}
		t.last, t.count = maxID(t.last, last), max(t.count, count)
	}
	return t
}

func (s Stream) putTail(origin ReplicaID, t tail) error {
	payload := binary.AppendUvarint([]byte{byte(kindTail)}, t.epoch)
	payload = binary.AppendUvarint(appendID(payload, t.last), uint64(t.count))
	return s.tail(origin).put(payload, t.dots)
}

// tail returns the ref of an origin's tail.
func (s Stream) tail(origin ReplicaID) ref {
	return s.named(streamState, typeTail).named(string(binary.BigEndian.AppendUint64(nil, uint64(origin))))
}

// readInfo reads the cell of StreamInfo. Of concurrent ones the greatest of each counts.
func (in *inside) readInfo(c dotted.Cell) {
	in.dots = c.Dots()
	read := false
	for _, e := range c {
		if !kindStream.marks(e) {
			continue
		}
		r := payloadReader{rest: e.Payload[1:]}
		last, deleted, added := r.id(), r.id(), int64(r.number())
		if !read {
			in.Added, read = added, true
		}
		in.Last, in.MaxDeleted, in.Added = maxID(in.Last, last), maxID(in.MaxDeleted, deleted), max(in.Added, added)
	}
}

func (s Stream) putInfo(in inside) error {
	payload := appendID(appendID([]byte{byte(kindStream)}, in.Last), in.MaxDeleted)
	return s.named(streamState, typeInfo).put(binary.AppendUvarint(payload, uint64(in.Added)), in.dots)
}

// tidy forgets the tails of replicas that have ended and of whose entries none is left, and notes
// the greatest id that was removed by name.
func (s Stream) tidy(deleted StreamID) error {
	in, err := s.inside()
	if err != nil {
		return err
	}
	var first *StreamID
	changed := deleted.Compare(in.MaxDeleted) > 0
	in.MaxDeleted = maxID(in.MaxDeleted, deleted)
	for _, origin := range in.origins() {
		t := in.tails[origin]
		if origin == s.tx.Replica() || !s.tx.Ended(origin) {
			continue
		}
		if first == nil {
			id := s.first()
			first = &id
		}
		if t.last.Compare(*first) >= 0 {
			continue
		}
		in.Last, in.Added, changed = maxID(in.Last, t.last), in.Added+t.count, true
		if err := s.tail(origin).remove(t.dots); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	return s.putInfo(in)
}

// first returns the id of the first entry, the greatest one if there is none.
func (s Stream) first() StreamID {
	first := MaxStreamID
	s.walk(s.before(StreamID{}), func(c streamCell) bool {
		first = c.id
		return false
	})
	return first
}

func (s Stream) appendJSON(b []byte) []byte {
	b = append(b, '[')
	first := true
	for e := range s.Range(StreamID{}, MaxStreamID) {
		if !first {
			b = append(b, ',')
		}
		first = false
		shown, _ := json.Marshal(struct {
			ID     string   `json:"id"`
			Fields []string `json:"fields"`
		}{e.ID.String(), e.Fields})
		b = append(b, shown...)
	}
	return append(b, ']')
}

// payloadOf returns the payload of an entry.
func payloadOf(fields []string) []byte {
	size := 1
	for _, f := range fields {
		size += binary.MaxVarintLen32 + len(f)
	}
	payload := append(make([]byte, 0, size), byte(kindEntry))
	for _, f := range fields {
		payload = appendSized(payload, f)
	}
	return payload
}

// appendSized appends a text with its length in front.
func appendSized(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendID(b []byte, id StreamID) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, id.Ms), id.Seq)
}

// payloadReader reads what was appended. What is missing is zero, and bad set.
type payloadReader struct {
	rest []byte
	bad  bool
}

func (r *payloadReader) number() uint64 {
	n, width := binary.Uvarint(r.rest)
	if width <= 0 {
		r.rest, r.bad = nil, true
		return 0
	}
	r.rest = r.rest[width:]
	return n
}

func (r *payloadReader) id() StreamID { return StreamID{r.number(), r.number()} }

func (r *payloadReader) text() string {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.rest, r.bad = nil, true
		return ""
	}
	text := string(r.rest[:n])
	r.rest = r.rest[n:]
	return text
}

// fieldsIn returns the fields and values of an entry.
func fieldsIn(e dotted.Entry) (fields []string) {
	r := payloadReader{rest: e.Payload[1:]}
	for len(r.rest) > 0 {
		if text := r.text(); !r.bad {
			fields = append(fields, text)
		}
	}
	if len(fields)%2 == 1 {
		fields = append(fields, "")
	}
	return fields
}

// shownID returns the name of an entry as people write it.
func shownID(name string) string {
	if id, ok := parseStreamName(name); ok {
		return id.String()
	}
	return name
}
