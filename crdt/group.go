package crdt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// Group is a consumer group of a stream, as in Redis: it knows which entries were delivered to its
// consumers, and which of these are pending, as nobody has acknowledged them.
//
// It skips no entry, also none that arrives from another replica when greater ids were delivered
// already: what was delivered is known for each origin of entries, in the order in which that added
// them. An entry that two replicas deliver at the same time is delivered twice; it is pending for
// who got it last, until either acknowledges what it has seen of that. If an entry is acknowledged
// and claimed at the same time it is pending for who claimed it.
//
// For that a State must have got the deltas of each replica in the order in which this made them,
// or whole states, before it reads, creates or sets a group: what it then lacks of a replica that
// is before what it has, it passes over. A database sees to that.
//
// What is delivered or claimed while others remove the group or the stream keeps the group, with
// that. Of groups that two replicas create at the same time one is made, which passes over what
// both do, and no more. SetID counts against all that was delivered at the same time; of several,
// the latest.
type Group struct {
	ref    // of its name, below the stream
	stream Stream
	within *readLimit // nil: none
}

// readLimit is at how many entries Read or RemoveConsumer may look, and how many bytes of them
// Read may deliver.
type readLimit struct{ entries, bytes int }

// Below a group's name.
const (
	typeGroup    Type = 'g' // a cell: see groupState
	typeConsumer Type = 'u' // a cell for each consumer
	typePending  Type = 'p' // a cell for each pending id
)

var (
	// ErrNoGroup is returned for a group that is not there. Nothing changed.
	ErrNoGroup = errors.New("there is no such consumer group")
	// ErrBeyond is returned by Read and RemoveConsumer of a group Within limits if they go beyond
	// one. Nothing changed.
	ErrBeyond = errors.New("more would be read than was allowed")
)

// Group returns the group under name, which may be one byte shorter than MaxName.
func (s Stream) Group(name string) Group { return Group{ref: s.named(groupPrefix + name), stream: s} }

// Groups passes the names of the groups, in order. O(groups · log cells).
func (s Stream) Groups() iter.Seq[string] {
	return func(yield func(string) bool) {
		prefix := s.at.Name(groupPrefix)
		for after := prefix[:len(prefix)-2]; ; {
			name, found := "", false
			_ = s.scan(after, func(a dotted.Address, _ dotted.Cell) bool {
				name, _, found = a[len(s.at):].CutName()
				return false
			})
			if !found || name == "" || name[:1] != groupPrefix {
				return
			}
			if g := s.Group(name[1:]); g.Exists() && !yield(name[1:]) {
				return
			}
			after = s.at.Name(name).Type(lastType)
		}
	}
}

// GroupInfo is how far a group has read.
type GroupInfo struct {
	Last StreamID // the greatest id that was delivered, or behind which it begins
	Read int64    // how many of the entries ever added stand before what it reads next; -1 if that is not known
}

// groupState is what a group's own cell holds.
type groupState struct {
	GroupInfo
	set    dotted.Time // when SetID was called last
	floor  StreamID    // nothing up to it is delivered: it was greater than all when it was set
	marks  map[ReplicaID]mark
	exists bool
	dots   []Dot // of the entries of its cell
}

// mark says which entries of one origin were delivered, and which are passed over: those before all
// spans. They are the union of what concurrent ones say was delivered, and what each of them passes
// over.
type mark struct {
	epoch uint64 // see tail
	spans []span // of ids that were delivered, in order and apart; one or more
}

// span is of the ids greater than one, up to another. Of the spans of a mark only the first may
// have none.
type span struct{ after, to StreamID }

// in returns what a mark says in an epoch: an earlier one, as none, says nothing of what was added
// since.
func (m mark) in(epoch uint64) mark {
	if len(m.spans) == 0 || m.epoch < epoch {
		return mark{epoch, []span{{}}}
	}
	return m
}

// has reports whether an id was delivered, or is passed over.
func (m mark) has(id StreamID) bool {
	return id.Compare(m.spans[0].to) <= 0 || slices.ContainsFunc(m.spans[1:], func(s span) bool {
		return id.Compare(s.after) > 0 && id.Compare(s.to) <= 0
	})
}

func (m mark) join(o mark) mark {
	epoch := max(m.epoch, o.epoch)
	m, o = m.in(epoch), o.in(epoch)
	all := slices.Concat(m.spans, o.spans)
	slices.SortFunc(all, func(a, b span) int { return a.after.Compare(b.after) })
	spans := all[:1]
	for _, s := range all[1:] {
		if last := &spans[len(spans)-1]; s.after.Compare(last.to) <= 0 {
			last.to = maxID(last.to, s.to)
		} else if s.after != s.to {
			spans = append(spans, s)
		}
	}
	return mark{epoch, spans}
}

func (g Group) state() (groupState, error) {
	c, err := g.typed(typeGroup).cell()
	st := groupState{marks: map[ReplicaID]mark{}, dots: c.Dots()}
	for _, e := range c {
		if kindGroup.marks(e) {
			st.join(parseGroup(e.Payload[1:]))
		}
	}
	return st, err
}

// join takes in what another replica delivered at the same time: what either of them did was
// delivered, and what both pass over is passed over.
func (st *groupState) join(o groupState) {
	switch {
	case !st.exists || o.set > st.set:
		o.dots = st.dots
		*st = o
	case o.set == st.set:
		st.Last, st.Read = maxID(st.Last, o.Last), max(st.Read, o.Read)
		st.floor = minID(st.floor, o.floor)
		marks := make(map[ReplicaID]mark, len(st.marks))
		for _, all := range []map[ReplicaID]mark{st.marks, o.marks} {
			for origin := range all {
				marks[origin] = st.marks[origin].join(o.marks[origin])
			}
		}
		st.marks = marks
	}
}

func parseGroup(payload []byte) groupState {
	r := payloadReader{rest: payload}
	st := groupState{exists: true, marks: map[ReplicaID]mark{}}
	st.set, st.Last, st.floor, st.Read = dotted.Time(r.number()), r.id(), r.id(), int64(r.number())-1
	for len(r.rest) > 0 {
		origin, epoch, s := ReplicaID(r.number()), r.number(), span{r.id(), r.id()}
		if m := st.marks[origin]; !r.bad {
			st.marks[origin] = mark{epoch, append(m.spans, s)}
		}
	}
	return st
}

// put writes the state, which has a group be there that others remove at the same time.
func (g Group) put(st groupState) error {
	payload := binary.AppendUvarint([]byte{byte(kindGroup)}, uint64(st.set))
	payload = binary.AppendUvarint(appendID(appendID(payload, st.Last), st.floor), uint64(st.Read+1))
	for _, origin := range slices.Sorted(maps.Keys(st.marks)) {
		m := st.marks[origin]
		for _, s := range m.spans {
			payload = binary.AppendUvarint(binary.AppendUvarint(payload, uint64(origin)), m.epoch)
			payload = appendID(appendID(payload, s.after), s.to)
		}
	}
	return g.typed(typeGroup).put(payload, st.dots)
}

// lacks reports whether an entry of an origin was not delivered.
func (st *groupState) lacks(in inside, origin ReplicaID, id StreamID) bool {
	return id.Compare(st.floor) > 0 && !st.marks[origin].in(in.tails[origin].epoch).has(id)
}

// next returns an id up to which nothing is lacking, and whether anything may be behind it.
// O(origins).
func (st *groupState) next(in inside) (from StreamID, some bool) {
	from = MaxStreamID
	for origin, t := range in.tails {
		if m := st.marks[origin].in(t.epoch); m.epoch == t.epoch && m.spans[0].to.Compare(t.last) < 0 {
			some = true
			from = minID(from, m.spans[0].to)
		}
	}
	return maxID(from, st.floor), some
}

// deliver notes that all entries up to an id that are here were delivered. Others that an origin
// adds later are greater than its last; what has no origin any more has no entries.
func (st *groupState) deliver(in inside, to StreamID) {
	delivered := make(map[ReplicaID]mark, len(in.tails))
	for origin, t := range in.tails {
		m := st.marks[origin].in(t.epoch)
		begin, end := m.spans[0].after, minID(to, t.last)
		if m.epoch == t.epoch && begin.Compare(end) < 0 {
			m = m.join(mark{t.epoch, []span{{begin, end}}})
		}
		delivered[origin] = m
	}
	st.marks = delivered
}

// pass has a group that begins pass over all entries up to an id that are here.
func (st *groupState) pass(in inside, to StreamID) {
	st.marks = make(map[ReplicaID]mark, len(in.tails))
	for origin, t := range in.tails {
		passed := minID(to, t.last)
		st.marks[origin] = mark{t.epoch, []span{{passed, passed}}}
	}
}

// Exists reports whether the group is there.
func (g Group) Exists() bool {
	c, _ := g.typed(typeGroup).cell()
	return c.Visible()
}

// Info returns how far the group has read; ok is false if it is not there.
func (g Group) Info() (info GroupInfo, ok bool) {
	st, _ := g.state()
	return st.GroupInfo, st.exists
}

// Create makes the group, and reports whether it was not there. It begins behind info.Last: with
// every entry that is not here yet, and of those that are here with greater ones. Of an id beyond
// all that there are it begins with greater ones.
func (g Group) Create(info GroupInfo) (created bool, err error) {
	st, err := g.state()
	if err != nil || st.exists {
		return false, err
	}
	if _, err := g.clear(); err != nil { // what stayed of one that was removed
		return false, err
	}
	return true, g.begin(groupState{}, info, info.Last)
}

// SetID has the group begin anew behind info.Last, as Create does. It returns ErrNoGroup if there
// is none.
func (g Group) SetID(info GroupInfo) error {
	st, err := g.state()
	switch {
	case err != nil:
		return err
	case !st.exists:
		return ErrNoGroup
	}
	return g.begin(groupState{set: max(g.tx.Time(), st.set+1), dots: st.dots}, info, info.Last)
}

// begin writes a state that passes over what is here up to an id.
func (g Group) begin(st groupState, info GroupInfo, passed StreamID) error {
	in, err := g.stream.inside()
	if err != nil {
		return err
	}
	st.GroupInfo = info
	if passed.Compare(in.last) > 0 {
		st.floor = passed
	}
	st.pass(in, passed)
	return g.put(st)
}

// Advance has the group begin behind an id if it is before that.
func (g Group) Advance(to StreamID) error {
	st, err := g.state()
	if err != nil || !st.exists || to.Compare(st.Last) <= 0 {
		return err
	}
	in, err := g.stream.inside()
	if err != nil {
		return err
	}
	if st.Last = to; to.Compare(in.last) > 0 {
		st.floor = to
	}
	st.deliver(in, to)
	return g.put(st)
}

// Remove removes the group and reports whether it was there.
func (g Group) Remove() (existed bool, err error) {
	if !g.Exists() {
		return false, g.broken()
	}
	return g.clear()
}

// Within returns the group for a Read or RemoveConsumer that others wait for: if it would look at
// more entries than so many, or deliver more bytes, it returns ErrBeyond. What was delivered
// already may stand between those that were not, and be looked at.
func (g Group) Within(entries, bytes int) Group {
	g.within = &readLimit{entries, bytes}
	return g
}

func (w *readLimit) exceeded(entries, bytes int) bool {
	return w != nil && (entries > w.entries || bytes > w.bytes)
}

// MaxDelivery is how many bytes of fields and values Group.Read delivers at once, or one entry
// more.
const MaxDelivery = 8 << 20

// Read delivers to a consumer entries that were delivered to none, those with the smallest ids,
// at most so many if most is not 0, but for those of one id, which come together, and returns
// them. They are pending then, unless noAck is set. There may be more, beyond MaxDelivery. It
// returns ErrNoGroup if there is no group. O(log cells) for each entry from the first that was
// not delivered on, and for each replica that has added to the stream.
func (g Group) Read(consumer string, now time.Time, most int, noAck bool) (entries []StreamEntry, err error) {
	st, err := g.state()
	switch {
	case err != nil:
		return nil, err
	case !st.exists:
		return nil, ErrNoGroup
	}
	in, err := g.stream.inside()
	from, some := st.next(in)
	if err != nil || !some {
		return nil, err
	}
	x, to, size, looks := g.stream.extent(in), MaxStreamID, 0, 0
	g.stream.walk(g.stream.before(from), func(c streamCell) bool {
		for _, e := range c.cell {
			if kindEntry.marks(e) && st.lacks(in, e.Dot.Replica, c.id) {
				entries = append(entries, StreamEntry{c.id, fieldsIn(e)})
				st.count(x, c.id)
				size += len(e.Payload)
			}
		}
		if looks++; g.within.exceeded(looks, size) {
			err = ErrBeyond
			return false
		}
		if most > 0 && len(entries) >= most || size > MaxDelivery {
			to = c.id
			return false
		}
		return true
	})
	if err = cmp.Or(g.broken(), err); err != nil {
		return nil, err
	}
	st.deliver(in, to)
	if len(entries) == 0 { // what was not delivered is gone
		return nil, g.put(st)
	}
	var pending []Pending
	if !noAck {
		for _, e := range entries {
			pending = append(pending, Pending{ID: e.ID, Consumer: consumer, Delivered: now, Count: 1})
		}
	}
	return entries, g.assign(st, consumer, now, pending)
}

// Pending is an entry that was delivered and not acknowledged.
type Pending struct {
	ID        StreamID
	Consumer  string
	Delivered time.Time // last
	Count     int       // how often
}

// Assign has entries be pending for a consumer, whoever had them. It returns ErrNoGroup if there
// is no group. O(entries · log cells).
func (g Group) Assign(consumer string, now time.Time, pending []Pending) error {
	st, err := g.state()
	switch {
	case err != nil:
		return err
	case !st.exists:
		return ErrNoGroup
	}
	return g.assign(st, consumer, now, pending)
}

func (g Group) assign(st groupState, consumer string, now time.Time, pending []Pending) error {
	for _, p := range pending { // first: a name may be too long
		if err := g.pendingAt(p.ID).err; err != nil {
			return err
		}
	}
	if _, err := g.see(consumer, now); err != nil {
		return err
	}
	for _, p := range pending {
		p.Consumer = consumer
		if err := g.putPending(p); err != nil {
			return err
		}
	}
	return g.put(st)
}

// pendingAt returns the ref of how an entry is pending.
func (g Group) pendingAt(id StreamID) ref { return g.typed(typePending).named(id.name()) }

func (g Group) putPending(p Pending) error {
	n := g.pendingAt(p.ID)
	c, err := n.cell()
	if err != nil {
		return err
	}
	payload := binary.AppendUvarint([]byte{byte(kindPending)}, uint64(milliOf(p.Delivered)))
	payload = binary.AppendUvarint(payload, uint64(max(p.Count, 0)))
	return n.put(append(payload, p.Consumer...), c.Dots())
}

// pendingIn returns what a cell says: of concurrent deliveries the latest, and of one moment the
// one delivered most.
func pendingIn(id StreamID, c dotted.Cell) (p Pending, ok bool) {
	for _, e := range c {
		if !kindPending.marks(e) {
			continue
		}
		r := payloadReader{rest: e.Payload[1:]}
		o := Pending{ID: id, Delivered: time.UnixMilli(int64(r.number())), Count: int(r.number()), Consumer: string(r.rest)}
		if !ok || o.Delivered.After(p.Delivered) || o.Delivered.Equal(p.Delivered) && o.Count >= p.Count {
			p, ok = o, true
		}
	}
	return p, ok
}

// Pending passes what is pending from one id to another, both included, in order.
func (g Group) Pending(from, to StreamID) iter.Seq[Pending] {
	all := g.typed(typePending)
	start := all.at.Name(from.name())
	beyond := func(p Pending) dotted.Address { return all.at.Name(p.ID.name()) }
	walk := func(after dotted.Address, fn func(Pending) bool) {
		_ = all.scan(after, func(a dotted.Address, c dotted.Cell) bool {
			name, _, _ := a[len(all.at):].CutName()
			id, _ := parseStreamName(name)
			if id.Compare(to) > 0 {
				return false
			}
			p, ok := pendingIn(id, c)
			return !ok || fn(p)
		})
	}
	return inParts(all, start[:len(start)-2], walk, beyond)
}

// PendingOf returns how an entry is pending; ok is false if it is not.
func (g Group) PendingOf(id StreamID) (p Pending, ok bool) {
	c, _ := g.pendingAt(id).cell()
	return pendingIn(id, c)
}

// Ack acknowledges entries, and returns how many were pending. O(ids · log cells).
func (g Group) Ack(ids ...StreamID) (acknowledged int, err error) {
	for _, id := range ids { // first: a path may be too long
		if err := g.pendingAt(id).err; err != nil {
			return 0, err
		}
	}
	for _, id := range ids {
		n := g.pendingAt(id)
		c, err := n.cell()
		if err != nil {
			return acknowledged, err
		}
		if len(c) > 0 {
			acknowledged++
		}
		if err := n.remove(c.Dots()); err != nil {
			return acknowledged, err
		}
	}
	return acknowledged, nil
}

// Consumer is a consumer of a group.
type Consumer struct {
	Name string
	Seen time.Time // when it last read or claimed
}

// Consumers passes the consumers, in the order of their names.
func (g Group) Consumers() iter.Seq[Consumer] {
	all := g.typed(typeConsumer)
	return inParts(all, "", func(after dotted.Address, fn func(Consumer) bool) {
		_ = all.scan(after, func(a dotted.Address, c dotted.Cell) bool {
			name, _, _ := a[len(all.at):].CutName()
			return !c.Visible() || fn(Consumer{name, seenIn(c)})
		})
	}, func(c Consumer) dotted.Address { return all.at.Name(c.Name) })
}

func seenIn(c dotted.Cell) (seen time.Time) {
	for _, e := range c {
		if kindConsumer.marks(e) {
			r := payloadReader{rest: e.Payload[1:]}
			if at := time.UnixMilli(int64(r.number())); at.After(seen) {
				seen = at
			}
		}
	}
	return seen
}

// HasConsumer reports whether there is a consumer.
func (g Group) HasConsumer(name string) bool {
	c, _ := g.typed(typeConsumer).named(name).cell()
	return c.Visible()
}

// AddConsumer makes a consumer, and reports whether it was not there. It returns ErrNoGroup if
// there is no group.
func (g Group) AddConsumer(name string, now time.Time) (created bool, err error) {
	st, err := g.state()
	switch {
	case err != nil:
		return false, err
	case !st.exists:
		return false, ErrNoGroup
	case g.HasConsumer(name):
		return false, g.broken()
	}
	return true, g.assign(st, name, now, nil)
}

// see notes that a consumer was seen.
func (g Group) see(name string, now time.Time) (created bool, err error) {
	n := g.typed(typeConsumer).named(name)
	c, err := n.cell()
	if err != nil {
		return false, err
	}
	payload := binary.AppendUvarint([]byte{byte(kindConsumer)}, uint64(milliOf(now)))
	return !c.Visible(), n.put(payload, c.Dots())
}

// RemoveConsumer removes a consumer and what is pending for it, and returns how much that was.
// O(pending of the group).
func (g Group) RemoveConsumer(name string) (pending int, err error) {
	n := g.typed(typeConsumer).named(name)
	c, err := n.cell()
	if err != nil || !c.Visible() {
		return 0, err
	}
	var own []StreamID
	looks := 0
	for p := range g.Pending(StreamID{}, MaxStreamID) {
		if looks++; g.within.exceeded(looks, 0) {
			return 0, ErrBeyond
		}
		if p.Consumer == name {
			own = append(own, p.ID)
		}
	}
	if pending, err = g.Ack(own...); err != nil {
		return pending, err
	}
	return pending, n.remove(c.Dots())
}

// extent is what is needed to say of an id how many entries were added before it.
type extent struct {
	StreamInfo
	length int
	first  StreamID // of an entry; zero if there is none
}

func (s Stream) extent(in inside) extent {
	x := extent{StreamInfo: in.info(), length: s.Len()}
	if x.length > 0 {
		x.first = s.first()
	}
	return x
}

// broken reports whether an entry was removed behind an id, and others that were added before it
// stand there.
func (x extent) broken(from StreamID) bool {
	return x.length > 0 && x.MaxDeleted != StreamID{} && x.first.Compare(x.MaxDeleted) <= 0 &&
		from.Compare(x.MaxDeleted) <= 0
}

// countTo returns how many entries were added up to an id, or -1 if that is not known: as Redis
// estimates it.
func (x extent) countTo(id StreamID) int64 {
	toLast, toFirst := id.Compare(x.Last), id.Compare(x.first)
	switch {
	case x.Added == 0:
		return 0
	case x.length == 0 && toLast <= 0, toLast == 0:
		return x.Added
	case toLast > 0:
	case x.MaxDeleted != StreamID{} && x.MaxDeleted.Compare(x.first) >= 0:
	case toFirst < 0:
		return x.Added - int64(x.length)
	case toFirst == 0:
		return x.Added - int64(x.length) + 1
	}
	return -1
}

// count counts an entry that is delivered. One that came late says nothing of how many were before.
func (st *groupState) count(x extent, id StreamID) {
	switch {
	case st.Read >= 0 && !x.broken(id):
		st.Read++
	case id.Compare(st.Last) < 0:
		st.Read = -1
	case x.Added > 0:
		st.Read = x.countTo(id)
	}
	st.Last = maxID(st.Last, id)
}

// Lag returns how many entries the group has to read, as far as that can be told without counting
// them: ok is false where some may have come late, with lesser ids than the group's last.
func (g Group) Lag() (lag int64, ok bool) {
	st, _ := g.state()
	in, _ := g.stream.inside()
	x := g.stream.extent(in)
	if x.Added == 0 {
		return 0, true
	}
	if st.Read >= 0 && !x.broken(st.Last) {
		return x.Added - st.Read, true
	}
	before := x.countTo(st.Last)
	if from, some := st.next(in); some && x.length > 0 && before == x.Added && from.Compare(x.Last) < 0 {
		return 0, false
	}
	return x.Added - before, before >= 0
}
