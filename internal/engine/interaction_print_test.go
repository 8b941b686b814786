package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// What scripts say. A replica is called by its host and the how manieth id of that it is. Hashes and times are left out.

// print says what a Ready does, field by field, in their order.
func (a *actor) print(rd *Ready, always bool) {
	before := a.s.out.Len()
	if !a.s.quiet {
		a.printWork(rd)
	}
	for _, p := range rd.Pulls {
		switch {
		case p.Over && p.Err != nil:
			a.line("pull", fmt.Sprintf("from %s is over: %v", p.From, shortError(p.Err)))
		case p.Over:
			a.line("pull", fmt.Sprintf("from %s is over: %d added, %d removed", p.From, p.Result.Added, p.Result.Removed))
		case a.s.quiet:
		case p.repair == nil:
			a.line("pull", fmt.Sprintf("from %s begins", p.From))
		default:
			a.line("pull", fmt.Sprintf("from %s goes on", p.From))
		}
	}
	if rd.Verify != nil && !a.s.quiet {
		a.line("verify", "")
	}
	for _, n := range rd.Notices {
		a.line("notice", noticeName(n))
	}
	if rd.Closed {
		a.line("closed", "")
	}
	if always && a.s.out.Len() == before {
		a.line("nothing", "")
	}
	if always && rd.Again {
		a.line("again", "")
	}
}

func (a *actor) printWork(rd *Ready) {
	if refuses := rd.Refusing != nil; refuses != a.refuses {
		a.refuses = refuses
		a.line("refusing", map[bool]string{true: "readers and writers", false: "nobody any more"}[refuses])
	}
	for _, w := range rd.Writes {
		a.line("writes", writeName(w))
	}
	for _, u := range rd.Answers {
		u := u.(*asked)
		a.line("answers", fmt.Sprintf("update %d: %s", u.n, runsOf(u.said)))
	}
	for _, f := range rd.Handled {
		if f.Err != nil {
			a.line("handled", fmt.Sprintf("a frame of %s: %v", f.From, f.Err))
		}
	}
	for _, f := range rd.Frames {
		a.line("sends", fmt.Sprintf("%s %s", f.To, frameName(f.Data)))
	}
	if len(rd.Committed) > 0 {
		a.line("commits", deltaNames(rd.Committed))
	}
	if rd.Jumped {
		a.line("jumped", "")
	}
	if rd.Sync != nil {
		what := "the log"
		if rd.Sync.Tree {
			what += " and the tree"
		}
		a.line("sync", what)
	}
}

func (a *actor) line(what, rest string) {
	a.s.say("%s", strings.TrimRight(fmt.Sprintf("%d  %-8s %s", a.i, what, rest), " "))
}

// shortError returns the beginning of an error, without the id that may stand before it.
func shortError(err error) string {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "replica "); ok {
		_, text, _ = strings.Cut(rest, ": ")
	}
	text, _, _ = strings.Cut(text, ":")
	text, _, _ = strings.Cut(text, ",")
	return text
}

// runsOf joins words, of which equal ones that follow each other are counted.
func runsOf(words []string) string {
	var out []string
	for len(words) > 0 {
		n := 1
		for n < len(words) && words[n] == words[0] {
			n++
		}
		if word := words[0]; n > 1 {
			out = append(out, fmt.Sprintf("%d × %s", n, word))
		} else {
			out = append(out, word)
		}
		words = words[n:]
	}
	return strings.Join(out, ", ")
}

func idName(id crdt.ReplicaID) string {
	if id == 0 {
		return "nobody"
	}
	return fmt.Sprintf("%d.%d", id>>8, id&0xff)
}

func dotName(d crdt.Dot) string { return fmt.Sprintf("%s:%d", idName(d.Replica), d.Counter) }

func vectorName(v crdt.VersionVector) string {
	var parts []string
	for _, id := range v.Replicas() {
		parts = append(parts, dotName(crdt.Dot{Replica: id, Counter: v[id]}))
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// deltaNames names deltas by their dots; those of one replica that follow each other by the first and the last.
func deltaNames(deltas []*delta.Delta) string {
	var out []string
	for i := 0; i < len(deltas); {
		first, last := deltas[i], deltas[i]
		for i++; i < len(deltas) && deltas[i].Replica == first.Replica && deltas[i].First == last.Last()+1; i++ {
			last = deltas[i]
		}
		name := dotName(first.Dot(0))
		if last.Last() > first.First {
			name += fmt.Sprintf("-%d", last.Last())
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

// shown bounds how many operations of a record are named.
const shownOps = 4

func opNames(deltas []*delta.Delta) string {
	var ops []string
	total := 0
	for _, d := range deltas {
		for _, op := range d.Ops {
			if total++; total > shownOps {
				continue
			}
			what := delta.Describe(op)
			if what.Operation == "base" {
				ops = append(ops, "base")
				continue
			}
			ops = append(ops, strings.TrimSpace(what.Operation+" "+what.Key))
		}
	}
	if total > shownOps {
		ops = append(ops, fmt.Sprintf("%d more", total-shownOps))
	}
	return strings.Join(ops, ", ")
}

func writeName(w Write) string {
	switch {
	case w.Record != nil:
		rec, err := decodeLogged(w.Record)
		if err != nil {
			return err.Error()
		}
		kind := []string{"", "", "the end of a repair", "a slice of a repair", "the last slice of a repair", "what is derived"}
		what := kind[rec.kind]
		if rec.kind == recordGroup {
			what = deltaNames(rec.deltas) + ": " + opNames(rec.deltas)
		}
		return fmt.Sprintf("log %d: %s", rec.lsn, what)
	case w.Batch != nil:
		return "tree: " + batchName(w.Batch)
	case w.SyncLog:
		return "sync of the log"
	case w.SyncTree:
		return "sync of the tree"
	}
	return "drop of the log's beginning"
}

// recordNames say what the tree's records are, in the order of architecture.md.
var recordNames = []struct {
	prefix byte
	name   string
}{
	{prefixCell, "cell"}, {prefixPart, "part"}, {prefixBlob, "blob"}, {prefixSummary, "summary"}, {prefixCount, "count"},
	{prefixLeaf, "leaf entry"}, {prefixStage, "staged change"}, {prefixBase, "base"}, {prefixClear, "clear"},
	{prefixSeen, "context"}, {prefixPage, "page"}, {prefixMoved, "sums of a batch"},
}

func batchName(b *store.Batch) string {
	var out []string
	for _, gone := range []bool{false, true} {
		verb := "+"
		if gone {
			verb = "-"
		}
		for _, r := range recordNames {
			n := 0
			for _, op := range b.Ops {
				if op.Key[0] == r.prefix && op.Delete == gone {
					n++
				}
			}
			if n > 0 {
				out = append(out, fmt.Sprintf("%s%d %s", verb, n, r.name))
			}
		}
		for _, op := range b.Ops {
			if op.Key[0] == 'm' && op.Delete == gone {
				out = append(out, verb+string(op.Key[1:]))
			}
		}
	}
	return strings.Join(out, ", ")
}

func questionName(q antientropy.Request) string {
	switch q.Kind {
	case antientropy.KindBases:
		return "bases"
	case antientropy.KindPin:
		return "its context"
	case antientropy.KindNodes:
		return "nodes of the tree"
	case antientropy.KindLeaves:
		return fmt.Sprintf("%d leaves", len(q.Leaves))
	case antientropy.KindScan:
		return "all cells"
	}
	return fmt.Sprintf("kind %d", q.Kind)
}

func noticeName(n Notice) string {
	names := []string{"cannot collect", "mismatch", "checking", "sound", "checked", "cannot check", "damaged", "discarding", "discarded",
		"rebuilt", "helpless", "incomplete", "forked", "repaired"}
	out := names[n.Kind]
	if n.From != "" {
		out += " from " + string(n.From)
	}
	for _, f := range n.Forks {
		out += fmt.Sprintf(" %s after %d, others at %v", idName(f.Replica), f.Parts, f.There)
	}
	return out
}

// Kinds of frames, as package gossip numbers them.
var frameNames = []string{"", "Hello", "Deltas", "Have", "Prune", "Behind", "Digest", "Ask", "Chain", "Ack", "Fork", "Bases",
	"Part", "Secure", "Secured"}

func frameName(data []byte) string {
	name, rest := frameNames[data[0]], ""
	err := wire.Decode(data[1:], func(r *wire.Reader) {
		fields := r.Array(64)
		read := 1
		switch name {
		case "Hello":
			read = 8
			rest = helloName(r)
		case "Deltas":
			read = 2
			rest = deltaNames(readFrameDeltas(r))
			if news, _ := delta.ReadContext(r); len(news) > 0 {
				rest += ", has " + vectorName(news)
			}
		case "Have":
			news, _ := delta.ReadContext(r)
			rest = vectorName(news)
		case "Ask", "Chain":
			rest = idName(crdt.ReplicaID(r.Uint()))
		case "Prune", "Fork":
			rest = idNames(r)
		case "Bases":
			rest = tableNames(r)
		case "Secure", "Secured":
			read = 2
			rest = dotName(crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()})
		default:
			read = 0
		}
		r.Skip(fields - read)
	})
	if err != nil {
		return name + " " + err.Error()
	}
	return strings.TrimRight(name+" "+rest, " ")
}

func idNames(r *wire.Reader) string {
	var ids []string
	for range r.Array(1 << 16) {
		ids = append(ids, idName(crdt.ReplicaID(r.Uint())))
	}
	return strings.Join(ids, " ")
}

func tableNames(r *wire.Reader) string {
	var out []string
	for _, t := range delta.ReadTables(r, 1<<12) {
		for _, b := range t.Bases {
			out = append(out, dotName(crdt.Dot{Replica: b.Replica, Counter: b.Last}))
		}
	}
	return strings.Join(out, " ")
}

func helloName(r *wire.Reader) string {
	r.Uint()
	r.Uint()
	seen, _ := delta.ReadContext(r)
	out := vectorName(seen)
	if r.Bool() {
		out += ", and you?"
	}
	if graft := idNames(r); graft != "" {
		out += ", send again " + graft
	}
	if !r.Bool() {
		out += ", not whole"
	}
	r.Uint()
	r.Uint()
	return out
}

func readFrameDeltas(r *wire.Reader) []*delta.Delta {
	deltas, err := new(delta.Unpacker).Unpack(r.Bytes(gossip.MaxFrame), 1<<12, gossip.MaxFrame)
	if err != nil {
		r.Fail("%v", err)
	}
	return deltas
}

// deltasIn returns the deltas of a frame.
func deltasIn(data []byte) (deltas []*delta.Delta) {
	if frameNames[data[0]] != "Deltas" {
		return nil
	}
	_ = wire.Decode(data[1:], func(r *wire.Reader) {
		fields := r.Array(64)
		deltas = readFrameDeltas(r)
		r.Skip(fields - 1)
	})
	return deltas
}

// state says how a host is.
func (a *actor) state() string {
	if a.e == nil {
		return fmt.Sprintf("%d  is down", a.i)
	}
	e := a.e
	out := fmt.Sprintf("%d  has %s: %d keys; log %d to %d, in the tree to %d", a.i, vectorName(e.seen), e.keys,
		e.log.First, e.log.Last, e.saved.lsn)
	for _, is := range []struct {
		what string
		so   bool
	}{
		{"damaged", e.damage != nil}, {"rebuilding", e.rebuilding}, {"being repaired", e.Repairing()},
		{"busy", e.Busy()}, {"sweeping", e.Clears() > 0}, {"waiting for what no neighbour has", e.waits()},
	} {
		if is.so {
			out += "; " + is.what
		}
	}
	for _, id := range e.Neighbours() {
		known, greeted := e.Known(id)
		switch {
		case e.Quarantined(id):
			out += fmt.Sprintf("; %s is in quarantine", id)
		case !greeted:
			out += fmt.Sprintf("; %s said nothing", id)
		default:
			out += fmt.Sprintf("; %s has %s", id, vectorName(known))
		}
	}
	return out
}

// read says what a reader sees.
func (a *actor) read() {
	if err := a.e.Refusal(); err != nil {
		a.line("refuses", shortError(err))
		return
	}
	v := a.e.View()
	defer v.Close()
	var keys []string
	err := v.Keys("", "", func(key string, _ dotted.Summary) bool { keys = append(keys, key); return true })
	if err != nil {
		a.s.t.Fatal(err)
	}
	f := Fields(v)
	var out []string
	for _, key := range keys {
		text, _ := f.String(key).Get()
		if elements := slices.Sorted(f.Set(key).All()); len(elements) > 0 {
			text = fmt.Append(nil, elements)
		}
		if n := len(text); n > 40 {
			text = bytes.TrimLeft(fmt.Appendf(nil, "%d bytes", n), "\x00")
		}
		out = append(out, fmt.Sprintf("%s=%s", key, text))
	}
	const most = 12
	if more := len(out) - most; more > 0 {
		out = append(out[:most], fmt.Sprintf("and %d more", more))
	}
	a.line("reads", strings.Join(out, " "))
}
