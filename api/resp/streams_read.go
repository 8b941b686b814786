package resp

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
)

// streamRead is what XREAD or XREADGROUP is asked for.
type streamRead struct {
	blocks          bool
	timeout         time.Duration
	count           int64 // of entries of each stream, 0 if it does not matter
	grouped         bool
	group, consumer string
	noAck           bool
	keys            []string
	from            []readFrom // one for each key
}

// readFrom is from where on a stream is to be read.
type readFrom struct {
	after crdt.StreamID
	fresh bool // what was delivered to no consumer: ">"
}

// most is how many entries of a group it delivers of a stream.
func (r streamRead) most() int {
	if r.count == 0 {
		return maxDelivered
	}
	return int(min(r.count, maxDelivered))
}

func runXRead(c *call) error {
	r, err := c.reading(false)
	if err != nil {
		return err
	}
	return c.read(r)
}

func runXReadGroup(c *call) error {
	r, err := c.reading(true)
	if err != nil {
		return err
	}
	return c.read(r)
}

// reading reads the arguments.
func (c *call) reading(isGroup bool) (r streamRead, err error) {
	first := 0
	for i := 1; i < len(c.args) && first == 0; i++ {
		more := len(c.args) - i - 1
		switch {
		case more > 0 && c.is(i, "block") && c.inScript:
			return r, replyError("ERR " + c.arg(0) + " command is not allowed with BLOCK option from scripts")
		case more > 0 && c.is(i, "block"):
			i++
			r.blocks = true
			if r.timeout, err = c.milliseconds(i); err != nil {
				return r, err
			}
		case more > 0 && c.is(i, "count"):
			i++
			if r.count, err = c.integer(i); err != nil {
				return r, err
			}
			r.count = max(r.count, 0)
		case more > 0 && c.is(i, "streams"):
			if first = i + 1; more%2 != 0 {
				return r, replyError("ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.")
			}
		case more > 1 && c.is(i, "group"):
			if !isGroup {
				return r, replyError("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.")
			}
			r.grouped, r.group, r.consumer = true, c.arg(i+1), c.arg(i+2)
			i += 2
		case c.is(i, "noack"):
			if !isGroup {
				return r, replyError("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.")
			}
			r.noAck = true
		default:
			return r, errSyntax
		}
	}
	switch {
	case first == 0:
		return r, errSyntax
	case isGroup && !r.grouped:
		return r, replyError("ERR Missing GROUP option for XREADGROUP")
	}
	return r, c.readFrom(first, &r)
}

// readFrom reads the streams' keys and ids.
func (c *call) readFrom(first int, r *streamRead) error {
	n := (len(c.args) - first) / 2
	for i := first; i < first+n; i++ {
		key := c.arg(i)
		if err := c.notStream(key); err != nil {
			return err
		}
		if r.grouped && !c.tx.Stream(key).Group(r.group).Exists() {
			return replyError(fmt.Sprintf("NOGROUP No such key '%s' or consumer group '%s' in XREADGROUP with GROUP option",
				clip(c.args[i], len(key)), clip([]byte(r.group), len(r.group))))
		}
		var from readFrom
		switch text := string(clip(c.args[i+n], len(c.args[i+n]))); {
		case text == "$" && r.grouped:
			return replyError("ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this " +
				"consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty " +
				"result set.")
		case text == "$":
			from.after = c.tx.Stream(key).Info().Last
		case text == ">" && !r.grouped:
			return replyError("ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.")
		case text == ">":
			from.fresh = true
		default:
			id, err := c.streamID(i+n, 0)
			if err != nil {
				return err
			}
			from.after, from.fresh = id, r.grouped && id == crdt.MaxStreamID
		}
		r.keys, r.from = append(r.keys, key), append(r.from, from)
	}
	return nil
}

// read replies with what the streams have.
func (c *call) read(r streamRead) error {
	at, found := len(c.out.buf), 0
	for i, key := range r.keys {
		some, err := c.readStream(r, key, r.from[i])
		if err != nil {
			return err
		}
		if some {
			found++
		}
		size := len(c.out.buf) - at
		if c.isMuch(0, size) {
			return errApart
		}
		if size > MaxReply {
			break
		}
	}
	switch {
	case found == 0 && r.blocks:
		return c.block(r.keys, r.timeout, attempt{try: r.again, none: (*replies).noArray, takes: r.takes()})
	case found == 0:
		c.out.noArray()
	case c.out.resp3:
		c.out.dictAt(at, found)
	default:
		c.out.arrayAt(at, found)
	}
	return nil
}

// takes is what it takes from others if it waits: of a group, of which only what was delivered to
// nobody is waited for.
func (r streamRead) takes() taking {
	if !r.grouped {
		return taking{}
	}
	return taking{streamKind.typ, r.group}
}

// waitedCount is how many entries a command is given that waited, if it did not say, as in Redis.
const waitedCount = 1000

// again is read of a command that waited, when one of its keys was written.
func (r streamRead) again(c *call, key string) (done bool, err error) {
	switch {
	case r.grouped && !c.hasStream(key):
		return false, replyError("UNBLOCKED the stream key no longer exists")
	case r.grouped && !c.tx.Stream(key).Group(r.group).Exists():
		return false, replyError("NOGROUP the consumer group this client was blocked on no longer exists")
	case r.count == 0:
		r.count = waitedCount
	}
	at := len(c.out.buf)
	done, err = c.readStream(r, key, r.from[slices.Index(r.keys, key)])
	if done {
		c.out.headerAt(at, map[bool]byte{true: '%', false: '*'}[c.out.resp3], 1)
	}
	return done, err
}

// milliseconds reads argument i as how long to wait.
func (c *call) milliseconds(i int) (time.Duration, error) {
	n, err := c.integer(i)
	if err != nil {
		return 0, replyError("ERR timeout is not an integer or out of range")
	}
	return waitFor(float64(n))
}

// readStream writes what one stream has, with its key in front, and reports whether that was
// anything.
func (c *call) readStream(r streamRead, key string, from readFrom) (some bool, err error) {
	at := len(c.out.buf)
	if !c.out.resp3 {
		c.out.array(2)
	}
	c.out.text(key)
	s, n := c.tx.Stream(key), int64(0)
	switch {
	case !r.grouped:
		if after, ok := from.after.Next(); ok {
			isQuick := true
			n = c.entries(c.quickly(s.Range(after, crdt.MaxStreamID), &isQuick), r.count)
			if !isQuick {
				return false, errApart
			}
		}
	case from.fresh:
		var entries []crdt.StreamEntry
		g, joined := s.Group(r.group), c.joined
		c.joins(key, g, r.consumer)
		if c.looped {
			g = g.Within(maxQuickArguments, maxQuickBytes)
		}
		entries, err = g.Read(r.consumer, c.tx.Now(), r.most(), r.noAck)
		if errors.Is(err, crdt.ErrBeyond) {
			err = errApart
		}
		if n = int64(len(entries)); n == 0 { // then it is not made
			c.joined = joined
		}
		c.out.array(len(entries))
		for _, e := range entries {
			c.out.entry(e)
		}
	default:
		n = 1
		c.joins(key, s.Group(r.group), r.consumer)
		err = c.history(s, r, from.after)
	}
	if n == 0 || err != nil {
		c.out.buf = c.out.buf[:at]
	}
	return n > 0, err
}

// isMuch reports whether what has looked at so many entries, and written so many bytes of them, is not
// for the loop.
func (c *call) isMuch(looks, size int) bool {
	return c.looped && (looks > maxQuickArguments || size > maxQuickBytes)
}

// quickly returns entries to be written, in the loop not many of them: isQuick is set to false if
// there are more. So XREAD finds what was there when it came, and not what was written while it
// waited for a goroutine.
func (c *call) quickly(all iter.Seq[crdt.StreamEntry], isQuick *bool) iter.Seq[crdt.StreamEntry] {
	return func(yield func(crdt.StreamEntry) bool) {
		at, n := len(c.out.buf), 0
		for e := range all {
			if n++; c.isMuch(n, len(c.out.buf)-at) {
				*isQuick = false
				return
			}
			if !yield(e) {
				return
			}
		}
	}
}

// errMuchPending says that others would wait for what looks at so much.
var errMuchPending = replyError(fmt.Sprintf("ERR more than %d entries are pending in the group "+
	"(MaxLooks): ask for the consumer's with XPENDING, and XCLAIM or XACK them", MaxLooks))

// pendingBehind passes what is pending in a group behind an id.
func pendingBehind(g crdt.Group, after crdt.StreamID) iter.Seq[crdt.Pending] {
	after, _ = after.Next()
	return g.Pending(after, crdt.MaxStreamID)
}

// ownPending returns what is pending for the consumer, and at how many it looked: at one more than it
// may if that was not enough.
func (r streamRead) ownPending(all iter.Seq[crdt.Pending], looks int) (own []crdt.Pending, looked int) {
	for p := range all {
		if looked++; looked > looks {
			break
		}
		if p.Consumer != r.consumer {
			continue
		}
		if own = append(own, p); len(own) == r.most() {
			break
		}
	}
	return own, looked
}

// history writes what is pending for the consumer, which is delivered once more.
func (c *call) history(s crdt.Stream, r streamRead, after crdt.StreamID) error {
	g, now := s.Group(r.group), c.tx.Now()
	looks := MaxLooks
	if c.looped {
		looks = maxQuickArguments
	}
	own, looked := r.ownPending(pendingBehind(g, after), looks)
	switch {
	case looked > looks && c.looped:
		return errApart
	case looked > looks:
		return errMuchPending
	}
	var again []crdt.Pending
	at, written := len(c.out.buf), 0
	for _, p := range own {
		if size := len(c.out.buf) - at; size > crdt.MaxDelivery {
			break // the rest is asked for by the last id
		} else if c.isMuch(0, size) {
			return errApart
		}
		entries := c.rawEntries(s, p.ID)
		if written += max(entries, 1); entries == 0 {
			c.out.array(2)
			c.out.text(p.ID.String())
			c.out.noArray()
			continue
		}
		p.Delivered, p.Count = now, p.Count+1
		again = append(again, p)
	}
	c.out.arrayAt(at, written)
	return g.Assign(r.consumer, now, again)
}

// rawEntries writes the entries with an id, of which there are more than one if hosts gave it at once, and returns how
// many there are.
func (c *call) rawEntries(s crdt.Stream, id crdt.StreamID) (n int) {
	for e := range s.Range(id, id) {
		c.out.entry(e)
		n++
	}
	return n
}

// streamsOf returns the keys of a call of XREAD or XREADGROUP.
func streamsOf(args [][]byte) [][]byte {
	for i := 1; i < len(args); i++ {
		switch c := (&call{args: args}); {
		case c.is(i, "block"), c.is(i, "count"):
			i++
		case c.is(i, "group"):
			i += 2
		case c.is(i, "streams"):
			return args[i+1 : i+1+(len(args)-i-1)/2]
		}
	}
	return nil
}

// groupOf returns the group that arguments name, or says that it is not there.
func (c *call) groupOf(key, name int) (g crdt.Group, err error) {
	if err := c.notStream(c.arg(key)); err != nil {
		return g, err
	}
	g = c.tx.Stream(c.arg(key)).Group(c.arg(name))
	if !g.Exists() {
		err = replyError(fmt.Sprintf("NOGROUP No such key '%s' or consumer group '%s'",
			clip(c.args[key], len(c.args[key])), clip(c.args[name], len(c.args[name]))))
	}
	return g, err
}

func runXAck(c *call) error {
	switch _, err := c.groupOf(1, 2); {
	case errors.Is(err, errWrongType):
		return err
	case err != nil:
		c.out.integer(0)
		return nil
	}
	ids, err := c.streamIDs(3)
	if err != nil {
		return err
	}
	n, err := c.stream().Group(c.arg(2)).Ack(ids...)
	if err != nil {
		return err
	}
	c.out.integer(int64(n))
	return nil
}
