package script

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// bit and struct, as Redis has them.

// toBits returns the 32 bits that a number has for bit: it is rounded, and wraps around.
func toBits(l *lua.LState, n int, name string) uint32 {
	const rounds = 6755399441055744.0 // 2^52 + 2^51
	return uint32(math.Float64bits(numberArg(l, n, name) + rounds))
}

func (m *machine) openBit() {
	result := func(l *lua.LState, b uint32) int { return push(l, lua.LNumber(int32(b))) }
	one := func(name string, f func(uint32) uint32) lua.LGFunction {
		return func(l *lua.LState) int { return result(l, f(toBits(l, 1, name))) }
	}
	all := func(name string, f func(a, b uint32) uint32) lua.LGFunction {
		return func(l *lua.LState) int {
			v := toBits(l, 1, name)
			for i := 2; i <= l.GetTop(); i++ {
				v = f(v, toBits(l, i, name))
			}
			return result(l, v)
		}
	}
	shift := func(name string, f func(b uint32, n uint) uint32) lua.LGFunction {
		return func(l *lua.LState) int { return result(l, f(toBits(l, 1, name), uint(toBits(l, 2, name)&31))) }
	}
	m.library("bit", map[string]lua.LGFunction{
		"tobit":   one("tobit", func(b uint32) uint32 { return b }),
		"bnot":    one("bnot", func(b uint32) uint32 { return ^b }),
		"bswap":   one("bswap", bits.ReverseBytes32),
		"band":    all("band", func(a, b uint32) uint32 { return a & b }),
		"bor":     all("bor", func(a, b uint32) uint32 { return a | b }),
		"bxor":    all("bxor", func(a, b uint32) uint32 { return a ^ b }),
		"lshift":  shift("lshift", func(b uint32, n uint) uint32 { return b << n }),
		"rshift":  shift("rshift", func(b uint32, n uint) uint32 { return b >> n }),
		"arshift": shift("arshift", func(b uint32, n uint) uint32 { return uint32(int32(b) >> n) }),
		"rol":     shift("rol", func(b uint32, n uint) uint32 { return bits.RotateLeft32(b, int(n)) }),
		"ror":     shift("ror", func(b uint32, n uint) uint32 { return bits.RotateLeft32(b, -int(n)) }),
		"tohex": func(l *lua.LState) int {
			b, n := toBits(l, 1, "tohex"), int32(8)
			if l.Get(2) != lua.LNil {
				n = int32(toBits(l, 2, "tohex"))
			}
			digits := fmt.Sprintf("%08x", b)
			if n < 0 {
				n, digits = -n, strings.ToUpper(digits)
			}
			if n < 0 || n > 8 {
				n = 8
			}
			return push(l, lua.LString(digits[8-n:]))
		},
	})
}

// packing reads the format of struct's functions.
type packing struct {
	l      *lua.LState
	name   string
	format string
	order  binary.ByteOrder
	align  int
}

const (
	maxIntSize = 32
	maxAlign   = 8
)

func (m *machine) packing(l *lua.LState, name string) *packing {
	format := stringArg(l, 1, name)
	m.meter.work(len(format) / 8)
	return &packing{l: l, name: name, format: format, order: binary.LittleEndian, align: 1}
}

// next returns the next item: its letter, its size and to what it is aligned. Controls are obeyed.
// 0: there is none.
func (p *packing) next() (letter byte, size int) {
	for p.format != "" {
		c := p.format[0]
		p.format = p.format[1:]
		switch c {
		case ' ':
		case '>':
			p.order = binary.BigEndian
		case '<':
			p.order = binary.LittleEndian
		case '!':
			p.align = p.number(maxAlign)
			if p.align == 0 || p.align&(p.align-1) != 0 {
				p.l.RaiseError("alignment %d is not a power of 2", p.align)
			}
		case 'b', 'B':
			return c, 1
		case 'h', 'H':
			return c, 2
		case 'l', 'L', 'T', 'd', 'n':
			return c, 8
		case 'f':
			return c, 4
		case 'x':
			return c, 1
		case 'c':
			return c, p.number(1)
		case 's':
			return c, 0
		case 'i', 'I':
			n := p.number(4)
			if n > maxIntSize {
				p.l.RaiseError("integral size %d is larger than limit of %d", n, maxIntSize)
			}
			return c, n
		default:
			badArg(p.l, 1, p.name, "invalid format option '"+string([]byte{c})+"'")
		}
	}
	return 0, 0
}

// number reads digits.
func (p *packing) number(otherwise int) int {
	n, i := 0, 0
	for ; i < len(p.format) && isIn(p.format[i], 'd'); i++ {
		if n > math.MaxInt32/10-1 {
			p.l.RaiseError("integral size overflow")
		}
		n = 10*n + int(p.format[i]-'0')
	}
	if i == 0 {
		return otherwise
	}
	p.format = p.format[i:]
	return n
}

// padding returns how many bytes come before an item at a place.
func (p *packing) padding(letter byte, size, at int) int {
	if size == 0 || letter == 'c' || letter == 's' || letter == 'x' {
		return 0
	}
	align := min(size, p.align)
	if align <= 1 {
		return 0
	}
	return (align - at&(align-1)) & (align - 1)
}

func (m *machine) openStruct() {
	m.library("struct", map[string]lua.LGFunction{"pack": m.structPack, "unpack": m.structUnpack, "size": m.structSize})
}

func (m *machine) structPack(l *lua.LState) int {
	p := m.packing(l, "pack")
	var buf []byte
	arg := 2
	for letter, size := p.next(); letter != 0; letter, size = p.next() {
		m.longString(l, len(buf)+size)
		for range p.padding(letter, size, len(buf)) {
			buf = append(buf, 0)
		}
		switch letter {
		case 'x':
			buf = append(buf, 0)
			continue
		case 'c', 's':
			buf = p.packText(buf, letter, size, arg)
		case 'f':
			buf = appendUint(buf, p.order, uint64(math.Float32bits(float32(numberArg(l, arg, "pack")))), 4)
		case 'd', 'n':
			buf = appendUint(buf, p.order, math.Float64bits(numberArg(l, arg, "pack")), 8)
		default:
			f := numberArg(l, arg, "pack")
			n := uint64(integer(f))
			if f >= 1<<63 {
				n = uint64(f)
			}
			buf = appendUint(buf, p.order, n, size)
		}
		arg++
	}
	return push(l, lua.LString(buf))
}

func (p *packing) packText(buf []byte, letter byte, size, arg int) []byte {
	s := stringArg(p.l, arg, p.name)
	p.l.Context().(*meter).make(len(s))
	if letter == 's' {
		return append(append(buf, s...), 0)
	}
	if size == 0 {
		size = len(s)
	}
	if len(s) < size {
		badArg(p.l, arg, p.name, "string too short")
	}
	return append(buf, s[:size]...)
}

// appendUint appends the lowest size bytes of n.
func appendUint(buf []byte, order binary.ByteOrder, n uint64, size int) []byte {
	for i := range size {
		at := i
		if order == binary.BigEndian {
			at = size - 1 - i
		}
		buf = append(buf, byte(n>>(8*at)))
	}
	return buf
}

func (m *machine) structUnpack(l *lua.LState) int {
	p := m.packing(l, "unpack")
	data := stringArg(l, 2, "unpack")
	at64 := optInt(l, 3, "unpack", 1)
	if at64 < 1 {
		badArg(l, 3, "unpack", "offset must be 1 or greater")
	}
	at, n := int(min(at64-1, 1<<40)), 0
	for letter, size := p.next(); letter != 0; letter, size = p.next() {
		m.meter.work(1)
		at += p.padding(letter, size, at)
		if at > len(data) || size > len(data)-at {
			badArg(l, 2, "unpack", "data string too short")
		}
		if n++; n > maxUnpacked {
			l.RaiseError("too many results to unpack")
		}
		switch letter {
		case 'x':
			n--
		case 'c':
			if size == 0 {
				size = p.counted(n, data, at)
				n--
			}
			l.Push(m.cut(data, at, at+size))
		case 's':
			end := strings.IndexByte(data[at:], 0)
			if end < 0 {
				l.RaiseError("unfinished string in data")
			}
			l.Push(m.cut(data, at, at+end))
			size = end + 1
		default:
			l.Push(p.unpackNumber(letter, data[at:at+size]))
		}
		at += size
	}
	l.Push(lua.LNumber(at + 1))
	return n + 1
}

// counted returns how long a string is whose length came before it, and takes that back.
func (p *packing) counted(n int, data string, at int) int {
	size, ok := p.l.Get(-1).(lua.LNumber)
	if n < 2 || !ok {
		p.l.RaiseError("format 'c0' needs a previous size")
	}
	p.l.Pop(1)
	if size < 0 || int(size) > len(data)-at {
		badArg(p.l, 2, "unpack", "data string too short")
	}
	return int(size)
}

func (p *packing) unpackNumber(letter byte, data string) lua.LNumber {
	n := uint64(0)
	for i := range len(data) {
		at := i
		if p.order == binary.LittleEndian {
			at = len(data) - 1 - i
		}
		n = n<<8 | uint64(data[at])
	}
	switch letter {
	case 'f':
		return lua.LNumber(math.Float32frombits(uint32(n)))
	case 'd', 'n':
		return lua.LNumber(math.Float64frombits(n))
	case 'b', 'h', 'l', 'i':
		if size := len(data); size < 8 {
			shift := 64 - 8*size
			return lua.LNumber(int64(n<<shift) >> shift)
		}
		return lua.LNumber(int64(n))
	}
	return lua.LNumber(n)
}

func (m *machine) structSize(l *lua.LState) int {
	p := m.packing(l, "size")
	sum := 0
	for letter, size := p.next(); letter != 0; letter, size = p.next() {
		sum += p.padding(letter, size, sum)
		switch {
		case letter == 's':
			badArg(l, 1, "size", "option 's' has no fixed size")
		case letter == 'c' && size == 0:
			badArg(l, 1, "size", "option 'c0' has no fixed size")
		}
		sum += size
		if sum > math.MaxInt32 {
			badArg(l, 1, "size", "format result too large")
		}
	}
	return push(l, lua.LNumber(sum))
}
