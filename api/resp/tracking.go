package resp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	embedded "github.com/peerd/peerd/peer"
)

// trackingOptions are those of CLIENT TRACKING ON.
type trackingOptions struct {
	redirect                     *client // who is told in its place; nil: the client itself
	bcast, optin, optout, noloop bool
}

// tracker is a client that is told when keys change that it may keep a copy of. tracking.mu guards
// it.
type tracker struct {
	client   *client     // nil once it has left: what it has read stays noted until that changes
	prefixes nameSet     // BCAST's
	bytes    int         // of them, each charged ArgumentCost besides
	broken   atomic.Bool // who is told in its place was gone
	db       int         // the database that it has selected
	since    uint64      // BCAST: of changes of it up to this moment nothing is told
	trackingOptions
}

// readAt is when a tracker has read a key.
type readAt struct {
	moment uint64 // of the view
	turn   int64  // of the client: see session.turn
}

// readings are when trackers have read a key.
type readings map[*tracker]readAt

// trackedKey is a key of a database.
type trackedKey struct {
	db   int
	name string
}

// tracking is which clients are told of changes of which keys. Each database that one of them has
// selected is followed by a watch, of what this peer's clients write and of all else. What a client
// reads is noted with the moment of the view that it is read from, and told once something changes
// it after that.
type tracking struct {
	server *Server

	mu       sync.Mutex
	trackers map[*tracker]struct{}
	keys     map[trackedKey]readings
	items    int // readings of them
	bytes    int // of the keys, and of readings
	follows  [Databases]*trackedDatabase
}

// trackedDatabase is one that is followed.
type trackedDatabase struct {
	db      database
	watch   *embedded.Watch
	told    uint64 // the moment up to which readings were told
	stopped bool
}

// readingSize is what a reading takes in memory, about, beside the key.
const readingSize = 128

// enter has a client be told, or be told otherwise.
func (t *tracking) enter(c *client, n int, db database, options trackingOptions, prefixes []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	since, err := t.follow(n, db)
	if err != nil {
		return err
	}
	k := c.tracker
	if k == nil {
		k = &tracker{client: c, since: since}
		if t.trackers == nil {
			t.trackers, t.keys = map[*tracker]struct{}{}, map[trackedKey]readings{}
		}
		t.trackers[k] = struct{}{}
		c.tracker = k
	}
	k.trackingOptions, k.db = options, n
	k.broken.Store(false)
	if options.bcast && len(prefixes) == 0 {
		prefixes = []string{""}
	}
	for _, prefix := range prefixes {
		if k.prefixes.add(prefix) {
			k.bytes += len(prefix) + ArgumentCost
		}
	}
	return nil
}

// move has a client that has selected another database be told of that.
func (t *tracking) move(k *tracker, n int, db database) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	since, err := t.follow(n, db)
	if err == nil {
		k.db, k.since = n, since
	}
	return err
}

// leave has a client be told nothing more. The last ends it all.
func (t *tracking) leave(k *tracker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.client, k.redirect, k.prefixes = nil, nil, nil
	if delete(t.trackers, k); len(t.trackers) > 0 {
		return
	}
	t.forget()
	for n, d := range t.follows {
		if d != nil {
			t.server.followers.Add(-1)
			d.stopped = true
			d.watch.Close()
			t.follows[n] = nil
		}
	}
}

// forget forgets who has read what.
func (t *tracking) forget() { t.keys, t.items, t.bytes = map[trackedKey]readings{}, 0, 0 }

// tracked is what INFO tells of it.
type tracked struct{ clients, keys, items, prefixes int }

func (t *tracking) counts() tracked {
	t.mu.Lock()
	defer t.mu.Unlock()
	prefixes := map[string]struct{}{}
	for k := range t.trackers {
		for _, prefix := range k.prefixes {
			prefixes[prefix] = struct{}{}
		}
	}
	return tracked{len(t.trackers), len(t.keys), t.items, len(prefixes)}
}

// follow has a database be followed from now on, and returns a moment of it that is not before.
// Called under mu, under which a client is added, too: the last one that leaves ends all.
func (t *tracking) follow(n int, db database) (at uint64, err error) {
	d := t.follows[n]
	if d == nil {
		d = &trackedDatabase{db: db, watch: watchEach(db)}
	}
	if at, err = momentOf(db); err != nil || t.follows[n] != nil {
		if t.follows[n] == nil {
			d.watch.Close()
		}
		return at, err
	}
	d.told = at
	t.follows[n] = d
	t.server.followers.Add(1)
	t.server.running.Add(1)
	go t.tellAll(n, d)
	return at, nil
}

// watchEach watches each commit in a database.
func watchEach(db database) *embedded.Watch {
	w := db.Watch("")
	w.WithNotes()
	w.EachCommit()
	return w
}

// momentOf returns the moment of a view that is opened now.
func momentOf(db database) (at uint64, err error) {
	err = db.View(context.Background(), func(tx *embedded.Tx) error { at = tx.Moment(); return nil })
	return at, err
}

// tellAll tells of what changes in a database until nobody is told any more.
func (t *tracking) tellAll(n int, d *trackedDatabase) {
	defer t.server.running.Done()
	for {
		t.mu.Lock()
		watch := d.watch
		t.mu.Unlock()
		change, err := watch.Next(context.Background())
		if !t.take(n, d, &change, err) {
			return
		}
	}
}

// take tells of a change, and returns false once there are no more.
func (t *tracking) take(n int, d *trackedDatabase, change *embedded.Change, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case d.stopped:
		return false
	case err == nil && change.Reset:
		err = t.restart(d)
	case err == nil:
		if change.Emptied {
			t.forgetAll()
		}
		t.tell(n, change)
		d.told = max(d.told, change.Moment)
	}
	if err == nil {
		return true
	}
	lost := t.trackersOf(n)
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	for k := range lost { // they cannot know what changes from now on: the database was dropped
		if _, there := t.server.clients[k.client]; there {
			t.server.expel(k.client)
		}
	}
	t.follows[n], d.stopped = nil, true
	t.server.followers.Add(-1)
	d.watch.Close()
	return false
}

// trackersOf returns who has selected a database, or has read something of it.
func (t *tracking) trackersOf(n int) map[*tracker]struct{} {
	all := map[*tracker]struct{}{}
	for k := range t.trackers {
		if k.db == n {
			all[k] = struct{}{}
		}
	}
	for key, of := range t.keys {
		if key.db != n {
			continue
		}
		for k := range of {
			all[k] = struct{}{}
		}
	}
	return all
}

// restart tells that everything may have changed, and follows the database from now on.
func (t *tracking) restart(d *trackedDatabase) error {
	d.watch.Close()
	d.watch = watchEach(d.db)
	at, err := momentOf(d.db)
	if d.told = at; errors.Is(err, embedded.ErrRebuilding) {
		return nil // and the next watch tells once it is over
	}
	t.forgetAll()
	return err
}

// forgetAll tells that everything may have changed.
func (t *tracking) forgetAll() {
	t.forget()
	for k := range t.trackers {
		t.send(k, &invalidation{all: true})
	}
}

// changed is a key, and who has changed it.
type changed struct {
	key string
	by  author
}

// tell tells of a change of keys.
func (t *tracking) tell(n int, change *embedded.Change) {
	var all []changed
	for _, note := range change.Notes {
		for _, e := range eventsIn(note) {
			if c := (changed{e.key, e.by}); len(all) == 0 || all[len(all)-1] != c {
				all = append(all, c)
			}
		}
	}
	for _, key := range change.Keys {
		all = append(all, changed{key, author{}})
	}
	for _, c := range all {
		t.invalidate(trackedKey{n, c.key}, c.by, change.Moment)
	}
	for k := range t.trackers {
		if k.bcast && k.db == n && change.Moment > k.since {
			t.broadcast(k, all)
		}
	}
}

// invalidate tells those who have read a key before a moment. Who is not told of what it does
// itself is told of what is done to what it has read since: also where that was in one transaction,
// or group, with what it did.
func (t *tracking) invalidate(key trackedKey, by author, moment uint64) {
	all := t.keys[key]
	for k, at := range all {
		_, there := t.trackers[k]
		own := there && k.noloop && k.client.id == by.client
		if there && at.moment >= moment || own && at.turn > by.turn {
			continue
		}
		delete(all, k)
		t.items--
		t.bytes -= readingSize
		if there && !k.bcast && !own {
			t.send(k, &invalidation{keys: []string{key.name}})
		}
	}
	if len(all) == 0 && all != nil {
		delete(t.keys, key)
		t.bytes -= len(key.name)
	}
}

// broadcast tells a client of those keys that begin with its prefixes, in a message for each.
func (t *tracking) broadcast(k *tracker, all []changed) {
	for _, prefix := range k.prefixes {
		var keys []string
		for _, c := range all {
			if strings.HasPrefix(c.key, prefix) && !(k.noloop && c.by.client == k.client.id) {
				keys = append(keys, c.key)
			}
		}
		if slices.Sort(keys); len(keys) > 0 {
			t.send(k, &invalidation{keys: slices.Compact(keys)})
		}
	}
}

// remember notes that a client reads a key, from a view of a moment. Where something was told
// meanwhile that the view has not, it is told at once.
func (t *tracking) remember(k *tracker, n int, name string, at readAt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.follows[n]
	if _, there := t.trackers[k]; !there || k.bcast {
		return
	}
	if d == nil || at.moment < d.told {
		t.send(k, &invalidation{keys: []string{name}})
		return
	}
	all := t.keys[trackedKey{n, name}]
	if all == nil {
		all = readings{}
		t.keys[trackedKey{n, strings.Clone(name)}] = all
		t.bytes += len(name)
	}
	if _, twice := all[k]; !twice {
		t.items++
		t.bytes += readingSize
	}
	all[k] = at
	for other := range t.keys {
		if len(t.keys) <= MaxTracked && t.bytes <= MaxTrackedBytes {
			break
		}
		t.invalidate(other, author{}, ^uint64(0))
	}
}

// send has a client be told, or who is told in its place. That one being gone is told itself.
func (t *tracking) send(k *tracker, m *invalidation) {
	to := k.client
	if k.redirect != nil {
		t.server.mu.Lock()
		_, there := t.server.clients[k.redirect]
		t.server.mu.Unlock()
		there = there && !k.redirect.evicted() // who is to be closed is sent nothing more
		if k.broken.Store(!there); there {
			to, m.redirected = k.redirect, true
		} else {
			m = &invalidation{lost: k.redirect.id}
		}
	}
	to.box.put(mail{invalid: m})
}

// invalidation is what a client is told of keys that it may keep a copy of.
type invalidation struct {
	keys       []string
	all        bool
	redirected bool
	lost       int64 // the client that was to be told is gone: its number
}

func (m *invalidation) size() (bytes int) {
	for _, key := range m.keys {
		bytes += len(key) + ArgumentCost
	}
	return bytes
}

// write writes it: over RESP2 as a message of a channel, for who was told to be told so.
func (m *invalidation) write(out *replies, subscriber bool) {
	switch {
	case m.lost != 0 && out.resp3:
		out.push(2)
		out.text("tracking-redir-broken")
		out.integer(m.lost)
		return
	case m.lost != 0 || !out.resp3 && !(m.redirected && subscriber):
		return
	case out.resp3:
		out.push(2)
		out.text("invalidate")
	default:
		out.push(3)
		out.text("message")
		out.text("__redis__:invalidate")
	}
	if m.all {
		out.null()
		return
	}
	out.array(len(m.keys))
	for _, key := range m.keys {
		out.text(key)
	}
}

// track notes which keys a command reads, if its client is told of their changes.
func (c *call) track(cmd *command) {
	s := c.session
	if s.tracker == nil || c.tx == nil || cmd.access != accessRead && cmd.access != accessScan ||
		s.tracker.optin && !s.caching || s.tracker.optout && s.caching {
		return
	}
	keys, err := cmd.keysOf(c.args)
	if err != nil {
		return
	}
	for _, key := range keys {
		c.server.tracking.remember(s.tracker, s.index, string(key), readAt{c.tx.Moment(), s.turn})
	}
}

// endTracking has the client be told nothing more.
func (s *session) endTracking(of *Server) {
	if s.tracker != nil {
		of.tracking.leave(s.tracker)
	}
	s.tracker, s.caching = nil, false
}

func runClientTracking(c *call) error {
	options, prefixes, err := c.trackingOptions()
	switch {
	case err != nil:
		return err
	case c.is(2, "off"):
		c.session.endTracking(c.server)
		c.out.status("OK")
		return nil
	case !c.is(2, "on"):
		return errSyntax
	}
	if err := c.session.tracker.mayBecome(options, prefixes); err != nil {
		return err
	}
	if err := c.server.tracking.enter(c.client, c.session.index, c.selected(), options, prefixes); err != nil {
		return err
	}
	c.session.subs.box.start()
	c.session.subs.begun = true
	c.out.status("OK")
	return nil
}

// trackingOptions reads those of CLIENT TRACKING.
func (c *call) trackingOptions() (o trackingOptions, prefixes []string, err error) {
	for i := 3; i < len(c.args); i++ {
		switch more := i+1 < len(c.args); {
		case c.is(i, "redirect") && more && o.redirect != nil:
			return o, nil, replyError("ERR A client can only redirect to a single other client")
		case c.is(i, "redirect") && more:
			i++
			id, err := c.integer(i)
			if err != nil {
				return o, nil, err
			}
			found := c.clients(func(other *client, _ view) bool { return other.id == id })
			if len(found) == 0 {
				return o, nil, replyError("ERR The client ID you want redirect to does not exist")
			}
			o.redirect = found[0]
		case c.is(i, "prefix") && more:
			i++
			prefixes = append(prefixes, c.arg(i))
		case c.is(i, "bcast"):
			o.bcast = true
		case c.is(i, "optin"):
			o.optin = true
		case c.is(i, "optout"):
			o.optout = true
		case c.is(i, "noloop"):
			o.noloop = true
		default:
			return o, nil, errSyntax
		}
	}
	return o, prefixes, nil
}

// mayBecome reports why a client cannot be told as the options say: k is how it is told, nil if it
// is not.
func (k *tracker) mayBecome(o trackingOptions, prefixes []string) error {
	var was trackingOptions
	var there nameSet
	if k != nil {
		was, there = k.trackingOptions, k.prefixes
	}
	const again = " before disabling tracking for this client, and then re-enabling it with a different mode."
	switch {
	case !o.bcast && len(prefixes) > 0:
		return replyError("ERR PREFIX option requires BCAST mode to be enabled")
	case k != nil && was.bcast != o.bcast:
		return replyError("ERR You can't switch BCAST mode on/off" + again)
	case o.bcast && (o.optin || o.optout):
		return replyError("ERR OPTIN and OPTOUT are not compatible with BCAST")
	case o.optin && o.optout:
		return replyError("ERR You can't specify both OPTIN mode and OPTOUT mode")
	case o.optin && was.optout || o.optout && was.optin:
		return replyError("ERR You can't switch OPTIN/OPTOUT mode" + again)
	case len(there)+len(prefixes) > MaxPatterns:
		return replyError(fmt.Sprintf("ERR more than %d prefixes of a client (MaxPatterns)", MaxPatterns))
	}
	meets := func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }
	const not = "'. Prefixes for a single client must not overlap."
	for i, prefix := range prefixes {
		for _, other := range there {
			if meets(prefix, other) {
				return replyError("ERR Prefix '" + prefix + "' overlaps with an existing prefix '" + other + not)
			}
		}
		for _, other := range prefixes[i+1:] {
			if meets(prefix, other) {
				return replyError("ERR Prefix '" + prefix + "' overlaps with another provided prefix '" + other + not)
			}
		}
	}
	return nil
}

// runClientCaching has what the next command reads be tracked, or not.
func runClientCaching(c *call) error {
	k := c.session.tracker
	switch {
	case k == nil:
		return replyError("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	case c.is(2, "yes") && !k.optin:
		return replyError("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	case c.is(2, "no") && !k.optout:
		return replyError("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	case !c.is(2, "yes") && !c.is(2, "no"):
		return errSyntax
	}
	c.session.caching = true
	c.out.status("OK")
	return nil
}

// redirects returns the number of the client that is told, 0 if it is the client itself, -1 if none
// is.
func (k *tracker) redirects() int64 {
	switch {
	case k == nil:
		return -1
	case k.redirect == nil:
		return 0
	}
	return k.redirect.id
}

func runClientGetRedir(c *call) error {
	c.out.integer(c.session.tracker.redirects())
	return nil
}

func runClientTrackingInfo(c *call) error {
	flags, prefixes := []string{"off"}, nameSet{}
	if k := c.session.tracker; k != nil {
		flags = c.server.tracking.flagsOf(k, c.session.caching)
		prefixes = k.prefixes
	}
	c.out.dict(3)
	c.out.text("flags")
	c.out.set(len(flags))
	for _, flag := range flags {
		c.out.text(flag)
	}
	c.out.text("redirect")
	c.out.integer(c.session.tracker.redirects())
	c.out.text("prefixes")
	c.out.array(len(prefixes))
	for _, prefix := range prefixes {
		c.out.text(prefix)
	}
	return nil
}

// flagsOf returns the words for how a client is told.
func (t *tracking) flagsOf(k *tracker, caching bool) (flags []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range []struct {
		is   bool
		name string
	}{
		{true, "on"}, {k.bcast, "bcast"}, {k.optin, "optin"}, {k.optin && caching, "caching-yes"}, {k.optout, "optout"},
		{k.optout && caching, "caching-no"}, {k.noloop, "noloop"}, {k.broken.Load(), "broken_redirect"},
	} {
		if f.is {
			flags = append(flags, f.name)
		}
	}
	return flags
}
