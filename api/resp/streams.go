package resp

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// stream returns the stream of the key that the first argument names.
func (c *call) stream() crdt.Stream { return c.tx.Stream(c.arg(1)) }

// streamError returns errWrongType if that key exists without a stream.
func (c *call) streamError() error { return c.notStream(c.arg(1)) }

// notStream returns errWrongType if a key exists without a stream.
func (c *call) notStream(key string) error { return c.typeError(key, crdt.TypeStream) }

// hasStream reports whether a key has one.
func (c *call) hasStream(key string) bool { return c.tx.Types(key).Has(crdt.TypeStream) }

const (
	errStreamID  = replyError("ERR Invalid stream ID specified as stream command argument")
	errStreamTop = replyError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
	errStreamEnd = replyError("ERR The stream has exhausted the last possible ID, unable to add more items")
)

// streamNode is how many entries XTRIM and XADD remove at once if they are asked to remove about so
// many, as Redis does, unless its parameter is set.
const streamNode = 100

const settingNode = "stream-node-max-entries"

// streamNode returns how many they are now.
func (s *Server) streamNode() int {
	if n := s.encodings.number(settingNode); n > 0 {
		return int(min(n, embedded.MaxOps))
	}
	return streamNode
}

// streamID reads argument i as an id, for which a sequence number may be missing. anySeq tells that
// it is a star.
func (c *call) streamID(i int, missing uint64) (id crdt.StreamID, err error) {
	id, anySeq, ok := parseStreamID(c.args[i], missing)
	if !ok || anySeq {
		return id, errStreamID
	}
	return id, nil
}

// parseStreamID reads an id as Redis does.
func parseStreamID(text []byte, missing uint64) (id crdt.StreamID, anySeq, ok bool) {
	if len(text) > 127 {
		return id, false, false
	}
	ms, seq, hasSeq := strings.Cut(string(clip(text, len(text))), "-")
	id.Seq = missing
	if id.Ms, ok = parseUnsigned(ms); ok && hasSeq {
		if seq == "*" {
			id.Seq = 0
			return id, true, true
		}
		id.Seq, ok = parseUnsigned(seq)
	}
	return id, false, ok
}

// parseUnsigned reads a number as C's strtoull does, but for what reads as a negative one.
func parseUnsigned(text string) (n uint64, ok bool) {
	if signed, whole := parseInteger([]byte(text)); whole {
		return uint64(signed), signed >= 0
	}
	digits := strings.TrimLeft(text, " \t\n\v\f\r")
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	if strings.Trim(digits, "0123456789") != "" || digits == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if negative {
		n = -n
	}
	return n, err == nil
}

// bound reads argument i as the first or last id of a range: "-", "+", or an id, behind "(" if it
// is not in it.
func (c *call) bound(i int, last bool) (id crdt.StreamID, err error) {
	text, missing := c.args[i], uint64(0)
	if last {
		missing = math.MaxUint64
	}
	switch string(text) {
	case "-":
		return crdt.StreamID{}, nil
	case "+":
		return crdt.MaxStreamID, nil
	}
	without := len(text) > 1 && text[0] == '('
	if without {
		text = text[1:]
	}
	id, anySeq, ok := parseStreamID(text, missing)
	if !ok || anySeq {
		return id, errStreamID
	}
	switch {
	case without && last:
		if id, ok = id.Previous(); !ok {
			return id, replyError("ERR invalid end ID for the interval")
		}
	case without:
		if id, ok = id.Next(); !ok {
			return id, replyError("ERR invalid start ID for the interval")
		}
	}
	return id, nil
}

// trimming is what XTRIM and XADD are asked to remove.
type trimming struct {
	by    string // "maxlen", "minid", or "" for nothing
	most  int64
	least crdt.StreamID
	about bool
	limit int64 // of entries that are removed, 0 for none
	node  int   // entries that are removed at once, about
}

// added is what XADD is asked to add.
type added struct {
	trimming
	made    bool // its id is made
	id      crdt.StreamID
	anySeq  bool
	exists  bool // nothing is added if there is no stream
	firstAt int  // the argument with the first field
}

// addOptions reads the options of XADD, or of XTRIM, and for the first its id.
func (c *call) addOptions(isAdd bool) (a added, err error) {
	limited := false
	a.node = c.server.streamNode()
	i := 2
options:
	for ; i < len(c.args); i++ {
		more := i+1 < len(c.args)
		switch {
		case isAdd && string(c.args[i]) == "*":
			a.made = true
			break options
		case more && (c.is(i, "maxlen") || c.is(i, "minid")):
			if i, err = c.trimBy(i, &a.trimming); err != nil {
				return a, err
			}
		case more && c.is(i, "limit"):
			i++
			if a.limit, err = c.integer(i); err != nil {
				return a, err
			}
			if a.limit < 0 {
				return a, replyError("ERR The LIMIT argument must be >= 0.")
			}
			limited = true
		case isAdd && c.is(i, "nomkstream"):
			a.exists = true
		case isAdd:
			ok := false
			if a.id, a.anySeq, ok = parseStreamID(c.args[i], 0); !ok {
				return a, errStreamID
			}
			break options
		default:
			return a, errSyntax
		}
	}
	a.firstAt = i + 1
	return a, a.checkLimit(isAdd, limited)
}

// trimBy reads MAXLEN or MINID and returns the last of its arguments.
func (c *call) trimBy(i int, t *trimming) (last int, err error) {
	if t.by != "" {
		return i, replyError("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
	}
	byLength := c.is(i, "maxlen")
	t.by, t.about = "minid", false
	if i++; i+1 < len(c.args) && (string(c.args[i]) == "~" || string(c.args[i]) == "=") {
		t.about = c.args[i][0] == '~'
		i++
	}
	if !byLength {
		t.least, err = c.streamID(i, 0)
		return i, err
	}
	t.by = "maxlen"
	if t.most, err = c.integer(i); err == nil && t.most < 0 {
		err = replyError("ERR The MAXLEN argument must be >= 0.")
	}
	return i, err
}

func (t *trimming) checkLimit(isAdd, limited bool) error {
	switch {
	case t.limit != 0 && t.by == "":
		return replyError("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
	case !isAdd && t.by == "":
		return replyError("ERR syntax error, XTRIM must be called with a trimming strategy")
	case limited && !t.about:
		return replyError("ERR syntax error, LIMIT cannot be used without the special ~ option")
	case !limited && t.about:
		t.limit = int64(100 * t.node)
	}
	return nil
}

func runXAdd(c *call) error {
	a, err := c.addOptions(true)
	if err != nil {
		return err
	}
	fields := len(c.args) - a.firstAt
	switch {
	case fields < 2 || fields%2 == 1:
		return wrongArity(c.command.name)
	case !a.made && !a.anySeq && a.id == crdt.StreamID{}:
		return replyError("ERR The ID specified in XADD must be greater than 0-0")
	}
	if err := c.streamError(); err != nil {
		return err
	}
	if a.exists && !c.hasStream(c.arg(1)) {
		c.out.null()
		return nil
	}
	words := make([]string, fields)
	for i := range words {
		words[i] = c.arg(a.firstAt + i)
	}
	if a.id, err = c.addEntry(a, words); err != nil {
		return err
	}
	c.out.text(a.id.String())
	// What others added while they were cut off may be more than is removed at once: it goes on at the
	// next entry.
	n, err := c.removeFirst(min(a.excess(c.stream()), max(MaxTrimmed-c.trims, 1)))
	c.trims += n
	c.trimmed = n > 0
	return err
}

func (c *call) addEntry(a added, words []string) (id crdt.StreamID, err error) {
	s := c.stream()
	if a.made {
		id, err = s.Add(c.tx.Now(), words...)
	} else {
		last := s.Info().Last
		if last == crdt.MaxStreamID {
			return id, errStreamEnd
		}
		id = a.id
		if a.anySeq && last.Ms == id.Ms {
			if id.Seq = last.Seq + 1; id.Seq == 0 {
				return id, errStreamTop
			}
		}
		err = s.AddAs(id, words...)
	}
	switch {
	case errors.Is(err, crdt.ErrStreamID):
		return id, errStreamTop
	case errors.Is(err, crdt.ErrStreamFull):
		return id, errStreamEnd
	}
	return id, err
}

// removeFirst removes so many entries, and returns how many there were.
func (c *call) removeFirst(n int) (removed int, err error) {
	if c.looped && n > maxQuickArguments {
		return 0, errApart
	}
	return c.stream().RemoveFirst(n)
}

// excess returns how many entries are to be removed. About so many are in whole nodes, as if each
// were full.
func (t trimming) excess(s crdt.Stream) int {
	if t.by == "" {
		return 0
	}
	length := s.Len()
	below := length - int(min(t.most, int64(length)))
	if t.by == "minid" {
		below = s.Before(t.least)
	}
	if !t.about {
		return below
	}
	if t.limit > 0 {
		below = int(min(int64(below), t.limit))
	}
	// Of the first node those are gone that were removed before.
	first := t.node - int(max(s.Info().Added-int64(length), 0)%int64(t.node))
	switch {
	case below == length:
		return length
	case below < first:
		return 0
	}
	return below - (below-first)%t.node
}

func runXTrim(c *call) error {
	a, err := c.addOptions(false)
	if err != nil {
		return err
	}
	if err := c.streamError(); err != nil {
		return err
	}
	n := a.excess(c.stream())
	if !a.about && n > mostTrimmed {
		return errMuchToTrim
	}
	n, err = c.removeFirst(min(n, mostTrimmed))
	if err != nil {
		return err
	}
	c.out.integer(int64(n))
	return nil
}

// mostTrimmed is how many entries XTRIM removes at once.
const mostTrimmed = embedded.MaxOps / 2

var errMuchToTrim = replyError(fmt.Sprintf("ERR more than %d entries to remove (half of MaxOps): "+
	"use ~ with a LIMIT, again and again", mostTrimmed))

func runXLen(c *call) error {
	if err := c.streamError(); err != nil {
		return err
	}
	c.out.integer(int64(c.stream().Len()))
	return nil
}

func runXDel(c *call) error {
	if err := c.streamError(); err != nil {
		return err
	}
	if !c.hasStream(c.arg(1)) {
		c.out.integer(0)
		return nil
	}
	ids, err := c.streamIDs(2)
	if err != nil {
		return err
	}
	n, err := c.stream().Remove(ids...)
	if err != nil {
		return err
	}
	c.out.integer(int64(n))
	return nil
}

// streamIDs reads the arguments from one on, of entries that are to be changed.
func (c *call) streamIDs(first int) (ids []crdt.StreamID, err error) {
	if err := c.changing(len(c.args)-first, "entries"); err != nil {
		return nil, err
	}
	for i := first; i < len(c.args); i++ {
		id, err := c.streamID(i, 0)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func runXRange(c *call) error { return c.streamRange(2, 3, crdt.Stream.Range) }

func runXRevRange(c *call) error { return c.streamRange(3, 2, crdt.Stream.Backward) }

func (c *call) streamRange(
	first, last int, pass func(s crdt.Stream, from, to crdt.StreamID) iter.Seq[crdt.StreamEntry],
) error {
	from, err := c.bound(first, false)
	if err != nil {
		return err
	}
	to, err := c.bound(last, true)
	if err != nil {
		return err
	}
	count := int64(-1)
	for i := 4; i < len(c.args); i += 2 {
		if !c.is(i, "count") || i+1 == len(c.args) {
			return errSyntax
		}
		if count, err = c.integer(i + 1); err != nil {
			return err
		}
		count = max(count, 0)
	}
	if err := c.streamError(); err != nil {
		return err
	}
	switch {
	case !c.hasStream(c.arg(1)):
		c.out.array(0)
	case count == 0:
		c.out.noArray()
	default:
		return listing(c, -1, c.out.arrayAt, withoutValues(foremost(pass(c.stream(), from, to), count)),
			func(e crdt.StreamEntry, _ []byte) { c.out.entry(e) })
	}
	return nil
}

// noArray writes null in place of an array.
func (w *replies) noArray() {
	if w.resp3 {
		w.null()
		return
	}
	w.buf = append(w.buf, "*-1\r\n"...)
}

// entry writes an entry.
func (w *replies) entry(e crdt.StreamEntry) {
	w.array(2)
	w.text(e.ID.String())
	w.array(len(e.Fields))
	for _, f := range e.Fields {
		w.text(f)
	}
}

// foremost passes the first of some entries, as many as count says if that is more than 0. Those with
// one id are not parted: who asks for what comes behind an id would miss the second.
func foremost(all iter.Seq[crdt.StreamEntry], count int64) iter.Seq[crdt.StreamEntry] {
	return func(yield func(crdt.StreamEntry) bool) {
		n, last := int64(0), crdt.StreamID{}
		for e := range all {
			if count > 0 && n >= count && e.ID != last || !yield(e) {
				return
			}
			n, last = n+1, e.ID
		}
	}
}

// entries writes the foremost of some entries, and returns how many there were.
func (c *call) entries(all iter.Seq[crdt.StreamEntry], count int64) (n int64) {
	at := len(c.out.buf)
	for e := range foremost(all, count) {
		if len(c.out.buf)-at > MaxReply {
			break
		}
		c.out.entry(e)
		n++
	}
	c.out.arrayAt(at, int(n))
	return n
}

func runXSetID(c *call) error {
	id, err := c.streamID(2, 0)
	if err != nil {
		return err
	}
	count, deleted := int64(-1), crdt.StreamID{}
	for i := 3; i < len(c.args); i += 2 {
		more := i+1 < len(c.args)
		switch {
		case more && c.is(i, "entriesadded"):
			if count, err = c.integer(i + 1); err != nil {
				return err
			}
			if count < 0 {
				return replyError("ERR entries_added must be positive")
			}
		case more && c.is(i, "maxdeletedid"):
			if deleted, err = c.streamID(i+1, 0); err != nil {
				return err
			}
			if id.Compare(deleted) < 0 {
				return replyError("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
			}
		default:
			return errSyntax
		}
	}
	if !c.tx.Has(c.arg(1)) {
		return errNoKey
	}
	if err := c.streamError(); err != nil {
		return err
	}
	return c.setStreamID(id, count, deleted)
}

func (c *call) setStreamID(id crdt.StreamID, count int64, deleted crdt.StreamID) error {
	s := c.stream()
	length, info := s.Len(), s.Info()
	if length > 0 {
		for top := range s.Backward(crdt.StreamID{}, crdt.MaxStreamID) {
			if id.Compare(top.ID) < 0 {
				return replyError("ERR The ID specified in XSETID is smaller than the target stream top item")
			}
			break
		}
		if count >= 0 && int64(length) > count {
			return replyError("ERR The entries_added specified in XSETID is smaller than the target stream length")
		}
	}
	info.Last = id
	if count >= 0 {
		info.Added = count
	}
	if deleted != (crdt.StreamID{}) {
		info.MaxDeleted = deleted
	}
	if err := s.SetInfo(info); err != nil {
		return err
	}
	c.out.status("OK")
	return nil
}

// workOfStream is at how much a command for a stream looks: at its entries, at most as many as it
// is asked for.
func workOfStream(c *call, cmd *command) int64 {
	keys, _ := cmd.keysOf(c.args)
	sum, most := 0, int64(math.MaxInt64)
	for _, key := range keys {
		sum += c.tx.Stream(string(key)).Len()
	}
	for i := range c.args {
		if i+1 < len(c.args) && c.is(i, "count") {
			if n, err := c.integer(i + 1); err == nil && n > 0 {
				most = n
			}
		}
	}
	return min(int64(sum), most)
}

// workOfGroup is that of a command that looks at all that a group holds: its name is behind the key.
func workOfGroup(c *call, cmd *command) int64 {
	key := cmd.keys.first
	return int64(countGroup(c.tx.Stream(c.arg(key)).Group(c.arg(key+1)), c.mostWork()))
}

// workOfGroups is that of XINFO, which looks at all that the groups hold and at some entries.
func workOfGroups(c *call, cmd *command) int64 {
	work := int64(countGroups(c.tx.Stream(c.arg(2)), c.mostWork()))
	if len(c.args) > 4 { // COUNT
		work += workOfStream(c, cmd)
	}
	return work
}

// workOfAutoClaim is that of XAUTOCLAIM, which may look at more than it claims.
func workOfAutoClaim(c *call, _ *command) int64 {
	m, _ := c.autoclaiming() // what is wrong is refused
	most := min(m.looks(), int64(c.mostWork()))
	return int64(countGroup(c.stream().Group(c.arg(2)), int(most)))
}

// workOfHistories is that of XREADGROUP where it looks for what is pending.
func workOfHistories(c *call, _ *command) int64 {
	r, _ := c.reading(true) // what is wrong is refused
	n := 0
	for i, key := range r.keys {
		if !r.from[i].fresh {
			_, looked := r.ownPending(pendingBehind(c.tx.Stream(key).Group(r.group), r.from[i].after), c.mostWork()-n)
			n += looked
		}
	}
	return int64(n)
}

// countGroups counts what the groups of a stream hold, or more than most.
func countGroups(s crdt.Stream, most int) (n int) {
	for name := range s.Groups() {
		if n += 1 + countGroup(s.Group(name), most-n); n > most {
			break
		}
	}
	return n
}

func countGroup(g crdt.Group, most int) (n int) {
	for range g.Pending(crdt.StreamID{}, crdt.MaxStreamID) {
		if n++; n > most {
			return n
		}
	}
	for range g.Consumers() {
		if n++; n > most {
			return n
		}
	}
	return n
}

// errBadPart is no replyError: parts before it may have been added.
var errBadPart = errors.New("bad data format")

var streamKind = kind{
	typ: crdt.TypeStream,
	count: func(tx *embedded.Tx, key string) (n int, shown bool) {
		for range tx.Stream(key).Parts() {
			n++
		}
		return n, true
	},
	countTo: func(tx *embedded.Tx, key string, most int) int {
		n := tx.Stream(key).Len() + 1
		return n + countGroups(tx.Stream(key), most-n)
	},
	parts: func(tx *embedded.Tx, key string) iter.Seq2[string, []byte] { return tx.Stream(key).Parts() },
	put: func(tx *embedded.Tx, key, name string, value []byte) error {
		if err := tx.Stream(key).AddPart(name, value); err != nil {
			return fmt.Errorf("%w: %w", errBadPart, err)
		}
		return nil
	},
	encoding: func(*embedded.Tx, string) string { return "stream" },
}
