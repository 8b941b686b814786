package resp

import (
	"fmt"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestEventsAreNamedAsRedisNamesThem: what a Redis 7.0 tells stands behind each command.
func TestEventsAreNamedAsRedisNamesThem(t *testing.T) {
	eachWay(t, testEventsAreNamedAsRedisNamesThem)
}

func testEventsAreNamedAsRedisNamesThem(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	writer, reader := dial(t, address), dial(t, address)
	reader.ask("PSUBSCRIBE __keyevent@0__:*")
	for _, line := range strings.Split(strings.TrimSpace(`
SET k v -> set k
SET k v EX 100 -> set k, expire k
SET k v PX 1000 NX ->
SETEX k 100 v -> set k, expire k
PSETEX k 100000 v -> set k, expire k
SETNX k v ->
SETNX k2 v -> set k2
GETSET k w -> set k
MSET a 1 b 2 -> set a, set b
MSETNX c 1 d 2 -> set c, set d
APPEND k x -> append k
SETRANGE k 1 y -> setrange k
INCR n -> incrby n
DECR n -> incrby n
INCRBY n 2 -> incrby n
DECRBY n 3 -> incrby n
INCRBYFLOAT n 1.5 -> incrbyfloat n
GETDEL n -> del n
GETEX k EX 100 -> expire k
GETEX k PERSIST -> persist k
GETEX k EXAT 1 -> del k
SET k v -> set k
EXPIRE k 100 -> expire k
PEXPIRE k 100000 -> expire k
EXPIREAT k 9999999999 -> expire k
PERSIST k -> persist k
EXPIRE k -1 -> del k
HSET h f v g w -> hset h
HMSET h f v -> hset h
HSETNX h z 1 -> hset h
HSETNX h z 1 ->
HINCRBY h n 1 -> hincrby h
HINCRBYFLOAT h m 1.5 -> hincrbyfloat h
HDEL h f g -> hdel h
HDEL h z n m -> hdel h, del h
SADD s a b c -> sadd s
SREM s a -> srem s
SMOVE s t b -> srem s, sadd t
SPOP s 5 -> spop s, del s
SREM t b -> srem t, del t
SADD x 1 2 -> sadd x
SADD y 2 3 -> sadd y
SINTERSTORE z x y -> sinterstore z
SINTERSTORE z x nokey -> del z
SUNIONSTORE z x y -> sunionstore z
SDIFFSTORE w x x ->
COPY x xx -> copy_to xx
RENAME xx yy -> rename_from xx, rename_to yy
RENAMENX yy zz -> rename_from yy, rename_to zz
DEL zz x -> del zz, del x
UNLINK y -> del y
GET z ->
LPUSH l a b c -> lpush l
RPUSHX l d -> rpush l
LPUSHX l z -> lpush l
RPUSH l e f g h i -> rpush l
LINSERT l BEFORE a x -> linsert l
LSET l 0 y -> lset l
LREM l 1 y -> lrem l
LTRIM l 0 4 -> ltrim l
LPOP l -> lpop l
RPOP l 1 -> rpop l
RPOPLPUSH l m -> lpush m, rpop l
LMOVE l m LEFT RIGHT -> rpush m, lpop l
LMOVE m m LEFT RIGHT -> rpush m, lpop m
LMPOP 2 q m RIGHT -> rpop m
LMPOP 1 m LEFT COUNT 5 -> lpop m, del m
BLPOP l 1 -> lpop l, del l
RPUSH l 1 2 3 4 5 6 7 -> rpush l
BRPOP l 1 -> rpop l
BRPOPLPUSH l m 1 -> lpush m, rpop l
BLMOVE l m RIGHT LEFT 1 -> lpush m, rpop l
BLMPOP 1 2 q m LEFT -> lpop m
LTRIM l 5 1 -> ltrim l, del l
SORT m STORE sorted -> sortstore sorted
SORT q STORE sorted -> del sorted
ZADD zs 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h -> zadd zs
ZADD zs INCR 1 a -> zincr zs
ZADD zs 1 incr -> zadd zs
ZREM zs incr -> zrem zs
ZADD zs XX 2 nothere ->
ZINCRBY zs 2 a -> zincr zs
ZREM zs a -> zrem zs
ZREM zs nope ->
ZPOPMIN zs -> zpopmin zs
ZPOPMAX zs 1 -> zpopmax zs
ZMPOP 1 zs MIN -> zpopmin zs
ZMPOP 2 q zs MAX -> zpopmax zs
BZPOPMIN zs 1 -> zpopmin zs
BZPOPMAX zs 1 -> zpopmax zs
BZMPOP 1 1 zs MIN -> zpopmin zs, del zs
ZPOPMIN zs 10 ->
ZADD zs 1 a 2 b 3 c 4 d 5 e 6 f -> zadd zs
ZREMRANGEBYRANK zs 0 0 -> zremrangebyrank zs
ZREMRANGEBYSCORE zs 2 2 -> zremrangebyscore zs
ZREMRANGEBYLEX zs [c [c -> zremrangebylex zs
ZRANGESTORE ys zs 0 -1 -> zrangestore ys
ZRANGESTORE ys zs 10 11 -> del ys
ZUNIONSTORE ys 2 zs zs -> zunionstore ys
ZINTERSTORE ys 2 zs q -> del ys
ZDIFFSTORE ys 2 zs q -> zdiffstore ys
ZREMRANGEBYRANK zs 0 -1 -> zremrangebyrank zs, del zs
GEOADD g 13 38 a 15 37 b -> zadd g
GEOSEARCHSTORE ys g FROMLONLAT 15 37 BYRADIUS 500 km -> geosearchstore ys
GEORADIUS g 15 37 500 km STORE ys -> georadiusstore ys
GEORADIUSBYMEMBER g a 1 m STORE ys -> georadiusstore ys
GEORADIUS g 1 1 1 m STORE ys -> del ys
SETBIT bm 7 1 -> setbit bm
SETBIT bm 7 1 ->
BITFIELD bm SET u8 0 1 ->
BITFIELD bm GET u8 0 ->
BITOP AND d bm bm -> set d
BITOP AND d nope -> del d
PFADD p a b -> pfadd p
PFADD p a ->
PFMERGE p2 p -> pfadd p2
XADD xs 1-1 f v -> xadd xs
XADD xs MAXLEN 9 1-2 f v -> xadd xs
XADD xs MAXLEN 1 2-1 f v -> xadd xs, xtrim xs
XADD xs NOMKSTREAM MAXLEN 1 2-2 f v -> xadd xs, xtrim xs
XADD xs 3-1 f v -> xadd xs
XADD xs 4-1 f v -> xadd xs
XTRIM xs MAXLEN 2 -> xtrim xs
XTRIM xs MAXLEN 2 ->
XDEL xs 3-1 -> xdel xs
XGROUP CREATE xs g 0 -> xgroup-create xs
XGROUP CREATECONSUMER xs g ann -> xgroup-createconsumer xs
XREADGROUP GROUP g ann STREAMS xs > ->
XREADGROUP GROUP g bob STREAMS xs > ->
XREADGROUP GROUP g bob STREAMS xs 0 -> xgroup-createconsumer xs
XACK xs g 4-1 ->
XGROUP SETID xs g 0 -> xgroup-setid xs
XREADGROUP GROUP g ann STREAMS xs > ->
XCLAIM xs g eve 0 5-1 ->
XCLAIM xs g eve 0 4-1 -> xgroup-createconsumer xs
XCLAIM xs g eve 0 4-1 ->
XAUTOCLAIM xs g dan 9999999 0 ->
XAUTOCLAIM xs g dan 0 0 -> xgroup-createconsumer xs
XGROUP DELCONSUMER xs g ann -> xgroup-delconsumer xs
XGROUP DESTROY xs g -> xgroup-destroy xs
XDEL xs 4-1 -> xdel xs
XGROUP CREATE newx g $ MKSTREAM -> xgroup-create newx
COPY xs x2 -> copy_to x2
EVAL return{redis.call('set',KEYS[1],'v'),redis.call('lpush',KEYS[2],'e')} 2 es el -> set es, lpush el
PERSIST es ->
CRDT.RESOLVE es w v -> set es
HSET hh f 1 -> hset hh
CRDT.HRESOLVE hh f 2 1 -> hset hh
CRDT.HRESOLVE hh f 3 1 ->
ZADD zr 1 m -> zadd zr
CRDT.ZRESOLVE zr m 2 1 -> zadd zr
CRDT.ZRESOLVE zr m 3 1 ->
RPUSH lr x -> rpush lr
CRDT.LRESOLVE lr 0 y x -> lset lr
CRDT.LRESOLVE lr 0 z x ->
`), "\n") {
		command, events, _ := strings.Cut(line, " ->")
		writer.ask(command)
		writer.ask("SET end 1")
		for _, event := range append(strings.FieldsFunc(events, func(r rune) bool { return r == ',' }), "set end") {
			name, key, _ := strings.Cut(strings.TrimSpace(event), " ")
			if want, got := fmt.Sprintf(`*4 "pmessage" "__keyevent@0__:*" "__keyevent@0__:%s" %q`, name, key), flat(reader.reply()); got != want {
				t.Fatalf("%s: %s, want %s", command, got, want)
			}
		}
	}
	writer.send([]string{"MULTI"}, []string{"INCR", "a"}, []string{"INCR", "a"}, []string{"SADD", "s", "x"}, []string{"EXEC"})
	for _, event := range []string{"incrby a", "incrby a", "sadd s"} {
		name, key, _ := strings.Cut(event, " ")
		reader.expectMessages(fmt.Sprintf(`*4 "pmessage" "__keyevent@0__:*" "__keyevent@0__:%s" %q`, name, key))
	}
	waiter := dial(t, address)
	waiter.send([]string{"BLPOP", "queue", "0"})
	eventually(t, "a command waits", func() bool { return strings.Contains(writer.ask("INFO clients"), `blocked_clients:1\r\n`) })
	writer.ask("RPUSH queue e")
	for _, event := range []string{"rpush queue", "lpop queue", "del queue"} {
		name, key, _ := strings.Cut(event, " ")
		reader.expectMessages(fmt.Sprintf(`*4 "pmessage" "__keyevent@0__:*" "__keyevent@0__:%s" %q`, name, key))
	}
}

func TestClientsChooseOfWhichEventsTheyAreTold(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	writer, reader := dial(t, address), dial(t, address)
	reader.ask("PSUBSCRIBE __key*")
	writer.expect("CONFIG SET notify-keyspace-events Ks", "+OK")
	writer.ask("SET k v")
	writer.ask("SADD s a")
	reader.expectMessages(`*4 "pmessage" "__key*" "__keyspace@0__:s" "sadd"`)
	writer.expect("CONFIG SET notify-keyspace-events g$E", "+OK")
	writer.ask("SADD s b")
	writer.ask("DEL k")
	reader.expectMessages(`*4 "pmessage" "__key*" "__keyevent@0__:del" "k"`)
	writer.send([]string{"CONFIG", "SET", "notify-keyspace-events", ""})
	writer.reply()
	writer.ask("SET k v")
	writer.ask("PUBLISH __keyspace@0__:k own")
	reader.expectMessages(`*4 "pmessage" "__key*" "__keyspace@0__:k" "own"`)
	writer.expect("CONFIG SET notify-keyspace-events q", "-ERR CONFIG SET failed (possibly related to argument "+
		"'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
	for set, get := range map[string]string{"KEA": "AKE", "AKEmn": "AKEm", "Elshzxetd": "lshzxetdE", "gxnK": "gxnK", "KEg$lshzxetdm": "AKEm"} {
		writer.expect("CONFIG SET notify-keyspace-events "+set, "+OK")
		if got := flat(writer.ask("CONFIG GET notify-keyspace-events")); got != fmt.Sprintf(`*2 "notify-keyspace-events" %q`, get) {
			t.Errorf("%s is shown as %s", set, got)
		}
	}
}

// TestWhatExpiresIsToldAsExpired here and at another peer, of keys of few cells and of many; and
// what comes from elsewhere as far as that can be told.
func TestWhatExpiresIsToldAsExpired(t *testing.T) {
	h := newHosts(t, 2)
	a, b := h.clients[0], h.clients[1]
	for _, p := range h.clients {
		p.ask("HELLO 3")
		p.ask("PSUBSCRIBE __keyevent@0__:*")
	}
	told := func(event, key string) string {
		return fmt.Sprintf(`>4 "pmessage" "__keyevent@0__:*" "__keyevent@0__:%s" %q`, event, key)
	}
	a.expect("SET k v PX 2000", "+OK")
	a.expectMessages(told("set", "k"), told("expire", "k"), told("expired", "k"))
	b.expectMessages(told("set", "k"), told("expired", "k"))

	a.ask("SADD s 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20")
	a.expectMessages(told("sadd", "s"))
	b.expectMessages(told("sadd", "s"))
	a.ask("PEXPIRE s 2000")
	a.expectMessages(told("expire", "s"), told("expired", "s"))
	for got := flat(b.reply()); got != told("expired", "s"); got = flat(b.reply()) {
		if got != told("sadd", "s") {
			t.Fatal(got)
		}
	}
	a.ask("HSET h f 1 g 2")
	a.expectMessages(told("hset", "h"))
	b.expectMessages(told("hset", "h"))
	a.ask("HDEL h f")
	a.expectMessages(told("hdel", "h"))
	b.expectMessages(told("hset", "h")) // it is there
	a.ask("DEL h")
	a.expectMessages(told("del", "h"))
	b.expectMessages(told("del", "h"))
}

// TestAFieldThatExpiresEndsNoKey: the hash is changed, which goes on.
func TestAFieldThatExpiresEndsNoKey(t *testing.T) {
	_, address := startPeer(t, embedded.Config{}, nil)
	writer, reader := dial(t, address), dial(t, address)
	writer.expect("HSET h stays 1 goes 2", ":2")
	reader.ask("PSUBSCRIBE __keyevent@0__:*")
	writer.expect("HPEXPIRE h 1 FIELDS 1 goes", "*1\n  :1")
	const about = `*4 "pmessage" "__keyevent@0__:*" "__keyevent@0__:`
	reader.expectMessages(about+`hexpire" "h"`, about+`hset" "h"`)
}
