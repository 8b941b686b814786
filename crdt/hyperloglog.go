package crdt

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"github.com/peerd/peerd/internal/dotted"
)

// HyperLogLog estimates how many different elements were added to it, within about 0.8%, in 16 KiB at most. What
// replicas add at the same time is all counted, and what several add, once: registers only grow, and join by their
// maximum. Hash, registers and estimate are Redis's.
//
// A run of 256 registers has a cell. A removal takes away what it has seen; of what is added at the same time the run stays
// in which it is, with what was there of others.
//
// Flajolet, Fusy, Gandouet, Meunier: HyperLogLog (AofA 2007). Ertl: New cardinality estimation algorithms for HyperLogLog
// sketches (2017), for the estimate.
type HyperLogLog struct {
	ref
}

// HyperLogLog returns the HyperLogLog under name.
func (f Fields) HyperLogLog(name string) HyperLogLog {
	return HyperLogLog{f.named(name, TypeHyperLogLog)}
}

const (
	registerBits = 14                // of a hash, which choose the register
	longestRun   = 64 - registerBits // zeros that there can be in the rest
	maxRegister  = 1<<6 - 1          // in Redis a register has six bits
	runSize      = 256               // registers in a cell
	runs         = len(Registers{}) / runSize
)

// Registers are those of a HyperLogLog. The zero value has counted nothing.
type Registers [1 << registerBits]byte

// Add counts an element.
func (r *Registers) Add(elem string) {
	i, n := registerOf(elem)
	r[i] = max(r[i], n)
}

// Merge counts what o has counted.
func (r *Registers) Merge(o *Registers) {
	for i, n := range o {
		r[i] = max(r[i], n)
	}
}

// Possible reports whether counting elements can lead to such registers: none is greater than 51.
func (r *Registers) Possible() bool { return slices.Max(r[:]) <= longestRun+1 }

// Count estimates how many different elements were counted.
func (r *Registers) Count() int64 {
	const m = float64(len(Registers{}))
	var histogram [maxRegister + 1]int
	for _, n := range r {
		histogram[n&maxRegister]++
	}
	z := m * tau((m-float64(histogram[longestRun+1]))/m)
	for i := longestRun; i > 0; i-- {
		z = (z + float64(histogram[i])) * 0.5
	}
	z += float64(m * sigma(float64(histogram[0])/m))
	const alpha = 0.721347520444481703680 // 1 / (2 ln 2)
	if n := math.Round(alpha * m * m / z); n < math.MaxInt64 {
		return int64(n)
	}
	return math.MaxInt64 // no elements lead to such registers
}

// sigma and tau are Ertl's. Products are rounded before they are added: the result is the same on every machine.

func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	for y, z := 1.0, x; ; y += y {
		x *= x
		before := z
		if z += float64(x * y); z == before {
			return z
		}
	}
}

func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	for y, z := 1.0, 1-x; ; {
		x = math.Sqrt(x)
		before := z
		y *= 0.5
		if z -= float64((1 - x) * (1 - x) * y); z == before {
			return z / 3
		}
	}
}

// registerOf returns which register an element counts in, and with what: the zeros that the rest of its hash ends with,
// and one.
func registerOf(elem string) (i int, n byte) {
	h := murmur(elem)
	rest := h>>registerBits | 1<<longestRun
	return int(h % uint64(len(Registers{}))), byte(bits.TrailingZeros64(rest) + 1)
}

// murmur is MurmurHash64A with the seed that Redis has.
func murmur(s string) uint64 {
	const (
		m    = 0xc6a4a7935bd1e995
		r    = 47
		seed = 0xadc83b19
	)
	data := []byte(s)
	h := seed ^ uint64(len(data))*m
	for ; len(data) >= 8; data = data[8:] {
		k := binary.LittleEndian.Uint64(data) * m
		k = (k ^ k>>r) * m
		h = (h ^ k) * m
	}
	if len(data) > 0 {
		var last [8]byte
		copy(last[:], data)
		h = (h ^ binary.LittleEndian.Uint64(last[:])) * m
	}
	h = (h ^ h>>r) * m
	return h ^ h>>r
}

// run is the registers of one cell.
type run [runSize]byte

// payload lists the registers that have counted, each with its place, or all of them if that is no longer.
func (r *run) payload() []byte {
	p := []byte{byte(kindRegs)}
	for i, n := range r {
		if n > 0 {
			p = append(p, byte(i), n)
		}
	}
	if len(p) > runSize {
		p = append(p[:1], r[:]...)
	}
	return p
}

// merge takes what an entry says into the run. One that is none counts nothing.
func (r *run) merge(e dotted.Entry) {
	if !kindRegs.marks(e) {
		return
	}
	switch p := e.Payload[1:]; {
	case len(p) == runSize:
		for i, n := range p {
			r[i] = max(r[i], n&maxRegister)
		}
	case len(p)%2 == 0 && len(p) < runSize:
		for ; len(p) > 0; p = p[2:] {
			r[p[0]] = max(r[p[0]], p[1]&maxRegister)
		}
	}
}

func runIn(c dotted.Cell) (r run) {
	for _, e := range c {
		r.merge(e)
	}
	return r
}

// Get returns the registers. ok is false if there is no HyperLogLog; one that has counted nothing is.
func (h HyperLogLog) Get() (all *Registers, ok bool) {
	all = new(Registers)
	_ = h.scan("", func(a dotted.Address, c dotted.Cell) bool {
		name, rest, is := a[len(h.at):].CutName()
		if is && rest == "" && len(name) == 1 && int(name[0]) < runs && c.Visible() {
			r := runIn(c)
			copy(all[int(name[0])*runSize:], r[:])
			ok = true
		}
		return true
	})
	return all, ok
}

// Count estimates how many different elements were added.
func (h HyperLogLog) Count() int64 {
	all, _ := h.Get()
	return all.Count()
}

// Add counts elements, and reports whether that changed anything: if all seem to be counted, nothing is written. O(log
// cells) for each.
func (h HyperLogLog) Add(elems ...string) (changed bool, err error) {
	added := map[int]*run{}
	for _, elem := range elems {
		i, n := registerOf(elem)
		if added[i/runSize] == nil {
			added[i/runSize] = new(run)
		}
		r := added[i/runSize]
		r[i%runSize] = max(r[i%runSize], n)
	}
	return h.join(added)
}

// Merge counts what others have counted, and reports whether that changed anything. It makes a HyperLogLog where there is none.
func (h HyperLogLog) Merge(o *Registers) (changed bool, err error) {
	added := map[int]*run{}
	for i := range runs {
		if r := run(o[i*runSize : (i+1)*runSize]); r != (run{}) {
			added[i] = &r
		}
	}
	if ok, err := h.exists(); err != nil {
		return false, err
	} else if !ok && len(added) == 0 {
		return true, h.named("\x00").put((&run{}).payload(), nil)
	}
	return h.join(added)
}

// join writes those runs of which some register is greater than what is there.
func (h HyperLogLog) join(added map[int]*run) (changed bool, err error) {
	for i := range runs {
		if added[i] == nil {
			continue
		}
		at := h.named(string([]byte{byte(i)}))
		c, err := at.cell()
		if err != nil {
			return changed, err
		}
		before := runIn(c)
		after := before
		for j, n := range added[i] {
			after[j] = max(after[j], n)
		}
		if after == before {
			continue
		}
		if err := at.replace(c, after.payload()); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// Clear removes what it sees, and reports whether there was anything.
func (h HyperLogLog) Clear() (existed bool, err error) { return h.clear() }

func (h HyperLogLog) copyTo(to Fields, name string) error {
	all, ok := h.Get()
	if !ok {
		return errNewerType
	}
	_, err := to.HyperLogLog(name).Merge(all)
	return err
}

func (h HyperLogLog) appendJSON(b []byte) []byte { return strconv.AppendInt(b, h.Count(), 10) }
