package resp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

// onPlaces asks about a sorted set of few members.
func onPlaces(rng *rand.Rand, key string) []string {
	member, score := []string{"a", "b", "c"}[rng.IntN(3)], strconv.Itoa(rng.IntN(5))
	switch rng.IntN(10) {
	case 0, 1:
		return []string{"ZADD", key, score, member}
	case 2, 3, 4:
		return []string{"ZINCRBY", key, score, member}
	case 5:
		return []string{"ZPOPMIN", key}
	case 6:
		return []string{"BZPOPMAX", key, "0.001"}
	case 7:
		return []string{"ZRANK", key, member}
	}
	return []string{"ZSCORE", key, member}
}

// onEntries asks about a stream with a group.
func onEntries(rng *rand.Rand, key string) []string {
	switch rng.IntN(8) {
	case 0, 1:
		return []string{"XADD", key, "7-*", "f", "v"}
	case 2, 3, 4:
		return []string{"XREADGROUP", key, ">"}
	case 5, 6:
		return []string{"XACK", key, "g", fmt.Sprint("7-", rng.IntN(30))}
	}
	return []string{"XLEN", key}
}

// onFields asks about two numbers of four bits in one string.
func onFields(rng *rand.Rand, key string) []string {
	at, overflow := fmt.Sprint("#", rng.IntN(2)), []string{"WRAP", "SAT"}[rng.IntN(2)]
	if rng.IntN(4) == 0 {
		return []string{"GETBIT", key, strconv.Itoa(rng.IntN(8))}
	}
	return []string{"BITFIELD", key, "OVERFLOW", overflow, "INCRBY", "u4", at, strconv.Itoa(1 + rng.IntN(5)), "GET", "u4", "#0"}
}

// Deadlines are gone, or so far that no run comes near them: what is answered needs no clock.
const (
	gone  = "1"
	never = "99999999990" // and some seconds: milliseconds since 1970 must fit in them, too
)

// onDeadlines asks about a string that expires, or does not.
func onDeadlines(rng *rand.Rand, key string) []string {
	value, deadline := strconv.Itoa(rng.IntN(1000)), never[:len(never)-1]+strconv.Itoa(rng.IntN(4))
	if rng.IntN(8) == 0 {
		deadline = gone
	}
	switch rng.IntN(14) {
	case 0:
		return []string{"SET", key, value}
	case 1:
		return []string{"SET", key, value, "EXAT", deadline}
	case 2:
		return []string{"SET", key, value, "PXAT", deadline + "000"}
	case 3:
		return []string{"SET", key, value, "KEEPTTL"}
	case 4, 5:
		return []string{"EXPIREAT", key, deadline, []string{"NX", "XX", "GT", "LT"}[rng.IntN(4)]}
	case 6:
		return []string{"EXPIREAT", key, deadline}
	case 7:
		return []string{"PERSIST", key}
	case 8:
		return []string{"GETEX", key, "EXAT", deadline}
	case 9:
		return []string{"GETEX", key, "PERSIST"}
	case 10:
		return []string{"INCR", key}
	case 11:
		return []string{"GET", key}
	case 12:
		return []string{"DEL", key}
	}
	return []string{"EXPIRETIME", key}
}

// onNewTypes draws what to ask of sorted sets, streams, bit fields and values that expire: alone,
// several of one group in MULTI, or in a script.
func onNewTypes(rng *rand.Rand) asked {
	switch rng.IntN(8) {
	case 0:
		return asked{onPlaces(rng, "z")}
	case 1:
		return asked{onEntries(rng, "x")}
	case 2:
		return asked{onFields(rng, "f")}
	case 3, 4:
		return asked{onDeadlines(rng, "e")}
	}
	r := asked{onPlaces(rng, "trio:z"), onEntries(rng, "trio:x"), onFields(rng, "trio:f"), onList(rng, "trio:l"), onDeadlines(rng, "trio:e")}
	rng.Shuffle(len(r), func(i, j int) { r[i], r[j] = r[j], r[i] })
	r = r[:1+rng.IntN(3)]
	if rng.IntN(2) == 0 {
		r = slices.Insert(r, 0, []string{inScript, "trio:z"})
	}
	return r
}

// streamsAsked are the streams of onNewTypes.
var streamsAsked = []string{"x", "trio:x"}

// inScript stands before requests that one script executes.
const inScript = "IN-SCRIPT"

const executeAll = `local out, i = {}, 1
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  out[#out + 1] = redis.pcall(unpack(ARGV, i + 1, i + n))
  i = i + n + 1
end
return out`

// script returns the call of a script that executes all.
func (r asked) script() []string {
	args := []string{"EVAL", executeAll, "0"}
	for _, command := range r {
		if command = spelled(command); command[len(command)-1] == "0.001" {
			continue // no script may call what waits
		}
		args = append(append(args, strconv.Itoa(len(command))), command...)
	}
	return args
}

// spelled returns a command with all that Redis wants to be told.
func spelled(command []string) []string {
	if command[0] == "XREADGROUP" {
		return []string{"XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", command[1], command[2]}
	}
	return command
}

// places executes a command on a sorted set, kept as its members with their scores, in order.
func (c contents) places(command []string) string {
	name, key := command[0], command[1]
	scores := map[string]int{}
	for _, text := range strings.Fields(c[key]) {
		member, score, _ := strings.Cut(text, "=")
		scores[member], _ = strconv.Atoi(score)
	}
	var inOrder []string
	for member := range scores {
		inOrder = append(inOrder, member)
	}
	slices.SortFunc(inOrder, func(a, b string) int { return 10_000*(scores[a]-scores[b]) + strings.Compare(a, b) })
	defer func() {
		var texts []string
		for member, score := range scores {
			texts = append(texts, fmt.Sprint(member, "=", score))
		}
		slices.Sort(texts)
		if c[key] = strings.Join(texts, " "); len(texts) == 0 {
			delete(c, key)
		}
	}()
	member := command[len(command)-1]
	score, there := scores[member]
	switch {
	case name == "ZADD":
		scores[member], _ = strconv.Atoi(command[2])
		return integer(!there)
	case name == "ZINCRBY":
		by, _ := strconv.Atoi(command[2])
		scores[member] += by
		return strconv.Quote(strconv.Itoa(score + by))
	case len(inOrder) == 0 && name == "ZPOPMIN":
		return "*0"
	case name == "ZPOPMIN":
		defer delete(scores, inOrder[0])
		return fmt.Sprintf("*2\n  %q\n  \"%d\"", inOrder[0], scores[inOrder[0]])
	case len(inOrder) == 0 && name == "BZPOPMAX":
		return "*-1"
	case name == "BZPOPMAX":
		last := inOrder[len(inOrder)-1]
		defer delete(scores, last)
		return fmt.Sprintf("*3\n  %q\n  %q\n  \"%d\"", key, last, scores[last])
	case !there:
		return "$-1"
	case name == "ZRANK":
		return fmt.Sprint(":", slices.Index(inOrder, member))
	}
	return strconv.Quote(strconv.Itoa(score))
}

// entries executes a command on a stream, kept as how many entries there are, how many its group
// was given, and which of those wait for an XACK.
func (c contents) entries(command []string) string {
	key := command[1]
	n, _ := strconv.Atoi(c[key])
	given, _ := strconv.Atoi(c[key+"/given"])
	waiting := c[key+"/waiting"] // each id within spaces
	switch command[0] {
	case "XADD":
		c[key] = strconv.Itoa(n + 1)
		return fmt.Sprintf("\"7-%d\"", n)
	case "XLEN":
		return fmt.Sprint(":", n)
	case "XACK":
		c[key+"/waiting"] = strings.Replace(waiting, " "+command[3]+" ", "", 1)
		return integer(c[key+"/waiting"] != waiting)
	}
	if given == n {
		return "*-1"
	}
	c[key+"/given"], c[key+"/waiting"] = strconv.Itoa(given+1), fmt.Sprintf("%s 7-%d ", waiting, given)
	return fmt.Sprintf("*1\n  *2\n    %q\n    *1\n      *2\n        \"7-%d\"\n        *2\n          \"f\"\n          \"v\"", key, given)
}

// deadlines executes a command on a string that may expire, kept under key, its deadline in seconds under key/until.
func (c contents) deadlines(command []string) string {
	name, key := command[0], command[1]
	value, there := c[key]
	until, expires := c[key+"/until"]
	clear := func() {
		delete(c, key)
		delete(c, key+"/until")
	}
	expire := func(deadline string) {
		if c[key+"/until"] = deadline; deadline == gone {
			clear()
		}
	}
	switch {
	case name == "SET":
		c[key] = command[2]
		switch how := strings.Join(command[3:], " "); {
		case how == "":
			delete(c, key+"/until")
		case how != "KEEPTTL":
			expire(strings.TrimSuffix(command[4], map[string]string{"PXAT": "000"}[command[3]]))
		}
		return "+OK"
	case !there && name == "EXPIRETIME":
		return ":-2"
	case !there && name == "GETEX":
		return "$-1"
	case !there:
		return ":0"
	case name == "EXPIRETIME" && !expires:
		return ":-1"
	case name == "EXPIRETIME":
		return ":" + until
	case name == "PERSIST":
		delete(c, key+"/until")
		return integer(expires)
	case name == "GETEX" && command[2] == "PERSIST":
		delete(c, key+"/until")
		return strconv.Quote(value)
	case name == "GETEX":
		expire(command[3])
		return strconv.Quote(value)
	}
	sooner := func(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }
	met := map[string]bool{ // without a deadline it is never, as far as GT and LT compare
		"": true, "NX": !expires, "XX": expires,
		"GT": expires && sooner(until, command[2]), "LT": !expires || sooner(command[2], until),
	}[strings.Join(command[3:], "")]
	if met {
		expire(command[2])
	}
	return integer(met)
}

// fields executes a command on numbers of four bits, kept under key/#n.
func (c contents) fields(command []string) string {
	key := command[1]
	value := func(at string) int { n, _ := strconv.Atoi(c[key+"/"+at]); return n }
	if command[0] == "GETBIT" {
		bit, _ := strconv.Atoi(command[2])
		return integer(value(fmt.Sprint("#", bit/4))>>(3-bit%4)&1 == 1)
	}
	at := command[6]
	by, _ := strconv.Atoi(command[7])
	n := value(at) + by
	if n > 15 && command[3] == "SAT" {
		n = 15
	}
	n %= 16
	c[key+"/"+at] = strconv.Itoa(n)
	return fmt.Sprintf("*2\n  :%d\n  :%d", n, value("#0"))
}

// TestAWrongAnswerIsFound has two clients ask at once, after what one of them asked before: there is
// an order of the two that explains what is right, and none that explains what is wrong.
func TestAWrongAnswerIsFound(t *testing.T) {
	const (
		entry   = "*1\n  *2\n    \"x\"\n    *1\n      *2\n        \"7-0\"\n        *2\n          \"f\"\n          \"v\""
		addOne  = "BITFIELD f OVERFLOW WRAP INCRBY u4 #0 1 GET u4 #0"
		popLast = "*3\n  \"z\"\n  \"a\"\n  \"1\""
	)
	type said struct{ command, reply string }
	for name, test := range map[string]struct {
		before, one  said
		other        string
		right, wrong string
	}{
		"an element is popped twice":  {said{"RPUSH l 1", ":1"}, said{"LPOP l", `"1"`}, "RPOP l", "$-1", `"1"`},
		"what was removed is popped":  {said{"RPUSH l 1", ":1"}, said{"LREM l 0 1", ":1"}, "BLPOP l 0.001", "*-1", "*2\n  \"l\"\n  \"1\""},
		"a member is popped twice":    {said{"ZADD z 1 a", ":1"}, said{"ZPOPMIN z", "*2\n  \"a\"\n  \"1\""}, "BZPOPMAX z 0.001", "*-1", popLast},
		"an addition is lost":         {said{"ZADD z 1 a", ":1"}, said{"ZINCRBY z 2 a", `"3"`}, "ZINCRBY z 3 a", `"6"`, `"4"`},
		"a rank is nobody's":          {said{"ZADD z 1 a", ":1"}, said{"ZADD z 0 b", ":1"}, "ZRANK z a", ":1", ":2"},
		"an entry is given twice":     {said{"XADD x 7-* f v", `"7-0"`}, said{"XREADGROUP x >", entry}, "XREADGROUP x >", "*-1", entry},
		"what was not given is acked": {said{"XADD x 7-* f v", `"7-0"`}, said{"XLEN x", ":1"}, "XACK x g 7-0", ":0", ":1"},
		"two entries have one id":     {said{"XLEN x", ":0"}, said{"XADD x 7-* f v", `"7-0"`}, "XADD x 7-* f v", `"7-1"`, `"7-0"`},
		"an addition to bits is lost": {said{"GETBIT f 3", ":0"}, said{addOne, "*2\n  :1\n  :1"}, addOne, "*2\n  :2\n  :2", "*2\n  :1\n  :1"},
		"a deadline is lost":          {said{"SET e 1", "+OK"}, said{"GETEX e EXAT 99999999990", `"1"`}, "EXPIRETIME e", ":99999999990", ":-2"},
		"a sooner deadline wins":      {said{"SET e 1 EXAT 99999999992", "+OK"}, said{"EXPIRETIME e", ":99999999992"}, "EXPIREAT e 99999999991 GT", ":0", ":1"},
		"it is persistent twice":      {said{"SET e 1 PXAT 99999999991000", "+OK"}, said{"PERSIST e", ":1"}, "PERSIST e", ":0", ":1"},
		"what has expired is read":    {said{"SET e 1", "+OK"}, said{"EXPIREAT e 1", ":1"}, "GETEX e PERSIST", "$-1", `"2"`},
		"a replaced value's deadline": {said{"SET e 1 EXAT 99999999991", "+OK"}, said{"SET e 2", "+OK"}, "EXPIRETIME e", ":-1", ":-2"},
		"a bit is cleared twice":      {said{"SETBIT b 9 1", ":0"}, said{"SETBIT b 9 0", ":1"}, "SETBIT b 9 0", ":0", ":1"},
		"an element is new twice":     {said{"PFADD p 0", ":1"}, said{"PFADD p 9", ":1"}, "PFADD p 9", ":0", ":1"},
	} {
		t.Run(name, func(t *testing.T) {
			op := func(client int, command, reply string, at int64) porcupine.Operation {
				return porcupine.Operation{ClientId: client, Input: asked{strings.Fields(command)}, Output: reply, Call: at, Return: at + 1}
			}
			history := []porcupine.Operation{op(0, test.before.command, test.before.reply, 0), op(0, test.one.command, test.one.reply, 2)}
			if !porcupine.CheckOperations(keysOfOnePeer, append(history, op(1, test.other, test.right, 2))) {
				t.Errorf("%s is refused", test.right)
			}
			if porcupine.CheckOperations(keysOfOnePeer, append(history, op(1, test.other, test.wrong, 2))) {
				t.Errorf("%s passes", test.wrong)
			}
		})
	}
}
