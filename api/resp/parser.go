package resp

import (
	"bytes"
	"fmt"
)

// parser cuts the received bytes into commands: arrays of bulk strings, or plain lines. It keeps
// its place in a command that is not complete, so each byte is looked at once however finely the
// bytes come, and an array of a billion strings costs nothing until they do.
//
// Of a command beyond the limits the rest is thrown away as it comes: then rejected says why,
// there are no arguments, and the next command is parsed as usual.
type parser struct {
	input
	spans    []span // the arguments, relative to start
	rejected error  // why the command is not executed

	stranger bool // the smaller limits of who has not authenticated hold

	open     bool  // inside a command
	argsLeft int   // arguments still to come
	bulk     int64 // bytes of the argument whose header was read, else -1
	cost     int64 // of the command so far, as MaxCommand counts
	drop     int64 // bytes still to throw away of the argument
	skipped  int64 // bytes thrown away of the command, including drop
	searched int   // bytes behind pos that hold no end of line
}

// span is an argument's place. A buffer is never as large as 4 GiB: MaxCommand.
type span struct{ from, to uint32 }

// size returns how much memory the parser holds, in bytes.
func (p *parser) size() int { return p.input.size() + cap(p.spans)*spanSize }

// protocolError ends the connection: what follows cannot be told apart any more.
type protocolError string

func (e protocolError) Error() string { return "Protocol error: " + string(e) }

// reserve makes room for the next read.
func (p *parser) reserve() {
	coming := 0
	if p.open && p.bulk >= 0 && p.rejected == nil {
		coming = max(0, int(p.bulk)+len("\r\n")-(len(p.buf)-p.pos))
	}
	p.input.reserve(coming)
}

// next parses one command and returns true, or false if it is not complete. A command may have no
// arguments: an empty line, or an array of none. After an error, a protocolError or replyError,
// the connection must be ended.
func (p *parser) next() (bool, error) {
	if !p.open {
		if ok, err := p.begin(); !ok {
			return false, err
		}
	}
	for p.argsLeft > 0 {
		if ok, err := p.argument(); !ok {
			return false, err
		}
	}
	p.open = false
	return true, nil
}

// arguments appends the arguments of the command that next completed.
func (p *parser) arguments(args [][]byte) [][]byte {
	command := p.buf[p.start:p.pos]
	for _, s := range p.spans {
		args = append(args, command[s.from:s.to:s.to])
	}
	return args
}

// begin reads the header of a command, or the whole of one that is a line.
func (p *parser) begin() (bool, error) {
	p.start = p.pos
	p.spans, p.rejected = reuse(p.spans), nil
	p.argsLeft, p.bulk, p.cost, p.skipped = 0, -1, 0, 0
	rest := p.buf[p.pos:]
	if len(rest) == 0 {
		return false, nil
	}
	if rest[0] != '*' {
		return p.line(rest)
	}
	n, width, ok := length(rest[1:])
	switch {
	case !ok || n > MaxArguments:
		return false, protocolError("invalid multibulk length")
	case p.stranger && n > MaxStrangerArguments:
		return false, protocolError("unauthenticated multibulk length")
	case width == 0:
		return false, nil
	}
	p.pos += 1 + width
	p.argsLeft = max(0, int(n))
	p.open = true
	return true, nil
}

func reuse(spans []span) []span {
	if cap(spans) > keepArguments {
		return nil
	}
	return spans[:0]
}

// argument reads one argument, header and bytes.
func (p *parser) argument() (bool, error) {
	if p.bulk < 0 {
		if ok, err := p.bulkHeader(); !ok {
			return false, err
		}
	}
	if p.rejected != nil {
		return p.skip(), nil
	}
	rest := p.buf[p.pos:]
	if int64(len(rest)) < p.bulk+2 {
		return false, nil
	}
	n := int(p.bulk)
	if rest[n] != '\r' || rest[n+1] != '\n' {
		return false, protocolError("expected the end of a bulk string")
	}
	from := p.pos - p.start
	p.spans = append(p.spans, span{uint32(from), uint32(from + n)})
	p.endArgument(n + 2)
	return true, nil
}

// longestOfRedis is how many bytes an argument has at most that Redis takes as it comes.
const longestOfRedis = 512 << 20

func (p *parser) bulkHeader() (bool, error) {
	rest := p.buf[p.pos:]
	if len(rest) == 0 {
		return false, nil
	}
	if rest[0] != '$' {
		return false, protocolError(fmt.Sprintf("expected '$', got '%c'", printable(rest[0])))
	}
	n, width, ok := length(rest[1:])
	switch {
	case !ok || n < 0 || n > longestOfRedis:
		return false, protocolError("invalid bulk length")
	case width == 0:
		return false, nil
	}
	p.pos += 1 + width
	p.bulk = n
	p.cost += n + ArgumentCost
	if p.stranger && p.cost > MaxStrangerCommand {
		return false, protocolError("unauthenticated bulk length")
	}
	if p.rejected == nil {
		p.reject()
	}
	if p.rejected == nil {
		return true, nil
	}
	p.drop = n + 2
	p.skipped += int64(1+width) + p.drop
	if p.skipped > MaxSkip {
		return false, p.rejected
	}
	return true, nil
}

// reject decides whether the argument that begins here is within the limits.
func (p *parser) reject() {
	switch {
	case p.bulk > MaxValue:
		p.rejected = replyError(fmt.Sprintf(
			"ERR an argument of %d bytes exceeds the limit of %d bytes (MaxValue)",
			p.bulk, MaxValue))
	case p.cost > MaxCommand:
		p.rejected = replyError(fmt.Sprintf(
			"ERR the command exceeds the limit of %d bytes (MaxCommand)", MaxCommand))
	}
	if p.rejected != nil {
		p.spans = nil
	}
}

// skip throws away what has come of an argument and reports whether that was all of it.
func (p *parser) skip() bool {
	n := min(int64(len(p.buf)-p.pos), p.drop)
	p.drop -= n
	p.pos += int(n)
	p.start = p.pos
	if p.drop > 0 {
		return false
	}
	p.endArgument(0)
	return true
}

func (p *parser) endArgument(size int) {
	p.pos += size
	p.bulk = -1
	p.argsLeft--
}

// line reads a command that is a plain line, as typed by a person.
func (p *parser) line(rest []byte) (bool, error) {
	most := MaxInline
	if p.stranger {
		most = MaxStrangerCommand
	}
	end := bytes.IndexByte(rest[p.searched:], '\n')
	if end < 0 {
		p.searched = len(rest)
		if len(rest) > most {
			return false, protocolError("too big inline request")
		}
		return false, nil
	}
	end += p.searched
	p.searched = 0
	if end > most {
		return false, protocolError("too big inline request")
	}
	spans, ok := splitLine(rest[:end], p.spans)
	if !ok {
		return false, protocolError("unbalanced quotes in request")
	}
	p.spans = spans
	p.pos += end + 1
	p.open = true
	return true, nil
}

// length reads a number and the end of its line at the start of b. width is how many bytes that
// took, 0 if b ends too early. ok is false if it is something else.
func length(b []byte) (n int64, width int, ok bool) {
	i, sign := 0, int64(1)
	if len(b) > 0 && b[0] == '-' {
		i, sign = 1, -1
	}
	first := i
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		if i >= maxDigits || n > 1<<40 {
			return 0, 0, false
		}
		n = n*10 + int64(b[i]-'0')
	}
	switch {
	case i == len(b):
		return 0, 0, true
	case i == first || b[i] != '\r':
		return 0, 0, false
	case i+1 == len(b):
		return 0, 0, true
	case b[i+1] != '\n':
		return 0, 0, false
	}
	return sign * n, i + 2, true
}

func printable(c byte) byte {
	if c < ' ' || c > '~' {
		return '?'
	}
	return c
}
