package resp

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	differ     = flag.Int("differ", 4000, "commands that TestRandomCommandsAreAnsweredAsRedisAnswersThem sends")
	differFrom = flag.Uint64("differ-from", 0, "the first seed of them: each is for 200")
)

var everyCommand = table()

// TestRandomCommandsAreAnsweredAsRedisAnswersThem sends the same to a Redis server that it starts
// and to ours: every command of the table but those in incomparable, with random arguments, one
// by one, in pipelines and in MULTI, over RESP2 and RESP3, and random scripts. What may differ
// stands in tolerated.
func TestRandomCommandsAreAnsweredAsRedisAnswersThem(t *testing.T) {
	theirs := startRedis(t)
	_, ours := startServer(t, Config{db: newMemory(t)})
	const each = 200 // commands, from one seed, without keys from before
	for n := range uint64(max(1, *differ/each)) {
		seed := *differFrom + n
		d := &differing{rand: rand.New(rand.NewPCG(seed, 12)), seed: seed}
		if d.rand.IntN(3) > 0 {
			d.group = d.pick("string", "set", "hash", "list", "sorted-set", "geo", "bitmap", "hyperloglog", "stream", "stream",
				"generic")
		}
		d.both[0], d.both[1] = dial(t, theirs), dial(t, ours)
		for _, p := range d.both {
			p.send([]string{"FLUSHALL"})
			p.reply()
		}
		d.protocol = d.pick("2", "3")
		for _, p := range d.both {
			p.send([]string{"HELLO", d.protocol})
			p.reply()
		}
		d.again()
		for n := 0; n < each && !t.Failed(); n += d.step(t) {
		}
		if t.Failed() {
			return
		}
		for _, p := range d.both {
			p.Close()
		}
	}
}

// startRedis starts a Redis server of version 7.0 on a loopback port, or skips the test if there is
// none here.
func startRedis(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("there is no redis-server here")
	}
	if version, _ := exec.Command(path, "--version").Output(); !strings.Contains(string(version), "v=7.0.") {
		t.Skipf("redis-server is not of version 7.0: %s", version)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	server := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	end := time.After(time.Minute)
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return address
		}
		select {
		case <-poll.C:
		case <-end:
			t.Fatal("redis-server does not answer")
		}
	}
}

// incomparable are commands whose replies are of chance, of time or of the server itself, or are
// several, and those that step sends.
var incomparable = []string{
	"quit", "info",
	"subscribe", "psubscribe", "unsubscribe", "punsubscribe", "ssubscribe", "sunsubscribe",
	"multi", "exec", "reset", "eval", "evalsha", "eval_ro", "evalsha_ro",
	// Redis 7.0 has no such commands.
	"crdt.conflicts", "crdt.hconflicts", "crdt.zconflicts", "crdt.lconflicts",
	"crdt.resolve", "crdt.hresolve", "crdt.zresolve", "crdt.lresolve", "crdt.token", "crdt.wait",
	"hexpire", "hpexpire", "hexpireat", "hpexpireat", "httl", "hpttl", "hexpiretime", "hpexpiretime", "hpersist",
}

// formal are commands that are sent in the forms of calls alone: others have answers that are of
// chance or of time.
var formal = []string{
	"spop", "srandmember", "hrandfield", "zrandmember", "expire", "pexpire", "setex", "psetex", "wait", "client", "script",
	"acl", "auth", "hello", "select", "flushall", "function", "command",
	"config", "memory", "slowlog", "time", "dump", "restore", "object", "randomkey",
	// Of members with several scores what Redis says of their names follows from how it keeps them.
	"zrangebylex", "zrevrangebylex", "zlexcount", "zremrangebylex",
}

// alone are commands that are sent outside of MULTI and of scripts.
var alone = []string{"select", "flushall", "hello", "auth", "script", "client", "wait", "acl", "function", "command"}

// makers are commands that have others of a group find something.
var makers = map[string]string{
	"set": "sadd", "hash": "hset", "list": "rpush", "sorted-set": "zadd", "geo": "geoadd", "stream": "xadd",
}

// timed are commands that tell when a key expires.
var timed = []string{"ttl", "pttl", "expiretime", "pexpiretime"}

// unordered are commands whose replies Redis gives in no order, with how many elements go together.
var unordered = map[string]int{
	"keys": 1, "smembers": 1, "sinter": 1, "sunion": 1, "sdiff": 1, "hkeys": 1, "hvals": 1, "hgetall": 2,
	"spop": 1, "srandmember": 1, "hrandfield": 1, "zrandmember": 1,
}

// options are words that commands know, for arguments that are likely to mean something: but times
// from now on, which pass.
var options = map[string]string{
	"set": "NX XX GET KEEPTTL", "getex": "PERSIST", "copy": "REPLACE DB", "lcs": "LEN IDX MINMATCHLEN WITHMATCHLEN",
	"sintercard": "LIMIT", "sort": "BY GET LIMIT ALPHA ASC DESC STORE # k* h*->f", "sort_ro": "BY GET LIMIT ALPHA ASC DESC # k*",
	"scan": "MATCH COUNT TYPE string set hash 1000", "sscan": "MATCH COUNT 1000", "hscan": "MATCH COUNT 1000",
	"pubsub":  "CHANNELS NUMSUB NUMPAT SHARDCHANNELS SHARDNUMSUB",
	"linsert": "BEFORE AFTER", "lpos": "RANK COUNT MAXLEN", "lmove": "LEFT RIGHT", "lmpop": "LEFT RIGHT COUNT",
	"blmove": "LEFT RIGHT", "blmpop": "LEFT RIGHT COUNT",
	"zadd": "NX XX GT LT CH INCR 1 2.5 0.1", "zincrby": "1 0.1 -2.5 1e300", "zscan": "MATCH COUNT 1000",
	"zrange": "BYSCORE REV LIMIT WITHSCORES 0 1 -1 (1 10", "zrangestore": "BYSCORE REV LIMIT 0 1 -1 (1 10",
	"zrevrange": "WITHSCORES 0 -1 5", "zrangebyscore": "-inf +inf 0 (2 10 WITHSCORES LIMIT 1",
	"zrevrangebyscore": "-inf +inf 0 (2 10 WITHSCORES LIMIT 1", "zcount": "-inf +inf 0 (2 10",
	"zremrangebyscore": "-inf +inf 0 (2 10", "zremrangebyrank": "0 -1 1 5",
	"zunion": "WEIGHTS AGGREGATE MIN MAX SUM WITHSCORES 1 2 0.1", "zinter": "WEIGHTS AGGREGATE MIN MAX SUM WITHSCORES 1 2",
	"zdiff": "WITHSCORES", "zintercard": "LIMIT 1", "zunionstore": "WEIGHTS AGGREGATE MIN MAX SUM 1 2 0.1",
	"zinterstore": "WEIGHTS AGGREGATE MIN MAX SUM 1 2", "zpopmin": "1 2 0", "zpopmax": "1 2 0", "zmpop": "MIN MAX COUNT 1 2",
	"geoadd": "NX XX CH 13.36 38.11 15.08 37.5 -180 85 a b c", "geodist": "a b c m km ft mi", "geohash": "a b c", "geopos": "a b c",
	"georadius":            "WITHDIST WITHCOORD WITHHASH COUNT ANY ASC STORE g1 15 37 200 km",
	"georadiusbymember":    "WITHDIST WITHCOORD WITHHASH COUNT ANY ASC STORE g1 a b 200 km",
	"georadius_ro":         "WITHDIST WITHCOORD WITHHASH COUNT ANY ASC 15 37 200 km",
	"georadiusbymember_ro": "WITHDIST WITHCOORD WITHHASH COUNT ANY ASC a b 200 km",
	"geosearch":            "FROMMEMBER FROMLONLAT BYRADIUS BYBOX WITHDIST WITHCOORD WITHHASH COUNT ANY ASC 15 37 200 km a b",
	"geosearchstore":       "FROMMEMBER FROMLONLAT BYRADIUS BYBOX COUNT ANY ASC 15 37 200 km a b",
	"flushdb":              "ASYNC SYNC", "expireat": "NX XX GT LT 33177117420 33177117421",
	"setbit": "0 1 9 90", "bitcount": "BIT BYTE", "bitpos": "0 1 BIT BYTE", "bitop": "AND OR XOR NOT",
	"bitfield":    "GET SET INCRBY OVERFLOW WRAP SAT FAIL u8 i8 i5 u63 i64 #1",
	"bitfield_ro": "GET u8 i8 i5 u63 i64 #1",
	"pexpireat":   "NX XX GT LT 33177117420500 33177117421000",
}

// differing is a run with one seed.
type differing struct {
	rand     *rand.Rand
	seed     uint64
	protocol string     // that it begins with
	group    string     // of the commands that are sent most, "" for all alike
	both     [2]*peer   // Redis, and ours
	past     [][]string // what was sent
	flushed  int        // how much of that, when both began with no keys
	entries  int        // ids of streams that were drawn
	watches  bool       // a random command does
}

// step sends some commands, compares the replies, and returns how many commands there were.
func (d *differing) step(t *testing.T) int {
	switch d.rand.IntN(50) {
	case 0:
		return d.subscribe(t)
	case 1:
		return d.restore(t)
	}
	commands, watched := d.commands()
	for _, p := range d.both {
		p.send(commands...)
	}
	different := false
	var queued [2][][]string
	for _, c := range commands {
		var got [2]value
		for j, p := range d.both {
			reply, err := readValue(p.in)
			if err != nil {
				t.Fatalf("seed %d: %q: %v", d.seed, c, err)
			}
			got[j] = reply
			if reply.head == "+QUEUED" {
				queued[j] = append(queued[j], c)
			}
		}
		d.watches = d.watches || strings.EqualFold(c[0], "WATCH") && watched == ""
		executed, n := strings.EqualFold(c[0], "EXEC"), len(queued[0])
		switch {
		case executed && d.isNullAsMayBe(got, watched):
			different = true
		case executed && got[0].head == got[1].head && n == len(queued[1]) && n == len(got[0].elements):
			for k, c := range queued[0] {
				different = d.compare(t, c, [2]value{got[0].elements[k], got[1].elements[k]}) || different
			}
		default:
			different = d.compare(t, c, got) || different
		}
		refused := strings.Contains(got[0].head, "without MULTI") || got[0].head == "+QUEUED"
		if slices.Contains([]string{"EXEC", "DISCARD", "RESET", "UNWATCH"}, strings.ToUpper(c[0])) && !refused {
			d.watches = false
		}
		if t.Failed() {
			return len(commands)
		}
	}
	if different || slices.ContainsFunc(commands, d.hides) {
		d.again()
	}
	return len(commands)
}

// commands draws what is sent at once, and the name of the command between WATCH and MULTI, if
// there is one. After what may leave something else in the two comes nothing that would find it.
func (d *differing) commands() (commands [][]string, watched string) {
	send := func(c []string) (last bool) {
		commands, d.past = append(commands, c), append(d.past, c)
		return d.mayDiffer(c) || d.hides(c)
	}
	multi, last := d.rand.IntN(6) == 0, false
	if multi && d.rand.IntN(3) == 0 {
		simple := d.simple()
		send([]string{"WATCH", "s1", "h1", "l1", "k1", "z1"})
		watched, last = simple[0], send(simple)
	}
	if multi {
		send([]string{"MULTI"})
	}
	for n := 1 + d.rand.IntN(5); n > 0 && !last; n-- {
		c := d.command()
		for multi && slices.Contains(alone, c[0]) {
			c = d.command()
		}
		last = send(c)
	}
	if multi && d.rand.IntN(20) == 0 {
		send([]string{d.pick("EXEC", "EXEC", "EXEC", "DISCARD", "RESET"), "x"})
		send([]string{"DISCARD"}) // it is still open
	} else if multi {
		send([]string{d.pick("EXEC", "EXEC", "EXEC", "DISCARD", "RESET")})
	}
	return commands, watched
}

// compare fails the test unless the replies to a command are the same, or their difference is
// tolerated. It reports whether they differ.
func (d *differing) compare(t *testing.T, command []string, replies [2]value) bool {
	var got [2]string
	for i, reply := range replies {
		reply.settle(command)
		got[i] = reply.text("")
	}
	return d.judge(t, command, got)
}

// judge compares replies as they are shown.
func (d *differing) judge(t *testing.T, command []string, got [2]string) bool {
	if got[0] != got[1] && !d.isTolerated(command, got) {
		var latest []string
		for _, c := range d.past[max(0, len(d.past)-40):] {
			latest = append(latest, fmt.Sprintf("%q", c))
		}
		t.Errorf("%q is answered by Redis with\n%s and by us with\n%s after\n%s\nseed %[5]d: go test ./api/resp "+
			"-run RandomCommands -differ 200 -differ-from %[5]d", command, got[0], got[1],
			strings.Join(latest, "\n"), d.seed)
	}
	return got[0] != got[1]
}

// again has both begin with no keys, as one may have done what the other refused, but a group
// where streams are meant.
func (d *differing) again() {
	for _, p := range d.both {
		p.send([]string{"FLUSHDB"})
		p.reply()
		if d.group == "stream" {
			p.send([]string{"XGROUP", "CREATE", "x0", "g", "0", "MKSTREAM"})
			p.reply()
		}
	}
	d.flushed = len(d.past)
}

// scriptsAround are scripts that execute the command that is in their arguments.
var scriptsAround = []string{"return redis.call(unpack(ARGV))", "return redis.pcall(unpack(ARGV))",
	"redis.call('incr', 'k0') return {redis.pcall(unpack(ARGV)), redis.pcall('get', 'k0')}",
	"redis.setresp(3) return redis.pcall(unpack(ARGV))"}

// command returns a random call of a random command, or of a random script.
func (d *differing) command() []string {
	if d.rand.IntN(20) == 0 {
		return d.program()
	}
	args := d.simple()
	// In Lua a map has no order, as XINFO's and its like are in RESP3.
	_, any := unordered[args[0]]
	any = any || slices.Contains([]string{"xinfo", "xpending", "lcs", "xread", "xreadgroup", "object"}, args[0]) ||
		slices.Contains(alone, args[0]) || slices.Contains(timed, args[0]) || isNear(args[0])
	if !any && !strings.HasSuffix(args[0], "scan") && d.rand.IntN(10) == 0 {
		script := d.pick(scriptsAround...)
		command := []string{d.pick("EVAL", "EVAL", "EVAL", "EVAL_RO"), script, "0"}
		if d.rand.IntN(4) == 0 {
			command = []string{d.pick("EVALSHA", "EVALSHA_RO"), d.scalar("known"), "0"}
		}
		args = append(command, args...)
	}
	return args
}

// simple returns one that is no script.
func (d *differing) simple() []string {
	c := everyCommand[d.rand.IntN(len(everyCommand))]
	focused := d.group != "" && d.rand.IntN(3) > 0
	for slices.Contains(incomparable, c.name) || focused && c.group != d.group ||
		strings.HasPrefix(c.name, "flush") && d.rand.IntN(10) > 0 {
		c = everyCommand[d.rand.IntN(len(everyCommand))]
	}
	if maker := makers[c.group]; maker != "" && d.rand.IntN(4) == 0 {
		c = *commands[maker]
	}
	if c.group == "stream" {
		return d.streamCommand(c.name)
	}
	if _, ok := calls[c.name]; ok && (slices.Contains(formal, c.name) || d.rand.IntN(3) > 0) {
		return d.call(c.name)
	}
	return d.random(c)
}

// random returns a call with arguments that may mean something.
func (d *differing) random(c command) []string {
	least := max(c.arity, -c.arity)
	n := least
	switch {
	case c.arity < 0 && d.rand.IntN(3) > 0:
		n += d.rand.IntN(5)
	case d.rand.IntN(30) == 0:
		n = max(1, n+d.rand.IntN(3)-1)
	}
	if c.keys == pairs && d.rand.IntN(10) > 0 {
		n |= 1
	}
	if (c.name == "hset" || c.name == "hmset") && d.rand.IntN(10) > 0 {
		n &^= 1
	}
	words := strings.Fields(options[c.name])
	args := []string{c.name}
	for i := 1; i < n; i++ {
		last := c.keys.last
		if last < 0 {
			last += n
		}
		isKey := c.keys.first > 0 && i >= c.keys.first && i <= last && (i-c.keys.first)%c.keys.step == 0
		switch {
		case isKey || c.counted > 0 && i > c.counted && d.rand.IntN(4) > 0:
			args = append(args, d.key(c.group))
		case strings.HasSuffix(c.name, "scan") && i == least-1: // others are what they are
			args = append(args, []string{"0", "0", "0", "+0", "", "x", "1 "}[d.rand.IntN(7)])
		case c.counted == i:
			args = append(args, strconv.Itoa(d.rand.IntN(4)))
		case len(words) > 0 && d.rand.IntN(3) > 0:
			args = append(args, words[d.rand.IntN(len(words))])
		default:
			args = append(args, d.argument())
		}
	}
	if strings.HasPrefix(c.name, "bitfield") && len(args) > 2 && d.rand.IntN(4) > 0 {
		args = append(args[:2], d.fields()...)
	}
	if strings.HasPrefix(c.name, "sort") {
		ordered(args)
	}
	if waits := strings.HasPrefix(c.name, "b") && (c.group == "list" || c.group == "sorted-set"); waits && n > 1 { // not for long
		at := n - 1
		if c.name == "blmpop" || c.name == "bzmpop" {
			at = 1
		}
		args[at] = []string{"0.01", "0.001", "-1", "x"}[d.rand.IntN(4)]
	}
	if strings.HasSuffix(c.name, "scan") {
		args = append(args, "COUNT", "1000") // so that one call does
	}
	return args
}

// fields returns operations of a BITFIELD that are well-formed, mostly of the same few integers.
func (d *differing) fields() (args []string) {
	for range 1 + d.rand.IntN(4) {
		width := []int{1, 5, 8, 16, 63, 64}[d.rand.IntN(6)]
		typ := "iu"[d.rand.IntN(2):][:1] + strconv.Itoa(width)
		at := []string{"#0", "#1", "0", "3", "8", "100"}[d.rand.IntN(6)]
		n := strconv.FormatInt(d.rand.Int64()>>d.rand.IntN(64)*int64(1-2*d.rand.IntN(2)), 10)
		switch d.rand.IntN(5) {
		case 0:
			args = append(args, "OVERFLOW", []string{"WRAP", "SAT", "fail"}[d.rand.IntN(3)])
		case 1:
			args = append(args, "GET", typ, at)
		case 2:
			args = append(args, "SET", typ, at, n)
		default:
			args = append(args, "INCRBY", typ, at, n)
		}
	}
	return args
}

// ordered changes a SORT whose reply would be in no order: by a pattern that names no keys, or by
// texts of which several may be the same.
func ordered(args []string) {
	if !slices.Contains(args, "BY") {
		return
	}
	for i, arg := range args {
		if i > 0 && args[i-1] == "BY" && !strings.Contains(arg, "*") {
			args[i] = "k*"
		}
		if arg == "ALPHA" {
			args[i] = "ASC"
		}
	}
}

// key returns one of few keys, mostly one whose name says the type that the command is for.
func (d *differing) key(group string) string {
	kind := map[string]string{"string": "k", "set": "s", "hash": "h", "list": "l", "sorted-set": "z", "geo": "g",
		"bitmap": "k", "hyperloglog": "p"}[group]
	if kind == "" || d.rand.IntN(12) == 0 {
		kinds := []string{"s", "h", "l", "z", "k"} // but those of places, which other scores are not
		if group == "geo" {
			kinds[3] = "g"
		}
		kind = kinds[d.rand.IntN(len(kinds)-strings.Count(kind, "p"))] // strings of HyperLogLogs differ in form
	}
	return kind + d.pick("0", "0", "0", "1", "1", "2", "3")
}

var someArguments = []string{
	"", "a", "b", "c", "f", "abcdefgh", "0", "1", "-1", "2", "10", "007", "+5", "1.5", "-2.25", "3e2", "0x10", "inf", "nan", " 1",
	"9223372036854775807", "-9223372036854775808", "9223372036854775808", "*", "a*", "[a-c]", "\\*", "\x00", "\xff\xfe",
	"line\r\nend", "é", "12345678901234567890123", "k1", "s1",
}

func (d *differing) argument() string {
	if d.rand.IntN(3) == 0 {
		return strconv.Itoa(d.rand.IntN(40) - 10)
	}
	return someArguments[d.rand.IntN(len(someArguments))]
}

// value is a reply.
type value struct {
	head     string // its first line, or what a bulk string holds
	elements []value
}

func readValue(in *bufio.Reader) (v value, err error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return v, err
	}
	v.head = strings.TrimSuffix(line, "\r\n")
	n, err := strconv.Atoi(v.head[1:])
	switch mark := v.head[0]; {
	case (mark == '$' || mark == '=') && n >= 0 && err == nil:
		data := make([]byte, n+2)
		_, err = io.ReadFull(in, data)
		v.head = strconv.Quote(string(data[:n]))
		return v, err
	case strings.IndexByte("*~%>", mark) >= 0 && err == nil:
		if mark == '%' {
			n *= 2
		}
		for range n {
			element, err := readValue(in)
			if err != nil {
				return v, err
			}
			v.elements = append(v.elements, element)
		}
	}
	return v, nil
}

// settle puts a reply in order that has none, and hides times that pass.
func (v *value) settle(command []string) {
	name := strings.ToLower(command[0])
	if n, err := strconv.Atoi(v.head[1:]); slices.Contains(timed, name) && v.head[0] == ':' && err == nil && n > 0 {
		if since := strings.HasSuffix(name, "time"); !since || n < farOff || n > 2*farOff && n < 1000*farOff {
			v.head = ":later"
		}
		if n == math.MaxInt64-1 { // ours: the last millisecond stands for never
			v.head = ":" + strconv.Itoa(math.MaxInt64)
		}
	}
	switch {
	case name == "xinfo":
		v.settleStream()
	case name == "xpending" && len(command) > 3:
		v.settlePending()
	case name == "object" && v.head == ":"+strconv.Itoa(math.MaxInt32): // theirs, of a number that all share
		v.head = ":1"
	}
	v.settleNear(name, command)
	v.settleUnsorted(name, command)
	within := v.elements
	size := unordered[name]
	if strings.HasSuffix(name, "scan") && len(within) == 2 {
		v, size = &within[1], 1
		if name == "hscan" || name == "zscan" {
			size = 2
		}
	}
	if strings.HasPrefix(command[len(command)-1], "WITH") && len(within) > 0 && len(within[0].elements) == 0 {
		size *= 2 // names, each with what is of it
	}
	if size == 0 {
		return
	}
	groups := slices.Collect(slices.Chunk(v.elements, size))
	slices.SortFunc(groups, func(a, b []value) int { return strings.Compare(a[0].text(""), b[0].text("")) })
	v.elements = slices.Concat(groups...)
}

// settleNear puts places at one distance in order: which comes first, and which is beyond COUNT,
// follows from how Redis sorts.
func (v *value) settleNear(name string, command []string) {
	has := func(word string) bool {
		return slices.ContainsFunc(command, func(s string) bool { return strings.EqualFold(s, word) })
	}
	if !isNear(name) || len(v.elements) == 0 {
		return
	}
	counted := has("COUNT")
	away := func(e value) string { return "" }
	if has("WITHDIST") && !has("ANY") && len(v.elements[0].elements) > 1 {
		away = func(e value) string { return e.elements[1].head }
	}
	farthest := away(v.elements[len(v.elements)-1])
	for from := 0; from < len(v.elements); {
		to := from + 1
		for to < len(v.elements) && away(v.elements[to]) == away(v.elements[from]) {
			to++
		}
		for i := from; counted && i < to && away(v.elements[i]) == farthest; i++ {
			v.elements[i] = value{head: "one of " + farthest}
		}
		slices.SortFunc(v.elements[from:to], func(a, b value) int { return strings.Compare(a.text(""), b.text("")) })
		from = to
	}
}

func isNear(name string) bool {
	return name == "geosearch" || strings.HasPrefix(name, "georadius")
}

// settleUnsorted puts in order what SORT by nothing returns of what may be a set.
func (v *value) settleUnsorted(name string, command []string) {
	if name != "sort" && name != "sort_ro" || len(command) < 2 || strings.ContainsAny(command[1][:min(1, len(command[1]))], "lz") {
		return
	}
	by, limited, size := false, false, 0
	for i, arg := range command {
		switch strings.ToLower(arg) {
		case "by":
			by = i+1 < len(command) && !strings.Contains(command[i+1], "*")
		case "limit":
			limited = true
		case "get":
			size++
		}
	}
	if !by {
		return
	}
	groups := slices.Collect(slices.Chunk(v.elements, max(1, size)))
	slices.SortFunc(groups, func(a, b []value) int { return strings.Compare(a[0].text(""), b[0].text("")) })
	v.elements = slices.Concat(groups...)
	for i := range v.elements {
		if limited {
			v.elements[i] = value{head: "one"}
		}
	}
}

func (v value) text(indent string) string {
	text := indent + v.head + "\n"
	for _, e := range v.elements {
		text += e.text(indent + "  ")
	}
	return text
}
