package resp

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
)

// groupOptions reads what may follow the id of XGROUP CREATE and SETID.
func (c *call) groupOptions(creates bool) (read int64, makes bool, err error) {
	read = -1
	for i := 5; i < len(c.args); i++ {
		switch {
		case creates && c.is(i, "mkstream"):
			makes = true
		case c.is(i, "entriesread") && i+1 < len(c.args):
			i++
			if read, err = c.integer(i); err != nil {
				return read, makes, err
			}
			if read < -1 {
				return read, makes, replyError("ERR value for ENTRIESREAD must be positive or -1")
			}
		default:
			return read, makes, wrongUse(c)
		}
	}
	return read, makes, nil
}

// groupStream returns the stream of XGROUP. Unless it is to be made it must be there, and the group
// too if needed is set.
func (c *call) groupStream(makes, needed bool) (s crdt.Stream, err error) {
	if err := c.notStream(c.arg(2)); err != nil {
		return s, err
	}
	s = c.tx.Stream(c.arg(2))
	switch {
	case makes:
	case !c.hasStream(c.arg(2)):
		return s, replyError("ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the " +
			"MKSTREAM option to create an empty stream automatically.")
	case needed && !s.Group(c.arg(3)).Exists():
		return s, noGroup(c.args[2], c.args[3])
	}
	return s, nil
}

func noGroup(key, group []byte) error {
	return replyError(fmt.Sprintf("NOGROUP No such consumer group '%s' for key name '%s'",
		clip(group, len(group)), clip(key, len(key))))
}

func runXGroupCreate(c *call) error {
	read, makes, err := c.groupOptions(true)
	if err != nil {
		return err
	}
	s, err := c.groupStream(makes, false)
	if err != nil {
		return err
	}
	if len(c.args) > 8 {
		return wrongUse(c)
	}
	id, err := c.groupID(s, true)
	if err != nil {
		return err
	}
	if !c.hasStream(c.arg(2)) {
		if err := s.SetInfo(crdt.StreamInfo{}); err != nil {
			return err
		}
	}
	created, err := s.Group(c.arg(3)).Create(crdt.GroupInfo{Last: id, Read: read})
	switch {
	case err != nil:
		return err
	case !created:
		return replyError("BUSYGROUP Consumer Group name already exists")
	}
	c.out.status("OK")
	return nil
}

// groupID reads behind which id a group is to begin.
func (c *call) groupID(s crdt.Stream, strict bool) (crdt.StreamID, error) {
	switch text := string(c.args[4]); {
	case text == "$":
		return s.Info().Last, nil
	case !strict && (text == "-" || text == "+"):
		return c.bound(4, false)
	}
	return c.streamID(4, 0)
}

func runXGroupSetID(c *call) error {
	read, _, err := c.groupOptions(false)
	if err != nil {
		return err
	}
	s, err := c.groupStream(false, true)
	switch {
	case err != nil:
		return err
	case len(c.args) > 7:
		return wrongUse(c)
	}
	id, err := c.groupID(s, false)
	if err != nil {
		return err
	}
	if err := s.Group(c.arg(3)).SetID(crdt.GroupInfo{Last: id, Read: read}); err != nil {
		return err
	}
	c.out.status("OK")
	return nil
}

func runXGroupDestroy(c *call) error {
	s, err := c.groupStream(false, false)
	if err != nil {
		return err
	}
	existed, err := s.Group(c.arg(3)).Remove()
	if err != nil {
		return err
	}
	c.out.integer(int64(oneIf(existed)))
	return nil
}

func runXGroupCreateConsumer(c *call) error {
	s, err := c.groupStream(false, true)
	if err != nil {
		return err
	}
	created, err := s.Group(c.arg(3)).AddConsumer(c.arg(4), c.tx.Now())
	if err != nil {
		return err
	}
	c.out.integer(int64(oneIf(created)))
	return nil
}

func runXGroupDelConsumer(c *call) error {
	s, err := c.groupStream(false, true)
	if err != nil {
		return err
	}
	n, err := s.Group(c.arg(3)).Within(MaxLooks, 0).RemoveConsumer(c.arg(4))
	switch {
	case errors.Is(err, crdt.ErrBeyond):
		return errMuchPending
	case err != nil:
		return err
	}
	c.out.integer(int64(n))
	return nil
}

// pendingRange is of what XPENDING is to tell.
type pendingRange struct {
	from, to crdt.StreamID
	count    int64
	idle     int64 // milliseconds
	consumer string
	only     bool // of that consumer
}

func runXPending(c *call) error {
	if n := len(c.args); n != 3 && (n < 6 || n > 9) {
		return errSyntax
	}
	var r pendingRange
	if len(c.args) > 3 {
		var err error
		if r, err = c.pendingRange(); err != nil {
			return err
		}
	}
	g, err := c.groupOf(1, 2)
	if err != nil {
		return err
	}
	if len(c.args) == 3 {
		c.pendingSummary(g)
		return nil
	}
	c.listPending(g, r)
	return nil
}

func (c *call) pendingRange() (r pendingRange, err error) {
	i := 3
	if c.is(3, "idle") {
		if r.idle, err = c.integer(4); err != nil {
			return r, err
		}
		if len(c.args) < 8 {
			return r, errSyntax
		}
		i += 2
	}
	if r.count, err = c.integer(i + 2); err != nil {
		return r, err
	}
	if r.from, err = c.bound(i, false); err != nil {
		return r, err
	}
	if r.to, err = c.bound(i+1, true); err != nil {
		return r, err
	}
	if r.only = i+3 < len(c.args); r.only {
		r.consumer = c.arg(i + 3)
	}
	return r, nil
}

func (c *call) pendingSummary(g crdt.Group) {
	var first, last crdt.StreamID
	n, of := 0, map[string]int{}
	for p := range g.Pending(crdt.StreamID{}, crdt.MaxStreamID) {
		if last = p.ID; n == 0 {
			first = p.ID
		}
		n, of[p.Consumer] = n+1, of[p.Consumer]+1
	}
	c.out.array(4)
	c.out.integer(int64(n))
	if n == 0 {
		c.out.null()
		c.out.null()
		c.out.noArray()
		return
	}
	c.out.text(first.String())
	c.out.text(last.String())
	names := make([]string, 0, len(of))
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	c.out.array(len(names))
	for _, name := range names {
		c.out.array(2)
		c.out.text(name)
		c.out.text(fmt.Sprint(of[name]))
	}
}

func (c *call) listPending(g crdt.Group, r pendingRange) {
	at, n, now := len(c.out.buf), int64(0), c.tx.Now()
	for p := range g.Pending(r.from, r.to) {
		if n >= r.count || len(c.out.buf)-at > MaxReply {
			break
		}
		idle := now.Sub(p.Delivered).Milliseconds()
		if r.only && p.Consumer != r.consumer || r.idle != 0 && idle < r.idle {
			continue
		}
		n++
		c.out.array(4)
		c.out.text(p.ID.String())
		c.out.text(p.Consumer)
		c.out.integer(max(idle, 0))
		c.out.integer(int64(p.Count))
	}
	c.out.arrayAt(at, int(n))
}

// claiming is what XCLAIM is asked for.
type claiming struct {
	group    crdt.Group
	consumer string
	idle     int64 // milliseconds
	ids      []crdt.StreamID
	at       int64 // of the delivery, in milliseconds; -1 for now
	count    int64 // -1 for one more
	force    bool
	justID   bool
	last     crdt.StreamID
}

func runXClaim(c *call) error {
	g, err := c.groupOf(1, 2)
	if err != nil {
		return err
	}
	m, err := c.claiming()
	if err != nil {
		return err
	}
	if err := c.changing(len(m.ids), "entries"); err != nil {
		return err
	}
	m.group = g
	if err := g.Advance(m.last); err != nil {
		return err
	}
	return c.claim(m)
}

func (c *call) claiming() (m claiming, err error) {
	m = claiming{consumer: c.arg(3), at: -1, count: -1}
	if m.idle, err = c.integer(4); err != nil {
		return m, replyError("ERR Invalid min-idle-time argument for XCLAIM")
	}
	i := 5
	for ; i < len(c.args); i++ {
		id, err := c.streamID(i, 0)
		if err != nil {
			break
		}
		m.ids = append(m.ids, id)
	}
	for ; i < len(c.args); i++ {
		more := i+1 < len(c.args)
		switch {
		case c.is(i, "force"):
			m.force = true
		case c.is(i, "justid"):
			m.justID = true
		case more && c.is(i, "lastid"):
			i++
			if m.last, err = c.streamID(i, 0); err != nil {
				return m, err
			}
		case more && (c.is(i, "idle") || c.is(i, "time") || c.is(i, "retrycount")):
			if err := c.claimNumber(i, &m); err != nil {
				return m, err
			}
			i++
		default:
			return m, replyError(fmt.Sprintf("ERR Unrecognized XCLAIM option '%s'", clip(c.args[i], len(c.args[i]))))
		}
	}
	return m, nil
}

// claimNumber reads an option of XCLAIM that is a number.
func (c *call) claimNumber(i int, m *claiming) error {
	n, err := c.integer(i + 1)
	switch {
	case c.is(i, "retrycount"):
		m.count = n
	case c.is(i, "time"):
		m.at = n
	default:
		m.at = c.tx.Now().UnixMilli() - n
	}
	if err != nil {
		name := map[bool]string{true: "RETRYCOUNT"}[c.is(i, "retrycount")]
		name = cmp.Or(name, map[bool]string{true: "TIME", false: "IDLE"}[c.is(i, "time")])
		return replyError(fmt.Sprintf("ERR Invalid %s option argument for XCLAIM", name))
	}
	return nil
}

// claim has what is pending, and was idle for long enough, be pending for another consumer. What is
// no more in the stream it drops.
func (c *call) claim(m claiming) error {
	s, now := c.stream(), c.tx.Now()
	at := now
	if m.at >= 0 && m.at <= now.UnixMilli() {
		at = time.UnixMilli(m.at)
	}
	var claimed []crdt.Pending
	places := map[crdt.StreamID]int{} // in claimed
	from, written := len(c.out.buf), 0
	for _, id := range m.ids {
		p, pending := m.group.PendingOf(id)
		if i, twice := places[id]; twice {
			p, pending = claimed[i], true
		}
		switch {
		case !s.Has(id):
			if _, err := m.group.Ack(id); err != nil {
				return err
			}
			continue
		case !pending && !m.force, pending && m.idle > 0 && now.Sub(p.Delivered).Milliseconds() < m.idle:
			continue
		}
		p.ID, p.Delivered = id, at
		switch {
		case m.count >= 0:
			p.Count = int(min(m.count, math.MaxInt32))
		case !m.justID && pending:
			p.Count++
		case !m.justID:
			p.Count = 2 // a delivery that FORCE makes up, and this one, as in Redis
		case !pending:
			p.Count = 1
		}
		places[id] = len(claimed)
		claimed = append(claimed, p)
		written += c.claimed(s, id, m.justID)
		switch size := len(c.out.buf) - from; {
		case c.isMuch(0, size):
			return errApart
		case size > MaxReply:
			return errReplyTooLarge
		}
	}
	c.out.arrayAt(from, written)
	if len(claimed) == 0 {
		return nil
	}
	c.joins(c.arg(1), m.group, m.consumer)
	return m.group.Assign(m.consumer, now, claimed)
}

// claimed writes the entries with an id, or the id alone, and returns how many elements of the reply that is.
func (c *call) claimed(s crdt.Stream, id crdt.StreamID, justID bool) int {
	if justID {
		c.out.text(id.String())
		return 1
	}
	return c.rawEntries(s, id)
}

// autoclaiming is what XAUTOCLAIM is asked for.
type autoclaiming struct {
	idle   int64
	from   crdt.StreamID
	count  int64
	justID bool
}

func (c *call) autoclaiming() (m autoclaiming, err error) {
	if m.idle, err = c.integer(4); err != nil {
		return m, replyError("ERR Invalid min-idle-time argument for XAUTOCLAIM")
	}
	if m.from, err = c.bound(5, false); err != nil {
		return m, err
	}
	m.count = 100
	for i := 6; i < len(c.args); i++ {
		switch {
		case c.is(i, "count") && i+1 < len(c.args):
			i++
			if m.count, err = c.integer(i); err != nil || m.count < 1 || m.count > math.MaxInt64/16 {
				return m, replyError("ERR COUNT must be > 0")
			}
		case c.is(i, "justid"):
			m.justID = true
		default:
			return m, errSyntax
		}
	}
	m.count = min(m.count, maxDelivered)
	return m, nil
}

// looks returns at how much that is pending it looks at most.
func (m autoclaiming) looks() int64 { return 10 * m.count }

func runXAutoClaim(c *call) error {
	m, err := c.autoclaiming()
	if err != nil {
		return err
	}
	g, err := c.groupOf(1, 2)
	if err != nil {
		return err
	}
	return c.autoclaim(g, m)
}

// maxDelivered is how many entries XREADGROUP delivers, for the first time or again, and XAUTOCLAIM
// claims at once, whatever they are asked for: other writers wait for it. They end beyond crdt.MaxDelivery,
// too.
const maxDelivered = 10_000

func (c *call) autoclaim(g crdt.Group, m autoclaiming) error {
	s, now := c.stream(), c.tx.Now()
	var claimed []crdt.Pending
	var gone []crdt.StreamID
	next, at, written := crdt.StreamID{}, len(c.out.buf), 0
	looks, left := 0, m.count
	for p := range g.Pending(m.from, crdt.MaxStreamID) {
		size := len(c.out.buf) - at
		if int64(looks) == m.looks() || left == 0 || size > crdt.MaxDelivery {
			next = p.ID
			break
		}
		if looks++; c.isMuch(looks, size) {
			return errApart
		}
		switch {
		case !s.Has(p.ID):
			gone = append(gone, p.ID)
			left--
			continue
		case m.idle > 0 && now.Sub(p.Delivered).Milliseconds() < m.idle:
			continue
		}
		p.Delivered = now
		if !m.justID {
			p.Count++
		}
		claimed = append(claimed, p)
		left--
		written += c.claimed(s, p.ID, m.justID)
	}
	if c.isMuch(looks, len(c.out.buf)-at) {
		return errApart
	}
	c.out.arrayAt(at, written)
	var head replies
	head.array(3)
	head.text(next.String())
	c.out.insert(at, head.buf)
	c.out.array(len(gone))
	for _, id := range gone {
		c.out.text(id.String())
	}
	if _, err := g.Ack(gone...); err != nil || len(claimed) == 0 {
		return err
	}
	c.joins(c.arg(1), g, c.arg(3))
	return g.Assign(c.arg(3), now, claimed)
}
