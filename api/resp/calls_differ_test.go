package resp

import (
	"crypto/sha1"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// calls are forms of commands that do something, mostly: words; in brackets what may be left out;
// in parentheses forms of which one is taken; in braces what comes once or more; ~ for a space; and with @ what
// argumentFor draws.
var calls = map[string]string{
	"append": "@k @v", "set": "@k @v [ ( NX | XX ) ] [ GET ] [ ( KEEPTTL | EXAT @at | PXAT @at000 | EX @in | PX @in ) ]",
	"getex":    "@k [ ( PERSIST | EXAT @at | PXAT @at000 | EX @in | PX @in ) ]",
	"getrange": "@k @n @n", "substr": "@k @n @n", "setrange": "@k @c @v", "incrby": "@k @n", "decrby": "@k @n",
	"incrbyfloat": "@k @x", "lcs": "@k @k [ LEN ] [ IDX ] [ MINMATCHLEN @c ] [ WITHMATCHLEN ]",
	"setex": "@k @in @v", "psetex": "@k @in @v",

	"setbit": "@k @c @bit", "getbit": "@k @c", "bitcount": "@k [ @n @n [ ( BIT | BYTE ) ] ]",
	"bitpos": "@k @bit [ @n [ @n [ ( BIT | BYTE ) ] ] ]", "bitop": "( AND @k { @k } | OR @k { @k } | XOR @k { @k } | NOT @k @k )",

	"sadd": "@s { @e }", "srem": "@s { @e }", "smove": "@s @s @e", "sismember": "@s @e", "smismember": "@s { @e }",
	"sintercard": "2 @s @s [ LIMIT @c ]", "spop": "@s ( 1000 | 0 | 0 | 0 )", "srandmember": "@s ( 1000 | 0 )", "sscan": "@s 0 [ MATCH @glob ] COUNT 1000",

	"hset": "@h { @e @v }", "hmset": "@h { @e @v }", "hsetnx": "@h @e @v", "hget": "@h @e", "hmget": "@h { @e }",
	"hdel": "@h { @e }", "hexists": "@h @e", "hstrlen": "@h @e", "hincrby": "@h @e @n", "hincrbyfloat": "@h @e @x",
	"hrandfield": "@h ( 1000 | 0 ) [ WITHVALUES ]", "hscan": "@h 0 [ MATCH @glob ] COUNT 1000",

	"lpush": "@l { @e }", "rpush": "@l { @e }", "lpushx": "@l { @e }", "rpushx": "@l { @e }",
	"lpop": "@l [ @c ]", "rpop": "@l [ @c ]", "linsert": "@l ( BEFORE | AFTER ) @e @e", "lindex": "@l @n", "lset": "@l @n @e",
	"lrange": "@l @n @n", "ltrim": "@l @n @n", "lrem": "@l @n @e", "lpos": "@l @e [ RANK @n ] [ COUNT @c ] [ MAXLEN @c ]",
	"lmove": "@l @l @end @end", "lmpop": "2 @l @l @end [ COUNT @c ]",
	"blmove": "@l @l @end @end 0.001", "blmpop": "0.001 2 @l @l @end [ COUNT @c ]", "brpoplpush": "@l @l 0.001",
	"blpop": "@l @l 0.001", "brpop": "@l @l 0.001",
	"sort": "( @l BY nosort | ( @l | @s | @z ) ( ALPHA | BY k* | BY h*->a | ALPHA ) ) [ LIMIT @n @n ] [ { GET ( # | k* | h*->a ) } ] " +
		"[ ( ASC | DESC ) ] [ STORE @l ]",
	"sort_ro": "( @l BY nosort | ( @l | @s | @z ) ( ALPHA | BY k* | BY h*->a ) ) [ LIMIT @n @n ] [ { GET ( # | k* | h*->a ) } ]",

	"zadd":    "( @scored | @scored | @scored | @y 0 @e 0 @e )",
	"zincrby": "@z @sc @e", "zscore": "@z @e", "zmscore": "@z { @e }", "zrank": "@z @e", "zrevrank": "@z @e", "zrem": "@z { @e }",
	"zcount": "@z @sc @sc", "zrange": "@z @range [ WITHSCORES ]", "zrangestore": "@z @z @range",
	"zrangebyscore": "@z @sc @sc [ WITHSCORES ] [ LIMIT @n @n ]", "zrevrangebyscore": "@z @sc @sc [ WITHSCORES ] [ LIMIT @n @n ]",
	"zrevrange": "@z @n @n [ WITHSCORES ]", "zremrangebyscore": "@z @sc @sc", "zremrangebyrank": "@z @n @n",
	"zrangebylex": "@y @lex @lex [ LIMIT @n @n ]", "zrevrangebylex": "@y @lex @lex [ LIMIT @n @n ]", "zlexcount": "@y @lex @lex",
	"zremrangebylex": "@y @lex @lex", "zunion": "@combined [ WITHSCORES ]", "zinter": "@combined [ WITHSCORES ]",
	"zdiff": "2 @z @z [ WITHSCORES ]", "zintercard": "2 @z @z [ LIMIT @c ]",
	"zunionstore": "@z @combined", "zinterstore": "@z @combined", "zdiffstore": "@z 2 @z @z", "zpopmin": "@z [ @c ]",
	"zpopmax": "@z [ @c ]", "zmpop": "2 @z @z ( MIN | MAX ) [ COUNT @c ]", "bzpopmin": "@z @z 0.001", "bzpopmax": "@z @z 0.001",
	"bzmpop": "0.001 2 @z @z ( MIN | MAX ) [ COUNT @c ]", "zrandmember": "@z ( 1000 | 0 ) [ WITHSCORES ]",
	"zscan": "@z 0 [ MATCH @glob ] COUNT 1000",

	"geoadd": "@g [ ( NX | XX ) ] [ CH ] { @place @e }", "geodist": "@g @e @e [ @unit ]", "geohash": "@g { @e }", "geopos": "@g { @e }",
	"geosearch":            "@g ( FROMMEMBER @e | FROMLONLAT @place ) @within @sorted [ WITHCOORD ] [ WITHDIST ] [ WITHHASH ]",
	"geosearchstore":       "@g @g ( FROMMEMBER @e | FROMLONLAT @place ) @within @sorted [ STOREDIST ]",
	"georadius":            "@g @place 2000 @unit @sorted [ ( WITHDIST WITHCOORD | STORE @g | STOREDIST @g ) ]",
	"georadius_ro":         "@g @place 2000 @unit @sorted [ WITHDIST ]",
	"georadiusbymember":    "@g @e 2000 @unit @sorted [ ( WITHDIST WITHCOORD | STORE @g | STOREDIST @g ) ]",
	"georadiusbymember_ro": "@g @e 2000 @unit @sorted [ WITHDIST ]",

	"pfadd": "@p { @e }", "pfcount": "@p [ @p ]", "pfmerge": "@p @p",

	"copy": "@any @any [ REPLACE ]", "rename": "@any @any", "renamenx": "@any @any", "type": "@any", "persist": "@any",
	"expire": "@any @in [ @if ]", "pexpire": "@any @in [ @if ]", "expireat": "@any @at [ @if ]", "pexpireat": "@any @at000 [ @if ]",
	"ttl": "@any", "pttl": "@any", "expiretime": "@any", "pexpiretime": "@any",
	"scan": "0 [ MATCH @glob ] COUNT 1000 [ TYPE ( string | list | set | zset | hash | stream | none ) ]",

	"acl": "( WHOAMI | USERS )", "auth": "( x | default x | other x | a b c )", "hello": "( 4 | x | 0 | 3 AUTH default )",
	"command":  "( GETKEYS | GETKEYSANDFLAGS ) @call",
	"client":   "( GETNAME | SETNAME @v | NO-EVICT ( ON | OFF | x ) | GETREDIR | TRACKINGINFO | CACHING YES | UNPAUSE | INFO x | ID x | KILL x )",
	"function": "( LIST | FLUSH )", "script": "( EXISTS @sha [ @sha ] | FLUSH [ ( SYNC | ASYNC | x ) ] | LOAD @lua | KILL )",
	"config": "( GET | SET x | SET x y z | SET x y | SET maxclients ( x | 0 | 1 maxclients 2 ) | SET slowlog-log-slower-than x | " +
		"SET notify-keyspace-events q | RESETSTAT x | REWRITE x | HELP x | x )",
	"object": "( REFCOUNT @any [ x ] | ENCODING [ none ] | FREQ @any | IDLETIME ( none | @any x ) | HELP x | x [ @any ] )",
	"memory": "( USAGE | USAGE none | USAGE @any ( SAMPLES | SAMPLES -1 | SAMPLES x | x 1 ) | DOCTOR x | STATS x | PURGE x | " +
		"MALLOC-STATS x | HELP x | x )",
	"slowlog": "( GET ( x | -2 | 1 2 ) | LEN x | RESET x | HELP x | x )", "time": "x", "randomkey": "x", "dump": "none [ x ]",
	"restore": "@any ( 0 | 10000000 | -1 | x ) x [ { ( REPLACE | ABSTTL | IDLETIME ( 1 | -1 | x ) | FREQ ( 1 | 256 | x ) | x ) } ]",
	"wait":    "( 0 | 1 | -1 | x ) ( 1 | -1 | x )", "select": "( 0 | -1 | 16 | x )", "flushall": "[ ( SYNC | ASYNC | x ) ]",
}

// parts are forms within several of calls.
var parts = map[string]string{
	"end": "( LEFT | RIGHT )", "if": "( NX | XX | GT | LT )", "unit": "( m | km | ft | mi )", "bit": "( 0 | 1 )",
	"range":  "( @n @n [ REV ] | @sc @sc BYSCORE [ REV ] [ LIMIT @n @n ] )",
	"lex":    "( - | + | [a | (b | [d | (zz | x )",
	"scored": "@z [ ( NX | XX | GT | LT | XX GT ) ] [ CH ] [ INCR ] @sc @e [ @sc @e ]",
	"combined": "( 1 @z | 2 ( @z | @s ) @z [ WEIGHTS @sc @sc ] | 3 @z @z @s [ WEIGHTS 1 2 0.5 ] ) " +
		"[ AGGREGATE ( SUM | MIN | MAX ) ]",
	"place":  "( 13.361389 38.115556 | 15.087269 37.502669 | 2.349 48.864 | -0.1275 51.507 | 179.9 0 | -179.9 0.1 | 13.4 38.2 )",
	"within": "( BYRADIUS ( 200 | 3000 | 300000 ) @unit | BYBOX ( 400 | 5000 ) ( 400 | 90000 ) @unit )",
	"sorted": "( ASC | DESC ) [ COUNT @c ]", "glob": "( * | a* | ?1 | [a-c]* | k* | x )",
	"lua": "( return~redis.call('incr','k0') | return~{1,ARGV[1],KEYS[1]} | return~( )",
	"sha": "( 98c0b6a2f6c2d5b0a1e8a5a0a0a9d6d24d4a4c11 | x | @known )",
}

// call returns a call of a form.
func (d *differing) call(name string) []string {
	args, _ := d.form(strings.Fields(calls[name]))
	return append([]string{name}, args...)
}

// form expands words up to the end of a form, and returns what follows it.
func (d *differing) form(words []string) (args, rest []string) {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch {
		case word == "]" || word == ")" || word == "}" || word == "|":
			return args, append([]string{word}, words...)
		case word == "[":
			var inner []string
			inner, words = d.form(words)
			if words = words[1:]; d.rand.IntN(2) == 0 {
				args = append(args, inner...)
			}
		case word == "{":
			var inner []string
			for again := words; ; {
				inner, words = d.form(again)
				if args, words = append(args, inner...), words[1:]; d.rand.IntN(2) == 0 {
					break
				}
			}
		case word == "(":
			var choice [][]string
			for end := "|"; end == "|"; words = words[1:] {
				var inner []string
				inner, words = d.form(words)
				choice, end = append(choice, inner), words[0]
			}
			args = append(args, choice[d.rand.IntN(len(choice))]...)
		case strings.HasPrefix(word, "@"):
			args = append(args, d.argumentFor(word[1:])...)
		default:
			args = append(args, strings.ReplaceAll(word, "~", " "))
		}
	}
	return args, nil
}

// argumentFor returns arguments of a kind.
func (d *differing) argumentFor(kind string) []string {
	if part, ok := parts[kind]; ok {
		args, _ := d.form(strings.Fields(part))
		return args
	}
	groups := map[string]string{"k": "string", "s": "set", "h": "hash", "l": "list", "z": "sorted-set", "g": "geo", "p": "hyperloglog"}
	if group, ok := groups[kind]; ok {
		return []string{d.key(group)}
	}
	switch kind {
	case "any":
		return []string{d.key("")}
	case "call":
		return d.simple()
	case "y": // a sorted set whose members have one score
		return []string{"y" + strconv.Itoa(d.rand.IntN(2))}
	}
	return []string{d.scalar(kind)}
}

func (d *differing) scalar(kind string) string {
	small := func(from, to int) string { return strconv.Itoa(from + d.rand.IntN(to-from+1)) }
	switch kind {
	case "n": // an index, or a number to add
		return small(-7, 7)
	case "c": // a count
		return small(0, 9)
	case "e": // an element, of few
		return d.pick("a", "b", "c", "d", "e", "", "1", "2", "10", "-3")
	case "x":
		return d.pick("0.1", "-2.5", "1e3", "3", "1e-7", "inf", "0.30000000000000004")
	case "sc": // a score, or an end of a range of scores
		if d.rand.IntN(20) == 0 {
			return d.pick("-inf", "+inf", "(2", "nan", "x")
		}
		return d.pick("0", "1", "2", "3", "-1", "2.5", "0.1", "1e20", "-7")
	case "known": // a script that was run, or has been forgotten
		return fmt.Sprintf("%x", sha1.Sum([]byte(d.pick(scriptsAround...))))
	case "at":
		return strconv.Itoa(farOff + d.rand.IntN(3))
	case "at000":
		return strconv.Itoa(1000*farOff + d.rand.IntN(3))
	case "in": // a time from now on that does not come while the test runs, or that has come
		return d.pick("-1", "0", "x", "9223372036854775807", strconv.Itoa(10_000_000+d.rand.IntN(1<<30)))
	}
	return d.argument()
}

// farOff is a time in seconds since 1970.
const farOff = 33_177_117_420

// subscribe sends commands that change what a client has subscribed to, with others between, and
// compares all that comes back for each: up to the reply of a PING, for several replies may come,
// and in no order.
func (d *differing) subscribe(t *testing.T) (sent int) {
	different := false
	channel := func() string { return d.pick("a", "b", "c*", "", "[x") }
	for n := 2 + d.rand.IntN(6); n > 0 && !different; n-- {
		command := []string{d.pick("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "SUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE")}
		for range d.rand.IntN(4) {
			command = append(command, channel())
		}
		for d.rand.IntN(4) == 0 || strings.HasSuffix(command[0], "publish") { // its own message may come behind the mark
			command = d.simple()
		}
		mark := fmt.Sprint("mark ", sent)
		var got [2]string
		for i, p := range d.both {
			p.send(command, []string{"PING", mark})
			var replies []string
			for last := ""; !strings.Contains(last, mark); replies = append(replies, last) {
				reply, err := readValue(p.in)
				if err != nil {
					t.Fatalf("seed %d: %q: %v", d.seed, command, err)
				}
				if last = reply.text(""); !strings.Contains(last, mark) {
					reply.settle(command)
					last = reply.text("")
				}
			}
			lines := strings.SplitAfter(strings.Join(replies, ""), "\n") // what is unsubscribed from is in no order
			slices.Sort(lines)
			got[i] = strings.Join(lines, "")
		}
		sent++
		d.past = append(d.past, command)
		different = d.judge(t, command, got) || d.hides(command)
	}
	for _, p := range d.both {
		p.send([]string{"RESET"}, []string{"HELLO", d.protocol})
		p.reply()
		p.reply()
	}
	if different {
		d.again()
	}
	return sent
}

// restore has both restore what they DUMP, each its own.
func (d *differing) restore(t *testing.T) (sent int) {
	from := d.streamKey()
	if d.group != "stream" {
		from = d.key(d.pick("string", "set", "hash", "list", "sorted-set", "geo", "hyperloglog", d.group))
	}
	to := from[:1] + d.pick("0", "1", "2", "3")
	command := []string{"RESTORE", to, "0", "what DUMP says of " + from, d.pick("REPLACE", "REPLACE", "ABSTTL")}
	d.past = append(d.past, command)
	var got [2]value
	for i, p := range d.both {
		p.send([]string{"DUMP", from})
		dump, err := readValue(p.in)
		if err != nil {
			t.Fatalf("seed %d: DUMP %q: %v", d.seed, from, err)
		}
		payload, _ := strconv.Unquote(dump.head) // "" if there is none, or an error
		p.send([]string{"RESTORE", to, "0", payload, command[4]})
		if got[i], err = readValue(p.in); err != nil {
			t.Fatalf("seed %d: %q: %v", d.seed, command, err)
		}
	}
	if d.compare(t, command, got) {
		d.again()
	}
	return 2
}
