package resp

import (
	"context"
	"encoding/json"
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

// linked reports whether every host has a stream to each other, or to none.
func (h *hosts) linked(want bool) bool {
	for i := range h.peers {
		s := h.status(i)
		if len(s.Members) != len(h.peers)-1 {
			return false
		}
		for _, m := range s.Members {
			if m.Linked != want {
				return false
			}
		}
	}
	return true
}

// cut cuts all off from each other.
func (h *hosts) cut() {
	h.t.Helper()
	for i, cut := range h.cuts {
		cut.Block(slices.Delete(slices.Clone(h.addrs), i, i+1)...)
	}
	h.until("the cut", func() bool { return h.linked(false) })
}

// heal has all see each other again, and waits until they hold the same.
func (h *hosts) heal() {
	h.t.Helper()
	for _, cut := range h.cuts {
		cut.Block()
	}
	h.until("all links", func() bool { return h.linked(true) })
	h.until("agreement", func() bool {
		first := h.status(0)
		for i := range h.peers {
			if s := h.status(i); !s.Settled || s.ContextHash != first.ContextHash || s.Root != first.Root {
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
	for i, row := range rows {
		h.clients[0].ask(row.before)
		rows[i] = row
	}
	h.heal()
	h.cut()
	for _, row := range rows {
		for i, did := range []string{row.a, row.b} {
			if got := h.clients[i].ask(did); strings.HasPrefix(got, "-") {
				t.Errorf("%s: %s", did, got)
			}
			later()
		}
	}
	h.heal()
	for _, row := range rows {
		wants := strings.Split(row.want, ", or ") // one of which all see
		for i, p := range h.clients {
			got := values(p.ask(row.read))
			if !slices.Contains(wants, got) {
				t.Errorf("%s; %s; %s: at host %d %s is %q, want one of %q", row.before, row.a, row.b, i, row.read, got, wants)
			}
			wants = []string{got}
		}
	}
}

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

type conflict struct{ before, a, b, read, want string }

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
		command := func(cell string) string {
			words := strings.Fields(strings.ReplaceAll(cell, "`", ""))
			for i, w := range words {
				if w == "k" {
					words[i] = key
				}
			}
			return strings.Join(words, " ")
		}
		read, want, ok := strings.Cut(strings.ReplaceAll(cells[4], `\*`, "*"), ":")
		if !ok {
			t.Fatalf("no command and its reply in %s", line)
		}
		rows = append(rows, conflict{command(cells[1]), command(cells[2]), command(cells[3]), command(read), strings.TrimSpace(want)})
	}
	const all = 55 // so that none is left out unnoticed
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
	ID       string
	Replicas int
	Keys     []string
	Steps    []struct {
		Replica int
		Command []string
		Sync    any // true, or between which replicas
		Expect  any
		Compare string
	}

	same string // what the first replica has, where all have the same
}

// sameNumber reports whether two texts are of one number.
func sameNumber(a, b string) bool {
	x, err := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err == nil && err2 == nil && x == y
}

// otherwise are examples that give another result here, each with the row of the page's table that
// says which, and why.
var otherwise = map[string]string{
	"hll-del-wins":             "| `PFADD k a` | `DEL k` | `PFADD k b` |",
	"stream-destroy-vs-create": "| `XGROUP CREATE k g 0 MKSTREAM` | `XGROUP DESTROY k g` | `XGROUP CREATECONSUMER k g c` |",
}

// TestPublishedExamplesOfConflictsGiveTheirResults on three peers.
func TestPublishedExamplesOfConflictsGiveTheirResults(t *testing.T) {
	data, err := os.ReadFile("testdata/active-active/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var published struct{ Vectors []vector }
	if err := json.Unmarshal(data, &published); err != nil {
		t.Fatal(err)
	}
	if len(published.Vectors) != 19 {
		t.Fatalf("there are %d examples, and were 19", len(published.Vectors))
	}
	all := slices.DeleteFunc(published.Vectors, func(v vector) bool { return otherwise[v.ID] != "" })
	text, _ := os.ReadFile(page)
	for id, row := range otherwise {
		if !strings.Contains(string(text), "\n"+row) {
			t.Errorf("%s is left out, and %s is not in %s", id, row, page)
		}
	}
	if len(all) != 17 {
		t.Fatalf("%d examples give what is published, and 17 did", len(all))
	}
	h := newHosts(t, 3)
	for more := true; more; h.heal() {
		h.cut()
		more = false
		for i := range all {
			more = h.advance(&all[i]) || more
		}
	}
}

// advance does the steps of an example up to the next at which hosts synchronize, and reports
// whether there are more behind it.
func (h *hosts) advance(v *vector) bool {
	for len(v.Steps) > 0 {
		s := v.Steps[0]
		v.Steps = v.Steps[1:]
		if s.Sync != nil {
			if s.Sync != true {
				h.t.Errorf("%s: only some replicas synchronize, which is not known here", v.ID)
			}
			return len(v.Steps) > 0
		}
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
		got := values(reply)
		later()
		if s.Expect == nil {
			continue
		}
		want := values(fmt.Sprint(s.Expect))
		if list, ok := s.Expect.([]any); ok {
			want = strings.Trim(fmt.Sprint(list), "[]")
		}
		switch s.Compare {
		case "", "pairs", "set": // which are in order here
		case "float": // which is written as in Redis 7.0
		case "any-same": // whichever it is: all have what the first has
			if v.same == "" {
				v.same = got
			}
			want = v.same
		case "ttl": // some of it has passed, and of the shorter one all might have
			if left, err := strconv.Atoi(got); err != nil || left < 15 || left > 50 {
				h.t.Errorf("%s: %v at replica %d is %s, want %s, or a few less", v.ID, s.Command, s.Replica, got, want)
			}
			continue
		case "ids", "count", "count-same":
			ids := regexp.MustCompile(`"\d+-\d+"`).FindAllString(reply, -1)
			if got = values(strings.Join(ids, " ")); s.Compare != "ids" {
				got = strconv.Itoa(len(ids))
			}
		case "groups":
			got = ""
			for _, name := range regexp.MustCompile(`"name"\s+"(\w+)"`).FindAllStringSubmatch(reply, -1) {
				got = strings.TrimSpace(got + " " + name[1])
			}
		default:
			h.t.Errorf("%s: a comparison by %q is not known here", v.ID, s.Compare)
		}
		if got != want && !sameNumber(got, want) {
			h.t.Errorf("%s: %v at replica %d is %s, want %s", v.ID, s.Command, s.Replica, got, want)
		}
	}
	return false
}
