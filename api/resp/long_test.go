package resp

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// longElements are enough for a reply that is sent in parts.
func longElements() []string {
	elements := make([]string, 3*MaxBatchOutput>>14)
	for i := range elements {
		elements[i] = fmt.Sprintf("%05d", i) + strings.Repeat("e", 1<<13)
	}
	return elements
}

// fillLong has keys of several types hold some elements.
func fillLong(p *peer, elements []string) {
	for some := range slices.Chunk(elements, 100) {
		list, set := []string{"RPUSH", "list"}, []string{"SADD", "set"}
		hash, zset := []string{"HSET", "hash"}, []string{"ZADD", "zset"}
		for i, e := range some {
			list, set = append(list, e), append(set, e)
			hash, zset = append(hash, e[:5], e), append(zset, strconv.Itoa(i), e)
		}
		p.send(list, set, hash, zset)
		for range 4 {
			if got := p.reply(); strings.HasPrefix(got, "-") {
				p.t.Fatal(got)
			}
		}
		for _, e := range some {
			p.send([]string{"XADD", "stream", "*", "f", e})
			p.reply()
		}
	}
}

func TestALongReplyIsTheSameAsOneThatIsMadeWhole(t *testing.T) {
	eachWay(t, testALongReplyIsTheSameAsOneThatIsMadeWhole)
}

func testALongReplyIsTheSameAsOneThatIsMadeWhole(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	fillLong(p, longElements())
	p.expect("SADD few a b", ":2")
	for _, version := range []string{"2", "3"} {
		p.send([]string{"HELLO", version})
		p.reply()
		for _, line := range []string{
			"LRANGE list 0 -1", "LRANGE list -190 -2", "SMEMBERS set", "HGETALL hash", "HKEYS hash",
			"HVALS hash", "ZRANGE zset 0 -1", "ZRANGE zset 0 -1 WITHSCORES",
			"ZREVRANGEBYSCORE zset 98 1 WITHSCORES LIMIT 3 180", "XRANGE stream - +",
			"XREVRANGE stream + - COUNT 180", "SUNION few set", "SDIFF set few", "SINTER set set",
			"ZUNION 2 zset few WITHSCORES", "KEYS *",
		} {
			command := strings.Fields(line)
			p.send([]string{"MULTI"}, command, []string{"EXEC"},
				[]string{"SET", "k", "v"}, command, []string{"GET", "k"})
			p.reply()
			p.reply()
			want, ok := strings.CutPrefix(p.reply(), "*1\n")
			if !ok {
				t.Fatalf("%s is refused within MULTI", line)
			}
			want = strings.ReplaceAll(want, "\n  ", "\n")[2:]
			var got [3]string
			for i := range got {
				got[i] = p.reply()
			}
			if got[0] != "+OK" || got[2] != `"v"` {
				t.Errorf("beside %s: %q and %.40q", line, got[0], got[2])
			}
			if got[1] != want {
				t.Errorf("%s, RESP%s: got %d bytes that begin with %.40q, want %d that begin with %.40q",
					line, version, len(got[1]), got[1], len(want), want)
			}
		}
	}
}

// beyondMaxReply has a key hold a list, or a sorted set, of which the whole is a longer reply.
func beyondMaxReply(p *peer, command ...string) (n int, element string) {
	element = strings.Repeat("e", 60_000)
	for n = 0; n*len(element) <= MaxReply; n++ {
		p.send(append(command, fmt.Sprintf("%06d", n)+element))
		if got := p.reply(); got[0] != ':' {
			p.t.Fatal(got)
		}
	}
	return n, element
}

// readStrings reads an array of strings, each of which it passes.
func readStrings(t *testing.T, r *bufio.Reader, fn func(i int, text string)) {
	t.Helper()
	number := func(mark byte) int {
		line, err := r.ReadString('\n')
		n, bad := strconv.Atoi(strings.TrimSuffix(line[min(1, len(line)):], "\r\n"))
		if err != nil || bad != nil || line[0] != mark {
			t.Fatalf("read %q, want %c and a number: %v", line, mark, err)
		}
		return n
	}
	for i := range number('*') {
		text := make([]byte, number('$')+2)
		if _, err := io.ReadFull(r, text); err != nil {
			t.Fatal(err)
		}
		fn(i, string(text[:len(text)-2]))
	}
}

func TestAReplyBeyondMaxReplyComesWholeAsOfOneMoment(t *testing.T) {
	eachWay(t, testAReplyBeyondMaxReplyComesWholeAsOfOneMoment)
}

func testAReplyBeyondMaxReplyComesWholeAsOfOneMoment(t *testing.T) {
	for _, test := range []struct {
		fill        []string
		read        string
		perElement  int
		write, gone string
	}{
		{[]string{"RPUSH", "k"}, "LRANGE k 0 -1", 1, "RPUSH k more", "LPOP k"},
		{
			[]string{"ZADD", "k", "1"}, "ZRANGE k 0 -1 WITHSCORES", 2,
			"ZADD k 2 more", "ZREMRANGEBYRANK k 0 0",
		},
	} {
		s, address := startServer(t, Config{db: newMemory(t)})
		p, other := dial(t, address), dial(t, address)
		n, element := beyondMaxReply(p, test.fill...)
		p.expect("MULTI", "+OK")
		p.expect(test.read, "+QUEUED")
		p.expect("EXEC", fmt.Sprintf(
			"-ERR the reply exceeds the limit of %d bytes (MaxReply); ask for less at once", MaxReply))
		p.send(strings.Fields(test.read))
		count, most := 0, int64(0)
		readStrings(t, p.in, func(i int, text string) {
			if i == 0 {
				other.ask(test.write)
				other.ask(test.gone)
			}
			if count++; i%test.perElement == 0 && text != fmt.Sprintf("%06d", i/test.perElement)+element {
				t.Fatalf("%s: element %d begins with %.10q", test.read, i, text)
			}
			most = max(most, s.held.Load())
		})
		if count != n*test.perElement {
			t.Errorf("%s: %d strings, want %d", test.read, count, n*test.perElement)
		}
		if most > 4*MaxBatchOutput {
			t.Errorf("%s: %d bytes were held", test.read, most)
		}
		failed := other.ask("INFO errorstats")
		p.send([]string{"CLIENT", "REPLY", "SKIP"}, strings.Fields(test.read), []string{"PING"})
		if got := p.reply(); got != "+PONG" {
			t.Errorf("behind a muted %s: %.40q", test.read, got)
		}
		if got := other.ask("INFO errorstats"); got != failed {
			t.Errorf("a muted %s: there were errors %s, now %s", test.read, failed, got)
		}
	}
}

// TestWhoLeavesALongReplyLeavesNothingBehind: nor keeps others from looking at as much.
func TestWhoLeavesALongReplyLeavesNothingBehind(t *testing.T) {
	eachWay(t, testWhoLeavesALongReplyLeavesNothingBehind)
}

func testWhoLeavesALongReplyLeavesNothingBehind(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	beyondMaxReply(p, "SADD", "k")
	p.expect("SADD few a", ":1")
	var deaf []*peer
	for range MaxScans + 1 {
		d := dial(t, address)
		d.send([]string{"SMEMBERS", "k"})
		if _, err := d.in.ReadByte(); err != nil { // it has begun
			t.Fatal(err)
		}
		deaf = append(deaf, d)
	}
	p.expect("SMEMBERS few", "*1\n  \"a\"")
	for _, d := range deaf {
		d.Close()
	}
	eventually(t, "they have left", func() bool { return s.clientCount() == 1 && s.held.Load() == 0 })
	p.expect("SMEMBERS few", "*1\n  \"a\"")
}

func TestWhoStopsReadingALongReplyIsClosed(t *testing.T) {
	eachWay(t, testWhoStopsReadingALongReplyIsClosed)
}

func testWhoStopsReadingALongReplyIsClosed(t *testing.T) {
	onPipes(t, Config{}, nil, func(t *testing.T, s *Server, connect func() *peer) {
		p := connect()
		for _, e := range longElements() {
			p.send([]string{"RPUSH", "k", e})
			p.reply()
		}
		p.send([]string{"LRANGE", "k", "0", "-1"})
		if _, err := io.CopyN(io.Discard, p.in, writeSize); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := p.Write(bytes.Repeat(encodeCommand("PING"), 1<<17)) // more than the system holds
		after := time.Since(began)
		if err == nil || after < WriteTimeout-time.Second || after > WriteTimeout+2*writeSlack {
			t.Errorf("closed after %v with %v, want %v", after, err, WriteTimeout)
		}
		if n := s.counts.unread.Load(); n != 1 {
			t.Errorf("%d clients were counted, want 1", n)
		}
	})
}

// takeInPieces reads a reply of some bytes, a piece of it at each of some times. It returns false
// if the connection ends before.
func takeInPieces(p *peer, size, piece int, every time.Duration) bool {
	for ; size > 0; size -= piece {
		<-time.After(every)
		if _, err := io.CopyN(io.Discard, p.in, int64(min(size, piece))); err != nil {
			return false
		}
	}
	return true
}

func TestFewSlowReadersKeepLongReplies(t *testing.T) { eachWay(t, testFewSlowReadersKeepLongReplies) }

func testFewSlowReadersKeepLongReplies(t *testing.T) {
	const elements, length, crowd = 160, 60_000, 12
	size := len(fmt.Sprintf("*%d\r\n", elements)) + elements*len(fmt.Sprintf("$%d\r\n\r\n", length)) +
		elements*length
	onPipes(t, Config{}, nil, func(t *testing.T, _ *Server, connect func() *peer) {
		writer := connect()
		for range elements {
			writer.send([]string{"RPUSH", "k", strings.Repeat("e", length)})
			writer.reply()
		}
		for _, test := range []struct {
			name        string
			piece       int
			every       time.Duration
			least, most int64 // how many have it all
		}{
			{"normal", MaxBatchOutput, 2 * time.Second, crowd, crowd},
			{"slow", MaxBatchOutput + sentAhead, WriteTimeout - time.Second, 1, MaxHeld / MaxLongHold},
			{"hardly", writeSize, WriteTimeout / 4, 0, 0},
		} {
			var all sync.WaitGroup
			var whole atomic.Int64
			for range crowd {
				p := connect()
				p.send([]string{"LRANGE", "k", "0", "-1"})
				all.Go(func() {
					if takeInPieces(p, size, test.piece, test.every) {
						whole.Add(1)
					}
					p.Close()
				})
			}
			all.Wait()
			if n := whole.Load(); n < test.least || n > test.most {
				t.Errorf("%d of %d that read at pace %q have it all, want %d to %d",
					n, crowd, test.name, test.least, test.most)
			}
		}
		writer.expect("PING", "+PONG")
	})
}

// TestCountingALongReplyEndsWithItsClient: of elements without end.
func TestCountingALongReplyEndsWithItsClient(t *testing.T) {
	s, err := New(Config{db: newMemory(t)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	close(ended)
	gone := register(t, s, idle(t), 0)
	gone.held.Store(evicted)
	for want, b := range map[error]*batch{
		context.Canceled: {client: register(t, s, idle(t), 0), ended: ended},
		errNotTaken:      {client: gone},
	} {
		c := &call{out: &b.out, send: b.sendPart, over: b.over}
		endless := func(yield func(int, int) bool) {
			for yield(0, 0) {
			}
		}
		if err := listing(c, -1, c.out.arrayAt, endless, func(int, int) {}); err != want {
			t.Errorf("ended with %v, want %v", err, want)
		}
	}
}

// TestCachingIsSaidOfTheWholeOfALongReply: also if its command begins twice.
func TestCachingIsSaidOfTheWholeOfALongReply(t *testing.T) {
	eachWay(t, testCachingIsSaidOfTheWholeOfALongReply)
}

func testCachingIsSaidOfTheWholeOfALongReply(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p, other := dial(t, address), dial(t, address)
	for _, e := range longElements() {
		p.send([]string{"RPUSH", "list", e})
		p.reply()
	}
	p.send([]string{"HELLO", "3"})
	p.reply()
	p.expect("CLIENT TRACKING ON OPTOUT", "+OK")
	p.expect("CLIENT CACHING NO", "+OK")
	p.send([]string{"LRANGE", "list", "0", "-1"})
	p.reply()
	p.expect("GET seen", "_")
	other.ask("RPUSH list more")
	other.ask("SET seen 1")
	if got, want := p.reply(), ">2\n  \"invalidate\"\n  *1\n    \"seen\""; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}
