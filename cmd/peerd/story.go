package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/peerd/peerd/peer"
)

// The places of the story, in the order in which they are opened.
const (
	oslo = iota
	lima
	kyoto // the one that is cut off
)

// line is a command that the story gives to a place.
type line struct {
	at      int
	command string
}

// The writes before the cut, which all three see.
var together = []line{
	{oslo, "SET greeting hello"}, {lima, "SADD fruit apple"}, {lima, "HSET ann mail a@example.com"},
	{kyoto, "INCR visits"},
}

// The writes during the cut, side by side. What kyoto writes is written after what the others do.
var apart = []struct{ here, there line }{
	{line{oslo, "INCRBY visits 10"}, line{kyoto, "INCRBY visits 5"}},
	{line{lima, "SADD fruit apple cherry"}, line{kyoto, "SREM fruit apple"}},
	{line{lima, "HSET ann city Lima"}, line{kyoto, "HSET ann mail ann@example.com"}},
	{line{oslo, "SET greeting hei"}, line{kyoto, "SET greeting konnichiwa"}},
	{line{oslo, "SET note:1 snow"}, line{kyoto, "SET note:2 rain"}},
}

// The keys that are shown, how they are read, and what they must have become in the end, and why.
var shown = []struct{ key, read, want, why string }{
	{"visits", "GET visits", "16", "a counter: 1, and what both sides added"},
	{"fruit", "SMEMBERS fruit", "apple cherry", "a set: an add wins over a removal meanwhile"},
	{"ann", "HGETALL ann", "city=Lima mail=ann@example.com", "a map: each field for itself"},
	{"greeting", "GET greeting", "konnichiwa", "a string: the later write wins"},
	{"note:1", "GET note:1", "snow", "written on one side alone"},
	{"note:2", "GET note:2", "rain", "written on one side alone"},
}

// tell tells the story. The daemons serve as long as the second context.
func (d *demo) tell(ctx, serve context.Context) error {
	steps := []func(ctx, serve context.Context) error{
		d.start, d.writeTogether, d.cutOff, d.writeApart, d.heal,
	}
	for _, step := range steps {
		if err := step(ctx, serve); err != nil {
			return err
		}
	}
	d.invite()
	return nil
}

func (d *demo) start(ctx, serve context.Context) error {
	d.say("Three peers start, each with its own directory under\n  %s", d.dir)
	began := time.Now()
	for _, name := range []string{"oslo", "lima", "kyoto"} {
		if err := d.open(ctx, serve, name); err != nil {
			return err
		}
	}
	_, err := d.until(ctx, "the peers to find each other", func(all []peer.Status) bool {
		return !slices.ContainsFunc(all, func(s peer.Status) bool { return linked(s) < len(all)-1 })
	})
	d.say("1. oslo, lima and kyoto are up and have found each other, after %s.",
		took(time.Since(began)))
	return err
}

// linked counts the members that a peer has a stream to.
func linked(s peer.Status) (n int) {
	for _, m := range s.Members {
		if m.Linked {
			n++
		}
	}
	return n
}

func (d *demo) writeTogether(ctx, _ context.Context) error {
	for _, l := range together {
		if _, err := d.run(l); err != nil {
			return err
		}
	}
	after, err := d.until(ctx, "the first writes to arrive", agree)
	d.say("2. One write here, one there; all three have seen them all after %s:", took(after))
	for _, l := range together {
		d.say("     %-7s %s", d.places[l.at].name, l.command)
	}
	return err
}

func (d *demo) cutOff(ctx, _ context.Context) error {
	alone := d.places[kyoto]
	for _, p := range d.places[:kyoto] {
		p.cut.Block(alone.gossip)
	}
	alone.cut.Block(d.places[oslo].gossip, d.places[lima].gossip)
	after, err := d.until(ctx, "the cut", func(all []peer.Status) bool {
		return linked(all[oslo]) == 1 && linked(all[lima]) == 1 && linked(all[kyoto]) == 0
	})
	d.say("3. The network to kyoto is cut, within %s. Nothing stops: both sides take writes,",
		took(after))
	return err
}

// writeApart writes on one side of the cut, and when that is seen there everywhere, on the other.
func (d *demo) writeApart(ctx, _ context.Context) error {
	for _, w := range apart {
		if _, err := d.run(w.here); err != nil {
			return err
		}
	}
	_, err := d.until(ctx, "oslo and lima to agree", func(all []peer.Status) bool {
		return agree(all[:kyoto])
	})
	if err != nil {
		return err
	}
	for _, w := range apart {
		if _, err := d.run(w.there); err != nil {
			return err
		}
		d.say("     %-7s %-26s| %-7s %s", d.places[w.here.at].name, w.here.command,
			d.places[w.there.at].name, w.there.command)
	}
	return d.showDifference()
}

// showDifference shows that both sides took their writes and now differ.
func (d *demo) showDifference() error {
	all, err := d.statuses()
	if err != nil {
		return err
	}
	if agree(all) {
		return fmt.Errorf("the cut did not hold: all three peers hold the same")
	}
	d.say("   and differ:")
	d.say("     %-9s%-32s| %s", "", "oslo and lima", "kyoto")
	for _, s := range shown {
		here, err := d.read(oslo, s.read)
		if err != nil {
			return err
		}
		there, err := d.read(kyoto, s.read)
		if err != nil {
			return err
		}
		d.say("     %-9s%-32s| %s", s.key, here, there)
	}
	d.say("     %-9s%-32s| %s", "state", state(all[oslo]), state(all[kyoto]))
	return nil
}

func (d *demo) heal(ctx, _ context.Context) error {
	for _, p := range d.places {
		p.cut.Block()
	}
	after, err := d.until(ctx, "the peers to agree", agree)
	if err != nil {
		return err
	}
	all, err := d.statuses()
	if err != nil {
		return err
	}
	d.say("4. The cut is healed. After %s all three hold the same, state %s:", took(after),
		state(all[oslo]))
	for _, s := range shown {
		for at, p := range d.places {
			got, err := d.read(at, s.read)
			if err != nil {
				return err
			}
			if got != s.want {
				return fmt.Errorf("%s became %q at %s and should be %q: this is a bug of peerd",
					s.key, got, p.name, s.want)
			}
		}
		d.say("     %-9s%-32s  %s", s.key, s.want, s.why)
	}
	return d.showKept(ctx)
}

// showKept shows that a string keeps the write that lost beside the one that won.
func (d *demo) showKept(ctx context.Context) error {
	return d.places[lima].daemon.peer.View(ctx, func(tx *peer.Tx) error {
		var texts []string
		for text := range tx.Register("greeting").All() {
			texts = append(texts, string(text))
		}
		if len(texts) < 2 {
			return nil
		}
		slices.Sort(texts)
		d.say("   The write that lost is not gone: until the next SET programs find both, %s.",
			strings.Join(texts, " and "))
		return nil
	})
}

func (d *demo) invite() {
	d.say("\nTalk to them:")
	for _, p := range d.places {
		redis := p.daemon.redis.Addr().String()
		d.say("     %-7s redis-cli -p %s    http://%s/", p.name, portOf(redis),
			p.daemon.http.Addr())
	}
}

// run gives a command to its place.
func (d *demo) run(l line) ([]string, error) {
	p := d.places[l.at]
	reply, err := p.redis.do(l.command)
	if err != nil {
		return nil, fmt.Errorf("redis at %s: %w", p.name, err)
	}
	return reply, nil
}

// read returns the reply to a command as it is shown.
func (d *demo) read(at int, command string) (string, error) {
	reply, err := d.run(line{at, command})
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(command, "HGETALL") {
		var fields []string
		for pair := range slices.Chunk(reply, 2) {
			fields = append(fields, strings.Join(pair, "="))
		}
		reply = fields
	}
	slices.Sort(reply)
	if len(reply) == 0 {
		return "-", nil
	}
	return strings.Join(reply, " "), nil
}

// agree reports whether the peers hold the same.
func agree(all []peer.Status) bool {
	return !slices.ContainsFunc(all, func(s peer.Status) bool {
		return !s.Settled || s.ContextHash != all[0].ContextHash || s.Root != all[0].Root
	})
}

// state is what is compared to know whether peers hold the same, shortened.
func state(s peer.Status) string { return short(s.ContextHash) + "/" + short(s.Root) }
