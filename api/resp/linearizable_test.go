package resp

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	embedded "github.com/peerd/peerd/peer"
)

var linearSeed = flag.Uint64("linear.seed", 0,
	"seed of what clients ask in TestReadsAndWritesAtOnePeerAreLinearizable; 0 draws one")

// What one history holds.
const (
	linearClients  = 8
	linearCommands = 150 // of each client
	checkTime      = 30 * time.Second
)

// asked is one command, or several in MULTI and EXEC, on keys of one group.
type asked [][]string

func (r asked) String() string {
	lines := make([]string, len(r))
	for i, command := range r {
		lines[i] = strings.Join(command, " ")
	}
	return strings.Join(lines, "; ")
}

// group returns the part of a key that says which keys share transactions. Histories of different
// groups are checked apart.
func group(key string) string { name, _, _ := strings.Cut(key, ":"); return name }

// keysOfOnePeer is the specification: what a single map, asked one command after the other,
// answers.
var keysOfOnePeer = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, op := range history {
			name := group(op.Input.(asked)[0][1])
			parts[name] = append(parts[name], op)
		}
		var out [][]porcupine.Operation
		for _, part := range parts {
			out = append(out, part)
		}
		return out
	},
	Init: func() any { return contents{} },
	Step: func(state, input, output any) (bool, any) {
		if output == refused { // which may always be
			return true, state
		}
		after := maps.Clone(state.(contents))
		return after.answer(input.(asked)) == output.(string), after
	},
	Equal: func(a, b any) bool { return maps.Equal(a.(contents), b.(contents)) },
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%v → %v", input, output)
	},
}

// contents are the strings under their keys, lists with spaces between their elements, and the elements of sets under
// key/element.
type contents map[string]string

// answer executes a request and returns its reply as the scripts show it.
func (c contents) answer(r asked) string {
	if r[0][0] == inScript { // in which all that is null is false, and nothing waits
		waits := func(command []string) bool { return command[len(command)-1] == "0.001" }
		return strings.ReplaceAll(c.all(slices.DeleteFunc(slices.Clone(r[1:]), waits)), "*-1", "$-1")
	}
	if len(r) == 1 {
		return c.execute(r[0])
	}
	return c.all(r)
}

func (c contents) all(r asked) string {
	lines := []string{"*" + strconv.Itoa(len(r))}
	for _, command := range r {
		lines = append(lines, "  "+strings.ReplaceAll(c.execute(command), "\n", "\n  "))
	}
	return strings.Join(lines, "\n")
}

func (c contents) execute(command []string) string {
	name, key := command[0], command[1]
	switch name {
	case "SET", "EXPIREAT", "EXPIRETIME", "PERSIST", "GETEX":
		return c.deadlines(command)
	case "GET":
		if value, ok := c[key]; ok {
			return strconv.Quote(value)
		}
		return "$-1"
	case "COMPARE-AND-SET":
		value := c[key]
		c[key] = command[2]
		return value
	case "INCR":
		n, _ := strconv.Atoi(c[key])
		c[key] = strconv.Itoa(n + 1)
		return ":" + c[key]
	case "DEL":
		before := len(c)
		maps.DeleteFunc(c, func(at, _ string) bool { return at == key || strings.HasPrefix(at, key+"/") })
		return integer(len(c) < before)
	case "LPUSH", "RPUSH", "LPOP", "RPOP", "BLPOP", "LREM", "LRANGE":
		return c.list(command)
	case "ZADD", "ZINCRBY", "ZPOPMIN", "BZPOPMAX", "ZRANK", "ZSCORE":
		return c.places(command)
	case "XADD", "XLEN", "XREADGROUP", "XACK":
		return c.entries(command)
	case "BITFIELD":
		return c.fields(command)
	}
	if name == "GETBIT" && group(key) != "b" {
		return c.fields(command)
	}
	if name == "PFCOUNT" {
		n := 0
		for at := range c {
			if strings.HasPrefix(at, key+"/") {
				n++
			}
		}
		return fmt.Sprint(":", n)
	}
	_, there := c[key+"/"+command[2]]
	switch name {
	case "SISMEMBER", "GETBIT":
		return integer(there)
	case "SETBIT":
		c[key+"/"+command[2]] = ""
		if command[3] == "0" {
			delete(c, key+"/"+command[2])
		}
		return integer(there)
	}
	c[key+"/"+command[2]] = "" // SADD or PFADD
	return integer(!there)
}

// list executes a command on a list.
func (c contents) list(command []string) (reply string) {
	name, key := command[0], command[1]
	all := strings.Fields(c[key])
	defer func() {
		if c[key] = strings.Join(all, " "); len(all) == 0 {
			delete(c, key)
		}
	}()
	take := func(i int) string {
		taken := all[i]
		all = slices.Delete(all, i, i+1)
		return strconv.Quote(taken)
	}
	switch {
	case name == "LPUSH":
		all = slices.Insert(all, 0, command[2])
		return fmt.Sprint(":", len(all))
	case name == "RPUSH":
		all = append(all, command[2])
		return fmt.Sprint(":", len(all))
	case name == "LREM":
		before := len(all)
		all = slices.DeleteFunc(all, func(elem string) bool { return elem == command[3] })
		return fmt.Sprint(":", before-len(all))
	case name == "LRANGE":
		lines := []string{"*" + strconv.Itoa(len(all))}
		for _, elem := range all {
			lines = append(lines, "  "+strconv.Quote(elem))
		}
		return strings.Join(lines, "\n")
	case len(all) == 0 && name == "BLPOP":
		return "*-1"
	case len(all) == 0:
		return "$-1"
	case name == "BLPOP":
		return fmt.Sprintf("*2\n  %q\n  %s", key, take(0))
	case name == "LPOP":
		return take(0)
	}
	return take(len(all) - 1)
}

func integer(yes bool) string {
	if yes {
		return ":1"
	}
	return ":0"
}

// anything draws what to ask.
func anything(rng *rand.Rand) asked {
	if rng.IntN(3) == 0 {
		return onNewTypes(rng)
	}
	if rng.IntN(4) > 0 {
		if rng.IntN(3) == 0 {
			return asked{onBits(rng)}
		}
		if rng.IntN(6) == 0 {
			return asked{{"COMPARE-AND-SET", fmt.Sprint("n", rng.IntN(2)), strconv.Itoa(rng.IntN(1000))}}
		}
		if rng.IntN(2) == 0 {
			return asked{onString(rng, fmt.Sprint("n", rng.IntN(2)))}
		}
		if rng.IntN(2) == 0 {
			return asked{onList(rng, "l")}
		}
		return asked{onSet(rng, "s")}
	}
	r := asked{onString(rng, "pair:n"), onSet(rng, "pair:s")}
	switch rng.IntN(6) {
	case 0, 1:
		r = append(r, onString(rng, "pair:n"))
	case 2:
		r = append(r, onList(rng, "pair:l"))
	}
	return r[:1+rng.IntN(len(r))]
}

func onString(rng *rand.Rand, key string) []string {
	switch rng.IntN(10) {
	case 0:
		return []string{"DEL", key}
	case 1, 2:
		return []string{"SET", key, strconv.Itoa(rng.IntN(1000))}
	case 3, 4, 5:
		return []string{"INCR", key}
	}
	return []string{"GET", key}
}

func onSet(rng *rand.Rand, key string) []string {
	element := strconv.Itoa(rng.IntN(3))
	switch rng.IntN(8) {
	case 0:
		return []string{"DEL", key}
	case 1, 2, 3:
		return []string{"SADD", key, element}
	}
	return []string{"SISMEMBER", key, element}
}

// onList asks about a list that stays short. What waits does so for a moment only, and not at all within MULTI.
func onList(rng *rand.Rand, key string) []string {
	switch rng.IntN(10) {
	case 0:
		return []string{"LPUSH", key, strconv.Itoa(rng.IntN(4))}
	case 1, 2, 3:
		return []string{"RPUSH", key, strconv.Itoa(rng.IntN(4))}
	case 4:
		return []string{"LPOP", key}
	case 5:
		return []string{"RPOP", key}
	case 6, 7:
		return []string{"BLPOP", key, "0.001"}
	case 8:
		return []string{"LREM", key, "0", strconv.Itoa(rng.IntN(4))}
	}
	return []string{"LRANGE", key, "0", "-1"}
}

// onBits asks about few bits in two chunks, or about a few elements that are counted.
func onBits(rng *rand.Rand) []string {
	bit := []string{"0", "9", "100000"}[rng.IntN(3)]
	switch rng.IntN(6) {
	case 0, 1:
		return []string{"SETBIT", "b", bit, strconv.Itoa(rng.IntN(2))}
	case 2, 3:
		return []string{"GETBIT", "b", bit}
	case 4:
		return []string{"PFCOUNT", "p"}
	}
	if rng.IntN(4) == 0 {
		return []string{"DEL", "p"}
	}
	return []string{"PFADD", "p", bit}
}

// refused is the answer of compareAndSet if the key has changed meanwhile.
const refused = "refused"

// compareAndSet sets a key by WATCH, and returns what it held: at once, if nobody has written to it
// since it was read.
func (p *peer) compareAndSet(key, value string) string {
	p.send([]string{"WATCH", key}, []string{"GET", key})
	p.reply()
	was, _ := strconv.Unquote(p.reply()) // "" if there was none
	p.send([]string{"MULTI"}, []string{"SET", key, value}, []string{"EXEC"})
	p.reply()
	p.reply()
	if p.reply() == "*-1" {
		return refused
	}
	return was
}

// do sends a request in one piece and returns the reply that counts.
func (p *peer) do(r asked) string {
	if r[0][0] == "COMPARE-AND-SET" {
		return p.compareAndSet(r[0][1], r[0][2])
	}
	if r[0][0] == inScript {
		p.send(r[1:].script())
		return p.reply()
	}
	if len(r) == 1 {
		p.send(spelled(r[0]))
		return p.reply()
	}
	commands := [][]string{{"MULTI"}}
	for _, command := range r {
		commands = append(commands, spelled(command))
	}
	p.send(append(commands, []string{"EXEC"})...)
	for range len(r) + 1 {
		p.reply()
	}
	return p.reply()
}

// record has clients ask a server at once, and returns what they asked, when, and what it answered.
func record(t *testing.T, address string, seed uint64) (history []porcupine.Operation) {
	var running sync.WaitGroup
	var mu sync.Mutex
	setUp := dial(t, address)
	for _, key := range streamsAsked {
		setUp.expect("XGROUP CREATE "+key+" g 0 MKSTREAM", "+OK")
	}
	began := time.Now()
	for id := range linearClients {
		p := dial(t, address)
		rng := rand.New(rand.NewPCG(seed, uint64(id)))
		running.Go(func() {
			for range linearCommands {
				op := porcupine.Operation{ClientId: id, Input: anything(rng)}
				op.Call = int64(time.Since(began))
				op.Output = p.do(op.Input.(asked))
				op.Return = int64(time.Since(began))
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return history
}

func openOffline(t *testing.T, cfg embedded.Config) *embedded.Peer {
	cfg.Offline = true
	p, err := embedded.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestReadsAndWritesAtOnePeerAreLinearizable(t *testing.T) {
	eachWay(t, testReadsAndWritesAtOnePeerAreLinearizable)
}

func testReadsAndWritesAtOnePeerAreLinearizable(t *testing.T) {
	seed := *linearSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for name, cfg := range map[string]embedded.Config{
		"in memory":            {Memory: true},
		"on a disk":            {Dir: t.TempDir()},
		"on a disk that syncs": {Dir: t.TempDir(), Durability: embedded.Always},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := startServer(t, Config{Peer: openOffline(t, cfg)})
			history := record(t, address, seed)
			result, info := porcupine.CheckOperationsVerbose(keysOfOnePeer, history, checkTime)
			t.Logf("%d requests of %d clients: %s", len(history), linearClients, result)
			if result == porcupine.Ok {
				return
			}
			picture := filepath.Join(t.ArtifactDir(), "history.html")
			if err := porcupine.VisualizePath(keysOfOnePeer, info, picture); err != nil {
				t.Error(err)
			}
			t.Errorf("the history is %s: draw it with\n"+
				"go test ./api/resp -run Linearizable -linear.seed %d -artifacts", result, seed)
		})
	}
}

// staleDB answers one read in ten from a snapshot that was taken at the start.
type staleDB struct {
	database
	reads atomic.Int64
	mu    sync.Mutex // held by the user of old
	old   *embedded.Tx
}

func (db *staleDB) View(ctx context.Context, fn func(*embedded.Tx) error) error {
	if db.reads.Add(1)%10 != 0 {
		return db.database.View(ctx, fn)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	return fn(db.old)
}

func (db *staleDB) Read(fns []func(*embedded.Tx) error) []error {
	errs := make([]error, len(fns))
	for i, fn := range fns {
		errs[i] = db.View(context.Background(), fn)
	}
	return errs
}

func TestAStaleReadIsFound(t *testing.T) {
	db := &staleDB{database: openOffline(t, embedded.Config{Memory: true})}
	pinned, leave, left := make(chan *embedded.Tx), make(chan struct{}), make(chan error)
	go func() {
		left <- db.database.View(context.Background(), func(tx *embedded.Tx) error {
			pinned <- tx
			<-leave
			return nil
		})
	}()
	db.old = <-pinned
	defer func() {
		db.mu.Lock() // after the last read, which a reply alone does not prove to the race detector
		defer db.mu.Unlock()
		close(leave)
		if err := <-left; err != nil {
			t.Error(err)
		}
	}()
	_, address := startServer(t, Config{db: db})
	history := record(t, address, rand.Uint64())
	if porcupine.CheckOperationsTimeout(keysOfOnePeer, history, checkTime) != porcupine.Illegal {
		t.Error("reads of an old snapshot pass as linearizable: the check finds nothing")
	}
}
