package resp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// conversation is what a parser makes of bytes: the commands, each as its quoted arguments or the
// reason of its refusal, and the error that ended it.
type conversation struct {
	Commands []string
	End      string
}

// parseInPieces feeds data to a parser in pieces as long as size says, and calls check after each.
func parseInPieces(data []byte, size func() int, check func(p *parser)) conversation {
	var p parser
	var c conversation
	for len(data) > 0 {
		p.reserve()
		n := copy(p.free(), data[:min(len(data), max(1, size()))])
		p.received(n)
		data = data[n:]
		for {
			ok, err := p.next()
			if err != nil {
				c.End = err.Error()
				return c
			}
			if !ok {
				break
			}
			c.Commands = append(c.Commands, describe(&p))
		}
		p.rest()
		check(&p)
	}
	return c
}

func describe(p *parser) string {
	if p.rejected != nil {
		return p.rejected.Error()
	}
	var words []string
	for _, arg := range p.arguments(nil) {
		words = append(words, strconv.Quote(string(arg)))
	}
	return strings.Join(words, " ")
}

func encodeCommand(args ...string) []byte {
	var w replies
	w.array(len(args))
	for _, a := range args {
		w.text(a)
	}
	return w.buf
}

func wholeOrBytewise(data []byte) (whole, bytewise conversation) {
	nothing := func(*parser) {}
	whole = parseInPieces(data, func() int { return len(data) }, nothing)
	bytewise = parseInPieces(data, func() int { return 1 }, nothing)
	return whole, bytewise
}

func TestCommandsAreParsedAsRedisParsesThem(t *testing.T) {
	tests := []struct {
		name, input string
		want        conversation
	}{
		{"an array", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", conversation{[]string{`"GET" "k"`}, ""}},
		{"binary bytes", "*1\r\n$4\r\n\r\n\x00*\r\n", conversation{[]string{`"\r\n\x00*"`}, ""}},
		{"an empty string", "*1\r\n$0\r\n\r\n", conversation{[]string{`""`}, ""}},
		{"empty arrays", "*0\r\n*-1\r\n", conversation{[]string{"", ""}, ""}},
		{"a line", "set  k \tv\r\n", conversation{[]string{`"set" "k" "v"`}, ""}},
		{"a line without CR", "ping\n", conversation{[]string{`"ping"`}, ""}},
		{"empty lines", "\r\n\n", conversation{[]string{"", ""}, ""}},
		{"quotes", `echo "a\x41\n\"b" 'c\'\n' ""` + "\r\n",
			conversation{[]string{`"echo" "aA\n\"b" "c'\\n" ""`}, ""}},
		{"quotes left open", "echo \"a\r\n",
			conversation{nil, "Protocol error: unbalanced quotes in request"}},
		{"text after a quote", "echo 'a'b\r\n",
			conversation{nil, "Protocol error: unbalanced quotes in request"}},
		{"a line and an array", "ping\r\n*1\r\n$4\r\nPING\r\n",
			conversation{[]string{`"ping"`, `"PING"`}, ""}},
		{"half a command", "*1\r\n$4\r\nPIN", conversation{nil, ""}},
		{"no length", "*x\r\n", conversation{nil, "Protocol error: invalid multibulk length"}},
		{"too many arguments", fmt.Sprintf("*%d\r\n", MaxArguments+1),
			conversation{nil, "Protocol error: invalid multibulk length"}},
		{"a length of many digits", "*" + strings.Repeat("0", 30),
			conversation{nil, "Protocol error: invalid multibulk length"}},
		{"a number for a string", "*1\r\n:1\r\n",
			conversation{nil, "Protocol error: expected '$', got ':'"}},
		{"a negative string", "*1\r\n$-1\r\n",
			conversation{nil, "Protocol error: invalid bulk length"}},
		{"a string longer than announced", "*1\r\n$1\r\nabc\r\n",
			conversation{nil, "Protocol error: expected the end of a bulk string"}},
		{"a line without end", strings.Repeat("x", MaxInline+2),
			conversation{nil, "Protocol error: too big inline request"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			whole, bytewise := wholeOrBytewise([]byte(test.input))
			if diff := cmp.Diff(test.want, whole); diff != "" {
				t.Errorf("in one piece (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, bytewise); diff != "" {
				t.Errorf("byte by byte (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommandsBeyondALimitAreSkippedAndTheNextOnesAreParsed(t *testing.T) {
	long := strings.Repeat("v", MaxValue)
	threeValues := []string{"MSET", long, long, long}
	many := strings.Split(strings.Repeat(strings.Repeat("m", 100)+",", MaxCommand/100), ",")
	tests := []struct {
		name    string
		command []byte
		want    string
	}{
		{"the longest value", encodeCommand("ECHO", long), `"ECHO" ` + strconv.Quote(long)},
		{"a longer value", encodeCommand("SET", "k", long+"v", "NX"),
			fmt.Sprintf("ERR an argument of %d bytes exceeds the limit of %d bytes (MaxValue)", MaxValue+1, MaxValue)},
		{"many values", encodeCommand(threeValues...),
			fmt.Sprintf("ERR the command exceeds the limit of %d bytes (MaxCommand)", MaxCommand)},
		{"many arguments", encodeCommand(many...),
			fmt.Sprintf("ERR the command exceeds the limit of %d bytes (MaxCommand)", MaxCommand)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			data := append(bytes.Clone(test.command), encodeCommand("PING")...)
			got := parseInPieces(data, func() int { return 500_009 }, func(p *parser) {
				if p.rejected != nil && p.open && cap(p.buf) > 1<<17 {
					t.Fatalf("%d bytes are held for a refused command", cap(p.buf))
				}
			})
			want := conversation{[]string{test.want, `"PING"`}, ""}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff[:min(len(diff), 500)])
			}
		})
	}
}

// longestSkipped is the longest argument that is thrown away: with its header and its end it has
// MaxSkip bytes.
const longestSkipped = MaxSkip - len("$67108864\r\n") - len("\r\n")

func TestACommandTooLongToSkipEndsTheConnection(t *testing.T) {
	for announced, ends := range map[int]bool{
		longestSkipped:     false,
		longestSkipped + 1: true,
		500_000_000:        true,
		999_999_999_999:    true,
	} {
		want := ""
		switch {
		case announced > longestOfRedis:
			want = "Protocol error: invalid bulk length"
		case ends:
			want = fmt.Sprintf("ERR an argument of %d bytes exceeds the limit of %d bytes (MaxValue)", announced, MaxValue)
		}
		data := fmt.Sprintf("*2\r\n$3\r\nGET\r\n$%d\r\n", announced)
		whole, bytewise := wholeOrBytewise([]byte(data))
		if whole.End != want || bytewise.End != want {
			t.Errorf("%q ended with %q, byte by byte with %q, want %q", data, whole.End, bytewise.End, want)
		}
	}
}

// TestAnAnnouncedLengthHoldsNoMemory is the attack on servers that allocate what a header
// promises.
func TestAnAnnouncedLengthHoldsNoMemory(t *testing.T) {
	for _, data := range []string{
		"*1000000000\r\n",
		fmt.Sprintf("*%d\r\n", MaxArguments),
		fmt.Sprintf("*%d\r\n$1\r\na\r\n", MaxArguments),
		"$500000000\r\n",
		fmt.Sprintf("*3\r\n$%d\r\n", MaxValue),
		fmt.Sprintf("*3\r\n$%d\r\n", MaxValue+1),
		fmt.Sprintf("*3\r\n$%d\r\n", longestSkipped),
	} {
		parseInPieces([]byte(data), func() int { return len(data) }, func(p *parser) {
			if held := heldBy(p); held > restSize+keepArguments*8 {
				t.Errorf("after %q a waiting connection holds %d bytes", data, held)
			}
		})
	}
}

func heldBy(p *parser) int { return cap(p.buf) + 8*cap(p.spans) }

func TestAnyCommandsInAnyPiecesComeOutAsTheyWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var data []byte
		var want []string
		argument := rapid.SliceOf(rapid.Byte())
		commands := rapid.SliceOf(rapid.SliceOfN(argument, 1, 6)).Draw(t, "commands")
		for _, args := range commands {
			var words, quoted []string
			for _, a := range args {
				words = append(words, string(a))
				quoted = append(quoted, strconv.Quote(string(a)))
			}
			data = append(data, encodeCommand(words...)...)
			want = append(want, strings.Join(quoted, " "))
		}
		size := rapid.IntRange(1, 200)
		got := parseInPieces(data, func() int { return size.Draw(t, "piece") }, func(*parser) {})
		if diff := cmp.Diff(conversation{want, ""}, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzParse checks that the outcome does not depend on how the bytes come in pieces, and that
// memory is in proportion to the bytes that came.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		dice := rand.New(rand.NewPCG(seed, 0))
		size := func() int { return dice.IntN(64) }
		whole := parseInPieces(data, func() int { return len(data) }, func(*parser) {})
		pieces := parseInPieces(data, size, func(p *parser) {
			if held := heldBy(p); held > max(restSize+keepArguments*8, 16*len(data)) {
				t.Fatalf("%d bytes are held of at most %d received", held, len(data))
			}
		})
		if diff := cmp.Diff(whole, pieces); diff != "" {
			t.Fatalf("in one piece and in several (seed %d):\n%s", seed, diff)
		}
	})
}

func BenchmarkParseAPipelineOfSixteen(b *testing.B) {
	var data []byte
	for i := range 16 {
		data = append(data, encodeCommand("SET", fmt.Sprintf("key:%012d", i), "xxx")...)
	}
	var p parser
	var args [][]byte
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		p.reserve()
		p.received(copy(p.free(), data))
		for {
			ok, err := p.next()
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				break
			}
			args = p.arguments(args[:0])
		}
	}
	if len(args) != 3 {
		b.Fatalf("the last command has %d arguments", len(args))
	}
}

func TestTheArgumentsOfAnUnfinishedCommandCountAsHeld(t *testing.T) {
	const arguments = 100_000
	var p parser
	text := "*1000000\r\n" + strings.Repeat("$0\r\n\r\n", arguments)
	for len(text) > 0 {
		p.reserve()
		n := copy(p.free(), text)
		p.received(n)
		text = text[n:]
		if _, err := p.next(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := p.size()-cap(p.buf), arguments*int(unsafe.Sizeof(span{})); got < want {
		t.Errorf("%d arguments count for %d bytes, want %d", arguments, got, want)
	}
}

// TestALargeValueIsCopiedFewTimes as it comes in parts: what is allocated for it, all in all, is
// some times its size, and the buffer that it ends in is hardly larger than it.
func TestALargeValueIsCopiedFewTimes(t *testing.T) {
	data := encodeCommand("SET", "k", strings.Repeat("v", MaxValue))
	for _, piece := range []int{1 << 12, 1 << 16, 1 << 18, 3 << 20} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var p parser
		done := false
		for from := 0; from < len(data); {
			p.reserve()
			if from > 0 && cap(p.buf) > max(4*p.pending(), readSize) {
				t.Fatalf("a buffer of %d bytes for %d", cap(p.buf), p.pending())
			}
			n := copy(p.free(), data[from:min(len(data), from+piece)])
			if n == 0 {
				t.Fatal("there is no room")
			}
			p.received(n)
			from += n
			var err error
			if done, err = p.next(); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		all, held := after.TotalAlloc-before.TotalAlloc, cap(p.buf)
		if !done || all > 4*MaxValue || held > MaxValue*5/4+readSize {
			t.Errorf("in parts of %d bytes: %d MiB are allocated, and the buffer has %d KiB",
				piece, all>>20, held>>10)
		}
	}
}
