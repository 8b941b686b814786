package resp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/gossip"
	embedded "github.com/peerd/peerd/peer"
)

// hosts is a cluster of peers that are cut off from each other and healed, each with a client.
type hosts struct {
	t       *testing.T
	peers   []*embedded.Peer
	cuts    []*embedded.Cut
	addrs   []string // of gossip
	clients []*peer

	addresses []string // of what each client is connected to
}

func newHosts(t *testing.T, n int) *hosts {
	t.Helper()
	return newHostsThatSync(t, n, embedded.None)
}

func newHostsThatSync(t *testing.T, n int, durability embedded.Durability) *hosts {
	t.Helper()
	h := &hosts{t: t}
	key := ""
	for i := range n {
		cfg := embedded.Config{
			Dir: t.TempDir(), Name: fmt.Sprint("peer", i), ClusterKey: key, Join: slices.Clone(h.addrs), Cut: &embedded.Cut{},
			Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0", FastGossip: true, Durability: durability,
		}
		p, err := embedded.Open(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			key = filepath.Join(cfg.Dir, "cluster.key")
		}
		_, address := startServer(t, Config{Peer: p})
		h.peers, h.cuts, h.clients = append(h.peers, p), append(h.cuts, cfg.Cut), append(h.clients, dial(t, address))
		h.addrs = append(h.addrs, h.status(i).GossipAddr)
		h.addresses = append(h.addresses, address)
	}
	h.heal()
	return h
}

func (h *hosts) status(i int) embedded.Status {
	s, err := h.peers[i].Status()
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// until waits for a condition.
func (h *hosts) until(what string, holds func() bool) {
	h.t.Helper()
	end := time.After(time.Minute)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-poll.C:
		case <-end:
			h.t.Fatalf("did not happen: %s", what)
		}
	}
}

// cut cuts all off from each other.
func (h *hosts) cut() {
	h.t.Helper()
	h.link()
}

// heal has all see each other again, and waits until they hold the same.
func (h *hosts) heal() {
	h.t.Helper()
	h.link(h.all()...)
}

func (h *hosts) all() (all []int) {
	for i := range h.peers {
		all = append(all, i)
	}
	return all
}

// link has some hosts see each other, and nobody else, and waits until they hold the same.
func (h *hosts) link(together ...int) {
	h.t.Helper()
	linked := func(i, j int) bool {
		return slices.Contains(together, i) && slices.Contains(together, j)
	}
	for i, cut := range h.cuts {
		var others []string
		for j, addr := range h.addrs {
			if i != j && !linked(i, j) {
				others = append(others, addr)
			}
		}
		cut.Block(others...)
	}
	h.until("the links", func() bool {
		for i := range h.peers {
			s := h.status(i)
			if len(s.Members) != len(h.peers)-1 {
				return false
			}
			for _, m := range s.Members {
				want := linked(i, slices.Index(h.addrs, m.Addr))
				if m.Linked != want || want && m.TheyLack == nil { // and they talk
					return false
				}
			}
		}
		return true
	})
	h.until("agreement", func() bool {
		for _, i := range together {
			first, s := h.status(together[0]), h.status(i)
			if !s.Settled || s.ContextHash != first.ContextHash || s.Root != first.Root {
				return false
			}
		}
		return true
	})
}

// later returns when the clock has gone on, so that what is written next is later.
func later() {
	for began := time.Now(); time.Since(began) < 2*time.Millisecond; {
	}
}

// TestAScriptReachesAnotherPeerWhole: who reads there, as of one moment, never sees a part of what it wrote, be it so much
// that it comes in several frames, nor when the two meet again.
func TestAScriptReachesAnotherPeerWhole(t *testing.T) {
	const keys, rounds = 50, 20
	h := newHosts(t, 2)
	writer, reader := h.clients[0], h.clients[1]
	script := fmt.Sprintf("local v = ARGV[1]..('x'):rep(ARGV[2]) for i = 1, %d do "+
		"redis.call('set', 'k'..i, v) redis.call('hset', 'h', i, ARGV[1]) end", keys)
	write := func(round int) {
		size := 10
		if round%8 == 7 {
			size = gossip.MaxFrame * 5 / 4 / keys
		}
		writer.send([]string{"EVAL", script, "0", fmt.Sprintf("%04d", round), strconv.Itoa(size)})
		if got := writer.reply(); got != "$-1" {
			t.Fatalf("round %d: %s", round, got)
		}
	}
	reads := [][]string{{"MULTI"}}
	for i := range keys {
		reads = append(reads, []string{"GETRANGE", fmt.Sprint("k", i+1), "0", "3"}, []string{"HGET", "h", strconv.Itoa(i + 1)})
	}
	reads = append(reads, []string{"EXEC"})
	seen := func() string {
		reader.send(reads...)
		for range reads[1:] {
			reader.reply()
		}
		shown := strings.Fields(reader.reply())
		if shown = slices.Compact(shown[1:]); len(shown) != 1 {
			t.Fatalf("a part of a script is seen: %s", shown)
		}
		return shown[0]
	}
	write(0)
	h.heal()
	for round := range rounds {
		write(round)
		for seen() != fmt.Sprintf("\"%04d\"", round) {
		}
	}
	h.cut()
	for round := range rounds {
		write(rounds + round)
	}
	for _, cut := range h.cuts {
		cut.Block()
	}
	for seen() != fmt.Sprintf("\"%04d\"", 2*rounds-1) {
	}
}

// TestThePageSaysWhatConflictsBecome: each row of its table is so, at two hosts that are cut off
// from each other.
func TestThePageSaysWhatConflictsBecome(t *testing.T) {
	rows := conflicts(t)
	h := newHosts(t, 2)
	do := func(host int, commands []string) {
		for _, command := range commands {
			if got := h.clients[host].ask(command); strings.HasPrefix(got, "-") {
				t.Errorf("%s: %s", command, got)
			}
			later()
		}
	}
	for _, row := range rows {
		do(0, row.before)
	}
	h.heal()
	h.cut()
	for _, row := range rows {
		do(0, row.a)
		do(1, row.b)
	}
	h.heal()
	for _, row := range rows {
		wants := strings.Split(row.want, ", or ") // one of which all see
		for i, p := range h.clients {
			got := strings.TrimSpace(forms.ReplaceAllString(values(p.ask(row.read)), ""))
			if !slices.Contains(wants, got) {
				t.Errorf("%+v: at host %d it is %q, want one of %q", row, i, got, wants)
			}
			wants = []string{got}
		}
	}
}

// forms are the lengths of arrays, and nulls.
var forms = regexp.MustCompile(`[*$]-?\d+ ?`)

// TestAGroupThatIsCreatedAtSeveralHostsIsGivenWhatAnyOfThemDidNotHave: at three that are cut off
// from each other, as by applications that create it when they start.
func TestAGroupThatIsCreatedAtSeveralHostsIsGivenWhatAnyOfThemDidNotHave(t *testing.T) {
	h := newHosts(t, 3)
	ask := func(i int, line string) {
		if got := h.clients[i].ask(line); strings.HasPrefix(got, "-") {
			t.Errorf("at host %d, %s: %s", i, line, got)
		}
	}
	ask(0, "XADD old 1-0 f v")
	h.heal()
	h.cut()
	for i, from := range []string{"0", "$", "$"} {
		ask(i, "XGROUP CREATE old g "+from)
	}
	ask(0, "XGROUP CREATE new g $ MKSTREAM")
	for i := 1; i < 3; i++ {
		ask(i, fmt.Sprintf("XADD new %d-0 f v", i))
		ask(i, "XGROUP CREATE new g $")
	}
	h.heal()
	for key, want := range map[string][]string{"old": {"1-0"}, "new": {"1-0", "2-0"}} {
		got := h.clients[1].ask("XREADGROUP GROUP g worker STREAMS " + key + " >")
		for _, id := range want {
			if !strings.Contains(got, id) {
				t.Errorf("%s: %s is given to nobody: %s", key, id, got)
			}
		}
	}
}

type conflict struct {
	before, a, b []string
	read, want   string
}

// conflicts returns the rows of the page's table, each about a key of its own.
func conflicts(t *testing.T) (rows []conflict) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, text2, _ := strings.Cut(string(text), "| before | A did | B did | both see | Active-Active |\n")
	for line := range strings.Lines(text2) {
		cells := strings.Split(line, "|")
		if strings.TrimSpace(line) == "" {
			break
		}
		if len(cells) < 6 {
			t.Fatalf("no row of conflicts: %s", line)
		}
		if strings.HasPrefix(line, "|--") {
			continue
		}
		key := fmt.Sprint("row", len(rows))
		commands := func(cell string) (all []string) {
			for _, quoted := range regexp.MustCompile("`[^`]+`").FindAllString(cell, -1) {
				words := strings.Fields(strings.Trim(quoted, "`"))
				for i, w := range words {
					if w == "k" {
						words[i] = key
					}
				}
				all = append(all, strings.Join(words, " "))
			}
			return all
		}
		read, want, ok := strings.Cut(cells[4], ":")
		row := conflict{
			commands(cells[1]), commands(cells[2]), commands(cells[3]),
			strings.Join(commands(read), ""), strings.TrimSpace(want),
		}
		if !ok || len(row.before) == 0 || len(row.a) == 0 || len(row.b) == 0 || row.read == "" {
			t.Fatalf("a command or its reply is missing in %s", line)
		}
		rows = append(rows, row)
	}
	const all = 67 // so that none is left out unnoticed
	if len(rows) != all {
		t.Fatalf("%s has %d rows of conflicts, and had %d", page, len(rows), all)
	}
	return rows
}

// values returns what a reply holds, without its form.
func values(reply string) string {
	var words []string
	for i, w := range strings.Fields(reply) {
		if w = strings.Trim(strings.TrimPrefix(w, ":"), `"`); i > 0 || !strings.HasPrefix(w, "*") {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

// vector is an example from the documentation of Active-Active: see testdata/active-active.
type vector struct {
	ID    string
	Keys  []string
	Steps []step

	replies   []string // so far
	same      string   // what all have, where all have the same
	otherwise int      // steps that were answered otherwise, as they are here
}

type step struct {
	T       string
	Replica int
	Command []string
	Sync    any             // true, or between which replicas
	Expect  json.RawMessage // nil: there is no more to see than that it is done
	Compare string
}

// at names a step.
func (s step) at() string { return fmt.Sprint(s.T, " at ", s.Replica) }

// partial reports whether only some hosts synchronize in an example.
func (v *vector) partial() bool {
	return slices.ContainsFunc(v.Steps, func(s step) bool { return s.Sync != nil && s.Sync != true })
}

// otherwise are the examples of which some steps give another reply here, each with the row of the
// page's table that says so, and why.
var otherwise = map[string]struct {
	row     string
	replies map[string]string // by step
}{
	"hll-del-wins": {
		"| `PFADD k a` | `DEL k` | `PFADD k b` | `PFCOUNT k`: 1 | there ",
		map[string]string{"t7 at 1": ":1", "t7 at 2": ":1", "t8 at 1": ":1", "t8 at 2": ":1"},
	},
	"stream-destroy-vs-create": {
		"| `DEL k` | `XGROUP CREATE k g 0 MKSTREAM`, `XGROUP DESTROY k g` | " +
			"`XGROUP CREATE k g 0 MKSTREAM` | `XPENDING k g`: 0 | there ",
		map[string]string{
			"t3 at 3": "-ERR no such key", "t6 at 1": ":1", "t6 at 2": ":1", "t6 at 3": ":1",
		},
	},
}

// TestPublishedExamplesOfConflictsGiveTheirResults on three peers, or what the page says.
func TestPublishedExamplesOfConflictsGiveTheirResults(t *testing.T) {
	data, err := os.ReadFile("testdata/active-active/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var published struct{ Vectors []*vector }
	if err := json.Unmarshal(data, &published); err != nil {
		t.Fatal(err)
	}
	if len(published.Vectors) != 19 {
		t.Fatalf("there are %d examples, and were 19", len(published.Vectors))
	}
	h := newHosts(t, 3)
	var together []*vector
	for _, v := range published.Vectors {
		if v.partial() {
			h.play(v)
		} else {
			together = append(together, v)
		}
	}
	h.play(together...)
	text, _ := os.ReadFile(page)
	for _, v := range published.Vectors {
		here := otherwise[v.ID]
		if v.otherwise != len(here.replies) {
			t.Errorf("%s: %d steps are otherwise, of %d", v.ID, v.otherwise, len(here.replies))
		}
		if !strings.Contains(string(text), "\n"+here.row) {
			t.Errorf("%s gives another result here, and %s is not in %s", v.ID, here.row, page)
		}
	}
}

// play does the steps of examples in which the same hosts synchronize.
func (h *hosts) play(vectors ...*vector) {
	for {
		h.cut()
		var together []int
		for _, v := range vectors {
			if sync := h.advance(v); sync != nil {
				together = sync
			}
		}
		if together == nil {
			return
		}
		h.link(together...)
	}
}

// advance does the steps of an example up to the next at which hosts synchronize, and returns which
// do: none at its end.
func (h *hosts) advance(v *vector) (sync []int) {
	for len(v.Steps) > 0 {
		s := v.Steps[0]
		v.Steps = v.Steps[1:]
		switch some := s.Sync.(type) {
		case bool:
			return h.all()
		case []any:
			for _, replica := range some {
				sync = append(sync, int(replica.(float64))-1)
			}
			return sync
		}
		h.step(v, s)
	}
	return nil
}

// step does a step of an example, and checks its reply.
func (h *hosts) step(v *vector, s step) {
	args := slices.Clone(s.Command)
	for i, arg := range args {
		if i > 0 && slices.Contains(v.Keys, arg) {
			args[i] = v.ID + ":" + arg
		}
	}
	if strings.Join(args[:min(2, len(args))], " ") == "XGROUP CREATE" {
		args = append(args, "MKSTREAM") // which the examples leave out
	}
	p := h.clients[s.Replica-1]
	p.send(args)
	reply := p.reply()
	later()
	if want, known := otherwise[v.ID].replies[s.at()]; known {
		if v.otherwise++; reply != want || v.fits(s, reply) {
			h.t.Errorf("%s, %s: %v is %s, want %s, and not %s as published", v.ID, s.at(), s.Command,
				reply, want, s.Expect)
		}
	} else if !v.fits(s, reply) {
		h.t.Errorf("%s, %s: %v is %s, want %s %s", v.ID, s.at(), s.Command, reply, s.Compare, s.Expect)
	}
	v.replies = append(v.replies, reply)
}

// fits reports whether a reply is as a step of an example expects it.
func (v *vector) fits(s step, reply string) bool {
	if strings.HasPrefix(reply, "-") || s.Expect == nil {
		return !strings.HasPrefix(reply, "-")
	}
	var want any
	if json.Unmarshal(s.Expect, &want) != nil {
		return false
	}
	ids := regexp.MustCompile(`"\d+-\d+"`).FindAllString(reply, -1)
	switch s.Compare {
	case "", "pairs", "set": // which are in order here
		return reply == literal(want) || s.Command[0] == "ZSCORE" && sameNumber(reply, want)
	case "float": // which is written as in Redis 7.0
		return sameNumber(reply, want)
	case "any-same": // whichever of what was there
		return slices.Contains(v.replies, reply) && v.isSame(reply)
	case "ttl": // some of it has passed, and of the shorter one all might have
		left, err := strconv.Atoi(strings.TrimPrefix(reply, ":"))
		return err == nil && 15 <= left && left <= 50
	case "count":
		return literal(float64(len(ids))) == literal(want)
	case "count-same":
		return literal(float64(len(ids))) == literal(want) && v.isSame(reply)
	case "ids":
		all := []any{}
		for _, id := range ids {
			all = append(all, strings.Trim(id, `"`))
		}
		return literal(all) == literal(want)
	case "groups":
		names := []any{}
		for _, name := range regexp.MustCompile(`"name"\s+"(\w+)"`).FindAllStringSubmatch(reply, -1) {
			names = append(names, name[1])
		}
		return literal(names) == literal(want)
	}
	return false // a comparison that is not known here
}

// isSame reports whether a reply is the first one that is to be the same at all.
func (v *vector) isSame(reply string) bool {
	if v.same == "" {
		v.same = reply
	}
	return reply == v.same
}

// literal returns a value of JSON as a reply over RESP2.
func literal(value any) string {
	switch value := value.(type) {
	case nil:
		return "$-1"
	case string:
		return strconv.Quote(value)
	case float64:
		return fmt.Sprint(":", value)
	}
	list := value.([]any)
	text := fmt.Sprint("*", len(list))
	for _, v := range list {
		text += "\n  " + literal(v)
	}
	return text
}

// sameNumber reports whether a reply and a value of JSON are texts of one number.
func sameNumber(reply string, value any) bool {
	text, err := strconv.Unquote(reply)
	x, err2 := strconv.ParseFloat(text, 64)
	y, err3 := strconv.ParseFloat(fmt.Sprint(value), 64)
	return errors.Join(err, err2, err3) == nil && x == y
}
