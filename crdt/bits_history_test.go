package crdt

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/golden"
)

// drawBits draws a write of a chunk, of a text that nobody else writes, or a removal; now and then of registers.
func drawBits(choose chooser) action {
	path, fields := drawPlace(choose)
	at := path.Name("k").Type(TypeBitmap)
	switch choose.Intn(8) {
	case 0:
		return action{trace: "remove", clears: path.Name("k"), do: func(tx dotted.Tx) error { return second(fields(tx).Remove("k")) }}
	case 1:
		return action{trace: "clear", clears: at, do: func(tx dotted.Tx) error { return second(fields(tx).Bitmap("k").Clear()) }}
	case 2:
		elem := fmt.Sprint(choose.Intn(100))
		return action{
			trace: "count " + elem,
			do:    func(tx dotted.Tx) error { return second(fields(tx).HyperLogLog("k").Add(elem)) },
		}
	}
	n, text := choose.Intn(3), fmt.Sprintf("%08x", choose.Intn(1<<30)+1)
	cell := at.Name(chunkName(n))
	return action{
		trace: fmt.Sprintf("write %s to chunk %d", text, n),
		do: func(tx dotted.Tx) error {
			return fields(tx).Bitmap("k").Edit(n*ChunkSize, n*ChunkSize+len(text), func(p []byte) { copy(p, text) })
		},
		cell: cell, text: text, write: true, clears: cell,
	}
}

// checkBits returns what replica i reads of the bitmaps that the model does not say.
func (h *history) checkBits(i int) string {
	readings := h.readings(i)
	places := map[dotted.Address]Fields{"": h.states[i].View()}
	inner := places[""].Map("k")
	places[inner.at], places[inner.Map("k").at] = inner.Fields, inner.Map("k").Fields
	for path, fields := range places {
		b := fields.Bitmap("k")
		size := 0
		for n := range 3 {
			want, r := "\x00\x00\x00\x00\x00\x00\x00\x00", readings[path.Name("k").Type(TypeBitmap).Name(chunkName(n))]
			if len(r.Texts) > 0 {
				want, size = r.Texts[len(r.Texts)-1], n*ChunkSize+8
			}
			if got := string(b.Read(n*ChunkSize, n*ChunkSize+8)); got != want && (got != "" || size > n*ChunkSize) {
				return fmt.Sprintf("r%d reads %q of chunk %d in %q, want %q", i, got, n, path, want)
			}
		}
		if b.Len() != size {
			return fmt.Sprintf("r%d: the bitmap in %q has %d bytes, want %d", i, path, b.Len(), size)
		}
	}
	return ""
}

func bitsTrial(h *history, steps int) string {
	for range steps {
		i, err := h.step(drawBits)
		if err != nil {
			return err.Error()
		}
		if why := h.checkBits(i); h.causal && why != "" {
			return why
		}
	}
	h.syncAll()
	for i := range h.states {
		if why := h.checkBits(i); why != "" {
			return "after the last sync " + why
		}
	}
	return ""
}

func TestBitmapsReadWhatTheModelSaysAfterEveryStep(t *testing.T) {
	runHistories(t, 500, bitsTrial, true)
}

func TestBitmapsReadWhatTheModelSaysAfterLossAndReordering(t *testing.T) {
	runHistories(t, 500, bitsTrial, false)
}

func TestStatesWithBitsAndRegistersKeepTheLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(drawn{t}, 3, false)
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			if _, err := h.step(drawBits); err != nil {
				t.Fatal(err)
			}
		}
		s := h.states
		same(t, join(s[0], s[1]), join(s[1], s[0]))
		same(t, join(join(s[0], s[1]), s[2]), join(s[0], join(s[1], s[2])))
		same(t, join(join(s[0], s[1]), s[1]), join(s[0], s[1]))
		all := merged(s...)
		for _, e := range h.events {
			same(t, join(all, e.delta), all)
		}
		copied, err := join(all, NewState()).update(9, epochStart, func(tx dotted.Tx) error {
			return second(fieldsOf(tx).Copy("k", "copy"))
		})
		if err != nil {
			t.Fatal(err)
		}
		from, to := all.View(), join(all, copied).View()
		was, _ := from.Bitmap("k").Get()
		is, _ := to.Bitmap("copy").Get()
		if string(was) != string(is) || from.HyperLogLog("k").Count() != to.HyperLogLog("copy").Count() {
			t.Fatal("a copy reads otherwise")
		}
	})
}

func TestEncodingsOfBitsAndRegistersStayAsTheyAre(t *testing.T) {
	golden.Bytes(t, "chunk", chunk{time: 1 << 40, size: 100, data: []byte{0, 0, 7, 9, 0}}.payload())
	few, many := run{3: 4, 200: 1}, run{}
	for i := range many {
		many[i] = byte(i % 7)
	}
	golden.Bytes(t, "registers-few", few.payload())
	golden.Bytes(t, "registers-many", many.payload())
}
