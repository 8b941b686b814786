package script

import (
	"encoding/binary"
	"math"

	lua "github.com/yuin/gopher-lua"
)

// cmsgpack 0.4.0, as Redis has it.

// maxPacked is how deep tables are packed in tables: what is deeper becomes nil.
const maxPacked = 16

func (m *machine) openPack() {
	t := m.library("cmsgpack", map[string]lua.LGFunction{
		"pack": func(l *lua.LState) int {
			n := l.GetTop()
			if n == 0 {
				badArg(l, 0, "pack", "MessagePack pack needs input.")
			}
			p := packer{m: m, l: l}
			for i := range n {
				p.value(l.Get(i+1), 0)
			}
			return push(l, lua.LString(p.buf))
		},
		"unpack": func(l *lua.LState) int {
			if _, ok := l.Get(1).(lua.LString); !ok {
				stringArg(l, 1, "unpack")
			}
			return m.unpackValues(l, 0, 0)
		},
		"unpack_one": func(l *lua.LState) int {
			return m.unpackValues(l, 1, optInt(l, 2, "unpack_one", 0))
		},
		"unpack_limit": func(l *lua.LState) int {
			limit := intArg(l, 2, "unpack_limit")
			return m.unpackValues(l, limit, optInt(l, 3, "unpack_limit", 0))
		},
	})
	t.RawSetString("_NAME", lua.LString("cmsgpack"))
	t.RawSetString("_VERSION", lua.LString("lua-cmsgpack 0.4.0"))
	t.RawSetString("_COPYRIGHT", lua.LString("Copyright (C) 2012, Salvatore Sanfilippo"))
	t.RawSetString("_DESCRIPTION", lua.LString("MessagePack C implementation for Lua"))
}

type packer struct {
	m   *machine
	l   *lua.LState
	buf []byte
}

func (p *packer) value(v lua.LValue, depth int) {
	p.m.meter.work(1)
	if len(p.buf) > MaxString {
		p.m.longString(p.l, len(p.buf))
	}
	switch v := v.(type) {
	case lua.LString:
		p.m.meter.make(len(v))
		p.text(string(v))
	case lua.LNumber:
		p.number(float64(v))
	case lua.LBool:
		if v {
			p.buf = append(p.buf, 0xc3)
		} else {
			p.buf = append(p.buf, 0xc2)
		}
	case *lua.LTable:
		if depth == maxPacked {
			p.buf = append(p.buf, 0xc0)
			return
		}
		p.table(p.m.seen(v), depth+1)
	default:
		p.buf = append(p.buf, 0xc0)
	}
}

func (p *packer) table(t *lua.LTable, depth int) {
	p.m.meter.walk(t)
	most, n, array := 0.0, 0, true
	t.ForEach(func(key, _ lua.LValue) {
		n++
		k, ok := key.(lua.LNumber)
		array = array && ok && k > 0 && float64(k) == math.Floor(float64(k))
		most = max(most, float64(k))
	})
	if array && most == float64(n) {
		p.header(n, 0x90, 0xdc)
		for i := range n {
			p.value(t.RawGetInt(i+1), depth)
		}
		return
	}
	p.header(n, 0x80, 0xde)
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		p.value(k, depth)
		p.value(v, depth)
	}
}

// header begins an array or a map.
func (p *packer) header(n int, short, long byte) {
	switch {
	case n < 16:
		p.buf = append(p.buf, short|byte(n))
	case n <= math.MaxUint16:
		p.buf = binary.BigEndian.AppendUint16(append(p.buf, long), uint16(n))
	default:
		p.buf = binary.BigEndian.AppendUint32(append(p.buf, long+1), uint32(n))
	}
}

func (p *packer) text(s string) {
	switch n := len(s); {
	case n < 32:
		p.buf = append(p.buf, 0xa0|byte(n))
	case n <= math.MaxUint8:
		p.buf = append(p.buf, 0xd9, byte(n))
	case n <= math.MaxUint16:
		p.buf = binary.BigEndian.AppendUint16(append(p.buf, 0xda), uint16(n))
	default:
		p.buf = binary.BigEndian.AppendUint32(append(p.buf, 0xdb), uint32(n))
	}
	p.buf = append(p.buf, s...)
}

func (p *packer) number(f float64) {
	switch n := integer(f); {
	case float64(n) != f || math.IsInf(f, 0):
		if single := float32(f); float64(single) == f {
			p.buf = binary.BigEndian.AppendUint32(append(p.buf, 0xca), math.Float32bits(single))
		} else {
			p.buf = binary.BigEndian.AppendUint64(append(p.buf, 0xcb), math.Float64bits(f))
		}
	case n >= 0:
		p.unsigned(uint64(n))
	case n >= -32:
		p.buf = append(p.buf, byte(n))
	case n >= math.MinInt8:
		p.buf = append(p.buf, 0xd0, byte(n))
	case n >= math.MinInt16:
		p.buf = binary.BigEndian.AppendUint16(append(p.buf, 0xd1), uint16(n))
	case n >= math.MinInt32:
		p.buf = binary.BigEndian.AppendUint32(append(p.buf, 0xd2), uint32(n))
	default:
		p.buf = binary.BigEndian.AppendUint64(append(p.buf, 0xd3), uint64(n))
	}
}

func (p *packer) unsigned(n uint64) {
	switch {
	case n < 128:
		p.buf = append(p.buf, byte(n))
	case n <= math.MaxUint8:
		p.buf = append(p.buf, 0xcc, byte(n))
	case n <= math.MaxUint16:
		p.buf = binary.BigEndian.AppendUint16(append(p.buf, 0xcd), uint16(n))
	case n <= math.MaxUint32:
		p.buf = binary.BigEndian.AppendUint32(append(p.buf, 0xce), uint32(n))
	default:
		p.buf = binary.BigEndian.AppendUint64(append(p.buf, 0xcf), n)
	}
}

// unpackValues returns values of a string, as many as limit or all if that is 0. If not all are
// asked for, where to go on comes first, or -1 at the end.
func (m *machine) unpackValues(l *lua.LState, limit, offset int64) int {
	s := stringArg(l, 1, "unpack")
	all := limit == 0 && offset == 0
	switch {
	case offset < 0 || limit < 0:
		l.RaiseError("Invalid request to unpack with offset of %d and limit of %d.", offset, len(s))
	case offset > int64(len(s)):
		l.RaiseError("Start offset %d greater than input length %d.", offset, len(s))
	}
	if all {
		limit = math.MaxInt32
	}
	u := unpacker{m: m, l: l, s: s, i: int(offset)}
	defer m.meter.built()
	var values []lua.LValue
	for u.i < len(s) && int64(len(values)) < limit {
		if len(values) >= maxUnpacked {
			l.RaiseError("too many results to unpack")
		}
		values = append(values, u.value(0))
	}
	if all {
		return push(l, values...)
	}
	at := u.i
	if at == len(s) {
		at = -1
	}
	return push(l, lua.LNumber(at)) + push(l, values...)
}

type unpacker struct {
	m *machine
	l *lua.LState
	s string
	i int
}

// take returns the next bytes.
func (u *unpacker) take(n int) string {
	if n > len(u.s)-u.i {
		u.l.RaiseError("Missing bytes in input.")
	}
	u.i += n
	return u.s[u.i-n : u.i]
}

func (u *unpacker) uint(size int) (n uint64) {
	for _, c := range []byte(u.take(size)) {
		n = n<<8 | uint64(c)
	}
	return n
}

func (u *unpacker) value(depth int) lua.LValue {
	u.m.meter.work(1)
	if depth > maxDepth {
		u.l.RaiseError("Bad data format in input.")
	}
	switch c := u.take(1)[0]; {
	case c < 0x80:
		return lua.LNumber(c)
	case c >= 0xe0:
		return lua.LNumber(int8(c))
	case c < 0x90:
		return u.pairs(int(c&0xf), depth)
	case c < 0xa0:
		return u.list(int(c&0xf), depth)
	case c < 0xc0:
		return u.text(int(c & 0x1f))
	default:
		return u.long(c, depth)
	}
}

// long reads a value of which more than the first byte tells what it is.
func (u *unpacker) long(c byte, depth int) lua.LValue {
	switch c {
	case 0xc0:
		return lua.LNil
	case 0xc2, 0xc3:
		return lua.LBool(c == 0xc3)
	case 0xca:
		return lua.LNumber(math.Float32frombits(uint32(u.uint(4))))
	case 0xcb:
		return lua.LNumber(math.Float64frombits(u.uint(8)))
	case 0xcc, 0xcd, 0xce, 0xcf:
		return lua.LNumber(u.uint(1 << (c - 0xcc)))
	case 0xd0:
		return lua.LNumber(int8(u.uint(1)))
	case 0xd1:
		return lua.LNumber(int16(u.uint(2)))
	case 0xd2:
		return lua.LNumber(int32(u.uint(4)))
	case 0xd3:
		return lua.LNumber(int64(u.uint(8)))
	case 0xd9, 0xda, 0xdb:
		return u.text(int(u.uint(1 << (c - 0xd9))))
	case 0xdc, 0xdd:
		return u.list(int(u.uint(2<<(c-0xdc))), depth)
	case 0xde, 0xdf:
		return u.pairs(int(u.uint(2<<(c-0xde))), depth)
	}
	u.l.RaiseError("Bad data format in input.")
	return nil
}

func (u *unpacker) text(n int) lua.LValue {
	u.take(n)
	u.m.meter.part(n)
	return cut(u.s, u.i-n, u.i)
}

func (u *unpacker) list(n, depth int) lua.LValue {
	u.m.meter.part(sizeOfTable + min(n, 1)*sizeOfItems)
	t := &lua.LTable{Metatable: lua.LNil}
	for i := range n {
		u.m.meter.part(sizeOfItem)
		t.RawSetInt(i+1, u.value(depth+1))
	}
	return t
}

func (u *unpacker) pairs(n, depth int) lua.LValue {
	u.m.meter.part(sizeOfTable + min(n, 1)*sizeOfFields)
	t := &lua.LTable{Metatable: lua.LNil}
	for range n {
		u.m.meter.part(sizeOfField)
		key := u.value(depth + 1)
		value := u.value(depth + 1)
		if f, ok := key.(lua.LNumber); key == lua.LNil || ok && f != f {
			u.l.RaiseError("table index is nil")
		}
		u.m.meter.put(t, key, value)
	}
	return t
}
