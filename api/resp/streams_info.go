package resp

import (
	"github.com/peerd/peerd/crdt"
)

// infoStream returns the stream that XINFO is to tell of.
func (c *call) infoStream() (s crdt.Stream, err error) {
	if !c.tx.Has(c.arg(2)) {
		return s, errNoKey
	}
	return c.tx.Stream(c.arg(2)), c.notStream(c.arg(2))
}

func runXInfoStream(c *call) error {
	s, err := c.infoStream()
	if err != nil {
		return err
	}
	full, count := len(c.args) > 3, int64(10)
	if full {
		switch {
		case len(c.args) != 4 && len(c.args) != 6, !c.is(3, "full"), len(c.args) == 6 && !c.is(4, "count"):
			return wrongUse(c)
		case len(c.args) == 6:
			if count, err = c.integer(5); err != nil {
				return err
			}
			if count < 0 {
				count = 10
			}
		}
	}
	c.out.dict(map[bool]int{true: 9, false: 10}[full])
	c.streamFigures(s)
	if full {
		c.fullStream(s, count)
		return nil
	}
	groups := int64(0)
	for range s.Groups() {
		groups++
	}
	c.out.text("groups")
	c.out.integer(groups)
	c.out.text("first-entry")
	found := false
	for e := range s.Range(crdt.StreamID{}, crdt.MaxStreamID) {
		c.out.entry(e)
		found = true
		break
	}
	if !found {
		c.out.null()
	}
	c.out.text("last-entry")
	for e := range s.Backward(crdt.StreamID{}, crdt.MaxStreamID) {
		c.out.entry(e)
		return nil
	}
	c.out.null()
	return nil
}

// streamFigures writes what XINFO tells of a stream in any case. There is no radix tree: it tells
// what Redis would have.
func (c *call) streamFigures(s crdt.Stream) {
	info, length, first := s.Info(), s.Len(), crdt.StreamID{}
	for e := range s.Range(crdt.StreamID{}, crdt.MaxStreamID) {
		first = e.ID
		break
	}
	node := c.server.streamNode()
	nodes := int64((length + node - 1) / node)
	for _, figure := range []struct {
		name string
		n    int64
	}{{"length", int64(length)}, {"radix-tree-keys", nodes}, {"radix-tree-nodes", nodes + 1}} {
		c.out.text(figure.name)
		c.out.integer(figure.n)
	}
	c.out.text("last-generated-id")
	c.out.text(info.Last.String())
	c.out.text("max-deleted-entry-id")
	c.out.text(info.MaxDeleted.String())
	c.out.text("entries-added")
	c.out.integer(info.Added)
	c.out.text("recorded-first-entry-id")
	c.out.text(first.String())
}

func (c *call) fullStream(s crdt.Stream, count int64) {
	c.out.text("entries")
	c.entries(s.Range(crdt.StreamID{}, crdt.MaxStreamID), count)
	c.out.text("groups")
	at, n := len(c.out.buf), 0
	for name := range s.Groups() {
		c.fullGroup(s.Group(name), name, count)
		if n++; len(c.out.buf)-at > MaxReply {
			break
		}
	}
	c.out.arrayAt(at, n)
}

// pendingOf is what is pending of a group, in all and by consumer.
type pendingOf struct {
	all  []crdt.Pending
	each map[string][]crdt.Pending
}

func pendingIn(g crdt.Group) pendingOf {
	p := pendingOf{each: map[string][]crdt.Pending{}}
	for one := range g.Pending(crdt.StreamID{}, crdt.MaxStreamID) {
		p.all = append(p.all, one)
		p.each[one.Consumer] = append(p.each[one.Consumer], one)
	}
	return p
}

func (c *call) fullGroup(g crdt.Group, name string, count int64) {
	some := func(all []crdt.Pending) []crdt.Pending {
		if count == 0 {
			return all
		}
		return all[:min(int64(len(all)), count)]
	}
	pending := pendingIn(g)
	c.out.dict(7)
	c.out.text("name")
	c.out.text(name)
	c.groupFigures(g)
	c.out.text("pel-count")
	c.out.integer(int64(len(pending.all)))
	c.out.text("pending")
	c.out.array(len(some(pending.all)))
	for _, p := range some(pending.all) {
		c.out.array(4)
		c.out.text(p.ID.String())
		c.out.text(p.Consumer)
		c.out.integer(p.Delivered.UnixMilli())
		c.out.integer(int64(p.Count))
	}
	c.out.text("consumers")
	at, n := len(c.out.buf), 0
	for consumer := range g.Consumers() {
		n++
		own := pending.each[consumer.Name]
		c.out.dict(4)
		c.out.text("name")
		c.out.text(consumer.Name)
		c.out.text("seen-time")
		c.out.integer(consumer.Seen.UnixMilli())
		c.out.text("pel-count")
		c.out.integer(int64(len(own)))
		c.out.text("pending")
		c.out.array(len(some(own)))
		for _, p := range some(own) {
			c.out.array(3)
			c.out.text(p.ID.String())
			c.out.integer(p.Delivered.UnixMilli())
			c.out.integer(int64(p.Count))
		}
	}
	c.out.arrayAt(at, n)
}

// groupFigures writes how far a group has read.
func (c *call) groupFigures(g crdt.Group) {
	info, _ := g.Info()
	c.out.text("last-delivered-id")
	c.out.text(info.Last.String())
	lag, ok := g.Lag()
	for _, figure := range []struct {
		name  string
		n     int64
		known bool
	}{{"entries-read", info.Read, info.Read >= 0}, {"lag", lag, ok}} {
		c.out.text(figure.name)
		if figure.known {
			c.out.integer(figure.n)
		} else {
			c.out.null()
		}
	}
}

func runXInfoGroups(c *call) error {
	s, err := c.infoStream()
	if err != nil {
		return err
	}
	at, n := len(c.out.buf), 0
	for name := range s.Groups() {
		g := s.Group(name)
		consumers := int64(0)
		for range g.Consumers() {
			consumers++
		}
		c.out.dict(6)
		c.out.text("name")
		c.out.text(name)
		c.out.text("consumers")
		c.out.integer(consumers)
		c.out.text("pending")
		c.out.integer(int64(len(pendingIn(g).all)))
		c.groupFigures(g)
		n++
	}
	c.out.arrayAt(at, n)
	return nil
}

func runXInfoConsumers(c *call) error {
	s, err := c.infoStream()
	if err != nil {
		return err
	}
	g := s.Group(c.arg(3))
	if !g.Exists() {
		return noGroup(c.args[2], c.args[3])
	}
	at, n, now, pending := len(c.out.buf), 0, c.tx.Now(), pendingIn(g)
	for consumer := range g.Consumers() {
		n++
		c.out.dict(3)
		c.out.text("name")
		c.out.text(consumer.Name)
		c.out.text("pending")
		c.out.integer(int64(len(pending.each[consumer.Name])))
		c.out.text("idle")
		c.out.integer(max(now.Sub(consumer.Seen).Milliseconds(), 0))
	}
	c.out.arrayAt(at, n)
	return nil
}
